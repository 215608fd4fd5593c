//! What the tests of conversations share: a store in memory that answers at once (so that paused time is not advanced while it
//! works), a wire that records, and messages.

#![cfg(test)]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, ready};
use jid::{BareJid, Jid};
use tokio::sync::oneshot;
use xmpp_parsers::message::{Lang, Message};

use crate::gateway::{Acknowledged, Ids, Inbound, Place, Request, Sender, Wire, WireError};
use crate::storage::{
    Answer, Archive, Backend, Batch, Durability, Entry, Error, KeyValue, Query, Result, Storage,
    Write,
};
use crate::xmpp::ns;

type Archived = BTreeMap<(&'static str, String), Vec<Entry>>;

#[derive(Default)]
struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    keys: BTreeMap<(&'static str, String, String), Vec<u8>>,
    archives: Archived,
    next: u64,
}

pub(crate) fn memory() -> Storage {
    Storage::new(Arc::new(Memory::default()))
}

impl Backend for Memory {
    fn commit(&self, batch: Batch, _: Durability) -> Answer<Vec<u64>> {
        let mut state = self.0.lock().unwrap();
        for write in &batch.0 {
            if let Write::PutNew {
                store, owner, key, ..
            } = write
                && state
                    .keys
                    .contains_key(&(store.0, owner.clone(), key.clone()))
            {
                return Box::pin(ready(Err(Error::Taken { key: key.clone() })));
            }
        }
        let mut ids = Vec::new();
        for write in batch.0 {
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
                    state.keys.insert((store.0, owner, key), value);
                }
                Write::Delete { store, owner, key } => {
                    state.keys.remove(&(store.0, owner, key));
                }
                Write::DeleteOwner { store, owner } => {
                    state
                        .keys
                        .retain(|(name, of, _), _| *name != store.0 || *of != owner);
                }
                Write::Append {
                    archive,
                    owner,
                    at,
                    value,
                } => {
                    state.next += 1;
                    let id = state.next;
                    ids.push(id);
                    state
                        .archives
                        .entry((archive.0, owner))
                        .or_default()
                        .push(Entry { id, at, value });
                }
                Write::Prune {
                    archive,
                    owner,
                    before,
                } => {
                    for ((name, of), entries) in &mut state.archives {
                        if *name == archive.0 && owner.as_ref().is_none_or(|owner| owner == of) {
                            entries.retain(|entry| entry.at >= before);
                        }
                    }
                }
                Write::Expire { .. } => {}
                Write::Remove { archive, owner, id } => {
                    if let Some(entries) = state.archives.get_mut(&(archive.0, owner)) {
                        entries.retain(|entry| entry.id != id);
                    }
                }
            }
        }
        Box::pin(ready(Ok(ids)))
    }

    fn get(&self, store: KeyValue, owner: &str, key: &str) -> Answer<Option<Vec<u8>>> {
        let state = self.0.lock().unwrap();
        let found = state
            .keys
            .get(&(store.0, owner.into(), key.into()))
            .cloned();
        Box::pin(ready(Ok(found)))
    }

    fn list(&self, store: KeyValue, owner: &str, prefix: &str) -> Answer<Vec<(String, Vec<u8>)>> {
        let state = self.0.lock().unwrap();
        let found = state
            .keys
            .iter()
            .filter(|((name, of, key), _)| {
                *name == store.0 && of == owner && key.starts_with(prefix)
            })
            .map(|((_, _, key), value)| (key.clone(), value.clone()))
            .collect();
        Box::pin(ready(Ok(found)))
    }

    fn owners(&self, store: KeyValue) -> Answer<Vec<String>> {
        let state = self.0.lock().unwrap();
        let mut owners: Vec<_> = state
            .keys
            .keys()
            .filter(|(name, ..)| *name == store.0)
            .map(|(_, owner, _)| owner.clone())
            .collect();
        owners.dedup();
        Box::pin(ready(Ok(owners)))
    }

    fn query(&self, archive: Archive, owner: &str, query: Query) -> Answer<Vec<Entry>> {
        let state = self.0.lock().unwrap();
        let mut found: Vec<Entry> = state
            .archives
            .get(&(archive.0, owner.to_owned()))
            .into_iter()
            .flatten()
            .filter(|entry| query.after.is_none_or(|after| entry.id > after))
            .filter(|entry| query.before.is_none_or(|before| entry.id < before))
            .cloned()
            .collect();
        let limit = if query.limit == 0 {
            usize::MAX
        } else {
            query.limit
        };
        if query.newest {
            found.drain(..found.len().saturating_sub(limit));
        } else {
            found.truncate(limit);
        }
        Box::pin(ready(Ok(found)))
    }

    fn close(&self) -> Answer<()> {
        Box::pin(ready(Ok(())))
    }
}

/// A text in a direct chat.
pub(crate) fn text(from: &str, id: &str, body: &str) -> Inbound {
    let from: Jid = from.parse().unwrap();
    let sender = Sender {
        real: Some(from.to_bare()),
        ..Sender::unknown(from.clone())
    };
    Inbound {
        ids: Ids {
            id: Some(id.into()),
            origin_id: Some(id.into()),
            stanza_id: None,
        },
        ..Inbound::text("bot", Place::Direct(from.to_bare()), sender, body)
    }
}

/// A text in a room whose members' real JIDs are hidden.
pub(crate) fn room_text(nick: &str, id: &str, body: &str) -> Inbound {
    let from: Jid = format!("team@rooms.example/{nick}").parse().unwrap();
    Inbound {
        place: Place::Room(from.to_bare()),
        sender: Sender {
            nick: Some(nick.into()),
            occupant_id: Some(format!("occupant-{nick}")),
            ..Sender::unknown(from)
        },
        ids: Ids {
            id: Some(id.into()),
            origin_id: None,
            stanza_id: Some(format!("room-{id}")),
        },
        ..text("x@example.com", id, body)
    }
}

/// Records what is sent. Acknowledges at once unless told to hold or to lose.
#[derive(Default)]
pub(crate) struct FakeWire(Mutex<WireState>);

#[derive(Default)]
struct WireState {
    sent: Vec<Message>,
    hold: bool,
    held: Vec<oneshot::Sender<()>>,
    offline: bool,
    /// Ids in the archive; `None`: there is no archive.
    archive: Option<Vec<String>>,
    supports: HashMap<String, bool>,
}

impl FakeWire {
    pub(crate) fn sent(&self) -> Vec<Message> {
        self.0.lock().unwrap().sent.clone()
    }

    /// The messages with a body.
    pub(crate) fn texts(&self) -> Vec<Message> {
        self.sent()
            .into_iter()
            .filter(|message| body(message).is_some())
            .collect()
    }

    /// Takes over what an earlier wire had sent.
    pub(crate) fn inherit(&self, other: &Self) {
        let other = other.0.lock().unwrap();
        let mut own = self.0.lock().unwrap();
        own.sent.splice(0..0, other.sent.iter().cloned());
        own.archive.clone_from(&other.archive);
    }

    /// From now on nothing is acknowledged.
    pub(crate) fn hold(&self) {
        self.0.lock().unwrap().hold = true;
    }

    /// The session is lost with what was not acknowledged; from now on it acknowledges.
    pub(crate) fn lose(&self) {
        let mut state = self.0.lock().unwrap();
        state.hold = false;
        state.held.clear();
    }

    pub(crate) fn set_offline(&self, offline: bool) {
        self.0.lock().unwrap().offline = offline;
    }

    pub(crate) fn set_archive(&self, ids: &[&str]) {
        self.0.lock().unwrap().archive = Some(ids.iter().map(ToString::to_string).collect());
    }

    pub(crate) fn set_supports(&self, feature: &str, supports: bool) {
        self.0
            .lock()
            .unwrap()
            .supports
            .insert(feature.into(), supports);
    }
}

impl Wire for FakeWire {
    fn account(&self) -> &'static str {
        "bot"
    }

    fn jid(&self) -> Jid {
        "bot@example.com/moltis".parse().unwrap()
    }

    fn nick(&self, _: &BareJid) -> Option<String> {
        Some("bot".into())
    }

    fn send(&self, message: Message) -> BoxFuture<'static, Result<Acknowledged, WireError>> {
        let mut state = self.0.lock().unwrap();
        if state.offline {
            return Box::pin(ready(Err(WireError::Offline)));
        }
        state.sent.push(message);
        let (sender, receiver) = oneshot::channel();
        if state.hold {
            state.held.push(sender);
        } else {
            sender.send(()).unwrap();
        }
        Box::pin(ready(Ok(receiver)))
    }

    fn query(
        &self,
        _: Option<Jid>,
        _: Request,
    ) -> BoxFuture<'static, Result<Option<minidom::Element>, WireError>> {
        Box::pin(ready(Err(WireError::Offline)))
    }

    fn archived(&self, _: &Place, _: i64) -> BoxFuture<'static, Result<Vec<String>, WireError>> {
        let archive = self.0.lock().unwrap().archive.clone();
        Box::pin(ready(archive.ok_or(WireError::Refused {
            condition: "service-unavailable".into(),
            text: None,
        })))
    }

    fn supports(&self, _: &Jid, feature: &str) -> Option<bool> {
        self.0.lock().unwrap().supports.get(feature).copied()
    }

    fn is_ready(&self, _: &Place) -> bool {
        !self.0.lock().unwrap().offline
    }
}

pub(crate) fn body(message: &Message) -> Option<&str> {
    message.bodies.get(&Lang::new()).map(String::as_str)
}

pub(crate) fn payload<'a>(
    message: &'a Message,
    name: &str,
    ns: &str,
) -> Option<&'a minidom::Element> {
    message.payloads.iter().find(|element| element.is(name, ns))
}

/// The id that a message corrects (XEP-0308).
pub(crate) fn replaces(message: &Message) -> Option<&str> {
    payload(message, "replace", ns::MESSAGE_CORRECT)?.attr("id")
}

pub(crate) fn chat_state(message: &Message) -> Option<&str> {
    message
        .payloads
        .iter()
        .find(|element| element.ns() == ns::CHATSTATES)
        .map(minidom::Element::name)
}
