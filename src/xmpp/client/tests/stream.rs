//! Logins, resumption and what else happens on a stream.

use super::*;

#[tokio::test(start_paused = true)]
async fn scram_is_preferred_and_the_server_must_prove_itself_too() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.open_for_login(&[
            "PLAIN",
            "SCRAM-SHA-1",
            "SCRAM-SHA-256",
            "SCRAM-SHA-256-PLUS",
        ])
        .await;
        let (tag, last) = peer
            .scram(Hash::Sha256, Binding::Unsupported, "secret")
            .await;
        assert!(
            tag.contains("SCRAM-SHA-256'") || tag.contains("SCRAM-SHA-256\""),
            "{tag}"
        );
        peer.succeed(&last).await;
        peer.bind().await;
        peer
    };
    let (mut peer, (jid, mechanism)) = tokio::join!(server, online(&mut client));
    assert_eq!(jid.to_string(), "bot@example.org/moltis");
    assert_eq!(mechanism, Some(Mechanism::ScramSha256));
    let goodbye = async {
        peer.expect("</stream:stream>").await;
        peer.send("</stream:stream>").await;
    };
    tokio::join!(client.close(), goodbye);
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_leaves_before_the_goodbye_and_is_acknowledged() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        peer.bind().await;
        peer.expect("id='m199'").await;
        peer.send("<a xmlns='urn:xmpp:sm:3' h='200'/>").await;
        peer.expect("</stream:stream>").await;
        peer.send("</stream:stream>").await;
    };
    let events = async {
        online(&mut client).await;
        let mut acknowledged = Vec::new();
        for number in 0..200 {
            assert!(client.has_room());
            acknowledged.push(client.send(message(&format!("m{number}"))).await);
        }
        client.close().await;
        futures::future::join_all(acknowledged).await
    };
    let ((), acknowledged) = tokio::join!(server, events);
    let lost = acknowledged
        .iter()
        .filter(|outcome| outcome.is_err())
        .count();
    assert!(
        lost <= 1,
        "{lost} of 200: the goodbye may overtake the last acknowledgement, but no more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_the_password_is_left() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.open_for_login(&["SCRAM-SHA-1"]).await;
        peer.scram(Hash::Sha1, Binding::Unsupported, "secret").await;
        let wrong = STANDARD.encode("v=d3Jvbmc=");
        peer.send(&format!(
            "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{wrong}</success>"
        ))
        .await;
    };
    let ((), (text, fatal)) = tokio::join!(server, failure(&mut client));
    assert!(
        text.contains("the server's signature is wrong") && fatal,
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_weaker_mechanism_than_last_time_is_refused_before_anything_is_said() {
    let (mut client, mut connections) = piped(Settings {
        minimum_mechanism: Some(Mechanism::ScramSha1),
        ..settings()
    });
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.open_for_login(&["PLAIN"]).await;
        peer.rest().await
    };
    let (said, (text, fatal)) = tokio::join!(server, failure(&mut client));
    assert!(text.contains("weaker than SCRAM-SHA-1") && fatal, "{text}");
    assert!(!said.contains("auth"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_reported_once_and_not_tried_again() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.open_for_login(&["PLAIN"]).await;
        peer.sasl().await;
        peer.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>")
            .await;
        peer
    };
    let (_peer, (text, fatal)) = tokio::join!(server, failure(&mut client));
    assert!(text.contains("correct jid and password") && fatal, "{text}");
    assert!(client.next().await.is_none());
    assert!(
        connections.try_recv().is_err(),
        "there was one connection only"
    );
}

#[tokio::test(start_paused = true)]
async fn a_temporary_failure_is_tried_again() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.open_for_login(&["PLAIN"]).await;
        peer.sasl().await;
        peer.send(
            "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><temporary-auth-failure/></failure>",
        )
        .await;
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        peer.bind().await;
        peer
    };
    let events = async {
        let (text, fatal) = failure(&mut client).await;
        assert!(text.contains("right now") && !fatal, "{text}");
        online(&mut client).await
    };
    tokio::join!(server, events);
}

#[tokio::test(start_paused = true)]
async fn after_a_cut_nothing_is_lost_or_doubled_and_a_poison_stanza_is_counted() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        peer.bind().await;
        let poison = format!(
            "<message id='poison'>{}{}</message>",
            "<a>".repeat(4000),
            "</a>".repeat(4000)
        );
        peer.send(&format!(
            "<message id='one'/>{poison}<iq/><message id='two'/>"
        ))
        .await;
        for id in ["a", "b", "c"] {
            peer.expect(&format!("id='{id}'")).await;
        }
        peer.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
        peer.expect("<r ").await;
        drop(peer);

        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        let resume = peer.expect("</resume>").await;
        assert!(
            resume.contains("previd='s1'") && resume.contains("h='4'"),
            "{resume}"
        );
        // It has got one more than it acknowledged.
        peer.send("<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='2'/>")
            .await;
        let again = peer.expect("id='c'").await;
        assert!(!again.contains("id='b'"), "{again}");
        peer.send("<a xmlns='urn:xmpp:sm:3' h='3'/><message id='three'/>")
            .await;
        peer
    };
    let events = async {
        online(&mut client).await;
        let mut acknowledged = Vec::new();
        for id in ["a", "b", "c"] {
            acknowledged.push(client.send(message(id)).await);
        }
        assert_eq!(next_message(&mut client).await.as_deref(), Some("one"));
        assert_eq!(
            next_message(&mut client).await,
            None,
            "the poison stanza, empty"
        );
        assert_eq!(next_message(&mut client).await.as_deref(), Some("two"));
        assert!(matches!(client.next().await, Some(Event::Suspended { .. })));
        assert!(matches!(client.next().await, Some(Event::Resumed)));
        assert_eq!(next_message(&mut client).await.as_deref(), Some("three"));
        // What came with the last stanza is worked off by the next poll.
        assert!(client.next().now_or_never().is_none());
        for acknowledged in acknowledged {
            acknowledged.await.unwrap();
        }
    };
    let (_peer, ()) = tokio::join!(server, events);
}

#[tokio::test(start_paused = true)]
async fn what_a_new_session_cannot_deliver_is_reported_lost() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        peer.bind().await;
        peer.expect("id='a'").await;
        peer.expect("<r ").await;
        drop(peer);

        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        peer.expect("</resume>").await;
        peer.send(
            "<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
        )
        .await;
        peer.bind().await;
        peer.expect("id='b'").await;
        peer
    };
    let events = async {
        online(&mut client).await;
        let lost = client.send(message("a")).await;
        assert!(matches!(client.next().await, Some(Event::Suspended { .. })));
        let waiting = client.send(message("b")).await;
        online(&mut client).await;
        assert!(client.next().now_or_never().is_none());
        assert!(lost.await.is_err());
        (client, waiting)
    };
    let (_peer, (_client, mut waiting)) = tokio::join!(server, async {
        let (mut client, waiting) = events.await;
        // Drives the client until the server has seen the second message.
        tokio::time::timeout(Duration::from_millis(10), client.next())
            .await
            .unwrap_err();
        (client, waiting)
    });
    assert!(waiting.try_recv().is_err(), "not acknowledged yet");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_picks_another_resource_instead_of_fighting() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        assert_eq!(peer.bind().await, "moltis");
        peer.send(
            "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
        )
        .await;
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        let resource = peer.bind().await;
        (peer, resource)
    };
    let events = async {
        online(&mut client).await;
        match client.next().await {
            Some(Event::Suspended { reason }) => assert!(reason.contains("conflict"), "{reason}"),
            other => panic!("{other:?}"),
        }
        online(&mut client).await
    };
    let ((_peer, resource), (jid, _)) = tokio::join!(server, events);
    assert!(
        resource.starts_with("moltis-") && resource.len() == "moltis-abcd".len(),
        "{resource}"
    );
    assert_eq!(jid.to_string(), format!("bot@example.org/{resource}"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_link_is_noticed_within_two_minutes() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        peer.bind().await;
        peer
    };
    let (_peer, _) = tokio::join!(server, online(&mut client));
    let since = tokio::time::Instant::now();
    assert!(matches!(client.next().await, Some(Event::Suspended { .. })));
    assert!(
        since.elapsed() < Duration::from_mins(2),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hostile_server_is_left_with_a_reason() {
    let (mut client, mut connections) = piped(settings());
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.log_in().await;
        peer.bind().await;
        peer.expect("id='a'").await;
        peer.send("<!DOCTYPE lol [<!ENTITY lol 'lol'>]>").await;
        peer
    };
    let events = async {
        online(&mut client).await;
        drop(client.send(message("a")).await);
        match client.next().await {
            Some(Event::Suspended { reason }) => assert!(reason.contains("DOCTYPE"), "{reason}"),
            other => panic!("{other:?}"),
        }
    };
    tokio::join!(server, events);
}

#[tokio::test(start_paused = true)]
async fn a_component_shakes_hands_and_speaks_the_same_stanzas() {
    let (mut client, mut connections) = piped(Settings {
        component_secret: Some("s3cret".into()),
        ..Settings::new("bot.example.org".parse().unwrap(), "".into())
    });
    let server = async {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.expect("<stream:stream ").await;
        let header = peer.expect("version=").await;
        assert!(
            header.contains("jabber:component:accept") && header.contains("to='bot.example.org'"),
            "{header}"
        );
        peer.expect(">").await;
        peer.send(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams' from='bot.example.org' id='42'>",
        )
        .await;
        // sha1("42s3cret")
        peer.expect(">1895d65571b046e0e2fc206ed3e7684c5e85d0c9</")
            .await;
        peer.expect(">").await;
        peer.send("<handshake/><message id='one' from='ann@example.org'/><message xmlns='jabber:component:accept' id='two'/>").await;
        let said = peer.expect("id='a'").await;
        assert!(
            !said.contains("stream") && !said.contains("xmlns"),
            "{said}"
        );
        peer
    };
    let events = async {
        let (jid, mechanism) = online(&mut client).await;
        assert_eq!(
            (jid.to_string().as_str(), mechanism),
            ("bot.example.org", None)
        );
        let sent = client.send(message("a")).await;
        assert_eq!(next_message(&mut client).await.as_deref(), Some("one"));
        assert_eq!(next_message(&mut client).await.as_deref(), Some("two"));
        sent.await.unwrap();
    };
    let (mut peer, ()) = tokio::join!(server, events);
    tokio::join!(client.close(), async {
        peer.expect("</stream:stream>").await
    });
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_ends_when_the_network_is_back() {
    let dial = || {
        let refused = std::io::Error::from(std::io::ErrorKind::NetworkUnreachable);
        std::future::ready(Err(refused)).boxed()
    };
    let mut client = Client::new(Settings {
        transport: Transport::Local(Arc::new(dial)),
        ..settings()
    });
    let home = Arc::new(std::sync::Mutex::new([None, None]));
    let network = Arc::clone(&home);
    client.network = crate::xmpp::network::Watch::new(move || *network.lock().unwrap());
    let mut retrying = async || match client.next().await {
        Some(Event::Retrying { after, .. }) => after,
        other => panic!("{other:?}"),
    };
    while retrying().await < Duration::from_secs(30) {}
    *home.lock().unwrap() = [Some([10, 0, 0, 2].into()), None];
    let start = tokio::time::Instant::now();
    retrying().await;
    assert!(
        start.elapsed() <= Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}
