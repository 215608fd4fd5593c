//! How far each archive has been read, as it is stored: an id, and the time at which it was stored for archives that have
//! forgotten the id.

use std::collections::BTreeSet;

use jid::BareJid;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::gateway::Place;
use crate::storage::{Batch, KeyValue, Storage};

/// Owner: the account; key: the archive's JID.
const POSITIONS: KeyValue = KeyValue("archive_positions");

/// How far an archive has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub id: Option<String>,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// The archive that a message belongs to: the room's, else our own.
pub fn archive_of(place: &Place) -> Option<BareJid> {
    match place {
        Place::Room(room) => Some(room.clone()),
        Place::Direct(_) | Place::RoomPrivate(_) => None,
    }
}

pub(super) fn key(archive: Option<&BareJid>) -> String {
    archive.map(ToString::to_string).unwrap_or_default()
}

pub async fn position(
    storage: &Storage,
    account: &str,
    archive: Option<&BareJid>,
) -> Option<Position> {
    match storage.get(POSITIONS, account, &key(archive)).await {
        Ok(stored) => serde_json::from_slice(&stored?).ok(),
        Err(err) => {
            warn!("Failed to read an archive's position: {err:#}");
            None
        }
    }
}

/// The archives of which a position is stored.
pub async fn known(storage: &Storage, account: &str) -> BTreeSet<Option<BareJid>> {
    let stored = storage
        .list(POSITIONS, account, "")
        .await
        .unwrap_or_else(|err| {
            warn!("Failed to read the archives' positions: {err:#}");
            Vec::new()
        });
    let archive = |key: &str| match key {
        "" => Some(None),
        room => BareJid::new(room).ok().map(Some),
    };
    stored.iter().filter_map(|(key, _)| archive(key)).collect()
}

/// The write that remembers a position.
pub fn store(account: &str, archive: Option<&BareJid>, position: &Position) -> Batch {
    let value = serde_json::to_vec(position).unwrap_or_default();
    Batch::new().put(POSITIONS, account, &key(archive), value)
}
