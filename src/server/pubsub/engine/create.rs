//! Nodes come and go (XEP-0060, 8.1 and 8.4).

use std::sync::Arc;

use jid::BareJid;

use super::super::access;
use super::super::config::Config;
use super::super::event::{Notification, Recipients, event, of_node};
use super::super::form::Filled;
use super::super::node::Record;
use super::super::{error, store};
use super::live::{Held, Live, Place};
use super::{Actor, Engine, Outcome, common, wrap};
use crate::server::{StanzaError, random_id};
use crate::storage::Batch;
use crate::xmpp::element::element;
use crate::xmpp::ns;

impl Engine {
    pub(super) async fn create(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: Option<String>,
        configure: Option<Filled>,
    ) -> Result<Outcome, StanzaError> {
        if !actor.may_create {
            return Err(StanzaError::forbidden());
        }
        let (name, instant) = match node {
            Some(name) => (name, false),
            None => (random_id(), true),
        };
        let defaults = (self.0.profile.defaults)(&name);
        let config = configure
            .filter(|form| !form.cancelled)
            .map_or(Ok(defaults.clone()), |form| form.applied(&defaults))?;
        self.insert(service, actor, &name, config).await?;
        Ok(if instant {
            Outcome::answer(wrap(common("create", Some(&name))))
        } else {
            Outcome::default()
        })
    }

    /// Adds a node; `conflict` if it exists.
    pub(super) async fn insert(
        &self,
        service: &BareJid,
        actor: &Actor,
        name: &str,
        config: Config,
    ) -> Result<Held, StanzaError> {
        self.check_access_model(&config)?;
        let slot = self.service(service).await?;
        let nodes = slot.get().ok_or_else(StanzaError::internal_server_error)?;
        // Held over the commit: of two who create a node, the second one finds it.
        let mut nodes = nodes.nodes.write().await;
        if nodes.contains_key(name) {
            return Err(StanzaError::conflict());
        }
        let limits = self.0.profile.limits;
        let creator = actor.jid.to_bare();
        let created = nodes.values().filter(|place| place.creator == creator);
        if nodes.len() >= limits.nodes || created.count() >= limits.nodes_per_creator {
            return Err(error::with(
                StanzaError::policy_violation(),
                "max-nodes-exceeded",
            ));
        }
        let record = Record::new(config, creator, (self.0.clock)());
        let batch = store::put_node(Batch::new(), service, name, &record)?;
        self.0.storage.commit(batch).await?;
        let place = Place::new(Live::created(record));
        // Before anybody else sees it, and could delete it.
        let live = place.cell().lock_owned().await;
        nodes.insert(name.to_owned(), place);
        drop(nodes);
        Ok(Held::new(live, slot))
    }

    pub(super) async fn delete(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        redirect: Option<String>,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self.existing(service, node).await?;
        access::is_owner(&held.record, &actor.relation, &actor.jid.to_bare())?;
        self.delete_held(service, node, &mut held, redirect).await
    }

    /// Deletes a node, and says so to its subscribers.
    async fn delete_held(
        &self,
        service: &BareJid,
        node: &str,
        held: &mut Held,
        redirect: Option<String>,
    ) -> Result<Outcome, StanzaError> {
        self.remove(service, node, held).await?;
        let mut deleted = of_node("delete", node);
        if let Some(uri) = redirect {
            deleted.append_child(element("redirect", ns::PUBSUB_EVENT, &[("uri", &uri)]));
        }
        let config = &held.record.config;
        let notification =
            (config.notify_delete && config.deliver_notifications).then(|| Notification {
                node: node.to_owned(),
                recipients: Recipients::Node(Arc::clone(&held.record)),
                payload: event(deleted),
                kind: config.notification_type,
                delayed: None,
            });
        Ok(Outcome::default().notify(notification))
    }

    /// Deletes a node with its items.
    async fn remove(
        &self,
        service: &BareJid,
        node: &str,
        held: &mut Held,
    ) -> Result<(), StanzaError> {
        let mut batch = store::delete_node(Batch::new(), service, node);
        for entry in held.index(&self.0.storage, service, node).await? {
            batch = store::delete_item(batch, service, node, entry.sequence);
        }
        self.0.storage.commit(batch).await?;
        held.gone = true;
        if let Some(service) = self.service(service).await?.get() {
            service.nodes.write().await.remove(node);
        }
        Ok(())
    }

    /// Deletes everything of a service whose account is gone.
    pub async fn delete_service(&self, service: &BareJid) -> Result<(), StanzaError> {
        for name in self.names(service).await? {
            if let Some(mut held) = self.find(service, &name).await? {
                self.remove(service, &name, &mut held).await?;
            }
        }
        Ok(())
    }

    /// Forgets an account that is gone: its subscriptions, its affiliations, and the nodes that have no other owner.
    pub async fn forget(
        &self,
        service: &BareJid,
        account: &BareJid,
    ) -> Result<Vec<Notification>, StanzaError> {
        let mut told = Vec::new();
        for name in self.names(service).await? {
            let Some(mut held) = self.find(service, &name).await? else {
                continue;
            };
            let mut record = Record::clone(&held.record);
            record.affiliations.remove(account);
            record
                .subscriptions
                .retain(|subscriber, _| subscriber.to_bare() != *account);
            if record.owners().next().is_none() {
                let outcome = self.delete_held(service, &name, &mut held, None).await?;
                told.extend(outcome.notifications);
            } else if record != *held.record {
                self.save(service, &name, &mut held, record).await?;
            }
        }
        Ok(told)
    }
}
