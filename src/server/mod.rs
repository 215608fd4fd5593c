//! The embedded server: a domain of one's own.
//!
//! `listener → stream (TLS, SASL, bind, stream management) → router → feature/<xep>.rs`, with `accounts` (who may log in),
//! `muc` (rooms) and `pubsub` (nodes, for PEP too) beside them.
//!
//! A stream binds a [`Session`] and hands over what it reads with [`Server::receive`], which stamps the sender and
//! routes; what is for the client waits in the session's mailbox. Nothing here owns a socket.

pub mod abuse;
pub mod account;
pub mod accounts;
pub mod archive;
pub mod bytestreams;
pub mod certificate;
pub mod component;
mod desk;
mod error;
pub mod extensions;
pub mod feature;
pub mod groups;
pub mod invitations;
mod iq;
pub mod listener;
pub mod mail;
mod message;
pub mod muc;
pub mod order;
pub mod passage;
mod presence;
pub mod pubsub;
mod registration;
mod removal;
pub mod roster;
pub mod router;
pub mod s2s;
pub mod sasl;
pub mod session;
pub mod stanza;
pub mod stream;
pub mod subscription;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod upload;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use anyhow::Context;
use futures::future::BoxFuture;
use jid::{BareJid, FullJid, Jid, NodePart};
use minidom::Element;
use tokio::sync::mpsc;
use tracing::debug;

use self::abuse::{Direction, Refusal};
use self::account::Account;
use self::accounts::{Accounts, Change};
use self::invitations::Invitations;
use self::mail::Mail;
use self::router::{Happening, Router};
use self::session::{Commits, Origin, Sender, Session};
use self::stanza::{Kind, Refusable, Stanza, presence};
use crate::storage::Storage;

pub use error::{Condition, ErrorType, StanzaError, StreamError};

/// What the server is told; replaced whole by a reload.
pub type Settings = crate::config::XmppServer;

/// A service on a domain of its own beside the accounts: rooms, pubsub, components, other servers.
pub trait Host: Send + Sync {
    /// A stanza for this domain, its sender known. Every IQ request must be answered.
    fn handle<'a>(
        &'a self,
        server: &'a Server,
        sender: Sender<'a>,
        stanza: Stanza,
    ) -> BoxFuture<'a, ()>;

    /// Listed by disco#items of the domain: the name shown.
    fn name(&self) -> &str;

    /// An account was deleted; its name is not given again.
    fn account_gone<'a>(&'a self, _server: &'a Server, _account: &'a BareJid) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A handle: clones share the server.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    domain: String,
    settings: RwLock<Arc<Settings>>,
    storage: Storage,
    accounts: Accounts,
    invitations: Invitations,
    router: OnceLock<Router>,
    /// Accounts that have a session, and some that had one lately.
    memory: RwLock<HashMap<NodePart, Arc<Account>>>,
    hosts: OnceLock<Vec<(String, Arc<dyn Host>)>>,
    federation: OnceLock<s2s::Federation>,
    closing: Arc<AtomicBool>,
    extensions: extensions::Extensions,
    abuse: abuse::Abuse,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.0.domain)
    }
}

/// How many accounts without a session stay in memory.
const REMEMBERED: usize = 10_000;

impl Server {
    /// Builds the server; [`stream`] and the listeners let people in.
    pub fn new(
        settings: Arc<Settings>,
        storage: Storage,
        accounts: Accounts,
    ) -> anyhow::Result<Self> {
        let domain = settings.domain.clone();
        let server = Self(Arc::new(Inner {
            settings: RwLock::new(settings),
            invitations: Invitations::new(storage.clone(), &domain),
            domain,
            storage,
            accounts,
            router: OnceLock::new(),
            memory: RwLock::default(),
            hosts: OnceLock::new(),
            federation: OnceLock::new(),
            closing: Arc::default(),
            extensions: extensions::Extensions::default(),
            abuse: abuse::Abuse::default(),
        }));
        let mut router = Router::default();
        roster::register(&mut router).context("Failed to set up rosters")?;
        feature::register(&mut router, &server)?;
        router.seal();
        server.0.router.set(router).ok(); // It is set once, here.
        server.watch_accounts();
        Ok(server)
    }

    /// The services on domains of their own. Once, before anybody is let in.
    pub fn set_hosts(&self, hosts: Vec<(String, Arc<dyn Host>)>) {
        self.0.hosts.set(hosts).ok(); // Once.
    }

    pub fn hosts(&self) -> &[(String, Arc<dyn Host>)] {
        self.0.hosts.get().map_or(&[], Vec::as_slice)
    }

    /// Says that streams are being ended, some perhaps without having told what became of their mail.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
    }

    /// Set by [`Self::close`].
    pub(super) fn closing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.closing)
    }

    pub fn domain(&self) -> &str {
        &self.0.domain
    }

    pub fn settings(&self) -> Arc<Settings> {
        let settings = self
            .0
            .settings
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&settings)
    }

    /// What applies at once after a reload.
    pub fn set_settings(&self, settings: Arc<Settings>) {
        *self
            .0
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// What features remember of the server as a whole.
    pub fn extensions(&self) -> &extensions::Extensions {
        &self.0.extensions
    }

    /// Who asks for too much, and what is counted.
    pub fn abuse(&self) -> &abuse::Abuse {
        &self.0.abuse
    }

    /// Who may log in.
    pub fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    /// Who may come to have an account.
    pub fn invitations(&self) -> &Invitations {
        &self.0.invitations
    }

    pub(super) fn router(&self) -> &Router {
        static NONE: std::sync::LazyLock<Router> = std::sync::LazyLock::new(Router::default);
        self.0.router.get().unwrap_or(&NONE)
    }

    /// Whether this domain's accounts are ours.
    pub fn is_local(&self, domain: &str) -> bool {
        domain == self.0.domain
    }

    /// Full bare JIDs of `admins`, and accounts here that were made one: a name alone is nobody (CVE-2020-8086).
    pub fn is_admin(&self, jid: &BareJid) -> bool {
        let is_made = |name| self.is_local(jid.domain().as_str()) && self.accounts().is_admin(name);
        self.settings().admins.contains(jid) || jid.node().is_some_and(is_made)
    }

    /// All admins, in order.
    pub fn admins(&self) -> Vec<BareJid> {
        let mut admins = self.settings().admins.clone();
        let made = self.accounts().list().into_iter();
        let made = made.filter(|account| account.admin);
        admins.extend(made.filter_map(|account| {
            BareJid::new(&format!("{}@{}", account.name, self.domain())).ok()
        }));
        admins.sort_unstable();
        admins.dedup();
        admins
    }

    /// Whether somebody has an account here who is not one of the configured bots.
    pub fn has_people(&self) -> bool {
        let settings = self.settings();
        let is_bot = |name: &str| {
            let mut bots = settings.bots.iter().filter_map(|bot| bot.node());
            bots.any(|bot| bot.as_str() == name)
        };
        let accounts = self.accounts().list();
        accounts.iter().any(|account| !is_bot(&account.name))
    }

    /// The account in memory, where it is there.
    pub fn account_in_memory(&self, jid: &BareJid) -> Option<Arc<Account>> {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory.get(jid.node()?.as_str()).cloned()
    }

    /// The session of an account here, where it is connected.
    pub fn session(&self, jid: &FullJid) -> Option<Arc<Session>> {
        if !self.is_local(jid.domain().as_str()) {
            return None;
        }
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory.get(jid.node()?.as_str())?.session(jid)
    }

    /// Whether a session has sent presence: the one with this full JID, or any of this bare one.
    pub fn is_available(&self, jid: &Jid) -> bool {
        match jid.try_as_full() {
            Ok(full) => self
                .session(full)
                .is_some_and(|session| session.is_available()),
            Err(bare) => self
                .account_in_memory(bare)
                .is_some_and(|account| !account.available().is_empty()),
        }
    }

    /// The account, if there is one of this name here.
    pub async fn account(&self, jid: &BareJid) -> Result<Option<Arc<Account>>, StanzaError> {
        if let Some(account) = self.account_in_memory(jid) {
            return Ok(Some(account));
        }
        let Some(node) = jid.node().filter(|_| self.is_local(jid.domain().as_str())) else {
            return Ok(None);
        };
        if !self.0.accounts.exists(node) {
            return Ok(None);
        }
        let mut memory = self
            .0
            .memory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= REMEMBERED {
            // Whoever is being used at this moment has another handle.
            memory.retain(|_, account| {
                Arc::strong_count(account) > 1 || !account.sessions().is_empty()
            });
        }
        let node = node.to_owned();
        let account = memory
            .entry(node)
            .or_insert_with(|| Arc::new(Account::new(jid.clone())));
        Ok(Some(Arc::clone(account)))
    }

    /// Ends the sessions of an account and forgets it: it was deleted or disabled.
    pub async fn evict(&self, jid: &BareJid, reason: &StreamError) {
        let account = jid.node().and_then(|node| {
            let mut memory = self
                .0
                .memory
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            memory.remove(node.as_str())
        });
        for session in account
            .iter()
            .flat_map(|account| account.sessions().to_vec())
        {
            session.end(reason.clone());
        }
    }

    /// What a change of an account means for its sessions.
    fn watch_accounts(&self) {
        // The accounts outlive nobody: a handle in their keeping would keep the server for ever.
        let inner = Arc::downgrade(&self.0);
        self.0.accounts.observe(Arc::new(move |jid, change| {
            let server = inner.upgrade().map(Self);
            Box::pin(async move {
                if let Some(server) = server {
                    server.account_changed(&jid, &change).await;
                }
            })
        }));
        self.0.accounts.on_delete(Arc::new(|jid| {
            let name = jid.node().map_or("", |name| name.as_str());
            let batch = feature::erase(name)
                .delete_owner(roster::ROSTER, name)
                .delete_owner(roster::ROSTER_VERSION, name);
            Box::pin(std::future::ready(Ok(batch)))
        }));
    }

    async fn account_changed(&self, jid: &BareJid, change: &Change) {
        // RFC 6120, 4.9.3.12: what the login was worth has gone.
        let refused = |text| StreamError::new("not-authorized").text(text);
        match change {
            Change::Enabled | Change::Promoted => {}
            Change::Created => {
                groups::changed(self, jid).await;
                feature::welcome::welcome(self, jid).await;
            }
            Change::Deleted => {
                self.evict(jid, &refused("The account was deleted")).await;
                groups::changed(self, jid).await;
                feature::gone(self, jid).await;
                for (_, host) in self.hosts() {
                    host.account_gone(self, jid).await;
                }
            }
            Change::Disabled => self.evict(jid, &refused("The account was disabled")).await,
            Change::Password { by } => {
                let account = self.account_in_memory(jid);
                for session in account
                    .iter()
                    .flat_map(|account| account.sessions().to_vec())
                {
                    if Some(session.jid()) != by.as_ref() {
                        session.end(StreamError::new("reset").text("The password was changed"));
                    }
                }
            }
        }
    }

    /// Every session of every account.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let memory = self.0.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory
            .values()
            .flat_map(|account| account.sessions().to_vec())
            .collect()
    }

    /// Binds a resource of an account that has logged in (RFC 6120, 7). A session of the same resource is ended with
    /// `conflict`. The stream reads the mailbox, and must call [`Self::unbind`] at the end, whatever happens.
    pub async fn bind(
        &self,
        jid: &BareJid,
        resource: Option<&str>,
        origin: Origin,
    ) -> Result<(Arc<Session>, mpsc::Receiver<Mail>), StanzaError> {
        let full = full_jid(jid, resource)?;
        let account = self
            .account(jid)
            .await?
            .ok_or_else(StanzaError::not_authorized)?;
        let most = self.settings().limits.sessions_per_user;
        let sessions = account.sessions();
        let others = sessions
            .iter()
            .filter(|session| *session.jid() != full)
            .count();
        if others >= most {
            self.abuse().refused(Refusal::Sessions, jid);
            return Err(StanzaError::resource_constraint()
                .text("This account has as many sessions as it may have"));
        }
        let (session, mailbox) = Session::new(full, Arc::clone(&account), origin);
        for replaced in account.add(&session) {
            replaced
                .end(StreamError::new("conflict").text("Another session has taken this resource"));
            self.departed(&replaced).await;
        }
        self.happened(&session, &Happening::Bound).await;
        Ok((session, mailbox))
    }

    /// Ends a session: it is told to its contacts, and `left`, with what is still in the mailbox, goes to the account's
    /// other sessions or is kept. Call it after the last read of the mailbox.
    pub async fn unbind(
        &self,
        session: &Arc<Session>,
        mut mailbox: mpsc::Receiver<Mail>,
        mut left: Vec<Mail>,
    ) {
        session.account().remove(session);
        mailbox.close();
        while let Some(mail) = mailbox.recv().await {
            left.push(mail);
        }
        self.departed(session).await;
        self.undelivered(session, left).await;
    }

    async fn departed(&self, session: &Arc<Session>) {
        let from = Jid::from(session.jid().clone());
        if let Some(stanza) = Stanza::new(from, None, presence("unavailable")) {
            self.unavailable(session, stanza).await;
        }
        self.happened(session, &Happening::Ended).await;
    }

    async fn happened(&self, session: &Arc<Session>, happening: &Happening) {
        for feature in &self.router().sessions {
            feature.on_session(self, session, happening).await;
        }
    }

    /// What a client has sent on its stream: a stanza of any kind. `Err`: the stream ends with it.
    pub async fn receive(
        &self,
        session: &Arc<Session>,
        element: Element,
    ) -> Result<(), StreamError> {
        let Some(kind) = Kind::of(&element) else {
            return Err(StreamError::new("unsupported-stanza-type"));
        };
        let from = Jid::from(session.jid().clone());
        // RFC 6120, 8.1.2.1: nobody speaks for another.
        if let Some(claimed) = element.attr("from") {
            let claimed =
                Jid::new(claimed).map_err(|_malformed| StreamError::new("invalid-from"))?;
            if claimed != from && claimed != *session.account().jid() {
                return Err(StreamError::new("invalid-from"));
            }
        }
        let to = element
            .attr("to")
            .filter(|to| !to.is_empty())
            .map(Jid::new)
            .transpose();
        let (to, malformed) = match to {
            Ok(to) => (to, false),
            Err(_) => (None, true),
        };
        let Some(stanza) = Stanza::new(from, to, element) else {
            return Err(StreamError::new("unsupported-stanza-type"));
        };
        self.abuse().meters.stanza(Direction::In, kind);
        let refusable = stanza.refusable();
        let outcome = match kind {
            _ if malformed => Err(StanzaError::jid_malformed()),
            Kind::Message => self.message_from_client(session, stanza).await,
            Kind::Presence => self.presence_from_client(session, stanza).await,
            Kind::Iq => self.iq_from_client(session, stanza).await,
        };
        if let (Err(error), Some(refusable)) = (outcome, refusable)
            && let Some(refusal) = refusable.error(&error)
        {
            // It has ended: nobody is left to be told.
            session.send(Mail::from(refusal)).await.ok();
        }
        Ok(())
    }

    /// A stanza whose sender is known to where it is addressed. `sender`: the session it comes from, where it is one of
    /// ours that should be told of a failing disk.
    pub fn route<'a>(
        &'a self,
        stanza: Stanza,
        sender: Option<&'a Arc<Session>>,
    ) -> BoxFuture<'a, ()> {
        self.route_for(stanza, sender.into())
    }

    /// A stanza of another server, which may send in that name. `commits`: what its stream waits for before it
    /// acknowledges.
    pub(super) fn route_from_peer<'a>(
        &'a self,
        stanza: Stanza,
        commits: &'a Commits,
    ) -> BoxFuture<'a, ()> {
        self.route_for(stanza, Sender::Peer(commits))
    }

    fn route_for<'a>(&'a self, stanza: Stanza, sender: Sender<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some(to) = stanza.to().cloned() else {
                return;
            };
            if self.is_local(to.domain().as_str()) {
                self.route_here(stanza, sender, &to).await;
                return;
            }
            let host = self
                .hosts()
                .iter()
                .find(|(name, _)| name == to.domain().as_str());
            if let Some((_, host)) = host {
                host.handle(self, sender, stanza).await;
                return;
            }
            if let Some(federation) = self.federation() {
                federation.send(self, stanza).await;
                return;
            }
            let error = StanzaError::remote_server_not_found()
                .text("This server does not talk to other servers");
            self.refuse(&stanza, &error).await;
        })
    }

    async fn route_here(&self, stanza: Stanza, sender: Sender<'_>, to: &Jid) {
        if to.node().is_none() {
            match stanza.kind() {
                Kind::Iq => self.iq_to_domain(sender.session(), stanza).await,
                Kind::Message => {
                    if !feature::block_lists::take(self, &stanza) {
                        let error = StanzaError::service_unavailable();
                        self.refuse(&stanza, &error).await;
                    }
                }
                Kind::Presence => {}
            }
            return;
        }
        let account = match self.account(&to.to_bare()).await {
            Ok(Some(account)) => account,
            Ok(None) => {
                self.nobody_there(&stanza).await;
                return;
            }
            Err(error) => {
                self.refuse(&stanza, &error).await;
                return;
            }
        };
        let refusable = stanza.refusable();
        let outcome = match stanza.kind() {
            Kind::Message => {
                self.message_to_account(&account, sender, stanza, false)
                    .await
            }
            Kind::Iq => {
                self.iq_to_account(&account, sender.session(), stanza, to)
                    .await
            }
            Kind::Presence => {
                self.presence_to_account(&account, stanza, to).await;
                Ok(())
            }
        };
        if let (Err(error), Some(refusable)) = (outcome, refusable) {
            self.answer_refused(refusable, &error).await;
        }
    }

    /// RFC 6121, 8.5.1.
    async fn nobody_there(&self, stanza: &Stanza) {
        match (stanza.kind(), stanza.type_()) {
            (Kind::Presence, "subscribe") => {
                if let (Some(to), from) = (stanza.to(), stanza.from())
                    && let Some(answer) = Stanza::new(
                        to.to_bare().into(),
                        Some(from.to_bare().into()),
                        presence("unsubscribed"),
                    )
                {
                    self.route(answer, None).await;
                }
            }
            (Kind::Presence, _) => {}
            _ => {
                self.refuse(stanza, &StanzaError::service_unavailable())
                    .await;
            }
        }
    }

    /// Sends the sender the error, unless the stanza is one that is not answered.
    pub async fn refuse(&self, stanza: &Stanza, error: &StanzaError) {
        if let Some(refusable) = stanza.refusable() {
            self.answer_refused(refusable, error).await;
        }
    }

    async fn answer_refused(&self, refusable: Refusable, error: &StanzaError) {
        let Some(answer) = refusable.error(error) else {
            return;
        };
        debug!(to = ?answer.to().map(Jid::as_str), condition = ?error.condition, "A stanza is refused");
        self.route(answer, None).await;
    }
}

/// The resource that was asked for, or one of ours.
fn full_jid(jid: &BareJid, resource: Option<&str>) -> Result<FullJid, StanzaError> {
    let resource = match resource {
        Some(resource) if !resource.is_empty() => resource.to_owned(),
        _ => random_id(),
    };
    jid.with_resource_str(&resource)
        .map_err(|_malformed| StanzaError::bad_request())
}

/// 128 bits of the operating system's randomness as letters and digits.
pub fn random_id() -> String {
    use base64::Engine;
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // The system has no randomness: what follows cannot be guessed by others all the same.
        bytes = rand::random();
    }
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
