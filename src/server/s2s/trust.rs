//! Whether a certificate shows that a domain is its owner's (RFC 6120, 13.7.2; RFC 7590).
//!
//! The name is known after the handshake: for who connects to us only from the stream's header. So a handshake takes any
//! certificate, whose key it still proves, and this decides. Both sides are checked as servers: public authorities issue
//! no certificates for clients any more.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore};
use tracing::warn;

use super::Federation;
use crate::xmpp::dns::tlsa::Verdict;
use crate::xmpp::dns::{self, Target};

/// How many certificates may be shown.
const LONGEST: usize = 8;

/// The certificates that the other side has shown, its own first.
pub(super) type Chain = Vec<CertificateDer<'static>>;

/// Why a certificate does not show that a domain is its owner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// In words that follow "the certificate". Another proof may do.
    Unproven(String),
    /// The domain has said that it is another's, or we cannot know whether it has: no other proof counts (RFC 7671, 10.1).
    Refuted(String),
}

impl Doubt {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Unproven(reason) | Self::Refuted(reason) => reason,
        }
    }
}

/// Who says that a certificate is its owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    Authority,
    /// DANE.
    Dns,
}

impl Federation {
    /// Whether a certificate shows that a domain is its owner's: by what the domain's DNS says, else by an authority's word.
    /// `host`: the one that we have connected to; `None`: somebody has connected to us.
    pub(super) async fn certify(
        &self,
        chain: &Chain,
        domain: &str,
        host: Option<&Target>,
    ) -> Result<Witness, Doubt> {
        if chain.is_empty() {
            return Err(Doubt::Unproven("was not shown".to_owned()));
        }
        // Each costs time to verify, and who shows more has something else in mind.
        if chain.len() > LONGEST {
            return Err(Doubt::Unproven("comes with too many others".to_owned()));
        }
        match self.0.network.dane(domain, host, chain).await {
            Ok(Verdict::Matched) => Ok(Witness::Dns),
            Ok(Verdict::Silent) => match self.0.trust.verify(chain, domain) {
                Ok(()) => Ok(Witness::Authority),
                Err(reason) => Err(Doubt::Unproven(reason)),
            },
            Ok(Verdict::Refuted) => Err(Doubt::Refuted(
                "is another one than its DNS says (DANE)".to_owned(),
            )),
            Err(failure) => Err(Doubt::Refuted(format!(
                "cannot be compared with what its DNS says (DANE): {failure}"
            ))),
        }
    }
}

/// Whom we trust to say who is who.
#[derive(Debug)]
pub struct Trust(Option<Arc<WebPkiServerVerifier>>);

impl Trust {
    /// The system's roots. Blocks while it reads them.
    pub fn system() -> Self {
        let native = rustls_native_certs::load_native_certs();
        for err in native.errors {
            warn!(%err, "Some of the system's root certificates cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            warn!(
                "This system has no root certificates, so no other server can be trusted; install its ca-certificates package"
            );
        }
        Self::new(roots)
    }

    pub fn new(roots: RootCertStore) -> Self {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Self(verifier.build().ok())
    }

    /// `Err`: why not, in words that follow "the certificate".
    fn verify(&self, chain: &[CertificateDer<'_>], domain: &str) -> Result<(), String> {
        let (own, intermediates) = chain.split_first().ok_or("was not shown")?;
        let verifier = self
            .0
            .as_ref()
            .ok_or("cannot be checked, because this server has no root certificates")?;
        let name = dns::ascii(domain).map_err(|_malformed| "cannot be for such a name")?;
        let name = ServerName::try_from(name).map_err(|_malformed| "cannot be for such a name")?;
        let verified = verifier.verify_server_cert(own, intermediates, &name, &[], UnixTime::now());
        verified.map(drop).map_err(|error| explain(&error, domain))
    }
}

fn explain(error: &rustls::Error, domain: &str) -> String {
    let rustls::Error::InvalidCertificate(problem) = error else {
        return format!("cannot be read ({error})");
    };
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("is not for {domain}")
        }
        CertificateError::Revoked => "was revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for a server".to_owned()
        }
        // The other is an authority's own certificate, mostly one that signed itself.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::Other(_) => "is signed by nobody whom this server trusts".to_owned(),
        other => format!("is not acceptable ({other})"),
    }
}
