//! What is to be known about a certificate: for `moltis check certs` and the status page.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::schedule::renewal;

/// So long before the end a certificate that nobody but its operator renews is a warning.
const SOON: Duration = Duration::days(14);

/// Who made a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The files of the configuration.
    File,
    /// moltis, for itself.
    SelfSigned,
    /// An authority, through ACME.
    Acme,
}

/// A certificate in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub origin: Origin,
    /// For which names it is.
    pub names: Vec<String>,
    pub issuer: String,
    #[serde(serialize_with = "rfc3339")]
    pub not_before: OffsetDateTime,
    #[serde(serialize_with = "rfc3339")]
    pub not_after: OffsetDateTime,
    /// The subjects of the chain, the server's own certificate first.
    pub chain: Vec<String>,
    /// SHA-256 over the certificate, as browsers and openssl show it.
    pub fingerprint: String,
    /// Names of the server that it is not for.
    pub missing: Vec<String>,
}

impl Facts {
    pub fn read(
        chain: &[CertificateDer<'_>],
        origin: Origin,
        missing: Vec<String>,
    ) -> Result<Self, String> {
        let first = chain.first().ok_or("the chain is empty")?;
        let certificate = parse(first)?;
        let time =
            |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|err| err.to_string());
        Ok(Self {
            origin,
            names: names(&certificate)?,
            issuer: readable(certificate.issuer()),
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            chain: chain
                .iter()
                .map(|one| parse(one).map(|one| readable(one.subject())))
                .collect::<Result<_, _>>()?,
            fingerprint: fingerprint(first),
            missing,
        })
    }

    /// What the operator should know, each with what to do.
    pub fn warnings(&self, now: OffsetDateTime) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.missing.is_empty() {
            let missing = self.missing.join(", ");
            warnings.push(match self.origin {
                Origin::Acme => format!(
                    "The certificate is not for {missing}: other servers cannot reach these services; let their DNS records point here too"
                ),
                Origin::File | Origin::SelfSigned => format!(
                    "The certificate is not for {missing}: clients or other servers will refuse it there; have it issued for these names too"
                ),
            });
        }
        if self.origin == Origin::File && self.not_after - now < SOON {
            warnings.push(format!(
                "The certificate expires on {}; renew it and replace the file",
                date(self.not_after)
            ));
        }
        // A single certificate that another issued: its issuer is rarely a root that everyone has.
        if self.origin == Origin::File && self.chain.len() == 1 && !self.is_self_issued() {
            warnings.push(format!(
                "The certificate file lacks the intermediate certificate of {}: many clients and servers will not trust it; use the full chain",
                self.issuer
            ));
        }
        warnings
    }

    /// When moltis replaces it, where it does. The fingerprint spreads it: the time stays the same from look to look.
    pub fn renewal(&self) -> OffsetDateTime {
        let first = self.fingerprint.split(':').next().unwrap_or_default();
        let jitter = u8::from_str_radix(first, 16).unwrap_or_default();
        renewal(self.not_before, self.not_after, f64::from(jitter) / 255.0)
    }

    fn is_self_issued(&self) -> bool {
        self.chain.first() == Some(&self.issuer)
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(der)
        .map(|(_rest, certificate)| certificate)
        .map_err(|err| err.to_string())
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|err| err.to_string())?;
    let names = extension
        .iter()
        .flat_map(|extension| &extension.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect())
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(bytes).to_string());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(bytes).to_string())
}

/// The organisation and the common name, else the whole.
fn readable(name: &X509Name<'_>) -> String {
    let organisation = name.iter_organization().next();
    let common = name.iter_common_name().next();
    let parts: Vec<&str> = [organisation, common]
        .into_iter()
        .flatten()
        .filter_map(|part| part.as_str().ok())
        .collect();
    if parts.is_empty() {
        name.to_string()
    } else {
        parts.join(" ")
    }
}

fn fingerprint(der: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(der) {
        let colon = if text.is_empty() { "" } else { ":" };
        write!(text, "{colon}{byte:02X}").ok(); // a string takes everything
    }
    text
}

/// The day, for sentences.
pub fn date(time: OffsetDateTime) -> String {
    let day = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    time.format(&day).unwrap_or_else(|_| time.to_string())
}

fn rfc3339<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = time.format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}
