//! XEP-0357: Push Notifications. A device that is not here asks to be woken through its app server, a pubsub service
//! somewhere: this server publishes there that something waits.
//!
//! It goes by devices, as with Prosody: one is woken while its own session is gone, waits to be resumed, or says that nobody
//! looks at it, whether or not another device of the person is here. How often, see [`device`]; for what, see [`rules`].

mod device;
mod notice;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;
use tokio::sync::{OnceCell, mpsc};
use tracing::{debug, warn};

pub use notice::maintain;

use self::device::{Device, Registration};
use self::notice::Notices;
use self::rules::Summary;
use super::super::account::Account;
use super::super::mail::Mail;
use super::super::passage::{Passage, Side};
use super::super::router::{IqType, OnMessage, Reply, Request, Router, Stage, Target, Verdict};
use super::super::session::Session;
use super::super::{Server, StanzaError};
use crate::storage::{self, Batch, KeyValue, Storage};
use crate::xmpp::{datetime, ns};

/// By account: [`Registration`] by service and node.
pub(super) const PUSH: KeyValue = KeyValue("push");

/// So much may wait to be thought about.
const QUEUE: usize = 10_000;

pub(super) fn register(router: &mut Router, server: &Server) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    server.extensions().insert(Push {
        events: sender,
        waiting: Mutex::new(Some(receiver)),
        owners: RwLock::default(),
        notices: Notices::default(),
    });
    router.disco(&[Target::Own], ns::PUSH);
    router.iq(&[Target::Own], IqType::Set, "enable", ns::PUSH, enable)?;
    router.iq(&[Target::Own], IqType::Set, "disable", ns::PUSH, disable)?;
    router.message(Stage::Observe, Arc::new(Watch));
    router.answer(Arc::new(notice::Answers));
    Ok(())
}

/// What this feature remembers of the server.
struct Push {
    events: mpsc::Sender<Event>,
    /// Taken by the task.
    waiting: Mutex<Option<mpsc::Receiver<Event>>>,
    /// Accounts that have a registration; `None`: not read yet.
    owners: RwLock<Option<HashSet<String>>>,
    notices: Notices,
}

/// What may be worth waking a device. The task thinks about it: nobody who writes waits for that.
enum Event {
    /// A message for an account.
    Arrived {
        account: Arc<Account>,
        summary: Summary,
        again: bool,
    },
    /// A message for one session that is away.
    Missed {
        session: Arc<Session>,
        summary: Summary,
    },
    /// Something was said in a room that these belong to.
    Said {
        members: Vec<BareJid>,
        summary: Summary,
    },
    /// The person has been in a conversation.
    Read {
        account: Arc<Account>,
        conversation: BareJid,
    },
}

impl Push {
    fn of(server: &Server) -> Option<Arc<Self>> {
        server.extensions().get()
    }

    /// Whether an account may have a device.
    fn knows(&self, owner: &str) -> bool {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        owners.as_ref().is_none_or(|owners| owners.contains(owner))
    }

    async fn learn(&self, storage: &Storage) -> storage::Result<()> {
        let stored = storage.owners(PUSH).await?;
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        owners.get_or_insert_default().extend(stored);
        Ok(())
    }

    fn note(&self, owner: &str) {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(owners) = owners.as_mut() {
            owners.insert(owner.to_owned());
        }
    }

    fn happened(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            debug!("More comes than can be pushed; nobody is woken for this one");
        }
    }
}

/// The devices of an account, read from the store the first time.
#[derive(Default)]
struct Devices(OnceCell<Mutex<Vec<Device>>>);

impl Devices {
    async fn get(
        &self,
        storage: &Storage,
        owner: &str,
    ) -> storage::Result<MutexGuard<'_, Vec<Device>>> {
        let devices = self.0.get_or_try_init(async || {
            let stored = storage.list(PUSH, owner, "").await?;
            let read = stored.iter().filter_map(|(_, json)| {
                let read = serde_json::from_slice::<Registration>(json);
                read.inspect_err(|err| {
                    warn!(owner, "A registration for pushes cannot be read: {err}");
                })
                .ok()
            });
            let mut registrations: Vec<_> = read.collect();
            registrations.sort_by_key(|registration| registration.at);
            let devices = registrations.into_iter();
            let devices = devices.map(|registration| Device::new(registration, None));
            Ok::<_, storage::Error>(Mutex::new(devices.collect()))
        });
        let devices = devices.await?;
        Ok(devices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn enable(request: Request) -> Reply {
    let registration = Registration::read(&request.payload, datetime::now())?;
    let (server, account) = (&request.server, request.account()?);
    let service = &registration.service;
    // What is published to an account here is published in its own nodes (XEP-0163).
    if server.is_local(service.domain().as_str()) && service.resource().is_none() {
        return Err(StanzaError::not_allowed().text("There is no push service"));
    }
    let json = serde_json::to_vec(&registration)
        .map_err(|_impossible| StanzaError::internal_server_error())?;
    let mut batch = Batch::new().put(PUSH, account.owner(), &registration.key(), json);
    let devices = account.extensions.get_or_default::<Devices>();
    {
        let mut devices = devices.get(server.storage(), account.owner()).await?;
        let device = Device::new(registration, request.session.as_ref());
        for gone in device::add(&mut devices, device) {
            batch = batch.delete(PUSH, account.owner(), &gone.key());
        }
    }
    if let Some(push) = Push::of(server) {
        push.note(account.owner());
    }
    server.storage().commit(batch).await?;
    Ok(None)
}

async fn disable(request: Request) -> Reply {
    let service = device::service(&request.payload)?;
    let node = request.payload.attr("node");
    let account = request.account()?;
    let storage = request.server.storage();
    remove(storage, account, |registration| {
        registration.service == service && node.is_none_or(|node| registration.node == node)
    })
    .await?;
    Ok(None)
}

/// Forgets registrations.
async fn remove(
    storage: &Storage,
    account: &Account,
    which: impl Fn(&Registration) -> bool,
) -> storage::Result<()> {
    let devices = account.extensions.get_or_default::<Devices>();
    let mut batch = Batch::new();
    devices
        .get(storage, account.owner())
        .await?
        .retain(|device| {
            let goes = which(&device.registration);
            if goes {
                let key = device.registration.key();
                batch = std::mem::take(&mut batch).delete(PUSH, account.owner(), &key);
            }
            !goes
        });
    if !batch.is_empty() {
        storage.commit(batch).await?;
    }
    Ok(())
}

/// Sees what comes for an account, and where its person is at work.
struct Watch;

impl OnMessage for Watch {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        watch(passage);
        Box::pin(std::future::ready(Ok(Verdict::Continue)))
    }
}

fn watch(passage: &Passage<'_>) {
    let account = passage.account;
    let Some(push) = Push::of(passage.server).filter(|push| push.knows(account.owner())) else {
        return;
    };
    let (message, account) = (&*passage.stanza, Arc::clone(account));
    if passage.side == Side::Outgoing {
        let is_read =
            message.has("displayed", ns::CHAT_MARKERS) || message.has("body", ns::JABBER_CLIENT);
        if let (true, Some(to)) = (is_read, message.to()) {
            let conversation = to.to_bare();
            push.happened(Event::Read {
                account,
                conversation,
            });
        }
        return;
    }
    let is_kept = !passage.delivered.is_empty() || passage.stored || passage.archived.is_some();
    let is_own = message.from().to_bare() == *account.jid();
    if let (true, Ok(summary)) = (is_kept && !is_own, rules::summary(message.element())) {
        let again = passage.again;
        push.happened(Event::Arrived {
            account,
            summary,
            again,
        });
    }
}

/// A message of a room that was put into the mailbox of a session which may be away.
pub(in crate::server) fn posted(server: &Server, session: &Arc<Session>, mail: &Mail) {
    if !session.is_away() {
        return;
    }
    let message = mail.shared();
    // What was said before is not new.
    if message.name() == "message" && !message.has_child("delay", ns::DELAY) {
        missed(server, session, message);
    }
}

/// A session has lost its connection, and has not acknowledged these.
pub(in crate::server) fn parked(
    server: &Server,
    session: &Arc<Session>,
    mails: &mut dyn Iterator<Item = &Mail>,
) {
    for mail in mails {
        missed(server, session, mail.shared());
    }
}

fn missed(server: &Server, session: &Arc<Session>, message: &Element) {
    let owner = session.account().owner();
    if let Some(push) = Push::of(server).filter(|push| push.knows(owner))
        && message.name() == "message"
        && let Ok(summary) = rules::summary(message)
    {
        let session = Arc::clone(session);
        push.happened(Event::Missed { session, summary });
    }
}

/// Something was said in a room, to whose members it matters also while they are not there.
pub(in crate::server) fn said(
    server: &Server,
    members: &mut dyn Iterator<Item = &BareJid>,
    author: &BareJid,
    message: &Element,
) {
    let (Some(push), Ok(summary)) = (Push::of(server), rules::summary(message)) else {
        return;
    };
    let has_device = |member: &&BareJid| {
        let node = member.node().map_or("", |node| node.as_str());
        server.is_local(member.domain().as_str()) && *member != author && push.knows(node)
    };
    let members: Vec<BareJid> = members.filter(has_device).cloned().collect();
    if !members.is_empty() {
        push.happened(Event::Said { members, summary });
    }
}

/// Whose answer counts: an app server's address is an entity of its own, so that nobody else speaks for it.
fn is_from(service: &Jid, from: &Jid) -> bool {
    service == from
}
