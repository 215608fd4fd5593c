//! A node: its configuration, who has which affiliation, who is subscribed.

use std::collections::BTreeMap;

use jid::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::config::{Config, named};

named! {
    /// What somebody may do with a node (XEP-0060, 4.1). None is no entry.
    Affiliation {
        Owner = "owner",
        Publisher = "publisher",
        /// May publish and see nothing.
        PublishOnly = "publish-only",
        Member = "member",
        None = "none",
        Outcast = "outcast",
    }
}

named! {
    /// How far a subscription is (XEP-0060, 4.2). None is no entry; unconfigured ones do not exist here.
    SubscriptionState {
        Subscribed = "subscribed",
        /// An owner has to approve.
        Pending = "pending",
        None = "none",
    }
}

/// One entity's subscription; an entity has at most one per node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    pub state: SubscriptionState,
    pub subid: String,
    /// Whether events are sent (`pubsub#deliver`).
    pub deliver: bool,
}

/// A node as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub config: Config,
    pub affiliations: BTreeMap<BareJid, Affiliation>,
    pub subscriptions: BTreeMap<Jid, Subscription>,
    pub creator: BareJid,
    /// Milliseconds since 1970.
    pub created: i64,
}

impl Record {
    pub fn new(config: Config, creator: BareJid, created: i64) -> Self {
        Self {
            config,
            affiliations: BTreeMap::from([(creator.clone(), Affiliation::Owner)]),
            subscriptions: BTreeMap::new(),
            creator,
            created,
        }
    }

    pub fn affiliation(&self, jid: &BareJid) -> Affiliation {
        self.affiliations
            .get(jid)
            .copied()
            .unwrap_or(Affiliation::None)
    }

    /// Whether one of the entity's subscriptions, with its bare JID or a full one, is in effect.
    pub fn is_subscribed(&self, jid: &BareJid) -> bool {
        self.of(jid)
            .any(|(_, subscription)| subscription.state == SubscriptionState::Subscribed)
    }

    /// The subscriptions of an entity.
    pub fn of(&self, jid: &BareJid) -> impl Iterator<Item = (&Jid, &Subscription)> {
        let jid = jid.clone();
        self.subscriptions
            .iter()
            .filter(move |(subscriber, _)| subscriber.to_bare() == jid)
    }

    pub fn owners(&self) -> impl Iterator<Item = &BareJid> {
        self.affiliations
            .iter()
            .filter(|(_, affiliation)| **affiliation == Affiliation::Owner)
            .map(|(jid, _)| jid)
    }
}
