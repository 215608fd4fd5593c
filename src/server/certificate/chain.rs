//! A certificate chain with its key, from PEM: proven to be usable before anything serves it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, pki_types};
use time::OffsetDateTime;

use super::facts::{Facts, Origin, date};
use super::names;

/// Why a certificate is not served, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Failed to read {}: {}; check the path, and that the user that runs moltis may read it", .0.display(), .1)]
    Read(PathBuf, io::Error),
    #[error("Failed to write {}: {}", .0.display(), .1)]
    Write(PathBuf, io::Error),
    #[error("{}: it is not PEM text: {}; DER is converted by: openssl x509 -inform der -in FILE -out NEW.pem", .0.display(), .1)]
    NotPem(PathBuf, pki_types::pem::Error),
    #[error("{}: there is no certificate in it; certificate must be a PEM file that begins with the server's certificate, followed by the intermediate ones (often called fullchain.pem)", .0.display())]
    NoCertificate(PathBuf),
    #[error("{}: there is no private key in it; set key to the PEM file with the key of the certificate (often called privkey.pem)", .0.display())]
    NoKey(PathBuf),
    #[error("{}: the private key is encrypted, and moltis cannot ask for its password; write it without one: openssl pkey -in FILE -out NEW.pem", .0.display())]
    EncryptedKey(PathBuf),
    #[error("{}: the private key cannot be used: {}; ECDSA (P-256, P-384), Ed25519 and RSA of 2048 bits and more can", .0.display(), .1)]
    Key(PathBuf, rustls::Error),
    #[error("{}: the private key is not that of the certificate in {}; name the two files that were issued together", .key.display(), .certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("{}: the chain begins with another certificate than the one of the key; put the server's own certificate first, its issuers after it", .0.display())]
    Order(PathBuf),
    #[error("{}: the certificate cannot be read: {}", .0.display(), .1)]
    Certificate(PathBuf, String),
    #[error("{}: the certificate has expired on {}; renew it and replace the file: it is taken up within a minute", .0.display(), .1)]
    Expired(PathBuf, String),
    #[error("{}: the certificate is not valid before {}; check the clock of this machine", .0.display(), .1)]
    NotYet(PathBuf, String),
    #[error("{0}: no certificate can have this name; set domain to a DNS name")]
    Name(String),
    #[error("Failed to make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    #[error("Failed to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Settings(String),
}

/// Where a chain comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What those files contain.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pem {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Files {
    /// Key and chain in one file, which is replaced as one.
    pub(super) fn both(file: PathBuf) -> Self {
        Self {
            certificate: file.clone(),
            key: file,
        }
    }

    pub(super) fn read(&self) -> Result<Pem, Error> {
        let read =
            |file: &Path| std::fs::read(file).map_err(|err| Error::Read(file.to_owned(), err));
        Ok(Pem {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }
}

/// A chain that can be served, and what is to be known about it.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: Arc<Facts>,
}

/// Proves a chain: its key fits, and it is valid `now`. That it lacks a name is for its facts to say.
pub(super) fn prove(
    files: &Files,
    pem: &Pem,
    origin: Origin,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Chain, Error> {
    let chain = certificates(files, pem)?;
    let key = certified(files, chain, &private_key(files, pem)?)?;
    let facts = facts(&key, origin, names)
        .map_err(|problem| Error::Certificate(files.certificate.clone(), problem))?;
    if now > facts.not_after {
        return Err(Error::Expired(
            files.certificate.clone(),
            date(facts.not_after),
        ));
    }
    if now < facts.not_before {
        return Err(Error::NotYet(
            files.certificate.clone(),
            date(facts.not_before),
        ));
    }
    Ok(Chain {
        key: Arc::new(key),
        facts: Arc::new(facts),
    })
}

fn certificates(files: &Files, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem.certificate)
        .collect::<Result<_, _>>()
        .map_err(|err| Error::NotPem(files.certificate.clone(), err))?;
    if chain.is_empty() {
        return Err(Error::NoCertificate(files.certificate.clone()));
    }
    Ok(chain)
}

fn private_key(files: &Files, pem: &Pem) -> Result<PrivateKeyDer<'static>, Error> {
    const ENCRYPTED: [&[u8]; 2] = [b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    let contains = |text: &[u8]| pem.key.windows(text.len()).any(|window| window == text);
    if ENCRYPTED.into_iter().any(contains) {
        return Err(Error::EncryptedKey(files.key.clone()));
    }
    PrivateKeyDer::from_pem_slice(&pem.key).map_err(|err| match err {
        pki_types::pem::Error::NoItemsFound => Error::NoKey(files.key.clone()),
        err => Error::NotPem(files.key.clone(), err),
    })
}

fn certified(
    files: &Files,
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    let key =
        ring::sign::any_supported_type(key).map_err(|err| Error::Key(files.key.clone(), err))?;
    let certified = CertifiedKey::new(chain, Arc::clone(&key));
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let later = certified.cert.iter().skip(1);
            let fits = |one: &CertificateDer<'static>| {
                CertifiedKey::new(vec![one.clone()], Arc::clone(&key))
                    .keys_match()
                    .is_ok()
            };
            Err(if later.clone().any(fits) {
                Error::Order(files.certificate.clone())
            } else {
                Error::Mismatch {
                    certificate: files.certificate.clone(),
                    key: files.key.clone(),
                }
            })
        }
        Err(err) => Err(Error::Certificate(
            files.certificate.clone(),
            err.to_string(),
        )),
    }
}

fn facts(key: &CertifiedKey, origin: Origin, names: &[String]) -> Result<Facts, String> {
    let first = key.end_entity_cert().map_err(|err| err.to_string())?;
    let parsed = ParsedCertificate::try_from(first).map_err(|err| err.to_string())?;
    Facts::read(&key.cert, origin, names::missing(&parsed, names))
}
