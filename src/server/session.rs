//! A bound resource: what its stream reads goes to the router, what others send it waits in its mailbox.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use jid::{FullJid, Jid};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendTimeoutError, TrySendError};
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::extensions::Extensions;
use super::mail::{Budget, Mail};
use super::stanza::Stanza;
use super::{StanzaError, StreamError};
use crate::storage::Answer;

/// How many stanzas may wait for a client before those who write to it wait too. Also what a parked session keeps.
pub const MAILBOX: usize = 1_024;

/// How long a sender waits for a client that reads nothing, before the client is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a session comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// `None`: inside this process.
    pub address: Option<IpAddr>,
    /// `TLSv1.3` or the like, `websocket`, `local`: for lists.
    pub via: String,
}

impl Origin {
    /// How a bot that this server itself serves comes in.
    pub const OWN_BOT: &str = "local";

    /// Nobody else has no address and came that way.
    pub fn is_own_bot(&self) -> bool {
        self.address.is_none() && self.via == Self::OWN_BOT
    }
}

/// What the session told with its last presence (RFC 6121, 4).
#[derive(Clone, Debug)]
pub struct Available {
    /// Without a `to`, from the full JID.
    pub presence: Arc<Stanza>,
    pub priority: i8,
}

pub struct Session {
    jid: FullJid,
    account: Arc<Account>,
    mailbox: mpsc::Sender<Mail>,
    /// Of the mailbox, and of what the client has not acknowledged.
    budget: Budget,
    available: RwLock<Option<Available>>,
    /// Whom a directed presence was sent, and nobody since told otherwise (RFC 6121, 4.6).
    directed: Mutex<BTreeSet<Jid>>,
    /// Has asked for the roster, and is told of its changes (RFC 6121, 2.1.6).
    interested: AtomicBool,
    /// Nobody reads the mailbox: the stream is lost and may be resumed (XEP-0198, 5).
    parked: AtomicBool,
    /// Nobody looks at it, as its client says (XEP-0352).
    inactive: AtomicBool,
    /// How often it has come back from either.
    returns: Arc<AtomicU32>,
    commits: Commits,
    end: CancellationToken,
    reason: OnceLock<StreamError>,
    pub origin: Origin,
    pub since: SystemTime,
    pub extensions: Extensions,
}

/// A write that must be durable before the stanza that caused it is acknowledged.
pub struct Pending {
    pub durable: Answer<()>,
    /// Answered with the store's error if it fails.
    pub stanza: Option<Stanza>,
}

impl Session {
    /// A session and what is sent to it. The router binds; nobody else makes one.
    pub(super) fn new(
        jid: FullJid,
        account: Arc<Account>,
        origin: Origin,
    ) -> (Arc<Self>, mpsc::Receiver<Mail>) {
        let (mailbox, receiver) = mpsc::channel(MAILBOX);
        let session = Self {
            jid,
            account,
            mailbox,
            budget: Budget::default(),
            available: RwLock::default(),
            directed: Mutex::default(),
            interested: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            inactive: AtomicBool::new(false),
            returns: Arc::default(),
            commits: Commits::default(),
            end: CancellationToken::new(),
            reason: OnceLock::new(),
            origin,
            since: SystemTime::now(),
            extensions: Extensions::default(),
        };
        (Arc::new(session), receiver)
    }

    pub fn jid(&self) -> &FullJid {
        &self.jid
    }

    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Puts a stanza into the mailbox. A full one is waited for, up to [`PATIENCE`]; a client that then still reads
    /// nothing is ended. `Err`: it was not delivered, and the session is gone or as good as gone.
    pub async fn send(&self, mail: Mail) -> Result<(), Mail> {
        let mail = match self.budget.try_weigh(mail) {
            Err(mail) if !self.parked.load(Ordering::Acquire) => {
                let weighed = self.budget.weigh(mail, PATIENCE).await;
                weighed.inspect_err(|_| self.give_up())?
            }
            weighed => weighed?,
        };
        match self.mailbox.try_send(mail) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(mail)) => Err(mail),
            Err(TrySendError::Full(mail)) if self.parked.load(Ordering::Acquire) => Err(mail),
            Err(TrySendError::Full(mail)) => {
                let sent = self.mailbox.send_timeout(mail, PATIENCE).await;
                sent.map_err(|error| match error {
                    SendTimeoutError::Closed(mail) => mail,
                    SendTimeoutError::Timeout(mail) => {
                        self.give_up();
                        mail
                    }
                })
            }
        }
    }

    fn give_up(&self) {
        self.end(
            StreamError::new("resource-constraint")
                .text("You read more slowly than others write to you"),
        );
    }

    /// As [`Self::send`], for what is not waited for: pushes, presence, copies to many. `false`: not delivered.
    pub fn try_send(&self, mail: Mail) -> bool {
        let weighed = self.budget.try_weigh(mail).ok();
        weighed.is_some_and(|mail| self.mailbox.try_send(mail).is_ok())
    }

    /// How many stanzas the mailbox still has room for, of those that are not large.
    pub fn room(&self) -> usize {
        self.mailbox.capacity().min(self.budget.room(MAILBOX))
    }

    /// Whether there is hardly any room but that of what the client has to acknowledge.
    pub(super) fn is_tight(&self) -> bool {
        self.budget.room(MAILBOX) == 0
    }

    /// The last presence, where the session is available.
    pub fn available(&self) -> Option<Available> {
        self.read().clone()
    }

    pub fn is_available(&self) -> bool {
        self.read().is_some()
    }

    /// `None`: not available.
    pub fn priority(&self) -> Option<i8> {
        self.read().as_ref().map(|available| available.priority)
    }

    /// Answers what it was before.
    pub(super) fn set_available(&self, available: Option<Available>) -> Option<Available> {
        let mut current = self
            .available
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, available)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Option<Available>> {
        self.available
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom directed presences have gone to.
    pub(super) fn directed(&self) -> std::sync::MutexGuard<'_, BTreeSet<Jid>> {
        self.directed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_interested(&self) -> bool {
        self.interested.load(Ordering::Relaxed)
    }

    pub(super) fn set_interested(&self) {
        self.interested.store(true, Ordering::Relaxed);
    }

    /// Said by the stream when its connection is lost and the session waits to be resumed, and when it is.
    pub fn set_parked(&self, parked: bool) {
        self.goes(&self.parked, parked);
    }

    /// Said by the stream when its client says so (XEP-0352).
    pub fn set_inactive(&self, inactive: bool) {
        self.goes(&self.inactive, inactive);
    }

    fn goes(&self, away: &AtomicBool, is: bool) {
        if away.swap(is, Ordering::AcqRel) && !is {
            self.returns.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether its person may not see what it is sent.
    pub fn is_away(&self) -> bool {
        self.parked.load(Ordering::Acquire) || self.inactive.load(Ordering::Acquire)
    }

    /// How often it has come back from being away, to be read when it is gone too.
    pub fn returns(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.returns)
    }

    /// The stanza that is being handled is acknowledged only when this is durable; if it fails, `stanza` is answered
    /// with the store's error.
    pub fn wait_for(&self, durable: Answer<()>, stanza: Option<Stanza>) {
        self.commits.wait_for(durable, stanza);
    }

    /// What has to be awaited with [`settle`] before everything read so far may be acknowledged (XEP-0198, 4).
    pub fn take_pending(&self) -> Vec<Pending> {
        self.commits.take()
    }

    /// Asks the stream to end with this error. The first reason stands.
    pub fn end(&self, reason: StreamError) {
        self.reason.get_or_init(|| reason);
        self.end.cancel();
    }

    /// Completes when somebody has asked for the end: the stream closes with the error.
    pub async fn ended(&self) -> StreamError {
        self.end.cancelled().await;
        self.reason
            .get()
            .cloned()
            .unwrap_or(StreamError::new("reset"))
    }

    pub fn is_ended(&self) -> bool {
        self.end.is_cancelled()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.jid)
    }
}

/// What has to be durable before everything that a stream has read so far may be acknowledged (XEP-0198, 4).
#[derive(Default)]
pub struct Commits(Mutex<Vec<Pending>>);

impl Commits {
    fn wait_for(&self, durable: Answer<()>, stanza: Option<Stanza>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.push(Pending { durable, stanza });
    }

    /// How much waits.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// To be awaited with [`settle`].
    pub fn take(&self) -> Vec<Pending> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// By whose stream a stanza came in, and who waits for what becomes of it.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    /// It is of this server itself, or on its way once more.
    Nobody,
    Client(&'a Arc<Session>),
    /// Another server.
    Peer(&'a Commits),
}

impl std::fmt::Debug for Commits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Commits")
    }
}

impl<'a> Sender<'a> {
    pub fn session(self) -> Option<&'a Arc<Session>> {
        match self {
            Self::Client(session) => Some(session),
            Self::Nobody | Self::Peer(_) => None,
        }
    }

    /// As [`Session::wait_for`].
    pub fn wait_for(self, durable: Answer<()>, stanza: Option<Stanza>) {
        match self {
            Self::Client(session) => session.wait_for(durable, stanza),
            Self::Peer(commits) => commits.wait_for(durable, stanza),
            Self::Nobody => drop(durable),
        }
    }
}

impl<'a> From<Option<&'a Arc<Session>>> for Sender<'a> {
    fn from(session: Option<&'a Arc<Session>>) -> Self {
        session.map_or(Self::Nobody, Self::Client)
    }
}

/// Waits until everything is durable; answers the refusals of what is not.
pub async fn settle(pending: Vec<Pending>) -> Vec<Stanza> {
    let mut refusals = Vec::new();
    for Pending { durable, stanza } in pending {
        let Err(error) = durable.await else {
            continue;
        };
        let error = StanzaError::from(error);
        refusals.extend(stanza.and_then(|stanza| stanza.error(&error)));
    }
    refusals
}
