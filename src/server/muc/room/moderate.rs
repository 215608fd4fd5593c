//! XEP-0425: a moderator takes back what somebody has said. Clients of the older version ask and are told in their own words.

use minidom::Element;

use super::announce::occupant_id;
use super::{LONGEST_ID, Room, reason};
use crate::server::StanzaError;
use crate::server::muc::event::{Effect, Incoming, Retraction, Speech};
use crate::server::muc::rank::Role;
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::{datetime, ns};

/// What a moderator asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// The stanza-id of the message.
    id: String,
    reason: Option<String>,
}

/// Who does it, as all may know.
struct Moderator {
    /// Their address in the room; the room's own of one who is not in it.
    by: String,
    occupant_id: String,
}

impl Room {
    pub(super) fn moderate(
        &mut self,
        now: i64,
        incoming: &Incoming,
        request: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let asked = read(request)?;
        if self.rank(&incoming.from).role < Role::Moderator {
            return Err(StanzaError::forbidden().text("You are no moderator of this room"));
        }
        let who = incoming.from.to_bare();
        let by = match self.present(incoming) {
            Ok(occupant) => self.address_of(&occupant.nick),
            Err(_) => self.address.to_string(),
        };
        let moderator = Moderator {
            by,
            occupant_id: self.id_of(&who),
        };
        let speech = Speech {
            to: self.everyone(),
            stanza: self.announcement(&asked, &moderator),
            author: who,
            item: None,
            is_open: false,
            historic: true,
            archived: self.is_archived(),
        };
        out.push(Effect::Retract(Box::new(Retraction {
            remains: moderator.remains(now, asked.reason.as_deref()),
            id: asked.id,
            author: None,
            speech,
        })));
        Ok(())
    }

    /// From the room itself: only so it is believed (XEP-0425, 6).
    fn announcement(&self, asked: &Asked, moderator: &Moderator) -> Element {
        let id = format!("moderated-{}", asked.id);
        let attributes = [
            ("type", "groupchat"),
            ("from", self.address.as_str()),
            ("id", id.as_str()),
        ];
        let mut message = element("message", ns::JABBER_CLIENT, &attributes);
        let about = [("id", asked.id.as_str())];
        let mut retract = element("retract", ns::RETRACT, &about);
        retract.append_child(moderator.to_element());
        let mut older = element("moderated", ns::MODERATE_0, &[("by", &moderator.by)]);
        older.append_child(Element::bare("retract", ns::RETRACT_0));
        if let Some(reason) = &asked.reason {
            retract.append_child(text_element("reason", ns::RETRACT, reason));
            older.append_child(text_element("reason", ns::MODERATE_0, reason));
        }
        let mut fastened = element("apply-to", ns::FASTEN, &about);
        fastened.append_child(older);
        message.append_child(retract);
        message.append_child(fastened);
        message
    }
}

impl Moderator {
    fn to_element(&self) -> Element {
        let mut moderated = element("moderated", ns::MODERATE, &[("by", &self.by)]);
        moderated.append_child(occupant_id(&self.occupant_id));
        moderated
    }

    fn remains(&self, now: i64, reason: Option<&str>) -> Element {
        let mut retracted = Element::bare("retracted", ns::RETRACT);
        set(&mut retracted, "stamp", &datetime::stamp(now));
        retracted.append_child(self.to_element());
        if let Some(reason) = reason {
            retracted.append_child(text_element("reason", ns::RETRACT, reason));
        }
        retracted
    }
}

/// Reads `<moderate/>`, or the `<apply-to/>` of version 0.2. There is nothing to ask for but a retraction.
fn read(request: &Element) -> Result<Asked, StanzaError> {
    let (moderate, retract) = match request.name() {
        "moderate" => (Some(request), ns::RETRACT),
        _ => (request.get_child("moderate", ns::MODERATE_0), ns::RETRACT_0),
    };
    let moderate = moderate.ok_or_else(StanzaError::service_unavailable)?;
    if !moderate.has_child("retract", retract) {
        return Err(StanzaError::feature_not_implemented());
    }
    let id = request.attr("id").filter(|id| !id.is_empty());
    let id = id.ok_or_else(StanzaError::bad_request)?;
    if id.len() > LONGEST_ID {
        return Err(StanzaError::item_not_found());
    }
    Ok(Asked {
        id: id.to_owned(),
        reason: reason(moderate)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_a_request_are_read() {
        let asked = |id: &str, reason: Option<&str>| {
            Ok(Asked {
                id: id.into(),
                reason: reason.map(str::to_owned),
            })
        };
        let table = [
            (
                "today's",
                "<moderate xmlns='urn:xmpp:message-moderate:1' id='7'><retract xmlns='urn:xmpp:message-retract:1'/><reason>Spam</reason></moderate>",
                asked("7", Some("Spam")),
            ),
            (
                "the older one",
                "<apply-to xmlns='urn:xmpp:fasten:0' id='7'><moderate xmlns='urn:xmpp:message-moderate:0'><retract xmlns='urn:xmpp:message-retract:0'/></moderate></apply-to>",
                asked("7", None),
            ),
            (
                "no id",
                "<moderate xmlns='urn:xmpp:message-moderate:1'><retract xmlns='urn:xmpp:message-retract:1'/></moderate>",
                Err(StanzaError::bad_request()),
            ),
            (
                "not to retract",
                "<moderate xmlns='urn:xmpp:message-moderate:1' id='7'/>",
                Err(StanzaError::feature_not_implemented()),
            ),
            (
                "something else that is fastened",
                "<apply-to xmlns='urn:xmpp:fasten:0' id='7'/>",
                Err(StanzaError::service_unavailable()),
            ),
        ];
        for (name, xml, expected) in table {
            assert_eq!(read(&xml.parse().unwrap()), expected, "{name}");
        }
    }
}
