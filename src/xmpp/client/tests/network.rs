//! STARTTLS, certificates and channel binding, over real sockets.

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// A server with a certificate for a name, by an authority of its own.
struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    directory: tempfile::TempDir,
}

impl Server {
    async fn new(name: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        Self::with(key, &certificate, &authority.pem()).await
    }

    /// One that signs for itself and claims to be an authority, as tools make them.
    async fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        let pem = certificate.pem();
        Self::with(key, &certificate, &pem).await
    }

    async fn with(key: KeyPair, certificate: &Certificate, root: &str) -> Self {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), root).unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            directory,
        }
    }

    /// How to reach it; it trusts only its authority where `trusted`.
    fn settings(&self, trusted: bool) -> Settings {
        let address = self.listener.local_addr().unwrap();
        Settings {
            server: Some((address.ip().to_string(), address.port())),
            tls_ca_file: trusted.then(|| self.directory.path().join("ca.pem")),
            ..settings()
        }
    }

    async fn accept(&self) -> Peer<TcpStream> {
        Peer::new(self.listener.accept().await.unwrap().0)
    }

    /// STARTTLS up to the secured stream; an error where the client does not like the certificate.
    async fn accept_tls(&self) -> std::io::Result<Peer<TlsStream<TcpStream>>> {
        let mut peer = self.accept().await;
        peer.open(STARTTLS).await;
        peer.expect("</starttls>").await;
        peer.send(PROCEED).await;
        Ok(Peer::new(self.acceptor.accept(peer.io).await?))
    }
}

const OFFERED: &[&str] = &[
    "PLAIN",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
];

/// The login with channel binding that the server half wants.
async fn serve(peer: &mut Peer<TlsStream<TcpStream>>) {
    let (_, connection) = peer.io.get_ref();
    let binding = connection
        .export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", None)
        .unwrap();
    let bindings = "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>\
                    <channel-binding type='tls-exporter'/></sasl-channel-binding>";
    peer.open_with_bindings(OFFERED, bindings).await;
    let (_, last) = peer
        .scram(Hash::Sha256, Binding::TlsExporter(binding), "secret")
        .await;
    peer.succeed(&last).await;
    peer.bind().await;
}

#[tokio::test]
async fn no_password_is_sent_without_tls() {
    let server = Server::new("example.org").await;
    let mut client = Client::new(server.settings(true));
    let script = async {
        let mut peer = server.accept().await;
        peer.open_for_login(&["PLAIN", "SCRAM-SHA-1"]).await;
        peer.rest().await
    };
    let (said, (text, fatal)) = tokio::join!(script, failure(&mut client));
    assert!(
        text.contains("no password is sent without it") && !fatal,
        "{text}"
    );
    assert!(!said.contains("auth"), "{said}");
}

#[tokio::test]
async fn data_behind_proceed_ends_the_connection() {
    let server = Server::new("example.org").await;
    let mut client = Client::new(server.settings(true));
    let script = async {
        let mut peer = server.accept().await;
        peer.open(STARTTLS).await;
        peer.expect("</starttls>").await;
        peer.send(&format!("{PROCEED}<stream:features/>")).await;
        peer.rest().await
    };
    let (said, (text, _)) = tokio::join!(script, failure(&mut client));
    assert!(text.contains("data behind <proceed/>"), "{text}");
    assert_eq!(said, "", "not even a TLS greeting");
}

#[tokio::test]
async fn a_trusted_certificate_leads_to_a_bound_login() {
    let server = Server::new("example.org").await;
    let mut client = Client::new(server.settings(true));
    let script = async {
        let mut peer = server.accept_tls().await.unwrap();
        serve(&mut peer).await;
        peer
    };
    let (_peer, (jid, mechanism)) = tokio::join!(script, online(&mut client));
    assert_eq!(jid.to_string(), "bot@example.org/moltis");
    assert_eq!(mechanism, Some(Mechanism::ScramSha256Plus));
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_where_tls_ca_file_holds_it() {
    let server = Server::self_signed("example.org").await;
    let mut client = Client::new(server.settings(true));
    let script = async {
        let mut peer = server.accept_tls().await.unwrap();
        serve(&mut peer).await;
        peer
    };
    tokio::join!(script, online(&mut client));
}

#[tokio::test]
async fn direct_tls_needs_no_starttls() {
    let server = Server::new("example.org").await;
    let mut client = Client::new(Settings {
        direct_tls: true,
        ..server.settings(true)
    });
    let script = async {
        let (tcp, _) = server.listener.accept().await.unwrap();
        let mut peer = Peer::new(server.acceptor.accept(tcp).await.unwrap());
        serve(&mut peer).await;
        peer
    };
    tokio::join!(script, online(&mut client));
}

#[tokio::test]
async fn a_certificate_for_another_name_or_by_a_stranger_is_refused_with_a_remedy() {
    const SELF_SIGNED: &str = "self-signed, known, for another name";
    struct Case {
        name: &'static str,
        certificate: &'static str,
        trusted: bool,
        expected: &'static str,
    }
    let cases = [
        Case {
            name: "the host's name instead of the domain's",
            certificate: "xmpp.example.org",
            trusted: true,
            expected: "is not for example.org",
        },
        Case {
            name: SELF_SIGNED,
            certificate: "xmpp.example.org",
            trusted: true,
            expected: "is not for example.org",
        },
        Case {
            name: "signed by nobody we know",
            certificate: "example.org",
            trusted: false,
            expected: "tls_ca_file",
        },
    ];
    for case in cases {
        let server = match case.name {
            SELF_SIGNED => Server::self_signed(case.certificate).await,
            _ => Server::new(case.certificate).await,
        };
        let mut client = Client::new(server.settings(case.trusted));
        let (accepted, (text, fatal)) = tokio::join!(server.accept_tls(), failure(&mut client));
        assert!(accepted.is_err(), "{}", case.name);
        assert!(
            text.contains(case.expected) && !fatal,
            "{}: {text}",
            case.name
        );
    }
}

#[tokio::test]
async fn any_certificate_will_do_only_when_asked_for() {
    let server = Server::new("other.example").await;
    let mut client = Client::new(Settings {
        tls_verify: false,
        ..server.settings(false)
    });
    let script = async {
        let mut peer = server.accept_tls().await.unwrap();
        serve(&mut peer).await;
        peer
    };
    tokio::join!(script, online(&mut client));
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_read_is_a_fault_of_the_settings() {
    let server = Server::new("example.org").await;
    let mut client = Client::new(Settings {
        tls_ca_file: Some("/nonexistent/ca.pem".into()),
        ..server.settings(false)
    });
    let (_peer, (text, fatal)) = tokio::join!(server.accept(), failure(&mut client));
    assert!(
        text.starts_with("tls_ca_file /nonexistent/ca.pem: ") && fatal,
        "{text}"
    );
}

/// ejabberd 23.01 does so, and refuses a login that binds to tls-exporter.
#[tokio::test]
async fn a_binding_that_the_server_does_not_announce_is_not_tried() {
    let server = Server::new("example.org").await;
    let mut client = Client::new(server.settings(true));
    let script = async {
        let mut peer = server.accept_tls().await.unwrap();
        peer.open_for_login(OFFERED).await;
        let (tag, last) = peer
            .scram(Hash::Sha256, Binding::Unsupported, "secret")
            .await;
        assert!(!tag.contains("PLUS"), "{tag}");
        peer.succeed(&last).await;
        peer.bind().await;
        peer
    };
    let (_peer, (_, mechanism)) = tokio::join!(script, online(&mut client));
    assert_eq!(mechanism, Some(Mechanism::ScramSha256));
}
