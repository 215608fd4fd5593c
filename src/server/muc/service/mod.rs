//! The rooms of one host: found by name, loaded when somebody speaks to them, and made to do what they want done.
//!
//! A room is one lock. What goes to its occupants is put into their mailboxes under the lock, without waiting for anybody,
//! so that all see one order; whatever may wait is routed after it.

mod disco;
mod floods;
mod host;
mod living;
mod tombstones;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use jid::{BareJid, FullJid};
use minidom::Element;
use tracing::error;

pub use self::host::People;

use self::floods::cost;
use self::living::{Living, Outcome};
use self::tombstones::{TOMBSTONE, Tombstones};
use super::config::Config;
use super::event::{Event, Incoming, Reveal};
use super::history::{History, Past};
use super::room::{Limits, Listing, Room, Stored};
use crate::server::StanzaError;
use crate::server::abuse::Allowance;
use crate::server::mail::Mail;
use crate::storage::{Answer, Batch, KeyValue, Storage};
use crate::xmpp::ns;

/// By the room's JID.
const ROOMS: KeyValue = KeyValue("muc_rooms");

/// Rooms without occupants leave the memory when there are more than so many.
const MOST_LIVING: usize = 1_000;

/// A room that its creator has not configured after this opens as it is, as with Prosody.
const LOCKED: i64 = 300_000;

/// How long somebody who speaks waits where a listener does not keep up.
const BREATH: Duration = Duration::from_millis(25);

/// Who may create rooms. The server's own bots always may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creators {
    Anyone,
    /// Users of this domain.
    Domain(String),
    People(Vec<BareJid>),
}

/// What a reload may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    pub creators: Creators,
    /// So many rooms may exist that one person has created.
    pub rooms_per_person: usize,
}

#[derive(Clone, Debug)]
pub struct Policy {
    /// The service's own address.
    pub host: BareJid,
    /// As people see it.
    pub name: String,
    /// How a new room is.
    pub config: Config,
    pub limits: Limits,
    pub creation: Creation,
    /// Whether a new room waits for its configuration (XEP-0045, 10.1.1).
    pub locks: bool,
    /// So many messages are sent to who enters, at most.
    pub history: usize,
}

impl Policy {
    /// What holds for a household or a team whose accounts are on `domain`.
    pub fn new(host: BareJid, domain: &str) -> Self {
        Self {
            host,
            name: "Chat rooms".into(),
            config: Config::default(),
            limits: Limits::default(),
            creation: Creation {
                creators: Creators::Domain(domain.to_owned()),
                rooms_per_person: 100,
            },
            locks: true,
            history: 50,
        }
    }
}

/// What became of a stanza for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    Done,
    /// It is in the mailbox, which is nearly full.
    Tight,
    /// There is no such session, or it reads nothing.
    Gone,
    /// It is not a session of this server: to be routed.
    Elsewhere,
}

/// How rooms reach people.
pub trait Outbound: Send + Sync {
    /// Puts a stanza into a session's mailbox. Waits for nobody.
    fn post(&self, to: &FullJid, mail: Mail) -> Posted;
    /// Many for one session, such as all occupants for who enters; what becomes of the last that was tried.
    fn post_all(&self, to: &FullJid, mails: &[Mail]) -> Posted {
        let mut posted = Posted::Done;
        for mail in mails {
            posted = self.post(to, mail.addressed(to));
            if posted == Posted::Gone {
                break;
            }
        }
        posted
    }
    /// Something was said, which matters to these members of the room also while they are not in it.
    fn said(
        &self,
        _members: &mut dyn Iterator<Item = &BareJid>,
        _author: &BareJid,
        _stanza: &Element,
    ) {
    }
    /// Somebody asks too much, and was told so.
    fn refused(&self, _who: &BareJid) {}
    /// Sends a stanza to wherever it is addressed.
    fn route(&self, stanza: Element) -> BoxFuture<'_, ()>;
}

type Cell = Arc<tokio::sync::Mutex<Living>>;

pub struct Service {
    policy: Policy,
    storage: Storage,
    history: Arc<dyn History>,
    /// In memory, by local part.
    living: Mutex<HashMap<String, Cell>>,
    /// All that exist, by local part.
    listings: Mutex<BTreeMap<String, Listing>>,
    tombstones: Mutex<Tombstones>,
    creation: Mutex<Creation>,
    floods: Allowance<BareJid>,
    creations: Allowance<BareJid>,
}

impl Service {
    /// Learns which rooms are stored.
    pub async fn open(
        mut policy: Policy,
        storage: Storage,
        history: Arc<dyn History>,
    ) -> crate::storage::Result<Self> {
        policy.limits.archive = history.is_archive();
        let (mut listings, mut tombstones) = (BTreeMap::new(), Tombstones::new());
        for owner in storage.owners(ROOMS).await? {
            let Ok(address) = BareJid::new(&owner) else {
                continue;
            };
            let Some(node) = address.node() else {
                continue;
            };
            if address.domain() != policy.host.domain() {
                continue;
            }
            let (node, key) = (node.as_str().to_owned(), Room::listing_key());
            let state = storage.get(ROOMS, &owner, key).await?;
            let stored = Stored::from_iter(state.map(|state| (key.to_owned(), state)));
            if let Some(listing) = Room::stored_listing(&stored) {
                listings.insert(node, listing);
            } else if let Some(left) = storage.get(ROOMS, &owner, TOMBSTONE).await? {
                if let Some(tombstone) = tombstones::read(&left) {
                    tombstones.insert(node, tombstone);
                } else {
                    let batch = Batch::new().delete(ROOMS, &owner, TOMBSTONE);
                    storage.note(batch).await?;
                }
            }
        }
        let rooms = listings.keys().cloned().collect();
        if let Err(err) = history.retain(&policy.host, &rooms).await {
            error!(condition = ?err.condition, "The archives of rooms that are gone are still there");
        }
        let creation = policy.creation.clone();
        Ok(Self {
            policy,
            storage,
            history,
            living: Mutex::default(),
            listings: Mutex::new(listings),
            tombstones: Mutex::new(tombstones),
            creation: Mutex::new(creation),
            floods: Allowance::new(floods::RATE),
            creations: Allowance::new(floods::CREATIONS),
        })
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who may create rooms from now on.
    pub fn set_creation(&self, creation: Creation) {
        *lock(&self.creation) = creation;
    }

    /// How many rooms there are.
    pub fn rooms(&self) -> usize {
        lock(&self.listings).len()
    }

    /// Handles a stanza for the host. Answers what must be written before the sender may believe that it was heard.
    pub async fn receive(&self, outbound: &dyn Outbound, incoming: Incoming) -> Option<Answer<()>> {
        let Some(node) = incoming.to.node() else {
            if let Some(answer) = self.answer(&incoming) {
                outbound.route(answer).await;
            }
            return None;
        };
        let node = node.as_str().to_owned();
        let outcome = match self.deliver(outbound, &node, &incoming).await {
            Ok(outcome) => outcome,
            Err(error) => {
                if let Some(answer) = incoming.error(&error) {
                    outbound.route(answer).await;
                }
                return None;
            }
        };
        self.finish(outbound, &incoming, outcome).await
    }

    async fn deliver(
        &self,
        outbound: &dyn Outbound,
        node: &str,
        incoming: &Incoming,
    ) -> Result<Outcome, StanzaError> {
        let sender = incoming.from.to_bare();
        if let Some(cost) = cost(incoming)
            && !self.floods.take_many(&sender, cost)
        {
            outbound.refused(&sender);
            return Err(StanzaError::resource_constraint().text("Not so fast"));
        }
        loop {
            let cell = match self.find(node).await? {
                Some(cell) => cell,
                None => self.create(outbound, node, incoming)?,
            };
            let mut living = cell.lock().await;
            if living.closed {
                // It ended between being found and being reached.
                continue;
            }
            let event = Event::Stanza(incoming.clone());
            return Ok(living.happen(self, outbound, now(), event).await);
        }
    }

    /// The room in memory, or from the store; `None`: there is none.
    async fn find(&self, node: &str) -> Result<Option<Cell>, StanzaError> {
        let known = lock(&self.living).get(node).cloned();
        if known.is_some() || !lock(&self.listings).contains_key(node) {
            return Ok(known);
        }
        let Some(address) = self.address(node) else {
            return Ok(None);
        };
        let stored = self.storage.list(ROOMS, address.as_str(), "").await?;
        let stored = Stored::from_iter(stored);
        let Some(room) = Room::load(address.clone(), self.policy.limits, &stored) else {
            // Nobody else gets its name.
            error!(room = %address, "The room cannot be read from the store");
            return Err(StanzaError::internal_server_error());
        };
        let past = self.history.newest(&address, self.policy.history).await?;
        let past = Past::new(self.policy.history, past);
        let cell = Living::cell(room, past, now());
        // Somebody else may have been faster; then theirs is the room.
        let mut living = lock(&self.living);
        let cell = living.entry(node.to_owned()).or_insert(cell);
        Ok(Some(Arc::clone(cell)))
    }

    /// A new room, for who enters one that does not exist (XEP-0045, 10.1).
    fn create(
        &self,
        outbound: &dyn Outbound,
        node: &str,
        incoming: &Incoming,
    ) -> Result<Cell, StanzaError> {
        let address = self.address(node);
        let (Some(address), true) = (address, enters(incoming)) else {
            return Err(StanzaError::item_not_found());
        };
        let creator = incoming.from.to_bare();
        self.may_succeed(node, &creator)?;
        self.may_create(&creator, incoming.is_own_bot)?;
        if !incoming.is_own_bot && !self.creations.take(&creator) {
            outbound.refused(&creator);
            return Err(StanzaError::resource_constraint().text("Not so fast"));
        }
        let mut secret = [0; 32];
        if getrandom::fill(&mut secret).is_err() {
            return Err(StanzaError::internal_server_error());
        }
        let policy = &self.policy;
        let mut config = policy.config.clone();
        // Where a bot lives people come back to, and so do what was said and who is who.
        config.persistent |= incoming.is_own_bot;
        let room = Room::create(
            address,
            creator,
            config,
            policy.limits,
            secret,
            policy.locks,
        );
        let listing = room.listing();
        let past = Past::new(policy.history, Vec::new());
        let cell = Living::cell(room, past, now());
        let mut living = lock(&self.living);
        let cell = living.entry(node.to_owned()).or_insert_with(|| {
            lock(&self.listings).insert(node.to_owned(), listing);
            cell
        });
        self.unbury(node);
        Ok(Arc::clone(cell))
    }

    fn may_create(&self, creator: &BareJid, is_own_bot: bool) -> Result<(), StanzaError> {
        let Creation {
            creators,
            rooms_per_person,
        } = lock(&self.creation).clone();
        let may = match creators {
            Creators::Anyone => true,
            Creators::Domain(domain) => creator.domain().as_str() == domain,
            Creators::People(people) => people.contains(creator),
        };
        if !may && !is_own_bot {
            return Err(StanzaError::not_allowed().text("You may not create rooms here"));
        }
        let listings = lock(&self.listings);
        let own = listings.values().filter(|one| one.creator == *creator);
        if own.count() >= rooms_per_person {
            return Err(StanzaError::resource_constraint().text("You have created many rooms"));
        }
        Ok(())
    }

    fn address(&self, node: &str) -> Option<BareJid> {
        BareJid::new(&format!("{node}@{}", self.policy.host)).ok()
    }

    /// What waits, now that nobody waits for the room.
    async fn finish(
        &self,
        outbound: &dyn Outbound,
        incoming: &Incoming,
        outcome: Outcome,
    ) -> Option<Answer<()>> {
        let mut failed = outcome.failed;
        for written in outcome.persisted {
            if let Err(error) = written.await {
                failed = Some(error.into());
            }
        }
        for stanza in outcome.later {
            outbound.route(stanza).await;
        }
        let reply = match failed {
            Some(error) => incoming.error(&error),
            None => outcome.reply,
        };
        if let Some(reply) = reply {
            outbound.route(reply).await;
        }
        for (request, reveal) in outcome.queries {
            self.query(outbound, request, reveal).await;
        }
        if outcome.tight {
            tokio::time::sleep(BREATH).await;
        }
        outcome.said
    }

    async fn query(&self, outbound: &dyn Outbound, request: Incoming, reveal: Reveal) {
        let room = request.to.to_bare();
        let answers = self.history.query(&room, &request, reveal).await;
        let answers = answers.unwrap_or_else(|error| Vec::from_iter(request.error(&error)));
        for answer in answers {
            outbound.route(answer).await;
        }
    }

    /// Tells everybody in every room that the service stops (status 332).
    pub async fn stop(&self, outbound: &dyn Outbound) {
        let cells: Vec<Cell> = lock(&self.living).values().cloned().collect();
        for cell in cells {
            let mut living = cell.lock().await;
            let outcome = living.happen(self, outbound, now(), Event::Shutdown).await;
            for stanza in outcome.later {
                outbound.route(stanza).await;
            }
        }
    }

    fn list(&self, node: &str, listing: Listing) {
        lock(&self.listings).insert(node.to_owned(), listing);
    }

    /// Takes a room out of memory; `destroyed`: and out of the list.
    fn forget(&self, node: &str, destroyed: bool) {
        let mut living = lock(&self.living);
        if destroyed {
            lock(&self.listings).remove(node);
        }
        living.remove(node);
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({}, {} rooms)", self.policy.host, self.rooms())
    }
}

/// Whether somebody wants to enter.
fn enters(incoming: &Incoming) -> bool {
    incoming.stanza.name() == "presence"
        && incoming.kind().is_empty()
        && incoming.nick().is_some()
        && incoming.session().is_some()
        && incoming.stanza.has_child("x", ns::MUC)
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
