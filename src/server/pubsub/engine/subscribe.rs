//! Subscriptions come, change and go (XEP-0060, 6.1 to 6.3, 5.6, 8.6 and 8.8).

use jid::{BareJid, Jid};
use minidom::Element;

use super::super::config::{NotificationType, SendLast};
use super::super::event::{Notification, Recipients, event};
use super::super::form::{self, Filled, SUBSCRIBE_AUTHORIZATION, field};
use super::super::node::{Record, Subscription, SubscriptionState};
use super::super::request::Authorization;
use super::super::{access, error};
use super::live::Held;
use super::{Actor, Engine, Outcome, common, owners, wrap};
use crate::server::{ErrorType, StanzaError, random_id};
use crate::xmpp::element::{element, set};
use crate::xmpp::ns;

/// `<subscription/>`, in the namespace of its place.
fn subscription_element(
    namespace: &str,
    node: Option<&str>,
    jid: &Jid,
    subscription: &Subscription,
) -> Element {
    let mut entry = element("subscription", namespace, &[]);
    if let Some(node) = node {
        set(&mut entry, "node", node);
    }
    set(&mut entry, "jid", jid.as_str());
    set(&mut entry, "subid", &subscription.subid);
    set(&mut entry, "subscription", subscription.state.name());
    entry
}

fn not_subscribed() -> StanzaError {
    let mut error = error::with(StanzaError::unexpected_request(), "not-subscribed");
    error.kind = ErrorType::Cancel;
    error
}

/// The subscription that is spoken of (XEP-0060, 6.2.3): the actor's own, with its id if one is named.
fn own<'a>(
    record: &'a Record,
    actor: &Actor,
    jid: &Jid,
    subid: Option<&str>,
) -> Result<&'a Subscription, StanzaError> {
    if jid.to_bare() != actor.jid.to_bare() && !actor.relation.owner {
        return Err(StanzaError::forbidden());
    }
    let subscription = record.subscriptions.get(jid).ok_or_else(not_subscribed)?;
    if subid.is_some_and(|subid| subid != subscription.subid) {
        return Err(error::with(StanzaError::not_acceptable(), "invalid-subid"));
    }
    Ok(subscription)
}

/// One person's devices, each with a subscription of its own.
const MOST_OF_ONE: usize = 10;

impl Engine {
    pub(super) async fn subscribe(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        jid: Jid,
        options: Option<Filled>,
    ) -> Result<Outcome, StanzaError> {
        let bare = actor.jid.to_bare();
        if jid.to_bare() != bare {
            return Err(error::with(StanzaError::bad_request(), "invalid-jid"));
        }
        let mut held = self.existing(service, node).await?;
        let relation = actor.relation_to(service, &held.record).await;
        let state = access::may_subscribe(&held.record, &relation, &bare)?;
        let before = held.record.subscriptions.get(&jid);
        if state == SubscriptionState::Pending && before.is_some() {
            // 6.1.3.7: who waits is not waiting anew.
            let error = StanzaError::not_authorized();
            return Err(error::with(error, "pending-subscription"));
        }
        let is_new = before.is_none();
        let subscribers = held.record.subscriptions.keys();
        let own = subscribers.filter(|other| other.to_bare() == bare).count();
        let is_full = held.record.subscriptions.len() >= self.0.profile.limits.subscriptions;
        if is_new && (is_full || own >= MOST_OF_ONE) {
            let mut error = error::with(StanzaError::policy_violation(), "too-many-subscriptions");
            error.kind = ErrorType::Wait;
            return Err(error);
        }
        let deliver = before.is_none_or(|before| before.deliver);
        let subscription = Subscription {
            state,
            subid: before.map_or_else(random_id, |before| before.subid.clone()),
            deliver: options.map_or(Ok(deliver), |options| form::deliver(&options, deliver))?,
        };
        let mut record = Record::clone(&held.record);
        record
            .subscriptions
            .insert(jid.clone(), subscription.clone());
        self.save(service, node, &mut held, record).await?;
        let (mut answer, _) = common("subscription", None);
        answer.append_child(subscription_element(
            ns::PUBSUB,
            Some(node),
            &jid,
            &subscription,
        ));
        let told = match state {
            SubscriptionState::Pending if is_new => Some(authorization_request(
                node,
                &jid,
                &subscription,
                &held.record,
            )),
            SubscriptionState::Subscribed => self.welcome(service, node, &mut held, &jid).await?,
            _ => None,
        };
        Ok(Outcome::answer(answer).notify(told))
    }

    /// The last item, for a new subscriber (XEP-0060, 6.1.7).
    async fn welcome(
        &self,
        service: &BareJid,
        node: &str,
        held: &mut Held,
        jid: &Jid,
    ) -> Result<Option<Notification>, StanzaError> {
        if held.record.config.send_last_published_item == SendLast::Never {
            return Ok(None);
        }
        self.last_event(service, node, held, jid).await
    }

    pub(super) async fn unsubscribe(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        jid: &Jid,
        subid: Option<String>,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self.existing(service, node).await?;
        own(&held.record, actor, jid, subid.as_deref())?;
        let mut record = Record::clone(&held.record);
        record.subscriptions.remove(jid);
        self.save(service, node, &mut held, record).await?;
        Ok(Outcome::default())
    }

    pub(super) async fn options(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        jid: &Jid,
        subid: Option<String>,
    ) -> Result<Outcome, StanzaError> {
        let held = self.existing(service, node).await?;
        let subscription = own(&held.record, actor, jid, subid.as_deref())?;
        let (outer, mut inner) = common("options", Some(node));
        set(&mut inner, "jid", jid.as_str());
        inner.append_child(form::of_subscription(subscription.deliver));
        Ok(Outcome::answer(wrap((outer, inner))))
    }

    pub(super) async fn set_options(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        jid: &Jid,
        subid: Option<String>,
        filled: &Filled,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self.existing(service, node).await?;
        let before = own(&held.record, actor, jid, subid.as_deref())?;
        if filled.cancelled {
            return Ok(Outcome::default());
        }
        let deliver = form::deliver(filled, before.deliver)?;
        let mut record = Record::clone(&held.record);
        if let Some(subscription) = record.subscriptions.get_mut(jid) {
            subscription.deliver = deliver;
        }
        self.save(service, node, &mut held, record).await?;
        Ok(Outcome::default())
    }

    pub(super) async fn subscriptions(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: Option<String>,
    ) -> Result<Outcome, StanzaError> {
        let bare = actor.jid.to_bare();
        let (outer, mut inner) = common("subscriptions", node.as_deref());
        for (name, record) in self.records(service, node.as_deref()).await? {
            for (jid, subscription) in record.of(&bare) {
                let entry = subscription_element(ns::PUBSUB, Some(&name), jid, subscription);
                inner.append_child(entry);
            }
        }
        Ok(Outcome::answer(wrap((outer, inner))))
    }

    pub(super) async fn subscribers(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
    ) -> Result<Outcome, StanzaError> {
        let held = self.owned(service, actor, node).await?;
        let (outer, mut inner) = owners("subscriptions", Some(node));
        for (jid, subscription) in &held.record.subscriptions {
            inner.append_child(subscription_element(
                ns::PUBSUB_OWNER,
                None,
                jid,
                subscription,
            ));
        }
        Ok(Outcome::answer(wrap((outer, inner))))
    }

    pub(super) async fn set_subscribers(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        changes: Vec<(Jid, SubscriptionState)>,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self.owned(service, actor, node).await?;
        let mut record = Record::clone(&held.record);
        let mut told = Vec::with_capacity(changes.len());
        for (jid, state) in changes {
            let subscription = Subscription {
                state,
                ..record
                    .subscriptions
                    .remove(&jid)
                    .unwrap_or_else(|| Subscription {
                        state,
                        subid: random_id(),
                        deliver: true,
                    })
            };
            told.push(changed(node, &jid, &subscription, &record));
            if state != SubscriptionState::None {
                record.subscriptions.insert(jid, subscription);
            }
        }
        if record.subscriptions.len() > self.0.profile.limits.subscriptions {
            let error = StanzaError::policy_violation();
            return Err(error::with(error, "too-many-subscriptions"));
        }
        self.save(service, node, &mut held, record).await?;
        Ok(Outcome {
            answer: None,
            notifications: told,
        })
    }

    /// An owner's answer to a request for a subscription (XEP-0060, 8.6). Nothing happens where nobody waits.
    pub async fn authorize(
        &self,
        service: &BareJid,
        actor: &Actor,
        answer: &Authorization,
    ) -> Result<Vec<Notification>, StanzaError> {
        let mut held = self.owned(service, actor, &answer.node).await?;
        let waits = held
            .record
            .subscriptions
            .get(&answer.jid)
            .is_some_and(|subscription| {
                subscription.state == SubscriptionState::Pending
                    && answer
                        .subid
                        .as_ref()
                        .is_none_or(|subid| *subid == subscription.subid)
            });
        if !waits {
            return Ok(Vec::new());
        }
        let state = if answer.allow {
            SubscriptionState::Subscribed
        } else {
            SubscriptionState::None
        };
        let mut record = Record::clone(&held.record);
        let Some(mut subscription) = record.subscriptions.remove(&answer.jid) else {
            return Ok(Vec::new());
        };
        subscription.state = state;
        let mut told = vec![changed(&answer.node, &answer.jid, &subscription, &record)];
        if answer.allow {
            record
                .subscriptions
                .insert(answer.jid.clone(), subscription);
        }
        self.save(service, &answer.node, &mut held, record).await?;
        if answer.allow {
            told.extend(
                self.welcome(service, &answer.node, &mut held, &answer.jid)
                    .await?,
            );
        }
        Ok(told)
    }
}

/// A subscriber is told that an owner has changed the subscription (XEP-0060, 8.8.4).
fn changed(node: &str, jid: &Jid, subscription: &Subscription, record: &Record) -> Notification {
    Notification {
        node: node.to_owned(),
        recipients: Recipients::These(vec![jid.clone()]),
        payload: event(subscription_element(
            ns::PUBSUB_EVENT,
            Some(node),
            jid,
            subscription,
        )),
        kind: record.config.notification_type,
        delayed: None,
    }
}

/// The owners are asked (XEP-0060, 8.6).
fn authorization_request(
    node: &str,
    jid: &Jid,
    subscription: &Subscription,
    record: &Record,
) -> Notification {
    let fields = [
        field("pubsub#subid", "hidden", &[&subscription.subid]),
        field("pubsub#node", "text-single", &[node]),
        field("pubsub#subscriber_jid", "jid-single", &[jid.as_str()]),
        field("pubsub#allow", "boolean", &["0"]),
    ];
    Notification {
        node: node.to_owned(),
        recipients: Recipients::These(record.owners().cloned().map(Jid::from).collect()),
        payload: form::form("form", SUBSCRIBE_AUTHORIZATION, fields),
        kind: NotificationType::Normal,
        delayed: None,
    }
}
