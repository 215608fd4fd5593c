//! Entering a room (XEP-0045, 7.2), and presence from those who are in it (7.7).

use base64::Engine;
use hmac::{Hmac, Mac};
use jid::{BareJid, FullJid};
use minidom::Element;
use sha2::Sha256;

use super::announce::{Notice, occupant_id};
use super::occupants::{Occupant, Session};
use super::{LONGEST_NICK, Room};
use crate::server::muc::config::Whois;
use crate::server::muc::event::{Effect, Incoming};
use crate::server::muc::history::{self, Request};
use crate::server::muc::rank::{Affiliation, Role};
use crate::server::{ErrorType, StanzaError};
use crate::xmpp::element::{child_text, element, text_element};
use crate::xmpp::ns;

/// Bytes of what is passed on of a presence.
const LARGEST_PRESENCE: usize = 8_192;

/// Namespaces in which the room alone speaks.
const FORGED: [&str; 6] = [
    ns::MUC,
    ns::MUC_USER,
    ns::OID,
    ns::HATS,
    ns::HATS_PROSODY,
    history::HIDDEN,
];

impl Room {
    /// Available presence: somebody enters, changes the nick or says how they are.
    pub(super) fn available(
        &mut self,
        now: i64,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let session = incoming.session().ok_or_else(StanzaError::jid_malformed)?;
        let current = self.occupants.by_session(session);
        let current = current.map(|occupant| occupant.nick.clone());
        // Some clients send updates to the room instead of their nick; Prosody takes them too.
        let wanted = incoming
            .nick()
            .map(str::to_owned)
            .or_else(|| current.clone());
        let wanted = wanted.ok_or_else(StanzaError::jid_malformed)?;
        let x = incoming.stanza.get_child("x", ns::MUC);
        let nick = match self.locked_nick(&session.to_bare()) {
            Some(own) if x.is_some() => own,
            _ => wanted.clone(),
        };
        is_bearable(&incoming.stanza)?;
        match current {
            Some(current) if current == nick => {
                self.update(&nick, session, &incoming.stanza, false);
                match x {
                    // A client that believes it is not in the room gets everything again.
                    Some(_) => self.welcome(now, &nick, session, x, &Notice::default(), out),
                    None => self.announce(&nick, &Notice::default(), out),
                }
            }
            Some(current) => self.change_nick(&current, &nick, session, &incoming.stanza, out)?,
            None => {
                // 210: the room has given them another nick (7.2.2).
                let codes = if nick == wanted { &[][..] } else { &[210] };
                self.enter(now, &nick, codes, incoming, out)?;
            }
        }
        self.occupants.answered(session);
        Ok(())
    }

    fn enter(
        &mut self,
        now: i64,
        nick: &str,
        codes: &[u16],
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let session = incoming.session().ok_or_else(StanzaError::jid_malformed)?;
        // Groupchat 1.0 has no <x/>. Nobody speaks it any more: such a presence is of a client that lost track, and the
        // error makes it enter again. Prosody does the same.
        let Some(x) = incoming.stanza.get_child("x", ns::MUC) else {
            return Err(StanzaError::item_not_found().text("You are not in this room"));
        };
        let who = session.to_bare();
        self.may_enter(&who, child_text(x, "password", ns::MUC).as_deref())?;
        self.may_use(nick, &who)?;
        let mut notice = self.greeting();
        notice.own.extend(codes);
        self.update(nick, session, &incoming.stanza, incoming.is_own_bot);
        self.welcome(now, nick, session, Some(x), &notice, out);
        if self.affiliations.of(&who) >= Affiliation::Admin {
            self.tell_applicants(session, out);
        }
        Ok(())
    }

    /// The only nick that somebody may have, where those who have registered one keep to it.
    pub(super) fn locked_nick(&self, who: &BareJid) -> Option<String> {
        let own = self.affiliations.get(who)?;
        own.nick.clone().filter(|_| self.config.locks_nicks)
    }

    /// Whether somebody may come in at all, in the order of XEP-0045, 7.2.6 to 7.2.11.
    fn may_enter(&self, who: &BareJid, password: Option<&str>) -> Result<(), StanzaError> {
        let affiliation = self.affiliations.of(who);
        if affiliation == Affiliation::Outcast {
            return Err(StanzaError::forbidden());
        }
        if self.locked && affiliation != Affiliation::Owner {
            return Err(StanzaError::item_not_found());
        }
        if self.default_role(affiliation) == Role::None {
            return Err(StanzaError::registration_required());
        }
        if !self.config.password.is_empty() && password != Some(self.config.password.as_str()) {
            return Err(StanzaError::not_authorized());
        }
        let limit = match self.config.max_users {
            0 => self.limits.occupants,
            limit => limit.min(self.limits.occupants),
        };
        // "A room MUST always allow entry by a room admin or owner" (7.2.9).
        if self.occupants.len() >= limit && affiliation < Affiliation::Admin {
            let mut full = StanzaError::service_unavailable();
            full.kind = ErrorType::Wait;
            return Err(full);
        }
        Ok(())
    }

    /// Whether somebody may have this nick (XEP-0045, 7.2.8).
    pub(super) fn may_use(&self, nick: &str, who: &BareJid) -> Result<(), StanzaError> {
        is_nick(nick)?;
        if let Some(occupant) = self.occupants.get(nick) {
            if occupant.who != *who {
                return Err(StanzaError::conflict());
            }
            if occupant.sessions.len() >= self.limits.sessions {
                return Err(StanzaError::resource_constraint());
            }
        }
        match self.affiliations.holder(nick) {
            Some(holder) if holder != who => Err(StanzaError::conflict()),
            _ => Ok(()),
        }
    }

    /// What a new occupant is told of the room.
    fn greeting(&mut self) -> Notice {
        let mut own = Vec::new();
        if self.config.whois == Whois::Anyone {
            own.push(100);
        }
        if self.is_archived() {
            own.push(170);
        }
        if std::mem::take(&mut self.fresh) {
            own.push(201);
        }
        Notice {
            own,
            ..Notice::default()
        }
    }

    /// Takes a session's presence; the session comes into being with it, and its occupant.
    pub(super) fn update(
        &mut self,
        nick: &str,
        session: &FullJid,
        stanza: &Element,
        is_own_bot: bool,
    ) {
        let who = session.to_bare();
        let role = self.default_role(self.affiliations.of(&who));
        let id = self.id_of(&who);
        let occupant = || Occupant::new(nick.to_owned(), who, role, id, is_own_bot);
        self.occupants.put(occupant, nick, read(session, stanza));
    }

    /// The order that XEP-0045, 7.1 wants: the occupants, oneself, the discussion so far, the subject.
    fn welcome(
        &mut self,
        now: i64,
        nick: &str,
        session: &FullJid,
        x: Option<&Element>,
        notice: &Notice,
        out: &mut Vec<Effect>,
    ) {
        let Some(occupant) = self.occupants.get(nick) else {
            return;
        };
        self.roster(occupant, session, out);
        self.announce(nick, notice, out);
        out.push(Effect::History {
            to: session.clone(),
            request: Request::read(x, now).within(self.config.history),
        });
        out.push(Effect::Send(self.subject_for(session)));
    }

    /// The subject, empty where nobody has set one: it tells that all has been said (XEP-0045, 7.2.15).
    fn subject_for(&self, to: &FullJid) -> Element {
        let from = match &self.subject {
            Some(subject) => self.address_of(&subject.nick),
            None => self.address.to_string(),
        };
        let attributes = [("type", "groupchat"), ("from", &from), ("to", to.as_str())];
        let mut message = element("message", ns::JABBER_CLIENT, &attributes);
        let text = self.subject.as_ref().map_or("", |subject| &subject.text);
        message.append_child(text_element("subject", ns::JABBER_CLIENT, text));
        if let Some(subject) = &self.subject {
            message.append_child(history::delay(subject.at, &self.address));
            message.append_child(occupant_id(&subject.occupant_id));
        }
        message
    }

    /// The id that shows that somebody is the same as before, and not who (XEP-0421, 4.1).
    pub(super) fn id_of(&self, who: &BareJid) -> String {
        // The key has the length that HMAC takes; any length is one it takes.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            return String::new();
        };
        mac.update(who.as_str().as_bytes());
        let bytes = mac.finalize().into_bytes();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A presence probe is answered with what the occupant's presence is, to those in the room.
    pub(super) fn probe(
        &self,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let Some(nick) = incoming.nick() else {
            // From a server whose user has the room in the roster. Rooms have no presence of their own.
            return Ok(());
        };
        let asking = self.present(incoming)?;
        let asked = self.occupants.get(nick);
        let asked = asked.filter(|one| one.nick == asking.nick || self.is_shown(one.role));
        if let (Some(asked), Some(session)) = (asked, incoming.session()) {
            let reveal = self.reveals_to(asking);
            let stanzas = vec![self.seen(asked, reveal)];
            let to = session.clone();
            out.push(Effect::Deliver { to, stanzas });
        }
        Ok(())
    }
}

/// Whether this is a nick at all: seen, and no longer than a name.
pub(super) fn is_nick(nick: &str) -> Result<(), StanzaError> {
    if !nick.chars().any(is_visible) {
        return Err(StanzaError::not_allowed().text("The nick cannot be seen"));
    }
    if nick.len() > LONGEST_NICK {
        return Err(StanzaError::not_acceptable().text("The nick is too long"));
    }
    Ok(())
}

/// A presence is kept for as long as its occupant is there, and goes to everybody who enters.
fn is_bearable(stanza: &Element) -> Result<(), StanzaError> {
    let passed_on = stanza.children().filter(|child| is_passed_on(child));
    let bytes = passed_on.map(|child| String::from(child).len());
    if bytes.sum::<usize>() > LARGEST_PRESENCE {
        return Err(StanzaError::policy_violation().text("The presence is too large"));
    }
    Ok(())
}

/// White space and what is not drawn make no nick.
fn is_visible(character: char) -> bool {
    !character.is_whitespace()
        && !character.is_control()
        && !matches!(
            character,
            '\u{AD}' | '\u{115F}' | '\u{1160}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
        )
}

/// What of a presence concerns the others.
fn read(session: &FullJid, stanza: &Element) -> Session {
    let priority = child_text(stanza, "priority", ns::JABBER_CLIENT);
    let payload = stanza.children().filter(|child| is_passed_on(child));
    Session {
        jid: session.clone(),
        payload: payload.cloned().collect(),
        priority: priority
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or_default(),
        id: stanza.attr("id").map(str::to_owned),
    }
}

/// What only the room says is not passed on, whoever wrote it.
pub(super) fn is_passed_on(child: &Element) -> bool {
    !FORGED.iter().any(|namespace| child.has_ns(*namespace))
}
