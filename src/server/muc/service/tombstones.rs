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
/// And so many, and of one owner.
const MOST: usize = 10_000;
const MOST_OF_ONE: usize = 100;

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
        let owners = tombstone.owners.clone();
        tombstones.insert(node.to_owned(), tombstone);
        // Who destroys one room after the other pushes out the own ones first.
        let is_own = |one: &Tombstone| one.owners.iter().any(|owner| owners.contains(owner));
        let own = tombstones.values().filter(|one| is_own(one)).count();
        let is_too_many = own > MOST_OF_ONE || tombstones.len() > MOST;
        let oldest = tombstones
            .iter()
            .filter(|(_, one)| own <= MOST_OF_ONE || is_own(one))
            .min_by_key(|(_, one)| one.at)
            .filter(|_| is_too_many)
            .map(|(node, _)| node.clone());
        if let Some(oldest) = oldest {
            tombstones.remove(&oldest);
            self.forget_tombstone(&oldest);
        }
    }

    /// Whether this person may make a room where another was: its owners may.
    pub(super) fn may_succeed(&self, node: &str, who: &BareJid) -> Result<(), StanzaError> {
        let tombstones = lock(&self.tombstones);
        let tombstone = tombstones.get(node);
        match tombstone.filter(|one| !is_over(one) && !one.owners.contains(who)) {
            Some(tombstone) => Err(gone(tombstone)),
            None => Ok(()),
        }
    }

    /// There is a room again.
    pub(super) fn unbury(&self, node: &str) {
        if lock(&self.tombstones).remove(node).is_some() {
            self.forget_tombstone(node);
        }
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
