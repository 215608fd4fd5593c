//! SCRAM, the server's side (RFC 5802, RFC 7677), without channel binding and with it (RFC 5802, 6), and the client's
//! protection against a shortened list of mechanisms (XEP-0474).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ChannelBinding, Condition, Failure};
use crate::server::accounts::Credentials;
use crate::xmpp::scram::Hash;

/// The client's first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) name: String,
    pub(super) authzid: Option<String>,
    nonce: String,
    /// Header of GSS-API and the binding's data: what `c=` must repeat.
    bound: Vec<u8>,
    bare: String,
}

/// What was offered, for XEP-0474.
pub(super) struct Offered<'a> {
    pub(super) mechanisms: &'a [&'static str],
    pub(super) bindings: &'a [ChannelBinding],
}

/// The server's side after its challenge.
#[derive(Debug)]
pub(super) struct Challenged {
    hash: Hash,
    nonce: String,
    bound: Vec<u8>,
    /// Both first messages, as the proof has them.
    exchange: String,
}

const MALFORMED: Failure = Failure {
    condition: Condition::MalformedRequest,
    text: None,
};

impl First {
    /// `binds`: it is a mechanism with -PLUS.
    pub(super) fn parse(
        message: &[u8],
        binds: bool,
        bindings: &[ChannelBinding],
    ) -> Result<Self, Failure> {
        let text = std::str::from_utf8(message).map_err(|_encoding| MALFORMED)?;
        let (flag, rest) = text.split_once(',').ok_or(MALFORMED)?;
        let (authzid, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        let header = format!("{flag},{authzid},");
        let data = bound_data(flag, binds, bindings)?;
        let mut fields = bare.split(',');
        // A mandatory extension (`m=`) would be here: we know none.
        let name = value(fields.next(), "n=").ok_or(MALFORMED)?;
        let nonce = value(fields.next(), "r=").ok_or(MALFORMED)?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(MALFORMED);
        }
        let authzid = match authzid {
            "" => None,
            authzid => Some(value(Some(authzid), "a=").ok_or(MALFORMED)?),
        };
        Ok(Self {
            name: unescape(name)
                .filter(|name| !name.is_empty())
                .ok_or(MALFORMED)?,
            authzid: authzid
                .map(|authzid| unescape(authzid).ok_or(MALFORMED))
                .transpose()?,
            nonce: nonce.to_owned(),
            bound: [header.as_bytes(), data].concat(),
            bare: bare.to_owned(),
        })
    }

    /// The challenge, and what its answer is compared with.
    pub(super) fn challenge(
        self,
        hash: Hash,
        credentials: &Credentials,
        nonce: &str,
        offered: &Offered<'_>,
    ) -> (Challenged, String) {
        let nonce = format!("{}{nonce}", self.nonce);
        let salt = STANDARD.encode(&credentials.salt);
        let mut text = format!("r={nonce},s={salt},i={}", credentials.iterations);
        if let Some(digest) = offered.digest(hash) {
            text.push_str(",h=");
            text.push_str(&digest);
        }
        let challenged = Challenged {
            hash,
            nonce,
            bound: self.bound,
            exchange: format!("{},{text}", self.bare),
        };
        (challenged, text)
    }
}

/// RFC 5802, 6: which binding the client uses, and whether somebody in between has hidden that we have one.
fn bound_data<'a>(
    flag: &str,
    binds: bool,
    bindings: &'a [ChannelBinding],
) -> Result<&'a [u8], Failure> {
    const STRIPPED: Failure = Failure::new(
        Condition::NotAuthorized,
        "The client was told that there is no channel binding, but there is: somebody may sit in between",
    );
    const UNKNOWN: Failure = Failure::new(
        Condition::NotAuthorized,
        "This connection has no channel binding of that type",
    );
    match (flag, binds) {
        ("n", false) => Ok(&[]),
        ("y", false) if bindings.is_empty() => Ok(&[]),
        ("y", false) => Err(STRIPPED),
        (flag, true) => {
            let name = flag.strip_prefix("p=").ok_or(MALFORMED)?;
            let known = bindings.iter().find(|binding| binding.name == name);
            known.map(|binding| binding.data.as_slice()).ok_or(UNKNOWN)
        }
        _ => Err(MALFORMED),
    }
}

impl Challenged {
    /// The server's last message, where the proof is right.
    pub(super) fn verify(
        &self,
        message: &[u8],
        credentials: &Credentials,
    ) -> Result<Vec<u8>, Failure> {
        let wrong = Failure::from(Condition::NotAuthorized);
        let text = std::str::from_utf8(message).map_err(|_encoding| MALFORMED)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let proof = STANDARD.decode(proof).map_err(|_encoding| MALFORMED)?;
        let mut fields = without_proof.split(',');
        let bound = value(fields.next(), "c=").ok_or(MALFORMED)?;
        let nonce = value(fields.next(), "r=").ok_or(MALFORMED)?;
        let bound = STANDARD.decode(bound).map_err(|_encoding| MALFORMED)?;
        if bound != self.bound || nonce != self.nonce {
            return Err(wrong);
        }
        let exchange = format!("{},{without_proof}", self.exchange);
        let keys = credentials.keys(self.hash);
        let signature = keys
            .verify(self.hash, exchange.as_bytes(), &proof)
            .ok_or(wrong)?;
        Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
    }
}

impl Offered<'_> {
    /// XEP-0474, 4.1.
    fn digest(&self, hash: Hash) -> Option<String> {
        if self.mechanisms.is_empty() {
            return None;
        }
        let sorted = |mut names: Vec<&'static str>| {
            names.sort_unstable();
            names.join("\u{1E}")
        };
        let mut text = sorted(self.mechanisms.to_vec());
        if !self.bindings.is_empty() {
            text.push('\u{1F}');
            text.push_str(&sorted(self.bindings.iter().map(|one| one.name).collect()));
        }
        Some(STANDARD.encode(hash.digest(text.as_bytes())))
    }
}

fn value<'a>(field: Option<&'a str>, name: &str) -> Option<&'a str> {
    field?.strip_prefix(name)
}

/// RFC 5802, 5.1: `=2C` and `=3D` are comma and equals sign; no other `=` may be in a name.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        if let Some(rest) = part.strip_prefix("2C") {
            plain.push(',');
            plain.push_str(rest);
        } else {
            plain.push('=');
            plain.push_str(part.strip_prefix("3D")?);
        }
    }
    (!plain.contains('\0')).then_some(plain)
}

#[cfg(test)]
mod tests;
