//! What the server can do beyond RFC 6121, a file for each XEP. A feature registers what it claims; this table is the
//! only list.

mod announcements;
pub mod archive;
mod avatar;
pub mod block_lists;
pub mod blocking;
mod bookmarks;
mod caps;
pub mod carbons;
mod commands;
mod contact;
mod disco;
mod displayed;
mod external_services;
mod last;
pub mod offline;
mod pep;
mod ping;
mod private;
pub mod push;
pub mod register;
mod stanza_id;
pub(super) mod strangers;
mod time;
mod vcard;
mod version;
pub(super) mod welcome;

use anyhow::{Context, Result};
use jid::BareJid;
use tracing::error;

use super::Server;
use super::archive::MESSAGES;
use super::router::Router;
use super::upload::Uploads;
use crate::storage::Batch;

type Register = fn(&mut Router, &Server) -> Result<()>;

/// In the order in which they look at a message within a stage.
const FEATURES: &[(&str, Register)] = &[
    ("disco", disco::register),
    ("ping", ping::register),
    ("caps", caps::register),
    ("blocking", blocking::register),
    ("block lists", block_lists::register),
    ("strangers", strangers::register),
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
    ("push", push::register),
    ("external services", external_services::register),
    ("announcements", announcements::register),
];

pub(super) fn register(router: &mut Router, server: &Server) -> Result<()> {
    for (name, register) in FEATURES {
        register(router, server).with_context(|| format!("Failed to set up {name}"))?;
    }
    Ok(())
}

/// Removes what features keep of an account that is deleted; `owner`: its local part.
pub(super) fn erase(owner: &str) -> Batch {
    Batch::new()
        .clear(MESSAGES, owner)
        .clear(offline::OFFLINE, owner)
        .delete_owner(announcements::SHOWN, owner)
        .delete_owner(archive::PREFERENCES, owner)
        .delete_owner(blocking::BLOCKED, owner)
        .delete_owner(last::LAST, owner)
        .delete_owner(private::PRIVATE, owner)
        .delete_owner(push::PUSH, owner)
        .delete_owner(vcard::VCARD, owner)
}

/// Removes what is not in [`erase`], when the account is gone: its name is not given again, so that it may take its time.
pub(super) async fn gone(server: &Server, account: &BareJid) {
    if let Some(uploads) = server.extensions().get::<Uploads>()
        && let Err(err) = uploads.forget(account).await
    {
        error!(%account, "The files of the deleted account stay until they are looked for again: {err}");
    }
    let Ok(engine) = pep::engine(server) else {
        return;
    };
    if let Err(error) = engine.delete_service(account).await {
        error!(%account, condition = ?error.condition, "The nodes of the deleted account stay in the store");
    }
}
