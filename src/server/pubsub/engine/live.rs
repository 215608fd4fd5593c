//! What is in memory: the services in use, their nodes, and of each node that was asked for its items their order.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jid::BareJid;
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard, RwLock};

use super::super::config::Config;
use super::super::node::Record;
use super::super::store::{self, StoredItem};
use crate::server::StanzaError;
use crate::storage::Storage;

/// A service that is read from the store once.
pub(super) type Slot = Arc<OnceCell<Service>>;
pub(super) type Cell = Arc<Mutex<Live>>;

/// The services in memory.
pub(super) struct Services {
    slots: HashMap<BareJid, Slot>,
    most: usize,
}

impl Services {
    pub(super) fn new(most: usize) -> Self {
        Self {
            slots: HashMap::new(),
            most,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The service's place. When there are too many, those that nobody is using right now are forgotten: two copies of
    /// one service must never be in use.
    pub(super) fn slot(&mut self, service: &BareJid) -> Slot {
        if let Some(slot) = self.slots.get(service) {
            return Arc::clone(slot);
        }
        if self.slots.len() >= self.most {
            self.slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let slot = Slot::default();
        self.slots.insert(service.clone(), Arc::clone(&slot));
        slot
    }
}

/// The nodes of a service.
pub(super) struct Service {
    pub(super) nodes: RwLock<BTreeMap<String, Place>>,
}

/// Where a node is, and whose: so many has each, with so many bytes.
pub(super) struct Place {
    pub(super) creator: BareJid,
    pub(super) size: Size,
    cell: Cell,
}

/// How many bytes the items of a node have together, where that is known. Clones share it.
#[derive(Clone)]
pub(super) struct Size(Arc<AtomicUsize>);

impl Size {
    const UNKNOWN: usize = usize::MAX;

    pub(super) fn get(&self) -> Option<usize> {
        let bytes = self.0.load(Ordering::Acquire);
        (bytes != Self::UNKNOWN).then_some(bytes)
    }

    pub(super) fn set(&self, index: &[Indexed]) {
        let bytes = index.iter().map(|entry| entry.bytes).sum();
        self.0.store(bytes, Ordering::Release);
    }
}

impl Default for Size {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(Self::UNKNOWN)))
    }
}

impl Place {
    pub(super) fn new(live: Live) -> Self {
        Self {
            creator: live.record.creator.clone(),
            size: live.size.clone(),
            cell: Arc::new(Mutex::new(live)),
        }
    }

    pub(super) fn cell(&self) -> Cell {
        Arc::clone(&self.cell)
    }
}

impl Service {
    pub(super) fn new(nodes: Vec<(String, Record)>) -> Self {
        let nodes = nodes
            .into_iter()
            .map(|(name, record)| (name, Place::new(Live::new(record))))
            .collect();
        Self {
            nodes: RwLock::new(nodes),
        }
    }
}

/// Where an item is, and what deciding about it takes.
#[derive(Clone, Debug)]
pub(super) struct Indexed {
    pub(super) sequence: u64,
    pub(super) id: String,
    pub(super) publisher: BareJid,
    pub(super) at: i64,
    pub(super) bytes: usize,
}

impl Indexed {
    /// Whether the item is there no more (`pubsub#item_expire`).
    pub(super) fn is_expired(&self, config: &Config, now: i64) -> bool {
        config
            .item_expire
            .is_some_and(|seconds| self.at.saturating_add(i64::from(seconds) * 1_000) < now)
    }

    pub(super) fn new(sequence: u64, item: &StoredItem) -> Self {
        Self {
            sequence,
            id: item.id.clone(),
            publisher: item.publisher.clone(),
            at: item.at,
            bytes: item.bytes(),
        }
    }
}

/// A node.
pub(super) struct Live {
    pub(super) record: Arc<Record>,
    /// In the order of publication; `None` until it was asked for.
    index: Option<Vec<Indexed>>,
    /// Of all of them, for those who hold other nodes.
    pub(super) size: Size,
    /// The last item of a node that keeps none (XEP-0060, 6.5.5), until the service is forgotten.
    pub(super) transient: Option<StoredItem>,
    /// Deleted, while others waited for it.
    pub(super) gone: bool,
}

impl Live {
    pub(super) fn new(record: Record) -> Self {
        Self {
            record: Arc::new(record),
            index: None,
            size: Size::default(),
            transient: None,
            gone: false,
        }
    }

    /// A node that was created just now, which has no items.
    pub(super) fn created(record: Record) -> Self {
        let live = Self {
            index: Some(Vec::new()),
            ..Self::new(record)
        };
        live.size.set(&[]);
        live
    }

    /// After its items have changed.
    pub(super) fn measure(&self) {
        if let Some(index) = &self.index {
            self.size.set(index);
        }
    }

    /// The order of the items, read from the store if need be.
    pub(super) async fn index(
        &mut self,
        storage: &Storage,
        service: &BareJid,
        node: &str,
    ) -> Result<&mut Vec<Indexed>, StanzaError> {
        let index = match self.index.take() {
            Some(index) => index,
            None => store::items(storage, service, node)
                .await?
                .iter()
                .map(|(sequence, item)| Indexed::new(*sequence, item))
                .collect(),
        };
        self.size.set(&index);
        Ok(self.index.insert(index))
    }
}

/// A node for oneself alone. Its service stays in memory meanwhile.
pub(super) struct Held {
    live: OwnedMutexGuard<Live>,
    _service: Slot,
}

impl Held {
    pub(super) fn new(live: OwnedMutexGuard<Live>, service: Slot) -> Self {
        Self {
            live,
            _service: service,
        }
    }
}

impl Deref for Held {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Live {
        &mut self.live
    }
}
