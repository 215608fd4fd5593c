//! moltis: an AI gateway for XMPP in one binary.
//!
//! The modules, each of which uses only what stands to its right (`tests/it/layers.rs` checks it):
//!
//! `cli → app → http → {gateway, server} → {llm, storage} → xmpp → {config, runtime}`
//!
//! - [`cli`]: one file per subcommand; the only code that prints.
//! - [`app`]: builds every part and hands it to the supervisor; the only code that knows them all.
//! - [`http`]: status, health and metrics.
//! - [`gateway`]: accounts and rooms, admission, commands, conversations, replies.
//! - [`server`]: the embedded server: streams, router, features, rooms.
//! - [`llm`]: language models and the failover between them.
//! - [`storage`]: a few shapes (key-value, archive), many named stores, one contract.
//! - [`xmpp`]: connection, login, registration, and the payloads xmpp-parsers lacks.
//! - [`config`]: `moltis.toml`; [`runtime`]: supervised tasks.

pub mod app;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod http;
pub mod llm;
pub mod runtime;
pub mod server;
pub mod storage;
pub mod xmpp;
