//! What the server can do beyond RFC 6121, a file for each XEP. A feature registers what it claims; this table is the
//! only list.

pub mod archive;
pub mod blocking;
mod caps;
pub mod carbons;
mod commands;
mod disco;
pub mod offline;
mod pep;
mod ping;
mod stanza_id;
pub mod register;
mod avatar;
mod bookmarks;
mod contact;
mod displayed;
mod last;
mod private;
mod time;
mod vcard;
mod version;

use anyhow::{Context, Result};

use super::Server;
use super::archive::MESSAGES;
use super::router::Router;
use crate::storage::Batch;

type Register = fn(&mut Router, &Server) -> Result<()>;

/// In the order in which they look at a message within a stage.
const FEATURES: &[(&str, Register)] = &[
    ("disco", disco::register),
    ("ping", ping::register),
    ("caps", caps::register),
    ("blocking", blocking::register),
    ("archive", archive::register),
    ("offline", offline::register),
    ("carbons", carbons::register),
    ("pep", pep::register),
    ("register", register::register),
    ("commands", commands::register),
    ("private", private::register),
    ("bookmarks", bookmarks::register),
    ("vcard", vcard::register),
    ("avatar", avatar::register),
    ("displayed", displayed::register),
    ("version", version::register),
    ("time", time::register),
    ("last", last::register),
    ("contact", contact::register),
];

pub(super) fn register(router: &mut Router, server: &Server) -> Result<()> {
    for (name, register) in FEATURES {
        register(router, server).with_context(|| format!("Failed to set up {name}"))?;
    }
    Ok(())
}

/// Removes what features keep of an account that is deleted; `owner`: its local part.
pub fn erase(owner: &str) -> Batch {
    Batch::new()
        .clear(MESSAGES, owner)
        .clear(offline::OFFLINE, owner)
        .delete_owner(archive::PREFERENCES, owner)
        .delete_owner(blocking::BLOCKED, owner)
}
