//! Rooms that the bot was asked into, by `/join` or an invitation, and is in again after a restart; and contacts.

use jid::BareJid;
use serde::{Deserialize, Serialize};
use tracing::error;
use xmpp_parsers::presence::{Presence, Type};

use super::account::Handle;
use crate::storage::{Batch, KeyValue, Storage};

/// Owner: the account; key: the room.
const ROOMS: KeyValue = KeyValue("rooms");

/// A room's password, which no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Password {
    fn from(password: &str) -> Self {
        Self(password.to_owned())
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("****")
    }
}

/// A room to be in: its address, and nick and password where they are its own.
pub type Wanted = (BareJid, Option<String>, Option<Password>);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Remembered {
    nick: Option<String>,
    password: Option<Password>,
}

/// Joins it again after a restart.
pub async fn remember(
    storage: &Storage,
    account: &str,
    room: &BareJid,
    nick: Option<&str>,
    password: Option<&Password>,
) {
    let remembered = Remembered {
        nick: nick.map(Into::into),
        password: password.cloned(),
    };
    let value = serde_json::to_vec(&remembered).unwrap_or_default();
    if let Err(err) = storage
        .commit(Batch::new().put(ROOMS, account, room.as_str(), value))
        .await
    {
        error!("Failed to remember the room {room}: {err:#}");
    }
}

pub async fn forget(storage: &Storage, account: &str, room: &BareJid) {
    if let Err(err) = storage
        .commit(Batch::new().delete(ROOMS, account, room.as_str()))
        .await
    {
        error!("Failed to forget the room {room}: {err:#}");
    }
}

/// The remembered rooms of an account.
pub async fn remembered(storage: &Storage, account: &str) -> Vec<Wanted> {
    let stored = storage
        .list(ROOMS, account, "")
        .await
        .unwrap_or_else(|err| {
            error!("Failed to read the remembered rooms: {err:#}");
            Vec::new()
        });
    let read = |(room, value): (String, Vec<u8>)| {
        let remembered: Remembered = serde_json::from_slice(&value).unwrap_or_default();
        Some((
            BareJid::new(&room).ok()?,
            remembered.nick,
            remembered.password,
        ))
    };
    stored.into_iter().filter_map(read).collect()
}

/// Accepts a subscription, or grants it in advance, and asks for one (RFC 6121, 3).
pub async fn befriend(handle: &Handle, jid: &BareJid) {
    for kind in [Type::Subscribed, Type::Subscribe] {
        handle.presence(directed(kind, jid)).await.ok(); // The account has ended.
    }
}

pub(super) fn directed(kind: Type, to: &BareJid) -> Presence {
    let mut presence = Presence::new(kind);
    presence.to = Some(to.clone().into());
    presence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_stored_as_it_is_and_shown_to_nobody() {
        let password = Password::from("xyzzy");
        assert_eq!(serde_json::to_string(&password).unwrap(), "\"xyzzy\"");
        let remembered = Remembered {
            nick: None,
            password: Some(password),
        };
        assert!(!format!("{remembered:?}").contains("xyzzy"));
    }
}
