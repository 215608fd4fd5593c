//! What is kept. Two shapes, key-value and archive, and any number of named stores in each: a feature that remembers
//! something new names a store and needs no change in a backend. `contract.rs` is what every backend must do.
//!
//! A [`Batch`] is atomic and durable once `commit` has returned; concurrent commits share one transaction of the disk
//! (group commit). What can be learnt again after a loss of power is a `note`, which does not wait for the disk.

#[cfg(test)]
pub mod contract;
mod sqlite;

use std::sync::Arc;

use futures::future::BoxFuture;

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
    #[error("The store failed: {0}")]
    Backend(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a backend's method answers.
pub type Answer<T> = BoxFuture<'static, Result<T>>;

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position: rises with every entry of the archive, never reused.
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
    /// The newest instead of the oldest; the answer is in rising order either way.
    pub newest: bool,
    /// At most so many; 0: all.
    pub limit: usize,
}

/// One write of a batch.
#[derive(Clone, Debug)]
pub enum Write {
    Put {
        store: KeyValue,
        owner: String,
        key: String,
        value: Vec<u8>,
    },
    PutNew {
        store: KeyValue,
        owner: String,
        key: String,
        value: Vec<u8>,
    },
    Delete {
        store: KeyValue,
        owner: String,
        key: String,
    },
    /// Removes every key of an owner. For an archive, `Prune` with the end of time does that.
    DeleteOwner { store: KeyValue, owner: String },
    Append {
        archive: Archive,
        owner: String,
        at: i64,
        value: Vec<u8>,
    },
    /// Removes entries with `at` before this, of one owner or of all.
    Prune {
        archive: Archive,
        owner: Option<String>,
        before: i64,
    },
    /// Removes keys last written before this (milliseconds since 1970).
    Expire { store: KeyValue, before: i64 },
    /// Removes one archive entry.
    Remove {
        archive: Archive,
        owner: String,
        id: u64,
    },
}

/// Writes that happen all or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch(pub(crate) Vec<Write>);

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn put(mut self, store: KeyValue, owner: &str, key: &str, value: Vec<u8>) -> Self {
        self.0.push(Write::Put {
            store,
            owner: owner.into(),
            key: key.into(),
            value,
        });
        self
    }

    /// As `put`, but the whole batch fails with [`Error::Taken`] where the key exists.
    #[must_use]
    pub fn put_new(mut self, store: KeyValue, owner: &str, key: &str, value: Vec<u8>) -> Self {
        self.0.push(Write::PutNew {
            store,
            owner: owner.into(),
            key: key.into(),
            value,
        });
        self
    }

    #[must_use]
    pub fn delete(mut self, store: KeyValue, owner: &str, key: &str) -> Self {
        self.0.push(Write::Delete {
            store,
            owner: owner.into(),
            key: key.into(),
        });
        self
    }

    /// Deletes every key that the owner has in the store.
    #[must_use]
    pub fn delete_owner(mut self, store: KeyValue, owner: &str) -> Self {
        self.0.push(Write::DeleteOwner {
            store,
            owner: owner.into(),
        });
        self
    }

    /// `at`: milliseconds since 1970.
    #[must_use]
    pub fn append(mut self, archive: Archive, owner: &str, at: i64, value: Vec<u8>) -> Self {
        self.0.push(Write::Append {
            archive,
            owner: owner.into(),
            at,
            value,
        });
        self
    }

    #[must_use]
    pub fn prune(mut self, archive: Archive, owner: Option<&str>, before: i64) -> Self {
        self.0.push(Write::Prune {
            archive,
            owner: owner.map(Into::into),
            before,
        });
        self
    }

    #[must_use]
    pub fn expire(mut self, store: KeyValue, before: i64) -> Self {
        self.0.push(Write::Expire { store, before });
        self
    }

    #[must_use]
    pub fn remove(mut self, archive: Archive, owner: &str, id: u64) -> Self {
        self.0.push(Write::Remove {
            archive,
            owner: owner.into(),
            id,
        });
        self
    }

    /// Appends the writes of another batch.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.0.append(&mut other.0);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a write outlives. Writes are kept in the order of their calls: what is lost with the power is the end of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The process, however it ends. Nothing waits for the disk.
    Process,
    /// The machine's power too.
    Power,
}

/// What a backend does. `commit` answers the ids of the batch's appended entries, in order.
pub trait Backend: Send + Sync {
    fn commit(&self, batch: Batch, durability: Durability) -> Answer<Vec<u64>>;
    fn get(&self, store: KeyValue, owner: &str, key: &str) -> Answer<Option<Vec<u8>>>;
    /// All keys of an owner that start with `prefix`, in order.
    fn list(&self, store: KeyValue, owner: &str, prefix: &str) -> Answer<Vec<(String, Vec<u8>)>>;
    /// The owners that have a key in the store, in order.
    fn owners(&self, store: KeyValue) -> Answer<Vec<String>>;
    fn query(&self, archive: Archive, owner: &str, query: Query) -> Answer<Vec<Entry>>;
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

    pub async fn commit(&self, batch: Batch) -> Result<Vec<u64>> {
        self.0.commit(batch, Durability::Power).await
    }

    /// As [`Self::commit`], but a loss of power may take it back, unless something was committed since.
    pub async fn note(&self, batch: Batch) -> Result<Vec<u64>> {
        self.0.commit(batch, Durability::Process).await
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

    pub async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
