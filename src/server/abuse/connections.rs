//! Connections: so many of an address at once, so many new ones of it in a minute, and so many of the whole process that
//! enough descriptors are left for the store, for files, and for those who look after the server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::{Refusal, Throttle, subscriber};

const MINUTE: Duration = Duration::from_mins(1);
/// New ones in a minute, as a multiple of those at once.
const TIMES: usize = 10;

/// Connections of this process, over all ports.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// How many there may be: what the system gives, less a reserve. Descriptors end for all at once, so that what has none left
/// is the store and the control socket, too.
static MOST: LazyLock<usize> = LazyLock::new(|| {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    most_of(descriptors(&limits))
});

/// The soft limit of open files, as Linux tells it; `None`: it says there is none, or this is another system.
fn descriptors(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// An eighth is kept back, and no fewer than 64.
fn most_of(descriptors: Option<usize>) -> usize {
    descriptors.map_or(usize::MAX, |all| {
        all.saturating_sub((all / 8).max(64)).max(16)
    })
}

/// The connections of each address. Clones share them.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_once: Mutex<HashMap<IpAddr, usize>>,
    lately: Throttle,
}

impl Default for Addresses {
    fn default() -> Self {
        Self(Arc::new(Inner {
            at_once: Mutex::default(),
            lately: Throttle::new(0, MINUTE, Duration::ZERO),
        }))
    }
}

/// A connection that is counted until it is dropped.
#[derive(Debug)]
pub struct Counted {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more, unless there are as many as there may be. `most`: of an address at once; 0: any number.
    pub fn admit(&self, address: IpAddr, most: usize) -> Result<Counted, Refusal> {
        self.admit_of(address, most, *MOST)
    }

    fn admit_of(&self, address: IpAddr, most: usize, of_all: usize) -> Result<Counted, Refusal> {
        let address = subscriber(address);
        let lately = &self.0.lately;
        lately.set_limit(u32::try_from(most.saturating_mul(TIMES)).unwrap_or(u32::MAX));
        if most > 0 && lately.refusal(&address).is_some() {
            return Err(Refusal::ConnectionRate);
        }
        lately.count(&address);
        if OPEN.load(Ordering::Acquire) >= of_all {
            return Err(Refusal::Descriptors);
        }
        let mut counts = self.counts();
        let count = counts.entry(address).or_default();
        if most > 0 && *count >= most {
            return Err(Refusal::ConnectionsAtOnce);
        }
        *count = count.saturating_add(1);
        OPEN.fetch_add(1, Ordering::AcqRel);
        Ok(Counted {
            addresses: self.clone(),
            address,
        })
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0
            .at_once
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::AcqRel);
        let mut counts = self.addresses.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_connections_at_once() {
        let addresses = Addresses::default();
        let one = address("192.0.2.1");
        let first = addresses.admit(one, 2).unwrap();
        let second = addresses.admit(one, 2);
        assert!(second.is_ok());
        assert_eq!(
            addresses.admit(one, 2).unwrap_err(),
            Refusal::ConnectionsAtOnce
        );
        assert!(addresses.admit(address("192.0.2.2"), 2).is_ok());
        drop(first);
        let third = addresses.admit(one, 2);
        assert!(third.is_ok());
        drop((second, third));
        assert!(addresses.counts().is_empty(), "nothing is left");
        assert!(addresses.admit(one, 0).is_ok(), "0: no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_connects_so_often_in_a_minute_and_a_network_is_one() {
        let addresses = Addresses::default();
        for host in 1..=20 {
            let one = address(&format!("2001:db8:0:1::{host}"));
            drop(addresses.admit(one, 2).unwrap());
        }
        let one = address("2001:db8:0:1::ffff");
        assert_eq!(
            addresses.admit(one, 2).unwrap_err(),
            Refusal::ConnectionRate
        );
        assert!(addresses.admit(address("2001:db8:0:2::1"), 2).is_ok());
        tokio::time::advance(MINUTE).await;
        assert!(addresses.admit(one, 2).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn some_descriptors_are_kept_for_those_who_look_after_the_server() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(descriptors(limits), Some(1_024));
        for (name, descriptors, expected) in [
            ("the usual", Some(1_024), 896),
            ("many", Some(524_288), 458_752),
            ("few", Some(256), 192),
            ("hardly any", Some(10), 16),
            ("no limit, or nobody tells", None, usize::MAX),
        ] {
            assert_eq!(most_of(descriptors), expected, "{name}");
        }
        let addresses = Addresses::default();
        let refused = addresses.admit_of(address("192.0.2.1"), 0, 0);
        assert_eq!(refused.unwrap_err(), Refusal::Descriptors);
        assert!(addresses.counts().is_empty());
    }
}
