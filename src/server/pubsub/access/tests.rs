use jid::Jid;

use super::super::config::Config;
use super::super::node::Subscription;
use super::*;

const WHO: &str = "romeo@montague.example";

fn romeo() -> BareJid {
    BareJid::new(WHO).unwrap()
}

fn record(access: AccessModel, affiliation: Affiliation, state: SubscriptionState) -> Record {
    let config = Config {
        access_model: access,
        roster_groups_allowed: vec!["Friends".to_owned()],
        ..Config::personal()
    };
    let mut record = Record::new(config, BareJid::new("juliet@capulet.example").unwrap(), 0);
    if affiliation != Affiliation::None {
        record.affiliations.insert(romeo(), affiliation);
    }
    if state != SubscriptionState::None {
        let subscription = Subscription {
            state,
            subid: "1".to_owned(),
            deliver: true,
        };
        let subscriber = Jid::new(&format!("{WHO}/orchard")).unwrap();
        record.subscriptions.insert(subscriber, subscription);
    }
    record
}

fn relation(name: &str) -> Relation {
    Relation {
        owner: name == "owner",
        presence: matches!(name, "presence" | "friend" | "servant"),
        groups: match name {
            "friend" | "friend without presence" => vec!["Friends".to_owned()],
            "servant" => vec!["Servants".to_owned()],
            _ => Vec::new(),
        },
    }
}

/// The pubsub condition, or else the type of the error.
fn reason(error: &StanzaError) -> String {
    error.detail.as_ref().map_or_else(
        || format!("{:?}", error.condition),
        |detail| detail.name().to_owned(),
    )
}

#[test]
fn access_models_let_in_whom_they_name() {
    use AccessModel::{Authorize, Open, Presence, Roster, Whitelist};
    use Affiliation::{Member, None as Nobody, Outcast, Owner, PublishOnly, Publisher};
    use SubscriptionState::{None as Unsubscribed, Pending, Subscribed};
    struct Case {
        name: &'static str,
        node: (AccessModel, Affiliation, SubscriptionState),
        relation: &'static str,
        read: &'static str,
        subscribe: &'static str,
    }
    #[rustfmt::skip]
    let cases = [
        Case { name: "open to a stranger", node: (Open, Nobody, Unsubscribed), relation: "", read: "", subscribe: "subscribed" },
        Case { name: "open to an outcast", node: (Open, Outcast, Unsubscribed), relation: "", read: "Forbidden", subscribe: "Forbidden" },
        Case { name: "open to who only publishes", node: (Open, PublishOnly, Unsubscribed), relation: "", read: "Forbidden", subscribe: "Forbidden" },
        Case { name: "presence to a stranger", node: (Presence, Nobody, Unsubscribed), relation: "", read: "presence-subscription-required", subscribe: "presence-subscription-required" },
        Case { name: "presence to a contact", node: (Presence, Nobody, Unsubscribed), relation: "presence", read: "", subscribe: "subscribed" },
        Case { name: "presence to a member", node: (Presence, Member, Unsubscribed), relation: "", read: "", subscribe: "subscribed" },
        Case { name: "presence to an outcast", node: (Presence, Outcast, Unsubscribed), relation: "presence", read: "Forbidden", subscribe: "Forbidden" },
        Case { name: "roster to a friend", node: (Roster, Nobody, Unsubscribed), relation: "friend", read: "", subscribe: "subscribed" },
        Case { name: "roster to a servant", node: (Roster, Nobody, Unsubscribed), relation: "servant", read: "not-in-roster-group", subscribe: "not-in-roster-group" },
        Case { name: "roster to a friend who sees no presence", node: (Roster, Nobody, Unsubscribed), relation: "friend without presence", read: "presence-subscription-required", subscribe: "presence-subscription-required" },
        Case { name: "authorize to a stranger", node: (Authorize, Nobody, Unsubscribed), relation: "", read: "not-subscribed", subscribe: "pending" },
        Case { name: "authorize to who waits", node: (Authorize, Nobody, Pending), relation: "", read: "not-subscribed", subscribe: "pending" },
        Case { name: "authorize to a subscriber", node: (Authorize, Nobody, Subscribed), relation: "", read: "", subscribe: "subscribed" },
        Case { name: "authorize to a member", node: (Authorize, Member, Unsubscribed), relation: "", read: "", subscribe: "subscribed" },
        Case { name: "authorize to an outcast", node: (Authorize, Outcast, Unsubscribed), relation: "", read: "Forbidden", subscribe: "Forbidden" },
        Case { name: "whitelist to a contact", node: (Whitelist, Nobody, Unsubscribed), relation: "friend", read: "closed-node", subscribe: "closed-node" },
        Case { name: "whitelist to a subscriber from before", node: (Whitelist, Nobody, Subscribed), relation: "", read: "closed-node", subscribe: "closed-node" },
        Case { name: "whitelist to a member", node: (Whitelist, Member, Unsubscribed), relation: "", read: "", subscribe: "subscribed" },
        Case { name: "whitelist to a publisher", node: (Whitelist, Publisher, Unsubscribed), relation: "", read: "", subscribe: "subscribed" },
        Case { name: "whitelist to an owner", node: (Whitelist, Owner, Unsubscribed), relation: "", read: "", subscribe: "subscribed" },
        Case { name: "whitelist to the account", node: (Whitelist, Nobody, Unsubscribed), relation: "owner", read: "", subscribe: "subscribed" },
    ];
    for case in cases {
        let record = record(case.node.0, case.node.1, case.node.2);
        let relation = relation(case.relation);
        let read = may_read(&record, &relation, &romeo());
        let read = read.map_or_else(|error| reason(&error), |()| String::new());
        assert_eq!(read, case.read, "{}: read", case.name);
        let subscribe = may_subscribe(&record, &relation, &romeo());
        let subscribe = subscribe.map_or_else(|error| reason(&error), |state| state.name().into());
        assert_eq!(subscribe, case.subscribe, "{}: subscribe", case.name);
    }
}

#[test]
fn publish_models_let_publish_whom_they_name() {
    use Affiliation::{Member, None as Nobody, Outcast, Owner, PublishOnly, Publisher};
    use SubscriptionState::{None as Unsubscribed, Pending, Subscribed};
    struct Case {
        name: &'static str,
        model: PublishModel,
        who: (Affiliation, SubscriptionState),
        publish: bool,
    }
    #[rustfmt::skip]
    let cases = [
        Case { name: "a publisher", model: PublishModel::Publishers, who: (Publisher, Unsubscribed), publish: true },
        Case { name: "who only publishes", model: PublishModel::Publishers, who: (PublishOnly, Unsubscribed), publish: true },
        Case { name: "an owner", model: PublishModel::Publishers, who: (Owner, Unsubscribed), publish: true },
        Case { name: "a member", model: PublishModel::Publishers, who: (Member, Subscribed), publish: false },
        Case { name: "a subscriber", model: PublishModel::Subscribers, who: (Nobody, Subscribed), publish: true },
        Case { name: "who waits", model: PublishModel::Subscribers, who: (Nobody, Pending), publish: false },
        Case { name: "anybody", model: PublishModel::Open, who: (Nobody, Unsubscribed), publish: true },
        Case { name: "an outcast", model: PublishModel::Open, who: (Outcast, Subscribed), publish: false },
    ];
    for case in cases {
        let mut record = record(AccessModel::Open, case.who.0, case.who.1);
        record.config.publish_model = case.model;
        let publish = may_publish(&record, &Relation::default(), &romeo());
        assert_eq!(publish.is_ok(), case.publish, "{}", case.name);
    }
}

#[test]
fn an_item_is_removed_by_its_publisher_and_by_owners() {
    struct Case {
        name: &'static str,
        affiliation: Affiliation,
        own: bool,
        retract: bool,
    }
    #[rustfmt::skip]
    let cases = [
        Case { name: "an owner", affiliation: Affiliation::Owner, own: false, retract: true },
        Case { name: "its publisher", affiliation: Affiliation::Publisher, own: true, retract: true },
        Case { name: "another publisher", affiliation: Affiliation::Publisher, own: false, retract: false },
        Case { name: "who was its publisher", affiliation: Affiliation::None, own: true, retract: false },
    ];
    for case in cases {
        let record = record(AccessModel::Open, case.affiliation, SubscriptionState::None);
        let publisher = case.own.then(romeo);
        let retract = may_retract(&record, &Relation::default(), &romeo(), publisher.as_ref());
        assert_eq!(retract.is_ok(), case.retract, "{}", case.name);
    }
}
