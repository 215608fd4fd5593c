//! What goes through the outbox: chunks that are stored, and passing messages that can be taken back.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use minidom::Element;
use serde::{Deserialize, Serialize};
use xmpp_parsers::message::{Id, Message};

use super::OUTBOX;
use crate::gateway::{Place, now};
use crate::storage::Batch;
use crate::xmpp::{element, ns};

/// A message that has to arrive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// Rises in the order of sending.
    pub number: String,
    pub account: String,
    pub place: Place,
    pub id: String,
    /// The stanza, serialised.
    pub stanza: String,
    pub at: i64,
}

impl Chunk {
    pub fn new(number: String, account: &str, place: &Place, message: Message) -> Self {
        let id = message.id.clone().map(|id| id.0).unwrap_or_default();
        Self {
            number,
            account: account.into(),
            place: place.clone(),
            id,
            stanza: String::from(&Element::from(message)),
            at: now(),
        }
    }

    pub fn put(&self) -> Batch {
        // Serialising plain data to JSON cannot fail; an empty value is skipped when it is read.
        let value = serde_json::to_vec(self).unwrap_or_default();
        Batch::new().put(OUTBOX, &self.account, &self.number, value)
    }

    pub(super) fn delete(&self) -> Batch {
        Batch::new().delete(OUTBOX, &self.account, &self.number)
    }

    pub(super) fn message(&self) -> Option<Message> {
        let stanza = Element::from_str(&self.stanza).ok()?;
        Message::try_from(stanza).ok()
    }

    /// The same text as a correction of this message, or of the one that this one corrects.
    pub(super) fn into_correction(mut self) -> Self {
        let Some(mut message) = self.message() else {
            return self;
        };
        if !message
            .payloads
            .iter()
            .any(|payload| payload.is("replace", ns::MESSAGE_CORRECT))
        {
            let replace = element::element("replace", ns::MESSAGE_CORRECT, &[("id", &self.id)]);
            message.payloads.push(replace);
        }
        let id = format!("{}.again", self.id);
        for payload in &mut message.payloads {
            if payload.is("origin-id", ns::STANZA_ID) {
                element::set(payload, "id", &id);
            }
        }
        message.id = Some(Id(id.clone()));
        self.stanza = String::from(&Element::from(message));
        self.id = id;
        self
    }
}

/// Whether a passing message has gone out. It can be taken back until then.
#[derive(Clone, Debug, Default)]
pub struct Ticket(Arc<AtomicU8>);

impl Ticket {
    const WAITING: u8 = 0;
    const GONE: u8 = 1;
    const TAKEN_BACK: u8 = 2;

    /// True: it was not sent and will not be.
    pub fn take_back(&self) -> bool {
        self.change(Self::TAKEN_BACK) != Self::GONE
    }

    /// True: it is to be sent now.
    pub(super) fn go(&self) -> bool {
        self.change(Self::GONE) == Self::WAITING
    }

    /// True: it was not sent, and what builds on it has to begin anew.
    pub fn is_lost(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::TAKEN_BACK
    }

    /// The state before.
    fn change(&self, to: u8) -> u8 {
        self.0
            .compare_exchange(Self::WAITING, to, Ordering::AcqRel, Ordering::Acquire)
            .unwrap_or_else(|was| was)
    }
}
