//! What an admin sees of an account (XEP-0133, 4.8 to 4.10). Nobody's messages.

use minidom::Element;

use super::super::{Asks, Call, Command, Done, Outcome};
use super::{FORM_TYPE, account_field, accounts_field, ask, known, names_here, permitted, tell};
use crate::server::StanzaError;
use crate::xmpp::form::{Field, Form};
use crate::xmpp::{datetime, ns};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        node: "http://jabber.org/protocol/admin#get-user-roster",
        name: "Show a contact list",
        permitted,
        asks: Asks::Form(|| ask("Show a contact list", [accounts_field()])),
        run: |call| Box::pin(roster(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#get-user-lastlogin",
        name: "Show the last login",
        permitted,
        asks: Asks::Form(|| ask("Show the last login", [accounts_field()])),
        run: |call| Box::pin(last_login(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#user-stats",
        name: "Show figures of a user",
        permitted,
        asks: Asks::Form(|| ask("Show figures of a user", [account_field()])),
        run: |call| Box::pin(figures(call)),
    },
];

/// The form is one account's: what is in it does not say whose it is.
fn only(call: &Call) -> Result<jid::NodePart, StanzaError> {
    match names_here(call)?.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(StanzaError::not_acceptable().text("One address at a time")),
    }
}

async fn roster(call: Call) -> Outcome {
    let name = only(&call)?;
    let jid = call.server.accounts().jid(&name);
    let account = call.server.account(&jid).await?;
    let account = account.ok_or_else(StanzaError::item_not_found)?;
    let contacts = account
        .roster(&call.server)
        .await?
        .those(|contact| contact.listed);
    let mut query = Element::bare("query", ns::ROSTER);
    for (contact, entry) in contacts {
        query.append_child(entry.item(&contact));
    }
    let field = Field::new("jid-multi", "accountjids").value(jid.as_str());
    Ok(Done::Found(
        Form::new("result", FORM_TYPE).field(field).child(query),
    ))
}

async fn last_login(call: Call) -> Outcome {
    let name = only(&call)?;
    let accounts = call.server.accounts();
    let jid = accounts.jid(&name);
    let at = accounts.last_login(&name);
    let at = at.map(|seconds| datetime::stamp(seconds.saturating_mul(1_000)));
    tell([
        Field::new("jid-multi", "accountjids").value(jid.as_str()),
        Field::new("text-single", "lastlogin").values(at),
    ])
}

async fn figures(call: Call) -> Outcome {
    let name = known(&call.server, call.fields.jid("accountjid")?.into())?;
    let jid = call.server.accounts().jid(&name);
    let account = call.server.account(&jid).await?;
    let account = account.ok_or_else(StanzaError::item_not_found)?;
    let contacts = account
        .roster(&call.server)
        .await?
        .those(|contact| contact.listed);
    let sessions = account.sessions();
    let mut addresses: Vec<_> = sessions
        .iter()
        .filter_map(|session| session.origin.address)
        .map(|address| address.to_string())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let resources = sessions.iter().map(|session| session.jid().resource());
    tell([
        Field::new("text-multi", "ipaddresses").values(addresses),
        Field::new("text-single", "rostersize").value(contacts.len().to_string()),
        Field::new("text-multi", "onlineresources").values(resources),
    ])
}
