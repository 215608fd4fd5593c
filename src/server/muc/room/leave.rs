//! Leaving: of one's own will (XEP-0045, 7.14), because of an error, or with the whole room (10.9).

use jid::{BareJid, FullJid};
use minidom::Element;

use super::Room;
use super::announce::{Notice, occupant_id, user};
use super::enter::is_passed_on;
use super::occupants::Occupant;
use crate::server::muc::event::{Effect, Incoming, Tombstone};
use crate::server::muc::rank::{Affiliation, Role};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

/// So many owners of a room that is gone are remembered.
const OWNERS: usize = 20;

/// How a room is destroyed (10.9).
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) venue: Option<BareJid>,
    pub(super) reason: Option<String>,
    /// Of the venue.
    pub(super) password: Option<String>,
    /// Milliseconds since 1970.
    pub(super) at: i64,
}

impl Room {
    /// Unavailable presence, to whatever nick: a session leaves as who it is.
    pub(super) fn unavailable(&mut self, incoming: &Incoming, out: &mut Vec<Effect>) {
        if let Some(session) = incoming.session() {
            let payload = incoming
                .stanza
                .children()
                .filter(|child| is_passed_on(child));
            let payload: Vec<Element> = payload.cloned().collect();
            self.leave(session, &payload, &Notice::default(), out);
        }
    }

    /// A session that cannot be reached (status 333): otherwise the room would send into the void for ever.
    pub(super) fn lose(
        &mut self,
        session: &FullJid,
        condition: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        let text =
            condition.map(|condition| format!("Disconnected: {}", condition.replace('-', " ")));
        let status = text.map(|text| text_element("status", ns::JABBER_CLIENT, &text));
        self.leave(session, status.as_slice(), &Notice::code(333), out);
    }

    /// An error that answers what the room sent: those that say that the session is no more end it.
    pub(super) fn failed(&mut self, incoming: &Incoming, out: &mut Vec<Effect>) {
        let condition = condition(&incoming.stanza);
        if let Some(session) = incoming.session()
            && condition.as_deref().is_none_or(is_final)
        {
            self.lose(session, condition, out);
        }
    }

    fn leave(
        &mut self,
        session: &FullJid,
        payload: &[Element],
        notice: &Notice,
        out: &mut Vec<Effect>,
    ) {
        let Some(left) = self.occupants.take(session) else {
            return;
        };
        if self.occupants.get(&left.nick).is_some() {
            // Other sessions stay under the nick: the person has not left.
            if let Some(own) = left.sessions.first() {
                out.push(Effect::Send(self.own_gone(&left, own, payload, notice)));
            }
            self.announce(&left.nick, &Notice::default(), out);
            return;
        }
        self.announce_gone(&left, payload, notice, out);
        if self.locked && self.affiliations.of(&left.who) == Affiliation::Owner {
            // Its creator left without configuring it (XEP-0045, 10.1.3).
            self.destroy(&Ending::default(), out);
        }
    }

    /// Takes an occupant out with all sessions: a kick, a ban, a lost membership.
    pub(super) fn expel(&mut self, nick: &str, notice: &Notice, out: &mut Vec<Effect>) {
        if let Some(gone) = self.occupants.remove(nick) {
            self.announce_gone(&gone, &[], notice, out);
        }
    }

    /// Takes everybody out, each told once (XEP-0045, 10.9).
    pub(super) fn clear(&mut self, code: u16, out: &mut Vec<Effect>) {
        self.take_all(out, |x| {
            let status = element("status", ns::MUC_USER, &[("code", &code.to_string())]);
            x.append_child(status);
        });
    }

    /// Everybody is told, and of a room that was to last those too who come later.
    pub(super) fn destroy(&mut self, ending: &Ending, out: &mut Vec<Effect>) {
        let mut destroy = Element::bare("destroy", ns::MUC_USER);
        if let Some(venue) = &ending.venue {
            set(&mut destroy, "jid", venue.as_str());
        }
        for (name, text) in [("reason", &ending.reason), ("password", &ending.password)] {
            if let Some(text) = text {
                destroy.append_child(text_element(name, ns::MUC_USER, text));
            }
        }
        self.take_all(out, |x| {
            x.append_child(destroy.clone());
        });
        let owners = self.affiliations.with(Affiliation::Owner);
        let tombstone = Tombstone {
            owners: owners.take(OWNERS).map(|(who, _)| who.clone()).collect(),
            venue: ending.venue.clone(),
            reason: ending.reason.clone(),
            at: ending.at,
        };
        self.end(self.config.persistent.then_some(tombstone), out);
    }

    fn take_all(&mut self, out: &mut Vec<Effect>, fill: impl Fn(&mut Element)) {
        let nicks: Vec<String> = self.occupants.iter().map(|one| one.nick.clone()).collect();
        for nick in nicks {
            if let Some(occupant) = self.occupants.remove(&nick) {
                for session in &occupant.sessions {
                    let mut presence = self.removed(&occupant, &fill);
                    set(&mut presence, "to", session.jid.as_str());
                    out.push(Effect::Send(presence));
                }
            }
        }
    }

    fn removed(&self, occupant: &Occupant, fill: impl Fn(&mut Element)) -> Element {
        let from = self.address_of(&occupant.nick);
        let attributes = [("type", "unavailable"), ("from", from.as_str())];
        let mut presence = element("presence", ns::JABBER_CLIENT, &attributes);
        let ranks = [
            ("affiliation", Affiliation::None.name()),
            ("role", Role::None.name()),
        ];
        let mut x = user([element("item", ns::MUC_USER, &ranks)], &[110]);
        fill(&mut x);
        presence.append_child(x);
        presence.append_child(occupant_id(&occupant.id));
        presence
    }

    /// The room is no more.
    pub(super) fn end(&mut self, tombstone: Option<Tombstone>, out: &mut Vec<Effect>) {
        self.destroyed = true;
        out.push(Effect::Destroyed(tombstone));
    }

    /// The members-only room shows out who is no member (XEP-0045, 10.2).
    pub(super) fn expel_strangers(&mut self, out: &mut Vec<Effect>) {
        let strangers = self
            .occupants
            .iter()
            .filter(|one| self.affiliations.of(&one.who) < Affiliation::Member);
        let nicks: Vec<String> = strangers.map(|one| one.nick.clone()).collect();
        for nick in nicks {
            self.expel(&nick, &Notice::code(322), out);
        }
    }
}

/// The defined condition of an error (RFC 6120, 8.3.3).
pub(super) fn condition(stanza: &Element) -> Option<String> {
    let error = stanza.get_child("error", ns::JABBER_CLIENT)?;
    let condition = error
        .children()
        .find(|child| child.has_ns(ns::XMPP_STANZAS) && child.name() != "text")?;
    Some(condition.name().to_owned())
}

/// Whether an error with this condition says that there is nobody any more, as Prosody has it.
fn is_final(condition: &str) -> bool {
    matches!(
        condition,
        "gone"
            | "internal-server-error"
            | "item-not-found"
            | "jid-malformed"
            | "recipient-unavailable"
            | "redirect"
            | "remote-server-not-found"
            | "remote-server-timeout"
            | "service-unavailable"
    )
}
