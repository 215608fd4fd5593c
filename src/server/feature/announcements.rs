//! What admins tell everybody (XEP-0133, 4.23 to 4.28): at once, once to each at the next login (the message of the day),
//! or to new accounts.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use jid::Jid;
use sha2::{Digest, Sha256};
use tracing::error;

use super::super::mail::Mail;
use super::super::router::{Happening, OnSession, Router};
use super::super::session::Session;
use super::super::stanza::Stanza;
use super::super::{Server, StanzaError, random_id};
use crate::config::Welcome;
use crate::storage::{Batch, KeyValue};
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// Texts by [`Text`]; owner: the domain.
const ANNOUNCEMENTS: KeyValue = KeyValue("announcements");
/// The hash of the message of the day that the account was shown last; key `motd`.
pub(super) const SHOWN: KeyValue = KeyValue("motd_shown");

/// Bytes of a text.
const LONGEST: usize = 8_192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Of the day.
    Motd,
    Welcome,
}

impl Text {
    const fn key(self) -> &'static str {
        match self {
            Self::Motd => "motd",
            Self::Welcome => "welcome",
        }
    }
}

/// The message of the day in memory, empty where there is none; `None`: not read yet.
#[derive(Default)]
struct Motd {
    text: RwLock<Option<Arc<str>>>,
    /// Who shows it to an account does so alone: somebody may come with two clients, or when it is set.
    showing: tokio::sync::Mutex<()>,
}

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.session(Arc::new(Greeter));
    Ok(())
}

/// What is stored; `None`: nothing ever was, or it was taken back.
pub(super) async fn stored(server: &Server, text: Text) -> Result<Option<String>, StanzaError> {
    let value = server
        .storage()
        .get(ANNOUNCEMENTS, server.domain(), text.key())
        .await?;
    Ok(value.and_then(|value| String::from_utf8(value).ok()))
}

/// Stores it, or forgets it; a welcome that is stored empty is none at all, whatever the configuration says.
pub(super) async fn store(
    server: &Server,
    which: Text,
    text: Option<&str>,
) -> Result<(), StanzaError> {
    if text.is_some_and(|text| text.len() > LONGEST) {
        return Err(StanzaError::not_acceptable().text("That is too long"));
    }
    let (domain, batch) = (server.domain(), Batch::new());
    let batch = match text {
        Some(text) => batch.put(ANNOUNCEMENTS, domain, which.key(), text.as_bytes().to_vec()),
        None => batch.delete(ANNOUNCEMENTS, domain, which.key()),
    };
    server.storage().commit(batch).await?;
    if which == Text::Motd {
        let motd = server.extensions().get_or_default::<Motd>();
        *motd.text.write().unwrap_or_else(PoisonError::into_inner) =
            Some(text.unwrap_or_default().into());
    }
    Ok(())
}

/// The text for a new account: an admin's, else the configuration's.
pub(super) async fn welcome(server: &Server, welcome: &Welcome) -> Result<String, StanzaError> {
    let stored = stored(server, Text::Welcome).await?;
    Ok(stored.unwrap_or_else(|| welcome.message.clone()))
}

/// Sends a headline to every session that is available; to how many.
pub(super) fn announce(
    server: &Server,
    subject: Option<&str>,
    text: &str,
) -> Result<usize, StanzaError> {
    let subject = subject.unwrap_or("Announcement");
    let mail = Mail::for_many(message(server, "headline", Some(subject), text)?);
    let mut count = 0_usize;
    for session in server.sessions() {
        let to = Jid::from(session.jid().clone());
        if session.is_available() && session.try_send(mail.addressed(&to)) {
            count = count.saturating_add(1);
        }
    }
    Ok(count)
}

impl Server {
    /// Tells everybody who is online; to how many sessions it went.
    pub fn announce(&self, text: &str) -> Result<usize, StanzaError> {
        announce(self, None, text)
    }
}

/// A message of the domain's.
fn message(
    server: &Server,
    kind: &str,
    subject: Option<&str>,
    text: &str,
) -> Result<minidom::Element, StanzaError> {
    let mut message = element("message", ns::JABBER_CLIENT, &[("type", kind)]);
    if let Some(subject) = subject {
        message.append_child(text_element("subject", ns::JABBER_CLIENT, subject));
    }
    message.append_child(text_element("body", ns::JABBER_CLIENT, text));
    let domain =
        Jid::new(server.domain()).map_err(|_domain| StanzaError::internal_server_error())?;
    let stanza =
        Stanza::new(domain, None, message).ok_or_else(StanzaError::internal_server_error)?;
    Ok(stanza.into_element())
}

/// Shows the message of the day to those who are there when it is set (4.24, note).
pub(super) async fn show_motd(server: &Server) -> Result<(), StanzaError> {
    for session in server.sessions() {
        if session.is_available() {
            greet(server, &session).await?;
        }
    }
    Ok(())
}

/// Shows the message of the day at a login, each text once to an account.
struct Greeter;

impl OnSession for Greeter {
    fn on_session<'a>(
        &'a self,
        server: &'a Server,
        session: &'a Arc<Session>,
        happening: &'a Happening,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if matches!(happening, Happening::Available)
                && let Err(error) = greet(server, session).await
            {
                error!(condition = ?error.condition, "The message of the day was not shown");
            }
        })
    }
}

async fn greet(server: &Server, session: &Arc<Session>) -> Result<(), StanzaError> {
    let text = motd(server).await?;
    if text.is_empty() {
        return Ok(());
    }
    let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()));
    let owner = session.account().owner();
    if was_shown(server, owner, &hash).await? {
        return Ok(());
    }
    let motd = server.extensions().get_or_default::<Motd>();
    let _alone = motd.showing.lock().await;
    if was_shown(server, owner, &hash).await? {
        return Ok(());
    }
    let batch = Batch::new().put(SHOWN, owner, Text::Motd.key(), hash.into_bytes());
    server.storage().note(batch).await?;
    let mut message = message(server, "normal", None, &text)?;
    crate::xmpp::element::set(&mut message, "id", &random_id());
    let to = Jid::from(session.jid().clone());
    session.try_send(Mail::for_many(message).addressed(&to));
    Ok(())
}

async fn was_shown(server: &Server, owner: &str, hash: &str) -> Result<bool, StanzaError> {
    let key = Text::Motd.key();
    let shown = server.storage().get(SHOWN, owner, key).await?;
    Ok(shown.as_deref() == Some(hash.as_bytes()))
}

async fn motd(server: &Server) -> Result<Arc<str>, StanzaError> {
    let motd = server.extensions().get_or_default::<Motd>();
    let known = motd
        .text
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if let Some(text) = known {
        return Ok(text);
    }
    let text = stored(server, Text::Motd).await?.unwrap_or_default();
    let mut known = motd.text.write().unwrap_or_else(PoisonError::into_inner);
    Ok(Arc::clone(known.get_or_insert_with(|| text.into())))
}

#[cfg(test)]
mod tests;
