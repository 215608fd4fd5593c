//! A block list that another server keeps.

use std::time::Duration;

use super::*;
use crate::config::BlockList;
use crate::server::Host;
use crate::server::abuse::Refusal;
use crate::server::feature::block_lists;
use crate::server::pubsub::service::Service as Nodes;

const LISTS: &str = "pubsub.b.example";
/// `printf %s romeo@b.example | sha256sum`
const ROMEO: &str = "d2e5b3815641a74b48a83cfa8a4aa5015714b0c52451bc2e0d3fec733f2c2001";

async fn ask(keeper: &mut Client, inner: &str) {
    let pubsub = format!("<pubsub xmlns='{}'>{inner}</pubsub>", ns::PUBSUB);
    let answer = keeper.ask("set", LISTS, &pubsub).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

async fn until(house: &House, entries: usize) {
    while block_lists::size(&house.server) != entries {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_list_of_another_server_is_read_and_followed() {
    let (world, authority) = (World::default(), Authority::new());
    let mut settings = Settings::new("a.example", &["a.example"]);
    settings.xmpp.block_lists = vec![BlockList {
        service: LISTS.parse().unwrap(),
        node: "bans".to_owned(),
    }];
    let a = House::with(&world, &authority, settings).await;
    let settings = Settings::new("b.example", &["b.example", LISTS]);
    let b = House::with(&world, &authority, settings).await;
    world.alias(LISTS, "b.example");
    let storage = b.server.storage().clone();
    let nodes: Arc<dyn Host> = Arc::new(Nodes::new(LISTS.parse().unwrap(), storage));
    b.server.set_hosts(vec![(LISTS.to_owned(), nodes)]);
    let mut keeper = b.person("juliet").await;
    ask(&mut keeper, "<create node='bans'/>").await;
    let publish = |id: &str| {
        format!("<publish node='bans'><item id='{id}'><x xmlns='urn:x'/></item></publish>")
    };
    ask(&mut keeper, &publish("spam.example")).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(block_lists::maintain(a.server.clone(), a.stop.clone()));
    until(&a, 1).await;
    let (mut romeo, mut juliet) = (b.person("romeo").await, a.person("juliet").await);
    say(&romeo, "juliet@a.example", 1).await;
    assert_eq!(message(&mut juliet).await.attr("id"), Some("1"));
    ask(&mut keeper, &publish(ROMEO)).await;
    until(&a, 2).await;
    say(&romeo, "juliet@a.example", 2).await;
    let bounced = message(&mut romeo).await;
    assert_eq!(bounced.attr("id"), Some("2"));
    let error = bounced.get_child("error", ns::JABBER_CLIENT).unwrap();
    assert!(error.has_child("policy-violation", ns::XMPP_STANZAS));
    assert_eq!(a.server.abuse().count(Refusal::BlockList), 1);
    ask(
        &mut keeper,
        &format!("<retract node='bans' notify='true'><item id='{ROMEO}'/></retract>"),
    )
    .await;
    until(&a, 1).await;
    say(&romeo, "juliet@a.example", 3).await;
    assert_eq!(message(&mut juliet).await.attr("id"), Some("3"));
    tasks.shutdown().await;
}
