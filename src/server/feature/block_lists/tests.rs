//! A list in the pubsub service of this server, and one elsewhere that somebody else would like to write.

use std::sync::Arc;

use jid::BareJid;

use super::*;
use crate::config::BlockList;
use crate::server::archive::rooms::RoomArchives;
use crate::server::muc::{Policy, Service as Rooms};
use crate::server::pubsub::service::Service;
use crate::server::testing::{Client, online, with};
use crate::server::{Host, Settings};

const NODE: &str = "muc_bans_sha256";

async fn house(service: &str) -> Server {
    let mut settings = Settings::new("example.org");
    settings.block_lists = vec![BlockList {
        service: BareJid::new(service).unwrap(),
        node: NODE.to_owned(),
    }];
    let server = with(settings, &["keeper", "romeo", "juliet"]).await;
    let storage = server.storage().clone();
    let pubsub = "pubsub.example.org";
    let nodes: Arc<dyn Host> = Arc::new(Service::new(pubsub.parse().unwrap(), storage.clone()));
    let host: BareJid = "conference.example.org".parse().unwrap();
    let history = Arc::new(RoomArchives::new(storage.clone()));
    let rooms = Rooms::open(Policy::new(host.clone(), "example.org"), storage, history);
    let rooms: Arc<dyn Host> = Arc::new(rooms.await.unwrap());
    server.set_hosts(vec![(pubsub.to_owned(), nodes), (host.to_string(), rooms)]);
    server
}

async fn publish(keeper: &mut Client, id: &str) {
    let publish = format!(
        "<pubsub xmlns='{}'><publish node='{NODE}'><item id='{id}'><x xmlns='urn:x'/></item></publish></pubsub>",
        ns::PUBSUB
    );
    let answer = keeper.ask("set", "pubsub.example.org", &publish).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

fn hex(address: &str) -> String {
    let hash = entries::hash(address);
    entries::in_hex(&hash)
}

fn condition(elements: &[Element]) -> Option<String> {
    let error = elements
        .iter()
        .find_map(|element| element.get_child("error", ns::JABBER_CLIENT))?;
    let mut conditions = error.children().filter(|child| child.name() != "text");
    Some(conditions.next()?.name().to_owned())
}

async fn outcome(client: &mut Client, xml: &str) -> Option<String> {
    client.send(xml).await;
    condition(&client.drain())
}

#[tokio::test(start_paused = true)]
async fn who_is_on_a_list_enters_no_room_and_reaches_no_stranger_until_taken_off() {
    let server = house("pubsub.example.org").await;
    let mut keeper = online(&server, "keeper/r").await;
    let create = format!(
        "<pubsub xmlns='{}'><create node='{NODE}'/></pubsub>",
        ns::PUBSUB
    );
    keeper.ask("set", "pubsub.example.org", &create).await;
    publish(&mut keeper, &hex("somebody@example.net")).await;
    let stop = Stop::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(maintain(server.clone(), stop.clone()));
    while size(&server) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut romeo = online(&server, "romeo/r").await;
    let _juliet = online(&server, "juliet/r").await;
    let join = "<presence to='den@conference.example.org/r'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
    let say = "<message type='groupchat' to='den@conference.example.org'><body>x</body></message>";
    let write = "<message type='chat' to='juliet@example.org'><body>x</body></message>";
    let ask = "<presence type='subscribe' to='juliet@example.org'/>";
    assert_eq!(outcome(&mut romeo, join).await, None);
    publish(&mut keeper, &hex("romeo@example.org")).await;
    assert_eq!(size(&server), 2, "the service has told");
    for (name, stanza, expected) in [
        ("a word in a room", say, "forbidden"),
        ("a room", join, "forbidden"),
        ("a message", write, "policy-violation"),
        ("a request", ask, "policy-violation"),
    ] {
        let refused = outcome(&mut romeo, stanza).await;
        assert_eq!(refused.as_deref(), Some(expected), "{name}");
    }
    assert_eq!(server.abuse().count(Refusal::BlockList), 4);
    let retract = format!(
        "<pubsub xmlns='{}'><retract node='{NODE}' notify='true'><item id='{}'/></retract></pubsub>",
        ns::PUBSUB,
        hex("romeo@example.org")
    );
    keeper.ask("set", "pubsub.example.org", &retract).await;
    assert_eq!(size(&server), 1);
    assert_eq!(outcome(&mut romeo, write).await, None);
    // A domain is enough, hashed or in the clear; but never an admin of ours, nor a service.
    publish(&mut keeper, "example.org").await;
    assert!(is_listed(
        &server,
        &BareJid::new("romeo@example.org").unwrap()
    ));
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_the_service_of_a_list_writes_it() {
    let server = house("lists.example.net").await;
    let event = format!(
        "<message xmlns='jabber:client'><event xmlns='{}'><items node='{NODE}'><item id='{}'/></items></event></message>",
        ns::PUBSUB_EVENT,
        hex("juliet@example.org")
    );
    for (from, expected) in [
        ("romeo@example.org/r", 0),
        ("lists.example.net/x", 0),
        ("evil@lists.example.net", 0),
        ("lists.example.net", 1),
    ] {
        let from = Jid::new(from).unwrap();
        let to = Jid::new("example.org").unwrap();
        let event = Stanza::new(from.clone(), Some(to), event.parse().unwrap()).unwrap();
        server.route(event, None).await;
        assert_eq!(size(&server), expected, "{from}");
    }
}
