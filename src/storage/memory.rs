//! A store for tests that answers at once, so that paused time does not pass while it works.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use futures::future::{BoxFuture, ready};

use super::{
    Answer, Archive, Backend, Batch, Durability, Entry, Error, KeyValue, Query, Result, Storage,
    Submitted, Write,
};

/// A store that answers at once.
pub(crate) fn memory() -> Storage {
    Storage::new(Arc::new(Memory::default()))
}

#[derive(Default)]
struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    keys: BTreeMap<(&'static str, String, String), Value>,
    archives: BTreeMap<(&'static str, String), Vec<Stored>>,
    last: u64,
    closed: bool,
}

struct Value {
    bytes: Vec<u8>,
    written: u64,
}

struct Stored {
    entry: Entry,
    tag: Option<String>,
}

fn microseconds() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

impl State {
    fn taken(&self, batch: &Batch) -> Option<String> {
        batch.0.iter().find_map(|write| match write {
            Write::PutNew {
                store, owner, key, ..
            } => self
                .keys
                .contains_key(&(store.0, owner.clone(), key.clone()))
                .then(|| key.clone()),
            _ => None,
        })
    }

    /// An appended entry's id.
    fn apply(&mut self, write: Write) -> Option<u64> {
        match write {
            Write::Put {
                store,
                owner,
                key,
                value,
            }
            | Write::PutNew {
                store,
                owner,
                key,
                value,
            } => {
                let value = Value {
                    bytes: value,
                    written: microseconds() / 1000,
                };
                self.keys.insert((store.0, owner, key), value);
            }
            Write::Delete { store, owner, key } => {
                self.keys.remove(&(store.0, owner, key));
            }
            Write::Append {
                archive,
                owner,
                at,
                tag,
                value,
            } => {
                self.last = (self.last + 1).max(microseconds());
                let id = self.last;
                let entry = Entry { id, at, value };
                let entries = self.archives.entry((archive.0, owner)).or_default();
                entries.push(Stored { entry, tag });
                return Some(id);
            }
            Write::Replace {
                archive,
                owner,
                id,
                value,
            } => {
                let entries = self.archives.entry((archive.0, owner)).or_default();
                for stored in entries.iter_mut().filter(|stored| stored.entry.id == id) {
                    stored.entry.value.clone_from(&value);
                }
            }
            Write::Prune {
                archive,
                owner,
                before,
            } => {
                for ((name, of), entries) in &mut self.archives {
                    if *name == archive.0 && owner.as_ref().is_none_or(|owner| owner == of) {
                        entries.retain(|stored| stored.entry.at >= before);
                    }
                }
            }
            Write::Expire { store, before } => {
                self.keys.retain(|(name, ..), value| {
                    *name != store.0 || i64::try_from(value.written).unwrap() >= before
                });
            }
            Write::Remove { archive, owner, id } => {
                let entries = self.archives.entry((archive.0, owner)).or_default();
                entries.retain(|stored| stored.entry.id != id);
            }
            Write::Clear { archive, owner } => {
                self.archives.remove(&(archive.0, owner));
            }
            Write::DeleteOwner { store, owner } => {
                self.keys
                    .retain(|(name, of, _), _| *name != store.0 || *of != owner);
            }
        }
        None
    }

    fn find(&self, archive: Archive, owner: &str, query: &Query) -> Vec<Entry> {
        let mut found: Vec<Entry> = self
            .archives
            .get(&(archive.0, owner.to_owned()))
            .into_iter()
            .flatten()
            .filter(|stored| matches(stored, query))
            .map(|stored| stored.entry.clone())
            .collect();
        let limit = match query.limit {
            0 => usize::MAX,
            limit => limit,
        };
        if query.newest {
            found.drain(..found.len().saturating_sub(limit));
        } else {
            found.truncate(limit);
        }
        found
    }
}

fn matches(stored: &Stored, query: &Query) -> bool {
    let entry = &stored.entry;
    query.after.is_none_or(|after| entry.id > after)
        && query.before.is_none_or(|before| entry.id < before)
        && query.since.is_none_or(|since| entry.at >= since)
        && query.until.is_none_or(|until| entry.at <= until)
        && (query.tag.is_none() || query.tag == stored.tag)
        && query.ids.as_ref().is_none_or(|ids| ids.contains(&entry.id))
}

impl Memory {
    fn read<T: Send + 'static>(&self, read: impl FnOnce(&State) -> T) -> Answer<T> {
        let state = self.0.lock().unwrap();
        let answer = if state.closed {
            Err(Error::Closed)
        } else {
            Ok(read(&state))
        };
        Box::pin(ready(answer))
    }
}

impl Backend for Memory {
    fn submit(&self, batch: Batch, _: Durability) -> Submitted {
        let mut state = self.0.lock().unwrap();
        let written: Result<()> = if state.closed {
            Err(Error::Closed)
        } else {
            state
                .taken(&batch)
                .map_or(Ok(()), |key| Err(Error::Taken { key }))
        };
        let mut ids = Vec::new();
        if written.is_ok() {
            ids.extend(batch.0.into_iter().filter_map(|write| state.apply(write)));
        }
        Submitted {
            ids,
            written: Box::pin(ready(written)),
        }
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }

    fn get(&self, store: KeyValue, owner: &str, key: &str) -> Answer<Option<Vec<u8>>> {
        self.read(|state| {
            let value = state.keys.get(&(store.0, owner.into(), key.into()));
            value.map(|value| value.bytes.clone())
        })
    }

    fn list(&self, store: KeyValue, owner: &str, prefix: &str) -> Answer<Vec<(String, Vec<u8>)>> {
        self.read(|state| {
            state
                .keys
                .iter()
                .filter(|((name, of, key), _)| {
                    *name == store.0 && of == owner && key.starts_with(prefix)
                })
                .map(|((_, _, key), value)| (key.clone(), value.bytes.clone()))
                .collect()
        })
    }

    fn owners(&self, store: KeyValue) -> Answer<Vec<String>> {
        self.read(|state| {
            let mut owners: Vec<_> = state
                .keys
                .keys()
                .filter(|(name, ..)| *name == store.0)
                .map(|(_, owner, _)| owner.clone())
                .collect();
            owners.dedup();
            owners
        })
    }

    fn query(&self, archive: Archive, owner: &str, query: Query) -> Answer<Vec<Entry>> {
        self.read(|state| state.find(archive, owner, &query))
    }

    fn count(&self, archive: Archive, owner: &str, query: Query) -> Answer<u64> {
        self.read(|state| u64::try_from(state.find(archive, owner, &query).len()).unwrap())
    }

    fn archived(&self, archive: Archive) -> Answer<Vec<String>> {
        self.read(|state| {
            state
                .archives
                .iter()
                .filter(|((name, _), entries)| *name == archive.0 && !entries.is_empty())
                .map(|((_, owner), _)| owner.clone())
                .collect()
        })
    }

    fn close(&self) -> Answer<()> {
        let answer = self.read(|_| ());
        self.0.lock().unwrap().closed = true;
        answer
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    super::contract::check(memory()).await;
}
