//! What the server can do beyond RFC 6121, a file for each XEP. A feature registers what it claims; this table is the
//! only list.

mod caps;
mod commands;
mod disco;
mod pep;
mod ping;
pub mod register;

use anyhow::{Context, Result};

use super::Server;
use super::router::Router;

type Register = fn(&mut Router, &Server) -> Result<()>;

/// In the order in which they look at a message within a stage.
const FEATURES: &[(&str, Register)] = &[
    ("disco", disco::register),
    ("ping", ping::register),
    ("caps", caps::register),
    ("pep", pep::register),
    ("register", register::register),
    ("commands", commands::register),
];

pub(super) fn register(router: &mut Router, server: &Server) -> Result<()> {
    for (name, register) in FEATURES {
        register(router, server).with_context(|| format!("Failed to set up {name}"))?;
    }
    Ok(())
}
