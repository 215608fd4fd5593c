//! The service: with people of its own making, and on a server.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::server::muc::event::Incoming;
use crate::server::muc::history::{Appended, Entry, NoArchive, Reply, Spoken};
use crate::server::testing;
use crate::xmpp::element::child_text;

/// Everybody there is, and what they got. Who is `absent` cannot be reached.
#[derive(Default)]
struct Crowd {
    got: Mutex<BTreeMap<String, Vec<Element>>>,
    absent: Mutex<BTreeSet<String>>,
}

impl Outbound for Crowd {
    fn post(&self, to: &FullJid, mail: Mail) -> Posted {
        if lock(&self.absent).contains(to.as_str()) {
            return Posted::Gone;
        }
        let mut got = lock(&self.got);
        got.entry(to.to_string()).or_default().push(mail.element());
        Posted::Done
    }

    fn route(&self, stanza: Element) -> BoxFuture<'_, ()> {
        let to = stanza.attr("to").unwrap().to_owned();
        lock(&self.got).entry(to).or_default().push(stanza);
        Box::pin(std::future::ready(()))
    }
}

impl Crowd {
    fn take(&self, who: &str) -> Vec<Element> {
        lock(&self.got).remove(who).unwrap_or_default()
    }

    fn outcome(&self, who: &str) -> String {
        let got = self.take(who);
        let last = got.last().expect("nothing came");
        let error = last.get_child("error", ns::JABBER_CLIENT);
        let condition = error.and_then(|error| error.children().next());
        condition.map_or("ok", Element::name).to_owned()
    }
}

fn policy() -> Policy {
    let host = BareJid::new("rooms.example.org").unwrap();
    Policy {
        locks: false,
        ..Policy::new(host, "example.org")
    }
}

async fn service(policy: Policy, storage: &Storage) -> Service {
    let history = Arc::new(NoArchive);
    Service::open(policy, storage.clone(), history)
        .await
        .unwrap()
}

async fn send(service: &Service, crowd: &Crowd, from: &str, xml: &str) {
    let mut stanza = testing::stanza(xml);
    crate::xmpp::element::set(&mut stanza, "from", from);
    let incoming = Incoming::read(stanza).unwrap();
    service.receive(crowd, incoming).await;
}

async fn enter(service: &Service, crowd: &Crowd, who: &str, room: &str, nick: &str) {
    let xml = format!(
        "<presence to='{room}@rooms.example.org/{nick}'><x xmlns='{}'/></presence>",
        ns::MUC
    );
    send(service, crowd, who, &xml).await;
}

async fn say(service: &Service, crowd: &Crowd, who: &str, text: &str) {
    let xml = format!(
        "<message type='groupchat' id='m' to='lobby@rooms.example.org'><body>{text}</body></message>"
    );
    send(service, crowd, who, &xml).await;
}

async fn configure(service: &Service, crowd: &Crowd, who: &str, var: &str, value: &str) {
    let form = format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{}</value></field><field var='muc#roomconfig_{var}'><value>{value}</value></field></x>",
        ns::MUC_ROOMCONFIG
    );
    let xml = format!(
        "<iq type='set' id='c' to='lobby@rooms.example.org'><query xmlns='{}'>{form}</query></iq>",
        ns::MUC_OWNER
    );
    send(service, crowd, who, &xml).await;
    assert_eq!(crowd.outcome(who), "ok");
}

async fn rooms(service: &Service, crowd: &Crowd) -> Vec<String> {
    let xml = format!(
        "<iq type='get' id='i' to='rooms.example.org'><query xmlns='{}'/></iq>",
        ns::DISCO_ITEMS
    );
    send(service, crowd, "a@example.org/x", &xml).await;
    let answer = crowd.take("a@example.org/x").pop().unwrap();
    let query = answer.get_child("query", ns::DISCO_ITEMS).unwrap();
    let items = query.children().filter_map(|item| item.attr("jid"));
    items.map(str::to_owned).collect()
}

const A: &str = "a@example.org/x";
const B: &str = "b@example.org/x";

#[tokio::test]
async fn a_room_lives_as_long_as_somebody_is_in_it() {
    let storage = Storage::in_memory().unwrap();
    let (service, crowd) = (service(policy(), &storage).await, Crowd::default());
    say(&service, &crowd, A, "x").await;
    assert_eq!(crowd.outcome(A), "item-not-found");
    send(
        &service,
        &crowd,
        A,
        "<presence type='unavailable' to='lobby@rooms.example.org/a'/>",
    )
    .await;
    assert!(crowd.take(A).is_empty());
    enter(&service, &crowd, A, "lobby", "a").await;
    assert_eq!(rooms(&service, &crowd).await, ["lobby@rooms.example.org"]);
    send(
        &service,
        &crowd,
        A,
        "<presence type='unavailable' to='lobby@rooms.example.org/a'/>",
    )
    .await;
    assert!(rooms(&service, &crowd).await.is_empty());
    assert_eq!(service.rooms(), 0);
    assert!(storage.owners(ROOMS).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_persistent_room_is_there_after_a_restart_until_it_is_destroyed() {
    let storage = Storage::in_memory().unwrap();
    let crowd = Crowd::default();
    let before = service(policy(), &storage).await;
    enter(&before, &crowd, A, "lobby", "a").await;
    configure(&before, &crowd, A, "persistentroom", "1").await;
    configure(&before, &crowd, A, "roomname", "Lobby").await;
    before.stop(&crowd).await;
    assert!(String::from(crowd.take(A).last().unwrap()).contains("332"));
    let after = service(policy(), &storage).await;
    assert_eq!(rooms(&after, &crowd).await, ["lobby@rooms.example.org"]);
    enter(&after, &crowd, "b@elsewhere.example/x", "lobby", "b").await;
    let own = crowd.take("b@elsewhere.example/x");
    assert!(!String::from(&own[0]).contains("201"));
    let destroy = format!(
        "<iq type='set' id='d' to='lobby@rooms.example.org'><query xmlns='{}'><destroy/></query></iq>",
        ns::MUC_OWNER
    );
    send(&after, &crowd, A, &destroy).await;
    assert_eq!(crowd.outcome(A), "ok");
    assert_eq!(crowd.take("b@elsewhere.example/x").len(), 1);
    assert!(rooms(&after, &crowd).await.is_empty());
    let left = storage.list(ROOMS, "lobby@rooms.example.org", "").await;
    let keys: Vec<String> = left.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [TOMBSTONE]);
    assert_eq!(service(policy(), &storage).await.rooms(), 0);
}

#[tokio::test]
async fn a_destroyed_room_leaves_a_tombstone_that_says_where_to_go() {
    let storage = Storage::in_memory().unwrap();
    let crowd = Crowd::default();
    let before = service(policy(), &storage).await;
    enter(&before, &crowd, A, "lobby", "a").await;
    configure(&before, &crowd, A, "persistentroom", "1").await;
    let destroy = format!(
        "<iq type='set' id='d' to='lobby@rooms.example.org'><query xmlns='{}'><destroy jid='hall@rooms.example.org'><reason>Draughty</reason></destroy></query></iq>",
        ns::MUC_OWNER
    );
    send(&before, &crowd, A, &destroy).await;
    let after = service(policy(), &storage).await;
    for service in [&before, &after] {
        enter(service, &crowd, B, "lobby", "b").await;
        let refused = String::from(&crowd.take(B)[0]);
        for part in ["gone", "xmpp:hall@rooms.example.org?join", "Draughty"] {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(service.rooms(), 0);
    }
    crowd.take(A);
    enter(&after, &crowd, A, "lobby", "a").await;
    assert_eq!(crowd.outcome(A), "ok", "its owner may make it anew");
    assert!(storage.owners(ROOMS).await.unwrap().is_empty());
    enter(&after, &crowd, B, "lobby", "b").await;
    assert_eq!(crowd.outcome(B), "ok");
}

#[tokio::test]
async fn the_servers_bots_create_rooms_where_others_may_not() {
    let storage = Storage::in_memory().unwrap();
    let (service, crowd) = (service(policy(), &storage).await, Crowd::default());
    service.set_creation(Creation {
        creators: Creators::People(vec![BareJid::new("admin@example.org").unwrap()]),
        rooms_per_person: 1,
    });
    enter(&service, &crowd, A, "one", "a").await;
    assert_eq!(crowd.outcome(A), "not-allowed");
    enter(&service, &crowd, "admin@example.org/x", "one", "a").await;
    assert_eq!(crowd.outcome("admin@example.org/x"), "ok");
    let xml = format!(
        "<presence from='bot@example.org/x' to='two@rooms.example.org/bot'><x xmlns='{}'/></presence>",
        ns::MUC
    );
    let incoming = Incoming {
        is_own_bot: true,
        ..Incoming::read(testing::stanza(&xml)).unwrap()
    };
    service.receive(&crowd, incoming).await;
    assert_eq!(crowd.outcome("bot@example.org/x"), "ok");
    // What the bot has made is there to stay.
    let accept = format!(
        "<iq type='set' id='i' to='two@rooms.example.org'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'/></query></iq>",
        ns::MUC_OWNER
    );
    send(&service, &crowd, "bot@example.org/x", &accept).await;
    assert_eq!(crowd.outcome("bot@example.org/x"), "ok");
    service.stop(&crowd).await;
    let reopened = self::service(policy(), &storage).await;
    assert_eq!(reopened.rooms(), 1);
}

#[tokio::test]
async fn who_asks_too_often_is_told_so() {
    let storage = Storage::in_memory().unwrap();
    let (service, crowd) = (service(policy(), &storage).await, Crowd::default());
    enter(&service, &crowd, A, "lobby", "a").await;
    let invite = format!(
        "<message to='lobby@rooms.example.org'><x xmlns='{}'><invite to='b@example.org'/></x></message>",
        ns::MUC_USER
    );
    for _ in 0..50 {
        send(&service, &crowd, A, &invite).await;
    }
    assert_eq!(crowd.outcome(A), "resource-constraint");
    let invited = crowd.take("b@example.org").len();
    assert!((29..=40).contains(&invited), "{invited}");
}

#[tokio::test]
async fn rooms_are_created_by_those_who_may_and_not_without_end() {
    let storage = Storage::in_memory().unwrap();
    let mut few = policy();
    few.creation.rooms_per_person = 2;
    let (service, crowd) = (service(few, &storage).await, Crowd::default());
    enter(&service, &crowd, "m@elsewhere.example/x", "lobby", "m").await;
    assert_eq!(crowd.outcome("m@elsewhere.example/x"), "not-allowed");
    for (room, expected) in [
        ("one", "ok"),
        ("two", "ok"),
        ("three", "resource-constraint"),
    ] {
        enter(&service, &crowd, A, room, "a").await;
        assert_eq!(crowd.outcome(A), expected, "{room}");
    }
    enter(&service, &crowd, B, "three", "b").await;
    assert_eq!(crowd.outcome(B), "ok");
    enter(&service, &crowd, A, "three", "a").await;
    assert_eq!(crowd.outcome(A), "ok", "entering is not creating");
    assert_eq!(service.rooms(), 3);
}

#[tokio::test]
async fn who_enters_too_often_is_told_so() {
    let storage = Storage::in_memory().unwrap();
    let (service, crowd) = (service(policy(), &storage).await, Crowd::default());
    let mut refused = 0;
    for _ in 0..400 {
        enter(&service, &crowd, A, "lobby", "a").await;
        refused += usize::from(crowd.outcome(A) == "resource-constraint");
    }
    assert!((200..=250).contains(&refused), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn who_makes_and_leaves_rooms_too_often_is_told_so() {
    let storage = Storage::in_memory().unwrap();
    let (service, crowd) = (service(policy(), &storage).await, Crowd::default());
    let mut refused = 0;
    for number in 0..120 {
        let room = format!("room{number}");
        enter(&service, &crowd, A, &room, "a").await;
        refused += usize::from(crowd.outcome(A) == "resource-constraint");
        let leave = format!("<presence to='{room}@rooms.example.org/a' type='unavailable'/>");
        send(&service, &crowd, A, &leave).await;
        crowd.take(A);
        // Slowly enough for the presences themselves.
        tokio::time::advance(Duration::from_millis(300)).await;
    }
    // One in three seconds has come back meanwhile.
    assert!((6..=10).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_hidden_room_is_not_listed() {
    let storage = Storage::in_memory().unwrap();
    let (service, crowd) = (service(policy(), &storage).await, Crowd::default());
    enter(&service, &crowd, A, "lobby", "a").await;
    configure(&service, &crowd, A, "publicroom", "0").await;
    assert!(rooms(&service, &crowd).await.is_empty());
}

#[tokio::test]
async fn ten_thousand_rooms_are_listed_in_pages() {
    const ROOMS: usize = 10_000;
    let storage = Storage::in_memory().unwrap();
    let (service, crowd) = (service(policy(), &storage).await, Crowd::default());
    for number in 0..ROOMS {
        // Nobody may create so many.
        let who = format!("p{}@example.org/x", number / 10);
        enter(&service, &crowd, &who, &format!("r{number}"), "a").await;
        crowd.take(&who);
        if number % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let before = service.rooms();
    let (mut seen, mut after) = (BTreeSet::new(), String::new());
    for asked in ["", "<max>1000000</max>"].into_iter().cycle() {
        let xml = format!(
            "<iq type='get' id='i' to='rooms.example.org'><query xmlns='{}'><set xmlns='{}'>{asked}{after}</set></query></iq>",
            ns::DISCO_ITEMS,
            ns::RSM
        );
        send(&service, &crowd, A, &xml).await;
        let answer = crowd.take(A).pop().unwrap();
        let query = answer.get_child("query", ns::DISCO_ITEMS).unwrap();
        let items: Vec<_> = query
            .children()
            .filter_map(|item| item.attr("jid"))
            .collect();
        assert!(items.len() <= 250, "a page of {}", items.len());
        let Some(last) = query
            .get_child("set", ns::RSM)
            .and_then(|set| set.get_child("last", ns::RSM))
            .filter(|_| !items.is_empty())
        else {
            break;
        };
        after = format!("<after>{}</after>", last.text());
        for item in items {
            assert!(seen.insert(item.to_owned()), "{item} twice");
        }
    }
    assert_eq!(seen.len(), before);
    assert_eq!(before, ROOMS);
}

#[tokio::test]
async fn what_was_said_is_told_to_who_enters_with_its_id() {
    let storage = Storage::in_memory().unwrap();
    let few = Policy {
        history: 2,
        ..policy()
    };
    let (service, crowd) = (service(few, &storage).await, Crowd::default());
    enter(&service, &crowd, A, "lobby", "a").await;
    crowd.take(A);
    for text in ["one", "two", "three"] {
        say(&service, &crowd, A, text).await;
    }
    let id = |stanza: &Element| {
        let id = stanza.get_child("stanza-id", ns::STANZA_ID).unwrap();
        assert_eq!(id.attr("by"), Some("lobby@rooms.example.org"));
        id.attr("id").unwrap().to_owned()
    };
    let live: Vec<String> = crowd.take(A).iter().map(id).collect();
    assert_eq!(live.iter().collect::<BTreeSet<_>>().len(), 3);
    enter(&service, &crowd, B, "lobby", "b").await;
    let got = crowd.take(B);
    let past: Vec<&Element> = got
        .iter()
        .filter(|one| one.has_child("body", ns::JABBER_CLIENT))
        .collect();
    let bodies: Vec<_> = past
        .iter()
        .filter_map(|one| child_text(one, "body", ns::JABBER_CLIENT))
        .collect();
    assert_eq!(bodies, ["two", "three"]);
    assert_eq!(id(past[0]), live[1]);
    assert!(past[0].has_child("delay", ns::DELAY));
    let last = got.last().unwrap();
    assert!(
        last.has_child("subject", ns::JABBER_CLIENT),
        "the subject comes last"
    );
}

#[tokio::test]
async fn who_cannot_be_reached_is_no_longer_in_the_room() {
    let storage = Storage::in_memory().unwrap();
    let (service, crowd) = (service(policy(), &storage).await, Crowd::default());
    enter(&service, &crowd, A, "lobby", "a").await;
    enter(&service, &crowd, B, "lobby", "b").await;
    lock(&crowd.absent).insert(B.to_owned());
    crowd.take(A);
    say(&service, &crowd, A, "x").await;
    let got = crowd.take(A);
    assert_eq!(got.len(), 2);
    assert_eq!(got[1].attr("type"), Some("unavailable"));
    assert!(String::from(&got[1]).contains("333"));
    lock(&crowd.absent).insert(A.to_owned());
    say(&service, &crowd, A, "x").await;
    assert_eq!(service.rooms(), 0, "nobody is left");
}

/// An archive that fails when it is told to.
#[derive(Default)]
struct Fails(AtomicBool);

impl History for Fails {
    fn is_archive(&self) -> bool {
        true
    }

    fn append<'a>(&'a self, room: &'a BareJid, spoken: Spoken) -> Reply<'a, Appended> {
        if self.0.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(StanzaError::resource_constraint())));
        }
        NoArchive.append(room, spoken)
    }

    fn newest<'a>(&'a self, room: &'a BareJid, limit: usize) -> Reply<'a, Vec<Entry>> {
        NoArchive.newest(room, limit)
    }

    fn query<'a>(
        &'a self,
        room: &'a BareJid,
        request: &'a Incoming,
        reveal: Reveal,
    ) -> Reply<'a, Vec<Element>> {
        NoArchive.query(room, request, reveal)
    }

    fn retract<'a>(
        &'a self,
        room: &'a BareJid,
        id: &'a str,
        author: Option<&'a str>,
        remains: &'a Element,
    ) -> Reply<'a, bool> {
        NoArchive.retract(room, id, author, remains)
    }

    fn retain<'a>(&'a self, host: &'a BareJid, rooms: &'a BTreeSet<String>) -> Reply<'a, ()> {
        NoArchive.retain(host, rooms)
    }

    fn forget<'a>(&'a self, room: &'a BareJid) -> Reply<'a, ()> {
        NoArchive.forget(room)
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_said() {
    let storage = Storage::in_memory().unwrap();
    let history = Arc::new(Fails::default());
    let service = Service::open(policy(), storage, Arc::clone(&history) as Arc<dyn History>)
        .await
        .unwrap();
    let crowd = Crowd::default();
    enter(&service, &crowd, A, "lobby", "a").await;
    enter(&service, &crowd, B, "lobby", "b").await;
    crowd.take(B);
    history.0.store(true, Ordering::Relaxed);
    say(&service, &crowd, A, "x").await;
    assert_eq!(crowd.outcome(A), "resource-constraint");
    assert!(crowd.take(B).is_empty());
    configure(&service, &crowd, A, "enablearchiving", "0").await;
    crowd.take(B);
    say(&service, &crowd, A, "x").await;
    assert_eq!(
        crowd.take(B).len(),
        1,
        "without an archive it need not be kept"
    );
}

/// Who has seen whom, and how many stanzas came in all.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, (BTreeSet<String>, usize)>>);

impl Outbound for Tally {
    fn post(&self, to: &FullJid, mail: Mail) -> Posted {
        let mut tally = lock(&self.0);
        let (seen, count) = tally.entry(to.to_string()).or_default();
        *count += 1;
        let of_occupant = mail
            .shared()
            .attr("from")
            .filter(|_| mail.shared().name() == "presence");
        seen.extend(of_occupant.map(str::to_owned));
        Posted::Done
    }

    fn route(&self, stanza: Element) -> BoxFuture<'_, ()> {
        panic!("nothing is to be routed: {}", String::from(&stanza));
    }
}

#[tokio::test]
async fn four_hundred_enter_at_once_and_each_sees_each() {
    const MANY: usize = 400;
    let storage = Storage::in_memory().unwrap();
    let (service, tally) = (service(policy(), &storage).await, Tally::default());
    let enter = async |number: usize| {
        let xml = format!(
            "<presence from='p{number}@example.org/x' to='lobby@rooms.example.org/{number}'><x xmlns='{}'/></presence>",
            ns::MUC
        );
        service
            .receive(&tally, Incoming::read(testing::stanza(&xml)).unwrap())
            .await;
    };
    futures::future::join_all((0..MANY).map(enter)).await;
    let tally = lock(&tally.0);
    assert_eq!(tally.len(), MANY);
    for (who, (seen, count)) in tally.iter() {
        assert_eq!(seen.len(), MANY, "{who}");
        assert_eq!(*count, MANY + 1, "each presence once, and the subject");
    }
}

/// A server with the service on its host, and two people in a room.
async fn two_in_a_room() -> (testing::Client, testing::Client, Arc<Service>) {
    let server = testing::server(&["romeo", "juliet"]).await;
    let host = BareJid::new(&server.settings().muc_host).unwrap();
    let policy = Policy {
        locks: false,
        ..Policy::new(host, "example.org")
    };
    let service = Arc::new(service(policy, server.storage()).await);
    let name = server.settings().muc_host.clone();
    server.set_hosts(vec![(
        name,
        Arc::clone(&service) as Arc<dyn crate::server::Host>,
    )]);
    let romeo = testing::online(&server, "romeo/orchard").await;
    let juliet = testing::online(&server, "juliet/balcony").await;
    for (client, nick) in [(&romeo, "Romeo"), (&juliet, "Juliet")] {
        let xml = format!(
            "<presence to='garden@conference.example.org/{nick}'><x xmlns='{}'/></presence>",
            ns::MUC
        );
        client.send(&xml).await;
    }
    (romeo, juliet, service)
}

#[tokio::test]
async fn two_people_of_a_server_talk_in_a_room() {
    let (mut romeo, mut juliet, service) = two_in_a_room().await;
    romeo.drain();
    juliet.drain();
    romeo.send("<message type='groupchat' id='1' to='garden@conference.example.org'><body>Juliet?</body></message>").await;
    for client in [&mut romeo, &mut juliet] {
        let heard = client.next().await;
        assert_eq!(
            heard.attr("from"),
            Some("garden@conference.example.org/Romeo")
        );
        assert_eq!(heard.attr("to"), Some(client.session.jid().as_str()));
        assert_eq!(
            child_text(&heard, "body", ns::JABBER_CLIENT).as_deref(),
            Some("Juliet?")
        );
    }
    juliet.send("<message type='chat' id='2' to='garden@conference.example.org/Romeo'><body>psst</body></message>").await;
    assert_eq!(
        romeo.next().await.attr("from"),
        Some("garden@conference.example.org/Juliet")
    );
    let info = juliet
        .ask(
            "get",
            "conference.example.org",
            &format!("<query xmlns='{}'/>", ns::DISCO_INFO),
        )
        .await;
    assert_eq!(info.attr("type"), Some("result"));
    let refused = juliet
        .ask(
            "get",
            "nowhere@conference.example.org",
            &format!("<query xmlns='{}'/>", ns::DISCO_INFO),
        )
        .await;
    assert_eq!(refused.attr("type"), Some("error"));
    assert_eq!(service.rooms(), 1);
}

#[tokio::test]
async fn whose_session_ends_leaves_the_room() {
    let (mut romeo, juliet, service) = two_in_a_room().await;
    romeo.drain();
    juliet.leave().await;
    let gone = romeo.next().await;
    assert_eq!(gone.attr("type"), Some("unavailable"));
    assert_eq!(
        gone.attr("from"),
        Some("garden@conference.example.org/Juliet")
    );
    romeo.leave().await;
    assert_eq!(service.rooms(), 0);
}

#[tokio::test]
async fn a_full_mailbox_does_not_stop_the_room() {
    const MANY: usize = crate::server::session::MAILBOX + 10;
    let (mut romeo, juliet, _service) = two_in_a_room().await;
    romeo.drain();
    // Who speaks waits a little where somebody does not keep up.
    tokio::time::pause();
    let mut heard = Vec::new();
    for number in 0..MANY {
        let xml = format!(
            "<message type='groupchat' id='{number}' to='garden@conference.example.org'><body>x</body></message>"
        );
        romeo.send(&xml).await;
        heard.append(&mut romeo.drain());
    }
    let gone = heard
        .iter()
        .filter(|one| one.attr("type") == Some("unavailable"));
    let gone: Vec<_> = gone.filter_map(|one| one.attr("from")).collect();
    assert_eq!(gone, ["garden@conference.example.org/Juliet"]);
    assert_eq!(heard.len(), MANY + 1, "everything that was said");
    assert!(juliet.session.is_available(), "she has left the room alone");
}
