//! Who may see, subscribe to, publish to and own a node (XEP-0060, 4.1 and 4.5). Pure decisions.

use jid::BareJid;

use super::config::{AccessModel, PublishModel};
use super::error;
use super::node::{Affiliation, Record, SubscriptionState};
use crate::server::StanzaError;

/// What somebody is to the account whose service it is, or to the pubsub service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// The account itself, or an administrator of the service: an owner of every node.
    pub owner: bool,
    /// Sees the account's presence (subscription `from` or `both` in its roster).
    pub presence: bool,
    /// The groups that the account's roster has them in.
    pub groups: Vec<String>,
}

impl Relation {
    pub fn owner() -> Self {
        Self {
            owner: true,
            ..Self::default()
        }
    }
}

/// An entity's affiliation, the service's owner being every node's.
pub fn affiliation(record: &Record, relation: &Relation, jid: &BareJid) -> Affiliation {
    if relation.owner {
        Affiliation::Owner
    } else {
        record.affiliation(jid)
    }
}

/// Whether an entity may retrieve items and get events (XEP-0060, 6.5.1 and 6.5.9).
pub fn may_read(record: &Record, relation: &Relation, jid: &BareJid) -> Result<(), StanzaError> {
    match affiliation(record, relation, jid) {
        Affiliation::Owner | Affiliation::Publisher | Affiliation::Member => return Ok(()),
        Affiliation::Outcast | Affiliation::PublishOnly => return Err(StanzaError::forbidden()),
        Affiliation::None => {}
    }
    match record.config.access_model {
        AccessModel::Presence | AccessModel::Roster if !relation.presence => Err(error::with(
            StanzaError::not_authorized(),
            "presence-subscription-required",
        )),
        AccessModel::Open | AccessModel::Presence => Ok(()),
        AccessModel::Roster => {
            let allowed = &record.config.roster_groups_allowed;
            if relation.groups.iter().any(|group| allowed.contains(group)) {
                Ok(())
            } else {
                Err(error::with(
                    StanzaError::not_authorized(),
                    "not-in-roster-group",
                ))
            }
        }
        AccessModel::Authorize if record.is_subscribed(jid) => Ok(()),
        AccessModel::Authorize => Err(error::with(StanzaError::not_authorized(), "not-subscribed")),
        AccessModel::Whitelist => Err(error::with(StanzaError::not_allowed(), "closed-node")),
    }
}

/// What a request to subscribe comes to (XEP-0060, 6.1).
pub fn may_subscribe(
    record: &Record,
    relation: &Relation,
    jid: &BareJid,
) -> Result<SubscriptionState, StanzaError> {
    let is_owner = affiliation(record, relation, jid) == Affiliation::Owner;
    if !record.config.subscribe && !is_owner {
        return Err(error::unsupported("subscribe"));
    }
    let must_ask = record.config.access_model == AccessModel::Authorize
        && affiliation(record, relation, jid) == Affiliation::None
        && !record.is_subscribed(jid);
    if must_ask {
        return Ok(SubscriptionState::Pending);
    }
    may_read(record, relation, jid).map(|()| SubscriptionState::Subscribed)
}

/// Whether an entity may publish (XEP-0060, 7.1.3).
pub fn may_publish(record: &Record, relation: &Relation, jid: &BareJid) -> Result<(), StanzaError> {
    let allowed = match affiliation(record, relation, jid) {
        Affiliation::Owner | Affiliation::Publisher | Affiliation::PublishOnly => true,
        Affiliation::Outcast => false,
        Affiliation::Member | Affiliation::None => match record.config.publish_model {
            PublishModel::Open => true,
            PublishModel::Subscribers => record.is_subscribed(jid),
            PublishModel::Publishers => false,
        },
    };
    if allowed {
        Ok(())
    } else {
        Err(StanzaError::forbidden())
    }
}

/// Whether an entity may remove an item (XEP-0060, 7.2.3): an owner any, others who may publish what they published.
pub fn may_retract(
    record: &Record,
    relation: &Relation,
    jid: &BareJid,
    publisher: Option<&BareJid>,
) -> Result<(), StanzaError> {
    if is_owner(record, relation, jid).is_ok() {
        return Ok(());
    }
    may_publish(record, relation, jid)?;
    if publisher == Some(jid) {
        Ok(())
    } else {
        Err(StanzaError::forbidden())
    }
}

/// Whether an entity may do what only owners may (XEP-0060, 8).
pub fn is_owner(record: &Record, relation: &Relation, jid: &BareJid) -> Result<(), StanzaError> {
    match affiliation(record, relation, jid) {
        Affiliation::Owner => Ok(()),
        _ => Err(StanzaError::forbidden()),
    }
}

#[cfg(test)]
mod tests;
