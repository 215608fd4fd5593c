//! Blocking as both sides see it.

use minidom::Element;

use crate::server::Settings;
use crate::server::testing::{Client, client, online, server, with};
use crate::xmpp::ns;

async fn command(client: &mut Client, name: &str, items: &str) -> Element {
    let command = format!("<{name} xmlns='urn:xmpp:blocking'>{items}</{name}>");
    client.ask("set", "", &command).await
}

async fn block(client: &mut Client, jid: &str) {
    let answer = command(client, "block", &format!("<item jid='{jid}'/>")).await;
    assert_eq!(answer.attr("type"), Some("result"));
}

fn condition<'a>(stanza: &'a Element, name: &str) -> Option<&'a Element> {
    let error = stanza.get_child("error", ns::JABBER_CLIENT)?;
    error.has_child(name, ns::XMPP_STANZAS).then_some(error)
}

/// Romeo and Juliet, who see each other's presence.
async fn friends() -> (Client, Client) {
    let server = server(&["romeo", "juliet"]).await;
    let jid = |name: &str| jid::BareJid::new(&format!("{name}@example.org")).unwrap();
    server
        .befriend(&jid("romeo"), "Romeo", &jid("juliet"), "Juliet")
        .await
        .unwrap();
    let mut romeo = online(&server, "romeo/orchard").await;
    let mut juliet = online(&server, "juliet/balcony").await;
    romeo.drain();
    juliet.drain();
    (romeo, juliet)
}

#[tokio::test]
async fn to_the_blocked_nobody_is_there() {
    let (mut romeo, mut juliet) = friends().await;
    block(&mut juliet, "romeo@example.org").await;
    let gone = romeo.next().await;
    assert_eq!(gone.attr("type"), Some("unavailable"));
    assert_eq!(gone.attr("from"), Some("juliet@example.org/balcony"));
    for stanza in [
        "<message to='juliet@example.org' type='chat'><body>hi</body></message>",
        "<message to='juliet@example.org/balcony' type='chat'><body>hi</body></message>",
        "<iq to='juliet@example.org/balcony' type='get' id='1'><query xmlns='jabber:iq:version'/></iq>",
        "<iq to='juliet@example.org' type='get' id='2'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
    ] {
        romeo.send(stanza).await;
        let answer = romeo.next().await;
        assert!(
            condition(&answer, "service-unavailable").is_some(),
            "{stanza}: {answer:?}"
        );
    }
    for silent in [
        "<presence to='juliet@example.org'/>",
        "<presence to='juliet@example.org' type='subscribe'/>",
        "<presence to='juliet@example.org' type='probe'/>",
        "<presence><show>away</show></presence>",
        "<message to='juliet@example.org' type='error'/>",
    ] {
        romeo.send(silent).await;
        let answers = romeo.drain();
        let from_juliet = |stanza: &&Element| {
            stanza
                .attr("from")
                .is_some_and(|from| from.starts_with("juliet"))
        };
        assert_eq!(answers.iter().find(from_juliet), None, "{silent}");
    }
    // Neither does her presence reach him, nor what he writes her.
    juliet.send("<presence><show>away</show></presence>").await;
    assert!(romeo.drain().is_empty());
    assert!(juliet.drain().iter().all(|stanza| {
        stanza
            .attr("from")
            .is_none_or(|from| from.starts_with("juliet"))
    }));
}

#[tokio::test]
async fn who_writes_to_the_blocked_is_told() {
    let (mut romeo, mut juliet) = friends().await;
    block(&mut juliet, "romeo@example.org").await;
    romeo.drain();
    for stanza in [
        "<message to='romeo@example.org' type='chat'><body>hi</body></message>",
        "<iq to='romeo@example.org/orchard' type='get' id='1'><query xmlns='jabber:iq:version'/></iq>",
        "<presence to='romeo@example.org'/>",
    ] {
        juliet.send(stanza).await;
        let answer = juliet.next().await;
        let error = condition(&answer, "not-acceptable").unwrap();
        assert_eq!(error.attr("type"), Some("cancel"));
        assert!(error.has_child("blocked", ns::BLOCKING_ERRORS), "{stanza}");
    }
    assert!(romeo.drain().is_empty());
}

#[tokio::test]
async fn unblocking_shows_the_presence_again() {
    let (mut romeo, mut juliet) = friends().await;
    for items in ["<item jid='romeo@example.org'/>", ""] {
        block(&mut juliet, "romeo@example.org").await;
        romeo.drain();
        let answer = command(&mut juliet, "unblock", items).await;
        assert_eq!(answer.attr("type"), Some("result"));
        let back = romeo.next().await;
        assert_eq!((back.name(), back.attr("type")), ("presence", None));
        romeo
            .send("<message to='juliet@example.org' type='chat'><body>hi</body></message>")
            .await;
        assert!(juliet.next().await.has_child("body", ns::JABBER_CLIENT));
    }
}

#[tokio::test]
async fn sessions_that_asked_for_the_list_are_told_of_changes() {
    let server = server(&["juliet"]).await;
    let mut balcony = online(&server, "juliet/balcony").await;
    let mut chamber = online(&server, "juliet/chamber").await;
    let mut quiet = client(&server, "juliet/quiet").await;
    let get = "<blocklist xmlns='urn:xmpp:blocking'/>";
    for client in [&mut balcony, &mut chamber] {
        let list = client.ask("get", "", get).await;
        let list = list.get_child("blocklist", ns::BLOCKING).unwrap();
        assert_eq!(list.children().count(), 0);
        client.drain();
    }
    balcony
        .send("<iq type='set' id='1'><block xmlns='urn:xmpp:blocking'><item jid='Iago@Venice.lit'/><item jid='spam.example'/></block></iq>")
        .await;
    for client in [&mut balcony, &mut chamber] {
        let push = client.next().await;
        assert_eq!(push.attr("type"), Some("set"));
        let command = push.get_child("block", ns::BLOCKING).unwrap();
        let jids: Vec<_> = command
            .children()
            .filter_map(|item| item.attr("jid"))
            .collect();
        assert_eq!(jids, ["iago@venice.lit", "spam.example"]);
    }
    assert!(quiet.drain().is_empty());
    command(&mut chamber, "unblock", "").await;
    balcony.next().await;
    let push = balcony.next().await;
    let all = push.get_child("unblock", ns::BLOCKING).unwrap();
    assert_eq!(all.children().count(), 0);
    let list = balcony.ask("get", "", get).await;
    assert_eq!(
        list.get_child("blocklist", ns::BLOCKING)
            .unwrap()
            .children()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_command_without_an_item_or_with_a_wrong_one_is_refused() {
    let server = server(&["juliet"]).await;
    let mut juliet = online(&server, "juliet/balcony").await;
    for (items, name) in [
        ("", "bad-request"),
        ("<item/>", "bad-request"),
        ("<item jid='@'/>", "jid-malformed"),
        (
            "<item jid='a@b'><report xmlns='urn:xmpp:reporting:1'/></item>",
            "bad-request",
        ),
    ] {
        let answer = command(&mut juliet, "block", items).await;
        assert!(condition(&answer, name).is_some(), "{items}: {answer:?}");
    }
}

#[tokio::test]
async fn a_report_goes_to_the_admins() {
    let mut settings = Settings::new("example.org");
    settings.admins = ["nurse@example.org", "friar@example.org"]
        .map(|jid| jid::BareJid::new(jid).unwrap())
        .to_vec();
    let server = with(settings, &["juliet", "romeo", "nurse", "friar"]).await;
    let mut nurse = online(&server, "nurse/kitchen").await;
    let mut juliet = online(&server, "juliet/balcony").await;
    let item = "<item jid='spam@elsewhere.example'><report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'><text>Never\ncame trouble</text><stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.org' id='28482'/></report></item>";
    let answer = command(&mut juliet, "block", item).await;
    assert_eq!(answer.attr("type"), Some("result"));
    let told = nurse.next().await;
    assert_eq!(told.attr("from"), Some("example.org"));
    let body = told.get_child("body", ns::JABBER_CLIENT).unwrap().text();
    assert_eq!(
        body,
        "juliet@example.org has blocked and reported spam@elsewhere.example: spam\n> Never\n> came trouble\nMessage 28482 in the archive of juliet@example.org"
    );
    assert!(told.has_child("report", ns::SPAM_REPORTING));
    // How many have done so says more than who.
    let mut romeo = online(&server, "romeo/orchard").await;
    command(&mut romeo, "block", item).await;
    let told = nurse.next().await;
    let second = told.get_child("body", ns::JABBER_CLIENT).unwrap().text();
    assert!(second.ends_with("2 people here have reported them since the server started"));
    assert!(nurse.drain().is_empty());
    // The same again and again is for nobody's screen.
    for _ in 0..30 {
        command(&mut juliet, "unblock", "").await;
        command(&mut juliet, "block", item).await;
    }
    let told = nurse.drain();
    let reports = told.iter().filter(|stanza| stanza.name() == "message");
    assert_eq!(reports.count(), super::REPORTS_AN_HOUR - 1);
    // An admin who is away finds it later.
    let mut friar = client(&server, "friar/cell").await;
    friar.send("<presence/>").await;
    let waited = friar.drain();
    let waited = waited.iter().find(|stanza| stanza.name() == "message");
    let waited = waited.unwrap();
    assert_eq!(
        waited.get_child("body", ns::JABBER_CLIENT).unwrap().text(),
        body
    );
    assert!(waited.has_child("report", ns::SPAM_REPORTING));
    assert!(waited.has_child("delay", ns::DELAY));
}

#[tokio::test]
async fn nobody_is_cut_off_from_oneself() {
    let server = server(&["juliet"]).await;
    let mut juliet = online(&server, "juliet/balcony").await;
    block(&mut juliet, "example.org").await;
    juliet.drain();
    juliet
        .send("<message type='chat'><body>note</body></message>")
        .await;
    assert!(juliet.next().await.has_child("body", ns::JABBER_CLIENT));
}
