//! To whom we talk: TLS with the server's certificate checked against the JID's domain, whatever host DNS named
//! (RFC 6120, 13.7.2.1), and error texts that say what to do.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConnectionCommon, DigitallySignedStruct, ProtocolVersion,
    RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::warn;

use super::{Error, dns};

/// XEP-0368, 4.
const ALPN: &[u8] = b"xmpp-client";

/// How a server is trusted. Blocks while it reads certificates from the disk.
pub fn client_config(
    verify: bool,
    ca_file: Option<&Path>,
    direct_tls: bool,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|err| Error::Settings(err.to_string()))?;
    let builder = builder.dangerous();
    let mut config = if verify {
        let (roots, own) = roots(ca_file)?;
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|err| Error::Settings(err.to_string()))?;
        builder.with_custom_certificate_verifier(Arc::new(Usual { usual, own }))
    } else {
        builder.with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    }
    .with_no_client_auth();
    if direct_tls {
        config.alpn_protocols.push(ALPN.to_vec());
    }
    Ok(Arc::new(config))
}

/// Whether the roots of this system vouch for a chain, the server's own certificate first. Blocks while it reads them.
pub fn vouch(chain: &[CertificateDer<'_>], domain: &str) -> Result<(), Error> {
    let Some((own, issuers)) = chain.split_first() else {
        return Err(Error::Tls("The chain is empty".to_owned()));
    };
    let (roots, _) = roots(None)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|err| Error::Settings(err.to_string()))?;
    let name = server_name(domain)?;
    match verifier.verify_server_cert(own, issuers, &name, &[], UnixTime::now()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(problem)) => {
            Err(Error::Tls(unacceptable(&problem, domain)))
        }
        Err(err) => Err(Error::Tls(err.to_string())),
    }
}

type Certificates = Vec<CertificateDer<'static>>;

/// The system's roots and those from the settings; the latter once more by themselves.
fn roots(ca_file: Option<&Path>) -> Result<(RootCertStore, Certificates), Error> {
    let mut roots = RootCertStore::empty();
    let mut own = Certificates::new();
    let native = rustls_native_certs::load_native_certs();
    for err in native.errors {
        warn!(%err, "Some of the system's root certificates cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        let problem =
            |what: String| Error::Settings(format!("tls_ca_file {}: {what}", path.display()));
        own = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|err| problem(err.to_string()))?;
        if own.is_empty() {
            return Err(problem("there is no PEM certificate in it".to_owned()));
        }
        for certificate in &own {
            roots
                .add(certificate.clone())
                .map_err(|err| problem(err.to_string()))?;
        }
    }
    if roots.is_empty() {
        return Err(Error::Settings(
            "This system has no root certificates; install its ca-certificates package, or set tls_ca_file".to_owned(),
        ));
    }
    Ok((roots, own))
}

/// Begins TLS. `domain` is that of the JID.
pub async fn handshake<Io: AsyncRead + AsyncWrite + Unpin>(
    io: Io,
    domain: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<Io>, Error> {
    let name = server_name(domain)?;
    TlsConnector::from(config)
        .connect(name, io)
        .await
        .map_err(|err| Error::Tls(explain(&err, domain)))
}

fn server_name(domain: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(dns::ascii(domain)?).map_err(|err| {
        Error::Settings(format!(
            "\"{domain}\" is no name a certificate can have: {err}"
        ))
    })
}

/// What binds a login to this TLS connection.
pub fn channel_binding<Io>(stream: &TlsStream<Io>) -> Option<Vec<u8>> {
    let (_, connection) = stream.get_ref();
    exporter(connection)
}

/// `tls-exporter` (RFC 9266), for either side. TLS 1.3 only: before it the value is only unique under conditions that
/// we cannot see.
pub fn exporter<Side>(connection: &ConnectionCommon<Side>) -> Option<Vec<u8>> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    connection
        .export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", None)
        .ok()
}

/// What went wrong in a handshake, and what to do.
fn explain(err: &io::Error, domain: &str) -> String {
    let tls = err
        .get_ref()
        .and_then(|err| err.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(problem)) = tls else {
        return format!("TLS with the server of {domain} failed: {err}");
    };
    unacceptable(problem, domain)
}

fn unacceptable(problem: &CertificateError, domain: &str) -> String {
    match problem {
        CertificateError::UnknownIssuer => format!(
            "Nobody we trust has signed the certificate of {domain}; where it is your own server, put its certificate, or that of its authority, in tls_ca_file"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "The certificate of {domain} has expired; its operator must renew it (or the clock of this machine is wrong)"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("The certificate of {domain} is not valid yet; check the clock of this machine")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "The server's certificate is not for {domain}: it must name the domain of the JID, whatever host serves it; check jid and server, or ask the operator"
            )
        }
        CertificateError::Revoked => format!("The certificate of {domain} was revoked"),
        other => format!("The certificate of {domain} is not acceptable: {other}"),
    }
}

/// The usual rules, and one more: a certificate that stands in `tls_ca_file` itself may be the server's. Most
/// self-signed ones claim to be an authority too, which the usual rules forbid to a server.
#[derive(Debug)]
struct Usual {
    usual: Arc<WebPkiServerVerifier>,
    own: Certificates,
}

impl ServerCertVerifier for Usual {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let outcome = self.usual.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match outcome {
            // What is expired or the like has an error of its own, and stays refused.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.own.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whoever has the key of the certificate that they show: with `tls_verify = false`, and between servers, where it is asked
/// later for whom it is. The handshake's signature is still checked.
#[derive(Debug)]
pub struct Anyone(Arc<CryptoProvider>);

impl Anyone {
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(provider)
    }
}

impl ServerCertVerifier for Anyone {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
