//! Items come and go (XEP-0060, 7 and 8.5).

use std::collections::BTreeSet;
use std::sync::Arc;

use jid::BareJid;
use minidom::Element;

use super::super::config::Config;
use super::super::event::{Notification, Recipients, event, of_node, retracted};
use super::super::form::Filled;
use super::super::node::Affiliation;
use super::super::request::NewItem;
use super::super::store::{self, StoredItem};
use super::super::{access, error};
use super::live::{Held, Indexed, Live, Size};
use super::{Actor, Engine, Limits, Outcome, common, wrap};
use crate::server::{StanzaError, random_id};
use crate::storage::Batch;
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// Whether an item suits a node (XEP-0060, 7.1.3.6).
pub(super) fn check_item(config: &Config, item: Option<&NewItem>) -> Result<(), StanzaError> {
    let refuse = |condition| Err(error::with(StanzaError::bad_request(), condition));
    match item {
        None if config.persist_items => refuse("item-required"),
        None if config.deliver_payloads => refuse("payload-required"),
        Some(item) if config.deliver_payloads && item.payload.is_none() => {
            refuse("payload-required")
        }
        Some(_) if !config.persist_items && !config.deliver_payloads => refuse("item-forbidden"),
        _ => Ok(()),
    }
}

/// `<item/>` with its payload, in the namespace of the place where it stands.
pub(super) fn item_element(namespace: &str, id: &str, payload: Option<Element>) -> Element {
    let mut item = element("item", namespace, &[("id", id)]);
    if let Some(payload) = payload {
        item.append_child(payload);
    }
    item
}

/// The event of an item, for the subscribers.
pub(super) fn published(node: &str, item: Option<&StoredItem>, live: &Live) -> Notification {
    let config = &live.record.config;
    let mut items = of_node("items", node);
    if let Some(item) = item {
        let payload = item.element().filter(|_| config.deliver_payloads);
        items.append_child(item_element(ns::PUBSUB_EVENT, &item.id, payload));
    }
    Notification {
        node: node.to_owned(),
        recipients: Recipients::Node(Arc::clone(&live.record)),
        payload: event(items),
        kind: config.notification_type,
        delayed: None,
    }
}

impl Engine {
    pub(super) async fn publish(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        item: Option<NewItem>,
        options: Option<Filled>,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self
            .published_to(service, actor, node, item.as_ref(), options)
            .await?;
        check_item(&held.record.config, item.as_ref())?;
        let stored = item.map(|item| self.to_store(actor, item)).transpose()?;
        let (outer, mut inner) = common("publish", Some(node));
        if let Some(stored) = &stored {
            inner.append_child(item_element(ns::PUBSUB, &stored.id, None));
        }
        let notification = published(node, stored.as_ref(), &held);
        let notify = held.record.config.deliver_notifications;
        if let Some(stored) = stored {
            self.keep(service, actor, node, &mut held, stored).await?;
        }
        let outcome = Outcome::answer(wrap((outer, inner)));
        Ok(outcome.notify(notify.then_some(notification)))
    }

    /// The node that an item goes to, created if need be and allowed.
    async fn published_to(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        item: Option<&NewItem>,
        options: Option<Filled>,
    ) -> Result<Held, StanzaError> {
        let options = options.unwrap_or_default();
        if self.find(service, node).await?.is_none() {
            if !self.0.profile.auto_create || !actor.may_create {
                return Err(StanzaError::item_not_found());
            }
            let config = options.applied(&(self.0.profile.defaults)(node))?;
            // Nobody wants a node that is left behind by an item that was refused.
            check_item(&config, item)?;
            self.check_size(item)?;
            match self.insert(service, actor, node, config).await {
                Ok(held) => return Ok(held),
                // Somebody else was faster: their node has to do.
                Err(error) if error.condition == crate::server::Condition::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        let held = self.existing(service, node).await?;
        access::may_publish(&held.record, &actor.relation, &actor.jid.to_bare())?;
        options.met_by(&held.record.config, self.0.profile.limits.items)?;
        Ok(held)
    }

    fn check_size(&self, item: Option<&NewItem>) -> Result<(), StanzaError> {
        let payload = item.and_then(|item| item.payload.as_ref());
        let bytes = payload.map_or(0, |payload| String::from(payload).len());
        if bytes > self.0.profile.limits.item_bytes {
            let error = StanzaError::not_acceptable();
            return Err(error::with(error, "payload-too-big"));
        }
        Ok(())
    }

    fn to_store(&self, actor: &Actor, item: NewItem) -> Result<StoredItem, StanzaError> {
        self.check_size(Some(&item))?;
        Ok(StoredItem {
            id: item.id.unwrap_or_else(random_id),
            publisher: actor.jid.to_bare(),
            at: (self.0.clock)(),
            payload: item.payload.as_ref().map(String::from),
        })
    }

    /// Puts an item last, in place of the one with its id, and removes what is too old or too much.
    async fn keep(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        held: &mut Held,
        item: StoredItem,
    ) -> Result<(), StanzaError> {
        let limits = self.0.profile.limits;
        let record = Arc::clone(&held.record);
        let kept = record.config.kept(limits.items);
        if !record.config.persist_items || kept == 0 {
            held.transient = Some(item);
            return Ok(());
        }
        let elsewhere = self.bytes_elsewhere(service, node, &record.creator).await?;
        let affiliation = access::affiliation(&record, &actor.relation, &item.publisher);
        let may_replace = matches!(affiliation, Affiliation::Owner | Affiliation::Publisher);
        let index = held.index(&self.0.storage, service, node).await?;
        let replaced = index.iter().find(|entry| entry.id == item.id);
        // Where anybody may publish, nobody replaces another's item.
        if replaced.is_some_and(|entry| !may_replace && entry.publisher != item.publisher) {
            return Err(StanzaError::forbidden());
        }
        let removed = removed_by(index, &record.config, &item, kept);
        check_node_size(index, &removed, &item, elsewhere, limits)?;
        let sequence = index
            .last()
            .map_or(0, |last| last.sequence.saturating_add(1));
        let mut batch = store::put_item(Batch::new(), service, node, sequence, &item)?;
        for old in &removed {
            batch = store::delete_item(batch, service, node, *old);
        }
        self.0.storage.commit(batch).await?;
        index.retain(|entry| !removed.contains(&entry.sequence));
        index.push(Indexed::new(sequence, &item));
        held.measure();
        Ok(())
    }

    /// Bytes of all other nodes that this account has created; those that nobody has asked for yet are read once.
    async fn bytes_elsewhere(
        &self,
        service: &BareJid,
        node: &str,
        creator: &BareJid,
    ) -> Result<usize, StanzaError> {
        let slot = self.service(service).await?;
        let nodes = slot.get().ok_or_else(StanzaError::internal_server_error)?;
        let sizes: Vec<(String, Size)> = {
            let nodes = nodes.nodes.read().await;
            let others = nodes
                .iter()
                .filter(|(name, place)| place.creator == *creator && *name != node);
            others
                .map(|(name, place)| (name.clone(), place.size.clone()))
                .collect()
        };
        let mut bytes = 0_usize;
        for (name, size) in sizes {
            if size.get().is_none() {
                let items = store::items(&self.0.storage, service, &name).await?;
                let index: Vec<_> = items
                    .iter()
                    .map(|(sequence, item)| Indexed::new(*sequence, item))
                    .collect();
                size.set(&index);
            }
            bytes = bytes.saturating_add(size.get().unwrap_or_default());
        }
        Ok(bytes)
    }

    pub(super) async fn retract(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        ids: Vec<String>,
        notify: bool,
    ) -> Result<Outcome, StanzaError> {
        if ids.is_empty() {
            return Err(error::with(StanzaError::bad_request(), "item-required"));
        }
        let mut held = self.existing(service, node).await?;
        let record = Arc::clone(&held.record);
        access::may_publish(&record, &actor.relation, &actor.jid.to_bare())?;
        if !record.config.persist_items {
            return Err(error::unsupported("persistent-items"));
        }
        let index = held.index(&self.0.storage, service, node).await?;
        let mut batch = Batch::new();
        for id in &ids {
            let entry = index.iter().find(|entry| entry.id == *id);
            let entry = entry.ok_or_else(StanzaError::item_not_found)?;
            let publisher = Some(&entry.publisher);
            access::may_retract(&record, &actor.relation, &actor.jid.to_bare(), publisher)?;
            batch = store::delete_item(batch, service, node, entry.sequence);
        }
        self.0.storage.commit(batch).await?;
        index.retain(|entry| !ids.contains(&entry.id));
        held.measure();
        let told = (notify || record.config.notify_retract) && record.config.deliver_notifications;
        Ok(Outcome::default().notify(told.then(|| Notification {
            node: node.to_owned(),
            payload: retracted(node, &ids),
            kind: record.config.notification_type,
            recipients: Recipients::Node(record),
            delayed: None,
        })))
    }

    pub(super) async fn purge(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self.existing(service, node).await?;
        let record = Arc::clone(&held.record);
        access::is_owner(&record, &actor.relation, &actor.jid.to_bare())?;
        if !record.config.persist_items {
            return Err(error::unsupported("persistent-items"));
        }
        self.keep_newest(service, node, &mut held, 0).await?;
        let told = record.config.notify_retract && record.config.deliver_notifications;
        Ok(Outcome::default().notify(told.then(|| Notification {
            node: node.to_owned(),
            payload: event(of_node("purge", node)),
            kind: record.config.notification_type,
            recipients: Recipients::Node(record),
            delayed: None,
        })))
    }

    /// Removes all but the newest items.
    pub(super) async fn keep_newest(
        &self,
        service: &BareJid,
        node: &str,
        live: &mut Live,
        most: usize,
    ) -> Result<(), StanzaError> {
        let index = live.index(&self.0.storage, service, node).await?;
        let surplus = index.len().saturating_sub(most);
        let mut batch = Batch::new();
        for entry in index.iter().take(surplus) {
            batch = store::delete_item(batch, service, node, entry.sequence);
        }
        if !batch.is_empty() {
            self.0.storage.commit(batch).await?;
            index.drain(..surplus);
            live.measure();
        }
        Ok(())
    }
}

/// The places of the items that a new one removes: its predecessor, what has expired, the oldest ones.
fn removed_by(index: &[Indexed], config: &Config, item: &StoredItem, kept: usize) -> BTreeSet<u64> {
    let goes = |entry: &&Indexed| entry.id == item.id || entry.is_expired(config, item.at);
    let stays = index.iter().filter(|entry| !goes(entry));
    let surplus = (stays.clone().count() + 1).saturating_sub(kept);
    let oldest = stays.take(surplus);
    index
        .iter()
        .filter(goes)
        .chain(oldest)
        .map(|entry| entry.sequence)
        .collect()
}

fn check_node_size(
    index: &[Indexed],
    removed: &BTreeSet<u64>,
    item: &StoredItem,
    elsewhere: usize,
    limits: Limits,
) -> Result<(), StanzaError> {
    let stays = index
        .iter()
        .filter(|entry| !removed.contains(&entry.sequence));
    let bytes: usize = stays.map(|entry| entry.bytes).sum();
    let bytes = bytes.saturating_add(item.bytes());
    if bytes > limits.node_bytes {
        return Err(StanzaError::policy_violation().text("The node is full"));
    }
    if bytes.saturating_add(elsewhere) > limits.creator_bytes {
        return Err(StanzaError::policy_violation().text("The nodes of who made this one are full"));
    }
    Ok(())
}
