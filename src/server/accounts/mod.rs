//! Who may log in: the accounts of the domain. Credentials are SCRAM keys, never passwords; a name that was deleted is
//! never given again, so that nobody inherits its mail.
//!
//! All accounts are in memory, some 400 bytes each: the router asks for every message to somebody who is offline, and
//! strangers ask for names that do not exist. Writes go to the store first. One process owns the store.

mod change;
mod credentials;
mod logins;
mod password;
mod tokens;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::future::BoxFuture;
use jid::{BareJid, DomainPart, DomainRef, FullJid, NodePart, NodeRef};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tracing::error;

pub use self::credentials::{Credentials, ITERATIONS};
use self::credentials::{Record, parse};
pub use self::tokens::{Attempt, Refusal, Token, Verified};
pub use super::abuse::{Throttle, subscriber};
use crate::storage::{self, Batch, KeyValue, Storage};

/// Owner: the domain; key: the name.
const ACCOUNTS: KeyValue = KeyValue("accounts");
const LAST_LOGINS: KeyValue = KeyValue("account_logins");
const SECRETS: KeyValue = KeyValue("server_secrets");

/// XMPP allows 1,023 bytes (RFC 7622, 3.3.1); nobody can tell such names apart.
const LONGEST_NAME: usize = 128;

/// Why an account could not be made or changed: a sentence for whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} exists already; choose another name, or change its password")]
    Exists(BareJid),
    #[error("{0} has been deleted, and its name is not given again; choose another")]
    Deleted(BareJid),
    #[error("There is no account {0}")]
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
    /// With the session that has done it, if it was one.
    Password {
        by: Option<FullJid>,
    },
    Disabled,
    Enabled,
    Deleted,
    /// The first invitation has made it admin, and operator of the bots.
    Promoted,
}

/// What deletes what a feature keeps for an account; committed together with the account's end.
pub type Forget = Arc<dyn Fn(BareJid) -> BoxFuture<'static, storage::Result<Batch>> + Send + Sync>;
/// Is told what has happened; whoever asked for the change waits for it.
pub type Observer = Arc<dyn Fn(BareJid, Change) -> BoxFuture<'static, ()> + Send + Sync>;

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub name: String,
    /// Seconds since 1970, as all times here.
    pub created: i64,
    pub last_login: Option<i64>,
    pub disabled: Option<i64>,
    /// By a command or the first invitation; those of the configuration are not marked here.
    pub admin: bool,
}

/// What a login compares with. That nobody has this name shows only at its end.
#[derive(Clone, Debug)]
pub struct Claim {
    pub credentials: Arc<Credentials>,
    /// The account, where there is one.
    pub account: Option<NodePart>,
}

#[derive(Clone, Debug)]
struct Account {
    created: i64,
    disabled: Option<i64>,
    admin: bool,
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
    registrations: Throttle,
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
            // The limit comes with the settings.
            registrations: Throttle::registrations(0),
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

    /// Accounts made from an address before a login.
    pub fn registrations(&self) -> &Throttle {
        &self.0.registrations
    }

    /// Whether there is an account of this name, disabled or not.
    pub fn exists(&self, name: &NodeRef) -> bool {
        self.with(name, |_| ()).is_some()
    }

    pub fn is_disabled(&self, name: &NodeRef) -> bool {
        self.with(name, |account| account.disabled.is_some()) == Some(true)
    }

    /// Whether it was made an admin in a chat or by the first invitation.
    pub fn is_admin(&self, name: &NodeRef) -> bool {
        self.with(name, |account| account.admin) == Some(true)
    }

    /// Seconds since 1970; `None`: never, or there is no such account.
    pub fn last_login(&self, name: &NodeRef) -> Option<i64> {
        let at = self.with(name, |account| account.last_login.load(Ordering::Relaxed))?;
        (at > 0).then_some(at)
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
                admin: account.admin,
            }
        };
        read_lock(&self.0.known).iter().map(summary).collect()
    }

    fn with<T>(&self, name: &NodeRef, look: impl FnOnce(&Account) -> T) -> Option<T> {
        read_lock(&self.0.known).get(name).map(look)
    }
}

/// A name as a person gives it, prepared.
pub fn name(text: &str) -> Result<NodePart, Error> {
    NodePart::new(text)
        .map(Cow::into_owned)
        .map_err(|_invalid| Error::Name(text.chars().take(40).collect()))
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
            admin,
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
                admin,
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
    getrandom::fill(&mut secret).map_err(random)?;
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

fn random(err: getrandom::Error) -> Error {
    Error::System(format!("The system gives no random numbers: {err}"))
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
