//! The proofs of control that an authority asks for, while it asks: TLS-ALPN-01 (RFC 8737) and HTTP-01 (RFC 8555, 8.3).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::chain::Error;

/// The protocol under which an authority looks (RFC 8737, 6.2).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// How control over a name is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// By a TLS handshake on port 443.
    TlsAlpn,
    /// By a file at port 80.
    Http,
}

/// What is to be answered now.
#[derive(Debug, Default)]
pub(super) struct Challenges {
    /// By name.
    tls: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
    /// Key authorisations by token.
    http: Mutex<BTreeMap<String, String>>,
}

impl Challenges {
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        lock(&self.tls).get(&name.to_ascii_lowercase()).cloned()
    }

    pub(super) fn authorization(&self, token: &str) -> Option<String> {
        lock(&self.http).get(token).cloned()
    }

    /// Answers a challenge until the guard is dropped.
    pub(super) fn answer(
        self: &Arc<Self>,
        challenge: Challenge,
        name: &str,
        token: &str,
        authorization: &str,
    ) -> Result<Answered, Error> {
        let key = match challenge {
            Challenge::TlsAlpn => {
                let certificate = validation_certificate(name, authorization)?;
                lock(&self.tls).insert(name.to_owned(), Arc::new(certificate));
                name
            }
            Challenge::Http => {
                lock(&self.http).insert(token.to_owned(), authorization.to_owned());
                token
            }
        };
        Ok(Answered {
            challenges: Arc::clone(self),
            challenge,
            key: key.to_owned(),
        })
    }
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A challenge that is being answered.
#[derive(Debug)]
pub(super) struct Answered {
    challenges: Arc<Challenges>,
    challenge: Challenge,
    key: String,
}

impl Drop for Answered {
    fn drop(&mut self) {
        match self.challenge {
            Challenge::TlsAlpn => drop(lock(&self.challenges.tls).remove(&self.key)),
            Challenge::Http => drop(lock(&self.challenges.http).remove(&self.key)),
        }
    }
}

/// RFC 8737, 3: for one name, with the digest of the key authorisation in a critical extension.
fn validation_certificate(name: &str, authorization: &str) -> Result<CertifiedKey, Error> {
    let digest = Sha256::digest(authorization);
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::new(
        vec![certificate.der().clone()],
        ring::sign::any_supported_type(&key)?,
    ))
}

#[cfg(test)]
mod tests {
    use x509_parser::extensions::GeneralName;
    use x509_parser::oid_registry::asn1_rs::oid;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn the_validation_certificate_is_of_the_shape_of_rfc_8737() {
        let key = validation_certificate("chat.example.org", "token.thumbprint").unwrap();
        let (_, certificate) = X509Certificate::from_der(&key.cert[0]).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(
            names.value.general_names,
            [GeneralName::DNSName("chat.example.org")]
        );
        let identifier = certificate
            .get_extension_unique(&oid!(1.3.6.1.5.5.7.1.31))
            .unwrap()
            .unwrap();
        assert!(identifier.critical);
        let mut expected = vec![0x04, 32]; // an OCTET STRING of 32 bytes
        expected.extend(Sha256::digest("token.thumbprint"));
        assert_eq!(identifier.value, expected);
    }

    #[test]
    fn an_answer_is_given_only_while_it_is_asked_for() {
        let challenges = Arc::new(Challenges::default());
        let http = challenges.answer(Challenge::Http, "a.example.org", "t", "t.x");
        let tls = challenges.answer(Challenge::TlsAlpn, "a.example.org", "u", "u.x");
        assert_eq!(challenges.authorization("t").unwrap(), "t.x");
        assert_eq!(challenges.authorization("u"), None);
        assert!(challenges.certificate("A.example.org").is_some());
        assert!(challenges.certificate("b.example.org").is_none());
        drop((http, tls));
        assert_eq!(challenges.authorization("t"), None);
        assert!(challenges.certificate("a.example.org").is_none());
    }
}
