//! So many events per address, or whatever else is counted, in a time, and then a rest: failed logins, registrations, new
//! connections. Memory is bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many are remembered at most: about a megabyte.
const MOST: usize = 10_000;

/// Who or what events are counted of.
pub trait Subject: Eq + Hash + Ord + Clone {
    /// Whom it stands for.
    #[must_use]
    fn subject(&self) -> Self {
        self.clone()
    }
}

/// IPv6 by its /64, which is what one subscriber has.
impl Subject for IpAddr {
    fn subject(&self) -> Self {
        subscriber(*self)
    }
}

/// A domain elsewhere.
impl Subject for String {}

/// Counts events of each.
#[derive(Debug)]
pub struct Throttle<K = IpAddr> {
    limit: AtomicU32,
    window: Duration,
    /// How long somebody is refused who has reached the limit; at least until its window ends.
    rest: Duration,
    seen: Mutex<HashMap<K, Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    count: u32,
    refused: bool,
    /// When the window or the rest is over.
    ends: Instant,
}

impl<K: Subject> Throttle<K> {
    /// `limit` 0: no limit.
    pub fn new(limit: u32, window: Duration, rest: Duration) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            window,
            rest,
            seen: Mutex::default(),
        }
    }

    /// `login_failures_per_ip`: in ten minutes, then refused for an hour.
    pub fn login_failures(limit: u32) -> Self {
        Self::new(limit, Duration::from_mins(10), Duration::from_hours(1))
    }

    /// `registrations_per_ip_per_hour`.
    pub fn registrations(limit: u32) -> Self {
        Self::new(limit, Duration::from_hours(1), Duration::ZERO)
    }

    /// Takes another limit from the configuration; it counts from the next event.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How long it must still wait; `None` where it may go on.
    pub fn refusal(&self, who: &K) -> Option<Duration> {
        let now = Instant::now();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&who.subject())
            .filter(|seen| seen.refused && seen.ends > now)
            .map(|seen| seen.ends - now)
    }

    /// Forgets an event that came to nothing.
    pub fn take_back(&self, who: &K) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.get_mut(&who.subject()) {
            seen.count = seen.count.saturating_sub(1);
            seen.refused = seen.refused && seen.count >= self.limit.load(Ordering::Relaxed);
        }
    }

    /// Counts an event; how many there were in this time.
    pub fn count(&self, who: &K) -> u32 {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return 0;
        }
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let who = who.subject();
        if !seen.contains_key(&who) {
            make_room(&mut seen, now);
        }
        let new = Seen {
            count: 0,
            refused: false,
            ends: now + self.window,
        };
        let entry = seen.entry(who).or_insert(new);
        if entry.ends <= now {
            *entry = new;
        }
        entry.count = entry.count.saturating_add(1);
        if entry.count >= limit && !entry.refused {
            entry.refused = true;
            entry.ends = entry.ends.max(now + self.rest);
        }
        entry.count
    }
}

/// Drops what is over; if that is not enough, half of the rest, those first that are not refused and end soonest.
fn make_room<K: Subject>(seen: &mut HashMap<K, Seen>, now: Instant) {
    if seen.len() < MOST {
        return;
    }
    seen.retain(|_, seen| seen.ends > now);
    if seen.len() < MOST {
        return;
    }
    let mut order: Vec<(bool, Instant, K)> = seen
        .iter()
        .map(|(who, seen)| (seen.refused, seen.ends, who.clone()))
        .collect();
    order.sort_unstable();
    for (_, _, who) in order.into_iter().take(MOST / 2) {
        seen.remove(&who);
    }
}

/// Whom an address stands for: of IPv6 a whole network, as a subscriber has one.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_for_an_hour_after_twenty_failures_in_ten_minutes() {
        let throttle = Throttle::login_failures(20);
        let (one, two) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..19 {
            throttle.count(&one);
            assert_eq!(throttle.refusal(&one), None);
        }
        throttle.count(&one);
        assert_eq!(throttle.refusal(&one), Some(Duration::from_hours(1)));
        assert_eq!(throttle.refusal(&two), None);
        tokio::time::advance(Duration::from_secs(3599)).await;
        // What comes in the meantime does not make it longer.
        throttle.count(&one);
        assert_eq!(throttle.refusal(&one), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.refusal(&one), None);
        throttle.count(&one);
        assert_eq!(throttle.refusal(&one), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_far_apart_are_forgiven() {
        let throttle = Throttle::login_failures(2);
        let one = address("192.0.2.1");
        for _ in 0..5 {
            throttle.count(&one);
            assert_eq!(throttle.refusal(&one), None);
            tokio::time::advance(Duration::from_mins(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn registrations_are_counted_by_the_hour() {
        let throttle = Throttle::registrations(1);
        let one = address("192.0.2.1");
        throttle.count(&one);
        assert_eq!(throttle.refusal(&one), Some(Duration::from_hours(1)));
        throttle.take_back(&one);
        assert_eq!(throttle.refusal(&one), None);
        throttle.set_limit(0);
        throttle.count(&address("192.0.2.2"));
        assert_eq!(throttle.refusal(&address("192.0.2.2")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_is_one_address() {
        let throttle = Throttle::registrations(1);
        throttle.count(&address("2001:db8:0:1::1"));
        throttle.count(&address("::ffff:192.0.2.1"));
        for (other, refused) in [
            ("2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:2::1", false),
            ("192.0.2.1", true),
        ] {
            assert_eq!(
                throttle.refusal(&address(other)).is_some(),
                refused,
                "{other}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_who_is_refused_stays_so() {
        let throttle = Throttle::login_failures(2);
        let bad = address("192.0.2.1");
        throttle.count(&bad);
        throttle.count(&bad);
        for number in 0..25_000_u32 {
            throttle.count(&IpAddr::V4(number.into()));
        }
        assert!(throttle.seen.lock().unwrap().len() <= MOST);
        assert!(throttle.refusal(&bad).is_some());
        tokio::time::advance(Duration::from_hours(2)).await;
        for number in 0..MOST as u128 {
            throttle.count(&IpAddr::V6((number << 64).into()));
        }
        assert!(throttle.seen.lock().unwrap().len() <= MOST);
    }
}
