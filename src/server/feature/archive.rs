//! XEP-0313: Message Archive Management, for accounts, with XEP-0359 ids and the preferences of XEP-0441.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jid::Jid;
use tokio::sync::Mutex as AsyncMutex;
use tracing::{debug, warn};

use super::super::account::Account;
use super::super::archive::preferences::{Preferences, Wish};
use super::super::archive::{Archives, Asked, MESSAGES, ROOMS, request, rules};
use super::super::mail::Mail;
use super::super::passage::{Archived, Passage, Side};
use super::super::router::{IqType, OnMessage, Reply, Request, Router, Stage, Target, Verdict};
use super::super::session::Sender;
use super::super::stanza::{MessageType, Stanza};
use super::super::{Server, StanzaError};
use super::stanza_id;
use crate::runtime::Stop;
use crate::storage::{Batch, KeyValue};
use crate::xmpp::element::{element, set};
use crate::xmpp::{datetime, ns};

/// By local part: key `preferences`.
pub const PREFERENCES: KeyValue = KeyValue("archive_preferences");

/// How many private messages from rooms are remembered to recognise the copies for other sessions.
const RECENT: usize = 32;

/// Between two looks for what is too old.
const PAUSE: Duration = Duration::from_hours(1);

pub(super) fn register(router: &mut Router, server: &Server) -> anyhow::Result<()> {
    let own = [Target::Own];
    for feature in [
        ns::MAM,
        ns::MAM_EXTENDED,
        ns::MAM_GROUPCHAT_FIELD,
        ns::STANZA_ID,
    ] {
        router.disco(&own, feature);
    }
    let archives = Archives::new(server.storage().clone(), MESSAGES);
    let on = |answer: fn(Archives, Request) -> BoxFuture<'static, Reply>| {
        let archives = archives.clone();
        move |request| answer(archives.clone(), request)
    };
    let query = on(|archives, request| Box::pin(query(archives, request)));
    router.iq(&own, IqType::Set, "query", ns::MAM, query)?;
    router.iq(&own, IqType::Get, "query", ns::MAM, |_| async {
        Ok(Some(request::form()))
    })?;
    let metadata = on(|archives, request| Box::pin(metadata(archives, request)));
    router.iq(&own, IqType::Get, "metadata", ns::MAM, metadata)?;
    router.iq(&own, IqType::Get, "prefs", ns::MAM, preferences)?;
    router.iq(&own, IqType::Set, "prefs", ns::MAM, set_preferences)?;
    for (kind, name) in [
        (IqType::Get, "query"),
        (IqType::Set, "query"),
        (IqType::Get, "metadata"),
    ] {
        // XEP-0313, 8.1.
        router.iq(&[Target::Other], kind, name, ns::MAM, |_| async {
            Err(StanzaError::forbidden())
        })?;
    }
    router.message(Stage::Filter, Arc::new(NoResults));
    let keep = |archives, side| Arc::new(Keep { archives, side });
    router.message(Stage::Rewrite, keep(archives.clone(), Side::Incoming));
    // The sender's copy is behind the recipient's on the disk: who finds a message in the own archive after a crash may
    // believe that it arrived.
    router.message(Stage::Observe, keep(archives, Side::Outgoing));
    Ok(())
}

/// A result that its session has not taken is nothing for the others.
struct NoResults;

impl OnMessage for NoResults {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        let drop = passage.again && passage.stanza.has("result", ns::MAM);
        let verdict = if drop {
            Verdict::Drop
        } else {
            Verdict::Continue
        };
        Box::pin(std::future::ready(Ok(verdict)))
    }
}

/// Puts messages into the archive and tells their ids.
struct Keep {
    archives: Archives,
    side: Side,
}

impl OnMessage for Keep {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        Box::pin(async move {
            // What comes back from a session that has ended carries its ids already.
            if passage.again {
                return Ok(Verdict::Continue);
            }
            if self.side == Side::Incoming {
                stanza_id::strip(passage);
            }
            if self.side != passage.side {
                return Ok(Verdict::Continue);
            }
            let kept = match self.reason_to_skip(passage).await {
                Ok(Some(reason)) => {
                    debug!(account = %passage.account.jid(), reason, "A message is not archived");
                    Ok(())
                }
                Ok(None) => self.keep(passage).await,
                Err(error) => Err(error),
            };
            match (kept, self.side) {
                // It is on its way: an own copy that is not kept is no reason to say otherwise.
                (Err(error), Side::Outgoing) => {
                    warn!(account = %passage.account.jid(), condition = ?error.condition, "The own copy of a message was not archived");
                    Ok(Verdict::Continue)
                }
                (kept, _) => kept.map(|()| Verdict::Continue),
            }
        })
    }
}

impl Keep {
    /// `None`: it is kept.
    async fn reason_to_skip(
        &self,
        passage: &Passage<'_>,
    ) -> Result<Option<&'static str>, StanzaError> {
        let message = &*passage.stanza;
        let reason = rules::reason_to_skip(message).or_else(|| reason_by_way(passage));
        if reason.is_some() {
            return Ok(reason);
        }
        let account = passage.account;
        let with = match passage.side {
            Side::Outgoing => message.to(),
            Side::Incoming => Some(message.from()),
        };
        let Some(with) = with else {
            return Ok(None);
        };
        let wanted = match wishes(passage.server, account).await?.wish(with) {
            Wish::Keep => true,
            Wish::Skip => false,
            Wish::KeepIfKnown => {
                let roster = account.roster(passage.server).await?;
                let contact = roster.contact(&with.to_bare());
                contact.is_some_and(|contact| contact.listed)
            }
        };
        Ok((!wanted).then_some("its owner does not want it"))
    }

    async fn keep(&self, passage: &mut Passage<'_>) -> Result<(), StanzaError> {
        let account = passage.account;
        let message = &mut *passage.stanza;
        let with = match (passage.side, message.to()) {
            (Side::Outgoing, Some(to)) => to.to_bare(),
            _ => message.from().to_bare(),
        };
        let recent = copied_by_room(passage.side, message).map(|key| {
            let recent = account.extensions.get_or_default::<Recent>();
            (recent, key)
        });
        let known = recent.as_ref().and_then(|(recent, key)| recent.find(key));
        if let Some(archived) = known {
            stanza_id::stamp(message, account.jid(), &archived.id);
            passage.archived = Some(archived);
            return Ok(());
        }
        let kept = self
            .archives
            .keep(account.owner(), &with, datetime::now(), message.element())
            .await?;
        let archived = Archived {
            id: kept.id,
            position: kept.position,
        };
        if let Some((recent, key)) = recent {
            recent.remember(key, archived.clone());
        }
        // XEP-0313, 3.4: the recipient of what we send has no access to our archive.
        if passage.side == Side::Incoming {
            stanza_id::stamp(message, account.jid(), &archived.id);
        }
        if !matches!(passage.sender, Sender::Nobody) {
            // An own copy that is not kept is no reason to tell that the message did not arrive.
            let refusable = (passage.side == Side::Incoming)
                .then(|| head(message))
                .flatten();
            passage.sender.wait_for(kept.written, refusable);
        }
        passage.archived = Some(archived);
        Ok(())
    }
}

/// What the way of a message says against keeping it.
fn reason_by_way(passage: &Passage<'_>) -> Option<&'static str> {
    let message = &*passage.stanza;
    let to_self = message.from().to_bare() == *passage.account.jid()
        && message
            .to()
            .is_none_or(|to| to.to_bare() == *passage.account.jid());
    match passage.side {
        Side::Outgoing if to_self => Some("kept when it arrives"),
        Side::Outgoing => None,
        Side::Incoming => {
            // RFC 6121, 8.5.3.2.1: it will be refused.
            let gone = message
                .to()
                .and_then(|to| to.try_as_full().ok())
                .is_some_and(|full| passage.account.session(full).is_none());
            (gone && message.message_type() == MessageType::Normal)
                .then_some("to a session that is not there")
        }
    }
}

/// What is left of a message to be answered with an error.
fn head(message: &Stanza) -> Option<Stanza> {
    let mut head = element("message", ns::JABBER_CLIENT, &[]);
    for name in ["type", "id"] {
        if let Some(value) = message.element().attr(name) {
            set(&mut head, name, value);
        }
    }
    Stanza::new(message.from().clone(), message.to().cloned(), head)
}

/// A room sends a private message to each session of an occupant; it is kept once (XEP-0313, 6.1.1). What such copies
/// have in common.
fn copied_by_room(side: Side, message: &Stanza) -> Option<String> {
    let id = message.id()?;
    (side == Side::Incoming && rules::is_from_occupant(message))
        .then(|| format!("{}\0{id}", message.from()))
}

#[derive(Default)]
struct Recent(Mutex<VecDeque<(String, Archived)>>);

impl Recent {
    fn find(&self, key: &str) -> Option<Archived> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, archived) = recent.iter().find(|(known, _)| known == key)?;
        Some(archived.clone())
    }

    fn remember(&self, key: String, archived: Archived) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back((key, archived));
    }
}

async fn query(archives: Archives, request: Request) -> Reply {
    let account = request.account()?;
    let session = request.session()?;
    let asked = Asked::read(&request.payload)?;
    let answer = archives
        .query(account.jid(), account.owner(), &asked)
        .await?;
    let to = Jid::from(session.jid().clone());
    for mut result in answer.results {
        set(&mut result, "to", to.as_str());
        // It has ended: nobody is left to be told.
        if session.send(Mail::new(result)).await.is_err() {
            break;
        }
    }
    Ok(Some(answer.fin))
}

async fn metadata(archives: Archives, request: Request) -> Reply {
    let metadata = archives.metadata(request.account()?.owner()).await?;
    Ok(Some(metadata))
}

/// The preferences in memory; read from the store the first time.
#[derive(Default)]
struct Wishes(AsyncMutex<Option<Arc<Preferences>>>);

async fn wishes(server: &Server, account: &Account) -> Result<Arc<Preferences>, StanzaError> {
    let wishes = account.extensions.get_or_default::<Wishes>();
    let mut known = wishes.0.lock().await;
    if let Some(known) = &*known {
        return Ok(Arc::clone(known));
    }
    let stored = server
        .storage()
        .get(PREFERENCES, account.owner(), "preferences")
        .await?;
    let read = stored.and_then(|json| serde_json::from_slice(&json).ok());
    let read = Arc::new(read.unwrap_or_default());
    *known = Some(Arc::clone(&read));
    Ok(read)
}

async fn preferences(request: Request) -> Reply {
    let preferences = wishes(&request.server, request.account()?).await?;
    Ok(Some(preferences.to_element()))
}

async fn set_preferences(request: Request) -> Reply {
    let preferences = Preferences::read(&request.payload)?;
    let account = request.account()?;
    let wishes = account.extensions.get_or_default::<Wishes>();
    let mut known = wishes.0.lock().await;
    let json = serde_json::to_vec(&preferences)
        .map_err(|_impossible| StanzaError::internal_server_error())?;
    let batch = Batch::new().put(PREFERENCES, account.owner(), "preferences", json);
    request.server.storage().commit(batch).await?;
    let answer = preferences.to_element();
    *known = Some(Arc::new(preferences));
    Ok(Some(answer))
}

/// Removes what is older than `archive_days` says, from the archives of accounts and of rooms, until `stop`.
pub async fn maintain(server: Server, stop: Stop) -> anyhow::Result<()> {
    let archives =
        [MESSAGES, ROOMS].map(|archive| Archives::new(server.storage().clone(), archive));
    loop {
        let days = server.settings().archive_days;
        for archive in &archives {
            // It is tried again; a store that has failed for good says so elsewhere.
            if let Err(err) = archive.expire(days).await {
                warn!("What is too old stays in the archive for now: {err}");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
