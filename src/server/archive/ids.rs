//! What the world sees of a position in an archive. XEP-0359, 6: nobody may learn anything from an id, such as how much
//! is said on this server; so it is the position under a cipher whose key stays in the store. Half of the block is
//! nothing, which only an id of ours decrypts to.

use aes_gcm::aes::Aes128;
use aes_gcm::aes::cipher::generic_array::GenericArray;
use aes_gcm::aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(super) const KEY: usize = 16;

pub(super) struct Cipher(Aes128);

impl Cipher {
    pub(super) fn new(key: &[u8; KEY]) -> Self {
        Self(Aes128::new(GenericArray::from_slice(key)))
    }

    pub(super) fn encode(&self, position: u64) -> String {
        let mut block = u128::from(position).to_be_bytes().into();
        self.0.encrypt_block(&mut block);
        URL_SAFE_NO_PAD.encode(block)
    }

    /// `None`: no id of ours.
    pub(super) fn decode(&self, id: &str) -> Option<u64> {
        let bytes: [u8; 16] = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
        let mut block = bytes.into();
        self.0.decrypt_block(&mut block);
        u64::try_from(u128::from_be_bytes(block.into())).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_by_the_key_that_made_it_alone() {
        let (ours, theirs) = (Cipher::new(&[1; KEY]), Cipher::new(&[2; KEY]));
        for position in [0, 1, 1_700_000_000_000_000, u64::MAX] {
            let id = ours.encode(position);
            assert_eq!(id.len(), 22);
            assert_eq!(ours.decode(&id), Some(position));
            assert_eq!(theirs.decode(&id), None);
        }
    }

    #[test]
    fn what_is_no_id_is_none() {
        let cipher = Cipher::new(&[1; KEY]);
        for id in ["", "1", "AAAAAAAAAAAAAAAAAAAAAA", "'; --", "\u{10FFFF}"] {
            assert_eq!(cipher.decode(id), None, "{id}");
        }
    }

    #[test]
    fn neighbours_have_nothing_in_common() {
        let cipher = Cipher::new(&[1; KEY]);
        let (one, two) = (cipher.encode(1_000), cipher.encode(1_001));
        let same = one.bytes().zip(two.bytes()).filter(|(a, b)| a == b);
        assert!(same.count() < 6, "{one} {two}");
    }
}
