//! Wrong answers come slowly: who guesses passwords waits longer each time. Only so many wait at once, as each holds a
//! connection; where there are more, the next is answered at once, and the bound on failures is what stops it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Held at most.
const MOST: usize = 512;
/// So many mistakes are answered at once, or a fifth of what is allowed: a person who has forgotten which password it was.
const FREE: u32 = 3;
const FIRST: Duration = Duration::from_millis(500);
/// Within the time that a login may take, also for the last of those that one connection may try.
pub(super) const LONGEST: Duration = Duration::from_secs(8);

/// How long the answer to a mistake waits, by how many there were of how many that are allowed: many people may share an
/// address, and whoever runs such a server allows more.
pub(super) fn delay(failures: u32, limit: u32) -> Duration {
    let free = FREE.max(limit / 5);
    let Some(beyond) = failures.checked_sub(free.saturating_add(1)) else {
        return Duration::ZERO;
    };
    let steps = beyond / (limit / 20).max(1);
    FIRST
        .saturating_mul(2_u32.saturating_pow(steps.min(16)))
        .min(LONGEST)
}

/// Those who wait.
#[derive(Debug, Default)]
pub struct Tarpit {
    held: AtomicUsize,
}

/// A place in it, until it is dropped: also where the connection ends meanwhile.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Tarpit {
    /// Waits so long, where there is a place.
    pub async fn hold(&self, delay: Duration) {
        if delay.is_zero() {
            return;
        }
        let place = Place(&self.held);
        if self.held.fetch_add(1, Ordering::AcqRel) < MOST {
            tokio::time::sleep(delay).await;
        }
        drop(place);
    }

    /// How many wait now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn each_mistake_waits_longer_than_the_last_up_to_a_bound() {
        for (failures, limit, expected) in [
            (0, 20, 0),
            (1, 20, 0),
            (4, 20, 0),
            (5, 20, 500),
            (6, 20, 1_000),
            (7, 20, 2_000),
            (8, 20, 4_000),
            (9, 20, 8_000),
            (10, 20, 8_000),
            (3, 1, 0),
            (4, 1, 500),
            (2_000, 10_000, 0),
            (2_001, 10_000, 500),
            (2_501, 10_000, 1_000),
            (u32::MAX, u32::MAX, 8_000),
        ] {
            assert_eq!(
                delay(failures, limit),
                Duration::from_millis(expected),
                "{failures} of {limit}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_no_place_is_lost() {
        let tarpit = Tarpit::default();
        let begun = Instant::now();
        let hold = async || {
            tarpit.hold(LONGEST).await;
            begun.elapsed()
        };
        let waited = join_all((0..MOST + 10).map(|_| hold())).await;
        let at_once = waited.iter().filter(|waited| waited.is_zero()).count();
        assert_eq!(at_once, 10);
        assert_eq!(tarpit.held(), 0);
        // A connection that ends meanwhile gives its place back.
        let ended = tokio::time::timeout(Duration::from_secs(1), hold()).await;
        assert!(ended.is_err());
        assert_eq!(tarpit.held(), 0);
    }
}
