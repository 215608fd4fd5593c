//! XEP-0060: nodes and items, shared by PEP (XEP-0163) and the pubsub service.
//!
//! A [`request`] is read from a stanza, [`access`] decides who may, the engine does it and answers with an outcome: the
//! payload of the answer, and the events for others as values.

pub mod access;
pub mod config;
pub mod error;
pub mod form;
pub mod node;
