//! Certificates that moltis signs itself: where the domain is not public, and until an authority has issued one.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use tracing::{info, warn};

use super::chain::{Chain, Error, Files, Pem, prove};
use super::facts::Origin;
use super::schedule::renewal;
use super::store::Store;

/// Long, for those who accept it by hand must do so again when it is another.
const LIFETIME: Duration = Duration::days(730);

/// The kept certificate. `None`: there is none.
pub(super) fn kept(
    store: &Store,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Option<Chain>, Error> {
    let file = file(names)?;
    let kept = store.read(&file)?;
    kept.map(|pem| read(store, &file, &pem, names, now))
        .transpose()
}

/// The kept certificate, or a new one with the same key where it is due, damaged, or for other names.
pub(super) fn ensure(store: &Store, names: &[String], now: OffsetDateTime) -> Result<Chain, Error> {
    match kept(store, names, now) {
        Ok(Some(chain)) if !is_due(&chain, names, now) => return Ok(chain),
        Ok(None) => {}
        Ok(Some(_)) | Err(Error::Expired(..)) => info!("The self-signed certificate is renewed"),
        Err(err) => warn!("{err}; it is made anew"),
    }
    let file = file(names)?;
    let pem = generate(store.read(&file)?.as_deref(), names, now)?;
    store.write(&file, pem.as_bytes())?;
    read(store, &file, pem.as_bytes(), names, now)
}

fn file(names: &[String]) -> Result<String, Error> {
    let domain = names.first().ok_or_else(|| Error::Name(String::new()))?;
    Ok(format!("{domain}.pem"))
}

fn read(
    store: &Store,
    file: &str,
    pem: &[u8],
    names: &[String],
    now: OffsetDateTime,
) -> Result<Chain, Error> {
    let both = Pem {
        certificate: pem.to_vec(),
        key: pem.to_vec(),
    };
    prove(
        &Files::both(store.file(file)),
        &both,
        Origin::SelfSigned,
        names,
        now,
    )
}

fn is_due(chain: &Chain, names: &[String], now: OffsetDateTime) -> bool {
    let facts = &chain.facts;
    !facts.missing.is_empty()
        || facts.names.len() > names.len()
        || now >= renewal(facts.not_before, facts.not_after, 0.0)
}

/// Key and certificate, in one text. The key stays the same where there was one: those who pinned it need not notice.
fn generate(kept: Option<&[u8]>, names: &[String], now: OffsetDateTime) -> Result<String, Error> {
    let kept = kept.and_then(|pem| std::str::from_utf8(pem).ok());
    let key = match kept.and_then(|pem| KeyPair::from_pem(pem).ok()) {
        Some(key) => key,
        None => KeyPair::generate()?,
    };
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(domain) = names.first() {
        params
            .distinguished_name
            .push(DnType::CommonName, domain.as_str());
    }
    // Clocks differ.
    params.not_before = now - Duration::HOUR;
    params.not_after = now + LIFETIME;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // The latter for SASL EXTERNAL between servers (XEP-0178).
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn public_key(chain: &Chain) -> Vec<u8> {
        chain.key.key.public_key().unwrap().as_ref().to_vec()
    }

    #[test]
    fn it_is_kept_then_renewed_with_its_key_and_made_anew_for_other_names() {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::new(data_dir.path(), "self-signed");
        let now = OffsetDateTime::now_utc();
        let hosts = names(&["nas.lan", "conference.nas.lan", "192.0.2.7"]);
        let first = ensure(&store, &hosts, now).unwrap();
        assert_eq!(first.facts.names, hosts);
        assert_eq!(first.facts.issuer, "nas.lan");
        assert!(first.facts.missing.is_empty());
        assert!(first.facts.warnings(now).is_empty());

        let later = now + LIFETIME / 2;
        let second = ensure(&store, &hosts, later).unwrap();
        assert_eq!(second.facts, first.facts, "kept");

        for due in [now + LIFETIME * 0.7, now + LIFETIME * 3.0] {
            let renewed = ensure(&store, &hosts, due).unwrap();
            assert!(renewed.facts.not_after > due + LIFETIME / 2);
            assert_eq!(public_key(&renewed), public_key(&first));
        }

        let fewer = names(&["nas.lan"]);
        let again = ensure(&store, &fewer, now + LIFETIME * 3.0).unwrap();
        assert_eq!(again.facts.names, fewer);
    }

    #[test]
    fn a_damaged_one_is_made_anew() {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::new(data_dir.path(), "self-signed");
        let now = OffsetDateTime::now_utc();
        let hosts = names(&["localhost"]);
        ensure(&store, &hosts, now).unwrap();
        store.write("localhost.pem", b"-----BEGIN").unwrap();
        assert_eq!(ensure(&store, &hosts, now).unwrap().facts.names, hosts);
    }
}
