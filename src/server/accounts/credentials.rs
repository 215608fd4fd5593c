//! What is kept instead of a password: SCRAM keys for both hashes (RFC 5802, 3), from which nobody can log in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::xmpp::scram::{Hash, Keys};

/// RFC 7677, 4 asks for 4,096 at least. More makes a stolen database dearer to guess, but each client pays for it at
/// each login, phones and browsers too: 10,000 is what other servers of today ask, so that clients are known to bear it.
pub const ITERATIONS: u32 = 10_000;

/// Bytes of a salt.
const SALT: usize = 16;

/// What an account logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub salt: Box<[u8]>,
    pub iterations: u32,
    pub sha1: Keys,
    pub sha256: Keys,
}

impl Credentials {
    /// Computes for milliseconds: not for an async task.
    pub fn new(password: &SecretString) -> Result<Self, getrandom::Error> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt)?;
        let keys = |hash: Hash| {
            let salted = hash.salt(password.expose_secret(), &salt, ITERATIONS);
            Keys::from_salted(hash, &salted)
        };
        Ok(Self {
            sha1: keys(Hash::Sha1),
            sha256: keys(Hash::Sha256),
            salt: salt.into(),
            iterations: ITERATIONS,
        })
    }

    /// Those of an account that does not exist: always the same for a name, as they would be if it did. Nobody knows a
    /// password for them.
    pub(super) fn decoy(secret: &[u8], name: &str) -> Self {
        let mut salt = Hash::Sha256.sign(secret, name.as_bytes());
        salt.truncate(SALT);
        let keys = |hash: Hash| Keys::from_salted(hash, &hash.sign(secret, &salt));
        Self {
            sha1: keys(Hash::Sha1),
            sha256: keys(Hash::Sha256),
            salt: salt.into(),
            iterations: ITERATIONS,
        }
    }

    pub fn keys(&self, hash: Hash) -> &Keys {
        match hash {
            Hash::Sha1 => &self.sha1,
            Hash::Sha256 => &self.sha256,
        }
    }

    /// Whether this is the password. Computes for milliseconds: not for an async task.
    pub fn is(&self, password: &str) -> bool {
        use subtle::ConstantTimeEq;

        let salted = Hash::Sha256.salt(password, &self.salt, self.iterations);
        let keys = Keys::from_salted(Hash::Sha256, &salted);
        keys.stored.ct_eq(&self.sha256.stored).into()
    }
}

/// An account as it is stored: one that was deleted keeps its name, so that nobody else gets it and the mail of its
/// friends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Account {
        /// Seconds since 1970, as all times here.
        created: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disabled: Option<i64>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        admin: bool,
        salt: String,
        iterations: u32,
        sha1: [String; 2],
        sha256: [String; 2],
    },
    Deleted {
        at: i64,
    },
}

impl Record {
    pub(super) fn new(
        created: i64,
        disabled: Option<i64>,
        admin: bool,
        credentials: &Credentials,
    ) -> Self {
        let keys = |keys: &Keys| [STANDARD.encode(&keys.stored), STANDARD.encode(&keys.server)];
        Self::Account {
            created,
            disabled,
            admin,
            salt: STANDARD.encode(&credentials.salt),
            iterations: credentials.iterations,
            sha1: keys(&credentials.sha1),
            sha256: keys(&credentials.sha256),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers have a form in JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The keys of a record; `None` where the text is damaged.
pub(super) fn parse(
    salt: &str,
    iterations: u32,
    sha1: &[String; 2],
    sha256: &[String; 2],
) -> Option<Credentials> {
    let bytes = |text: &str| STANDARD.decode(text).ok().map(Vec::into_boxed_slice);
    let keys = |[stored, server]: &[String; 2]| {
        Some(Keys {
            stored: bytes(stored)?,
            server: bytes(server)?,
        })
    };
    Some(Credentials {
        salt: bytes(salt)?,
        iterations,
        sha1: keys(sha1)?,
        sha256: keys(sha256)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_is_no_password() {
        let credentials = Credentials::new(&"pencil".into()).unwrap();
        assert!(credentials.is("pencil"));
        assert!(!credentials.is("Pencil"));
        let bytes = Record::new(7, None, false, &credentials).to_bytes();
        assert!(!String::from_utf8_lossy(&bytes).contains("pencil"));
        let Record::Account {
            created: 7,
            disabled: None,
            admin: false,
            salt,
            iterations,
            sha1,
            sha256,
        } = serde_json::from_slice(&bytes).unwrap()
        else {
            panic!("another record");
        };
        let read = parse(&salt, iterations, &sha1, &sha256).unwrap();
        assert_eq!(read, credentials);
        assert_eq!(format!("{:?}", read.sha1), "****");
        assert_eq!(parse("?", 1, &sha1, &sha256), None);
    }

    #[test]
    fn a_decoy_is_the_same_each_time_and_another_for_each_name() {
        let decoy = |name| Credentials::decoy(b"secret", name);
        assert_eq!(decoy("a"), decoy("a"));
        assert_ne!(decoy("a").salt, decoy("b").salt);
        assert_ne!(decoy("a").salt, Credentials::decoy(b"other", "a").salt);
        assert_eq!(decoy("a").salt.len(), SALT);
        assert!(!decoy("a").is(""));
    }
}
