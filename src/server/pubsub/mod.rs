//! XEP-0060: nodes and items, shared by PEP (XEP-0163) and the pubsub service.
//!
//! A [`request`] is read from a stanza, [`access`] decides who may, the engine does it and answers with an outcome: the
//! payload of the answer, and the events for others as values.

pub mod access;
pub mod config;
pub mod engine;
pub mod error;
pub mod event;
pub mod form;
pub mod node;
pub mod page;
pub mod request;
pub mod service;
pub mod store;

pub use engine::{Actor, Engine, Limits, Outcome, Profile};
pub use event::{Audience, Notification, Recipients};
pub use request::Request;
