//! What the tests of conversations share: a store in memory that answers at once (so that paused time is not advanced while it
//! works), a wire that records, and messages.

#![cfg(test)]

use std::collections::HashMap;
use std::sync::Mutex;

use futures::future::{BoxFuture, ready};
use jid::{BareJid, Jid};
use tokio::sync::oneshot;
use xmpp_parsers::message::{Lang, Message};

use crate::gateway::{Acknowledged, Ids, Inbound, Place, Request, Sender, Wire, WireError};
pub(crate) use crate::storage::memory::memory;
use crate::xmpp::ns;

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
