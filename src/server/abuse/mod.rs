//! What protects the server from those who misuse it: how many connections, logins, requests and messages to strangers are
//! too many, what happens then, and that it is counted and logged. docs/abuse.md lists every bound.
//!
//! The counters are keyed by whatever must not have more than its share: an address, an account, a domain elsewhere.

mod allowance;
mod connections;
mod meters;
mod refusal;
mod tarpit;
mod throttle;

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jid::BareJid;
use tokio::time::Instant;
use tracing::{debug, info};

pub use self::allowance::{Allowance, Rate};
pub use self::connections::{Addresses, Counted};
pub use self::meters::{Direction, Meters, Transport};
pub use self::refusal::Refusal;
pub use self::tarpit::Tarpit;
pub use self::throttle::{Subject, Throttle, subscriber};

/// A line in the log for each kind of refusal at most so often; the others are counted in the next one.
const QUIET: Duration = Duration::from_secs(10);

/// What a server remembers of those who ask for too much.
#[derive(Debug)]
pub struct Abuse {
    pub meters: Meters,
    pub tarpit: Tarpit,
    /// Failed logins, of every kind and over every transport.
    failures: Throttle,
    /// When each kind of refusal was logged last, and how often it has happened since.
    logged: [Mutex<Logged>; Refusal::ALL.len()],
    /// Requests to see somebody's presence, by who asks.
    pub subscriptions: Allowance<BareJid>,
    /// And by who is asked.
    pub requests_for: Allowance<BareJid>,
    /// Presence sent to an address, by who sends it.
    pub directed: Allowance<BareJid>,
    /// Requests of all kinds but pings, by who asks.
    pub requests: Allowance<BareJid>,
    /// First messages to people who do not know the sender, by the sender.
    pub strangers: Allowance<BareJid>,
    /// The same, by the domain of a sender elsewhere.
    pub domains: Allowance<String>,
    /// Presence in rooms, by the domain of a sender elsewhere.
    pub rooms: Allowance<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Logged {
    at: Option<Instant>,
    unsaid: u64,
}

impl Default for Abuse {
    fn default() -> Self {
        Self {
            meters: Meters::default(),
            tarpit: Tarpit::default(),
            failures: Throttle::login_failures(0),
            logged: std::array::from_fn(|_| Mutex::default()),
            subscriptions: Allowance::new(SUBSCRIPTIONS),
            requests_for: Allowance::new(REQUESTS_FOR),
            directed: Allowance::new(DIRECTED),
            requests: Allowance::new(REQUESTS),
            strangers: Allowance::new(STRANGERS),
            domains: Allowance::new(STRANGERS_OF_A_DOMAIN),
            rooms: Allowance::new(ROOMS_OF_A_DOMAIN),
        }
    }
}

/// A person who moves to another server adds their whole list at once; nobody meets so many people every day.
const SUBSCRIPTIONS: Rate = Rate::new(100, Duration::from_secs(10));
/// Who is asked by so many at once is being flooded, by whomever.
const REQUESTS_FOR: Rate = Rate::new(100, Duration::from_secs(30));
/// A client that comes back shows itself to all rooms that it knows.
const DIRECTED: Rate = Rate::new(300, Duration::from_millis(100));
/// A client that starts asks for much: avatars, nodes, archives of all rooms.
const REQUESTS: Rate = Rate::new(1_000, Duration::from_millis(20));
/// Somebody who greets a new team writes to many; who writes to a new stranger every minute, day and night, sells something.
const STRANGERS: Rate = Rate::new(30, Duration::from_mins(1));
const STRANGERS_OF_A_DOMAIN: Rate = Rate::new(300, Duration::from_secs(6));
/// A large server that comes back has many people in many rooms.
const ROOMS_OF_A_DOMAIN: Rate = Rate::new(3_000, Duration::from_millis(20));

impl Abuse {
    /// Failed logins by address. `limit`: `login_failures_per_ip`.
    pub fn failures(&self, limit: u32) -> &Throttle {
        self.failures.set_limit(limit);
        &self.failures
    }

    /// Counts and logs that somebody was refused. `who` is for the log alone.
    pub fn refused(&self, refusal: Refusal, who: &dyn Display) {
        let Some((count, logged)) = self
            .meters
            .refused
            .get(refusal.index())
            .zip(self.logged.get(refusal.index()))
        else {
            return;
        };
        count.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = logged.at.is_some_and(|at| now.duration_since(at) < QUIET);
        if is_quiet {
            logged.unsaid = logged.unsaid.saturating_add(1);
            drop(logged);
            debug!(%who, reason = refusal.label(), "{}", refusal.sentence());
            return;
        }
        let unsaid = std::mem::take(&mut logged.unsaid);
        logged.at = Some(now);
        drop(logged);
        info!(%who, reason = refusal.label(), more_since = unsaid, "{}", refusal.sentence());
    }

    /// How often somebody was refused for this.
    pub fn count(&self, refusal: Refusal) -> u64 {
        let count = self.meters.refused.get(refusal.index());
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// A login, a handshake or a token was wrong: counts it, and makes the address wait the longer the more there were.
    pub async fn failed(&self, address: IpAddr, limit: u32) {
        let failures = self.failures(limit).count(&address);
        self.tarpit.hold(tarpit::delay(failures, limit)).await;
    }

    /// Whether the address has failed too often lately to be heard; it is told so slowly.
    pub async fn is_refused(&self, address: IpAddr, limit: u32) -> bool {
        if self.failures(limit).refusal(&address).is_none() {
            return false;
        }
        self.refused(Refusal::LoginFailures, &address);
        self.tarpit.hold(tarpit::LONGEST).await;
        true
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
