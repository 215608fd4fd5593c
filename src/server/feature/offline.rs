//! XEP-0160: messages for an account that nobody is connected to, kept until a client has them.
//!
//! A message that is delivered stays in the store until the client has acknowledged it (XEP-0198): the mail holds a
//! receipt that removes it when the mail is dropped. What a session has not acknowledged when it ends comes back to the
//! account before its mail is dropped, and is kept anew.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use minidom::Element;
use tokio::sync::Mutex as AsyncMutex;
use tracing::warn;

use super::super::abuse::Refusal;
use super::super::account::Account;
use super::super::archive::{Archives, MESSAGES, rules};
use super::super::mail::Mail;
use super::super::passage::Passage;
use super::super::router::{Happening, OnMessage, OnSession, Router, Stage, Target, Verdict};
use super::super::session::Session;
use super::super::stanza::{MessageType, Stanza};
use super::super::stream::xml;
use super::super::{Server, StanzaError};
use crate::storage::{Archive, Batch, Durability, Entry, Error, Query, Storage};
use crate::xmpp::element::element;
use crate::xmpp::{datetime, ns};

/// By local part.
pub const OFFLINE: Archive = Archive("offline");

/// How many are read from the store at once.
const CHUNK: usize = 100;

pub(super) fn register(router: &mut Router, server: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Domain], "msgoffline");
    let archives = Archives::new(server.storage().clone(), MESSAGES);
    router.message(Stage::Deliver, Arc::new(Keep(archives)));
    router.session(Arc::new(Deliver));
    Ok(())
}

/// What this feature remembers of an account.
#[derive(Default)]
struct Queue {
    /// How many messages wait; `None`: not counted yet. Held while messages are delivered, so that two sessions do not
    /// get the same.
    count: AsyncMutex<Option<usize>>,
    /// Those that are on their way to a session.
    on_their_way: Arc<Mutex<BTreeSet<u64>>>,
}

impl Queue {
    /// How many wait, those on their way included.
    async fn count<'a>(
        &self,
        count: &'a mut Option<usize>,
        storage: &Storage,
        owner: &str,
    ) -> Result<&'a mut usize, Error> {
        let known = if let Some(known) = *count {
            known
        } else {
            storage.settled().await?;
            let counted = storage.count(OFFLINE, owner, Query::default()).await?;
            usize::try_from(counted).unwrap_or(usize::MAX)
        };
        Ok(count.insert(known))
    }

    fn on_their_way(&self) -> BTreeSet<u64> {
        self.on_their_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What becomes of a message that nobody is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    /// It is of no use later, and nobody needs to be told.
    Drop,
    /// The sender is told.
    Refuse,
}

/// XEP-0160, 3, and the hints of XEP-0334.
fn fate(message: &Stanza) -> Fate {
    match message.message_type() {
        MessageType::Groupchat | MessageType::Headline | MessageType::Error => return Fate::Refuse,
        MessageType::Normal | MessageType::Chat => {}
    }
    let states =
        |child: &Element| child.has_ns(ns::CHATSTATES) || child.is("thread", ns::JABBER_CLIENT);
    if message.element().children().all(states) {
        return Fate::Drop;
    }
    if rules::hint(message, "no-store") || rules::hint(message, "no-storage") {
        return if message.has("body", ns::JABBER_CLIENT) {
            Fate::Refuse
        } else {
            Fate::Drop
        };
    }
    Fate::Keep
}

struct Keep(Archives);

impl OnMessage for Keep {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        Box::pin(async move {
            match fate(passage.stanza) {
                Fate::Keep => self.keep(passage).await?,
                Fate::Drop => passage.stored = true,
                Fate::Refuse => {}
            }
            Ok(Verdict::Continue)
        })
    }
}

impl Keep {
    async fn keep(&self, passage: &mut Passage<'_>) -> Result<(), StanzaError> {
        let (account, storage) = (passage.account, passage.server.storage());
        let queue = account.extensions.get_or_default::<Queue>();
        let mut count = queue.count.lock().await;
        let count = queue.count(&mut count, storage, account.owner()).await?;
        let most = passage.server.settings().limits.offline_messages;
        // What was accepted once is kept, whatever the limit.
        if *count >= most && !passage.again {
            let abuse = passage.server.abuse();
            abuse.refused(Refusal::Offline, account.jid());
            if let Some(archived) = &passage.archived {
                // XEP-0313, 6.1: what is refused is not in the archive. The removal needs no waiting for.
                drop(self.0.take_back(account.owner(), archived.position));
            }
            return Ok(());
        }
        storage.ready().await;
        let message = delayed(passage.stanza, passage.server.domain(), datetime::now());
        let batch = Batch::new().append(
            OFFLINE,
            account.owner(),
            datetime::now(),
            String::from(&message).into_bytes(),
        );
        let submitted = storage.submit(batch, Durability::Power);
        *count = count.saturating_add(1);
        // The archive's entry is in the queue before it: if that fails, the sender is told once.
        let refusable = passage.archived.is_none().then(|| passage.stanza.clone());
        passage.sender.wait_for(submitted.written, refusable);
        passage.stored = true;
        Ok(())
    }
}

/// With the time at which it came (XEP-0203), unless it has that already.
pub(in crate::server) fn delayed(message: &Stanza, domain: &str, at: i64) -> Element {
    let mut delayed = message.element().clone();
    let known = delayed
        .children()
        .any(|child| child.is("delay", ns::DELAY) && child.attr("from") == Some(domain));
    if !known {
        let stamp = datetime::stamp(at);
        let attributes = [("from", domain), ("stamp", stamp.as_str())];
        delayed.append_child(element("delay", ns::DELAY, &attributes));
    }
    delayed
}

/// Delivers to a session that has become available with a priority that is not negative.
struct Deliver;

impl OnSession for Deliver {
    fn on_session<'a>(
        &'a self,
        server: &'a Server,
        session: &'a Arc<Session>,
        happening: &'a Happening,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let there = matches!(happening, Happening::Available | Happening::Changed)
                && session.priority().is_some_and(|priority| priority >= 0);
            if there && let Err(err) = deliver(server, session).await {
                warn!(session = %session.jid(), "Messages that wait cannot be read: {err}");
            }
        })
    }
}

async fn deliver(server: &Server, session: &Arc<Session>) -> Result<(), Error> {
    let (account, storage) = (session.account(), server.storage());
    let queue = account.extensions.get_or_default::<Queue>();
    let mut count = queue.count.lock().await;
    let count = queue.count(&mut count, storage, account.owner()).await?;
    if *count == 0 {
        return Ok(());
    }
    // In this order: what is no longer on its way then is no longer in the store either.
    let on_their_way = queue.on_their_way();
    storage.settled().await?;
    let mut query = Query {
        limit: CHUNK,
        ..Query::default()
    };
    loop {
        let entries = storage
            .query(OFFLINE, account.owner(), query.clone())
            .await?;
        let last = entries.len() < CHUNK;
        for entry in entries {
            query.after = Some(entry.id);
            if on_their_way.contains(&entry.id) {
                continue;
            }
            let receipt = Receipt::new(server, account, &queue, entry.id);
            *count = count.saturating_sub(1);
            let Some(message) = read(&entry) else {
                // Dropped with its receipt: it could never be delivered.
                continue;
            };
            let mail = Mail::new(message).with_receipt(Arc::new(receipt));
            if let Err(mail) = session.send(mail).await {
                keep_back(&mail, count);
                return Ok(());
            }
        }
        if last {
            return Ok(());
        }
    }
}

/// The session has ended before it got this one, which stays in the store.
fn keep_back(mail: &Mail, count: &mut usize) {
    if let Some(receipt) = mail.receipt::<Receipt>() {
        receipt.keep();
        *count = count.saturating_add(1);
    }
}

fn read(entry: &Entry) -> Option<Element> {
    let text = std::str::from_utf8(&entry.value).ok();
    let message = text.and_then(xml::parse);
    if message.is_none() {
        warn!(
            id = entry.id,
            "A message that waits cannot be read; it is dropped"
        );
    }
    message
}

/// Removes a message from the store when it is dropped.
struct Receipt {
    storage: Storage,
    owner: String,
    id: u64,
    on_their_way: Arc<Mutex<BTreeSet<u64>>>,
    kept: AtomicBool,
    /// The server's streams are ending: what is dropped now may not have been delivered.
    closing: Arc<AtomicBool>,
}

impl Receipt {
    fn new(server: &Server, account: &Account, queue: &Queue, id: u64) -> Self {
        let (storage, closing) = (server.storage(), server.closing());
        queue
            .on_their_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
        Self {
            storage: storage.clone(),
            owner: account.owner().to_owned(),
            id,
            on_their_way: Arc::clone(&queue.on_their_way),
            kept: false.into(),
            closing,
        }
    }

    fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // Twice rather than never.
        let keep = self.kept.load(Ordering::Relaxed) || self.closing.load(Ordering::Acquire);
        if !keep {
            let batch = Batch::new().remove(OFFLINE, &self.owner, self.id);
            // Nobody waits for it; if it fails, the message is delivered twice.
            drop(self.storage.submit(batch, Durability::Process).written);
        }
        // After the removal is in the queue, see `deliver`.
        self.on_their_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
