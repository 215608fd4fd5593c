//! Connection, login, registration, and the payloads xmpp-parsers lacks.
//!
//! From the wire up: [`dns`] (where), [`tls`] (to whom), [`guard`] (what may come in), [`connector`] (a secured stream),
//! [`login`] (who we are), [`component`] (XEP-0114 instead of a login), [`client`] (a session that lasts). Beside them
//! [`register`] (XEP-0077) and [`secrets`] (its passwords).

mod attribute;
pub mod caps;
pub mod client;
pub mod component;
pub mod connector;
pub mod datetime;
pub mod dns;
pub mod element;
mod error;
pub mod form;
pub mod guard;
pub mod login;
mod network;
pub mod ns;
pub mod register;
pub mod scram;
pub mod secrets;
pub mod tls;

pub use client::{Acknowledged, Client, Dial, Event, Mechanism, Settings, Transport};
pub use error::Error;
pub use network::{is_own, local_addresses};
