//! May this sender talk here? Pure functions over the configuration and the stored approvals; the caller logs the reason.
//!
//! Two rules hold everywhere: an empty list is nobody, and only a real JID proves who somebody is. Where a room hides
//! the JIDs, nobody in it is on a list.

use std::collections::BTreeMap;

use jid::BareJid;
use serde::{Deserialize, Serialize};

use crate::config::{Account, AutoJoin, Policy};
use crate::gateway::{Place, Sender, Standing, pattern};

/// What an operator has decided about a JID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    Allow,
    /// Allowed until then, milliseconds since 1970.
    Guest {
        until: i64,
    },
    Block,
    /// By `/claim`: as if listed in `operators`.
    Operator,
}

/// The grants of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvals(BTreeMap<String, Grant>);

impl Approvals {
    pub fn get(&self, jid: &BareJid) -> Option<Grant> {
        self.0.get(&pattern::comparable(jid)).copied()
    }

    pub fn set(&mut self, jid: &BareJid, grant: Grant) {
        self.0.insert(pattern::comparable(jid), grant);
    }

    pub fn remove(&mut self, jid: &BareJid) -> bool {
        self.0.remove(&pattern::comparable(jid)).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Grant)> {
        self.0.iter().map(|(jid, grant)| (jid.as_str(), *grant))
    }
}

/// What is known of the account when a decision is due.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub account: &'a Account,
    pub approvals: &'a Approvals,
    /// Milliseconds since 1970.
    pub now: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Admit(Standing),
    /// Tell the sender that they are unknown, and ask the operators; see `pairing`.
    AskPairing,
    Ignore(Reason),
}

/// Why somebody is not answered. Its `Display` is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the account's own JID")]
    Own,
    #[error("blocked by an operator")]
    Blocked,
    #[error("direct chats are disabled")]
    DirectDisabled,
    #[error("not on the allowlist")]
    NotListed,
    #[error("a service, not a person")]
    Service,
    #[error("rooms are disabled")]
    RoomsDisabled,
    #[error("this room is disabled")]
    RoomDisabled,
    #[error("the room is not on group_allowlist")]
    RoomNotListed,
    #[error("not one of the room's users")]
    NotUser,
    #[error("the room hides the JID, so that it is none of the room's users")]
    Hidden,
    #[error("from the room itself")]
    RoomItself,
    #[error("invitations are not accepted from this sender to this room")]
    InviteNotListed,
    #[error("invitations are off")]
    InvitesOff,
}

/// Whether a message's sender may talk in its place.
pub fn decide(rules: Rules<'_>, place: &Place, sender: &Sender) -> Decision {
    let outcome = match place {
        Place::Direct(jid) => return direct(rules, sender.real.as_ref().unwrap_or(jid)),
        Place::Room(room) => in_room(rules, room, sender),
        Place::RoomPrivate(occupant) => private(rules, &occupant.to_bare(), sender),
    };
    match outcome {
        Ok(standing) => Decision::Admit(standing),
        Err(reason) => Decision::Ignore(reason),
    }
}

/// Whether a JID may talk in a direct chat; also whether its subscription request is accepted and returned.
pub fn direct(rules: Rules<'_>, jid: &BareJid) -> Decision {
    let Rules {
        account, approvals, ..
    } = rules;
    if *jid == account.jid {
        return Decision::Ignore(Reason::Own);
    }
    let operator = Decision::Admit(Standing {
        operator: true,
        guest: false,
    });
    // The file is the owner's word; a block by a command must not lock the owner out.
    if pattern::any(&account.operators, jid) {
        return operator;
    }
    let grant = approvals.get(jid);
    match grant {
        Some(Grant::Block) => return Decision::Ignore(Reason::Blocked),
        Some(Grant::Operator) => return operator,
        _ => {}
    }
    if account.dm_policy == Policy::Disabled {
        return Decision::Ignore(Reason::DirectDisabled);
    }
    let standing = Standing::default();
    if pattern::any(&account.allowlist, jid) {
        return Decision::Admit(standing);
    }
    match grant {
        Some(Grant::Allow) => return Decision::Admit(standing),
        Some(Grant::Guest { until }) if until > rules.now => {
            return Decision::Admit(Standing {
                guest: true,
                ..standing
            });
        }
        _ => {}
    }
    // Servers and transports talk by themselves: answering them unasked starts loops.
    if jid.node().is_none() {
        return Decision::Ignore(Reason::Service);
    }
    match (account.dm_policy, account.pairing) {
        (Policy::Open, _) => Decision::Admit(standing),
        (_, true) => Decision::AskPairing,
        (_, false) => Decision::Ignore(Reason::NotListed),
    }
}

/// Nobody has privileges in a room: what is said there is not proof enough of who said it.
fn in_room(rules: Rules<'_>, room: &BareJid, sender: &Sender) -> Result<Standing, Reason> {
    permits_room(rules, room)?;
    if sender.from.resource().is_none() {
        return Err(Reason::RoomItself);
    }
    not_blocked(rules, sender)?;
    let users = rules
        .account
        .muc_rooms
        .get(room)
        .and_then(|room| room.users.as_ref());
    match (users, &sender.real) {
        (None, _) => Ok(Standing::default()),
        (Some(_), None) => Err(Reason::Hidden),
        (Some(users), Some(real)) if pattern::any(users, real) => Ok(Standing::default()),
        (Some(_), Some(_)) => Err(Reason::NotUser),
    }
}

/// A private message of an occupant: whoever may talk in the room, and whoever may talk directly where the room shows
/// the JID. `dm_policy = "disabled"` ends both, as it means that the bot talks in public only. Unknown occupants are
/// not put before the operators: an approval needs a JID that lasts.
fn private(rules: Rules<'_>, room: &BareJid, sender: &Sender) -> Result<Standing, Reason> {
    not_blocked(rules, sender)?;
    if rules.account.dm_policy == Policy::Disabled {
        return Err(Reason::DirectDisabled);
    }
    in_room(rules, room, sender).or_else(|reason| {
        match sender.real.as_ref().map(|real| direct(rules, real)) {
            Some(Decision::Admit(standing)) => Ok(Standing {
                operator: false,
                ..standing
            }),
            _ => Err(reason),
        }
    })
}

/// Whether anything is answered in a room.
fn permits_room(rules: Rules<'_>, room: &BareJid) -> Result<(), Reason> {
    let account = rules.account;
    if account
        .muc_rooms
        .get(room)
        .is_some_and(|room| !room.enabled)
    {
        return Err(Reason::RoomDisabled);
    }
    let grant = rules.approvals.get(room);
    if grant == Some(Grant::Block) {
        return Err(Reason::Blocked);
    }
    match account.group_policy {
        Policy::Open => Ok(()),
        Policy::Disabled => Err(Reason::RoomsDisabled),
        Policy::Allowlist => {
            let approved = grant == Some(Grant::Allow)
                || matches!(grant, Some(Grant::Guest { until }) if until > rules.now);
            if approved || pattern::any(&account.group_allowlist, room) {
                Ok(())
            } else {
                Err(Reason::RoomNotListed)
            }
        }
    }
}

fn not_blocked(rules: Rules<'_>, sender: &Sender) -> Result<(), Reason> {
    let blocked = sender.real.as_ref().is_some_and(|real| {
        rules.approvals.get(real) == Some(Grant::Block)
            && !pattern::any(&rules.account.operators, real)
    });
    if blocked {
        Err(Reason::Blocked)
    } else {
        Ok(())
    }
}

/// Whether to follow an invitation: mediated (XEP-0045, 7.8.2) or direct (XEP-0249). `inviter` is the real JID, where the
/// stanza's `from` or the room proves one. `Err` says why not. Joining a room in which nothing would be answered is useless.
pub fn invite(rules: Rules<'_>, room: &BareJid, inviter: Option<&BareJid>) -> Result<(), Reason> {
    permits_room(rules, room)?;
    let account = rules.account;
    let inviter = inviter.map(|jid| (jid, direct(rules, jid)));
    if matches!(inviter, Some((_, Decision::Ignore(Reason::Blocked)))) {
        return Err(Reason::Blocked);
    }
    match account.auto_join_invites {
        AutoJoin::Always => Ok(()),
        AutoJoin::Off => Err(Reason::InvitesOff),
        AutoJoin::Allowlist => {
            let listed = pattern::any(&account.group_allowlist, room)
                || account.muc_rooms.contains_key(room)
                || account.rooms.iter().any(|(known, _)| known == room)
                || rules.approvals.get(room) == Some(Grant::Allow);
            // Not everyone whom `dm_policy = "open"` lets talk: the inviter must be on a list.
            let trusted = inviter.is_some_and(|(jid, decision)| {
                matches!(decision, Decision::Admit(Standing { operator: true, .. }))
                    || pattern::any(&account.allowlist, jid)
                    || rules.approvals.get(jid) == Some(Grant::Allow)
            });
            if listed || trusted {
                Ok(())
            } else {
                Err(Reason::InviteNotListed)
            }
        }
    }
}

#[cfg(test)]
mod tests;
