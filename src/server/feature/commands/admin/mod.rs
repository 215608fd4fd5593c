//! XEP-0133: Service Administration, for the admins: full bare JIDs, never a name alone (CVE-2020-8086). A password is never
//! told (4.6): there is none to tell. What else is left out is in docs/xeps.md.

mod accounts;
mod admins;
mod lists;
mod looks;
mod notices;

use futures::future::BoxFuture;
use jid::{BareJid, Jid, NodePart};

use super::form::required;
use super::{Call, Command, Done, Outcome};
use crate::server::{Server, StanzaError};
use crate::xmpp::form::{Field, Form};

pub(super) const COMMANDS: &[&[Command]] = &[
    accounts::COMMANDS,
    looks::COMMANDS,
    lists::COMMANDS,
    notices::COMMANDS,
    admins::COMMANDS,
];

const FORM_TYPE: &str = "http://jabber.org/protocol/admin";

fn permitted(server: &Server, from: &Jid) -> bool {
    server.is_admin(&from.to_bare())
}

/// A form to be filled in.
fn ask(title: &str, fields: impl IntoIterator<Item = Field>) -> Form {
    Form::new("form", FORM_TYPE).title(title).fields(fields)
}

fn tell(fields: impl IntoIterator<Item = Field>) -> Outcome {
    Ok(Done::Found(Form::new("result", FORM_TYPE).fields(fields)))
}

/// An answer that is known at once.
fn at_once(outcome: Outcome) -> BoxFuture<'static, Outcome> {
    Box::pin(std::future::ready(outcome))
}

fn account_field() -> Field {
    required("jid-single", "accountjid", "The account's address")
}

fn accounts_field() -> Field {
    required("jid-multi", "accountjids", "Addresses, one a line")
}

/// The local part of an address here.
fn name_here(server: &Server, jid: &BareJid) -> Result<NodePart, StanzaError> {
    let text = || format!("{jid} is no address of {}", server.domain());
    match jid.node() {
        Some(name) if server.is_local(jid.domain().as_str()) => Ok(name.to_owned()),
        _ => Err(StanzaError::not_acceptable().text(text())),
    }
}

/// The name of an account that there is.
fn known(server: &Server, jid: Jid) -> Result<NodePart, StanzaError> {
    let jid = jid.into_bare();
    let name = name_here(server, &jid)?;
    if server.accounts().exists(&name) {
        Ok(name)
    } else {
        Err(StanzaError::item_not_found().text(format!("There is no account {jid}")))
    }
}

/// As [`names_here`], of people alone: the configuration gives bots, and takes them.
fn people_here(call: &Call) -> Result<Vec<NodePart>, StanzaError> {
    let names = names_here(call)?;
    let (server, bots) = (&call.server, &call.server.settings().bots);
    match names
        .iter()
        .find(|name| bots.contains(&server.accounts().jid(name)))
    {
        None => Ok(names),
        Some(bot) => Err(StanzaError::not_allowed().text(format!(
            "{bot} is a bot of moltis.toml; take its table away there"
        ))),
    }
}

/// The accounts that the form names. Nothing is done where one of them does not exist.
fn names_here(call: &Call) -> Result<Vec<NodePart>, StanzaError> {
    let jids = call.fields.jids("accountjids")?;
    jids.into_iter()
        .map(|jid| known(&call.server, jid))
        .collect()
}
