//! So many at a time, and so many of them for one owner of domains: whoever has a thousand names of a slow server takes few of
//! the places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) struct Places {
    all: Arc<Semaphore>,
    each: usize,
    owners: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Until it is dropped.
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            each,
            owners: Mutex::default(),
        }
    }

    /// Waits for a place. `None`: never, they are not closed.
    pub(super) async fn take(&self, domain: &str) -> Option<Place> {
        let own = self.of(owner(domain));
        // Who waits for others of the same owner takes no place from the rest.
        let own = own.acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Place {
            _all: all,
            _own: own,
        })
    }

    fn of(&self, owner: &str) -> Arc<Semaphore> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.len() >= 1_024 {
            // Whoever waits or is in has another handle.
            owners.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = owners
            .entry(owner.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Arc::clone(places)
    }
}

/// What somebody registers, as a guess: the last two labels, or three where the second is as short as those of `co.uk`.
pub(super) fn owner(domain: &str) -> &str {
    let mut labels = domain.rmatch_indices('.').map(|(index, _)| index);
    let (Some(last), Some(second)) = (labels.next(), labels.next()) else {
        return domain;
    };
    let length = last.saturating_sub(second).saturating_sub(1);
    let before = if length <= 3 {
        labels.next()
    } else {
        Some(second)
    };
    before
        .and_then(|index| domain.get(index.saturating_add(1)..))
        .unwrap_or(domain)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn names_of_one_owner_are_known_together() {
        for (domain, expected) in [
            ("example.org", "example.org"),
            ("a.b.example.org", "example.org"),
            ("conference.example.co.uk", "example.co.uk"),
            ("example.co.uk", "example.co.uk"),
            ("localhost", "localhost"),
            ("", ""),
        ] {
            assert_eq!(owner(domain), expected, "{domain}");
        }
    }

    #[tokio::test]
    async fn one_owner_takes_few_of_the_places() {
        let places = Places::new(3, 2);
        let mut taken = Vec::new();
        for _ in 0..2 {
            taken.push(places.take("x.evil.example").now_or_never().unwrap());
        }
        assert!(places.take("y.evil.example").now_or_never().is_none());
        let good = places.take("good.example").now_or_never();
        assert!(good.is_some());
        assert!(
            places.take("other.example").now_or_never().is_none(),
            "all are taken"
        );
        taken.clear();
        assert!(places.take("y.evil.example").now_or_never().is_some());
    }
}
