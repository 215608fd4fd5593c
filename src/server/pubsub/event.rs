//! What others are told (XEP-0060, 7 and 8; XEP-0163, 4): an event as a value, and whom it reaches.

use std::sync::Arc;

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;

use super::access::{Relation, may_read};
use super::config::NotificationType;
use super::node::{Record, SubscriptionState};
use crate::server::stanza::Stanza;
use crate::server::{Server, random_id};
use crate::xmpp::element::element;
use crate::xmpp::{datetime, ns};

/// Whom an event is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Recipients {
    /// The node's subscribers and those who follow it by presence, as far as they may see it.
    Node(Arc<Record>),
    /// These, whatever they may see: it concerns themselves, or has been decided.
    These(Vec<Jid>),
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    pub node: String,
    pub recipients: Recipients,
    /// The message's payload, mostly an `<event/>`.
    pub payload: Element,
    pub kind: NotificationType,
    /// Milliseconds since 1970, for an item that was published earlier (XEP-0060, 7.1.2.1).
    pub delayed: Option<i64>,
}

/// Who is there to be told, and what they are to whose node it is.
pub trait Audience: Send + Sync {
    /// What somebody is to the owner of a personal service, or to the owners of a node of a service for all.
    fn relation<'a>(
        &'a self,
        service: &'a BareJid,
        record: &'a Record,
        jid: &'a BareJid,
    ) -> BoxFuture<'a, Relation>;

    /// The resources that are there and have asked for the node's events without a subscription (`+notify`), the
    /// owner's own among them.
    fn followers<'a>(
        &'a self,
        service: &'a BareJid,
        node: &'a str,
    ) -> BoxFuture<'a, Vec<(Jid, Relation)>>;

    /// Whether a subscriber is there, as far as this server knows (`pubsub#presence_based_delivery`).
    fn is_present(&self, jid: &Jid) -> bool;
}

impl Notification {
    /// Whom the event reaches, each once.
    pub async fn addressees(&self, service: &BareJid, audience: &dyn Audience) -> Vec<Jid> {
        let record = match &self.recipients {
            Recipients::These(jids) => return jids.clone(),
            Recipients::Node(record) => record,
        };
        let mut reached: Vec<Jid> = audience
            .followers(service, &self.node)
            .await
            .into_iter()
            .filter(|(jid, relation)| may_read(record, relation, &jid.to_bare()).is_ok())
            .map(|(jid, _)| jid)
            .collect();
        let followers = reached.len();
        for (subscriber, subscription) in &record.subscriptions {
            if subscription.state != SubscriptionState::Subscribed || !subscription.deliver {
                continue;
            }
            // Resources that are known to be there get it instead of their bare JID (XEP-0163, 4.3.2).
            let is_reached = reached.iter().take(followers).any(|jid| {
                jid == subscriber || (subscriber.is_bare() && jid.to_bare() == subscriber.to_bare())
            });
            if is_reached {
                continue;
            }
            if record.config.presence_based_delivery && !audience.is_present(subscriber) {
                continue;
            }
            let bare = subscriber.to_bare();
            let relation = audience.relation(service, record, &bare).await;
            if may_read(record, &relation, &bare).is_ok() {
                reached.push(subscriber.clone());
            }
        }
        reached
    }

    /// Sends each its own copy, one after the other: there may be thousands of a large item.
    pub async fn send(&self, server: &Server, service: &BareJid, audience: &dyn Audience) {
        for to in self.addressees(service, audience).await {
            let message = self.message(service, &to);
            if let Some(stanza) = Stanza::new(service.clone().into(), Some(to), message) {
                server.route(stanza, None).await;
            }
        }
    }

    fn message(&self, service: &BareJid, to: &Jid) -> Element {
        let mut message = element(
            "message",
            ns::JABBER_CLIENT,
            &[
                ("from", service.as_str()),
                ("to", to.as_str()),
                ("id", &random_id()),
                ("type", self.kind.name()),
            ],
        );
        message.append_child(self.payload.clone());
        if let Some(stamp) = self.delayed.map(datetime::stamp) {
            message.append_child(element(
                "delay",
                ns::DELAY,
                &[("from", service.as_str()), ("stamp", &stamp)],
            ));
        }
        message
    }
}

/// `<event/>` around what happened.
pub(super) fn event(inner: Element) -> Element {
    let mut event = Element::bare("event", ns::PUBSUB_EVENT);
    event.append_child(inner);
    event
}

pub(super) fn of_node(name: &str, node: &str) -> Element {
    element(name, ns::PUBSUB_EVENT, &[("node", node)])
}

/// Items that were removed.
pub(super) fn retracted(node: &str, ids: &[String]) -> Element {
    let mut items = of_node("items", node);
    for id in ids {
        items.append_child(element("retract", ns::PUBSUB_EVENT, &[("id", id)]));
    }
    event(items)
}

#[cfg(test)]
mod tests;
