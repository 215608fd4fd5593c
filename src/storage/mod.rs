//! What is kept. Two shapes, key-value and archive, and any number of named stores in each: a feature that remembers
//! something new names a store and needs no change in a backend. `contract.rs` is what every backend must do.
//!
//! A [`Batch`] is atomic and durable once `commit` has returned; concurrent commits share one transaction of the disk
//! (group commit). What can be learnt again after a loss of power is a `note`, which does not wait for the disk.

mod batch;
#[cfg(test)]
pub mod contract;
#[cfg(test)]
pub(crate) mod memory;
mod sqlite;

pub use sqlite::{Beside, backup, restore};

use std::sync::Arc;

use futures::future::BoxFuture;

pub use batch::{Batch, Write};

/// The name of a key-value store. Declare one `const` where the feature lives: `const INBOX: KeyValue = KeyValue("inbox");`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValue(pub &'static str);

/// The name of an archive: entries in the order of their arrival, per owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive(pub &'static str);

/// What can go wrong. None of them loses what had been committed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full: refuse new work, keep the old.
    #[error("The disk is full")]
    Full,
    /// A [`Batch::put_new`] found its key taken; nothing of the batch was written.
    #[error("The key {key:?} is taken")]
    Taken { key: String },
    /// The database was written by a newer moltis.
    #[error("The database has schema {found}, this moltis knows {known}; use a newer moltis")]
    Newer { found: u32, known: u32 },
    #[error("The store has been closed")]
    Closed,
    /// More waits to be written than the queue may hold; nothing of the batch was written.
    #[error("The disk does not keep up")]
    Busy,
    #[error("The store failed: {0}")]
    Backend(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a backend's method answers.
pub type Answer<T> = BoxFuture<'static, Result<T>>;

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position: rises with every entry of the whole store, never reused, and at least the time of the submission in
    /// microseconds since 1970.
    pub id: u64,
    /// Milliseconds since 1970, as given.
    pub at: i64,
    pub value: Vec<u8>,
}

/// Which entries of an owner to read.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only ids greater than this.
    pub after: Option<u64>,
    /// Only ids less than this.
    pub before: Option<u64>,
    /// Only times, in milliseconds since 1970, of this and later.
    pub since: Option<i64>,
    /// Only times of this and earlier.
    pub until: Option<i64>,
    /// Only what was appended with this tag.
    pub tag: Option<String>,
    /// Only these.
    pub ids: Option<Vec<u64>>,
    /// The newest instead of the oldest; the answer is in rising order either way.
    pub newest: bool,
    /// At most so many; 0: all.
    pub limit: usize,
}

/// What a write outlives. Writes are kept in the order of their calls: what is lost with the power is the end of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The process, however it ends. Nothing waits for the disk.
    Process,
    /// The machine's power too.
    Power,
}

/// A batch that is in the queue.
pub struct Submitted {
    /// The ids of the batch's appended entries, in order; empty where it was not taken.
    pub ids: Vec<u64>,
    /// When, and whether, the batch is written.
    pub written: Answer<()>,
}

/// What a backend does.
pub trait Backend: Send + Sync {
    /// Takes a batch into the queue at once. What was submitted earlier is written earlier and has lesser ids.
    fn submit(&self, batch: Batch, durability: Durability) -> Submitted;
    /// Waits until the queue has room.
    fn ready(&self) -> BoxFuture<'static, ()>;
    fn get(&self, store: KeyValue, owner: &str, key: &str) -> Answer<Option<Vec<u8>>>;
    /// All keys of an owner that start with `prefix`, in order.
    fn list(&self, store: KeyValue, owner: &str, prefix: &str) -> Answer<Vec<(String, Vec<u8>)>>;
    /// The owners that have a key in the store, in order.
    fn owners(&self, store: KeyValue) -> Answer<Vec<String>>;
    fn query(&self, archive: Archive, owner: &str, query: Query) -> Answer<Vec<Entry>>;
    /// How many entries a query finds, counted up to its limit.
    fn count(&self, archive: Archive, owner: &str, query: Query) -> Answer<u64>;
    /// The owners that have an entry in the archive, in order.
    fn archived(&self, archive: Archive) -> Answer<Vec<String>>;
    /// Writes out what is pending and closes; later calls fail with [`Error::Closed`].
    fn close(&self) -> Answer<()>;
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Storage(Arc<dyn Backend>);

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Storage")
    }
}

impl Storage {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self(backend)
    }

    /// Answers the ids of the appended entries, in order, when the disk has them.
    pub async fn commit(&self, batch: Batch) -> Result<Vec<u64>> {
        self.write(batch, Durability::Power).await
    }

    /// As [`Self::commit`], but a loss of power may take it back, unless something was committed since.
    pub async fn note(&self, batch: Batch) -> Result<Vec<u64>> {
        self.write(batch, Durability::Process).await
    }

    async fn write(&self, batch: Batch, durability: Durability) -> Result<Vec<u64>> {
        self.0.ready().await;
        let submitted = self.0.submit(batch, durability);
        submitted.written.await?;
        Ok(submitted.ids)
    }

    /// As [`Self::commit`] without a wait: the ids are known now, the disk has them once `written` has answered. Who may
    /// submit much awaits [`Self::ready`] before, or finds the queue full ([`Error::Busy`]).
    pub fn submit(&self, batch: Batch, durability: Durability) -> Submitted {
        self.0.submit(batch, durability)
    }

    /// Waits until the queue of writes has room: at once, unless the disk does not keep up.
    pub async fn ready(&self) {
        self.0.ready().await;
    }

    /// Waits until all that was submitted before is written or has failed, so that a query sees it.
    pub async fn settled(&self) -> Result<()> {
        let last = self.0.submit(Batch::new(), Durability::Process);
        last.written.await
    }

    pub async fn get(&self, store: KeyValue, owner: &str, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.get(store, owner, key).await
    }

    pub async fn list(
        &self,
        store: KeyValue,
        owner: &str,
        prefix: &str,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        self.0.list(store, owner, prefix).await
    }

    pub async fn owners(&self, store: KeyValue) -> Result<Vec<String>> {
        self.0.owners(store).await
    }

    pub async fn query(&self, archive: Archive, owner: &str, query: Query) -> Result<Vec<Entry>> {
        self.0.query(archive, owner, query).await
    }

    /// How many entries a query finds, counted up to its limit.
    pub async fn count(&self, archive: Archive, owner: &str, query: Query) -> Result<u64> {
        self.0.count(archive, owner, query).await
    }

    /// The owners that have an entry in the archive, in order.
    pub async fn archived(&self, archive: Archive) -> Result<Vec<String>> {
        self.0.archived(archive).await
    }

    pub async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
