//! Messages that wait, as clients see them.

use super::*;
use crate::server::Settings;
use crate::server::testing::{Client, client, online, server, with};

async fn say(romeo: &Client, kind: &str, payload: &str) {
    romeo
        .send(&format!(
            "<message to='juliet@example.org' type='{kind}'>{payload}</message>"
        ))
        .await;
}

/// The bodies of all messages that wait in a mailbox.
fn bodies(client: &mut Client) -> Vec<String> {
    client
        .drain()
        .iter()
        .filter_map(|stanza| Some(stanza.get_child("body", ns::JABBER_CLIENT)?.text()))
        .collect()
}

async fn waiting(server: &Server) -> u64 {
    let storage = server.storage();
    storage.settled().await.unwrap();
    storage
        .count(OFFLINE, "juliet", Query::default())
        .await
        .unwrap()
}

#[test]
fn what_is_kept_follows_xep_0160() {
    const STATE: &str = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
    const NO_STORE: &str = "<no-store xmlns='urn:xmpp:hints'/>";
    struct Row {
        name: &'static str,
        kind: &'static str,
        payload: String,
        fate: Fate,
    }
    let row = |name, kind, payload: &str, fate| Row {
        name,
        kind,
        payload: payload.to_owned(),
        fate,
    };
    let table = [
        row("chat", "chat", "<body>x</body>", Fate::Keep),
        row("normal", "normal", "<body>x</body>", Fate::Keep),
        row("no type", "", "<body>x</body>", Fate::Keep),
        row(
            "a receipt",
            "chat",
            "<received xmlns='urn:xmpp:receipts' id='1'/>",
            Fate::Keep,
        ),
        row("in a room", "groupchat", "<body>x</body>", Fate::Refuse),
        row("a headline", "headline", "<body>x</body>", Fate::Refuse),
        row("an error", "error", "<body>x</body>", Fate::Refuse),
        row("a chat state", "chat", STATE, Fate::Drop),
        row(
            "a chat state in a thread",
            "chat",
            &format!("{STATE}<thread>x</thread>"),
            Fate::Drop,
        ),
        row("nothing", "chat", "", Fate::Drop),
        row(
            "a chat state with a body",
            "chat",
            &format!("{STATE}<body>x</body>"),
            Fate::Keep,
        ),
        row(
            "not to be stored",
            "chat",
            &format!("<body>x</body>{NO_STORE}"),
            Fate::Refuse,
        ),
        row(
            "not to be stored, without a body",
            "chat",
            &format!("<x xmlns='urn:x'/>{NO_STORE}"),
            Fate::Drop,
        ),
    ];
    for row in table {
        let xml = format!(
            "<message xmlns='jabber:client' type='{}'>{}</message>",
            row.kind, row.payload
        );
        let from = jid::Jid::new("romeo@example.org/orchard").unwrap();
        let message = Stanza::new(from, None, xml.parse().unwrap()).unwrap();
        assert_eq!(fate(&message), row.fate, "{}", row.name);
    }
}

#[tokio::test]
async fn messages_wait_in_their_order_and_tell_when_they_came() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    for body in ["1", "2", "3"] {
        say(&romeo, "chat", &format!("<body>{body}</body>")).await;
    }
    assert!(romeo.drain().is_empty());
    let mut juliet = client(&server, "juliet/balcony").await;
    juliet
        .send("<presence><priority>-1</priority></presence>")
        .await;
    assert!(bodies(&mut juliet).is_empty());
    juliet.send("<presence/>").await;
    let messages: Vec<Element> = juliet
        .drain()
        .into_iter()
        .filter(|stanza| stanza.name() == "message")
        .collect();
    assert_eq!(messages.len(), 3);
    let text = |message: &Element| message.get_child("body", ns::JABBER_CLIENT).unwrap().text();
    assert_eq!(
        messages.iter().map(text).collect::<Vec<_>>(),
        ["1", "2", "3"]
    );
    for message in &messages {
        let delay = message.get_child("delay", ns::DELAY).unwrap();
        assert_eq!(delay.attr("from"), Some("example.org"));
        assert!(datetime::parse(delay.attr("stamp").unwrap()).is_some());
        assert_eq!(message.attr("from"), Some("romeo@example.org/orchard"));
        assert!(message.has_child("stanza-id", ns::STANZA_ID));
    }
}

#[tokio::test]
async fn a_message_stays_until_the_client_has_it() {
    let server = server(&["romeo", "juliet"]).await;
    let romeo = online(&server, "romeo/orchard").await;
    say(&romeo, "chat", "<body>1</body>").await;
    let mut balcony = client(&server, "juliet/balcony").await;
    balcony.send("<presence/>").await;
    let mut unacknowledged = Vec::new();
    while let Ok(mail) = balcony.mailbox.try_recv() {
        unacknowledged.push(mail);
    }
    assert_eq!(waiting(&server).await, 1);
    // Another session gets nothing that is on its way.
    let mut chamber = client(&server, "juliet/chamber").await;
    chamber.send("<presence/>").await;
    assert!(bodies(&mut chamber).is_empty());
    chamber.leave().await;
    // The stream ends without an acknowledgement.
    let Client {
        session, mailbox, ..
    } = balcony;
    server.unbind(&session, mailbox, unacknowledged).await;
    assert_eq!(waiting(&server).await, 1);
    let mut garden = client(&server, "juliet/garden").await;
    garden.send("<presence/>").await;
    assert_eq!(bodies(&mut garden), ["1"]);
    assert_eq!(waiting(&server).await, 0);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_archived() {
    let mut settings = Settings::new("example.org");
    settings.limits.offline_messages = 2;
    let server = with(settings, &["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    for body in ["1", "2", "3"] {
        say(&romeo, "chat", &format!("<body>{body}</body>")).await;
    }
    let refused = romeo.drain();
    assert_eq!(refused.len(), 1);
    let error = refused[0].get_child("error", ns::JABBER_CLIENT).unwrap();
    assert!(error.has_child("service-unavailable", ns::XMPP_STANZAS));
    server.storage().settled().await.unwrap();
    let archived = server.storage().count(MESSAGES, "juliet", Query::default());
    assert_eq!(archived.await.unwrap(), 2);
    // Room again once they have been fetched.
    let mut juliet = online(&server, "juliet/balcony").await;
    juliet.drain();
    juliet.leave().await;
    say(&romeo, "chat", "<body>4</body>").await;
    assert!(
        romeo
            .drain()
            .iter()
            .all(|stanza| stanza.name() != "message")
    );
    assert_eq!(waiting(&server).await, 1);
}

#[tokio::test]
async fn an_acknowledgement_waits_for_the_disk() {
    let server = server(&["romeo", "juliet"]).await;
    let romeo = online(&server, "romeo/orchard").await;
    let no_archive = "<body>1</body><no-permanent-store xmlns='urn:xmpp:hints'/>";
    say(&romeo, "chat", no_archive).await;
    let pending = romeo.session.take_pending();
    assert_eq!(pending.len(), 1);
    assert!(crate::server::session::settle(pending).await.is_empty());
    assert_eq!(waiting(&server).await, 1);
}

#[tokio::test]
async fn what_the_streams_accept_is_also_read_back() {
    let server = server(&["romeo", "juliet"]).await;
    let romeo = online(&server, "romeo/orchard").await;
    let long = "x".repeat(100_000);
    let message = format!(
        "<message xmlns='jabber:client' to='juliet@example.org' type='chat'><body>x</body><y xmlns='urn:y' z='{long}'/></message>"
    );
    let message = xml::parse(&message).unwrap();
    server.receive(&romeo.session, message).await.unwrap();
    let mut juliet = client(&server, "juliet/balcony").await;
    juliet.send("<presence/>").await;
    let came = juliet.drain();
    let payload = came
        .iter()
        .find_map(|stanza| stanza.get_child("y", "urn:y"));
    assert_eq!(payload.and_then(|y| y.attr("z")), Some(long.as_str()));
    juliet
        .send("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>")
        .await;
    let archived = juliet.drain();
    assert!(
        archived
            .iter()
            .any(|stanza| String::from(stanza).contains(&long))
    );
}
