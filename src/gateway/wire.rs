//! What the rest of the gateway sees of an account: a place to put stanzas.

use std::sync::Arc;

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;
use tokio::sync::oneshot;
use xmpp_parsers::message::Message;

use super::Place;

/// Why an account cannot take a stanza.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("The account has ended")]
    Gone,
    #[error("Not connected")]
    Offline,
    #[error("No answer in time")]
    TimedOut,
    /// An error stanza, in its own words.
    #[error("{condition}{}", text.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        condition: String,
        text: Option<String>,
    },
}

/// Resolves when the server has acknowledged the stanza (XEP-0198), or, without stream management, once it is on the wire.
pub type Acknowledged = oneshot::Receiver<()>;

/// What conversations see of an account: a place to put stanzas. A trait, so that they are tested without a socket.
pub trait Wire: Send + Sync {
    /// The account's id, as in `[channels.xmpp.<id>]`.
    fn account(&self) -> &str;
    /// The bound full JID, or the bare one before the first connection.
    fn jid(&self) -> Jid;
    /// Our nick in a room that we have joined.
    fn nick(&self, room: &BareJid) -> Option<String>;
    /// Queues a message; it waits for the connection where there is none. Waits while the queue is full.
    fn send(&self, message: Message) -> BoxFuture<'static, Result<Acknowledged, WireError>>;
    /// Sends an IQ and waits for its result's payload, 30 s at most.
    fn query(
        &self,
        to: Option<Jid>,
        request: Request,
    ) -> BoxFuture<'static, Result<Option<Element>, WireError>>;
    /// Ids (the stanza's and its origin-id) of our own messages to a place since `since` (milliseconds since 1970) that its archive
    /// holds (XEP-0313; the account's own, or the room's). `Refused` where there is no archive.
    fn archived(
        &self,
        place: &Place,
        since: i64,
    ) -> BoxFuture<'static, Result<Vec<String>, WireError>> {
        tracing::debug!(place = %place.address(), since, "This wire asks no archive");
        Box::pin(std::future::ready(Err(WireError::Refused {
            condition: "feature-not-implemented".into(),
            text: None,
        })))
    }
    /// Whether a contact's clients all announce a feature (entity capabilities); `None`: not known.
    fn supports(&self, jid: &Jid, feature: &str) -> Option<bool>;
    /// Whether the conversation's room is joined, or the account is online for a direct chat.
    fn is_ready(&self, place: &Place) -> bool;
}

pub type SharedWire = Arc<dyn Wire>;

/// The payload of an IQ request.
#[derive(Clone, Debug)]
pub enum Request {
    Get(Element),
    Set(Element),
}
