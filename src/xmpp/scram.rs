//! SCRAM for a client (RFC 5802, RFC 7677; what a server shares of it is in `keys.rs`), with nothing of the server's taken on trust: its nonce must continue ours,
//! its iteration count is capped, and its signature must prove that it knows the password too.

mod keys;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::keys::prove;
pub use self::keys::{Hash, Keys, prepare};

/// What a hostile server may make us compute. Real ones ask for 4,096 to some 600,000.
const MOST_ITERATIONS: u32 = 5_000_000;
/// RFC 7677, 4 asks servers for 4,096; fewer make guessing a stolen proof cheap.
const LEAST_ITERATIONS: u32 = 1_000;

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
        let salted = self.hash.salt(password, &salt, iterations);
        let (proof, signature) = prove(self.hash, &salted, exchange.as_bytes());
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
    }
}
