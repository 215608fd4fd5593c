//! Where a conversation takes place, who speaks there, and with what standing.

use jid::{BareJid, FullJid, Jid};
use serde::{Deserialize, Serialize};

/// Where a conversation takes place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// A direct chat with a bare JID.
    Direct(BareJid),
    /// A room.
    Room(BareJid),
    /// A private chat with an occupant, `room@host/nick`: never answered in the room.
    RoomPrivate(FullJid),
}

impl Place {
    /// Where an answer goes: the bare JID of a chat or a room, the occupant's full JID of a private message.
    pub fn address(&self) -> Jid {
        match self {
            Self::Direct(jid) | Self::Room(jid) => jid.clone().into(),
            Self::RoomPrivate(jid) => jid.clone().into(),
        }
    }

    pub fn is_room(&self) -> bool {
        matches!(self, Self::Room(_))
    }

    /// The room that this place is or lies in.
    pub fn room(&self) -> Option<BareJid> {
        match self {
            Self::Direct(_) => None,
            Self::Room(room) => Some(room.clone()),
            Self::RoomPrivate(occupant) => Some(occupant.to_bare()),
        }
    }
}

/// Who sent something. In a room, `real` is known only where the room shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The stanza's `from`: a full JID, or `room@host/nick`.
    pub from: Jid,
    /// The real bare JID.
    pub real: Option<BareJid>,
    /// The nick in the room.
    pub nick: Option<String>,
    /// XEP-0421.
    pub occupant_id: Option<String>,
    /// A moderator, admin or owner of the room.
    pub moderator: bool,
    /// Announces itself as client/bot (disco identity), as far as known.
    pub bot: bool,
}

impl Sender {
    /// Nothing is known but the address.
    pub fn unknown(from: Jid) -> Self {
        Self {
            from,
            real: None,
            nick: None,
            occupant_id: None,
            moderator: false,
            bot: false,
        }
    }

    /// How the sender is named to the model and in logs: the nick in a room, else the bare JID.
    pub fn name(&self) -> String {
        match (&self.nick, &self.real) {
            (Some(nick), _) => nick.clone(),
            (None, Some(real)) => real.to_string(),
            (None, None) => self.from.to_bare().to_string(),
        }
    }

    /// Whether `other` is the same person: same real JID, else same occupant-id, else the same occupant JID.
    /// Corrections, retractions and reactions are only taken from the one who wrote.
    pub fn is_same(&self, other: &Self) -> bool {
        match (
            &self.real,
            &other.real,
            &self.occupant_id,
            &other.occupant_id,
        ) {
            (Some(a), Some(b), _, _) => a == b,
            (_, _, Some(a), Some(b)) => a == b,
            (_, _, None, None) => self.from == other.from,
            _ => false,
        }
    }

    /// What limits and budgets count by: the real bare JID, else the occupant-id, else the occupant JID.
    pub fn key(&self) -> String {
        match (&self.real, &self.occupant_id) {
            (Some(real), _) => real.to_string(),
            (None, Some(id)) => format!("{}#{id}", self.from.to_bare()),
            (None, None) => self.from.to_string(),
        }
    }
}

/// What admission found: everyone who gets this far may talk here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// May use privileged commands in this place: an operator, in a direct chat.
    pub operator: bool,
    /// Admitted for a time only, by `/guest`.
    pub guest: bool,
}
