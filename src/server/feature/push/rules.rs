//! Which messages a phone is woken for: those that say something new to the person.

use jid::{BareJid, Jid};
use minidom::Element;

use crate::config::PushSummary;
use crate::xmpp::ns;

/// Of a body, in characters: a notification shows no more.
const LONGEST: usize = 300;

/// What an app server may be told of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// The person or the room.
    pub conversation: BareJid,
    /// With the nick, in a room.
    pub sender: Jid,
    /// `None`: nobody here can read it, or it is no text.
    pub body: Option<String>,
}

/// What says again, changes or takes back what was said. Answers of models grow by corrections: they would wake a phone a
/// dozen times for one message.
const FOLLOW_UPS: &[(&str, &str)] = &[
    ("replace", ns::MESSAGE_CORRECT),
    ("reactions", ns::REACTIONS),
    ("retract", ns::RETRACT),
    ("retract", ns::RETRACT_0),
    ("apply-to", ns::FASTEN),
];

/// What matters without a text that can be read here.
const CONTENT: &[(&str, &str)] = &[
    ("encrypted", ns::LEGACY_OMEMO),
    ("encrypted", ns::OMEMO),
    ("openpgp", ns::OX),
    ("propose", ns::JINGLE_MESSAGE),
    ("invite", ns::CALL_INVITES),
    ("x", ns::CONFERENCE),
];

/// Why a message wakes nobody, or what may be told of it.
pub(super) fn summary(message: &Element) -> Result<Summary, &'static str> {
    if matches!(message.attr("type"), Some("error" | "headline")) {
        return Err("it is no message of a person");
    }
    let has = |(name, namespace): &(&str, &str)| message.has_child(*name, *namespace);
    if FOLLOW_UPS.iter().any(has) {
        return Err("it changes what was said");
    }
    let invites = message
        .get_child("x", ns::MUC_USER)
        .is_some_and(|x| x.has_child("invite", ns::MUC_USER));
    let is_content = invites || CONTENT.iter().any(has);
    let body = message.get_child("body", ns::JABBER_CLIENT);
    let body = body
        .map(Element::text)
        .filter(|body| !body.trim().is_empty());
    if body.is_none() && !is_content {
        return Err("it says nothing");
    }
    let sender = message.attr("from").and_then(|from| Jid::new(from).ok());
    let sender = sender.ok_or("nobody has sent it")?;
    Ok(Summary {
        conversation: sender.to_bare(),
        sender,
        // Beside what is encrypted stands a text that says so.
        body: body
            .filter(|_| !is_content)
            .map(|body| body.chars().take(LONGEST).collect()),
    })
}

impl Summary {
    pub(super) fn sender(&self, told: PushSummary) -> Option<&str> {
        (told >= PushSummary::Sender).then_some(self.sender.as_str())
    }

    /// Something always: app servers tell by it that there is something to show, as those of Prosody's and ejabberd's users
    /// expect.
    pub(super) fn body(&self, told: PushSummary) -> &str {
        match &self.body {
            Some(body) if told == PushSummary::Body => body,
            _ => "New message",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &str) -> Result<Summary, &'static str> {
        let xml =
            format!("<message xmlns='jabber:client' from='romeo@example.org/x'{content}</message>");
        summary(&xml.parse().unwrap())
    }

    #[test]
    fn what_says_something_new_wakes_and_nothing_else_does() {
        for (name, content, body) in [
            ("a text", " type='chat'><body>Hi</body>", Ok(Some("Hi"))),
            ("a normal message", "><body>Hi</body>", Ok(Some("Hi"))),
            (
                "in a room",
                " type='groupchat'><body>Hi</body>",
                Ok(Some("Hi")),
            ),
            (
                "encrypted",
                "><encrypted xmlns='eu.siacs.conversations.axolotl'/><body>This is encrypted</body>",
                Ok(None),
            ),
            (
                "a call",
                "><propose xmlns='urn:xmpp:jingle-message:0' id='1'/>",
                Ok(None),
            ),
            (
                "an invitation",
                "><x xmlns='jabber:x:conference' jid='a@b'/>",
                Ok(None),
            ),
            (
                "an invitation by the room",
                "><x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>",
                Ok(None),
            ),
            (
                "a correction",
                "><body>Hi</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>",
                Err("it changes what was said"),
            ),
            (
                "a retraction",
                "><body>Taken back</body><retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
                Err("it changes what was said"),
            ),
            (
                "a reaction",
                "><body>+1</body><reactions xmlns='urn:xmpp:reactions:0' id='1'/>",
                Err("it changes what was said"),
            ),
            (
                "typing",
                "><composing xmlns='http://jabber.org/protocol/chatstates'/>",
                Err("it says nothing"),
            ),
            (
                "a marker",
                "><displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
                Err("it says nothing"),
            ),
            (
                "a receipt",
                "><received xmlns='urn:xmpp:receipts' id='1'/>",
                Err("it says nothing"),
            ),
            (
                "a subject",
                " type='groupchat'><subject>Hi</subject>",
                Err("it says nothing"),
            ),
            ("an empty body", "><body> </body>", Err("it says nothing")),
            (
                "a headline",
                " type='headline'><body>Hi</body>",
                Err("it is no message of a person"),
            ),
            (
                "an error",
                " type='error'><body>Hi</body>",
                Err("it is no message of a person"),
            ),
        ] {
            let found = of(content).map(|summary| summary.body);
            assert_eq!(found, body.map(|body| body.map(str::to_owned)), "{name}");
        }
    }

    #[test]
    fn no_more_is_told_than_may_be() {
        let long = format!("><body>{}</body>", "é".repeat(LONGEST + 1));
        let summary = of(&long).unwrap();
        for (told, sender, body) in [
            (PushSummary::None, None, "New message".to_owned()),
            (
                PushSummary::Sender,
                Some("romeo@example.org/x"),
                "New message".to_owned(),
            ),
            (
                PushSummary::Body,
                Some("romeo@example.org/x"),
                "é".repeat(LONGEST),
            ),
        ] {
            assert_eq!(summary.sender(told), sender, "{told:?}");
            assert_eq!(summary.body(told), body, "{told:?}");
        }
    }
}
