//! Rooms that were to last and were destroyed (XEP-0045, 10.9): who enters one later is told that it is gone, and where to go
//! instead, and nobody else takes its place at once.

use std::collections::BTreeMap;

use jid::BareJid;

use super::{ROOMS, Service, lock, now};
use crate::server::muc::event::Tombstone;
use crate::server::{Condition, StanzaError};
use crate::storage::{Batch, Durability};

/// The key of what is left of a room.
pub(super) const TOMBSTONE: &str = "tombstone";

/// So long: a month, in milliseconds.
const LASTS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// And so many.
const MOST: usize = 10_000;

/// By local part.
pub(super) type Tombstones = BTreeMap<String, Tombstone>;

/// What is stored; `None`: it is too old, or cannot be read.
pub(super) fn read(stored: &[u8]) -> Option<Tombstone> {
    let tombstone: Tombstone = serde_json::from_slice(stored).ok()?;
    (!is_over(&tombstone)).then_some(tombstone)
}

fn is_over(tombstone: &Tombstone) -> bool {
    tombstone.at.saturating_add(LASTS) < now()
}

impl Service {
    pub(super) fn bury(&self, node: &str, tombstone: Tombstone) {
        let mut tombstones = lock(&self.tombstones);
        tombstones.insert(node.to_owned(), tombstone);
        if tombstones.len() <= MOST {
            return;
        }
        let oldest = tombstones.iter().min_by_key(|(_, one)| one.at);
        if let Some(oldest) = oldest.map(|(node, _)| node.clone()) {
            tombstones.remove(&oldest);
            self.forget_tombstone(&oldest);
        }
    }

    /// Whether this person may make a room where another was. Its owners may, and then it is forgotten.
    pub(super) fn may_succeed(&self, node: &str, who: &BareJid) -> Result<(), StanzaError> {
        let mut tombstones = lock(&self.tombstones);
        let Some(tombstone) = tombstones.get(node) else {
            return Ok(());
        };
        if !is_over(tombstone) && !tombstone.owners.contains(who) {
            return Err(gone(tombstone));
        }
        tombstones.remove(node);
        self.forget_tombstone(node);
        Ok(())
    }

    fn forget_tombstone(&self, node: &str) {
        if let Some(address) = self.address(node) {
            let batch = Batch::new().delete(ROOMS, address.as_str(), TOMBSTONE);
            // Whether it is written is no matter: what comes back after a restart is only in the way of others.
            drop(self.storage.submit(batch, Durability::Process));
        }
    }
}

fn gone(tombstone: &Tombstone) -> StanzaError {
    let venue = tombstone.venue.as_ref();
    let mut gone = StanzaError::gone();
    gone.condition = Condition::Gone {
        new_address: venue.map(|venue| format!("xmpp:{venue}?join")),
    };
    match &tombstone.reason {
        Some(reason) => gone.text(reason),
        None => gone,
    }
}
