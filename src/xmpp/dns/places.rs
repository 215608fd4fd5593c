//! How many questions are under way at a time: some hundreds, and a few about the names of one owner, so that name servers
//! which say nothing hold up nobody but who asks about them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const ALL: usize = 512;
const SHARE: usize = 8;

#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// By owner; gone when nobody asks about theirs any more.
    shares: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL)),
            shares: Mutex::default(),
        }
    }
}

/// The right to ask, until it is dropped.
pub(super) struct Place<'a> {
    places: &'a Places,
    owner: String,
    share: Option<OwnedSemaphorePermit>,
    all: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// Waits for a place. The semaphores are never closed.
    pub(super) async fn take(&self, name: &str) -> Place<'_> {
        let owner = owner(name).to_owned();
        let share = {
            let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
            let share = shares.entry(owner.clone());
            Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(SHARE))))
        };
        let mut place = Place {
            places: self,
            owner,
            share: None,
            all: None,
        };
        place.share = share.acquire_owned().await.ok();
        place.all = Arc::clone(&self.all).acquire_owned().await.ok();
        place
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        drop((self.share.take(), self.all.take()));
        let shares = self.places.shares.lock();
        let mut shares = shares.unwrap_or_else(PoisonError::into_inner);
        if shares
            .get(&self.owner)
            .is_some_and(|share| Arc::strong_count(share) == 1)
        {
            shares.remove(&self.owner);
        }
    }
}

/// Who owns a name, about: its last two labels.
fn owner(name: &str) -> &str {
    let name = name.trim_end_matches('.');
    let mut dots = name.rmatch_indices('.');
    dots.nth(1)
        .and_then(|(at, _)| name.get(at + 1..))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn names_below_a_domain_are_of_one_owner() {
        for (name, expected) in [
            ("example", "example"),
            ("a.example", "a.example"),
            ("_xmpp-server._tcp.b.a.example.", "a.example"),
        ] {
            assert_eq!(owner(name), expected);
        }
    }

    #[tokio::test]
    async fn one_owner_has_a_few_places_and_others_theirs() {
        let places = Places::default();
        let mut taken = Vec::new();
        for number in 0..SHARE {
            taken.push(places.take(&format!("{number}.a.example")).await);
        }
        assert!(places.take("x.a.example").now_or_never().is_none());
        assert!(places.take("x.b.example").now_or_never().is_some());
        taken.pop();
        assert!(places.take("x.a.example").now_or_never().is_some());
        taken.clear();
        assert!(places.shares.lock().unwrap().is_empty());
    }
}
