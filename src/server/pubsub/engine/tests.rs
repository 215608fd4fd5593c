use std::sync::atomic::{AtomicI64, Ordering};

use super::super::access::Relation;
use super::super::event::Recipients;
use super::super::page::Paging;
use super::super::request::Authorization;
use super::*;

const JULIET: &str = "juliet@capulet.example";
const ROMEO: &str = "romeo@montague.example/orchard";

fn juliet() -> BareJid {
    BareJid::new(JULIET).unwrap()
}

fn personal() -> Profile {
    Profile {
        defaults: |_| Config::personal(),
        access_models: &[
            AccessModel::Open,
            AccessModel::Presence,
            AccessModel::Roster,
            AccessModel::Authorize,
            AccessModel::Whitelist,
        ],
        auto_create: true,
        limits: Limits {
            nodes: 3,
            nodes_per_creator: 3,
            items: 5,
            item_bytes: 200,
            node_bytes: 600,
            creator_bytes: 1_100,
            subscriptions: 2,
            services: 2,
        },
    }
}

fn engine() -> Engine {
    Engine::new(Storage::in_memory().unwrap(), personal())
}

fn owner() -> Actor {
    Actor::owner(Jid::new("juliet@capulet.example/balcony").unwrap())
}

fn contact() -> Actor {
    Actor {
        jid: Jid::new(ROMEO).unwrap(),
        relation: Relation {
            presence: true,
            ..Relation::default()
        },
        may_create: false,
        rosters: None,
    }
}

fn stranger() -> Actor {
    Actor {
        relation: Relation::default(),
        ..contact()
    }
}

/// Asks for what the XML says: a get for what only reads.
async fn ask(engine: &Engine, actor: &Actor, inner: &str) -> Result<Outcome, StanzaError> {
    let owners = inner.starts_with("<owner-");
    let namespace = if owners { ns::PUBSUB_OWNER } else { ns::PUBSUB };
    let inner = inner.replace("owner-", "");
    let pubsub = format!("<pubsub xmlns='{namespace}'>{inner}</pubsub>")
        .parse()
        .unwrap();
    // What carries something to be set is a set; else what can be a get is one.
    let carries = inner.contains("jabber:x:data") || inner.contains("affiliation=");
    let request = Request::parse(carries, &pubsub).or_else(|_| Request::parse(true, &pubsub))?;
    engine.handle(&juliet(), actor, request).await
}

fn options(fields: &[(&str, &str)]) -> String {
    use std::fmt::Write;
    let mut text = String::from("<x xmlns='jabber:x:data' type='submit'>");
    for (var, value) in fields {
        let value = format!("<field var='pubsub#{var}'><value>{value}</value></field>");
        write!(text, "{value}").unwrap();
    }
    text + "</x>"
}

fn publish(node: &str, id: &str, options: &str) -> String {
    let options = if options.is_empty() {
        String::new()
    } else {
        format!("<publish-options>{options}</publish-options>")
    };
    format!(
        "<publish node='{node}'><item id='{id}'><x xmlns='urn:x'>{id}</x></item></publish>{options}"
    )
}

/// The ids of the items that somebody is answered.
async fn ids(engine: &Engine, actor: &Actor, request: &str) -> Vec<String> {
    let outcome = ask(engine, actor, request).await.unwrap();
    let answer = outcome.answer.unwrap();
    let items = answer.get_child("items", ns::PUBSUB).unwrap();
    items
        .children()
        .map(|item| item.attr("id").unwrap().to_owned())
        .collect()
}

fn condition(error: &StanzaError) -> String {
    let detail = error.detail.as_ref().map_or("", |detail| detail.name());
    format!("{:?} {detail}", error.condition).trim().to_owned()
}

async fn refused(engine: &Engine, actor: &Actor, request: &str) -> String {
    match ask(engine, actor, request).await {
        Ok(_) => "done".to_owned(),
        Err(error) => condition(&error),
    }
}

#[tokio::test]
async fn publishing_creates_a_node_with_its_options_and_checks_them_later() {
    let engine = engine();
    let open = options(&[("access_model", "open"), ("max_items", "max")]);
    let outcome = ask(&engine, &owner(), &publish("n", "a", &open))
        .await
        .unwrap();
    let [notification] = outcome.notifications.as_slice() else {
        panic!("one event was expected");
    };
    let text = String::from(&notification.payload);
    assert!(text.contains("<x xmlns=\"urn:x\">a</x>") || text.contains("<x xmlns='urn:x'>a</x>"));
    assert!(matches!(&notification.recipients, Recipients::Node(_)));
    ask(&engine, &owner(), &publish("n", "b", &open))
        .await
        .unwrap();
    assert_eq!(
        ids(&engine, &stranger(), "<items node='n'/>").await,
        ["a", "b"]
    );
    let closed = options(&[("access_model", "whitelist")]);
    let error = refused(&engine, &owner(), &publish("n", "c", &closed)).await;
    assert_eq!(error, "Conflict precondition-not-met");
}

#[tokio::test]
async fn nodes_and_items_survive_a_restart() {
    let storage = Storage::in_memory().unwrap();
    let before = Engine::new(storage.clone(), personal());
    let many = options(&[("max_items", "max")]);
    for id in ["a", "b", "c", "a"] {
        ask(&before, &owner(), &publish("n", id, &many))
            .await
            .unwrap();
    }
    let after = Engine::new(storage, personal());
    // What was published again is the newest.
    assert_eq!(
        ids(&after, &contact(), "<items node='n'/>").await,
        ["b", "c", "a"]
    );
    assert_eq!(after.newest(&juliet(), "n").await.unwrap().unwrap().id, "a");
    ask(&after, &owner(), "<owner-delete node='n'/>")
        .await
        .unwrap();
    assert_eq!(
        refused(&after, &owner(), "<items node='n'/>").await,
        "ItemNotFound"
    );
    // A new node of that name has none of the old items.
    ask(&after, &owner(), "<create node='n'/>").await.unwrap();
    assert!(ids(&after, &owner(), "<items node='n'/>").await.is_empty());
}

#[tokio::test]
async fn a_node_keeps_as_many_items_as_it_may() {
    struct Case {
        name: &'static str,
        options: &'static [(&'static str, &'static str)],
        kept: &'static [&'static str],
    }
    let cases = [
        Case {
            name: "one by default",
            options: &[],
            kept: &["6"],
        },
        Case {
            name: "three",
            options: &[("max_items", "3")],
            kept: &["4", "5", "6"],
        },
        Case {
            name: "the service's most",
            options: &[("max_items", "max")],
            kept: &["2", "3", "4", "5", "6"],
        },
        Case {
            name: "more than that",
            options: &[("max_items", "10000")],
            kept: &["2", "3", "4", "5", "6"],
        },
        Case {
            name: "the last one, of a node that keeps none",
            options: &[("persist_items", "0")],
            kept: &["6"],
        },
    ];
    for case in cases {
        let engine = engine();
        let form = options(case.options);
        for id in ["1", "2", "3", "4", "5", "6"] {
            ask(&engine, &owner(), &publish("n", id, &form))
                .await
                .unwrap();
        }
        assert_eq!(
            ids(&engine, &contact(), "<items node='n'/>").await,
            case.kept,
            "{}",
            case.name
        );
    }
}

#[tokio::test]
async fn items_are_found_by_id_number_and_page() {
    let engine = engine();
    let many = options(&[("max_items", "max")]);
    for id in ["a", "b", "c", "d", "e"] {
        ask(&engine, &owner(), &publish("n", id, &many))
            .await
            .unwrap();
    }
    let by_id = "<items node='n'><item id='d'/><item id='b'/><item id='z'/></items>";
    assert_eq!(ids(&engine, &owner(), by_id).await, ["b", "d"]);
    assert_eq!(
        ids(&engine, &owner(), "<items node='n' max_items='2'/>").await,
        ["d", "e"]
    );
    let page = "<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><after>b</after></set>";
    assert_eq!(ids(&engine, &owner(), page).await, ["c", "d"]);
    let answer = ask(&engine, &owner(), page).await.unwrap().answer.unwrap();
    assert_eq!(answer.children().next().unwrap().name(), "items");
    let set = answer.get_child("set", ns::RSM).unwrap();
    assert_eq!(set.get_child("count", ns::RSM).unwrap().text(), "5");
}

#[tokio::test]
async fn what_may_not_be_is_refused_for_its_reason() {
    struct Case {
        name: &'static str,
        actor: fn() -> Actor,
        request: String,
        error: &'static str,
    }
    let engine = engine();
    let whitelist = options(&[("access_model", "whitelist"), ("max_items", "max")]);
    ask(&engine, &owner(), &publish("closed", "a", &whitelist))
        .await
        .unwrap();
    ask(&engine, &owner(), &publish("shown", "a", ""))
        .await
        .unwrap();
    let long = "x".repeat(300);
    #[rustfmt::skip]
    let cases = [
        Case { name: "a stranger reads", actor: stranger, request: "<items node='shown'/>".into(), error: "NotAuthorized presence-subscription-required" },
        Case { name: "a contact reads a private node", actor: contact, request: "<items node='closed'/>".into(), error: "NotAllowed closed-node" },
        Case { name: "a contact publishes", actor: contact, request: publish("shown", "b", ""), error: "Forbidden" },
        Case { name: "a contact creates by publishing", actor: contact, request: publish("new", "b", ""), error: "ItemNotFound" },
        Case { name: "a contact creates", actor: contact, request: "<create node='new'/>".into(), error: "Forbidden" },
        Case { name: "a contact configures", actor: contact, request: "<owner-configure node='shown'/>".into(), error: "Forbidden" },
        Case { name: "a contact deletes", actor: contact, request: "<owner-delete node='shown'/>".into(), error: "Forbidden" },
        Case { name: "a contact purges", actor: contact, request: "<owner-purge node='shown'/>".into(), error: "Forbidden" },
        Case { name: "a contact retracts", actor: contact, request: "<retract node='shown'><item id='a'/></retract>".into(), error: "Forbidden" },
        Case { name: "a contact looks at the affiliations", actor: contact, request: "<owner-affiliations node='shown'/>".into(), error: "Forbidden" },
        Case { name: "creating it again", actor: owner, request: "<create node='shown'/>".into(), error: "Conflict" },
        Case { name: "no such node", actor: owner, request: "<items node='none'/>".into(), error: "ItemNotFound" },
        Case { name: "no such item", actor: owner, request: "<retract node='shown'><item id='z'/></retract>".into(), error: "ItemNotFound" },
        Case { name: "retracting nothing", actor: owner, request: "<retract node='shown'/>".into(), error: "BadRequest item-required" },
        Case { name: "no item", actor: owner, request: "<publish node='shown'/>".into(), error: "BadRequest item-required" },
        Case { name: "no payload", actor: owner, request: "<publish node='shown'><item/></publish>".into(), error: "BadRequest payload-required" },
        Case { name: "too big", actor: owner, request: publish("shown", &long, ""), error: "NotAcceptable payload-too-big" },
        Case { name: "too big for a new node", actor: owner, request: publish("new", &long, ""), error: "NotAcceptable payload-too-big" },
        Case { name: "which was not left behind", actor: owner, request: "<items node='new'/>".into(), error: "ItemNotFound" },
        Case { name: "subscribing another", actor: contact, request: "<subscribe node='shown' jid='paris@verona.example'/>".into(), error: "BadRequest invalid-jid" },
        Case { name: "subscribing to a private node", actor: contact, request: format!("<subscribe node='closed' jid='{ROMEO}'/>"), error: "NotAllowed closed-node" },
        Case { name: "unsubscribing who is not", actor: contact, request: format!("<unsubscribe node='shown' jid='{ROMEO}'/>"), error: "UnexpectedRequest not-subscribed" },
        Case { name: "the last owner", actor: owner, request: format!("<owner-affiliations node='shown'><affiliation jid='{JULIET}' affiliation='none'/></affiliations>").replace("</affiliations>", "</owner-affiliations>"), error: "NotAcceptable" },
    ];
    for case in cases {
        let error = refused(&engine, &(case.actor)(), &case.request).await;
        assert_eq!(error, case.error, "{}", case.name);
    }
}

#[tokio::test]
async fn nodes_bytes_and_subscriptions_are_bounded() {
    let engine = engine();
    for node in ["1", "2", "3"] {
        ask(&engine, &owner(), &format!("<create node='{node}'/>"))
            .await
            .unwrap();
    }
    let error = refused(&engine, &owner(), "<create node='4'/>").await;
    assert_eq!(error, "PolicyViolation max-nodes-exceeded");
    for who in ["a", "b", "c"] {
        let actor = Actor {
            jid: Jid::new(&format!("{who}@montague.example")).unwrap(),
            ..contact()
        };
        let request = format!("<subscribe node='1' jid='{who}@montague.example'/>");
        let answer = refused(&engine, &actor, &request).await;
        let expected = if who == "c" {
            "PolicyViolation too-many-subscriptions"
        } else {
            "done"
        };
        assert_eq!(answer, expected);
    }
    let many = options(&[("max_items", "max")]);
    ask(
        &engine,
        &owner(),
        &format!("<owner-configure node='2'>{many}</owner-configure>"),
    )
    .await
    .unwrap();
    let big = "y".repeat(150);
    let item = |id: &str| {
        format!("<publish node='2'><item id='{id}'><x xmlns='urn:x'>{big}</x></item></publish>")
    };
    for id in ["a", "b", "c"] {
        ask(&engine, &owner(), &item(id)).await.unwrap();
    }
    assert_eq!(
        refused(&engine, &owner(), &item("d")).await,
        "PolicyViolation"
    );
}

#[tokio::test]
async fn the_bytes_of_all_nodes_of_an_account_are_bounded_also_after_a_restart() {
    let storage = Storage::in_memory().unwrap();
    let engine = Engine::new(storage.clone(), personal());
    let many = options(&[("max_items", "max")]);
    for node in ["1", "2", "3"] {
        let create = format!("<create node='{node}'/>");
        ask(&engine, &owner(), &create).await.unwrap();
        let configure = format!("<owner-configure node='{node}'>{many}</owner-configure>");
        ask(&engine, &owner(), &configure).await.unwrap();
    }
    let big = "y".repeat(150);
    let item = |node: &str, id: &str| {
        format!(
            "<publish node='{node}'><item id='{id}'><x xmlns='urn:x'>{big}</x></item></publish>"
        )
    };
    for (node, id) in [
        ("1", "a"),
        ("1", "b"),
        ("1", "c"),
        ("2", "a"),
        ("2", "b"),
        ("2", "c"),
    ] {
        ask(&engine, &owner(), &item(node, id)).await.unwrap();
    }
    let next = item("3", "a");
    assert_eq!(refused(&engine, &owner(), &next).await, "PolicyViolation");
    let engine = Engine::new(storage, personal());
    assert_eq!(refused(&engine, &owner(), &next).await, "PolicyViolation");
    let retract = "<retract node='1'><item id='a'/></retract>";
    ask(&engine, &owner(), retract).await.unwrap();
    assert_eq!(refused(&engine, &owner(), &next).await, "done");
}

#[tokio::test]
async fn services_that_are_forgotten_are_read_again() {
    let engine = engine();
    for who in ["a", "b", "c", "d", "a"] {
        let service = BareJid::new(&format!("{who}@capulet.example")).unwrap();
        let publish = publish("n", "i", "");
        let pubsub = format!("<pubsub xmlns='{}'>{publish}</pubsub>", ns::PUBSUB);
        let request = Request::parse(true, &pubsub.parse().unwrap()).unwrap();
        engine.handle(&service, &owner(), request).await.unwrap();
        assert_eq!(engine.stored(&service, "n").await.unwrap().len(), 1);
    }
    let services = engine.0.services.lock().unwrap();
    assert!(services.len() <= 2);
}

#[tokio::test]
async fn items_expire() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    let clock = || NOW.load(Ordering::Relaxed);
    let engine = Engine::with_clock(Storage::in_memory().unwrap(), personal(), clock);
    let expire = options(&[("max_items", "max"), ("item_expire", "10")]);
    ask(&engine, &owner(), &publish("n", "a", &expire))
        .await
        .unwrap();
    NOW.store(9_000, Ordering::Relaxed);
    ask(&engine, &owner(), &publish("n", "b", &expire))
        .await
        .unwrap();
    assert_eq!(
        ids(&engine, &owner(), "<items node='n'/>").await,
        ["a", "b"]
    );
    NOW.store(10_001, Ordering::Relaxed);
    assert_eq!(ids(&engine, &owner(), "<items node='n'/>").await, ["b"]);
}

#[tokio::test]
async fn a_subscription_waits_for_an_owner() {
    let engine = engine();
    let authorize = options(&[("access_model", "authorize")]);
    ask(&engine, &owner(), &publish("n", "a", &authorize))
        .await
        .unwrap();
    let subscribe = format!("<subscribe node='n' jid='{ROMEO}'/>");
    let outcome = ask(&engine, &stranger(), &subscribe).await.unwrap();
    let answer = outcome.answer.unwrap();
    let subscription = answer.get_child("subscription", ns::PUBSUB).unwrap();
    assert_eq!(subscription.attr("subscription"), Some("pending"));
    let [request] = outcome.notifications.as_slice() else {
        panic!("the owner was not asked");
    };
    let asked = Recipients::These(vec![Jid::from(juliet())]);
    assert_eq!(request.recipients, asked);
    let error = refused(&engine, &stranger(), "<items node='n'/>").await;
    assert_eq!(error, "NotAuthorized not-subscribed");
    let answer = Authorization {
        node: "n".to_owned(),
        jid: Jid::new(ROMEO).unwrap(),
        subid: None,
        allow: true,
    };
    assert!(
        engine
            .authorize(&juliet(), &stranger(), &answer)
            .await
            .is_err()
    );
    let told = engine
        .authorize(&juliet(), &owner(), &answer)
        .await
        .unwrap();
    // That it was approved, and the last item.
    assert_eq!(told.len(), 2);
    assert_eq!(ids(&engine, &stranger(), "<items node='n'/>").await, ["a"]);
    assert!(
        engine
            .authorize(&juliet(), &owner(), &answer)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_subscriber_has_options_and_gets_the_last_item() {
    let engine = engine();
    ask(&engine, &owner(), &publish("n", "a", ""))
        .await
        .unwrap();
    let subscribe = format!("<subscribe node='n' jid='{ROMEO}'/>");
    let outcome = ask(&engine, &contact(), &subscribe).await.unwrap();
    assert!(outcome.notifications[0].delayed.is_some());
    let off = options(&[("deliver", "0")]);
    let set = format!("<options node='n' jid='{ROMEO}'>{off}</options>");
    let set = format!("<pubsub xmlns='{}'>{set}</pubsub>", ns::PUBSUB)
        .parse()
        .unwrap();
    let request = Request::parse(true, &set).unwrap();
    engine.handle(&juliet(), &contact(), request).await.unwrap();
    let get = format!("<options node='n' jid='{ROMEO}'/>");
    let answer = ask(&engine, &contact(), &get)
        .await
        .unwrap()
        .answer
        .unwrap();
    assert!(String::from(&answer).contains("<value>0</value>"));
    let wrong = format!("<unsubscribe node='n' jid='{ROMEO}' subid='z'/>");
    assert_eq!(
        refused(&engine, &contact(), &wrong).await,
        "NotAcceptable invalid-subid"
    );
    let answer = ask(&engine, &contact(), "<subscriptions/>")
        .await
        .unwrap()
        .answer
        .unwrap();
    assert!(String::from(&answer).contains(ROMEO));
    ask(
        &engine,
        &contact(),
        &format!("<unsubscribe node='n' jid='{ROMEO}'/>"),
    )
    .await
    .unwrap();
    let answer = ask(&engine, &contact(), "<subscriptions/>")
        .await
        .unwrap()
        .answer
        .unwrap();
    assert!(!String::from(&answer).contains(ROMEO));
}

#[tokio::test]
async fn presence_brings_the_last_items_that_are_wanted_and_may_be_seen() {
    let engine = engine();
    let whitelist = options(&[("access_model", "whitelist")]);
    ask(&engine, &owner(), &publish("tune", "a", ""))
        .await
        .unwrap();
    ask(&engine, &owner(), &publish("mood", "b", ""))
        .await
        .unwrap();
    ask(&engine, &owner(), &publish("closed", "c", &whitelist))
        .await
        .unwrap();
    let came = async |actor: Actor, not: &str| {
        let wants = |node: &str| node != not;
        let jid = &actor.jid;
        let told = engine
            .on_presence(&juliet(), jid, &actor.relation, wants)
            .await
            .unwrap();
        told.into_iter().map(|event| event.node).collect::<Vec<_>>()
    };
    assert_eq!(came(contact(), "mood").await, ["tune"]);
    assert_eq!(came(owner(), "mood").await, ["closed", "tune"]);
    assert!(came(stranger(), "").await.is_empty());
    let nodes = engine
        .disco_nodes(&juliet(), &contact(), &Paging::default())
        .await
        .unwrap();
    assert_eq!(nodes.len(), 2);
}

#[tokio::test]
async fn an_affiliation_opens_and_closes_a_node() {
    let engine = engine();
    let whitelist = options(&[("access_model", "whitelist")]);
    ask(&engine, &owner(), &publish("n", "a", &whitelist))
        .await
        .unwrap();
    let set = |affiliation: &str| {
        format!(
            "<pubsub xmlns='{}'><affiliations node='n'><affiliation jid='romeo@montague.example' affiliation='{affiliation}'/></affiliations></pubsub>",
            ns::PUBSUB_OWNER
        )
    };
    for (affiliation, answer) in [
        ("member", "done"),
        ("outcast", "Forbidden"),
        ("publisher", "done"),
        ("none", "NotAllowed closed-node"),
    ] {
        let request = Request::parse(true, &set(affiliation).parse().unwrap()).unwrap();
        let outcome = engine.handle(&juliet(), &owner(), request).await.unwrap();
        assert_eq!(outcome.notifications.len(), 1);
        assert_eq!(
            refused(&engine, &stranger(), "<items node='n'/>").await,
            answer
        );
    }
}

#[tokio::test]
async fn configuring_fewer_items_removes_the_oldest() {
    let engine = engine();
    let many = options(&[("max_items", "max")]);
    for id in ["a", "b", "c"] {
        ask(&engine, &owner(), &publish("n", id, &many))
            .await
            .unwrap();
    }
    let two = options(&[("max_items", "2")]);
    ask(
        &engine,
        &owner(),
        &format!("<owner-configure node='n'>{two}</owner-configure>"),
    )
    .await
    .unwrap();
    assert_eq!(
        ids(&engine, &owner(), "<items node='n'/>").await,
        ["b", "c"]
    );
    ask(&engine, &owner(), "<owner-purge node='n'/>")
        .await
        .unwrap();
    assert!(ids(&engine, &owner(), "<items node='n'/>").await.is_empty());
    engine.delete_service(&juliet()).await.unwrap();
    assert_eq!(
        refused(&engine, &owner(), "<items node='n'/>").await,
        "ItemNotFound"
    );
}
