//! PLAIN (RFC 4616): a name and a password, for clients that can do no better, over TLS only.

use super::{Condition, Failure};

#[derive(PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) authzid: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) password: &'a str,
}

/// `[authzid] NUL authcid NUL passwd`.
pub(super) fn parse(message: &[u8]) -> Result<Message<'_>, Failure> {
    let malformed = Condition::MalformedRequest;
    let text = std::str::from_utf8(message).map_err(|_encoding| malformed)?;
    let mut parts = text.split('\0');
    let (Some(authzid), Some(name), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed.into());
    };
    if name.is_empty() || password.is_empty() {
        return Err(malformed.into());
    }
    Ok(Message {
        authzid: Some(authzid).filter(|authzid| !authzid.is_empty()),
        name,
        password,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_three_parts() {
        let read = |message: &'static [u8]| {
            parse(message)
                .map(|message| (message.authzid, message.name, message.password))
                .map_err(|failure| failure.condition)
        };
        let malformed = Err(Condition::MalformedRequest);
        for (message, expected) in [
            (
                &b"\0tim\0tanstaaftanstaaf"[..],
                Ok((None, "tim", "tanstaaftanstaaf")),
            ),
            (
                b"Ursel\0Kurt\0xipj3plmq",
                Ok((Some("Ursel"), "Kurt", "xipj3plmq")),
            ),
            (b"", malformed),
            (b"\0", malformed),
            (b"\0\0", malformed),
            (b"\0a\0", malformed),
            (b"\0\0b", malformed),
            (b"\0a\0b\0", malformed),
            (b"\0a\0\xff", malformed),
        ] {
            assert_eq!(read(message), expected, "{message:?}");
        }
    }
}
