//! The arithmetic of SCRAM (RFC 5802, 3) for both sides: what a client makes of a password, and what a server keeps
//! instead of one.

use hmac::digest::{Digest, Key, KeyInit};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    /// HMAC (RFC 2104).
    pub fn sign(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => sign::<Hmac<Sha1>>(key, message),
            Self::Sha256 => sign::<Hmac<Sha256>>(key, message),
        }
    }

    /// The salted password: `Hi` of RFC 5802, 2.2, which is PBKDF2 with one block. Takes as long as `iterations` says.
    pub fn salt(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let password = prepare(password);
        match self {
            Self::Sha1 => iterate::<Hmac<Sha1>>(password.as_bytes(), salt, iterations),
            Self::Sha256 => iterate::<Hmac<Sha256>>(password.as_bytes(), salt, iterations),
        }
    }
}

/// What a server needs to check a client and to prove itself; neither logs anybody in.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub stored: Box<[u8]>,
    pub server: Box<[u8]>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("****")
    }
}

impl Keys {
    pub fn from_salted(hash: Hash, salted: &[u8]) -> Self {
        Self {
            stored: hash.digest(&hash.sign(salted, b"Client Key")).into(),
            server: hash.sign(salted, b"Server Key").into(),
        }
    }

    /// The server's signature, where the proof is right (RFC 5802, 3).
    pub fn verify(&self, hash: Hash, exchange: &[u8], proof: &[u8]) -> Option<Vec<u8>> {
        let client_key = xor(proof, &hash.sign(&self.stored, exchange));
        let right = hash.digest(&client_key).ct_eq(&self.stored);
        // A proof that is too long was cut off by the `xor`.
        (bool::from(right) && proof.len() == self.stored.len())
            .then(|| hash.sign(&self.server, exchange))
    }
}

/// What a client sends, and what it expects of the server.
pub(super) fn prove(hash: Hash, salted: &[u8], exchange: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let client_key = hash.sign(salted, b"Client Key");
    let keys = Keys::from_salted(hash, salted);
    let proof = xor(&client_key, &hash.sign(&keys.stored, exchange));
    (proof, hash.sign(&keys.server, exchange))
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter()
        .zip(right)
        .map(|(left, right)| left ^ right)
        .collect()
}

/// SASLprep (RFC 4013) as far as passwords in use need it: exotic spaces become plain ones, what cannot be seen goes,
/// compatibility forms become the common one.
pub fn prepare(password: &str) -> String {
    password
        .chars()
        .filter_map(|char| match char {
            // RFC 3454, C.1.2 has it among the spaces, and B.1 too: the spaces come first.
            '\u{200B}' => Some(' '),
            // RFC 3454, B.1.
            '\u{AD}'
            | '\u{34F}'
            | '\u{1806}'
            | '\u{180B}'..='\u{180D}'
            | '\u{200C}'
            | '\u{200D}'
            | '\u{2060}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}' => None,
            char if char.is_whitespace() && !char.is_control() => Some(' '),
            char => Some(char),
        })
        .nfkc()
        .collect()
}

fn keyed<M: Mac + KeyInit>(key: &[u8]) -> M {
    // HMAC takes keys of every length.
    <M as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_never| <M as KeyInit>::new(&Key::<M>::default()))
}

fn sign<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = keyed::<M>(key);
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn iterate<M: Mac + KeyInit + Clone>(password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
    let keyed = keyed::<M>(password);
    let mut mac = keyed.clone();
    mac.update(salt);
    mac.update(&1_u32.to_be_bytes());
    let mut block = mac.finalize().into_bytes();
    let mut sum = block.to_vec();
    for _ in 1..iterations {
        let mut mac = keyed.clone();
        mac.update(&block);
        block = mac.finalize().into_bytes();
        for (sum, byte) in sum.iter_mut().zip(&block) {
            *sum ^= byte;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_prepared() {
        // RFC 4013, 3, and what phones put in.
        for (given, expected) in [
            ("I\u{AD}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{AA}", "a"),
            ("\u{2168}", "IX"),
            ("ⅸ\u{a0}x", "ix x"),
            ("a\u{200B}b\u{FEFF}", "a b"),
        ] {
            assert_eq!(prepare(given), expected, "{given:?}");
        }
    }

    #[test]
    fn only_the_right_proof_of_the_right_length_is_taken() {
        for hash in [Hash::Sha1, Hash::Sha256] {
            let salted = hash.salt("pencil", b"salt", 4096);
            let keys = Keys::from_salted(hash, &salted);
            let (proof, signature) = prove(hash, &salted, b"exchange");
            assert_eq!(keys.verify(hash, b"exchange", &proof), Some(signature));
            assert_eq!(keys.verify(hash, b"another", &proof), None);
            let longer = [proof.as_slice(), &[0]].concat();
            let shorter = proof.get(1..).unwrap();
            for wrong in [longer.as_slice(), shorter, &[]] {
                assert_eq!(keys.verify(hash, b"exchange", wrong), None);
            }
        }
    }
}
