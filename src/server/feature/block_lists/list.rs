//! One list: what is on it, what was asked and not answered yet, and when to ask again.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jid::BareJid;
use tokio::time::Instant;
use tracing::warn;

use super::Entries;
use crate::server::random_id;

/// What was missed while no connection stood is found by reading all of it again.
const DAILY: Duration = Duration::from_hours(24);
/// After a failure, and twice as long after the next.
const FIRST_RETRY: Duration = Duration::from_mins(1);
const LAST_RETRY: Duration = Duration::from_hours(1);
/// Pages of one reading; a service whose pages have no end has none of ours.
const MOST_PAGES: u32 = 1_000;

/// What an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Subscription,
    Items,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) service: BareJid,
    pub(super) node: String,
    entries: RwLock<Entries>,
    asking: Mutex<Asking>,
}

#[derive(Debug)]
struct Asking {
    /// When to ask next.
    due: Instant,
    retry: Duration,
    subscription: Option<String>,
    items: Option<String>,
    /// What has been read of all pages so far; it takes the place of the entries when it is whole.
    reading: Entries,
    /// How many items that were.
    read: usize,
    pages: u32,
}

impl List {
    pub(super) fn new(service: BareJid, node: String) -> Self {
        Self {
            service,
            node,
            entries: RwLock::default(),
            asking: Mutex::new(Asking {
                due: Instant::now(),
                retry: FIRST_RETRY,
                subscription: None,
                items: None,
                reading: Entries::default(),
                read: 0,
                pages: 0,
            }),
        }
    }

    pub(super) fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of a subscription and of a request for all items, where it is time for them.
    pub(super) fn due(&self) -> Option<(String, String)> {
        let mut asking = self.asking();
        let now = Instant::now();
        if asking.due > now {
            return None;
        }
        // Unless it is answered.
        asking.due = now + asking.retry;
        asking.retry = asking.retry.saturating_mul(2).min(LAST_RETRY);
        let (subscription, items) = (random_id(), random_id());
        asking.subscription = Some(subscription.clone());
        asking.items = Some(items.clone());
        asking.reading = Entries::default();
        asking.read = 0;
        asking.pages = 0;
        Some((subscription, items))
    }

    /// What this id was the question of; it is answered once.
    pub(super) fn answered(&self, id: &str) -> Option<Answered> {
        let mut asking = self.asking();
        if asking.subscription.as_deref() == Some(id) {
            asking.subscription = None;
            return Some(Answered::Subscription);
        }
        if asking.items.as_deref() == Some(id) {
            asking.items = None;
            return Some(Answered::Items);
        }
        None
    }

    /// Some of the items; how many there were so far.
    pub(super) fn read(&self, ids: &[&str]) -> usize {
        let mut asking = self.asking();
        let fits = asking.reading.add(ids);
        asking.read = asking.read.saturating_add(ids.len());
        if !fits {
            warn!(service = %self.service, node = self.node, "A block list is longer than may be kept");
        }
        asking.read
    }

    /// The id of a request for the next page; `None`: there were too many.
    pub(super) fn next_page(&self) -> Option<String> {
        let mut asking = self.asking();
        asking.pages = asking.pages.saturating_add(1);
        if asking.pages >= MOST_PAGES {
            return None;
        }
        let id = random_id();
        asking.items = Some(id.clone());
        Some(id)
    }

    /// All was read.
    pub(super) fn complete(&self) {
        let mut asking = self.asking();
        let new = std::mem::take(&mut asking.reading);
        asking.due = Instant::now() + DAILY;
        asking.retry = FIRST_RETRY;
        drop(asking);
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// What was asked failed, or came to nothing: what was in force stays so.
    pub(super) fn failed(&self) {
        let mut asking = self.asking();
        asking.items = None;
        asking.due = asking.due.min(Instant::now() + asking.retry);
    }

    /// Items have come and gone.
    pub(super) fn change(&self, added: &[&str], removed: &[&str]) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.remove(removed);
        if !entries.add(added) {
            warn!(service = %self.service, node = self.node, "A block list is longer than may be kept");
        }
        drop(entries);
        // Of a reading that is under way, too.
        let mut asking = self.asking();
        asking.reading.remove(removed);
        asking.reading.add(added);
    }

    pub(super) fn empty(&self) {
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = Entries::default();
    }
}
