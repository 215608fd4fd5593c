//! Who the admins are (XEP-0133, 4.29). Those of the configuration stay; accounts of this server can be added.

use jid::{BareJid, NodePart};
use tracing::warn;

use super::super::{Asks, Call, Command, Done, Outcome};
use super::{ask, known, permitted};
use crate::server::{Server, StanzaError};
use crate::xmpp::form::{Field, Form};

pub(super) const COMMANDS: &[Command] = &[Command {
    node: "http://jabber.org/protocol/admin#edit-admin",
    name: "Edit the list of admins",
    permitted,
    asks: Asks::Current(|server| Box::pin(std::future::ready(Ok(form(&server))))),
    run: |call| Box::pin(edit(call)),
}];

fn form(server: &Server) -> Form {
    let admins = Field::new("jid-multi", "adminjids").label("The admins");
    let now = server.admins();
    let admins = admins.values(now.iter().map(|admin| admin.as_str()));
    ask("Edit the list of admins", [admins])
        .instructions("Those in moltis.toml stay whatever this list says.")
}

/// The accounts that the new list makes admins, beside those of the configuration.
fn wanted(call: &Call) -> Result<Vec<NodePart>, StanzaError> {
    let configured = call.server.settings().admins.clone();
    let jids = call.fields.any_jids("adminjids")?.into_iter();
    jids.filter(|jid| !configured.contains(&jid.to_bare()))
        .map(|jid| known(&call.server, jid))
        .collect()
}

async fn edit(call: Call) -> Outcome {
    if call.fields.0.values("adminjids").is_none() {
        return Err(super::super::bad("bad-payload").text("Fill in adminjids"));
    }
    let wanted = wanted(&call)?;
    let own = call.from.to_bare();
    let stays = |name: &NodePart| call.server.accounts().jid(name) == own;
    let configured = call.server.settings().admins.contains(&own);
    if !configured && !wanted.iter().any(stays) {
        // Else a list that was filled in wrongly leaves nobody who could mend it.
        return Err(StanzaError::not_acceptable().text("You would not be an admin yourself"));
    }
    let accounts = call.server.accounts();
    let now = accounts.list().into_iter().filter(|account| account.admin);
    for account in now {
        let name = BareJid::new(&format!("{}@{}", account.name, call.server.domain()));
        let name = name.ok().and_then(|jid| jid.node().map(ToOwned::to_owned));
        if let Some(name) = name.filter(|name| !wanted.contains(name)) {
            warn!(%name, by = %call.from, "An account is no admin any more");
            accounts.set_admin(&name, false).await?;
        }
    }
    for name in wanted.iter().filter(|name| !accounts.is_admin(name)) {
        warn!(%name, by = %call.from, "An account is admin now");
        accounts.set_admin(name, true).await?;
    }
    Ok(Done::Said("The list has been changed".to_owned()))
}
