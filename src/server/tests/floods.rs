//! Who asks too much of others, or of the server: told so, and heard again after a while.

use std::sync::Arc;
use std::time::Duration;

use jid::Jid;
use minidom::Element;

use super::super::Host;
use super::super::abuse::Refusal;
use super::super::archive::rooms::RoomArchives;
use super::super::muc::{Policy, Service as Rooms};
use super::super::session::Origin;
use super::super::stanza::Stanza;
use super::super::testing::{Client, client, online, server};
use crate::xmpp::ns;

fn condition(answer: &Element) -> Option<String> {
    let error = answer.get_child("error", ns::JABBER_CLIENT)?;
    let mut conditions = error.children().filter(|child| child.name() != "text");
    Some(conditions.next()?.name().to_owned())
}

/// How many of so many stanzas are refused with `resource-constraint`.
async fn refused(client: &mut Client, count: usize, make: impl Fn(usize) -> String) -> usize {
    let mut refused = 0;
    for number in 0..count {
        client.send(&make(number)).await;
        let conditions = client.drain();
        let is_refused =
            |answer: &&Element| condition(answer).as_deref() == Some("resource-constraint");
        refused += conditions.iter().filter(is_refused).count();
    }
    refused
}

async fn pings(client: &mut Client) {
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let answer = client.ask("get", "example.org", ping).await;
    assert_eq!(answer.attr("type"), Some("result"));
}

#[tokio::test(start_paused = true)]
async fn who_asks_too_many_for_their_presence_is_told_so() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/r").await;
    let ask = |number| format!("<presence type='subscribe' to='user{number}@example.org'/>");
    assert_eq!(refused(&mut romeo, 150, ask).await, 50);
    assert_eq!(server.abuse().count(Refusal::Subscriptions), 50);
    pings(&mut romeo).await;
    let mut juliet = online(&server, "juliet/r").await;
    assert_eq!(refused(&mut juliet, 100, ask).await, 0, "others are heard");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(refused(&mut romeo, 2, ask).await, 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_by_too_many_is_left_in_peace() {
    let names: Vec<String> = (0..130).map(|number| format!("user{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = server(&names).await;
    let mut told = 0;
    for name in &names[1..] {
        let mut client = online(&server, &format!("{name}/r")).await;
        let ask = |_| "<presence type='subscribe' to='user0@example.org'/>".to_owned();
        told += refused(&mut client, 1, ask).await;
    }
    assert_eq!(told, 29);
    assert_eq!(server.abuse().count(Refusal::RequestsFor), 29);
}

#[tokio::test(start_paused = true)]
async fn who_shows_themselves_to_too_many_is_told_so_and_all_who_saw_them_are_told_of_the_end() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = client(&server, "romeo/r").await;
    let mut juliet = online(&server, "juliet/r").await;
    let show = |number| format!("<presence to='juliet@example.org/{number}'/>");
    assert_eq!(refused(&mut romeo, 400, show).await, 100);
    pings(&mut romeo).await;
    // However slowly: no more than can be told of the end.
    let mut shown = 300;
    while shown < 1_000 {
        tokio::time::advance(Duration::from_secs(30)).await;
        let next = |number| show(number + shown);
        assert_eq!(refused(&mut romeo, 100, next).await, 0);
        shown += 100;
    }
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(
        refused(&mut romeo, 5, |number| show(number + 5_000)).await,
        5
    );
    assert_eq!(refused(&mut romeo, 5, show).await, 0, "who knows already");
    romeo.send("<presence to='juliet@example.org/r'/>").await;
    juliet.drain();
}

#[tokio::test(start_paused = true)]
async fn long_addresses_count_by_their_length() {
    let server = server(&["romeo"]).await;
    let mut romeo = client(&server, "romeo/r").await;
    let long = "x".repeat(1_000);
    let show = |number| format!("<presence to='romeo@example.org/{number}{long}'/>");
    let told = refused(&mut romeo, 200, show).await;
    assert!((65..75).contains(&told), "{told}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_the_server_too_much_is_told_so_and_pings_are_answered() {
    let server = server(&["romeo"]).await;
    let mut romeo = online(&server, "romeo/r").await;
    let ask = |number| {
        format!(
            "<iq type='get' id='{number}' to='example.org'><query xmlns='{}'/></iq>",
            ns::DISCO_ITEMS
        )
    };
    assert_eq!(refused(&mut romeo, 1_200, ask).await, 200);
    for _ in 0..100 {
        pings(&mut romeo).await;
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(refused(&mut romeo, 60, ask).await, 10);
}

#[tokio::test]
async fn an_account_has_so_many_sessions() {
    let server = server(&["romeo"]).await;
    let mut sessions = Vec::new();
    for number in 0..10 {
        sessions.push(client(&server, &format!("romeo/{number}")).await);
    }
    let romeo = jid::BareJid::new("romeo@example.org").unwrap();
    let most = server.bind(&romeo, Some("more"), Origin::default()).await;
    assert!(most.is_err());
    assert_eq!(server.abuse().count(Refusal::Sessions), 1);
    let instead = server.bind(&romeo, Some("9"), Origin::default()).await;
    assert!(instead.is_ok(), "a resource that is taken is replaced");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_who_does_not_read_is_bounded_in_bytes() {
    let server = server(&["romeo", "juliet"]).await;
    let romeo = online(&server, "romeo/r").await;
    let juliet = online(&server, "juliet/r").await;
    let body = "x".repeat(200_000);
    let mut sent = 0;
    while !juliet.session.is_ended() {
        romeo
            .send(&format!(
                "<message type='chat' to='juliet@example.org/r'><body>{body}</body></message>"
            ))
            .await;
        sent += 1;
        assert!(sent < 100, "no end");
    }
    assert!((35..45).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn who_is_elsewhere_shares_the_allowance_of_a_domain() {
    let names: Vec<String> = (0..20).map(|number| format!("user{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = server(&names).await;
    let from = |number: usize, resource: &str| {
        let sender = number / 15;
        Jid::new(&format!("spammer{sender}@evil.example/{resource}")).unwrap()
    };
    for number in 0..320 {
        let to = Jid::new(&format!("user{}@example.org", number % 15)).unwrap();
        let message =
            crate::server::testing::stanza("<message type='chat'><body>x</body></message>");
        let message = Stanza::new(from(number, "x"), Some(to), message).unwrap();
        server.route(message, None).await;
    }
    // None of them alone has written to too many.
    assert_eq!(server.abuse().count(Refusal::Strangers), 0);
    assert_eq!(server.abuse().count(Refusal::Domain), 20);
    let to = Jid::new("user19@example.org").unwrap();
    let ask = crate::server::testing::stanza("<presence type='subscribe'/>");
    let ask = Stanza::new(from(0, "x").to_bare().into(), Some(to), ask).unwrap();
    server.route(ask, None).await;
    assert_eq!(server.abuse().count(Refusal::Domain), 21, "requests too");
    let host: jid::BareJid = "conference.example.org".parse().unwrap();
    let storage = server.storage().clone();
    let history = Arc::new(RoomArchives::new(storage.clone()));
    let rooms = Rooms::open(Policy::new(host.clone(), "example.org"), storage, history);
    let rooms: Arc<dyn Host> = Arc::new(rooms.await.unwrap());
    server.set_hosts(vec![(host.to_string(), rooms)]);
    for number in 0..3_010 {
        let to = Jid::new("den@conference.example.org/n").unwrap();
        let enter = "<presence><x xmlns='http://jabber.org/protocol/muc'/></presence>";
        let from = Jid::new(&format!("visitor{number}@evil.example/x")).unwrap();
        let enter = Stanza::new(from, Some(to), crate::server::testing::stanza(enter)).unwrap();
        server.route(enter, None).await;
    }
    assert_eq!(server.abuse().count(Refusal::RoomsOfADomain), 10);
}
