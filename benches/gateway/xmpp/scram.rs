//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's half, for one password. It looks at the proof, so that a login that
//! works here is a login.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// What Prosody 0.12 asks of its clients; a part of the time to come online.
const ITERATIONS: u32 = 10_000;
const SALT: &[u8] = b"a salt that is 24 bytes.";

pub(super) struct Scram {
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

/// A login under way.
pub(super) struct Exchange {
    /// In base64.
    pub(super) challenge: String,
    /// RFC 5802, 3: without the client's last part.
    messages: String,
}

impl Scram {
    pub(super) fn new(password: &str) -> Self {
        let salted = salt(password.as_bytes());
        Self {
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    pub(super) fn begin(first: &str) -> Result<Exchange> {
        let first = decode(first)?;
        // "n,," or "y,,", then the bare message.
        let bare = first.splitn(3, ',').nth(2).context("No first message")?;
        let nonce = field(bare, "r=")?;
        let challenge = format!("r={nonce}bench,s={},i={ITERATIONS}", STANDARD.encode(SALT));
        Ok(Exchange {
            messages: format!("{bare},{challenge}"),
            challenge: STANDARD.encode(challenge),
        })
    }

    /// The server's signature, in base64.
    pub(super) fn end(&self, exchange: &Exchange, last: &str) -> Result<String> {
        let last = decode(last)?;
        let (without_proof, proof) = last.rsplit_once(",p=").context("No proof")?;
        let messages = format!("{},{without_proof}", exchange.messages);
        let signature = hmac(&self.stored_key, messages.as_bytes());
        let client_key: Vec<u8> = STANDARD
            .decode(proof)?
            .iter()
            .zip(signature)
            .map(|(proof, signature)| proof ^ signature)
            .collect();
        ensure!(
            Sha256::digest(client_key).as_slice() == self.stored_key,
            "A wrong password"
        );
        let signature = hmac(&self.server_key, messages.as_bytes());
        Ok(STANDARD.encode(format!("v={}", STANDARD.encode(signature))))
    }
}

fn decode(text: &str) -> Result<String> {
    Ok(String::from_utf8(STANDARD.decode(text.trim())?)?)
}

fn field<'a>(message: &'a str, name: &str) -> Result<&'a str> {
    message
        .split(',')
        .find_map(|field| field.strip_prefix(name))
        .with_context(|| format!("No {name}"))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of every length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// PBKDF2 with one block (RFC 5802, 2.2: Hi).
fn salt(password: &[u8]) -> [u8; 32] {
    let mut round = hmac(password, &[SALT, &[0, 0, 0, 1]].concat());
    let mut result = round;
    for _ in 1..ITERATIONS {
        round = hmac(password, &round);
        for (result, round) in result.iter_mut().zip(round) {
            *result ^= round;
        }
    }
    result
}
