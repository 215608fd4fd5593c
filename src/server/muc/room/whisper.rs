//! What occupants send to one another by nick: private messages (XEP-0045, 7.5) and IQs (17.4), the self-ping among them
//! (XEP-0410).

use std::collections::VecDeque;

use jid::{BareJid, FullJid, Jid};
use minidom::Element;

use super::occupants::Occupant;
use super::{LONGEST_ID, Room, absent};
use crate::server::StanzaError;
use crate::server::muc::config::PrivateMessages;
use crate::server::muc::event::{Effect, Incoming};
use crate::server::muc::rank::Role;
use crate::xmpp::element::set;
use crate::xmpp::ns;

/// So many requests between occupants may wait for their answers, and so long.
const MOST_FORWARDED: usize = 1_000;
const LONGEST_FORWARDED: i64 = 120_000;

/// Requests that were passed on under another id: the answer goes back by it, and nobody learns a real JID.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    requests: VecDeque<Request>,
    last: u64,
}

#[derive(Clone, Debug)]
struct Request {
    number: u64,
    at: i64,
    /// Who asked, and with which id.
    from: FullJid,
    id: String,
    /// Who is to answer.
    to: BareJid,
}

impl Forwarded {
    fn add(&mut self, at: i64, from: &FullJid, id: &str, to: BareJid) -> String {
        while self.requests.len() >= MOST_FORWARDED
            || self
                .requests
                .front()
                .is_some_and(|oldest| oldest.at + LONGEST_FORWARDED < at)
        {
            self.requests.pop_front();
        }
        self.last += 1;
        self.requests.push_back(Request {
            number: self.last,
            at,
            from: from.clone(),
            id: id.to_owned(),
            to,
        });
        format!("room-{}", self.last)
    }

    /// The request that this answers, once.
    fn take(&mut self, id: &str, answering: &Jid) -> Option<Request> {
        let number: u64 = id.strip_prefix("room-")?.parse().ok()?;
        let place = self
            .requests
            .iter()
            .position(|one| one.number == number && one.to == answering.to_bare())?;
        self.requests.remove(place)
    }
}

impl Room {
    pub(super) fn private_message(
        &mut self,
        incoming: &Incoming,
        nick: &str,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let kind = incoming.kind();
        if kind == "error" {
            self.failed(incoming, out);
            if !self.is_occupant(&incoming.from) {
                return Ok(());
            }
        }
        let occupant = self.present(incoming)?;
        if kind == "groupchat" {
            return Err(StanzaError::bad_request());
        }
        let target = self.occupants.get(nick);
        let target = target.ok_or_else(StanzaError::item_not_found)?;
        if !self.may_whisper(occupant, target) {
            // Nor does an error carry a word: there was nothing to be in error about.
            return match kind {
                "error" => Ok(()),
                _ => Err(StanzaError::forbidden().text("No private messages in this room")),
            };
        }
        let mut message = self.said_by(occupant, &incoming.stanza);
        // Marks it as of a room, so that carbons and archives of the recipient know (XEP-0045, 7.5).
        message.append_child(Element::bare("x", ns::MUC_USER));
        for session in &target.sessions {
            let mut message = message.clone();
            set(&mut message, "to", session.jid.as_str());
            out.push(Effect::Send(message));
        }
        Ok(())
    }

    /// To a moderator everybody may write: how else would a visitor complain?
    fn may_whisper(&self, from: &Occupant, to: &Occupant) -> bool {
        match self.config.private_messages {
            PrivateMessages::Anyone => true,
            PrivateMessages::Participants => {
                from.role >= Role::Participant || to.role == Role::Moderator
            }
            PrivateMessages::Moderators => from.role == Role::Moderator,
            PrivateMessages::None => false,
        }
    }

    pub(super) fn private_iq(
        &mut self,
        now: i64,
        incoming: &Incoming,
        nick: &str,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        match incoming.kind() {
            "get" | "set" => self.forward(now, incoming, nick, out),
            "result" | "error" => {
                self.forward_back(incoming, out);
                Ok(())
            }
            _ => Err(StanzaError::bad_request()),
        }
    }

    fn forward(
        &mut self,
        now: i64,
        incoming: &Incoming,
        nick: &str,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let occupant = self.present(incoming).map_err(|error| {
            if asks_what_it_is(&incoming.stanza) {
                // XEP-0045, 6.6.
                StanzaError::bad_request()
            } else {
                error
            }
        })?;
        let from = self.address_of(&occupant.nick);
        if occupant.nick == nick
            && incoming.kind() == "get"
            && incoming.stanza.has_child("ping", ns::PING)
        {
            out.push(Effect::Reply(incoming.result(None)));
            return Ok(());
        }
        let target = self.occupants.get(nick);
        let target = target.ok_or_else(StanzaError::item_not_found)?;
        let best = target
            .sessions
            .iter()
            .max_by_key(|session| session.priority);
        let best = best.ok_or_else(StanzaError::item_not_found)?;
        // What a server answers for an account goes to the account.
        let to = if incoming.stanza.children().any(is_for_the_account) {
            target.who.to_string()
        } else {
            best.jid.to_string()
        };
        let (who, mut request) = (target.who.clone(), incoming.stanza.clone());
        let (Some(session), Some(id)) = (incoming.session(), incoming.id()) else {
            return Err(StanzaError::bad_request());
        };
        if id.len() > LONGEST_ID {
            return Err(StanzaError::policy_violation().text("The id is too long"));
        }
        let id = self.forwarded.add(now, session, id, who);
        readdress(&mut request, &id, &from, &to);
        out.push(Effect::Send(request));
        Ok(())
    }

    /// The answer, as from the nick it was asked of. From anybody else, or too late, it goes nowhere.
    fn forward_back(&mut self, incoming: &Incoming, out: &mut Vec<Effect>) {
        let Some(id) = incoming.id() else { return };
        let Some(request) = self.forwarded.take(id, &incoming.from) else {
            return;
        };
        let answering = self.occupants.iter().find(|one| one.who == request.to);
        let Some(answering) = answering else { return };
        let mut answer = incoming.stanza.clone();
        let from = self.address_of(&answering.nick);
        readdress(&mut answer, &request.id, &from, request.from.as_str());
        out.push(Effect::Send(answer));
    }

    /// What is neither an invitation nor a form is for nobody.
    pub(super) fn unhandled(&self, incoming: &Incoming) -> StanzaError {
        if self.is_occupant(&incoming.from) {
            StanzaError::service_unavailable()
        } else {
            absent()
        }
    }
}

fn asks_what_it_is(request: &Element) -> bool {
    request.has_child("query", ns::DISCO_INFO) || request.has_child("query", ns::DISCO_ITEMS)
}

fn is_for_the_account(child: &Element) -> bool {
    matches!(
        child.ns().as_str(),
        ns::VCARD | ns::PUBSUB | "urn:ietf:params:xml:ns:vcard-4.0"
    )
}

fn readdress(stanza: &mut Element, id: &str, from: &str, to: &str) {
    for (name, value) in [("id", id), ("from", from), ("to", to)] {
        set(stanza, name, value);
    }
}
