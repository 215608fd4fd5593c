//! What reaches a room, and what a room wants done: the two sides of the pure machine.

use std::sync::Arc;

use jid::{BareJid, FullJid, Jid, ResourceRef};
use minidom::Element;

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
}

impl Incoming {
    /// `None`: an address is missing or no JID.
    pub fn read(stanza: Element) -> Option<Self> {
        Some(Self {
            from: Jid::new(stanza.attr("from")?).ok()?,
            to: Jid::new(stanza.attr("to")?).ok()?,
            stanza,
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
    /// The discussion so far to one who entered (XEP-0045, 7.2.13).
    History { to: FullJid, request: Request },
    /// A query to the archive that the room admits (XEP-0313).
    Query {
        request: Incoming,
        /// Whether the answer may tell real JIDs.
        reveal: bool,
    },
    /// What is to be found in the room after a restart.
    Persist(Vec<Change>),
    /// The room is no more: what is kept of it is deleted.
    Destroyed,
}

/// What somebody says to all.
#[derive(Clone, Debug, PartialEq)]
pub struct Speech {
    pub to: Arc<[FullJid]>,
    /// From the occupant, without `to`.
    pub stanza: Element,
    /// Who said it.
    pub author: BareJid,
    /// Its `<item/>` in the archive of a non-anonymous room.
    pub item: Option<Element>,
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
