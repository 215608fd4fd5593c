//! What the server can do beyond RFC 6121, a file for each XEP. A feature registers what it claims; this table is the
//! only list.

mod avatar;
mod bookmarks;
mod caps;
mod contact;
mod disco;
mod displayed;
mod last;
mod pep;
mod ping;
mod private;
mod time;
mod vcard;
mod version;

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
