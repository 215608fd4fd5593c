//! Roles and affiliations, asked for and changed: the muc#admin of XEP-0045, 8 to 10.

use std::collections::BTreeSet;

use jid::{BareJid, Jid};
use minidom::Element;

use super::announce::{Actor, Notice, user};
use super::enter::is_nick;
use super::{LONGEST_NICK, LONGEST_REASON, Room, prepared, reason};
use crate::server::StanzaError;
use crate::server::mail::Mail;
use crate::server::muc::config::Whois;
use crate::server::muc::event::{Effect, Incoming};
use crate::server::muc::rank::{
    Affiliation, Rank, Role, may_change_affiliation, may_change_role, role_after,
};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

/// What one more of its people may weigh in a room.
const LARGEST_AFFILIATE: usize = LONGEST_NICK + LONGEST_REASON + 2_048;

/// What one `<item/>` asks for.
enum Item {
    Role {
        nick: String,
        role: Role,
        reason: Option<String>,
    },
    Affiliation {
        who: BareJid,
        affiliation: Affiliation,
        /// To keep for them.
        nick: Option<String>,
        reason: Option<String>,
    },
}

impl Item {
    /// Whether the room may have to remember more afterwards.
    fn adds(&self) -> bool {
        matches!(self, Self::Affiliation { affiliation, .. } if *affiliation != Affiliation::None)
    }
}

impl Room {
    /// A list of people by affiliation or of occupants by role.
    pub(super) fn list(
        &self,
        incoming: &Incoming,
        query: &Element,
    ) -> Result<Element, StanzaError> {
        let item = query.get_child("item", ns::MUC_ADMIN);
        let item = item.ok_or_else(StanzaError::bad_request)?;
        let mut answer = Element::bare("query", ns::MUC_ADMIN);
        match (item.attr("affiliation"), item.attr("role")) {
            (Some(name), None) => {
                let wanted = Affiliation::read(name).ok_or_else(StanzaError::bad_request)?;
                self.may_list(incoming, wanted)?;
                self.list_affiliation(wanted, &mut answer);
            }
            (None, Some(name)) => {
                let wanted = Role::read(name).ok_or_else(StanzaError::bad_request)?;
                let rank = self.rank(&incoming.from);
                let is_list_of_admins = wanted == Role::Moderator;
                if rank.role < Role::Moderator
                    || (is_list_of_admins && rank.affiliation < Affiliation::Admin)
                {
                    return Err(StanzaError::forbidden());
                }
                self.list_role(wanted, &mut answer);
            }
            _ => return Err(StanzaError::bad_request()),
        }
        Ok(answer)
    }

    /// The lists of owners and admins are the owners' (XEP-0045, 10.5 and 10.8), the others the admins' (9.2 and 9.5). In a
    /// members-only room where all see real JIDs, members get all but the ban list: clients encrypt to them.
    fn may_list(&self, incoming: &Incoming, wanted: Affiliation) -> Result<(), StanzaError> {
        let own = self.affiliation(&incoming.from);
        let needed = if wanted >= Affiliation::Admin {
            Affiliation::Owner
        } else {
            Affiliation::Admin
        };
        let among_members = self.config.members_only
            && self.config.whois == Whois::Anyone
            && wanted >= Affiliation::Member
            && own >= Affiliation::Member;
        // What the owners let a role have (7.11).
        let by_role = wanted >= Affiliation::Member
            && self
                .present(incoming)
                .is_ok_and(|occupant| self.config.member_lists.has(occupant.role));
        if own >= needed || among_members || by_role {
            Ok(())
        } else {
            Err(StanzaError::forbidden())
        }
    }

    /// Without roles, which are optional here: Converse.js (14.0.0) puts the nick in the place of the role that it reads in
    /// such a list, and then lets an owner moderate nothing.
    fn list_affiliation(&self, wanted: Affiliation, answer: &mut Element) {
        for (who, affiliate) in self.affiliations.with(wanted) {
            let attributes = [("affiliation", wanted.name()), ("jid", who.as_str())];
            let mut item = element("item", ns::MUC_ADMIN, &attributes);
            let present = self.occupants.iter().find(|one| one.who == *who);
            if let Some(nick) = affiliate.nick.as_ref().or(present.map(|one| &one.nick)) {
                set(&mut item, "nick", nick);
            }
            if let Some(reason) = &affiliate.reason {
                item.append_child(text_element("reason", ns::MUC_ADMIN, reason));
            }
            answer.append_child(item);
        }
    }

    fn list_role(&self, wanted: Role, answer: &mut Element) {
        for occupant in self.occupants.iter().filter(|one| one.role == wanted) {
            let affiliation = self.affiliations.of(&occupant.who);
            for session in &occupant.sessions {
                let attributes = [
                    ("affiliation", affiliation.name()),
                    ("jid", session.jid.as_str()),
                    ("nick", &occupant.nick),
                    ("role", wanted.name()),
                ];
                answer.append_child(element("item", ns::MUC_ADMIN, &attributes));
            }
        }
    }

    /// Changes what the items say. All are looked at before the first one counts.
    pub(super) fn administer(
        &mut self,
        incoming: &Incoming,
        query: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let children = query
            .children()
            .filter(|child| child.is("item", ns::MUC_ADMIN));
        let items = children
            .map(|item| self.item(item))
            .collect::<Result<Vec<_>, _>>()?;
        if items.is_empty() {
            return Err(StanzaError::bad_request());
        }
        let more = items.iter().filter(|item| item.adds()).count();
        if more > 0 {
            self.make_room_for(more)?;
        }
        for item in &items {
            self.may_change(incoming, item)?;
        }
        self.keeps_an_owner(&items)?;
        for item in items {
            match item {
                Item::Role { nick, role, reason } => {
                    self.change_role(incoming, &nick, role, reason, out)?;
                }
                Item::Affiliation {
                    who,
                    affiliation,
                    nick,
                    reason,
                } => {
                    // The owners may have changed with the items before.
                    self.may_change_affiliation(incoming, &who, affiliation)?;
                    let actor = self.actor(&incoming.from);
                    self.set_affiliation(&who, affiliation, Some(actor), reason, out);
                    if let Some(nick) = nick {
                        self.reserve(&who, nick, out);
                    }
                }
            }
        }
        Ok(())
    }

    /// One after the other each may go who is not the last.
    fn keeps_an_owner(&self, items: &[Item]) -> Result<(), StanzaError> {
        let owners = self.affiliations.with(Affiliation::Owner);
        let mut owners: BTreeSet<&BareJid> = owners.map(|(who, _)| who).collect();
        for item in items {
            if let Item::Affiliation {
                who, affiliation, ..
            } = item
            {
                if *affiliation == Affiliation::Owner {
                    owners.insert(who);
                } else {
                    owners.remove(who);
                }
            }
        }
        if owners.is_empty() {
            return Err(StanzaError::conflict());
        }
        Ok(())
    }

    /// A role goes by nick, an affiliation by JID; where a client gives the other one, an occupant is looked for.
    fn item(&self, item: &Element) -> Result<Item, StanzaError> {
        let jid = item.attr("jid").map(Jid::new).transpose();
        let jid = jid.map_err(|_malformed| StanzaError::jid_malformed())?;
        let nick = item.attr("nick").map(prepared).transpose()?;
        let reason = reason(item)?;
        match (item.attr("affiliation"), item.attr("role")) {
            (Some(name), None) => {
                let affiliation = Affiliation::read(name).ok_or_else(StanzaError::bad_request)?;
                let by_nick = nick.as_deref().and_then(|nick| self.occupants.get(nick));
                let (who, nick) = match (jid, by_nick) {
                    (Some(jid), _) => (jid.to_bare(), nick),
                    (None, Some(occupant)) => (occupant.who.clone(), None),
                    (None, None) => return Err(StanzaError::item_not_found()),
                };
                Ok(Item::Affiliation {
                    who,
                    affiliation,
                    nick: nick.filter(|_| affiliation >= Affiliation::Member),
                    reason,
                })
            }
            (None, Some(name)) => {
                let role = Role::read(name).ok_or_else(StanzaError::bad_request)?;
                let by_jid = jid.as_ref().and_then(|jid| jid.try_as_full().ok());
                let by_jid = by_jid.and_then(|session| self.occupants.by_session(session));
                let nick = nick.or_else(|| by_jid.map(|one| one.nick.clone()));
                let nick = nick.ok_or_else(StanzaError::item_not_found)?;
                Ok(Item::Role { nick, role, reason })
            }
            _ => Err(StanzaError::bad_request()),
        }
    }

    fn may_change(&self, incoming: &Incoming, item: &Item) -> Result<(), StanzaError> {
        match item {
            Item::Role { nick, role, .. } => self.may_change_role(incoming, nick, *role),
            Item::Affiliation {
                who,
                affiliation,
                nick,
                ..
            } => {
                self.may_change_affiliation(incoming, who, *affiliation)?;
                match nick {
                    Some(nick) => self.may_reserve(nick, who),
                    None => Ok(()),
                }
            }
        }
    }

    fn may_change_role(
        &self,
        incoming: &Incoming,
        nick: &str,
        role: Role,
    ) -> Result<(), StanzaError> {
        let actor = self.rank(&incoming.from);
        if actor.role < Role::Moderator {
            return Err(StanzaError::forbidden());
        }
        let target = self.occupants.get(nick);
        let target = target.ok_or_else(StanzaError::item_not_found)?;
        let target = Rank {
            affiliation: self.affiliations.of(&target.who),
            role: target.role,
        };
        may_change_role(actor, target, role)
    }

    fn may_change_affiliation(
        &self,
        incoming: &Incoming,
        who: &BareJid,
        to: Affiliation,
    ) -> Result<(), StanzaError> {
        let actor = self.affiliation(&incoming.from);
        let old = self.affiliations.get(who);
        let old = old.map_or(Affiliation::None, |one| one.affiliation);
        let bans_self = to == Affiliation::Outcast && *who == incoming.from.to_bare();
        if bans_self && actor >= Affiliation::Admin {
            return Err(StanzaError::conflict());
        }
        may_change_affiliation(actor, old, to)?;
        if to != Affiliation::Owner && self.affiliations.is_last_owner(who) {
            return Err(StanzaError::conflict());
        }
        Ok(())
    }

    pub(super) fn may_reserve(&self, nick: &str, who: &BareJid) -> Result<(), StanzaError> {
        is_nick(nick)?;
        let used = self.occupants.get(nick).is_some_and(|one| one.who != *who);
        let held = self.affiliations.holder(nick).is_some_and(|one| one != who);
        let wanted = self.applicants.holder(nick).is_some_and(|one| one != who);
        if used || held || wanted {
            return Err(StanzaError::conflict());
        }
        Ok(())
    }

    pub(super) fn make_room_for(&self, more: usize) -> Result<(), StanzaError> {
        let bytes = more.saturating_mul(LARGEST_AFFILIATE);
        if self.affiliations.len() + more > self.limits.affiliations
            || self.affiliations.bytes() + bytes > self.limits.affiliation_bytes
        {
            return Err(StanzaError::resource_constraint());
        }
        Ok(())
    }

    pub(super) fn actor(&self, who: &Jid) -> Actor {
        let session = who.try_as_full().ok();
        let occupant = session.and_then(|session| self.occupants.by_session(session));
        Actor {
            nick: occupant.map(|occupant| occupant.nick.clone()),
            who: who.to_bare(),
        }
    }

    pub(super) fn change_role(
        &mut self,
        incoming: &Incoming,
        nick: &str,
        role: Role,
        reason: Option<String>,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        self.may_change_role(incoming, nick, role)?;
        let notice = Notice {
            actor: Some(self.actor(&incoming.from)),
            reason,
            ..Notice::default()
        };
        if role == Role::None {
            let codes = vec![307];
            self.expel(nick, &Notice { codes, ..notice }, out);
        } else {
            self.give_role(nick, role, &notice, out);
        }
        Ok(())
    }

    fn give_role(&mut self, nick: &str, role: Role, notice: &Notice, out: &mut Vec<Effect>) {
        let before = self.occupants.get(nick);
        let Some((old, saw)) = before.map(|one| (one.role, self.reveals_to(one))) else {
            return;
        };
        self.occupants.change(nick, |occupant| occupant.role = role);
        if self.is_shown(old) && !self.is_shown(role) {
            self.hide(nick, notice, out);
        }
        self.announce(nick, notice, out);
        if let Some(occupant) = self.occupants.get(nick)
            && self.reveals_to(occupant) != saw
        {
            // Now they see real JIDs, or no longer: everybody else anew.
            for session in &occupant.sessions {
                self.roster(occupant, &session.jid, out);
            }
        }
    }

    /// Changes somebody's affiliation, with what follows from it for their presence.
    pub(super) fn set_affiliation(
        &mut self,
        who: &BareJid,
        new: Affiliation,
        actor: Option<Actor>,
        reason: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        let old = self.affiliations.of(who);
        self.affiliations.set(who.clone(), new, reason.clone());
        self.persist_affiliation(who, out);
        // Whatever was asked for them is decided with it.
        self.dismiss(who, out);
        let notice = Notice {
            actor,
            reason,
            ..Notice::default()
        };
        let nicks = self.occupants.nicks_of(who);
        if nicks.is_empty() && old != new {
            self.tell_of_absent(who, new, &notice, out);
        }
        for nick in nicks {
            self.apply_affiliation(&nick, old, &notice, out);
        }
    }

    fn apply_affiliation(
        &mut self,
        nick: &str,
        old: Affiliation,
        notice: &Notice,
        out: &mut Vec<Effect>,
    ) {
        let Some(occupant) = self.occupants.get(nick) else {
            return;
        };
        let new = self.affiliations.of(&occupant.who);
        let default = self.default_role(new);
        match role_after(occupant.role, old, new, default) {
            Role::None => {
                // 301: banned; 321: no longer affiliated with a members-only room (XEP-0045, 9.1 and 9.4).
                let code = if new == Affiliation::Outcast {
                    301
                } else {
                    321
                };
                let codes = vec![code];
                let notice = notice.clone();
                self.expel(nick, &Notice { codes, ..notice }, out);
            }
            role => self.give_role(nick, role, notice, out),
        }
    }

    /// Somebody who is not here: those who see real JIDs are told, and they themselves (status 101), unless they are banned.
    fn tell_of_absent(
        &self,
        who: &BareJid,
        affiliation: Affiliation,
        notice: &Notice,
        out: &mut Vec<Effect>,
    ) {
        let attributes = [
            ("affiliation", affiliation.name()),
            ("role", Role::None.name()),
            ("jid", who.as_str()),
        ];
        let mut item = element("item", ns::MUC_USER, &attributes);
        if let Some(reason) = &notice.reason {
            item.append_child(text_element("reason", ns::MUC_USER, reason));
        }
        let from = [("from", self.address.as_str())];
        let mut message = element("message", ns::JABBER_CLIENT, &from);
        message.append_child(user([item.clone()], &[]));
        let to = self.occupants.sessions(|one| self.reveals_to(one));
        if !to.is_empty() {
            let stanza = Mail::for_many(message);
            out.push(Effect::Broadcast { to, stanza });
        }
        if affiliation != Affiliation::Outcast && who.node().is_some() {
            let mut message = element("message", ns::JABBER_CLIENT, &from);
            set(&mut message, "to", who.as_str());
            message.append_child(user([item], &[101]));
            out.push(Effect::Send(message));
        }
    }

    pub(super) fn reserve(&mut self, who: &BareJid, nick: String, out: &mut Vec<Effect>) {
        self.affiliations.reserve(who, nick);
        self.persist_affiliation(who, out);
    }
}
