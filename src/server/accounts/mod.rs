//! Who may log in: the accounts of the domain. Credentials are SCRAM keys, never passwords; a name that was deleted is
//! never given again, so that nobody inherits its mail.
//!
//! All accounts are in memory, some 400 bytes each: the router asks for every message to somebody who is offline, and
//! strangers ask for names that do not exist. Writes go to the store first. One process owns the store.

mod credentials;
mod throttle;
mod tokens;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jid::{BareJid, DomainPart, DomainRef, NodePart, NodeRef};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tracing::{error, info, warn};

pub use self::credentials::{Credentials, ITERATIONS};
use self::credentials::{Record, parse};
pub use self::throttle::Throttle;
pub use self::tokens::{Attempt, Refusal, Token, Verified};
use crate::runtime::Stop;
use crate::storage::{self, Batch, KeyValue, Storage};

/// Owner: the domain; key: the name.
const ACCOUNTS: KeyValue = KeyValue("accounts");
const LAST_LOGINS: KeyValue = KeyValue("account_logins");
const SECRETS: KeyValue = KeyValue("server_secrets");

/// XMPP allows 1,023 bytes (RFC 7622, 3.3.1); nobody can tell such names apart.
const LONGEST_NAME: usize = 128;
const LONGEST_PASSWORD: usize = 1024;

/// How often last logins are written. A crash forgets at most so much of them.
const NOTE_EVERY: Duration = Duration::from_mins(1);

/// Why an account could not be made or changed: a sentence for whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} exists already; choose another name, or change its password")]
    Exists(BareJid),
    #[error("{0} has been deleted, and its name is not given again; choose another")]
    Deleted(BareJid),
    #[error("There is no account {0}; `moltis users` lists those there are")]
    Unknown(BareJid),
    #[error(
        "{0:?} cannot be the name of an account; choose up to {LONGEST_NAME} letters and digits"
    )]
    Name(String),
    #[error("The password {0}")]
    Password(&'static str),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("{0}")]
    System(String),
}

/// What happened to an account, for those who must act: end its sessions, for instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Password,
    Disabled,
    Enabled,
    Deleted,
}

/// What deletes what a feature keeps for an account; committed together with the account's end.
pub type Forget = Arc<dyn Fn(&BareJid) -> Batch + Send + Sync>;
/// Is told what has happened.
pub type Observer = Arc<dyn Fn(&BareJid, &Change) + Send + Sync>;

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub name: String,
    /// Seconds since 1970, as all times here.
    pub created: i64,
    pub last_login: Option<i64>,
    pub disabled: Option<i64>,
}

/// What a login compares with. That nobody has this name shows only at its end.
#[derive(Clone, Debug)]
pub struct Claim {
    pub credentials: Arc<Credentials>,
    /// The account, where there is one.
    pub account: Option<NodePart>,
}

#[derive(Debug)]
struct Account {
    created: i64,
    disabled: Option<i64>,
    credentials: Arc<Credentials>,
    /// 0: never.
    last_login: Arc<AtomicI64>,
}

/// The accounts of a domain. A handle: clones share them.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    storage: Storage,
    domain: DomainPart,
    /// Makes the salts of names that nobody has.
    secret: [u8; 32],
    known: RwLock<BTreeMap<NodePart, Account>>,
    /// Names whose last login is not stored yet.
    logged_in: Mutex<Vec<NodePart>>,
    /// What reads and then writes does so alone.
    writing: tokio::sync::Mutex<()>,
    /// Passwords are computed with by so many threads at most.
    computing: Semaphore,
    forget: Mutex<Vec<Forget>>,
    observers: Mutex<Vec<Observer>>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Accounts of {}", self.0.domain)
    }
}

impl Accounts {
    /// Reads the accounts of the domain.
    pub async fn open(storage: Storage, domain: &DomainRef) -> Result<Self, Error> {
        let secret = secret(&storage, domain).await?;
        let mut known = BTreeMap::new();
        for (name, value) in storage.list(ACCOUNTS, domain, "").await? {
            if let Some((name, account)) = read(&name, &value) {
                known.insert(name, account);
            }
        }
        for (name, value) in storage.list(LAST_LOGINS, domain, "").await? {
            let at = std::str::from_utf8(&value)
                .ok()
                .and_then(|at| at.parse().ok());
            if let (Some(at), Some(account)) = (at, known.get(name.as_str())) {
                account.last_login.store(at, Ordering::Relaxed);
            }
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self(Arc::new(Inner {
            storage,
            domain: domain.to_owned(),
            secret,
            known: RwLock::new(known),
            logged_in: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            computing: Semaphore::new(threads),
            forget: Mutex::default(),
            observers: Mutex::default(),
        })))
    }

    pub fn domain(&self) -> &DomainRef {
        &self.0.domain
    }

    pub fn jid(&self, name: &NodeRef) -> BareJid {
        name.with_domain(&self.0.domain)
    }

    /// A feature says what it keeps for an account that is deleted.
    pub fn on_delete(&self, forget: Forget) {
        lock(&self.0.forget).push(forget);
    }

    /// Somebody wants to know what happens to accounts.
    pub fn observe(&self, observer: Observer) {
        lock(&self.0.observers).push(observer);
    }

    /// Whether there is an account of this name, disabled or not.
    pub fn exists(&self, name: &NodeRef) -> bool {
        self.with(name, |_| ()).is_some()
    }

    pub fn is_disabled(&self, name: &NodeRef) -> bool {
        self.with(name, |account| account.disabled.is_some()) == Some(true)
    }

    pub fn len(&self) -> usize {
        read_lock(&self.0.known).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn keys(&self, name: &NodeRef) -> Option<Arc<Credentials>> {
        self.with(name, |account| Arc::clone(&account.credentials))
    }

    /// What a login under this name compares with. Takes the same time whether there is such an account or not.
    pub fn claim(&self, name: &str) -> Claim {
        let prepared = NodePart::new(name).ok();
        let unknown = prepared.as_ref().map_or(name, |name| name.as_str());
        let decoy = Credentials::decoy(&self.0.secret, unknown);
        let found = prepared.and_then(|name| {
            let keys = self.keys(&name)?;
            Some((name.into_owned(), keys))
        });
        match found {
            Some((name, credentials)) => Claim {
                credentials,
                account: Some(name),
            },
            None => Claim {
                credentials: Arc::new(decoy),
                account: None,
            },
        }
    }

    /// All accounts, by name.
    pub fn list(&self) -> Vec<Summary> {
        let summary = |(name, account): (&NodePart, &Account)| {
            let last_login = account.last_login.load(Ordering::Relaxed);
            Summary {
                name: name.as_str().to_owned(),
                created: account.created,
                last_login: (last_login > 0).then_some(last_login),
                disabled: account.disabled,
            }
        };
        read_lock(&self.0.known).iter().map(summary).collect()
    }

    /// Makes an account.
    pub async fn create(&self, name: &NodeRef, password: SecretString) -> Result<(), Error> {
        if name.len() > LONGEST_NAME {
            return Err(Error::Name(name.as_str().chars().take(40).collect()));
        }
        if self.exists(name) {
            return Err(Error::Exists(self.jid(name)));
        }
        let credentials = self.derive(password).await?;
        let created = now();
        let record = Record::new(created, None, &credentials).to_bytes();
        let batch = Batch::new().put_new(ACCOUNTS, &self.0.domain, name, record);
        match self.0.storage.commit(batch).await {
            Ok(_) => {}
            Err(storage::Error::Taken { .. }) if self.exists(name) => {
                return Err(Error::Exists(self.jid(name)));
            }
            Err(storage::Error::Taken { .. }) => return Err(Error::Deleted(self.jid(name))),
            Err(err) => return Err(err.into()),
        }
        let account = Account {
            created,
            disabled: None,
            credentials: Arc::new(credentials),
            last_login: Arc::default(),
        };
        write_lock(&self.0.known).insert(name.to_owned(), account);
        self.tell(name, &Change::Created);
        Ok(())
    }

    /// Changes the password; the tokens of all devices end with the old one.
    pub async fn set_password(&self, name: &NodeRef, password: SecretString) -> Result<(), Error> {
        if !self.exists(name) {
            return Err(Error::Unknown(self.jid(name)));
        }
        let credentials = Arc::new(self.derive(password).await?);
        let new = Arc::clone(&credentials);
        let batch = self.without_tokens(name);
        self.change(name, batch, move |account| account.credentials = new)
            .await?;
        self.tell(name, &Change::Password);
        Ok(())
    }

    /// Nobody can log in to it; everything is kept.
    pub async fn disable(&self, name: &NodeRef) -> Result<(), Error> {
        let at = now();
        let batch = self.without_tokens(name);
        self.change(name, batch, |account| account.disabled = Some(at))
            .await?;
        self.tell(name, &Change::Disabled);
        Ok(())
    }

    pub async fn enable(&self, name: &NodeRef) -> Result<(), Error> {
        self.change(name, Batch::new(), |account| account.disabled = None)
            .await?;
        self.tell(name, &Change::Enabled);
        Ok(())
    }

    /// Ends the account and what the features keep for it; its name is not given again.
    pub async fn delete(&self, name: &NodeRef) -> Result<(), Error> {
        let jid = self.jid(name);
        let writing = self.0.writing.lock().await;
        if !self.exists(name) {
            return Err(Error::Unknown(jid));
        }
        let tombstone = Record::Deleted { at: now() }.to_bytes();
        let batch = self
            .without_tokens(name)
            .delete(LAST_LOGINS, &self.0.domain, name)
            .put(ACCOUNTS, &self.0.domain, name, tombstone);
        let forget = lock(&self.0.forget).clone();
        let batch = forget
            .iter()
            .fold(batch, |batch, forget| batch.and(forget(&jid)));
        self.0.storage.commit(batch).await?;
        write_lock(&self.0.known).remove(name);
        drop(writing);
        info!(%jid, "The account has been deleted");
        self.tell(name, &Change::Deleted);
        Ok(())
    }

    /// Notes a login, which is written within a minute.
    pub fn logged_in(&self, name: &NodeRef) {
        let at = now();
        let before = self.with(name, |account| {
            account.last_login.swap(at, Ordering::Relaxed)
        });
        if before.is_some_and(|before| before != at) {
            lock(&self.0.logged_in).push(name.to_owned());
        }
    }

    /// Writes the last logins, until `stop` and a last time then.
    pub async fn keep(self, stop: Stop) -> anyhow::Result<()> {
        loop {
            let stopped = tokio::time::timeout(NOTE_EVERY, stop.cancelled())
                .await
                .is_ok();
            self.write_logins().await;
            if stopped {
                return Ok(());
            }
        }
    }

    async fn write_logins(&self) {
        // A deletion in between would leave the login behind.
        let _writing = self.0.writing.lock().await;
        let mut names = std::mem::take(&mut *lock(&self.0.logged_in));
        names.sort_unstable();
        names.dedup();
        let batch = names.iter().fold(Batch::new(), |batch, name| {
            let at = self.with(name, |account| account.last_login.load(Ordering::Relaxed));
            match at {
                Some(at) => batch.put(
                    LAST_LOGINS,
                    &self.0.domain,
                    name,
                    at.to_string().into_bytes(),
                ),
                None => batch,
            }
        });
        if batch.is_empty() {
            return;
        }
        if let Err(err) = self.0.storage.note(batch).await {
            warn!("The last logins are not written: {err}");
        }
    }

    /// Whether the password is that of the claim; computed on a thread, of which there are few.
    pub async fn check(&self, claim: &Claim, password: SecretString) -> Result<bool, Error> {
        let credentials = Arc::clone(&claim.credentials);
        self.compute(move || credentials.is(password.expose_secret()))
            .await
    }

    async fn derive(&self, password: SecretString) -> Result<Credentials, Error> {
        acceptable(password.expose_secret())?;
        self.compute(move || Credentials::new(&password))
            .await?
            .map_err(|err| Error::System(format!("The system gives no random numbers: {err}")))
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        // The semaphore is never closed.
        let _permit = self.0.computing.acquire().await.ok();
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|err| Error::System(format!("A password's computation broke off: {err}")))
    }

    async fn change(
        &self,
        name: &NodeRef,
        batch: Batch,
        change: impl FnOnce(&mut Account),
    ) -> Result<(), Error> {
        let _writing = self.0.writing.lock().await;
        let mut account = self
            .with(name, |account| Account {
                created: account.created,
                disabled: account.disabled,
                credentials: Arc::clone(&account.credentials),
                last_login: Arc::clone(&account.last_login),
            })
            .ok_or_else(|| Error::Unknown(self.jid(name)))?;
        change(&mut account);
        let record = Record::new(account.created, account.disabled, &account.credentials);
        let batch = batch.put(ACCOUNTS, &self.0.domain, name, record.to_bytes());
        self.0.storage.commit(batch).await?;
        write_lock(&self.0.known).insert(name.to_owned(), account);
        Ok(())
    }

    fn with<T>(&self, name: &NodeRef, look: impl FnOnce(&Account) -> T) -> Option<T> {
        read_lock(&self.0.known).get(name).map(look)
    }

    fn tell(&self, name: &NodeRef, change: &Change) {
        let jid = self.jid(name);
        for observer in lock(&self.0.observers).clone() {
            observer(&jid, change);
        }
    }
}

/// A name as a person gives it, prepared.
pub fn name(text: &str) -> Result<NodePart, Error> {
    NodePart::new(text)
        .map(Cow::into_owned)
        .map_err(|_invalid| Error::Name(text.chars().take(40).collect()))
}

fn acceptable(password: &str) -> Result<(), Error> {
    if password.is_empty() {
        return Err(Error::Password("is empty; choose one"));
    }
    if password.len() > LONGEST_PASSWORD {
        return Err(Error::Password(
            "is longer than 1,024 bytes; choose a shorter one",
        ));
    }
    // RFC 4013, 2.3: clients refuse to send them.
    if password.chars().any(char::is_control) {
        return Err(Error::Password(
            "has control characters; choose one without",
        ));
    }
    Ok(())
}

/// Reads a record; one that is damaged is named in the log and left as it is.
fn read(name: &str, value: &[u8]) -> Option<(NodePart, Account)> {
    let damaged = || {
        error!(
            name,
            "The account is damaged and cannot log in; restore a backup"
        );
    };
    match serde_json::from_slice(value) {
        Ok(Record::Deleted { .. }) => None,
        Ok(Record::Account {
            created,
            disabled,
            salt,
            iterations,
            sha1,
            sha256,
        }) => {
            let read = parse(&salt, iterations, &sha1, &sha256).and_then(|credentials| {
                Some((NodePart::new(name).ok()?.into_owned(), credentials))
            });
            let Some((name, credentials)) = read else {
                damaged();
                return None;
            };
            let account = Account {
                created,
                disabled,
                credentials: Arc::new(credentials),
                last_login: Arc::default(),
            };
            Some((name, account))
        }
        Err(_) => {
            damaged();
            None
        }
    }
}

/// The server's own secret, made at the first start.
async fn secret(storage: &Storage, domain: &DomainRef) -> Result<[u8; 32], Error> {
    const NAME: &str = "sasl";
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|err| Error::System(format!("The system gives no random numbers: {err}")))?;
    let new = Batch::new().put_new(SECRETS, domain, NAME, secret.to_vec());
    match storage.commit(new).await {
        Ok(_) => return Ok(secret),
        Err(storage::Error::Taken { .. }) => {}
        Err(err) => return Err(err.into()),
    }
    let kept = storage.get(SECRETS, domain, NAME).await?;
    kept.and_then(|kept| <[u8; 32]>::try_from(kept).ok())
        .ok_or_else(|| Error::System("The server's secret is damaged; restore a backup".to_owned()))
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_lock<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write_lock<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
