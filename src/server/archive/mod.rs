//! XEP-0313: archives of messages, for accounts and for rooms. This knows what is kept and how it is asked for; who may
//! ask, the feature and the rooms decide.
//!
//! An entry is the message as it was delivered, without its stanza-id, which follows from the entry's position.

mod answer;
mod ids;
pub mod preferences;
pub mod request;
pub mod rooms;
pub mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jid::BareJid;
use minidom::Element;
use tokio::sync::OnceCell;

pub use self::answer::Answer;
use self::ids::Cipher;
pub use self::request::Asked;
use super::StanzaError;
use super::stream::xml::{Framing, write};
use crate::storage::{
    self, Archive, Batch, Durability, Error, KeyValue, Query, Storage, Submitted,
};
use crate::xmpp::element::element;
use crate::xmpp::{datetime, ns};

/// What accounts have said and heard, by local part.
pub const MESSAGES: Archive = Archive("messages");
/// What was said in rooms, by the room's JID.
pub const ROOMS: Archive = Archive("rooms");
/// Keys of the ids, by the name of the archive.
const KEYS: KeyValue = KeyValue("archive_keys");

const DAY: i64 = 24 * 60 * 60 * 1_000;

/// A handle to the archives of one kind; clones share it.
#[derive(Clone)]
pub struct Archives(Arc<Inner>);

struct Inner {
    storage: Storage,
    archive: Archive,
    cipher: OnceCell<Cipher>,
}

/// A message that is being kept.
pub struct Kept {
    /// As clients know it.
    pub id: String,
    /// In the store.
    pub position: u64,
    /// When the disk has it.
    pub written: storage::Answer<()>,
}

impl Archives {
    pub fn new(storage: Storage, archive: Archive) -> Self {
        Self(Arc::new(Inner {
            storage,
            archive,
            cipher: OnceCell::new(),
        }))
    }

    /// The first time it is read from the store, or made.
    async fn cipher(&self) -> Result<&Cipher, Error> {
        self.0
            .cipher
            .get_or_try_init(async || Ok(Cipher::new(&key(&self.0.storage, self.0.archive).await?)))
            .await
    }

    /// Keeps a message. `at`: its time, in milliseconds since 1970, which is not in the future. `with`: whom it is to or from; in a room, who said it. Its id is known before the disk has
    /// it; calls that follow each other are kept in their order.
    pub async fn keep(
        &self,
        owner: &str,
        with: &BareJid,
        at: i64,
        message: &Element,
    ) -> Result<Kept, Error> {
        let cipher = self.cipher().await?;
        self.0.storage.ready().await;
        let batch =
            Batch::new().append_tagged(self.0.archive, owner, at, with.as_str(), text(message));
        let Submitted { ids, written } = self.0.storage.submit(batch, Durability::Power);
        let Some(position) = ids.first() else {
            // It was not taken into the queue.
            written.await?;
            return Err(Error::Closed);
        };
        Ok(Kept {
            id: cipher.encode(*position),
            position: *position,
            written,
        })
    }

    /// Takes back what was not accepted after all.
    pub fn take_back(&self, owner: &str, position: u64) -> storage::Answer<()> {
        let batch = Batch::new().remove(self.0.archive, owner, position);
        self.0.storage.submit(batch, Durability::Process).written
    }

    /// Replaces a message by another, such as a tombstone (XEP-0424, 5.1); its id and time stay.
    pub async fn replace(
        &self,
        owner: &str,
        id: &str,
        message: &Element,
    ) -> Result<(), StanzaError> {
        let position = self.position(id).await?;
        let value = text(message);
        let batch = Batch::new().replace(self.0.archive, owner, position, value);
        self.0.storage.commit(batch).await?;
        Ok(())
    }

    /// One message by its id.
    pub async fn get(&self, owner: &str, id: &str) -> Result<Option<Element>, StanzaError> {
        let Some(position) = self.cipher().await?.decode(id) else {
            return Ok(None);
        };
        self.0.storage.settled().await?;
        let query = Query {
            ids: Some(vec![position]),
            ..Query::default()
        };
        let found = self.0.storage.query(self.0.archive, owner, query).await?;
        Ok(found.first().and_then(answer::message))
    }

    /// The newest messages with their ids and times, the oldest of them first.
    pub async fn newest(
        &self,
        owner: &str,
        limit: usize,
    ) -> Result<Vec<(String, i64, Element)>, StanzaError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let cipher = self.cipher().await?;
        self.0.storage.settled().await?;
        let query = Query {
            newest: true,
            limit,
            ..Query::default()
        };
        let found = self.0.storage.query(self.0.archive, owner, query).await?;
        let messages = found.iter().filter_map(|entry| {
            let message = answer::message(entry)?;
            Some((cipher.encode(entry.id), entry.at, message))
        });
        Ok(messages.collect())
    }

    /// XEP-0313, 5: where the archive begins and ends.
    pub async fn metadata(&self, owner: &str) -> Result<Element, StanzaError> {
        let cipher = self.cipher().await?;
        self.0.storage.settled().await?;
        let mut metadata = Element::bare("metadata", ns::MAM);
        for (name, newest) in [("start", false), ("end", true)] {
            let query = Query {
                newest,
                limit: 1,
                ..Query::default()
            };
            let found = self.0.storage.query(self.0.archive, owner, query).await?;
            if let Some(entry) = found.first() {
                let (id, at) = (cipher.encode(entry.id), datetime::stamp(entry.at));
                let attributes = [("id", id.as_str()), ("timestamp", at.as_str())];
                metadata.append_child(element(name, ns::MAM, &attributes));
            }
        }
        Ok(metadata)
    }

    /// An id that a client has named.
    async fn position(&self, id: &str) -> Result<u64, StanzaError> {
        let cipher = self.cipher().await?;
        cipher.decode(id).ok_or_else(StanzaError::item_not_found)
    }

    /// Who has entries.
    pub async fn owners(&self) -> Result<Vec<String>, Error> {
        self.0.storage.archived(self.0.archive).await
    }

    /// Forgets everything of an owner.
    pub async fn forget(&self, owner: &str) -> Result<(), Error> {
        let batch = Batch::new().clear(self.0.archive, owner);
        self.0.storage.commit(batch).await.map(drop)
    }

    /// Removes what is older than so many days, of every owner; 0: nothing. In steps, so that those who write meanwhile
    /// wait for one of them at most.
    pub async fn expire(&self, days: u32) -> Result<(), Error> {
        if days == 0 {
            return Ok(());
        }
        let before = datetime::now().saturating_sub(DAY.saturating_mul(i64::from(days)));
        for owner in self.0.storage.archived(self.0.archive).await? {
            self.expire_owner(&owner, before).await?;
        }
        Ok(())
    }

    async fn expire_owner(&self, owner: &str, before: i64) -> Result<(), Error> {
        loop {
            let oldest = Query {
                limit: 1,
                until: Some(before.saturating_sub(1)),
                ..Query::default()
            };
            let found = self.0.storage.query(self.0.archive, owner, oldest).await?;
            let Some(oldest) = found.first() else {
                return Ok(());
            };
            let step = before.min(oldest.at.saturating_add(DAY));
            let batch = Batch::new().prune(self.0.archive, Some(owner), step);
            self.0.storage.note(batch).await?;
        }
    }
}

/// The key of an archive's ids, made the first time. Whoever was faster has the say.
async fn key(storage: &Storage, archive: Archive) -> Result<[u8; ids::KEY], Error> {
    let known = async || storage.get(KEYS, archive.0, "ids").await;
    let damaged = |_| Error::Backend("The key of an archive is damaged".into());
    if let Some(key) = known().await? {
        return key.try_into().map_err(damaged);
    }
    let new: [u8; ids::KEY] = rand::random();
    let put = Batch::new().put_new(KEYS, archive.0, "ids", new.to_vec());
    match storage.commit(put).await {
        Ok(_) => Ok(new),
        Err(Error::Taken { .. }) => known()
            .await?
            .unwrap_or_default()
            .try_into()
            .map_err(damaged),
        Err(other) => Err(other),
    }
}

/// An entry as it is stored: a document of its own.
fn text(message: &Element) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    write(message, Framing::Message, &mut text);
    text
}
