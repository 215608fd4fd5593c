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

#[tokio::test]
async fn a_reload_that_denies_a_domain_ends_its_streams() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let b = House::new(&world, &authority, "b.example").await;
    let (romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    say(&romeo, "juliet@b.example", 1).await;
    message(&mut juliet).await;
    assert_eq!(b.ways("a.example").len(), 1);
    let mut settings = XmppServer::clone(&b.server.settings());
    settings.federation.allow = vec!["c.example".to_owned()];
    b.server.set_settings(Arc::new(settings));
    // It looks every five seconds.
    until("the stream ends", || b.ways("a.example").is_empty()).await;
}

#[tokio::test]
async fn a_stanza_that_is_too_large_for_the_other_server_comes_back_alone() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let mut settings = Settings::new("b.example", &["b.example"]);
    settings.xmpp.limits.s2s_stanza_bytes = 10_000;
    let b = House::with(&world, &authority, settings).await;
    let (mut romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    say(&romeo, "juliet@b.example", 1).await;
    assert_eq!(message(&mut juliet).await.attr("id"), Some("1"));
    let long = "x".repeat(20_000);
    romeo
        .send(&format!(
            "<message to='juliet@b.example' id='2'><body>{long}</body></message>"
        ))
        .await;
    say(&romeo, "juliet@b.example", 3).await;
    let (condition, text) = refusal(&message(&mut romeo).await);
    assert_eq!(condition, "policy-violation");
    assert_eq!(text, "b.example takes no stanza of this size");
    assert_eq!(message(&mut juliet).await.attr("id"), Some("3"));
}

/// Speaks for a domain, without TLS, and believes everybody: the first stanza that comes.
async fn plain(mut visitors: mpsc::UnboundedReceiver<(DuplexStream, bool)>) -> String {
    let (mut io, _) = visitors.recv().await.unwrap();
    let mut read = String::new();
    let mut bytes = [0; 4096];
    let mut said = 0;
    loop {
        let count = io.read(&mut bytes).await.unwrap_or_default();
        if count == 0 {
            return read;
        }
        read.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        if said == 0 && read.contains("<stream:stream") {
            said = 1;
            io.write_all(
                b"<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' id='1' version='1.0' \
                xmlns:stream='http://etherx.jabber.org/streams'><stream:features/>",
            )
            .await
            .unwrap();
        } else if said == 1 && read.contains("</db:result>") {
            said = 2;
            io.write_all(b"<db:result from='plain.example' to='a.example' type='valid'/>")
                .await
                .unwrap();
        } else if read.contains("</message>") {
            return read;
        }
    }
}

#[tokio::test]
async fn without_tls_nothing_is_sent_unless_it_is_asked_for() {
    for encryption in [true, false] {
        let (world, authority) = (World::default(), Authority::new());
        let mut settings = Settings::new("a.example", &["a.example"]).dialback();
        settings.xmpp.federation.require_encryption = encryption;
        let a = House::with(&world, &authority, settings).await;
        let mut romeo = a.person("romeo").await;
        let plain = plain(world.listen("plain.example", false));
        let (read, ()) = tokio::join!(plain, say(&romeo, "x@plain.example", 1));
        assert_eq!(read.contains("<message"), !encryption, "{read}");
        if encryption {
            assert!(!read.contains("db:result"), "{read}");
            let (_, text) = refusal(&message(&mut romeo).await);
            assert_eq!(text, "The server of plain.example offers no TLS");
        }
    }
}

#[tokio::test]
async fn another_server_that_writes_fast_is_read_slowly() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let mut settings = Settings::new("b.example", &["b.example"]);
    settings.xmpp.limits.s2s_bytes_per_second = 40_000;
    let b = House::with(&world, &authority, settings).await;
    let (romeo, mut juliet) = (a.person("romeo").await, b.person("juliet").await);
    let begun = Instant::now();
    let body = "x".repeat(20_000);
    for id in 0..8 {
        romeo
            .send(&format!(
                "<message to='juliet@b.example' id='{id}'><body>{body}</body></message>"
            ))
            .await;
    }
    for id in 0..8 {
        assert_eq!(
            message(&mut juliet).await.attr("id"),
            Some(id.to_string().as_str())
        );
    }
    // 160 kB, of which 80 are the burst.
    assert!(begun.elapsed() > Duration::from_millis(1_500));
}
