//! The slots that are open: given to a client, and not used yet. They are in memory alone: a restart closes them, and
//! clients ask again.

use std::collections::HashMap;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::request::Wanted;
use crate::server::random_id;

/// There is no reason to wait between asking and putting (XEP-0363, 7).
const LIFETIME: Duration = Duration::from_mins(5);

/// Slots of all accounts together.
const MOST: usize = 10_000;

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub owner: String,
    pub wanted: Wanted,
    secret: String,
    until: Instant,
    /// Somebody is putting the file there.
    busy: bool,
}

#[derive(Debug, Default)]
pub(super) struct Slots(HashMap<String, Slot>);

/// Why a slot is not given out for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    Unknown,
    Secret,
    Busy,
}

impl Slots {
    /// Opens one: its id, and the secret. `None`: there are too many.
    pub(super) fn open(&mut self, owner: &str, wanted: Wanted) -> Option<(String, String)> {
        self.sweep();
        if self.0.len() >= MOST {
            return None;
        }
        let (id, secret) = (random_id(), random_id());
        let slot = Slot {
            owner: owner.to_owned(),
            wanted,
            secret: secret.clone(),
            until: Instant::now() + LIFETIME,
            busy: false,
        };
        self.0.insert(id.clone(), slot);
        Some((id, secret))
    }

    /// Bytes of each open slot of an account.
    pub(super) fn of(&mut self, owner: &str) -> Vec<u64> {
        self.sweep();
        let own = self.0.values().filter(|slot| slot.owner == owner);
        own.map(|slot| slot.wanted.size).collect()
    }

    /// Takes one for a file, for the name in its link and the secret.
    pub(super) fn take(&mut self, id: &str, name: &str, secret: &str) -> Result<Slot, Shut> {
        self.sweep();
        let slot = self.0.get_mut(id).filter(|slot| slot.wanted.name == name);
        let slot = slot.ok_or(Shut::Unknown)?;
        if !bool::from(slot.secret.as_bytes().ct_eq(secret.as_bytes())) {
            return Err(Shut::Secret);
        }
        if std::mem::replace(&mut slot.busy, true) {
            return Err(Shut::Busy);
        }
        Ok(slot.clone())
    }

    /// The file did not arrive: it may be tried again, as long as the slot is open.
    pub(super) fn give_back(&mut self, id: &str) {
        if let Some(slot) = self.0.get_mut(id) {
            slot.busy = false;
        }
    }

    pub(super) fn close(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Closes those of an account that is gone.
    pub(super) fn close_all(&mut self, owner: &str) {
        self.0.retain(|_, slot| slot.owner != owner);
    }

    pub(super) fn is_busy(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|slot| slot.busy)
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, slot| slot.busy || slot.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> Wanted {
        Wanted {
            name: name.to_owned(),
            size: 7,
            kind: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_for_who_knows_its_secret_for_minutes_and_for_one_at_a_time() {
        let mut slots = Slots::default();
        let (id, secret) = slots.open("juliet", wanted("a.png")).unwrap();
        let shut = |slots: &mut Slots, id: &str, name: &str, secret: &str| {
            slots.take(id, name, secret).unwrap_err()
        };
        assert_eq!(shut(&mut slots, &id, "b.png", &secret), Shut::Unknown);
        assert_eq!(shut(&mut slots, &secret, "a.png", &secret), Shut::Unknown);
        assert_eq!(shut(&mut slots, &id, "a.png", &id), Shut::Secret);
        assert_eq!(shut(&mut slots, &id, "a.png", ""), Shut::Secret);
        assert_eq!(slots.take(&id, "a.png", &secret).unwrap().owner, "juliet");
        assert_eq!(shut(&mut slots, &id, "a.png", &secret), Shut::Busy);
        tokio::time::advance(LIFETIME).await;
        assert_eq!(slots.of("juliet"), [7], "it is in use");
        slots.give_back(&id);
        assert_eq!(shut(&mut slots, &id, "a.png", &secret), Shut::Unknown);
        assert!(slots.of("juliet").is_empty());
    }

    #[tokio::test]
    async fn there_are_so_many_slots_and_those_of_the_gone_are_closed() {
        let mut slots = Slots::default();
        for _ in 0..MOST {
            slots.open("juliet", wanted("a")).unwrap();
        }
        assert!(slots.open("romeo", wanted("a")).is_none());
        slots.close_all("juliet");
        assert!(slots.open("romeo", wanted("a")).is_some());
    }
}
