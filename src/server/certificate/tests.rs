//! What connections see, and what is said about files that cannot be served.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::{ClientConfig, DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use tempfile::TempDir;
use time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_rustls::{client, server};

use super::*;

/// An authority, and files that it issues.
struct Files {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Our root");
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        Self {
            directory: tempfile::tempdir().unwrap(),
            issuer: Issuer::new(params, key),
            root,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Certificate and key, valid for so many days from now on.
    fn issue(&self, names: &[&str], from: i64, to: i64) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(to);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.path().join("chain.pem"), certificate).unwrap();
        fs::write(self.path().join("key.pem"), key).unwrap();
    }

    fn settings(&self, domain: &str) -> Settings {
        let mut server = XmppServer::new(domain);
        server.certificate = Certificate::Files {
            certificate: self.path().join("chain.pem"),
            key: self.path().join("key.pem"),
        };
        Settings::new(&server, self.path())
    }
}

/// Whoever answers: these tests look at what is served, not at who would trust it.
fn client_config(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = Arc::unwrap_or_clone(tls::client_config(false, None, false).unwrap());
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    Arc::new(config)
}

type Ends = (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
);

async fn connect(
    server: Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<Ends> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio::try_join!(
        TlsConnector::from(Arc::clone(client)).connect(name, near),
        TlsAcceptor::from(server).accept(far),
    )
}

fn fingerprint(stream: &client::TlsStream<DuplexStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_new_certificate_is_served_while_a_connection_lives() {
    let files = Files::new();
    let (certificate, key) = files.issue(&["chat.lan", "conference.chat.lan"], -1, 90);
    files.write(&certificate, &key);
    let certificates = Certificates::open(files.settings("chat.lan")).unwrap();
    let config = client_config(&[]);
    let (mut near, mut far) = connect(certificates.starttls(), &config, "chat.lan")
        .await
        .unwrap();

    let (certificate, key) = files.issue(&["chat.lan", "conference.chat.lan"], -1, 180);
    files.write(&certificate, &key);
    certificates.reload(files.settings("chat.lan")).unwrap();

    near.write_all(b"still here").await.unwrap();
    near.flush().await.unwrap();
    let mut read = [0; 10];
    far.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
    let (other, _far) = connect(certificates.starttls(), &client_config(&[]), "chat.lan")
        .await
        .unwrap();
    assert_ne!(fingerprint(&near), fingerprint(&other));
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_taken_up_and_broken_ones_are_not() {
    let files = Files::new();
    let (certificate, key) = files.issue(&["chat.lan", "conference.chat.lan"], -1, 90);
    files.write(&certificate, &key);
    let certificates = Certificates::open(files.settings("chat.lan")).unwrap();
    let first = certificates.status().facts;
    let stop = Stop::new();
    let (better, better_key) = files.issue(&["chat.lan", "conference.chat.lan"], -1, 180);
    let watch = async {
        let minute = std::time::Duration::from_secs(61);
        tokio::time::sleep(minute).await;

        files.write(&better, &key);
        let problem = loop {
            tokio::time::sleep(minute).await;
            if let Some(problem) = certificates.status().problem {
                break problem;
            }
        };
        assert!(
            problem.contains("the private key is not that of"),
            "{problem}"
        );
        assert_eq!(certificates.status().facts, first);

        files.write(&better, &better_key);
        while certificates.status().facts == first {
            tokio::time::sleep(minute).await;
        }
        assert_eq!(certificates.status().problem, None);
        stop.cancel();
    };
    let (kept, ()) = tokio::join!(certificates.clone().maintain(stop.clone()), watch);
    kept.unwrap();
}

#[test]
fn what_cannot_be_served_says_what_to_do() {
    struct Case {
        name: &'static str,
        certificate: String,
        key: String,
        expected: &'static str,
    }
    let files = Files::new();
    let (good, key) = files.issue(&["chat.lan"], -1, 90);
    let (_, other) = files.issue(&["chat.lan"], -1, 90);
    let (old, old_key) = files.issue(&["chat.lan"], -90, -1);
    let (early, early_key) = files.issue(&["chat.lan"], 1, 90);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases = [
        Case {
            name: "empty",
            certificate: String::new(),
            key: key.clone(),
            expected: "chain.pem: there is no certificate in it; certificate must be a PEM file",
        },
        Case {
            name: "the key in the certificate's place",
            certificate: key.clone(),
            key: key.clone(),
            expected: "chain.pem: there is no certificate in it",
        },
        Case {
            name: "the certificate in the key's place",
            certificate: good.clone(),
            key: good.clone(),
            expected: "key.pem: there is no private key in it; set key",
        },
        Case {
            name: "cut off",
            certificate: good.chars().take(100).collect(),
            key: key.clone(),
            expected: "chain.pem: it is not PEM text",
        },
        Case {
            name: "no certificate inside",
            certificate: garbled.to_owned(),
            key: key.clone(),
            expected: "chain.pem: the certificate cannot be read",
        },
        Case {
            name: "encrypted",
            certificate: good.clone(),
            key: encrypted.to_owned(),
            expected: "key.pem: the private key is encrypted",
        },
        Case {
            name: "another key",
            certificate: good.clone(),
            key: other,
            expected: "key.pem: the private key is not that of the certificate in",
        },
        Case {
            name: "the issuer first",
            certificate: format!("{}{good}", files.root),
            key,
            expected: "chain.pem: the chain begins with another certificate",
        },
        Case {
            name: "expired",
            certificate: old,
            key: old_key,
            expected: "chain.pem: the certificate has expired on ",
        },
        Case {
            name: "from the future",
            certificate: early,
            key: early_key,
            expected: "chain.pem: the certificate is not valid before ",
        },
    ];
    for Case {
        name,
        certificate,
        key,
        expected,
    } in cases
    {
        files.write(&certificate, &key);
        let error = Certificates::open(files.settings("chat.lan"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    fs::remove_file(files.path().join("key.pem")).unwrap();
    let error = Certificates::open(files.settings("chat.lan")).unwrap_err();
    assert!(error.to_string().starts_with("Failed to read "), "{error}");
}

#[test]
fn warnings_name_what_is_missing_and_what_ends_soon() {
    let files = Files::new();
    let (certificate, key) = files.issue(&["chat.lan"], -80, 10);
    files.write(&certificate, &key);
    let status = Certificates::open(files.settings("chat.lan"))
        .unwrap()
        .status();
    let [missing, soon, chain] = status.warnings.as_slice() else {
        panic!("{:?}", status.warnings);
    };
    assert!(missing.starts_with("The certificate is not for conference.chat.lan"));
    assert!(soon.starts_with("The certificate expires on "));
    assert!(chain.contains("lacks the intermediate certificate of"));

    let (certificate, key) = files.issue(&["chat.lan", "*.chat.lan"], -1, 90);
    files.write(&format!("{certificate}{}", files.root), &key);
    let status = Certificates::open(files.settings("chat.lan"))
        .unwrap()
        .status();
    assert_eq!(status.warnings, Vec::<String>::new());
    assert_eq!(status.facts.origin, Origin::File);
    assert_eq!(status.facts.chain.len(), 2);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["facts"]["names"][1], "*.chat.lan");
}

#[tokio::test]
async fn protocols_are_those_of_the_listener() {
    struct Case {
        name: &'static str,
        direct: bool,
        offered: &'static [&'static [u8]],
        /// What was negotiated, empty for nothing; an error: no handshake.
        expected: Result<&'static [u8], ()>,
    }
    let cases = [
        Case {
            name: "XEP-0368",
            direct: true,
            offered: &[XMPP_CLIENT],
            expected: Ok(XMPP_CLIENT),
        },
        Case {
            name: "direct TLS without ALPN",
            direct: true,
            offered: &[],
            expected: Ok(b""),
        },
        Case {
            name: "a browser at the wrong port",
            direct: true,
            offered: &[b"h2", b"http/1.1"],
            expected: Err(()),
        },
        Case {
            name: "STARTTLS with ALPN",
            direct: false,
            offered: &[XMPP_CLIENT],
            expected: Ok(b""),
        },
        Case {
            name: "a look that nobody expects",
            direct: true,
            offered: &[ACME_TLS],
            expected: Err(()),
        },
    ];
    let data_dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(&XmppServer::new("localhost"), data_dir.path());
    let certificates = Certificates::open(settings).unwrap();
    for case in cases {
        let config = if case.direct {
            certificates.direct_tls()
        } else {
            certificates.starttls()
        };
        let ends = connect(config, &client_config(case.offered), "localhost").await;
        let negotiated = match &ends {
            Ok((_, far)) => Ok(far.get_ref().1.alpn_protocol().unwrap_or_default()),
            Err(_) => Err(()),
        };
        assert_eq!(negotiated, case.expected, "{}", case.name);
    }
}

/// What the resolver gives to a client that offers these protocols. No usual client takes the answer to a look: its
/// critical extension is unknown to them.
fn resolved(certificates: &Certificates, protocols: &[&[u8]], name: &str) -> Option<Vec<u8>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(client_config(protocols), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut hello.as_slice()).unwrap();
    let accepted = acceptor.accept().unwrap().unwrap();
    let key = certificates.0.resolver.resolve(accepted.client_hello())?;
    Some(key.cert[0].to_vec())
}

#[test]
fn an_authority_that_looks_sees_its_own_certificate_and_nobody_else_does() {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(&XmppServer::new("chat.moltis.org"), data_dir.path());
    let certificates = Certificates::open(settings).unwrap();
    let usual = Some(certificates.0.resolver.served().key.cert[0].to_vec());
    let looks = |protocols: &[&[u8]]| resolved(&certificates, protocols, "chat.moltis.org");
    assert_eq!(looks(&[ACME_TLS]), None, "no challenge yet");
    let challenges = &certificates.0.resolver.challenges;
    let answered = challenges
        .answer(Challenge::TlsAlpn, "chat.moltis.org", "t", "t.x")
        .unwrap();
    let answer = looks(&[ACME_TLS]);
    assert!(answer.is_some() && answer != usual);
    assert_eq!(resolved(&certificates, &[ACME_TLS], "other.org"), None);
    assert_eq!(looks(&[XMPP_CLIENT]), usual);
    assert_eq!(looks(&[]), usual);
    assert_eq!(looks(&[XMPP_CLIENT, ACME_TLS]), usual);
    drop(answered);
    assert_eq!(looks(&[ACME_TLS]), None);
}

/// Looks as an authority does: at the certificate, whatever extensions it has.
#[derive(Debug)]
struct Authority;

impl ServerCertVerifier for Authority {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl Authority {
    fn config() -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Self))
            .with_no_client_auth();
        config.alpn_protocols = vec![ACME_TLS.to_vec()];
        Arc::new(config)
    }
}

#[tokio::test]
async fn a_look_is_told_from_a_client() {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(&XmppServer::new("chat.moltis.org"), data_dir.path());
    let certificates = Certificates::open(settings).unwrap();
    let challenges = &certificates.0.resolver.challenges;
    let _answered = challenges
        .answer(Challenge::TlsAlpn, "chat.moltis.org", "t", "t.x")
        .unwrap();
    let look = Authority::config();
    let (_near, far) = connect(certificates.direct_tls(), &look, "chat.moltis.org")
        .await
        .unwrap();
    assert!(is_validation(far.get_ref().1));
    let (_near, far) = connect(
        certificates.direct_tls(),
        &client_config(&[XMPP_CLIENT]),
        "chat.moltis.org",
    )
    .await
    .unwrap();
    assert!(!is_validation(far.get_ref().1));
}

#[test]
fn an_inspection_leaves_nothing_behind() {
    let data_dir = tempfile::tempdir().unwrap();
    for domain in ["nas.lan", "chat.moltis.org"] {
        let settings = Settings::new(&XmppServer::new(domain), data_dir.path());
        assert_eq!(settings.inspect().unwrap(), None, "{domain}");
        assert_eq!(fs::read_dir(data_dir.path()).unwrap().count(), 0);
    }
    let settings = Settings::new(&XmppServer::new("nas.lan"), data_dir.path());
    let served = Certificates::open(settings.clone()).unwrap().status().facts;
    assert_eq!(settings.inspect().unwrap().as_ref(), Some(&*served));
}

#[tokio::test]
async fn sessions_resume_and_both_ends_know_the_same_channel() {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(&XmppServer::new("localhost"), data_dir.path());
    let certificates = Certificates::open(settings).unwrap();
    let config = client_config(&[]);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (mut near, mut far) = connect(certificates.starttls(), &config, "localhost")
            .await
            .unwrap();
        let binding = tls_exporter(far.get_ref().1);
        assert_eq!(binding.as_ref().map(Vec::len), Some(32));
        assert_eq!(binding, tls::channel_binding(&near));
        kinds.push(far.get_ref().1.handshake_kind().unwrap());
        // The ticket comes behind the handshake.
        far.write_all(b"!").await.unwrap();
        far.flush().await.unwrap();
        near.read_u8().await.unwrap();
    }
    assert_eq!(
        kinds,
        [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]
    );
}

#[tokio::test]
async fn tls_1_2_is_served_without_a_channel_binding() {
    let data_dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(&XmppServer::new("localhost"), data_dir.path());
    let certificates = Certificates::open(settings).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(certificates.0.resolver.served().key.cert[0].clone())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (_near, far) = connect(certificates.starttls(), &Arc::new(config), "localhost")
        .await
        .unwrap();
    let connection = far.get_ref().1;
    assert_eq!(
        connection.protocol_version(),
        Some(ProtocolVersion::TLSv1_2)
    );
    assert_eq!(tls_exporter(connection), None);
}
