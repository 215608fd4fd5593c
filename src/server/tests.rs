//! RFC 6121 as its clients see it.

mod floods;
mod grammar;
mod onslaught;

use super::testing::{client, online, server};
use crate::xmpp::ns;

#[tokio::test]
async fn a_message_reaches_all_sessions_with_the_sender_stamped() {
    let server = server(&["romeo", "juliet"]).await;
    let romeo = online(&server, "romeo/orchard").await;
    let mut balcony = online(&server, "juliet/balcony").await;
    let mut chamber = online(&server, "juliet/chamber").await;
    balcony.drain();
    romeo
        .send("<message to='juliet@example.org' type='chat'><body>hi</body></message>")
        .await;
    for juliet in [&mut balcony, &mut chamber] {
        let message = juliet.next().await;
        assert_eq!(message.attr("from"), Some("romeo@example.org/orchard"));
        assert_eq!(
            message.get_child("body", ns::JABBER_CLIENT).unwrap().text(),
            "hi"
        );
    }
}

#[tokio::test]
async fn what_is_kept_of_a_contact_has_an_end() {
    let server = server(&["romeo"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    for (groups, expected) in [(4, "result"), (5, "error")] {
        let group = |number| format!("<group>{number}{}</group>", "x".repeat(999));
        let groups: String = (0..groups).map(group).collect();
        let item = format!(
            "<query xmlns='jabber:iq:roster'><item jid='juliet@example.org'>{groups}</item></query>"
        );
        let answer = romeo.ask("set", "", &item).await;
        assert_eq!(answer.attr("type"), Some(expected));
    }
}

#[tokio::test]
async fn subscriptions_bring_presence_and_pushes() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let mut juliet = online(&server, "juliet/balcony").await;
    for one in [&mut romeo, &mut juliet] {
        let roster = one
            .ask("get", "", "<query xmlns='jabber:iq:roster'/>")
            .await;
        assert_eq!(roster.attr("type"), Some("result"));
    }
    romeo
        .send("<presence to='juliet@example.org' type='subscribe'/>")
        .await;
    let push = romeo.next().await;
    assert!(
        String::from(&push).contains("ask=\"subscribe\"")
            || String::from(&push).contains("ask='subscribe'")
    );
    let request = juliet.next().await;
    assert_eq!(request.attr("from"), Some("romeo@example.org"));
    juliet
        .send("<presence to='romeo@example.org' type='subscribed'/>")
        .await;
    let kinds: Vec<_> = romeo
        .drain()
        .iter()
        .map(|e| (e.name().to_owned(), e.attr("type").map(str::to_owned)))
        .collect();
    assert_eq!(
        kinds,
        [
            ("presence".to_owned(), Some("subscribed".to_owned())),
            ("iq".to_owned(), Some("set".to_owned())),
            ("presence".to_owned(), None),
        ]
    );
    juliet.leave().await;
    let gone = romeo.next().await;
    assert_eq!(gone.attr("type"), Some("unavailable"));
    assert_eq!(gone.attr("from"), Some("juliet@example.org/balcony"));
}

#[tokio::test]
async fn every_request_is_answered() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = client(&server, "romeo/orchard").await;
    for (to, payload, condition) in [
        ("", "<query xmlns='urn:x'/>", "service-unavailable"),
        (
            "example.org",
            "<query xmlns='urn:x'/>",
            "service-unavailable",
        ),
        (
            "juliet@example.org",
            "<query xmlns='urn:x'/>",
            "service-unavailable",
        ),
        (
            "juliet@example.org/x",
            "<query xmlns='urn:x'/>",
            "service-unavailable",
        ),
        (
            "elsewhere.example",
            "<query xmlns='urn:x'/>",
            "remote-server-not-found",
        ),
        ("a@@b", "<query xmlns='urn:x'/>", "jid-malformed"),
        ("", "", "bad-request"),
    ] {
        let answer = romeo.ask("get", to, payload).await;
        let error = answer.get_child("error", ns::JABBER_CLIENT).unwrap();
        assert!(
            error.has_child(condition, ns::XMPP_STANZAS),
            "{to} {payload}: {error:?}"
        );
    }
    let pong = romeo
        .ask("get", "example.org", "<ping xmlns='urn:xmpp:ping'/>")
        .await;
    assert_eq!(pong.attr("type"), Some("result"));
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let server = server(&["romeo"]).await;
    let romeo = client(&server, "romeo/orchard").await;
    let forged =
        super::testing::stanza("<message from='juliet@example.org' to='romeo@example.org'/>");
    let outcome = server.receive(&romeo.session, forged).await;
    assert_eq!(outcome.unwrap_err().condition, "invalid-from");
}
