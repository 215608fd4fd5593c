//! What is written together.

use super::{Archive, KeyValue};

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
    Append {
        archive: Archive,
        owner: String,
        at: i64,
        tag: Option<String>,
        value: Vec<u8>,
    },
    /// Gives an entry another value; its id, time and tag stay.
    Replace {
        archive: Archive,
        owner: String,
        id: u64,
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
    /// Removes all entries of an owner in one archive.
    Clear { archive: Archive, owner: String },
    /// Removes all keys of an owner in one store. (Not in all of them: a person and a bot may have the same name.)
    DeleteOwner { store: KeyValue, owner: String },
}

/// Writes that happen all or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch(pub(crate) Vec<Write>);

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, write: Write) -> Self {
        self.0.push(write);
        self
    }

    #[must_use]
    pub fn put(self, store: KeyValue, owner: &str, key: &str, value: Vec<u8>) -> Self {
        self.with(Write::Put {
            store,
            owner: owner.into(),
            key: key.into(),
            value,
        })
    }

    /// As `put`, but the whole batch fails with [`Error::Taken`](super::Error::Taken) where the key exists.
    #[must_use]
    pub fn put_new(self, store: KeyValue, owner: &str, key: &str, value: Vec<u8>) -> Self {
        self.with(Write::PutNew {
            store,
            owner: owner.into(),
            key: key.into(),
            value,
        })
    }

    #[must_use]
    pub fn delete(self, store: KeyValue, owner: &str, key: &str) -> Self {
        self.with(Write::Delete {
            store,
            owner: owner.into(),
            key: key.into(),
        })
    }

    /// `at`: milliseconds since 1970.
    #[must_use]
    pub fn append(self, archive: Archive, owner: &str, at: i64, value: Vec<u8>) -> Self {
        self.with(Write::Append {
            archive,
            owner: owner.into(),
            at,
            tag: None,
            value,
        })
    }

    /// As `append`; a query can ask for the tag.
    #[must_use]
    pub fn append_tagged(
        self,
        archive: Archive,
        owner: &str,
        at: i64,
        tag: &str,
        value: Vec<u8>,
    ) -> Self {
        self.with(Write::Append {
            archive,
            owner: owner.into(),
            at,
            tag: Some(tag.into()),
            value,
        })
    }

    /// Gives an entry another value, if it is there.
    #[must_use]
    pub fn replace(self, archive: Archive, owner: &str, id: u64, value: Vec<u8>) -> Self {
        self.with(Write::Replace {
            archive,
            owner: owner.into(),
            id,
            value,
        })
    }

    #[must_use]
    pub fn prune(self, archive: Archive, owner: Option<&str>, before: i64) -> Self {
        self.with(Write::Prune {
            archive,
            owner: owner.map(Into::into),
            before,
        })
    }

    #[must_use]
    pub fn expire(self, store: KeyValue, before: i64) -> Self {
        self.with(Write::Expire { store, before })
    }

    #[must_use]
    pub fn remove(self, archive: Archive, owner: &str, id: u64) -> Self {
        self.with(Write::Remove {
            archive,
            owner: owner.into(),
            id,
        })
    }

    /// Removes every entry that the owner has in the archive.
    #[must_use]
    pub fn clear(self, archive: Archive, owner: &str) -> Self {
        self.with(Write::Clear {
            archive,
            owner: owner.into(),
        })
    }

    /// Removes every key that the owner has in the store; for an archive, [`Self::clear`].
    #[must_use]
    pub fn delete_owner(self, store: KeyValue, owner: &str) -> Self {
        self.with(Write::DeleteOwner {
            store,
            owner: owner.into(),
        })
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

    /// How many entries it appends.
    pub(crate) fn appended(&self) -> usize {
        self.0
            .iter()
            .filter(|write| matches!(write, Write::Append { .. }))
            .count()
    }

    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        /// What a write weighs beside its value: names, and what holds them.
        const WRITE: usize = 256;
        self.0.iter().fold(WRITE, |sum, write| {
            let value = match write {
                Write::Put { value, .. }
                | Write::PutNew { value, .. }
                | Write::Append { value, .. }
                | Write::Replace { value, .. } => value.len(),
                _ => 0,
            };
            sum.saturating_add(WRITE).saturating_add(value)
        })
    }
}
