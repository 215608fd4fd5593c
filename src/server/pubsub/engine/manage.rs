//! Owners configure a node and give affiliations (XEP-0060, 8.2, 8.3 and 8.9).

use std::collections::BTreeSet;
use std::sync::Arc;

use jid::{BareJid, Jid};

use super::super::event::{Notification, Recipients, event, of_node};
use super::super::form::{self, Filled};
use super::super::node::{Affiliation, Record};
use super::super::{access, error};
use super::live::Held;
use super::{Actor, Engine, Outcome, common, owners, wrap};
use crate::server::StanzaError;
use crate::xmpp::element::element;
use crate::xmpp::ns;

impl Engine {
    /// A node of which the actor is an owner.
    pub(super) async fn owned(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
    ) -> Result<Held, StanzaError> {
        let held = self.existing(service, node).await?;
        access::is_owner(&held.record, &actor.relation, &actor.jid.to_bare())?;
        Ok(held)
    }

    pub(super) fn defaults(&self) -> Outcome {
        let (outer, mut inner) = owners("default", None);
        let config = (self.0.profile.defaults)("");
        inner.append_child(form::of_config(&config, "form"));
        Outcome::answer(wrap((outer, inner)))
    }

    pub(super) async fn configuration(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
    ) -> Result<Outcome, StanzaError> {
        let held = self.owned(service, actor, node).await?;
        let (outer, mut inner) = owners("configure", Some(node));
        inner.append_child(form::of_config(&held.record.config, "form"));
        Ok(Outcome::answer(wrap((outer, inner))))
    }

    pub(super) async fn configure(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        filled: &Filled,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self.owned(service, actor, node).await?;
        if filled.cancelled {
            return Ok(Outcome::default());
        }
        let config = filled.applied(&held.record.config)?;
        self.check_access_model(&config)?;
        let kept = if config.persist_items {
            config.kept(self.0.profile.limits.items)
        } else {
            0
        };
        let record = Record {
            config,
            ..Record::clone(&held.record)
        };
        self.save(service, node, &mut held, record).await?;
        held.transient = None;
        self.keep_newest(service, node, &mut held, kept).await?;
        let record = Arc::clone(&held.record);
        let told = record.config.notify_config && record.config.deliver_notifications;
        Ok(Outcome::default().notify(told.then(|| {
            let mut configuration = of_node("configuration", node);
            if record.config.deliver_payloads {
                configuration.append_child(form::of_config(&record.config, "result"));
            }
            Notification {
                node: node.to_owned(),
                payload: event(configuration),
                kind: record.config.notification_type,
                recipients: Recipients::Node(record),
                delayed: None,
            }
        })))
    }

    /// The affiliations that the actor has (XEP-0060, 5.7).
    pub(super) async fn affiliations(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: Option<String>,
    ) -> Result<Outcome, StanzaError> {
        let bare = actor.jid.to_bare();
        let (outer, mut inner) = common("affiliations", node.as_deref());
        for (name, record) in self.records(service, node.as_deref()).await? {
            // An administrator would have all of them.
            let affiliation = record.affiliation(&bare);
            if affiliation != Affiliation::None {
                let attributes = [("node", name.as_str()), ("affiliation", affiliation.name())];
                inner.append_child(element("affiliation", ns::PUBSUB, &attributes));
            }
        }
        Ok(Outcome::answer(wrap((outer, inner))))
    }

    pub(super) async fn affiliates(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
    ) -> Result<Outcome, StanzaError> {
        let held = self.owned(service, actor, node).await?;
        let (outer, mut inner) = owners("affiliations", Some(node));
        for (jid, affiliation) in &held.record.affiliations {
            let attributes = [("jid", jid.as_str()), ("affiliation", affiliation.name())];
            inner.append_child(element("affiliation", ns::PUBSUB_OWNER, &attributes));
        }
        Ok(Outcome::answer(wrap((outer, inner))))
    }

    pub(super) async fn set_affiliates(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        changes: Vec<(BareJid, Affiliation)>,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self.owned(service, actor, node).await?;
        let most = self.0.profile.limits.subscriptions;
        let record = with_affiliations(&held.record, &changes, most)?;
        self.save(service, node, &mut held, record).await?;
        let kind = held.record.config.notification_type;
        let told = changes.into_iter().map(|(jid, affiliation)| {
            let (outer, mut inner) = common("affiliations", Some(node));
            let attributes = [("jid", jid.as_str()), ("affiliation", affiliation.name())];
            inner.append_child(element("affiliation", ns::PUBSUB, &attributes));
            Notification {
                node: node.to_owned(),
                recipients: Recipients::These(vec![Jid::from(jid)]),
                payload: wrap((outer, inner)),
                kind,
                delayed: None,
            }
        });
        Ok(Outcome {
            answer: None,
            notifications: told.collect(),
        })
    }
}

/// The node with other affiliations; all of the changes, or none and the first one that cannot be (XEP-0060, 8.9.2.4).
fn with_affiliations(
    record: &Record,
    changes: &[(BareJid, Affiliation)],
    most: usize,
) -> Result<Record, StanzaError> {
    let distinct: BTreeSet<&BareJid> = changes.iter().map(|(jid, _)| jid).collect();
    if distinct.len() != changes.len() {
        return Err(StanzaError::bad_request().text("An entity is named twice"));
    }
    let mut changed = record.clone();
    for (jid, affiliation) in changes {
        match affiliation {
            Affiliation::None => drop(changed.affiliations.remove(jid)),
            other => drop(changed.affiliations.insert(jid.clone(), *other)),
        }
        if *affiliation == Affiliation::Outcast {
            let outcast = |subscriber: &Jid| subscriber.to_bare() == *jid;
            changed
                .subscriptions
                .retain(|subscriber, _| !outcast(subscriber));
        }
    }
    if changed.owners().next().is_none() {
        return Err(StanzaError::not_acceptable().text("A node has an owner"));
    }
    if changed.affiliations.len() > most {
        let error = StanzaError::policy_violation();
        return Err(error::with(error, "too-many-affiliations"));
    }
    Ok(changed)
}
