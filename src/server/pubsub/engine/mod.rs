//! The engine: does what a [`Request`] asks for, if who asks may. Nodes and the order of their items are kept in memory
//! for the services in use; every change is in the store before it is answered.

mod create;
mod live;
mod manage;
mod publish;
mod read;
mod subscribe;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use jid::{BareJid, Jid};
use minidom::Element;

use self::live::{Held, Live, Place, Service, Services, Slot};
use super::access::Relation;
use super::config::{AccessModel, Config};
use super::error;
use super::event::{Audience, Notification};
use super::node::Record;
use super::request::Request;
use super::store;
use crate::server::StanzaError;
use crate::storage::{Batch, Storage};
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// What is bounded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nodes of a service.
    pub nodes: usize,
    /// Nodes that one account has created.
    pub nodes_per_creator: usize,
    /// Items of a node; what "max" stands for.
    pub items: usize,
    /// Bytes of an item.
    pub item_bytes: usize,
    /// Bytes of all items of a node, which is also the most that one answer holds.
    pub node_bytes: usize,
    /// Bytes of all nodes that one account has created at a service.
    pub creator_bytes: usize,
    /// Subscriptions of a node, and affiliations too.
    pub subscriptions: usize,
    /// Services kept in memory.
    pub services: usize,
}

impl Limits {
    pub const PERSONAL: Self = Self {
        nodes: 250,
        nodes_per_creator: 250,
        items: 10_000,
        item_bytes: 512 * 1_024,
        node_bytes: 4 * 1_024 * 1_024,
        creator_bytes: 64 * 1_024 * 1_024,
        subscriptions: 1_000,
        services: 4_096,
    };
    pub const PUBLIC: Self = Self {
        nodes: 10_000,
        nodes_per_creator: 250,
        items: 10_000,
        item_bytes: 256 * 1_024,
        node_bytes: 8 * 1_024 * 1_024,
        creator_bytes: 64 * 1_024 * 1_024,
        subscriptions: 1_000,
        services: 16,
    };
}

/// What kind of service it is.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// What a new node is like, by its name.
    pub defaults: fn(&str) -> Config,
    pub access_models: &'static [AccessModel],
    /// Whether a node is created by publishing to it (XEP-0060, 7.1.4).
    pub auto_create: bool,
    pub limits: Limits,
}

impl Profile {
    /// A pubsub service of its own. A node is made by who wants it, not by a publication to a name with a mistake in it.
    pub const PUBLIC: Self = Self {
        defaults: |_| Config::public(),
        access_models: &[
            AccessModel::Open,
            AccessModel::Presence,
            AccessModel::Roster,
            AccessModel::Authorize,
            AccessModel::Whitelist,
        ],
        auto_create: false,
        limits: Limits::PUBLIC,
    };
}

/// Who asks.
#[derive(Clone)]
pub struct Actor {
    pub jid: Jid,
    /// What they are to the service.
    pub relation: Relation,
    pub may_create: bool,
    /// Where what they are depends on the node, as each has owners of its own: who knows it.
    pub rosters: Option<Arc<dyn Audience>>,
}

impl Actor {
    /// The account whose service it is.
    pub fn owner(jid: impl Into<Jid>) -> Self {
        Self {
            jid: jid.into(),
            relation: Relation::owner(),
            may_create: true,
            rosters: None,
        }
    }

    /// What the actor is to those whose node it is.
    async fn relation_to(&self, service: &BareJid, record: &Record) -> Cow<'_, Relation> {
        match &self.rosters {
            Some(rosters) if !self.relation.owner => {
                Cow::Owned(rosters.relation(service, record, &self.jid.to_bare()).await)
            }
            _ => Cow::Borrowed(&self.relation),
        }
    }
}

/// What a request came to: the payload of the result, and what others are told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub answer: Option<Element>,
    pub notifications: Vec<Notification>,
}

impl Outcome {
    fn answer(answer: Element) -> Self {
        Self {
            answer: Some(answer),
            notifications: Vec::new(),
        }
    }

    fn notify(mut self, notification: Option<Notification>) -> Self {
        self.notifications.extend(notification);
        self
    }
}

/// Handles share their state.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    storage: Storage,
    profile: Profile,
    clock: fn() -> i64,
    services: Mutex<Services>,
}

/// Milliseconds since 1970.
fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

impl Engine {
    pub fn new(storage: Storage, profile: Profile) -> Self {
        Self::with_clock(storage, profile, now)
    }

    /// As [`Self::new`], with another clock (milliseconds since 1970).
    pub fn with_clock(storage: Storage, profile: Profile, clock: fn() -> i64) -> Self {
        Self(Arc::new(Inner {
            storage,
            profile,
            clock,
            services: Mutex::new(Services::new(profile.limits.services)),
        }))
    }

    pub fn limits(&self) -> Limits {
        self.0.profile.limits
    }

    /// Does what is asked of a service.
    pub async fn handle(
        &self,
        service: &BareJid,
        actor: &Actor,
        request: Request,
    ) -> Result<Outcome, StanzaError> {
        use Request as R;
        match request {
            R::Publish {
                node,
                item,
                options,
            } => self.publish(service, actor, &node, item, options).await,
            R::Retract { node, ids, notify } => {
                self.retract(service, actor, &node, ids, notify).await
            }
            R::Purge { node } => self.purge(service, actor, &node).await,
            R::Items {
                node,
                ids,
                max,
                paging,
            } => self.items(service, actor, &node, &ids, max, &paging).await,
            R::Create { node, configure } => self.create(service, actor, node, configure).await,
            R::Delete { node, redirect } => self.delete(service, actor, &node, redirect).await,
            R::Defaults => Ok(self.defaults()),
            R::GetConfiguration { node } => self.configuration(service, actor, &node).await,
            R::Configure { node, form } => self.configure(service, actor, &node, &form).await,
            R::Subscribe { node, jid, options } => {
                self.subscribe(service, actor, &node, jid, options).await
            }
            R::Unsubscribe { node, jid, subid } => {
                self.unsubscribe(service, actor, &node, &jid, subid).await
            }
            R::GetOptions { node, jid, subid } => {
                self.options(service, actor, &node, &jid, subid).await
            }
            R::SetOptions {
                node,
                jid,
                subid,
                form,
            } => {
                self.set_options(service, actor, &node, &jid, subid, &form)
                    .await
            }
            R::Subscriptions { node } => self.subscriptions(service, actor, node).await,
            R::Affiliations { node } => self.affiliations(service, actor, node).await,
            R::GetSubscribers { node } => self.subscribers(service, actor, &node).await,
            R::SetSubscribers { node, changes } => {
                self.set_subscribers(service, actor, &node, changes).await
            }
            R::GetAffiliates { node } => self.affiliates(service, actor, &node).await,
            R::SetAffiliates { node, changes } => {
                self.set_affiliates(service, actor, &node, changes).await
            }
        }
    }

    /// The service with its nodes, read from the store if it is not in memory.
    async fn service(&self, service: &BareJid) -> Result<Slot, StanzaError> {
        let slot = self
            .0
            .services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .slot(service);
        slot.get_or_try_init(|| async {
            let nodes = store::nodes(&self.0.storage, service).await?;
            Ok::<_, StanzaError>(Service::new(nodes))
        })
        .await?;
        Ok(slot)
    }

    /// A node, for oneself alone until it is dropped.
    async fn find(&self, service: &BareJid, node: &str) -> Result<Option<Held>, StanzaError> {
        let slot = self.service(service).await?;
        let Some(service) = slot.get() else {
            return Ok(None);
        };
        let Some(cell) = service.nodes.read().await.get(node).map(Place::cell) else {
            return Ok(None);
        };
        let held = Held::new(cell.lock_owned().await, slot);
        // It was deleted while this waited.
        Ok((!held.gone).then_some(held))
    }

    async fn existing(&self, service: &BareJid, node: &str) -> Result<Held, StanzaError> {
        self.find(service, node)
            .await?
            .ok_or_else(StanzaError::item_not_found)
    }

    /// The records of a service's nodes, or of one, in the order of their names.
    async fn records(
        &self,
        service: &BareJid,
        node: Option<&str>,
    ) -> Result<Vec<(String, Arc<Record>)>, StanzaError> {
        if let Some(node) = node {
            let held = self.existing(service, node).await?;
            return Ok(vec![(node.to_owned(), Arc::clone(&held.record))]);
        }
        let names = self.names(service).await?;
        let mut records = Vec::with_capacity(names.len());
        // One after the other: nobody waits for a node because somebody looks at all of them.
        for name in names {
            if let Some(held) = self.find(service, &name).await? {
                let record = Arc::clone(&held.record);
                drop(held);
                records.push((name, record));
            }
        }
        Ok(records)
    }

    /// Stores a node's record and then holds it.
    async fn save(
        &self,
        service: &BareJid,
        node: &str,
        live: &mut Live,
        record: Record,
    ) -> Result<(), StanzaError> {
        if *live.record == record {
            return Ok(());
        }
        let batch = store::put_node(Batch::new(), service, node, &record)?;
        self.0.storage.commit(batch).await?;
        live.record = Arc::new(record);
        Ok(())
    }

    fn check_access_model(&self, config: &Config) -> Result<(), StanzaError> {
        if self.0.profile.access_models.contains(&config.access_model) {
            Ok(())
        } else {
            let error = StanzaError::not_acceptable();
            Err(error::with(error, "unsupported-access-model"))
        }
    }
}

/// `<pubsub/>` around one element that names the node.
fn answer(namespace: &str, name: &str, node: Option<&str>) -> (Element, Element) {
    let mut inner = element(name, namespace, &[]);
    if let Some(node) = node {
        crate::xmpp::element::set(&mut inner, "node", node);
    }
    (Element::bare("pubsub", namespace), inner)
}

fn wrap((mut outer, inner): (Element, Element)) -> Element {
    outer.append_child(inner);
    outer
}

/// As [`answer`], in the namespace of everybody's use cases.
fn common(name: &str, node: Option<&str>) -> (Element, Element) {
    answer(ns::PUBSUB, name, node)
}

/// As [`answer`], in the namespace of owners' use cases.
fn owners(name: &str, node: Option<&str>) -> (Element, Element) {
    answer(ns::PUBSUB_OWNER, name, node)
}

#[cfg(test)]
mod tests;
