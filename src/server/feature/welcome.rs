//! What a new account finds: a bot among its contacts, a room among its bookmarks, and a first message, as
//! `[xmpp_server.welcome]` and the commands of XEP-0133 (4.27) have it.

use jid::{BareJid, Jid};
use minidom::Element;
use tracing::warn;

use super::super::stanza::Stanza;
use super::super::{Server, StanzaError, random_id};
use super::{announcements, bookmarks};
use crate::config::Welcome;
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

/// Welcomes an account that was just made, unless it is a bot of ours. What fails is missing and nothing else: the account
/// is there.
pub(in crate::server) async fn welcome(server: &Server, jid: &BareJid) {
    let settings = server.settings();
    if settings.bots.contains(jid) {
        return;
    }
    let welcome = &settings.welcome;
    for (what, done) in [
        ("contact", Box::pin(bot(server, welcome, jid)).await),
        ("bookmark", Box::pin(room(server, welcome, jid)).await),
        ("message", Box::pin(message(server, welcome, jid)).await),
    ] {
        if let Err(error) = done {
            warn!(%jid, condition = ?error.condition, "The first {what} of a new account is missing");
        }
    }
}

fn name(jid: &BareJid) -> &str {
    jid.node().map_or("", |name| name.as_str())
}

async fn bot(server: &Server, welcome: &Welcome, jid: &BareJid) -> Result<(), StanzaError> {
    let Some(bot) = &welcome.bot else {
        return Ok(());
    };
    if let Some(name) = bot.node() {
        // It may be that no process has ever run with it, but the command line alone.
        server.accounts().provide(name).await?;
    }
    server.befriend(jid, name(jid), bot, name(bot)).await
}

async fn room(server: &Server, welcome: &Welcome, jid: &BareJid) -> Result<(), StanzaError> {
    let Some(room) = &welcome.room else {
        return Ok(());
    };
    let attributes = [("name", name(room)), ("autojoin", "true")];
    let mut conference = element("conference", ns::BOOKMARKS2, &attributes);
    conference.append_child(text_element("nick", ns::BOOKMARKS2, name(jid)));
    bookmarks::add(server, jid, room, conference).await
}

async fn message(server: &Server, welcome: &Welcome, jid: &BareJid) -> Result<(), StanzaError> {
    let text = announcements::welcome(server, welcome).await?;
    if text.is_empty() {
        return Ok(());
    }
    let from = match &welcome.bot {
        Some(bot) => Jid::from(bot.clone()),
        None => Jid::new(server.domain()).map_err(|_ours| StanzaError::internal_server_error())?,
    };
    let mut message = Element::bare("message", ns::JABBER_CLIENT);
    // A chat with a bot goes on; what the domain says has no answer.
    let kind = welcome.bot.as_ref().map_or("normal", |_bot| "chat");
    set(&mut message, "type", kind);
    set(&mut message, "id", &random_id());
    message.append_child(text_element("body", ns::JABBER_CLIENT, &text));
    if let Some(stanza) = Stanza::new(from, Some(jid.clone().into()), message) {
        server.route(stanza, None).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
