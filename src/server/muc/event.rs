//! What reaches a room, and what a room wants done: the two sides of the pure machine.

use std::sync::Arc;

use jid::{BareJid, FullJid, Jid, ResourceRef};
use minidom::Element;
use serde::{Deserialize, Serialize};

use super::history::Request;
use crate::server::StanzaError;
use crate::server::mail::Mail;
use crate::xmpp::element::{element, set};
use crate::xmpp::ns;

/// A stanza to the room or one of its occupants, with its addresses read.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Real, as the server stamped it.
    pub from: Jid,
    /// As it was written: the room, or an occupant of it.
    pub to: Jid,
    pub stanza: Element,
    /// It is from a bot that the server itself serves: one that knows who people are.
    pub is_own_bot: bool,
}

impl Incoming {
    /// `None`: an address is missing or no JID.
    pub fn read(stanza: Element) -> Option<Self> {
        Some(Self {
            from: Jid::new(stanza.attr("from")?).ok()?,
            to: Jid::new(stanza.attr("to")?).ok()?,
            stanza,
            is_own_bot: false,
        })
    }

    /// The nick that is written to; `None`: the room itself.
    pub fn nick(&self) -> Option<&str> {
        self.to.resource().map(ResourceRef::as_str)
    }

    pub fn session(&self) -> Option<&FullJid> {
        self.from.try_as_full().ok()
    }

    pub fn id(&self) -> Option<&str> {
        self.stanza.attr("id")
    }

    /// The `type`; empty: none.
    pub fn kind(&self) -> &str {
        self.stanza.attr("type").unwrap_or_default()
    }

    /// The result of an IQ.
    pub fn result(&self, payload: Option<Element>) -> Element {
        let mut answer = self.answer("result");
        if let Some(payload) = payload {
            answer.append_child(payload);
        }
        answer
    }

    /// The error that answers this. `None`: what is an error or a result is not answered (RFC 6120, 8.3.1), and who leaves
    /// is gone.
    pub fn error(&self, error: &StanzaError) -> Option<Element> {
        let is_presence = self.stanza.name() == "presence";
        let leaves = is_presence && self.kind() == "unavailable";
        if leaves || matches!(self.kind(), "error" | "result") {
            return None;
        }
        let mut answer = self.answer("error");
        if is_presence {
            // Says that it is about the room (the examples of XEP-0045, 7.2).
            answer.append_child(Element::bare("x", ns::MUC));
        }
        let mut error = error.to_element();
        set(&mut error, "by", self.to.to_bare().as_str());
        answer.append_child(error);
        Some(answer)
    }

    fn answer(&self, kind: &str) -> Element {
        let mut answer = element(
            self.stanza.name(),
            ns::JABBER_CLIENT,
            &[
                ("type", kind),
                ("from", self.to.as_str()),
                ("to", self.from.as_str()),
            ],
        );
        if let Some(id) = self.id() {
            set(&mut answer, "id", id);
        }
        answer
    }
}

/// What happens to a room.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Stanza(Incoming),
    /// A session cannot be reached any more, and nobody said so on its behalf (XEP-0045, 7.14).
    Gone(FullJid),
    /// The service stops (status 332).
    Shutdown,
    /// The operator destroys the room.
    Destroy {
        venue: Option<BareJid>,
        reason: Option<String>,
    },
}

/// What a room wants done, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The answer to the stanza: in its place an error goes out where something before it could not be kept.
    Reply(Element),
    /// A stanza to one, addresses included.
    Send(Element),
    /// One stanza to many.
    Broadcast { to: Arc<[FullJid]>, stanza: Mail },
    /// Many stanzas, each of which others get too, to one: the occupants to somebody who enters.
    Deliver { to: FullJid, stanzas: Vec<Mail> },
    /// A message to all: numbered (XEP-0359), kept if it is of the kind that is kept, then broadcast.
    Speak(Box<Speech>),
    /// A message is taken back, by its author or by a moderator: told to all, and no more of it is kept than that.
    Retract(Box<Retraction>),
    /// The discussion so far to one who entered (XEP-0045, 7.2.13).
    History { to: FullJid, request: Request },
    /// A query to the archive that the room admits (XEP-0313).
    Query { request: Incoming, reveal: Reveal },
    /// What is to be found in the room after a restart.
    Persist(Vec<Change>),
    /// The room is no more: what is kept of it is deleted, but for what is told to those who come later.
    Destroyed(Option<Tombstone>),
}

/// Whose real JIDs the answer of the archive may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reveal {
    Nobody,
    /// Of those who spoke while everybody could see who they are.
    Open,
    Everybody,
}

/// What is left of a room that was to last, and was destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Who may make it anew.
    pub owners: Vec<BareJid>,
    pub venue: Option<BareJid>,
    pub reason: Option<String>,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// A message that is taken back (XEP-0424, XEP-0425).
#[derive(Clone, Debug, PartialEq)]
pub struct Retraction {
    /// Its stanza-id.
    pub id: String,
    /// Only if it is of the occupant with this id (XEP-0421). A moderator's request is about anybody's, and fails where
    /// there is no such message.
    pub author: Option<String>,
    /// The `<retracted/>` that stays in its place.
    pub remains: Element,
    /// What all are told.
    pub speech: Speech,
}

/// What somebody says to all.
#[derive(Clone, Debug, PartialEq)]
pub struct Speech {
    pub to: Arc<[FullJid]>,
    /// From the occupant, without `to`.
    pub stanza: Element,
    /// Who said it.
    pub author: BareJid,
    /// Who it is, for the archive; nobody, where the room itself speaks.
    pub item: Option<Element>,
    /// Whether everybody may know.
    pub is_open: bool,
    /// Whether those who enter later read it.
    pub historic: bool,
    /// Whether the archive keeps it.
    pub archived: bool,
}

/// A key of the room's own store; no value: deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    pub value: Option<Vec<u8>>,
}
