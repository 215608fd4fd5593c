//! What operators do with the embedded server of this process: people come and go, and are told things. Only in a chat with
//! a bot that lives there: another server could say that anybody is an operator of ours.

use std::sync::Arc;

use anyhow::Result;

use super::context::House;
use super::parse::code;
use super::{Answer, Command, Context, Who, optional, required, rest};

pub(super) const ADDUSER: Command = Command {
    name: "adduser",
    arguments: &[required("JID", "Address (JID)")],
    help: "add an account to the server",
    who: Who::Operator,
    run: |context| Box::pin(add(context)),
};

async fn add(context: Context) -> Result<Answer> {
    let house = match house(&context) {
        Ok(house) => house,
        Err(answer) => return Ok(answer),
    };
    let added = house.add(context.argument("JID").unwrap_or_default()).await;
    Ok(match added {
        Ok(added) => format!(
            "{} has an account now. Its password, which I tell this once: {}\n\nWith `/invite` people choose their own.",
            code(added.jid.as_str()),
            code(&added.password)
        )
        .into(),
        Err(sentence) => refused(&sentence),
    })
}

pub(super) const DELUSER: Command = Command {
    name: "deluser",
    arguments: &[required("JID", "Address (JID)")],
    help: "delete an account of the server, with all it has stored",
    who: Who::Operator,
    run: |context| Box::pin(delete(context)),
};

async fn delete(context: Context) -> Result<Answer> {
    let house = match house(&context) {
        Ok(house) => house,
        Err(answer) => return Ok(answer),
    };
    let deleted = house.delete(context.argument("JID").unwrap_or_default());
    Ok(match deleted.await {
        Ok(jid) => format!("{} has been deleted.", code(jid.as_str())).into(),
        Err(sentence) => refused(&sentence),
    })
}

pub(super) const INVITE: Command = Command {
    name: "invite",
    arguments: &[optional("name", "Name of the account")],
    help: "a link that makes somebody an account on the server",
    who: Who::Operator,
    run: |context| Box::pin(invite(context)),
};

async fn invite(context: Context) -> Result<Answer> {
    let house = match house(&context) {
        Ok(house) => house,
        Err(answer) => return Ok(answer),
    };
    let by = context.inbound.sender.from.to_bare();
    Ok(match house.invite(&by, context.argument("name")).await {
        Ok(invited) => {
            let page = invited
                .page
                .map_or(String::new(), |page| format!("{page}\n"));
            format!(
                "For one account, until {}:\n{page}{}",
                invited.until, invited.uri
            )
            .into()
        }
        Err(sentence) => refused(&sentence),
    })
}

pub(super) const ANNOUNCE: Command = Command {
    name: "announce",
    arguments: &[rest(required("text", "Text"))],
    help: "tell everybody who is online on the server",
    who: Who::Operator,
    run: |context| Box::pin(announce(context)),
};

async fn announce(context: Context) -> Result<Answer> {
    let house = match house(&context) {
        Ok(house) => house,
        Err(answer) => return Ok(answer),
    };
    let text = context.argument("text").unwrap_or_default();
    Ok(match house.announce(text).await {
        Ok(count) => format!("Told to {count} sessions.").into(),
        Err(sentence) => refused(&sentence),
    })
}

/// The server that this chat is on, or what to answer instead.
fn house(context: &Context) -> Result<Arc<dyn House>, Answer> {
    let Some(house) = &context.services.house else {
        return Err(
            "There is no embedded server in this moltis: `enabled` in `[xmpp_server]` is not set."
                .into(),
        );
    };
    if context.account().is_some_and(|account| account.local) {
        Ok(Arc::clone(house))
    } else {
        Err("That works in a chat with a bot that lives on the server itself.".into())
    }
}

/// A sentence of the server's.
fn refused(sentence: &str) -> Answer {
    format!("{}.", sentence.trim_end_matches('.')).into()
}
