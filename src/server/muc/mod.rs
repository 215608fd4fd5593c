//! Rooms (XEP-0045): a pure state machine a room ([`Room`]), and the service of one host that runs them ([`Service`]).
//!
//! `config`, `rank`: what owners set, and who may what. `history`: what was said before, and the archive as rooms see it.

pub mod config;
pub mod event;
pub mod history;
pub mod rank;
pub mod room;
pub mod service;

pub use config::Config;
pub use event::{Effect, Event, Incoming};
pub use history::{History, NoArchive};
pub use room::{Limits, Room};
pub use service::{Creation, Creators, Outbound, People, Policy, Service};
