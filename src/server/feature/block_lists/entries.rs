//! Who is on a list: by the SHA-256 of a bare address or of a domain, whether the list says it so or in the clear.

use std::collections::HashSet;

use jid::BareJid;
use sha2::{Digest, Sha256};

pub(super) type Hash = [u8; 32];

/// Of one list: 100,000 are some five megabytes.
pub(super) const MOST: usize = 100_000;
/// The longest address there is.
const LONGEST: usize = 3_071;

pub(super) fn hash(address: &str) -> Hash {
    Sha256::digest(address.as_bytes()).into()
}

/// What an item's id stands for; `None`: nothing that is known here, such as a network of addresses.
fn entry(id: &str) -> Option<Hash> {
    if let Some(hash) = from_hex(id) {
        return Some(hash);
    }
    let jid = BareJid::new(id).ok().filter(|_| id.len() <= LONGEST)?;
    Some(hash(jid.as_str()))
}

fn from_hex(id: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if id.len() != 2 * hash.len() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(id.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        // A sign is no digit.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
pub(super) fn in_hex(hash: &Hash) -> String {
    let digits = |hex: String, byte: &u8| hex + &format!("{byte:02x}");
    hash.iter().fold(String::new(), digits)
}

#[derive(Clone, Debug, Default)]
pub(super) struct Entries(HashSet<Hash>);

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has(&self, hash: &Hash) -> bool {
        self.0.contains(hash)
    }

    /// `false`: there was no room for all of them.
    pub(super) fn add(&mut self, ids: &[&str]) -> bool {
        for hash in ids.iter().filter_map(|id| entry(id)) {
            if self.0.len() >= MOST && !self.0.contains(&hash) {
                return false;
            }
            self.0.insert(hash);
        }
        true
    }

    pub(super) fn remove(&mut self, ids: &[&str]) {
        for hash in ids.iter().filter_map(|id| entry(id)) {
            self.0.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_hash_or_what_is_hashed() {
        let spammer = hash("spammer@example.net");
        let digits = in_hex(&spammer);
        for (name, id, expected) in [
            ("a hash", digits.as_str(), Some(spammer)),
            ("in capitals", &digits.to_uppercase(), Some(spammer)),
            ("an address", "spammer@example.net", Some(spammer)),
            ("prepared", "SPAMMER@Example.NET", Some(spammer)),
            ("a domain", "example.net", Some(hash("example.net"))),
            ("nothing", "", None),
            ("a full address", "spammer@example.net/home", None),
            ("a network", "192.0.2.0/24", None),
        ] {
            assert_eq!(entry(id), expected, "{name}");
        }
        // printf %s spammer@example.net | sha256sum
        assert_eq!(
            digits,
            "6e2276b8dc2bd3ff93e08a3350b855ad1c6cae6ab13cb9138198e2890c9ae047"
        );
        assert_eq!(from_hex(&"+f".repeat(32)), None);
    }

    #[test]
    fn a_list_has_an_end() {
        let mut entries = Entries::default();
        let ids: Vec<String> = (0..=MOST).map(|number| format!("u{number}@x")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert!(!entries.add(&ids));
        assert_eq!(entries.len(), MOST);
        entries.remove(&ids[..10]);
        assert_eq!(entries.len(), MOST - 10);
    }
}
