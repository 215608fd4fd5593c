//! Invitations by way of the room, and refusals (XEP-0045, 7.8).

use jid::{BareJid, Jid};
use minidom::Element;

use super::{Room, absent, reason};
use crate::server::StanzaError;
use crate::server::muc::config::Whois;
use crate::server::muc::event::{Effect, Incoming};
use crate::server::muc::rank::{Affiliation, Role};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

/// So many people may be invited with one message.
const MOST_INVITED: usize = 20;

impl Room {
    /// A message to the room with an `<x/>` of muc#user.
    pub(super) fn invitation(
        &mut self,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let Some(x) = incoming.stanza.get_child("x", ns::MUC_USER) else {
            return Err(StanzaError::bad_request());
        };
        if let Some(decline) = x.get_child("decline", ns::MUC_USER) {
            return self.decline(incoming, decline, out);
        }
        let invites: Vec<&Element> = x
            .children()
            .filter(|child| child.is("invite", ns::MUC_USER))
            .collect();
        if invites.is_empty() || invites.len() > MOST_INVITED {
            return Err(StanzaError::bad_request());
        }
        self.may_invite(incoming)?;
        let mut invited = Vec::new();
        for invite in invites {
            let to = invite.attr("to").and_then(|to| Jid::new(to).ok());
            reason(invite)?;
            invited.push((to.ok_or_else(StanzaError::jid_malformed)?, invite));
        }
        for (to, invite) in invited {
            self.invite(incoming, &to, invite, out)?;
        }
        Ok(())
    }

    /// Those with a voice, in a members-only room admins, and members where the owners let them.
    fn may_invite(&self, incoming: &Incoming) -> Result<(), StanzaError> {
        let rank = self.rank(&incoming.from);
        if rank.role == Role::None {
            return Err(absent());
        }
        let needed = match (self.config.members_only, self.config.allow_invites) {
            (false, _) => Affiliation::None,
            (true, true) => Affiliation::Member,
            (true, false) => Affiliation::Admin,
        };
        if rank.role < Role::Participant || rank.affiliation < needed {
            return Err(StanzaError::forbidden());
        }
        Ok(())
    }

    fn invite(
        &mut self,
        incoming: &Incoming,
        to: &Jid,
        invite: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let who = to.to_bare();
        let affiliation = self.affiliations.of(&who);
        if affiliation == Affiliation::Outcast {
            return Err(StanzaError::not_allowed().text("They are banned from this room"));
        }
        if self.config.members_only && affiliation == Affiliation::None {
            self.make_room_for(1)?;
            self.set_affiliation(&who, Affiliation::Member, None, None, out);
        }
        let from = self.inviter(incoming, affiliation);
        let reason = reason(invite)?.unwrap_or_default();
        out.push(Effect::Send(self.invitation_to(to, &from, &reason, invite)));
        Ok(())
    }

    /// In a semi-anonymous room the inviter is its nick, but to those who would see who it is.
    fn inviter(&self, incoming: &Incoming, of_invited: Affiliation) -> String {
        let sees = self.config.whois == Whois::Anyone || of_invited >= Affiliation::Admin;
        let session = incoming.session();
        match session.and_then(|session| self.occupants.by_session(session)) {
            Some(occupant) if !sees => self.address_of(&occupant.nick),
            None if !sees => self.address.to_string(),
            _ => incoming.from.to_bare().to_string(),
        }
    }

    fn invitation_to(&self, to: &Jid, from: &str, reason: &str, invite: &Element) -> Element {
        let mut answer = element("invite", ns::MUC_USER, &[("from", from)]);
        if !reason.is_empty() {
            answer.append_child(text_element("reason", ns::MUC_USER, reason));
        }
        if let Some(thread) = invite.get_child("continue", ns::MUC_USER) {
            answer.append_child(thread.clone());
        }
        let mut x = Element::bare("x", ns::MUC_USER);
        x.append_child(answer);
        let attributes = [("jid", self.address.as_str())];
        let mut direct = element("x", ns::CONFERENCE, &attributes);
        if !reason.is_empty() {
            set(&mut direct, "reason", reason);
        }
        if !self.config.password.is_empty() {
            let password = &self.config.password;
            x.append_child(text_element("password", ns::MUC_USER, password));
            set(&mut direct, "password", password);
        }
        let text = format!("{from} invites you to the room {}", self.address);
        let mut message = self.mediated(to);
        message.append_child(text_element("body", ns::JABBER_CLIENT, &text));
        message.append_child(x);
        message.append_child(direct);
        message
    }

    /// A refusal goes to somebody in the room alone: otherwise a room would carry anybody's words to anybody.
    fn decline(
        &self,
        incoming: &Incoming,
        decline: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let to = decline.attr("to").and_then(|to| Jid::new(to).ok());
        let to = to.ok_or_else(StanzaError::jid_malformed)?;
        let inviter = if to.to_bare() == self.address {
            to.resource()
                .and_then(|nick| self.occupants.get(nick.as_str()))
        } else {
            self.occupants.iter().find(|one| one.who == to.to_bare())
        };
        // Whether somebody is in the room is not told to whoever asks.
        let Some(inviter) = inviter else {
            return Ok(());
        };
        let from = self.decliner(&incoming.from.to_bare());
        let mut answer = element("decline", ns::MUC_USER, &[("from", &from)]);
        if let Some(reason) = reason(decline)? {
            answer.append_child(text_element("reason", ns::MUC_USER, &reason));
        }
        let mut x = Element::bare("x", ns::MUC_USER);
        x.append_child(answer);
        for session in &inviter.sessions {
            let mut message = self.mediated(&Jid::from(session.jid.clone()));
            message.append_child(x.clone());
            out.push(Effect::Send(message));
        }
        Ok(())
    }

    /// Who was invited is known to the inviter by JID; an occupant is not.
    fn decliner(&self, who: &BareJid) -> String {
        match self.occupants.iter().find(|one| one.who == *who) {
            Some(occupant) => self.address_of(&occupant.nick),
            None => who.to_string(),
        }
    }

    fn mediated(&self, to: &Jid) -> Element {
        let attributes = [("from", self.address.as_str()), ("to", to.as_str())];
        element("message", ns::JABBER_CLIENT, &attributes)
    }
}
