//! What somebody says to all (XEP-0045, 7.4), the subject among it (7.2.15, 8.1), and queries of what was said (XEP-0313).

use minidom::Element;
use minidom::rxml::Namespace;

use super::announce::occupant_id;
use super::occupants::Occupant;
use super::{LONGEST_ID, LONGEST_SUBJECT, Room, Subject};
use crate::server::StanzaError;
use crate::server::mail::Mail;
use crate::server::muc::config::Whois;
use crate::server::muc::event::{Effect, Incoming, Retraction, Reveal, Speech};
use crate::server::muc::rank::{Affiliation, Role};
use crate::xmpp::element::{child_text, element, set};
use crate::xmpp::{datetime, ns};

/// Names and namespaces of what is worth keeping, beside bodies.
const HISTORIC: [(&str, &str); 7] = [
    ("encryption", ns::EME),
    ("reactions", ns::REACTIONS),
    ("retract", ns::RETRACT),
    ("retract", ns::RETRACT_0),
    ("apply-to", ns::FASTEN),
    ("displayed", ns::DISPLAYED_MARKERS),
    ("received", ns::DISPLAYED_MARKERS),
];

impl Room {
    pub(super) fn groupchat(
        &mut self,
        now: i64,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let occupant = self.present(incoming)?;
        if occupant.role < Role::Participant {
            return Err(StanzaError::forbidden().text("You have no voice in this room"));
        }
        let occupant = occupant.clone();
        let stanza = self.said_by(&occupant, &incoming.stanza);
        if let Some(text) = new_subject(&stanza) {
            return self.change_subject(now, &occupant, text, stanza, out);
        }
        let retracts = stanza.get_child("retract", ns::RETRACT);
        let retracts = retracts.and_then(|retract| retract.attr("id"));
        let retracted = retracts.filter(|id| id.len() <= LONGEST_ID);
        let retracted = retracted.map(str::to_owned);
        let attributes = [
            ("affiliation", self.affiliations.of(&occupant.who).name()),
            ("role", occupant.role.name()),
            ("jid", occupant.who.as_str()),
        ];
        let item = element("item", ns::MUC_USER, &attributes);
        let historic = is_historic(&stanza);
        let speech = Speech {
            to: self.everyone(),
            stanza,
            author: occupant.who,
            item: Some(item),
            is_open: self.config.whois == Whois::Anyone,
            historic,
            archived: historic && self.is_archived(),
        };
        out.push(match retracted {
            // XEP-0424, 4.2: in a room messages go by the ids that it has given them.
            Some(id) => Effect::Retract(Box::new(Retraction {
                id,
                author: Some(occupant.id),
                remains: remains(now, incoming.id()),
                speech,
            })),
            None => Effect::Speak(Box::new(speech)),
        });
        Ok(())
    }

    fn change_subject(
        &mut self,
        now: i64,
        occupant: &Occupant,
        text: String,
        stanza: Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let may = occupant.role == Role::Moderator || self.config.change_subject;
        if !may {
            return Err(StanzaError::forbidden().text("You may not change the subject"));
        }
        if text.len() > LONGEST_SUBJECT {
            return Err(StanzaError::not_acceptable().text("The subject is too long"));
        }
        self.subject = (!text.is_empty()).then(|| Subject {
            text,
            nick: occupant.nick.clone(),
            occupant_id: occupant.id.clone(),
            at: now,
        });
        self.persist_state(out);
        out.push(Effect::Broadcast {
            to: self.everyone(),
            stanza: Mail::for_many(stanza),
        });
        Ok(())
    }

    /// The message as the others get it: from the nick, with the occupant's id, and nothing in it that only a room may say.
    /// A stanza-id of the author's own server would tell who they are, one of this room would be forged (XEP-0359, 5).
    pub(super) fn said_by(&self, occupant: &Occupant, stanza: &Element) -> Element {
        let from = self.address_of(&occupant.nick);
        let mut message = Element::bare("message", ns::JABBER_CLIENT);
        *message.attrs_mut() = stanza.attrs().clone();
        set(&mut message, "from", &from);
        message.attrs_mut().remove(&Namespace::NONE, "to");
        let children = stanza.children().filter(|child| self.is_theirs(child));
        for child in children {
            message.append_child(child.clone());
        }
        message.append_child(occupant_id(&occupant.id));
        message
    }

    fn is_theirs(&self, child: &Element) -> bool {
        let of_the_room = |delay: &Element| {
            let from = delay.attr("from").and_then(|from| jid::Jid::new(from).ok());
            from.is_some_and(|from| from.to_bare() == self.address)
        };
        super::enter::is_passed_on(child)
            && !child.is("stanza-id", ns::STANZA_ID)
            && !(matches!(child.name(), "delay" | "x")
                && matches!(child.ns().as_str(), ns::DELAY | "jabber:x:delay")
                && of_the_room(child))
    }

    pub(super) fn is_archived(&self) -> bool {
        self.config.archived && self.limits.archive
    }

    /// A query of the archive, for those who could enter now (XEP-0313, 7).
    pub(super) fn archive(
        &self,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        if !self.is_archived() {
            return Err(StanzaError::service_unavailable());
        }
        let rank = self.rank(&incoming.from);
        let stranger = rank.affiliation < Affiliation::Member && !self.is_occupant(&incoming.from);
        let closed = self.config.members_only || !self.config.password.is_empty();
        if rank.affiliation == Affiliation::Outcast || (stranger && closed) {
            return Err(StanzaError::forbidden());
        }
        let sees_all =
            rank.role == Role::Moderator || self.present(incoming).is_ok_and(|one| one.is_own_bot);
        let reveal = match self.config.whois {
            _ if sees_all => Reveal::Everybody,
            Whois::Anyone => Reveal::Open,
            Whois::Moderators => Reveal::Nobody,
        };
        out.push(Effect::Query {
            request: incoming.clone(),
            reveal,
        });
        Ok(())
    }
}

/// What stays of a message that its author has taken back; `id`: with which message (XEP-0424, 5.1).
fn remains(now: i64, id: Option<&str>) -> Element {
    let mut retracted = element(
        "retracted",
        ns::RETRACT,
        &[("stamp", &datetime::stamp(now))],
    );
    if let Some(id) = id {
        set(&mut retracted, "id", id);
    }
    retracted
}

/// A subject without a body or a thread is a change of subject (XEP-0045, 7.2.15).
fn new_subject(stanza: &Element) -> Option<String> {
    let says_more = stanza.has_child("body", ns::JABBER_CLIENT)
        || stanza.has_child("thread", ns::JABBER_CLIENT);
    child_text(stanza, "subject", ns::JABBER_CLIENT).filter(|_| !says_more)
}

/// Whether those who enter later should read it. What clients ask for by hints goes first (XEP-0334).
pub(super) fn is_historic(stanza: &Element) -> bool {
    let hint = |name: &str| stanza.has_child(name, ns::HINTS);
    if hint("no-store") || hint("no-permanent-store") {
        return false;
    }
    hint("store")
        || stanza.has_child("body", ns::JABBER_CLIENT)
        || HISTORIC
            .iter()
            .any(|(name, namespace)| stanza.has_child(name, *namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_keeping_is_kept() {
        let table = [
            ("a body", "<body>x</body>", true),
            (
                "typing",
                "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
                false,
            ),
            (
                "a reaction",
                "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>",
                true,
            ),
            (
                "encrypted",
                "<encryption xmlns='urn:xmpp:eme:0' namespace='x'/>",
                true,
            ),
            (
                "a retraction",
                "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
                true,
            ),
            (
                "a marker",
                "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
                true,
            ),
            ("by hint", "<store xmlns='urn:xmpp:hints'/>", true),
            (
                "not by hint",
                "<body>x</body><no-store xmlns='urn:xmpp:hints'/>",
                false,
            ),
        ];
        for (name, payload, expected) in table {
            let xml = format!("<message xmlns='jabber:client'>{payload}</message>");
            assert_eq!(is_historic(&xml.parse().unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn a_subject_with_more_is_a_message() {
        let table = [
            ("<subject>x</subject>", Some("x")),
            ("<subject/>", Some("")),
            ("<subject>x</subject><body>y</body>", None),
            ("<subject>x</subject><thread>y</thread>", None),
            ("<body>y</body>", None),
        ];
        for (payload, expected) in table {
            let xml = format!("<message xmlns='jabber:client'>{payload}</message>");
            assert_eq!(
                new_subject(&xml.parse().unwrap()).as_deref(),
                expected,
                "{payload}"
            );
        }
    }
}
