//! DANE: a domain says in its signed DNS which certificate its server has (RFC 6698, 7671; for hosts that SRV records
//! name, RFC 7673). It may stand instead of an authority's word.
//!
//! What a record is worth rests on DNSSEC, which the resolver of this machine validates, not we (RFC 4035, 3.2.3): it
//! counts where resolv.conf has `options trust-ad`. To validate here would take a trust anchor to keep up to date and
//! some more questions for each peer, and what each of them does when the network lies is the resolver's trade.

use std::fmt;
use std::sync::Arc;

use futures::future::try_join_all;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{Error, Kind, Origin, Resolver, Target};

/// How long a record may be: a certificate of an authority, whole.
const LONGEST: usize = 4096;

/// A TLSA record (RFC 6698, 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 2: the authority, DANE-TA; 3: the server's own, DANE-EE.
    pub usage: u8,
    /// 0: the certificate; 1: its key.
    pub selector: u8,
    /// 0: itself; 1: SHA-256 over it; 2: SHA-512.
    pub matching: u8,
    pub data: Vec<u8>,
}

impl Record {
    /// What one should publish for a certificate (RFC 7671, 5.1): it holds as long as the key stays.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        Some(Self {
            usage: 3,
            selector: 1,
            matching: 1,
            data: Sha256::digest(public_key(certificate)?).to_vec(),
        })
    }

    /// Whether we can do something with it. The usages 0 and 1 add a demand to what an authority has signed; where an
    /// authority's word suffices, who can forge that can leave them away (RFC 7671, 4).
    fn is_usable(&self) -> bool {
        let length = match self.matching {
            0 => (1..=LONGEST).contains(&self.data.len()),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        matches!(self.usage, 2 | 3) && matches!(self.selector, 0 | 1) && length
    }

    fn fits(&self, certificate: &CertificateDer<'_>) -> bool {
        let selected = match self.selector {
            0 => Some(certificate.to_vec()),
            _ => public_key(certificate),
        };
        selected.is_some_and(|selected| match self.matching {
            0 => self.data == selected,
            1 => self.data.as_slice() == Sha256::digest(&selected).as_slice(),
            _ => self.data.as_slice() == Sha512::digest(&selected).as_slice(),
        })
    }
}

/// As in a zone file.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The owner of the records of a port (RFC 6698, 3).
pub fn owner(host: &str, port: u16) -> String {
    format!("_{port}._tcp.{host}")
}

/// What the records say about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the server's.
    Matched,
    /// It is not: the domain says so, whatever an authority has signed (RFC 7671, 10.1).
    Refuted,
    /// They say nothing that we understand: an authority has to.
    Silent,
}

impl Verdict {
    /// Of several hosts of a domain, each with its records: one that has the certificate is enough.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Matched, _) | (_, Self::Matched) => Self::Matched,
            (Self::Refuted, _) | (_, Self::Refuted) => Self::Refuted,
            (Self::Silent, Self::Silent) => Self::Silent,
        }
    }
}

/// Compares what was shown in a handshake, the server's own certificate first, with the records of its host. `names` are
/// the domain and the host (RFC 7673, 4.2): one of them must be in a certificate that an authority vouches for.
pub fn verify(
    records: &[Record],
    chain: &[CertificateDer<'_>],
    names: &[&str],
    now: UnixTime,
) -> Verdict {
    let usable: Vec<&Record> = records.iter().filter(|record| record.is_usable()).collect();
    if usable.is_empty() {
        return Verdict::Silent;
    }
    let Some((own, issuers)) = chain.split_first() else {
        return Verdict::Refuted;
    };
    let matched = usable
        .iter()
        .filter(|record| !is_outdone(record, &usable))
        .any(|record| match record.usage {
            // Neither names nor dates count: the record has the owner's name and an end (RFC 7671, 5.1).
            3 => record.fits(own),
            _ => anchors(record, issuers).any(|anchor| leads(anchor, own, issuers, names, now)),
        });
    if matched {
        Verdict::Matched
    } else {
        Verdict::Refuted
    }
}

/// Whether the same is also said with a stronger digest (RFC 7671, 9).
fn is_outdone(record: &Record, others: &[&Record]) -> bool {
    record.matching == 1
        && others.iter().any(|other| {
            (other.usage, other.selector, other.matching) == (record.usage, record.selector, 2)
        })
}

/// The authorities that a record can mean: those that the server has shown, and the one it spells out (RFC 7671, 5.2.2).
fn anchors<'a>(
    record: &'a Record,
    shown: &'a [CertificateDer<'_>],
) -> impl Iterator<Item = CertificateDer<'a>> {
    let whole = record.selector == 0 && record.matching == 0;
    let spelt = whole.then(|| CertificateDer::from(record.data.as_slice()));
    let shown = shown.iter().filter(|certificate| record.fits(certificate));
    shown
        .map(|certificate| CertificateDer::from(certificate.as_ref()))
        .chain(spelt)
}

/// Whether an authority has signed the server's certificate for one of the names.
fn leads(
    anchor: CertificateDer<'_>,
    own: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    names: &[&str],
    now: UnixTime,
) -> bool {
    let mut roots = RootCertStore::empty();
    if roots.add(anchor.into_owned()).is_err() {
        return false;
    }
    let provider = Arc::new(ring::default_provider());
    let Ok(verifier) =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
    else {
        return false;
    };
    names.iter().any(|name| {
        ServerName::try_from(*name).is_ok_and(|name| {
            verifier
                .verify_server_cert(own, issuers, &name, &[], now)
                .is_ok()
        })
    })
}

/// The SubjectPublicKeyInfo of a certificate.
fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().raw.to_vec())
}

impl Resolver {
    /// The TLSA records of a host, where they may be believed: the answer that named the host was validated, and so is
    /// this one. An error says that they cannot be known, and then the host is not to be spoken to (RFC 7673, 3.3).
    pub async fn tlsa(&self, target: &Target) -> Result<Vec<Record>, Error> {
        if target.origin != (Origin::Srv { secure: true }) {
            return Ok(Vec::new());
        }
        let owner = owner(&target.host, target.port);
        let answer = self.lookup(&owner, Kind::Tlsa).await?;
        if !answer.secure {
            return Ok(Vec::new());
        }
        Ok(answer.associations().cloned().collect())
    }

    /// What the DNS of a domain says about a certificate that was shown for it, by one of its hosts or by whoever came to
    /// us in its name: `targets` are that host, or all of them.
    pub async fn dane(
        &self,
        domain: &str,
        targets: &[Target],
        chain: &[CertificateDer<'_>],
    ) -> Result<Verdict, Error> {
        let domain = super::ascii(domain)?;
        let records = try_join_all(targets.iter().map(|target| self.tlsa(target))).await?;
        let verdicts = targets.iter().zip(&records).map(|(target, records)| {
            let names = [domain.as_str(), target.host.as_str()];
            verify(records, chain, &names, UnixTime::now())
        });
        Ok(verdicts.fold(Verdict::Silent, Verdict::or))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    };

    use super::*;
    use crate::xmpp::dns::Service;
    use crate::xmpp::dns::testing::NameServer;

    struct Authority {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    impl Authority {
        fn issue(&self, name: &str) -> CertificateDer<'static> {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.signed_by(&key, &self.issuer).unwrap().der().clone()
        }
    }

    fn record(usage: u8, selector: u8, matching: u8, of: &CertificateDer<'_>) -> Record {
        let selected = match selector {
            0 => of.to_vec(),
            _ => public_key(of).unwrap(),
        };
        let data = match matching {
            0 => selected,
            1 => Sha256::digest(selected).to_vec(),
            _ => Sha512::digest(selected).to_vec(),
        };
        Record {
            usage,
            selector,
            matching,
            data,
        }
    }

    #[test]
    fn certificates_are_compared_as_the_records_say() {
        struct Case {
            name: &'static str,
            records: Vec<Record>,
            expected: Verdict,
        }
        let ours = authority("ours");
        let other = authority("other");
        let own = ours.issue("peer.test");
        let chain = [own.clone(), ours.der.clone()];
        let bad = |mut record: Record| {
            record.data.reverse();
            record
        };
        let case = |name, records, expected| Case {
            name,
            records,
            expected,
        };
        let mut cases = vec![
            case("no record", vec![], Verdict::Silent),
            case(
                "an authority's demand (PKIX-TA) is not looked at",
                vec![record(0, 0, 1, &other.der)],
                Verdict::Silent,
            ),
            case(
                "nor is PKIX-EE, though it fits",
                vec![record(1, 1, 1, &own)],
                Verdict::Silent,
            ),
            case(
                "unknown numbers",
                vec![
                    Record {
                        usage: 4,
                        ..record(3, 1, 1, &own)
                    },
                    Record {
                        selector: 2,
                        ..record(3, 1, 1, &own)
                    },
                    Record {
                        matching: 3,
                        ..record(3, 1, 1, &own)
                    },
                ],
                Verdict::Silent,
            ),
            case(
                "a digest of a wrong length",
                vec![Record {
                    data: vec![0; 31],
                    ..record(3, 1, 1, &own)
                }],
                Verdict::Silent,
            ),
            case(
                "another's certificate",
                vec![record(3, 1, 1, &other.der)],
                Verdict::Refuted,
            ),
            case(
                "the old key and the new one",
                vec![record(3, 1, 1, &other.der), record(3, 1, 1, &own)],
                Verdict::Matched,
            ),
            case(
                "the stronger digest decides",
                vec![record(3, 1, 1, &own), bad(record(3, 1, 2, &own))],
                Verdict::Refuted,
            ),
            case(
                "DANE-EE is about the server's own, not its issuer's",
                vec![record(3, 1, 1, &ours.der)],
                Verdict::Refuted,
            ),
            case(
                "an authority that did not sign it",
                vec![record(2, 0, 1, &other.der)],
                Verdict::Refuted,
            ),
            case(
                "an authority that is spelt out and did not sign it",
                vec![record(2, 0, 0, &other.der)],
                Verdict::Refuted,
            ),
        ];
        for selector in [0, 1] {
            for matching in [0, 1, 2] {
                cases.push(case(
                    "DANE-EE",
                    vec![record(3, selector, matching, &own)],
                    Verdict::Matched,
                ));
                cases.push(case(
                    "DANE-TA",
                    vec![record(2, selector, matching, &ours.der)],
                    Verdict::Matched,
                ));
            }
        }
        for case in cases {
            let names = ["peer.test", "host.test"];
            let verdict = verify(&case.records, &chain, &names, UnixTime::now());
            assert_eq!(verdict, case.expected, "{} {:?}", case.name, case.records);
        }
    }

    #[test]
    fn an_authority_vouches_for_names_and_the_record_of_the_certificate_does_not_need_them() {
        let ours = authority("ours");
        let own = ours.issue("elsewhere.test");
        let chain = [own.clone(), ours.der.clone()];
        let see = |record, names: &[&str]| verify(&[record], &chain, names, UnixTime::now());
        let anchor = || record(2, 1, 1, &ours.der);
        assert_eq!(see(anchor(), &["peer.test"]), Verdict::Refuted);
        assert_eq!(
            see(anchor(), &["peer.test", "elsewhere.test"]),
            Verdict::Matched
        );
        assert_eq!(see(record(3, 1, 1, &own), &["peer.test"]), Verdict::Matched);
    }

    #[test]
    fn an_authority_that_is_not_shown_must_be_spelt_out() {
        let ours = authority("ours");
        let own = ours.issue("peer.test");
        let see = |record| {
            verify(
                &[record],
                std::slice::from_ref(&own),
                &["peer.test"],
                UnixTime::now(),
            )
        };
        assert_eq!(see(record(2, 0, 1, &ours.der)), Verdict::Refuted);
        assert_eq!(see(record(2, 0, 0, &ours.der)), Verdict::Matched);
    }

    #[test]
    fn an_expired_certificate_is_refused_where_an_authority_vouches() {
        let ours = authority("ours");
        let own = ours.issue("peer.test");
        let chain = [own.clone(), ours.der.clone()];
        let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1 << 40));
        let see = |record| verify(&[record], &chain, &["peer.test"], late);
        assert_eq!(see(record(2, 0, 1, &ours.der)), Verdict::Refuted);
        assert_eq!(see(record(3, 0, 1, &own)), Verdict::Matched);
    }

    #[test]
    fn a_record_is_written_as_in_a_zone() {
        let own = authority("x").issue("peer.test");
        let expected = record(3, 1, 1, &own);
        assert_eq!(Record::of(&own).as_ref(), Some(&expected));
        let text = expected.to_string();
        assert!(text.starts_with("3 1 1 ") && text.len() == 6 + 64, "{text}");
        assert_eq!(Record::of(&CertificateDer::from(vec![1, 2, 3])), None);
    }

    #[tokio::test]
    async fn only_signed_records_of_signed_hosts_count() {
        struct Case {
            name: &'static str,
            signed: &'static [&'static str],
            record: Record,
            expected: Verdict,
        }
        let own = authority("x").issue("peer.test");
        let right = record(3, 1, 1, &own);
        let wrong = record(3, 1, 1, &authority("y").der);
        let cases = [
            Case {
                name: "all signed",
                signed: &["peer.test", "host.test"],
                record: right.clone(),
                expected: Verdict::Matched,
            },
            Case {
                name: "all signed, and another certificate",
                signed: &["peer.test", "host.test"],
                record: wrong.clone(),
                expected: Verdict::Refuted,
            },
            Case {
                name: "anybody could have named the host",
                signed: &["host.test"],
                record: right,
                expected: Verdict::Silent,
            },
            Case {
                name: "anybody could have written the record",
                signed: &["peer.test"],
                record: wrong,
                expected: Verdict::Silent,
            },
        ];
        for case in cases {
            let dns = NameServer::start().await;
            case.signed.iter().for_each(|end| dns.sign(end));
            dns.srv("_xmpp-server._tcp.peer.test", 0, 0, 5269, "a.host.test");
            dns.srv("_xmpp-server._tcp.peer.test", 1, 0, 5270, "b.host.test");
            dns.tlsa("_5270._tcp.b.host.test", &case.record);
            let resolver = dns.resolver();
            let targets = resolver.targets("peer.test", Service::Server).await;
            let chain = [own.clone()];
            let verdict = resolver.dane("peer.test", &targets.unwrap(), &chain).await;
            assert_eq!(verdict, Ok(case.expected), "{}", case.name);
        }
    }
}
