//! The presences that a room sends: who sees what of whom (XEP-0045, 7.2.2, 7.2.5 and 7.2.6).

use std::sync::Arc;

use jid::{BareJid, FullJid};
use minidom::Element;

use super::Room;
use super::occupants::{Occupant, Session};
use crate::server::mail::Mail;
use crate::server::muc::event::Effect;
use crate::server::muc::rank::Role;
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

/// The name of the bots' hat.
const BOT_HAT: &str = "urn:moltis:hats:bot";

/// What a presence says beside who it is of.
#[derive(Clone, Debug, Default)]
pub(super) struct Notice {
    /// To all.
    pub(super) codes: Vec<u16>,
    /// To the occupant itself, beside 110.
    pub(super) own: Vec<u16>,
    /// Who did it: nick and real JID.
    pub(super) actor: Option<Actor>,
    pub(super) reason: Option<String>,
    /// The new nick of a change.
    pub(super) nick: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) nick: Option<String>,
    pub(super) who: BareJid,
}

impl Notice {
    pub(super) fn code(code: u16) -> Self {
        Self {
            codes: vec![code],
            ..Self::default()
        }
    }

    fn is_plain(&self) -> bool {
        self.codes.is_empty()
            && self.actor.is_none()
            && self.reason.is_none()
            && self.nick.is_none()
    }
}

impl Room {
    /// Tells everybody how an occupant is now, and each of its sessions that this is itself.
    pub(super) fn announce(&self, nick: &str, notice: &Notice, out: &mut Vec<Effect>) {
        let Some(occupant) = self.occupants.get(nick) else {
            return;
        };
        if self.is_shown(occupant.role) {
            self.broadcast(occupant, out, |reveal| {
                if notice.is_plain() {
                    self.seen(occupant, reveal)
                } else {
                    Mail::for_many(self.presence_of(occupant, reveal, notice))
                }
            });
        }
        for session in &occupant.sessions {
            out.push(Effect::Send(self.own_presence(occupant, session, notice)));
        }
    }

    /// Tells the others that they see an occupant no more, who is still here.
    pub(super) fn hide(&self, nick: &str, notice: &Notice, out: &mut Vec<Effect>) {
        if let Some(occupant) = self.occupants.get(nick) {
            self.broadcast(occupant, out, |reveal| {
                let sessions = reveal.then_some(occupant.sessions.as_slice());
                Mail::for_many(self.gone_presence(occupant, &[], sessions, notice, reveal))
            });
        }
    }

    /// A presence of an occupant to all others; `make`: as those see it who see real JIDs, or who do not.
    fn broadcast(&self, of: &Occupant, out: &mut Vec<Effect>, make: impl Fn(bool) -> Mail) {
        for reveal in [true, false] {
            let to = self.viewers(reveal, &of.nick);
            if !to.is_empty() {
                let stanza = make(reveal);
                out.push(Effect::Broadcast { to, stanza });
            }
        }
    }

    /// Tells everybody that an occupant, who has been taken from the list already, is gone, and its sessions too. `role`:
    /// what the presence says, which is "none" but for a change of nick.
    pub(super) fn announce_gone(
        &self,
        gone: &Occupant,
        payload: &[Element],
        notice: &Notice,
        out: &mut Vec<Effect>,
    ) {
        if self.is_shown(gone.role) {
            self.broadcast(gone, out, |reveal| {
                let sessions = reveal.then_some(gone.sessions.as_slice());
                Mail::for_many(self.gone_presence(gone, payload, sessions, notice, reveal))
            });
        }
        for session in &gone.sessions {
            out.push(Effect::Send(self.own_gone(gone, session, payload, notice)));
        }
    }

    /// Tells one session that it is no longer in the room under this nick.
    pub(super) fn own_gone(
        &self,
        gone: &Occupant,
        session: &Session,
        payload: &[Element],
        notice: &Notice,
    ) -> Element {
        let own = Notice {
            codes: own_codes(notice),
            ..notice.clone()
        };
        let sessions = Some(std::slice::from_ref(session));
        let reveal = self.reveals_to(gone);
        let mut presence = self.gone_presence(gone, payload, sessions, &own, reveal);
        set(&mut presence, "to", session.jid.as_str());
        presence
    }

    /// The presences of all others, for one who enters or whose eyes have changed.
    pub(super) fn roster(&self, occupant: &Occupant, to: &FullJid, out: &mut Vec<Effect>) {
        let reveal = self.reveals_to(occupant);
        let others = self.occupants.iter();
        let others =
            others.filter(|other| other.nick != occupant.nick && self.is_shown(other.role));
        let stanzas: Vec<_> = others.map(|other| self.seen(other, reveal)).collect();
        if !stanzas.is_empty() {
            let to = to.clone();
            out.push(Effect::Deliver { to, stanzas });
        }
    }

    /// What others see of an occupant as it is.
    pub(super) fn seen(&self, occupant: &Occupant, reveal: bool) -> Mail {
        occupant.seen(reveal, || {
            self.presence_of(occupant, reveal, &Notice::default())
        })
    }

    /// A notice of the room itself to some: a message that holds codes alone (XEP-0045, 10.2.1).
    pub(super) fn notify(&mut self, codes: &[u16], out: &mut Vec<Effect>) {
        let to = self.everyone();
        if codes.is_empty() || to.is_empty() {
            return;
        }
        let mut message = element(
            "message",
            ns::JABBER_CLIENT,
            &[("type", "groupchat"), ("from", self.address.as_str())],
        );
        message.append_child(user([], codes));
        let stanza = Mail::for_many(message);
        out.push(Effect::Broadcast { to, stanza });
    }

    /// The sessions that see real JIDs, or those that do not, but for one nick's.
    fn viewers(&self, reveal: bool, but: &str) -> Arc<[FullJid]> {
        self.occupants
            .sessions(|one| one.nick != but && self.reveals_to(one) == reveal)
    }

    fn presence_of(&self, occupant: &Occupant, reveal: bool, notice: &Notice) -> Element {
        let sessions = reveal.then_some(occupant.sessions.as_slice());
        let items = self.items(occupant, occupant.role, sessions, notice, reveal);
        let mut presence = self.bare_presence(occupant, occupant.payload());
        presence.append_child(user(items, &notice.codes));
        presence.append_child(occupant_id(&occupant.id));
        presence
    }

    /// A session always sees its own real JID, and its own presence's id.
    pub(super) fn own_presence(
        &self,
        occupant: &Occupant,
        session: &Session,
        notice: &Notice,
    ) -> Element {
        let sessions = Some(std::slice::from_ref(session));
        let reveal = self.reveals_to(occupant);
        let items = self.items(occupant, occupant.role, sessions, notice, reveal);
        let mut presence = self.bare_presence(occupant, &session.payload);
        set(&mut presence, "to", session.jid.as_str());
        if let Some(id) = &session.id {
            set(&mut presence, "id", id);
        }
        presence.append_child(user(items, &own_codes(notice)));
        presence.append_child(occupant_id(&occupant.id));
        presence
    }

    fn gone_presence(
        &self,
        gone: &Occupant,
        payload: &[Element],
        sessions: Option<&[Session]>,
        notice: &Notice,
        reveal: bool,
    ) -> Element {
        // A change of nick keeps the role (the examples of XEP-0045, 7.6).
        let role = notice.nick.as_ref().map_or(Role::None, |_| gone.role);
        let items = self.items(gone, role, sessions, notice, reveal);
        let mut presence = self.bare_presence(gone, payload);
        set(&mut presence, "type", "unavailable");
        presence.append_child(user(items, &notice.codes));
        presence.append_child(occupant_id(&gone.id));
        presence
    }

    fn bare_presence(&self, occupant: &Occupant, payload: &[Element]) -> Element {
        let from = self.address_of(&occupant.nick);
        let mut presence = element("presence", ns::JABBER_CLIENT, &[("from", &from)]);
        for child in payload {
            presence.append_child(child.clone());
        }
        if occupant.is_own_bot {
            presence.append_child(hats_of_a_bot());
        }
        presence
    }

    /// An item a session where real JIDs are told, else one.
    fn items(
        &self,
        occupant: &Occupant,
        role: Role,
        sessions: Option<&[Session]>,
        notice: &Notice,
        reveal_actor: bool,
    ) -> Vec<Element> {
        let affiliation = self.affiliations.of(&occupant.who);
        let item = |jid: Option<&FullJid>| {
            let attributes = [("affiliation", affiliation.name()), ("role", role.name())];
            let mut item = element("item", ns::MUC_USER, &attributes);
            if let Some(jid) = jid {
                set(&mut item, "jid", jid.as_str());
            }
            if let Some(nick) = &notice.nick {
                set(&mut item, "nick", nick);
            }
            if let Some(actor) = &notice.actor {
                item.append_child(actor.to_element(reveal_actor));
            }
            if let Some(reason) = &notice.reason {
                item.append_child(text_element("reason", ns::MUC_USER, reason));
            }
            item
        };
        match sessions {
            Some(sessions) if !sessions.is_empty() => {
                sessions.iter().map(|one| item(Some(&one.jid))).collect()
            }
            _ => vec![item(None)],
        }
    }
}

impl Actor {
    fn to_element(&self, reveal: bool) -> Element {
        let mut actor = Element::bare("actor", ns::MUC_USER);
        if let Some(nick) = &self.nick {
            set(&mut actor, "nick", nick);
        }
        if reveal {
            set(&mut actor, "jid", self.who.as_str());
        }
        actor
    }
}

fn own_codes(notice: &Notice) -> Vec<u16> {
    let mut codes = notice.codes.clone();
    codes.push(110);
    codes.extend(&notice.own);
    codes.sort_unstable();
    codes
}

/// The `<x/>` of muc#user.
pub(super) fn user(items: impl IntoIterator<Item = Element>, codes: &[u16]) -> Element {
    let mut x = Element::bare("x", ns::MUC_USER);
    for item in items {
        x.append_child(item);
    }
    for code in codes {
        x.append_child(element(
            "status",
            ns::MUC_USER,
            &[("code", &code.to_string())],
        ));
    }
    x
}

/// XEP-0317: everybody sees that this is a bot of the place, which nobody can pretend to be.
fn hats_of_a_bot() -> Element {
    let attributes = [("uri", BOT_HAT), ("title", "Bot")];
    let mut hats = Element::bare("hats", ns::HATS);
    hats.append_child(element("hat", ns::HATS, &attributes));
    hats
}

pub(super) fn occupant_id(id: &str) -> Element {
    element("occupant-id", ns::OID, &[("id", id)])
}
