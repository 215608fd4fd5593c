//! What the other side says, put together: texts that grow by corrections (XEP-0308), and when an answer is complete.

use std::time::Duration;

use minidom::Element;
use xmpp_parsers::message::{Message, MessageType};

use crate::xmpp::element::find;
use crate::xmpp::ns;

/// A text without a chat state, as a command's: more may follow at once.
pub(super) const PAUSE: Duration = Duration::from_millis(400);

/// What a message means for the conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// A new text, with its number.
    New(usize, String),
    /// The text of this number is now this one.
    Corrected(usize, String),
    /// The other side is writing.
    Writing,
    /// The server or the other side has refused what was written.
    Refused(String),
    Nothing,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing has come yet, or the other side is still writing.
    Open,
    /// Complete, unless something follows within [`PAUSE`].
    Perhaps,
    Complete,
}

#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Ids and texts, in the order of their first appearance.
    texts: Vec<(Option<String>, String)>,
    composing: bool,
    active: bool,
}

impl Answer {
    pub(super) fn take(&mut self, message: &Message) -> Update {
        if message.type_ == MessageType::Error {
            self.active = true;
            self.composing = false;
            return Update::Refused(reason(message));
        }
        for (state, composing) in [("composing", true), ("active", false), ("paused", false)] {
            if find(&message.payloads, state, ns::CHATSTATES).is_some() {
                self.composing = composing;
                self.active = state == "active";
            }
        }
        let Some((_, body)) = message.get_best_body_cloned(vec![]) else {
            return if self.composing {
                Update::Writing
            } else {
                Update::Nothing
            };
        };
        let replaces = find(&message.payloads, "replace", ns::MESSAGE_CORRECT)
            .and_then(|replace| replace.attr("id"))
            .map(str::to_owned);
        let known = replaces.and_then(|id| {
            let mut texts = self.texts.iter();
            texts.position(|(of, _)| of.as_deref() == Some(id.as_str()))
        });
        if let Some(number) = known
            && let Some((_, text)) = self.texts.get_mut(number)
        {
            text.clone_from(&body);
            Update::Corrected(number, body)
        } else {
            let id = message.id.as_ref().map(|id| id.0.clone());
            self.texts.push((id, body.clone()));
            Update::New(self.texts.len().saturating_sub(1), body)
        }
    }

    pub(super) fn progress(&self) -> Progress {
        match (
            self.texts.is_empty() && !self.active,
            self.composing,
            self.active,
        ) {
            (true, ..) | (_, true, _) => Progress::Open,
            (false, false, true) => Progress::Complete,
            (false, false, false) => Progress::Perhaps,
        }
    }

    /// The whole answer.
    pub(super) fn text(&self) -> String {
        let texts: Vec<&str> = self.texts.iter().map(|(_, text)| text.as_str()).collect();
        texts.join("\n")
    }
}

/// An error in words.
fn reason(message: &Message) -> String {
    let error = find(&message.payloads, "error", ns::JABBER_CLIENT);
    let text = error.and_then(|error| error.get_child("text", ns::XMPP_STANZAS));
    let condition = error.and_then(|error| {
        let mut children = error.children();
        children.find(|child| child.has_ns(ns::XMPP_STANZAS) && child.name() != "text")
    });
    match (text.map(Element::text), condition) {
        (Some(text), _) if !text.is_empty() => text,
        (_, Some(condition)) => condition.name().replace('-', " "),
        _ => "refused".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(xml: &str) -> Message {
        let element: Element =
            format!("<message xmlns='jabber:client' type='chat' {xml}</message>")
                .parse()
                .unwrap();
        Message::try_from(element).unwrap()
    }

    const COMPOSING: &str = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
    const ACTIVE: &str = "<active xmlns='http://jabber.org/protocol/chatstates'/>";

    #[test]
    fn a_growing_text_is_one_and_complete_when_the_writer_is_active_again() {
        let mut answer = Answer::default();
        assert_eq!(
            answer.take(&message(&format!("id='0'>{COMPOSING}"))),
            Update::Writing
        );
        assert_eq!(answer.progress(), Progress::Open);
        let first = message(&format!("id='1'><body>Good</body>{COMPOSING}"));
        assert_eq!(answer.take(&first), Update::New(0, "Good".into()));
        let replace = "<replace id='1' xmlns='urn:xmpp:message-correct:0'/>";
        let second = message(&format!("id='2'><body>Good day</body>{replace}{ACTIVE}"));
        assert_eq!(
            answer.take(&second),
            Update::Corrected(0, "Good day".into())
        );
        assert_eq!(answer.progress(), Progress::Complete);
        assert_eq!(answer.text(), "Good day");
    }

    #[test]
    fn a_text_without_a_state_may_be_followed() {
        let mut answer = Answer::default();
        answer.take(&message("id='1'><body>one</body>"));
        assert_eq!(answer.progress(), Progress::Perhaps);
        let foreign = "<replace id='9' xmlns='urn:xmpp:message-correct:0'/>";
        let update = answer.take(&message(&format!("id='2'><body>two</body>{foreign}")));
        assert_eq!(update, Update::New(1, "two".into()));
        assert_eq!(answer.text(), "one\ntwo");
    }

    #[test]
    fn a_refusal_ends_the_wait_and_says_why() {
        let mut answer = Answer::default();
        let error = "id='1'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        let mut refused = message(error);
        refused.type_ = MessageType::Error;
        assert_eq!(
            answer.take(&refused),
            Update::Refused("service unavailable".into())
        );
        assert_eq!(answer.progress(), Progress::Complete);
    }
}
