//! XEP-0133: Service Administration, for those whom `admins` names. A password is never told: there is none to tell.

use jid::{BareJid, Jid, NodePart};
use secrecy::SecretString;
use xmpp_parsers::data_forms::{DataForm, Field, FieldType};

use super::form::{ask, field, tell, values};
use super::{Call, Command, Done};
use crate::server::mail::Mail;
use crate::server::stanza::Stanza;
use crate::server::{Server, StanzaError, StreamError};
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

pub(super) const FORM_TYPE: &str = "http://jabber.org/protocol/admin";

type Outcome = Result<Done, StanzaError>;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        node: "http://jabber.org/protocol/admin#add-user",
        name: "Add a user",
        permitted,
        form: Some(|| {
            let address = field(
                "accountjid",
                FieldType::JidSingle,
                "The new account's address",
            );
            account_and_password("Add a user", address)
        }),
        run: |call| Box::pin(add(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#delete-user",
        name: "Delete users",
        permitted,
        form: Some(|| ask("Delete users", vec![accounts()])),
        run: |call| Box::pin(delete(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#disable-user",
        name: "Disable users",
        permitted,
        form: Some(|| ask("Disable users", vec![accounts()])),
        run: |call| Box::pin(disable(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#reenable-user",
        name: "Re-enable users",
        permitted,
        form: Some(|| ask("Re-enable users", vec![accounts()])),
        run: |call| Box::pin(enable(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#end-user-session",
        name: "End sessions",
        permitted,
        form: Some(|| ask("End sessions", vec![accounts()])),
        run: |call| Box::pin(end_sessions(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#change-user-password",
        name: "Change a password",
        permitted,
        form: Some(|| {
            let address = field("accountjid", FieldType::JidSingle, "The account's address");
            let password = field("password", FieldType::TextPrivate, "The new password");
            ask("Change a password", vec![address, password])
        }),
        run: |call| Box::pin(change_password(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#get-registered-users-num",
        name: "Count users",
        permitted,
        form: None,
        run: |call| {
            let count = call.server.accounts().len();
            number("registeredusersnum", count)
        },
    },
    Command {
        node: "http://jabber.org/protocol/admin#get-disabled-users-num",
        name: "Count disabled users",
        permitted,
        form: None,
        run: |call| number("disabledusersnum", registered(&call.server, true).len()),
    },
    Command {
        node: "http://jabber.org/protocol/admin#get-online-users-num",
        name: "Count users who are online",
        permitted,
        form: None,
        run: |call| number("onlineusersnum", online(&call.server).len()),
    },
    Command {
        node: "http://jabber.org/protocol/admin#get-registered-users-list",
        name: "List users",
        permitted,
        form: None,
        run: |call| list("registereduserjids", registered(&call.server, false)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#get-disabled-users-list",
        name: "List disabled users",
        permitted,
        form: None,
        run: |call| list("disableduserjids", registered(&call.server, true)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#get-online-users-list",
        name: "List users who are online",
        permitted,
        form: None,
        run: |call| list("onlineuserjids", online(&call.server)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#announce",
        name: "Announce something to those who are online",
        permitted,
        form: Some(|| {
            let text = field("announcement", FieldType::TextMulti, "What to announce");
            ask("Announce something", vec![text])
        }),
        run: |call| Box::pin(announce(call)),
    },
];

fn permitted(server: &Server, from: &Jid) -> bool {
    server.is_admin(&from.to_bare())
}

fn accounts() -> Field {
    field("accountjids", FieldType::JidMulti, "Addresses, one a line")
}

fn account_and_password(title: &str, address: Field) -> DataForm {
    let password = field("password", FieldType::TextPrivate, "Password");
    let again = field("password-verify", FieldType::TextPrivate, "Password again");
    ask(title, vec![address, password, again])
}

/// The local part of an address here.
fn name_here(server: &Server, jid: &BareJid) -> Result<NodePart, StanzaError> {
    let text = || format!("{jid} is no address of {}", server.domain());
    match jid.node() {
        Some(name) if server.is_local(jid.domain().as_str()) => Ok(name.to_owned()),
        _ => Err(StanzaError::not_acceptable().text(text())),
    }
}

/// The accounts that the form names. Nothing is done where one of them does not exist.
fn names_here(call: &Call) -> Result<Vec<NodePart>, StanzaError> {
    let known = |jid: Jid| {
        let jid = jid.into_bare();
        let name = name_here(&call.server, &jid)?;
        if call.server.accounts().exists(&name) {
            Ok(name)
        } else {
            Err(StanzaError::item_not_found().text(format!("There is no account {jid}")))
        }
    };
    let jids = call.fields.jids("accountjids")?;
    jids.into_iter().map(known).collect()
}

async fn add(call: Call) -> Outcome {
    let jid = call.fields.jid("accountjid")?;
    let name = name_here(&call.server, &jid)?;
    let password = call.fields.one("password")?;
    // XEP-0133, 4.1 has both, some clients send one.
    if !matches!(call.fields.all("password-verify"), [] | [_])
        || call
            .fields
            .all("password-verify")
            .iter()
            .any(|again| again != password)
    {
        return Err(StanzaError::not_acceptable().text("The passwords differ"));
    }
    let password = SecretString::from(password);
    call.server.accounts().create(&name, password).await?;
    Ok(Done::Said(format!("{jid} has been added")))
}

async fn delete(call: Call) -> Outcome {
    let names = names_here(&call)?;
    for name in &names {
        call.server.delete_account(name).await?;
    }
    Ok(Done::Said(format!("Deleted: {}", names.len())))
}

async fn disable(call: Call) -> Outcome {
    let names = names_here(&call)?;
    for name in &names {
        call.server.accounts().disable(name).await?;
    }
    Ok(Done::Said(format!("Disabled: {}", names.len())))
}

async fn enable(call: Call) -> Outcome {
    let names = names_here(&call)?;
    for name in &names {
        call.server.accounts().enable(name).await?;
    }
    Ok(Done::Said(format!("Re-enabled: {}", names.len())))
}

async fn change_password(call: Call) -> Outcome {
    let jid = call.fields.jid("accountjid")?;
    let name = name_here(&call.server, &jid)?;
    let password = SecretString::from(call.fields.one("password")?);
    let by = call.from.try_into_full().ok();
    let accounts = call.server.accounts();
    accounts.set_password(&name, password, by).await?;
    Ok(Done::Said(format!(
        "The password of {jid} has been changed"
    )))
}

/// A bare JID stands for all its sessions (XEP-0133, 4.5).
async fn end_sessions(call: Call) -> Outcome {
    let wanted = call.fields.jids("accountjids")?;
    let reason = StreamError::new("reset").text("An administrator has ended the session");
    let mut count = 0_usize;
    for session in call.server.sessions() {
        let (full, bare) = (session.jid(), session.account().jid());
        if wanted.iter().any(|jid| *jid == *full || *jid == *bare) {
            session.end(reason.clone());
            count = count.saturating_add(1);
        }
    }
    Ok(Done::Said(format!("Sessions ended: {count}")))
}

fn registered(server: &Server, only_disabled: bool) -> Vec<String> {
    let accounts = server.accounts().list();
    accounts
        .into_iter()
        .filter(|account| account.disabled.is_some() || !only_disabled)
        .map(|account| format!("{}@{}", account.name, server.domain()))
        .collect()
}

/// Those with an available session, once each.
fn online(server: &Server) -> Vec<String> {
    let sessions = server.sessions();
    let available = sessions.iter().filter(|session| session.is_available());
    let mut jids: Vec<String> = available
        .map(|session| session.account().jid().to_string())
        .collect();
    jids.sort_unstable();
    jids.dedup();
    jids
}

fn number(name: &str, count: usize) -> futures::future::BoxFuture<'static, Outcome> {
    let field = values(name, FieldType::TextSingle, vec![count.to_string()]);
    Box::pin(std::future::ready(Ok(Done::Found(tell(vec![field])))))
}

fn list(name: &str, jids: Vec<String>) -> futures::future::BoxFuture<'static, Outcome> {
    let field = values(name, FieldType::JidMulti, jids);
    Box::pin(std::future::ready(Ok(Done::Found(tell(vec![field])))))
}

async fn announce(call: Call) -> Outcome {
    let text = call.fields.all("announcement").join("\n");
    if text.is_empty() {
        return Err(super::bad("bad-payload").text("Fill in announcement"));
    }
    let mut message = element("message", ns::JABBER_CLIENT, &[("type", "headline")]);
    message.append_child(text_element("subject", ns::JABBER_CLIENT, "Announcement"));
    message.append_child(text_element("body", ns::JABBER_CLIENT, &text));
    let domain =
        Jid::new(call.server.domain()).map_err(|_domain| StanzaError::internal_server_error())?;
    let stanza =
        Stanza::new(domain, None, message).ok_or_else(StanzaError::internal_server_error)?;
    let mail = Mail::for_many(stanza.into_element());
    let mut count = 0_usize;
    for session in call.server.sessions() {
        let to = Jid::from(session.jid().clone());
        if session.is_available() && session.try_send(mail.addressed(&to)) {
            count = count.saturating_add(1);
        }
    }
    Ok(Done::Said(format!("Announced to sessions: {count}")))
}
