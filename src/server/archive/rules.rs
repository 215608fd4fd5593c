//! Which messages are worth keeping (XEP-0313, 6.1): those that say something, not those that tell of a state.

use minidom::Element;

use crate::server::stanza::{MessageType, Stanza};
use crate::xmpp::ns;

/// Payloads that are content without a body. `None`: any element of the namespace.
const CONTENT: &[(Option<&str>, &str)] = &[
    // Corrections, reactions, retractions and moderation change what was said.
    (Some("replace"), ns::MESSAGE_CORRECT),
    (Some("reactions"), ns::REACTIONS),
    (Some("retract"), ns::RETRACT),
    (Some("retract"), ns::RETRACT_0),
    (Some("apply-to"), ns::FASTEN),
    // What other devices need to know: how far was read, what arrived, who called.
    (Some("received"), ns::CHAT_MARKERS),
    (Some("displayed"), ns::CHAT_MARKERS),
    (Some("acknowledged"), ns::CHAT_MARKERS),
    (Some("received"), ns::RECEIPTS),
    (None, ns::JINGLE_MESSAGE),
    (None, ns::CALL_INVITES),
    // Encrypted content, and files.
    (Some("encrypted"), ns::LEGACY_OMEMO),
    (Some("encrypted"), ns::OMEMO),
    (Some("openpgp"), ns::OX),
    (Some("file-sharing"), ns::FILE_SHARING),
    // Invitations to rooms.
    (Some("x"), ns::CONFERENCE),
];

fn is_content(child: &Element) -> bool {
    CONTENT.iter().any(|(name, namespace)| {
        child.has_ns(*namespace) && name.is_none_or(|name| child.name() == name)
    }) || (child.is("x", ns::MUC_USER) && child.has_child("invite", ns::MUC_USER))
}

/// A message that says something.
pub fn has_content(message: &Stanza) -> bool {
    let body = message
        .element()
        .children()
        .any(|child| child.is("body", ns::JABBER_CLIENT));
    body || message.element().children().any(is_content)
}

/// A hint of XEP-0334.
pub fn hint(message: &Stanza, name: &str) -> bool {
    message.has(name, ns::HINTS)
}

/// A private message that a room has passed on (XEP-0045, 7.5): no invitation.
pub fn is_from_occupant(message: &Stanza) -> bool {
    message.child("x", ns::MUC_USER).is_some_and(|x| {
        !x.has_child("invite", ns::MUC_USER) && !x.has_child("decline", ns::MUC_USER)
    })
}

/// Why a message is not kept for a user; `None` if it is.
pub fn reason_to_skip(message: &Stanza) -> Option<&'static str> {
    match message.message_type() {
        MessageType::Error => return Some("an error"),
        MessageType::Headline => return Some("a headline"),
        // The room keeps it.
        MessageType::Groupchat => return Some("said in a room"),
        MessageType::Normal | MessageType::Chat => {}
    }
    skip_by_content(message)
}

/// Why a message to all in a room is not kept for the room; `None` if it is.
pub fn reason_to_skip_in_room(message: &Stanza) -> Option<&'static str> {
    if message.message_type() != MessageType::Groupchat {
        return Some("not said to all");
    }
    // XEP-0045, 8.1: a subject alone is a change of the subject.
    if message.has("subject", ns::JABBER_CLIENT) {
        return None;
    }
    skip_by_content(message)
}

fn skip_by_content(message: &Stanza) -> Option<&'static str> {
    // The older names stand in the text of XEP-0334 0.1, beside the newer ones.
    for name in [
        "no-store",
        "no-permanent-store",
        "no-storage",
        "no-permanent-storage",
    ] {
        if hint(message, name) {
            return Some("it asks not to be kept");
        }
    }
    let content = hint(message, "store") || has_content(message);
    (!content).then_some("without content")
}

#[cfg(test)]
mod tests {
    use jid::Jid;

    use super::*;

    fn message(kind: &str, payload: &str) -> Stanza {
        let xml = format!("<message xmlns='jabber:client' type='{kind}'>{payload}</message>");
        let from = Jid::new("romeo@example.org/orchard").unwrap();
        Stanza::new(from, None, xml.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_says_something_is_kept() {
        struct Row {
            name: &'static str,
            kind: &'static str,
            payload: &'static str,
            kept: bool,
        }
        let row = |name, kind, payload, kept| Row {
            name,
            kind,
            payload,
            kept,
        };
        let table = [
            row("a body", "chat", "<body>x</body>", true),
            row("an empty body", "chat", "<body/>", true),
            row("a normal one", "", "<body>x</body>", true),
            row("an unknown type", "letter", "<body>x</body>", true),
            row("a headline", "headline", "<body>x</body>", false),
            row("an error", "error", "<body>x</body>", false),
            row("in a room", "groupchat", "<body>x</body>", false),
            row("nothing", "chat", "", false),
            row(
                "a chat state",
                "chat",
                "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
                false,
            ),
            row(
                "a body of another namespace",
                "chat",
                "<body xmlns='urn:x'>x</body>",
                false,
            ),
            row(
                "a reaction",
                "chat",
                "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>",
                true,
            ),
            row(
                "a retraction",
                "chat",
                "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
                true,
            ),
            row(
                "a marker",
                "chat",
                "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
                true,
            ),
            row(
                "markable alone",
                "chat",
                "<markable xmlns='urn:xmpp:chat-markers:0'/>",
                false,
            ),
            row(
                "a receipt",
                "chat",
                "<received xmlns='urn:xmpp:receipts' id='1'/>",
                true,
            ),
            row(
                "a request for a receipt",
                "chat",
                "<request xmlns='urn:xmpp:receipts'/>",
                false,
            ),
            row(
                "a call",
                "chat",
                "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>",
                true,
            ),
            row(
                "OMEMO",
                "chat",
                "<encrypted xmlns='urn:xmpp:omemo:2'/>",
                true,
            ),
            row(
                "an invitation",
                "normal",
                "<x xmlns='http://jabber.org/protocol/muc#user'><invite/></x>",
                true,
            ),
            row(
                "a room's state",
                "normal",
                "<x xmlns='http://jabber.org/protocol/muc#user'><item/></x>",
                false,
            ),
            row(
                "no-store",
                "chat",
                "<body>x</body><no-store xmlns='urn:xmpp:hints'/>",
                false,
            ),
            row(
                "no-permanent-store",
                "chat",
                "<body>x</body><no-permanent-store xmlns='urn:xmpp:hints'/>",
                false,
            ),
            row(
                "store",
                "chat",
                "<x xmlns='urn:x'/><store xmlns='urn:xmpp:hints'/>",
                true,
            ),
        ];
        for row in table {
            let reason = reason_to_skip(&message(row.kind, row.payload));
            assert_eq!(reason.is_none(), row.kept, "{}: {reason:?}", row.name);
        }
    }

    #[test]
    fn a_room_keeps_what_is_said_to_all() {
        for (kind, payload, kept) in [
            ("groupchat", "<body>x</body>", true),
            ("groupchat", "<subject>x</subject>", true),
            ("groupchat", "<subject/>", true),
            (
                "groupchat",
                "<active xmlns='http://jabber.org/protocol/chatstates'/>",
                false,
            ),
            (
                "groupchat",
                "<body>x</body><no-store xmlns='urn:xmpp:hints'/>",
                false,
            ),
            ("chat", "<body>x</body>", false),
        ] {
            let reason = reason_to_skip_in_room(&message(kind, payload));
            assert_eq!(reason.is_none(), kept, "{kind} {payload}: {reason:?}");
        }
    }
}
