//! The embedded server: a domain of one's own.
//!
//! `listener → stream (TLS, SASL, bind, stream management) → router → feature/<xep>.rs`, with `accounts` (who may log in),
//! `muc` (rooms) and `pubsub` (nodes, for PEP too) beside them.

pub mod accounts;
pub mod certificate;
mod error;
pub mod muc;
pub mod pubsub;
pub mod sasl;
pub mod stream;

pub use error::{Condition, ErrorType, StanzaError, StreamError};
