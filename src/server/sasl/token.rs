//! The Hashed Token mechanisms of FAST (XEP-0484, draft-schmaus-kitten-sasl-ht): one message each way. What the proof
//! is compared with is in `accounts/tokens.rs`.

use super::{Condition, Failure};

/// `authcid NUL hashed-token`.
pub(super) fn parse(message: &[u8]) -> Result<(&str, &[u8]), Failure> {
    let malformed = Condition::MalformedRequest;
    let mut parts = message.splitn(2, |byte| *byte == 0);
    let (Some(name), Some(proof)) = (parts.next(), parts.next()) else {
        return Err(malformed.into());
    };
    let name = std::str::from_utf8(name).map_err(|_encoding| malformed)?;
    if name.is_empty() || proof.is_empty() {
        return Err(malformed.into());
    }
    Ok((name, proof))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_name_and_a_proof() {
        assert_eq!(parse(b"a\0\0b"), Ok(("a", &b"\0b"[..])));
        for wrong in [&b""[..], b"a", b"a\0", b"\0b", b"\xff\0b"] {
            assert_eq!(
                parse(wrong),
                Err(Condition::MalformedRequest.into()),
                "{wrong:?}"
            );
        }
    }
}
