//! What a person in an XMPP client gets. The way of a stanza, one stage one module, each a decision that can be logged
//! with its reason:
//!
//! account (connect, resume, rejoin) → inbound (stanza to a typed event) → admission (may this sender talk
//! here?) → mention (is this for the bot?) → command or session (one conversation, one turn at a time) →
//! `llm` → reply (style, chunk, correct, upload) → account.
//!
//! The socket task never waits for a model, a database or another conversation.

pub mod access;
pub mod account;
pub mod accounts;
pub mod admission;
pub mod allowance;
pub mod command;
pub mod credentials;
pub mod inbound;
pub mod intake;
pub mod media;
pub mod mention;
mod message;
mod meters;
pub mod pairing;
pub mod pattern;
mod place;
pub mod prompt;
pub mod reply;
pub mod rooms;
pub mod session;
pub mod skills;
#[cfg(test)]
mod testing;
pub mod web;
mod wire;

pub use self::message::{Attachment, Ids, Inbound, Kind, ReplyTo};
pub use self::place::{Place, Sender, Standing};
pub use self::wire::{Acknowledged, Request, SharedWire, Wire, WireError};

/// Milliseconds since 1970.
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
