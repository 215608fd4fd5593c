use super::super::config::{AccessModel, Config};
use super::super::node::Subscription;
use super::*;

fn bare(jid: &str) -> BareJid {
    BareJid::new(jid).unwrap()
}

fn jid(jid: &str) -> Jid {
    Jid::new(jid).unwrap()
}

/// Juliet's contacts: Romeo has two resources that want events, the nurse one, Paris is nobody but there.
struct Contacts;

fn contact(jid: &BareJid) -> Relation {
    let group = match jid.as_str() {
        "juliet@capulet.example" => return Relation::owner(),
        "romeo@montague.example" => "Friends",
        "nurse@capulet.example" => "Servants",
        _ => return Relation::default(),
    };
    Relation {
        owner: false,
        presence: true,
        groups: vec![group.to_owned()],
    }
}

impl Audience for Contacts {
    fn relation<'a>(
        &'a self,
        _: &'a BareJid,
        _: &'a Record,
        jid: &'a BareJid,
    ) -> BoxFuture<'a, Relation> {
        Box::pin(async { contact(jid) })
    }

    fn is_present(&self, jid: &Jid) -> bool {
        jid.to_bare() == bare("nurse@capulet.example")
    }

    fn followers<'a>(&'a self, _: &'a BareJid, _: &'a str) -> BoxFuture<'a, Vec<(Jid, Relation)>> {
        let present = [
            "juliet@capulet.example/balcony",
            "romeo@montague.example/orchard",
            "romeo@montague.example/tomb",
            "nurse@capulet.example/chamber",
            "paris@verona.example/street",
        ];
        let present = present.map(|text| (jid(text), contact(&jid(text).to_bare())));
        Box::pin(async move { present.to_vec() })
    }
}

fn notification(access_model: AccessModel, subscribers: &[&str]) -> Notification {
    let config = Config {
        access_model,
        roster_groups_allowed: vec!["Friends".to_owned()],
        ..Config::personal()
    };
    let mut record = Record::new(config, bare("juliet@capulet.example"), 0);
    for subscriber in subscribers {
        let subscription = Subscription {
            state: SubscriptionState::Subscribed,
            subid: "1".to_owned(),
            deliver: true,
        };
        record.subscriptions.insert(jid(subscriber), subscription);
    }
    Notification {
        node: "n".to_owned(),
        recipients: Recipients::Node(Arc::new(record)),
        payload: event(of_node("purge", "n")),
        kind: NotificationType::Headline,
        delayed: None,
    }
}

#[tokio::test]
async fn events_reach_who_may_see_them_once() {
    struct Case {
        name: &'static str,
        access: AccessModel,
        subscribers: &'static [&'static str],
        reached: &'static [&'static str],
    }
    const BALCONY: &str = "juliet@capulet.example/balcony";
    const ORCHARD: &str = "romeo@montague.example/orchard";
    const TOMB: &str = "romeo@montague.example/tomb";
    const CHAMBER: &str = "nurse@capulet.example/chamber";
    const STREET: &str = "paris@verona.example/street";
    let cases = [
        Case {
            name: "open",
            access: AccessModel::Open,
            subscribers: &[],
            reached: &[BALCONY, ORCHARD, TOMB, CHAMBER, STREET],
        },
        Case {
            name: "presence",
            access: AccessModel::Presence,
            subscribers: &[],
            reached: &[BALCONY, ORCHARD, TOMB, CHAMBER],
        },
        Case {
            name: "roster",
            access: AccessModel::Roster,
            subscribers: &[],
            reached: &[BALCONY, ORCHARD, TOMB],
        },
        Case {
            name: "whitelist: the owner's resources",
            access: AccessModel::Whitelist,
            subscribers: &[],
            reached: &[BALCONY],
        },
        Case {
            name: "a bare JID whose resources are there",
            access: AccessModel::Presence,
            subscribers: &["romeo@montague.example"],
            reached: &[BALCONY, ORCHARD, TOMB, CHAMBER],
        },
        Case {
            name: "a resource of its own",
            access: AccessModel::Presence,
            subscribers: &["romeo@montague.example/work"],
            reached: &[
                BALCONY,
                ORCHARD,
                TOMB,
                CHAMBER,
                "romeo@montague.example/work",
            ],
        },
        Case {
            name: "a subscriber who may see it no more",
            access: AccessModel::Presence,
            subscribers: &["tybalt@capulet.example"],
            reached: &[BALCONY, ORCHARD, TOMB, CHAMBER],
        },
        Case {
            name: "a subscriber from elsewhere",
            access: AccessModel::Open,
            subscribers: &["tybalt@capulet.example"],
            reached: &[
                BALCONY,
                ORCHARD,
                TOMB,
                CHAMBER,
                STREET,
                "tybalt@capulet.example",
            ],
        },
    ];
    for case in cases {
        let notification = notification(case.access, case.subscribers);
        let reached = notification
            .addressees(&bare("juliet@capulet.example"), &Contacts)
            .await;
        let reached: Vec<&str> = reached.iter().map(Jid::as_str).collect();
        assert_eq!(reached, case.reached, "{}", case.name);
    }
}

#[tokio::test]
async fn who_turned_delivery_off_gets_nothing() {
    let mut notification = notification(AccessModel::Open, &["tybalt@capulet.example"]);
    if let Recipients::Node(record) = &mut notification.recipients {
        let record = Arc::make_mut(record);
        for subscription in record.subscriptions.values_mut() {
            subscription.deliver = false;
        }
    }
    let service = bare("pubsub.capulet.example");
    assert!(
        notification
            .addressees(&service, &Contacts)
            .await
            .iter()
            .all(|jid| jid.to_bare() != bare("tybalt@capulet.example"))
    );
}

#[tokio::test]
async fn where_presence_counts_only_who_is_there_is_told() {
    let subscribers = ["nurse@capulet.example/kitchen", "tybalt@capulet.example"];
    let mut notification = notification(AccessModel::Open, &subscribers);
    let service = bare("pubsub.capulet.example");
    let both = notification.addressees(&service, &Contacts).await;
    assert!(subscribers.iter().all(|name| both.contains(&jid(name))));
    if let Recipients::Node(record) = &mut notification.recipients {
        Arc::make_mut(record).config.presence_based_delivery = true;
    }
    let there = notification.addressees(&service, &Contacts).await;
    assert!(there.contains(&jid(subscribers[0])) && !there.contains(&jid(subscribers[1])));
}

#[tokio::test]
async fn a_message_says_from_whom_and_since_when() {
    let mut notification = notification(AccessModel::Open, &[]);
    notification.recipients = Recipients::These(vec![jid("romeo@montague.example/orchard")]);
    notification.delayed = Some(1_071_359_917_500);
    let service = bare("juliet@capulet.example");
    let addressees = notification.addressees(&service, &Contacts).await;
    let [to] = addressees.as_slice() else {
        panic!("one addressee was expected");
    };
    let message = notification.message(&service, to);
    assert_eq!(message.attr("from"), Some("juliet@capulet.example"));
    assert_eq!(message.attr("to"), Some("romeo@montague.example/orchard"));
    assert_eq!(message.attr("type"), Some("headline"));
    let delay = message.get_child("delay", ns::DELAY).unwrap();
    assert_eq!(delay.attr("stamp"), Some("2003-12-13T23:58:37.500Z"));
}
