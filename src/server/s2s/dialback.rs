//! XEP-0220: Server Dialback, and its keys as XEP-0185 makes them. A domain shows that a stream is its own by knowing a key
//! that only the server behind the domain's DNS can confirm.

use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use minidom::Element;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Pair;
use crate::server::StanzaError;
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// 256 bits of the operating system, anew with each start: a key is worth nothing after its stream.
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex(&Sha256::digest(bytes))))
    }

    /// XEP-0185, 2. The fields are apart by a space, which none of them has.
    pub(super) fn key(&self, receiving: &str, originating: &str, stream: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else {
            // HMAC takes keys of every length.
            return String::new();
        };
        mac.update(format!("{receiving} {originating} {stream}").as_bytes());
        hex(&mac.finalize().into_bytes())
    }

    /// Whether a key is ours.
    pub(super) fn knows(
        &self,
        receiving: &str,
        originating: &str,
        stream: &str,
        key: &str,
    ) -> bool {
        let expected = self.key(receiving, originating, stream);
        !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(key.as_bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").ok(); // A string takes everything.
        hex
    })
}

/// What is said of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Valid,
    Invalid,
    /// It could not be found out (XEP-0220, 2.4).
    Error(StanzaError),
}

/// `<db:result/>` with a key: the initiating server asks to be believed.
pub(super) fn request(pair: &Pair, key: &str) -> Element {
    let addresses = [("from", pair.local.as_str()), ("to", &pair.remote)];
    let mut result = element("result", ns::DIALBACK, &addresses);
    result.append_text(key);
    result
}

/// `<db:verify/>` with a key: the receiving server asks the authoritative one.
pub(super) fn verify(pair: &Pair, stream: &str, key: &str) -> Element {
    let attributes = [
        ("from", pair.local.as_str()),
        ("to", &pair.remote),
        ("id", stream),
    ];
    let mut verify = element("verify", ns::DIALBACK, &attributes);
    verify.append_text(key);
    verify
}

/// The answer to either: `name` is `result` or `verify`, `pair` as we see it.
pub(super) fn answer(name: &str, pair: &Pair, id: Option<&str>, verdict: &Verdict) -> Element {
    let kind = match verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
        Verdict::Error(_) => "error",
    };
    let mut attributes = vec![
        ("from", pair.local.as_str()),
        ("to", &pair.remote),
        ("type", kind),
    ];
    attributes.extend(id.map(|id| ("id", id)));
    let mut answer = element(name, ns::DIALBACK, &attributes);
    if let Verdict::Error(error) = verdict {
        answer.append_child(inside(error));
    }
    answer
}

/// The `<error/>` in the namespace of its parent's stream, as the examples of XEP-0220 have it.
fn inside(error: &StanzaError) -> Element {
    let kind = match error.kind {
        crate::server::ErrorType::Wait => "wait",
        _ => "cancel",
    };
    let mut inside = element("error", ns::JABBER_CLIENT, &[("type", kind)]);
    inside.append_child(error.condition.clone().into());
    if let Some(text) = &error.text {
        inside.append_child(text_element("text", ns::XMPP_STANZAS, text));
    }
    inside
}

/// Reads an answer that was waited for: `None`, it is none, or to another question.
pub(super) fn read_answer(
    answer: &Element,
    name: &str,
    pair: &Pair,
    id: Option<&str>,
) -> Option<Verdict> {
    let is_ours = answer.is(name, ns::DIALBACK)
        && answer.attr("from").and_then(super::domain).as_ref() == Some(&pair.remote)
        && answer.attr("to").and_then(super::domain).as_ref() == Some(&pair.local)
        && (id.is_none() || answer.attr("id") == id);
    if !is_ours {
        return None;
    }
    match answer.attr("type")? {
        "valid" => Some(Verdict::Valid),
        "invalid" => Some(Verdict::Invalid),
        _ => Some(Verdict::Error(read_error(answer))),
    }
}

/// What the other server said, without its markup.
fn read_error(answer: &Element) -> StanzaError {
    let error = answer.children().find(|child| child.name() == "error");
    let told = error.and_then(|error| {
        let text = error.get_child("text", ns::XMPP_STANZAS).map(Element::text);
        let mut conditions = error.children().filter(|child| child.name() != "text");
        text.filter(|text| !text.is_empty())
            .or_else(|| conditions.next().map(|child| child.name().to_owned()))
    });
    let told: String = told.unwrap_or_default().chars().take(200).collect();
    StanzaError::remote_server_timeout().text(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_that_of_the_standard() {
        // XEP-0185, 3.
        let secret = Secret(hex(&Sha256::digest(b"s3cr3tf0rd14lb4ck")));
        let key = secret.key("xmpp.example.com", "example.org", "D60000229F");
        assert_eq!(
            key,
            "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643"
        );
        assert!(secret.knows("xmpp.example.com", "example.org", "D60000229F", &key));
        for (receiving, originating, stream) in [
            ("example.com", "example.org", "D60000229F"),
            ("xmpp.example.com", "example.net", "D60000229F"),
            ("xmpp.example.com", "example.org", "D60000229E"),
            ("xmpp.example.com example.org", "", "D60000229F"),
        ] {
            assert!(!secret.knows(receiving, originating, stream, &key));
        }
        assert!(!secret.knows("xmpp.example.com", "example.org", "D60000229F", ""));
    }

    #[test]
    fn secrets_differ() {
        let keys = [(); 2].map(|()| Secret::generate().unwrap().key("a", "b", "c"));
        assert_ne!(keys[0], keys[1]);
        assert_eq!(keys[0].len(), 64);
    }

    #[test]
    fn only_the_answer_to_ones_own_question_counts() {
        let pair = Pair::new("example.org", "xmpp.example.com");
        let there = Pair::new("xmpp.example.com", "example.org");
        let valid = answer("verify", &there, Some("1"), &Verdict::Valid);
        assert_eq!(
            read_answer(&valid, "verify", &pair, Some("1")),
            Some(Verdict::Valid)
        );
        assert_eq!(read_answer(&valid, "verify", &pair, Some("2")), None);
        assert_eq!(read_answer(&valid, "result", &pair, None), None);
        let other = Pair::new("example.org", "example.net");
        assert_eq!(read_answer(&valid, "verify", &other, Some("1")), None);
        let question = verify(&there, "1", "key");
        assert_eq!(read_answer(&question, "verify", &pair, Some("1")), None);
    }

    #[test]
    fn an_error_says_why() {
        let (pair, there) = (
            Pair::new("a.example", "b.example"),
            Pair::new("b.example", "a.example"),
        );
        let error = StanzaError::remote_server_not_found().text("no <such> host");
        let told = answer("result", &there, None, &Verdict::Error(error));
        let Some(Verdict::Error(read)) = read_answer(&told, "result", &pair, None) else {
            panic!("no error");
        };
        assert_eq!(read.text.as_deref(), Some("no <such> host"));
    }
}
