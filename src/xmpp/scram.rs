//! SCRAM for a client (RFC 5802, RFC 7677), with nothing of the server's taken on trust: its nonce must continue ours,
//! its iteration count is capped, and its signature must prove that it knows the password too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::core_api::BlockSizeUser;
use hmac::digest::{Digest, KeyInit};
use hmac::{Mac, SimpleHmac};
use sha1::Sha1;
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization;

/// What a hostile server may make us compute. Real ones ask for 4,096 to some 600,000.
const MOST_ITERATIONS: u32 = 5_000_000;
/// RFC 7677, 4 asks servers for 4,096; fewer make guessing a stolen proof cheap.
const LEAST_ITERATIONS: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
}

/// What the first message says about channel binding (RFC 5802, 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// We cannot.
    Unsupported,
    /// We could, and think that the server cannot: it notices if somebody made us think so.
    NotOffered,
    /// RFC 9266.
    TlsExporter(Vec<u8>),
}

impl Binding {
    const fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::TlsExporter(_) => "p=tls-exporter,,",
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::Unsupported | Self::NotOffered => &[],
            Self::TlsExporter(data) => data,
        }
    }
}

/// Why an exchange cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the server's challenge makes no sense")]
    Challenge,
    #[error("the server's nonce does not continue ours")]
    Nonce,
    #[error("the server asks for {0} iterations, which is beyond reason")]
    Iterations(u32),
    #[error("the server's signature is wrong: it does not know the password")]
    Signature,
    #[error("{0}")]
    Server(String),
}

/// The client's side before the challenge.
pub struct First {
    hash: Hash,
    binding: Binding,
    nonce: String,
    bare: String,
}

/// The client's side after it: what the server's signature must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    pub message: String,
    signature: Vec<u8>,
}

impl First {
    /// `nonce` must be random and new.
    pub fn new(hash: Hash, binding: Binding, username: &str, nonce: String) -> Self {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            binding,
            bare: format!("n={username},r={nonce}"),
            nonce,
        }
    }

    pub fn message(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare)
    }

    /// Answers the challenge. Takes as long as the server wishes, up to seconds: not for an async task.
    pub fn answer(&self, challenge: &str, password: &str) -> Result<Proof, Fault> {
        let field = |name: char| {
            challenge.split(',').find_map(|field| {
                field
                    .strip_prefix(name)
                    .and_then(|field| field.strip_prefix('='))
            })
        };
        // RFC 5802, 5.1: an unknown mandatory extension ends the exchange.
        if field('m').is_some() {
            return Err(Fault::Challenge);
        }
        let nonce = field('r').ok_or(Fault::Challenge)?;
        let own = nonce
            .strip_prefix(self.nonce.as_str())
            .ok_or(Fault::Nonce)?;
        if own.is_empty() {
            return Err(Fault::Nonce);
        }
        let salt = field('s').ok_or(Fault::Challenge)?;
        let salt = STANDARD
            .decode(salt)
            .map_err(|_encoding| Fault::Challenge)?;
        let iterations: u32 = field('i')
            .and_then(|count| count.parse().ok())
            .ok_or(Fault::Challenge)?;
        if !(LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
            return Err(Fault::Iterations(iterations));
        }
        let bound = [self.binding.header().as_bytes(), self.binding.data()].concat();
        let last = format!("c={},r={nonce}", STANDARD.encode(bound));
        let exchange = format!("{},{challenge},{last}", self.bare);
        let password = prepare(password);
        let (proof, signature) = match self.hash {
            Hash::Sha1 => prove::<Sha1>(&password, &salt, iterations, &exchange),
            Hash::Sha256 => prove::<Sha256>(&password, &salt, iterations, &exchange),
        };
        Ok(Proof {
            message: format!("{last},p={}", STANDARD.encode(proof)),
            signature,
        })
    }
}

impl Proof {
    /// Checks the server's last message (RFC 5802, 3: the client must).
    pub fn verify(&self, last: &str) -> Result<(), Fault> {
        let mut fields = last.split(',');
        let first = fields.next().unwrap_or_default();
        if let Some(error) = first.strip_prefix("e=") {
            return Err(Fault::Server(error.to_owned()));
        }
        let signature = first
            .strip_prefix("v=")
            .and_then(|signature| STANDARD.decode(signature).ok());
        if signature.as_ref() == Some(&self.signature) {
            Ok(())
        } else {
            Err(Fault::Signature)
        }
    }
}

#[cfg(test)]
impl Proof {
    /// What a server that knows the password says last.
    pub(super) fn expected(&self) -> String {
        format!("v={}", STANDARD.encode(&self.signature))
    }
}

/// SASLprep (RFC 4013) as far as passwords in use need it: exotic spaces become plain ones, compatibility forms the
/// common one.
fn prepare(password: &str) -> String {
    password
        .chars()
        .map(|char| {
            if char.is_whitespace() && !char.is_control() {
                ' '
            } else {
                char
            }
        })
        .nfkc()
        .collect()
}

/// RFC 5802, 3: the client's proof and the server's signature.
fn prove<D: Digest + BlockSizeUser + Clone>(
    password: &str,
    salt: &[u8],
    iterations: u32,
    exchange: &str,
) -> (Vec<u8>, Vec<u8>) {
    let salted = derive::<D>(password.as_bytes(), salt, iterations);
    let client_key = sign::<D>(&salted, b"Client Key");
    let stored_key = D::digest(&client_key);
    let client_signature = sign::<D>(&stored_key, exchange.as_bytes());
    let server_key = sign::<D>(&salted, b"Server Key");
    let proof = client_key
        .iter()
        .zip(&client_signature)
        .map(|(key, signature)| key ^ signature)
        .collect();
    (proof, sign::<D>(&server_key, exchange.as_bytes()))
}

fn keyed<D: Digest + BlockSizeUser + Clone>(key: &[u8]) -> SimpleHmac<D> {
    <SimpleHmac<D> as KeyInit>::new_from_slice(key).unwrap_or_else(|_never| {
        <SimpleHmac<D> as KeyInit>::new(&hmac::digest::Key::<SimpleHmac<D>>::default())
    })
}

fn sign<D: Digest + BlockSizeUser + Clone>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = keyed::<D>(key);
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// RFC 5802, 2.2: `Hi`, which is PBKDF2 with one block.
fn derive<D: Digest + BlockSizeUser + Clone>(
    password: &[u8],
    salt: &[u8],
    iterations: u32,
) -> Vec<u8> {
    let keyed = keyed::<D>(password);
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

    /// RFC 5802, 5 and RFC 7677, 3.
    #[test]
    fn the_examples_of_the_standards_come_out() {
        struct Case {
            name: &'static str,
            hash: Hash,
            nonce: &'static str,
            challenge: &'static str,
            answer: &'static str,
            last: &'static str,
        }
        let cases = [
            Case {
                name: "SHA-1",
                hash: Hash::Sha1,
                nonce: "fyko+d2lbbFgONRv9qkxdawL",
                challenge: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                answer: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                last: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            },
            Case {
                name: "SHA-256",
                hash: Hash::Sha256,
                nonce: "rOprNGfwEbeRWgbNEkqO",
                challenge: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                answer: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                last: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            },
        ];
        for case in cases {
            let first = First::new(
                case.hash,
                Binding::Unsupported,
                "user",
                case.nonce.to_owned(),
            );
            assert_eq!(
                first.message(),
                format!("n,,n=user,r={}", case.nonce),
                "{}",
                case.name
            );
            let proof = first.answer(case.challenge, "pencil").unwrap();
            assert_eq!(proof.message, case.answer, "{}", case.name);
            assert_eq!(proof.verify(case.last), Ok(()), "{}", case.name);
            for wrong in ["v=AAAA", "", "v=", "x"] {
                assert_eq!(proof.verify(wrong), Err(Fault::Signature), "{}", case.name);
            }
            let refused = Err(Fault::Server("invalid-proof".to_owned()));
            assert_eq!(proof.verify("e=invalid-proof"), refused, "{}", case.name);
        }
    }

    #[test]
    fn a_hostile_challenge_is_refused_before_anything_is_computed() {
        let first = First::new(Hash::Sha1, Binding::NotOffered, "user", "abc".to_owned());
        for (challenge, expected) in [
            (
                "r=abcdef,s=QSXC,i=2147483648",
                Fault::Iterations(2_147_483_648),
            ),
            ("r=abcdef,s=QSXC,i=1", Fault::Iterations(1)),
            ("r=abcdef,s=QSXC,i=99999999999", Fault::Challenge),
            ("r=abc,s=QSXC,i=4096", Fault::Nonce),
            ("r=xyz,s=QSXC,i=4096", Fault::Nonce),
            ("r=abcdef,s=?,i=4096", Fault::Challenge),
            ("m=x,r=abcdef,s=QSXC,i=4096", Fault::Challenge),
            ("", Fault::Challenge),
        ] {
            assert_eq!(first.answer(challenge, "x"), Err(expected), "{challenge}");
        }
    }

    #[test]
    fn the_header_says_what_is_bound_and_names_are_escaped() {
        for (binding, expected) in [
            (Binding::Unsupported, "n,,n=a=2Cb=3Dc,r=1"),
            (Binding::NotOffered, "y,,n=a=2Cb=3Dc,r=1"),
            (
                Binding::TlsExporter(vec![7]),
                "p=tls-exporter,,n=a=2Cb=3Dc,r=1",
            ),
        ] {
            let first = First::new(Hash::Sha1, binding, "a,b=c", "1".to_owned());
            assert_eq!(first.message(), expected);
        }
        assert_eq!(prepare("ⅸ\u{a0}x"), "ix x");
    }
}
