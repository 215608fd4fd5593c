//! XEP-0454: OMEMO Media sharing. An `aesgcm:` link names an https resource and, in its fragment, the nonce and the key.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::aes::Aes256;
use aes_gcm::{Aes256Gcm, AesGcm};
use bytes::Bytes;

const KEY: usize = 32;

pub(super) struct Secret {
    url: String,
    nonce: Vec<u8>,
    key: Vec<u8>,
}

impl Secret {
    /// `None` for other links, and for fragments of another length: then the link is one that nobody fetches.
    pub(super) fn from_link(link: &str) -> Option<Self> {
        let (resource, fragment) = link.strip_prefix("aesgcm://")?.split_once('#')?;
        let mut nonce = unhex(fragment)?;
        // XEP-0454, 3: a nonce of 12 bytes; older clients took 16.
        let length = nonce.len().checked_sub(KEY)?;
        let key = matches!(length, 12 | 16).then(|| nonce.split_off(length))?;
        Some(Self {
            url: format!("https://{resource}"),
            nonce,
            key,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// `None` where the content is not what was encrypted.
    pub(super) fn decrypt(&self, bytes: &[u8]) -> Option<Bytes> {
        let plain = if self.nonce.len() == 12 {
            let nonce = GenericArray::<u8, U12>::from_slice(&self.nonce);
            Aes256Gcm::new_from_slice(&self.key)
                .ok()?
                .decrypt(nonce, bytes)
        } else {
            let nonce = GenericArray::<u8, U16>::from_slice(&self.nonce);
            let cipher = AesGcm::<Aes256, U16>::new_from_slice(&self.key).ok()?;
            cipher.decrypt(nonce, bytes)
        };
        plain.ok().map(Bytes::from)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|start| u8::from_str_radix(text.get(start..start + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encrypted_is_read_and_nothing_else() {
        for length in [12, 16] {
            let fragment = format!("{}{}", "0a".repeat(length), "17".repeat(KEY));
            let secret =
                Secret::from_link(&format!("aesgcm://x.org:5443/a/b.png#{fragment}")).unwrap();
            assert_eq!(secret.url(), "https://x.org:5443/a/b.png");
            let key = [0x17; KEY];
            let nonce = vec![0x0a; length];
            let mut encrypted = if length == 12 {
                let cipher = Aes256Gcm::new_from_slice(&key).unwrap();
                cipher
                    .encrypt(GenericArray::from_slice(&nonce), &b"hello"[..])
                    .unwrap()
            } else {
                let cipher = AesGcm::<Aes256, U16>::new_from_slice(&key).unwrap();
                cipher
                    .encrypt(GenericArray::from_slice(&nonce), &b"hello"[..])
                    .unwrap()
            };
            assert_eq!(secret.decrypt(&encrypted).unwrap(), "hello");
            encrypted[0] ^= 1;
            assert_eq!(secret.decrypt(&encrypted), None);
            assert_eq!(secret.decrypt(b"short"), None);
        }
    }

    #[test]
    fn links_without_a_proper_secret_are_not_taken() {
        for link in [
            "https://x.org/a#00",
            "aesgcm://x.org/a",
            "aesgcm://x.org/a#",
            "aesgcm://x.org/a#0",
            &format!("aesgcm://x.org/a#{}", "00".repeat(45)),
            &format!("aesgcm://x.org/a#{}", "zz".repeat(44)),
            &format!("aesgcm://x.org/a#{}", "é".repeat(44)),
        ] {
            assert!(Secret::from_link(link).is_none(), "{link}");
        }
    }
}
