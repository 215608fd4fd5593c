//! So much at once and so much in a time, for each of many (the generic cell rate algorithm): what is allowed comes back
//! steadily, and nobody is shut out for longer than that takes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many may be remembered who have used something of their allowance: those who have used the least are forgotten first.
const REMEMBERED: usize = 10_000;

/// So many at once, and then one in each `every`.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    burst: u32,
    every: Duration,
}

impl Rate {
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every }
    }
}

/// When each one's allowance will be whole again.
#[derive(Debug)]
pub struct Allowance<K> {
    rate: Rate,
    whole: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash + Clone> Allowance<K> {
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            whole: Mutex::default(),
        }
    }

    /// Takes one from the allowance; `false`: there is none left, and nothing was taken.
    pub fn take(&self, who: &K) -> bool {
        self.take_many(who, 1)
    }

    /// Takes what costs as much as so many.
    pub fn take_many(&self, who: &K, count: u32) -> bool {
        let now = Instant::now();
        let most = self.rate.every.saturating_mul(self.rate.burst);
        let cost = self.rate.every.saturating_mul(count);
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = whole.get_mut(who) {
            let next = (*until).max(now) + cost;
            let is_allowed = next.duration_since(now) <= most;
            if is_allowed {
                *until = next;
            }
            return is_allowed;
        }
        if cost > most {
            return false;
        }
        make_room(&mut whole, now);
        whole.insert(who.clone(), now + cost);
        true
    }
}

/// Forgets who has everything again; if that is not enough, the half that will have it soonest.
fn make_room<K: Eq + Hash + Clone>(whole: &mut HashMap<K, Instant>, now: Instant) {
    if whole.len() < REMEMBERED {
        return;
    }
    whole.retain(|_, until| *until > now);
    if whole.len() < REMEMBERED {
        return;
    }
    let mut ends: Vec<Instant> = whole.values().copied().collect();
    let middle = ends.len() / 2;
    let (_, median, _) = ends.select_nth_unstable(middle);
    let median = *median;
    whole.retain(|_, until| *until > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::new(3, Duration::from_secs(10));

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_then_one_in_each_time() {
        let allowance = Allowance::new(RATE);
        let take = |who| (0..9).filter(|_| allowance.take(&who)).count();
        assert_eq!(take("a"), 3);
        assert_eq!(take("b"), 3, "others are not concerned");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(take("a"), 2);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(take("a"), 3, "no more is saved than the burst");
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_more_takes_more() {
        let allowance = Allowance::new(RATE);
        assert!(!allowance.take_many(&"a", 4));
        assert!(allowance.take_many(&"a", 2));
        assert!(!allowance.take_many(&"a", 2), "nothing is taken in vain");
        assert!(allowance.take(&"a"));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_who_took_the_most_is_remembered() {
        let allowance = Allowance::new(RATE);
        assert!(allowance.take_many(&0, 3));
        for who in 1..50_000 {
            assert!(allowance.take(&who));
        }
        assert!(allowance.whole.lock().unwrap().len() <= REMEMBERED);
        assert!(!allowance.take(&0));
    }
}
