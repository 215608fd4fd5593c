//! Two servers, and what is between them.

use super::*;

#[tokio::test]
async fn two_servers_talk_and_know_each_other_by_their_certificates() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let b = House::new(&world, &authority, "b.example").await;
    let (mut romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    for id in 0..50 {
        say(&romeo, "juliet@b.example", id).await;
    }
    for id in 0..50 {
        let message = message(&mut juliet).await;
        assert_eq!(message.attr("id"), Some(id.to_string().as_str()));
        assert_eq!(message.attr("from"), Some("romeo@a.example/phone"));
    }
    say(&juliet, "romeo@a.example", 50).await;
    assert_eq!(message(&mut romeo).await.attr("id"), Some("50"));
    assert_eq!(a.ways("b.example"), [("out, both ways", "certificate")]);
    assert_eq!(b.ways("a.example"), [("in, both ways", "certificate")]);
    // What nobody takes comes back, over the same two.
    say(&romeo, "nobody@b.example", 51).await;
    let (condition, _) = refusal(&message(&mut romeo).await);
    assert_eq!(condition, "service-unavailable");
}

#[tokio::test]
async fn tls_may_begin_with_the_first_byte() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let mut settings = Settings::new("b.example", &["b.example"]);
    settings.direct_tls = true;
    let b = House::with(&world, &authority, settings).await;
    let (romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    say(&romeo, "juliet@b.example", 1).await;
    assert_eq!(message(&mut juliet).await.attr("id"), Some("1"));
}

#[tokio::test]
async fn a_server_without_a_certificate_for_its_domain_is_called_back() {
    let (world, authority) = (World::default(), Authority::new());
    let settings = |domain: &str| Settings::new(domain, &["other.example"]).dialback();
    let a = House::with(&world, &authority, settings("a.example")).await;
    let b = House::with(&world, &authority, settings("b.example")).await;
    let (mut romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    for id in 0..20 {
        say(&romeo, "juliet@b.example", id).await;
        assert_eq!(
            message(&mut juliet).await.attr("id"),
            Some(id.to_string().as_str())
        );
        say(&juliet, "romeo@a.example", id).await;
        message(&mut romeo).await;
    }
    assert!(a.ways("b.example").contains(&("out", "dialback")));
    assert!(a.ways("b.example").contains(&("in", "dialback")));
    // The answers to pings came: nothing is unconfirmed, so nothing comes back when the other side dies.
    until("a stream is idle", || b.federation().rows()[0].waiting == 0).await;
}

#[tokio::test]
async fn who_cannot_show_that_a_domain_is_theirs_gets_nothing_and_the_sender_is_told() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let wrong = Settings::new("b.example", &["other.example"]);
    let b = House::with(&world, &authority, wrong).await;
    let (mut romeo, juliet) = (a.person("romeo").await, b.person("juliet").await);
    say(&romeo, "juliet@b.example", 1).await;
    let (condition, text) = refusal(&message(&mut romeo).await);
    assert_eq!(condition, "remote-server-timeout");
    assert_eq!(text, "The certificate of b.example is not for b.example");
    // Nor does it get in here.
    say(&juliet, "romeo@a.example", 2).await;
    let mut juliet = juliet;
    let (_, text) = refusal(&message(&mut juliet).await);
    assert!(
        text.contains("The certificate of b.example is not for b.example"),
        "{text}"
    );
    assert!(a.ways("b.example").is_empty());
}

#[tokio::test]
async fn there_is_no_such_domain() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let mut romeo = a.person("romeo").await;
    for (to, text) in [
        ("x@nowhere.example", "There is no domain nowhere.example"),
        ("x@192.0.2.1", "192.0.2.1 is no domain of another server"),
        ("x@localhost", "localhost is no domain of another server"),
    ] {
        say(&romeo, to, 1).await;
        let expected = ("remote-server-not-found".to_owned(), text.to_owned());
        assert_eq!(refusal(&message(&mut romeo).await), expected);
    }
}

#[tokio::test]
async fn a_server_that_nobody_reaches_answers_over_the_stream_that_it_opened() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let b = House::new(&world, &authority, "b.example").await;
    world.set_open("a.example", false);
    let (mut romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    // It waits until the other one comes by itself.
    say(&juliet, "romeo@a.example", 1).await;
    until("a failed attempt", || {
        let rows = b.federation().rows();
        rows.iter().any(|row| row.report.last_error.is_some())
    })
    .await;
    say(&romeo, "juliet@b.example", 2).await;
    assert_eq!(message(&mut juliet).await.attr("id"), Some("2"));
    assert_eq!(message(&mut romeo).await.attr("id"), Some("1"));
    for id in 3..10 {
        say(&juliet, "romeo@a.example", id).await;
        assert_eq!(
            message(&mut romeo).await.attr("id"),
            Some(id.to_string().as_str())
        );
    }
}

#[tokio::test]
async fn what_was_under_way_when_a_server_died_arrives_or_comes_back() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let b = House::new(&world, &authority, "b.example").await;
    let (mut romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    say(&romeo, "juliet@b.example", 0).await;
    message(&mut juliet).await;
    for id in 1..200 {
        say(&romeo, "juliet@b.example", id).await;
    }
    b.kill().await;
    let b = House::new(&world, &authority, "b.example").await;
    let mut newer = b.person("juliet").await;
    say(&romeo, "juliet@b.example", 200).await;
    let mut seen: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    let note = |seen: &mut BTreeMap<usize, Vec<&'static str>>, stanza: &Element, what| {
        let id = stanza.attr("id").unwrap().parse().unwrap();
        seen.entry(id).or_default().push(what);
    };
    while !seen.contains_key(&200) {
        note(&mut seen, &message(&mut newer).await, "arrived");
    }
    for stanza in juliet.drain().iter().filter(|one| one.name() == "message") {
        note(&mut seen, stanza, "arrived");
    }
    until("all came back", || {
        for stanza in romeo.drain().iter().filter(|one| one.name() == "message") {
            let (condition, text) = refusal(stanza);
            assert_eq!(condition, "remote-server-timeout");
            assert!(text.contains("it may have arrived"), "{text}");
            note(&mut seen, stanza, "came back");
        }
        (1..=200).all(|id| seen.contains_key(&id))
    })
    .await;
    for (id, what) in seen {
        let arrived = what.iter().filter(|one| **one == "arrived").count();
        assert!(arrived <= 1, "{id}: {what:?}");
        assert!(what.len() - arrived <= 1, "{id}: {what:?}");
    }
}

#[tokio::test]
async fn domains_of_services_have_streams_of_their_own() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let names = ["b.example", "conference.b.example"];
    let b = House::with(&world, &authority, Settings::new("b.example", &names)).await;
    world.alias("conference.b.example", "b.example");
    let mut romeo = a.person("romeo").await;
    // There is no service of that name in this server.
    say(&romeo, "room@conference.b.example", 1).await;
    let (condition, text) = refusal(&message(&mut romeo).await);
    assert_eq!(condition, "remote-server-not-found");
    assert!(text.contains("host-unknown"), "{text}");
    drop(b);
}

#[tokio::test]
async fn a_domain_that_is_denied_hears_nothing_and_says_nothing() {
    let (world, authority) = (World::default(), Authority::new());
    let mut settings = Settings::new("a.example", &["a.example"]);
    settings.xmpp.federation.deny = vec!["b.example".to_owned()];
    let a = House::with(&world, &authority, settings).await;
    let b = House::new(&world, &authority, "b.example").await;
    let (mut romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    say(&romeo, "juliet@b.example", 1).await;
    let expected = (
        "not-allowed".to_owned(),
        "This server does not talk to b.example".to_owned(),
    );
    assert_eq!(refusal(&message(&mut romeo).await), expected);
    say(&juliet, "romeo@a.example", 2).await;
    let (_, text) = refusal(&message(&mut juliet).await);
    assert!(text.contains("policy-violation"), "{text}");
}

#[tokio::test]
async fn what_waits_when_the_process_ends_is_sent_by_the_next_life() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let b = House::new(&world, &authority, "b.example").await;
    world.set_open("b.example", false);
    let romeo = a.person("romeo").await;
    for id in 0..20 {
        say(&romeo, "juliet@b.example", id).await;
    }
    romeo
        .send("<iq type='get' id='x' to='b.example'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    let storage = a.end().await;
    world.set_open("b.example", true);
    let mut juliet = b.person("juliet").await;
    let settings = Settings::new("a.example", &["a.example"]);
    let _a = House::again(&world, &authority, settings, storage).await;
    for id in 0..20 {
        let message = message(&mut juliet).await;
        assert_eq!(message.attr("id"), Some(id.to_string().as_str()));
        assert!(message.has_child("delay", ns::DELAY), "{message:?}");
    }
}
