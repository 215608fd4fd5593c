//! Streams from outside: a client on the other end of a pipe, with TLS where it is wanted.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::channel::mpsc as channel;
use futures::{SinkExt, StreamExt};
use hmac::{Hmac, Mac};
use minidom::Element;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::xml::{Event, Limits, Reader};
use super::*;
use crate::server::mail::Mail;
use crate::server::session::MAILBOX;
use crate::server::{Settings, testing};
use crate::xmpp::{ns, tls};

mod component;
mod machine;

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0'>";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A server with romeo and juliet, and the tasks of its streams.
struct House {
    streams: Streams,
    tasks: JoinSet<()>,
    stop: Stop,
}

impl House {
    async fn new() -> Self {
        Self::with(Settings::new("example.org")).await
    }

    async fn with(settings: Settings) -> Self {
        Self::of(testing::with(settings, &["romeo", "juliet"]).await)
    }

    fn of(server: Server) -> Self {
        let pair = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
        let key = pair.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let tls = Tls {
            starttls: Arc::clone(&config),
            direct_tls: config,
        };
        Self {
            streams: Streams::new(server, tls),
            tasks: JoinSet::new(),
            stop: Stop::new(),
        }
    }

    fn connect(&mut self, address: IpAddr, security: Security) -> Client {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (streams, stop) = (self.streams.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            streams
                .serve(Box::new(theirs), address, security, stop)
                .await;
        });
        Client::new(Box::new(ours))
    }

    /// A stream with TLS, open, its features read.
    async fn secured(&mut self) -> Client {
        let client = self.connect(ADDRESS, Security::DirectTls).encrypt().await;
        let mut client = client;
        client.open().await;
        client
    }

    /// As romeo with this resource.
    async fn romeo(&mut self, resource: &str) -> Client {
        let mut client = self.secured().await;
        client.login("romeo").await;
        client.bind(resource).await;
        client
    }
}

struct Client {
    io: Box<dyn Pipe>,
    reader: Reader,
}

impl Client {
    fn new(io: Box<dyn Pipe>) -> Self {
        let mut client = Self {
            io,
            reader: Reader::new(Limits::default()),
        };
        client.reader.authenticated();
        client
    }

    async fn encrypt(self) -> Self {
        let config = tls::client_config(false, None, false).unwrap();
        let io = tls::handshake(self.io, "example.org", config)
            .await
            .unwrap();
        Self::new(Box::new(io))
    }

    async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// `None`: the connection is closed.
    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.reader.read().unwrap() {
                return Some(event);
            }
            let mut bytes = [0; 4096];
            match self.io.read(&mut bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.reader.push(&bytes[..count]),
            }
        }
    }

    async fn next(&mut self) -> Element {
        match self.event().await {
            Some(Event::Element(element)) => element,
            other => panic!("{other:?} instead of an element"),
        }
    }

    /// The next element of this name; others are dropped.
    async fn find(&mut self, name: &str) -> Element {
        loop {
            let element = self.next().await;
            if element.name() == name {
                return element;
            }
        }
    }

    /// Sends a header; the features that come back.
    async fn open(&mut self) -> Element {
        self.reader.reset();
        self.send(HEADER).await;
        let event = self.event().await;
        assert!(matches!(event, Some(Event::Open(_))), "{event:?}");
        let features = self.next().await;
        assert!(features.is("features", ns::STREAM));
        features
    }

    /// What the stream ends with.
    async fn error(&mut self) -> Element {
        loop {
            match self.event().await {
                Some(Event::Element(element)) if element.is("error", ns::STREAM) => {
                    assert!(matches!(self.event().await, Some(Event::Close) | None));
                    return element;
                }
                Some(_) => {}
                None => panic!("closed without an error"),
            }
        }
    }

    async fn condition(&mut self) -> String {
        let error = self.error().await;
        error.children().next().unwrap().name().to_owned()
    }

    async fn login(&mut self, name: &str) -> Element {
        let message = STANDARD.encode(format!("\0{name}\0{}", testing::PASSWORD));
        self.send(&format!(
            "<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>",
            ns::SASL
        ))
        .await;
        assert_eq!(self.next().await.name(), "success");
        self.open().await
    }

    async fn bind(&mut self, resource: &str) -> String {
        self.send(&format!(
            "<iq type='set' id='b'><bind xmlns='{}'><resource>{resource}</resource></bind></iq>",
            ns::BIND
        ))
        .await;
        let answer = self.find("iq").await;
        let bind = answer.get_child("bind", ns::BIND).unwrap();
        bind.get_child("jid", ns::BIND).unwrap().text()
    }

    async fn manage(&mut self) -> String {
        self.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
            .await;
        let enabled = self.find("enabled").await;
        enabled.attr("id").unwrap().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn before_tls_only_starttls_is_offered_and_accepted() {
    let mut house = House::new().await;
    let mut client = house.connect(ADDRESS, Security::StartTls);
    let features = client.open().await;
    let starttls = features.get_child("starttls", ns::TLS).unwrap();
    assert!(starttls.has_child("required", ns::TLS));
    assert!(
        !features
            .children()
            .any(|child| child.has_ns(ns::SASL) || child.has_ns(ns::SASL2))
    );
    client
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHBlbmNpbA==</auth>")
        .await;
    assert_eq!(client.condition().await, "not-authorized");
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_starttls_end_the_stream() {
    let mut house = House::new().await;
    for injected in ["<auth/>", " ", "\n"] {
        let mut client = house.connect(ADDRESS, Security::StartTls);
        client.open().await;
        client
            .send(&format!("<starttls xmlns='{}'/>{injected}", ns::TLS))
            .await;
        assert_eq!(client.condition().await, "policy-violation", "{injected:?}");
    }
}

#[tokio::test]
async fn a_client_logs_in_over_starttls_and_writes_to_itself() {
    let mut house = House::new().await;
    let mut client = house.connect(ADDRESS, Security::StartTls);
    client.open().await;
    client
        .send(&format!("<starttls xmlns='{}'/>", ns::TLS))
        .await;
    assert!(client.next().await.is("proceed", ns::TLS));
    let mut client = client.encrypt().await;
    let features = client.open().await;
    let mechanisms = features.get_child("mechanisms", ns::SASL).unwrap();
    assert!(
        mechanisms
            .children()
            .any(|name| name.text() == "SCRAM-SHA-256-PLUS")
    );
    assert!(features.has_child("sasl-channel-binding", ns::SASL_CB));
    assert!(!features.has_child("starttls", ns::TLS));
    let features = client.login("romeo").await;
    assert!(features.has_child("bind", ns::BIND));
    assert!(features.has_child("limits", ns::STREAM_LIMITS));
    assert!(!features.has_child("mechanisms", ns::SASL));
    assert_eq!(client.bind("orchard").await, "romeo@example.org/orchard");
    client
        .send("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
        .await;
    assert_eq!(client.find("iq").await.attr("type"), Some("result"));
    client
        .send(
            "<message to='romeo@example.org/orchard' type='chat'><body>&lt;]]&gt;</body></message>",
        )
        .await;
    let message = client.find("message").await;
    assert_eq!(message.attr("from"), Some("romeo@example.org/orchard"));
    assert_eq!(
        message.get_child("body", ns::JABBER_CLIENT).unwrap().text(),
        "<]]>"
    );
    client.send("</stream:stream>").await;
    assert!(matches!(client.event().await, Some(Event::Close)));
    assert!(client.event().await.is_none());
}

#[tokio::test]
async fn a_stream_is_for_this_host_and_stays_so() {
    let mut house = House::new().await;
    for (name, header, expected) in [
        (
            "another host",
            HEADER.replace("example.org", "example.com"),
            "host-unknown",
        ),
        (
            "no host",
            HEADER.replace("to='example.org' ", ""),
            "host-unknown",
        ),
        (
            "an account",
            HEADER.replace("example.org", "romeo@example.org"),
            "host-unknown",
        ),
        (
            "an old version",
            HEADER.replace(" version='1.0'", ""),
            "unsupported-version",
        ),
        (
            "a server",
            HEADER.replace("jabber:client", "jabber:server"),
            "invalid-namespace",
        ),
        ("no XML", "GET / HTTP/1.1".to_owned(), "bad-format"),
        ("a DTD", "<!DOCTYPE a>".to_owned(), "restricted-xml"),
    ] {
        let mut client = house.connect(ADDRESS, Security::StartTls);
        client.send(&header).await;
        assert!(
            matches!(client.event().await, Some(Event::Open(_))),
            "{name}"
        );
        assert_eq!(client.condition().await, expected, "{name}");
    }
    let mut client = house.secured().await;
    let message = STANDARD.encode(format!("\0romeo\0{}", testing::PASSWORD));
    client
        .send(&format!(
            "<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>",
            ns::SASL
        ))
        .await;
    assert_eq!(client.next().await.name(), "success");
    client.reader.reset();
    client
        .send(&HEADER.replace("example.org", "example.com"))
        .await;
    assert_eq!(client.condition().await, "host-unknown");
}

#[tokio::test]
async fn a_login_that_fails_may_be_tried_again_but_not_for_ever() {
    let mut house = House::new().await;
    let mut client = house.secured().await;
    let wrong = STANDARD.encode("\0romeo\0wrong");
    let auth = format!(
        "<auth xmlns='{}' mechanism='PLAIN'>{wrong}</auth>",
        ns::SASL
    );
    for _ in 0..4 {
        client.send(&auth).await;
        let failure = client.next().await;
        assert!(failure.has_child("not-authorized", ns::SASL), "{failure:?}");
    }
    client.send(&auth).await;
    assert_eq!(client.condition().await, "policy-violation");

    let mut client = house.secured().await;
    for (name, text, expected) in [
        (
            "another mechanism",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='CRAM-MD5'/>",
            "invalid-mechanism",
        ),
        (
            "no base64",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>!</auth>",
            "incorrect-encoding",
        ),
        (
            "EXTERNAL, which is for our own",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
            "invalid-mechanism",
        ),
    ] {
        client.send(text).await;
        let failure = client.next().await;
        assert!(failure.has_child(expected, ns::SASL), "{name}: {failure:?}");
    }
    client
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>")
        .await;
    assert_eq!(client.next().await.name(), "challenge");
    client
        .send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        .await;
    assert!(client.next().await.has_child("aborted", ns::SASL));
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_log_in_is_sent_away() {
    let mut house = House::new().await;
    let mut silent = house.connect(ADDRESS, Security::StartTls);
    assert!(matches!(silent.event().await, Some(Event::Open(_))));
    assert_eq!(silent.condition().await, "connection-timeout");
    let mut talker = house.connect(ADDRESS, Security::StartTls);
    talker.open().await;
    talker.send(&" ".repeat(8_192)).await;
    assert_eq!(talker.condition().await, "policy-violation");
    let mut early = house.connect(ADDRESS, Security::StartTls);
    early.open().await;
    early.send("<message to='juliet@example.org'/>").await;
    assert_eq!(early.condition().await, "not-authorized");
}

#[tokio::test]
async fn what_a_client_may_not_send_ends_its_stream() {
    let mut house = House::new().await;
    for (text, expected) in [
        ("<message from='juliet@example.org'/>", "invalid-from"),
        (
            "<iq type='get' id='1' from='romeo@example.org/other'><ping xmlns='urn:xmpp:ping'/></iq>",
            "invalid-from",
        ),
        ("<hello/>", "unsupported-stanza-type"),
        ("<message xmlns='urn:x'/>", "unsupported-stanza-type"),
        ("<a><!-- --></a>", "restricted-xml"),
        ("<a></b>", "not-well-formed"),
    ] {
        let mut client = house.romeo("r").await;
        client.send(text).await;
        assert_eq!(client.condition().await, expected, "{text}");
    }
}

#[tokio::test]
async fn the_newer_of_two_on_one_resource_stays() {
    let mut house = House::new().await;
    let mut old = house.romeo("r").await;
    let mut new = house.romeo("r").await;
    assert_eq!(old.condition().await, "conflict");
    new.send("<message to='romeo@example.org/r'><body>still here</body></message>")
        .await;
    new.find("message").await;
}

#[tokio::test]
async fn acknowledgements_are_counted_and_false_ones_end_the_stream() {
    let mut house = House::new().await;
    let mut client = house.romeo("r").await;
    client.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(client.find("failed").await.ns(), ns::SM, "it is not on yet");
    client.manage().await;
    client.send("<presence/><r xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(client.find("a").await.attr("h"), Some("1"));
    client.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
    client.find("failed").await;
    client.send("<a xmlns='urn:xmpp:sm:3' h='1000'/>").await;
    let error = client.error().await;
    assert!(error.has_child("undefined-condition", ns::XMPP_STREAMS));
    assert!(error.has_child("handled-count-too-high", ns::SM));
}

#[tokio::test]
async fn more_messages_than_all_queues_hold_reach_a_client_that_acknowledges_them() {
    let mut settings = Settings::new("example.org");
    settings.limits.offline_messages = 10_000;
    settings.limits.c2s_bytes_per_second = 0;
    let mut house = House::with(settings).await;
    let most = sm::QUEUE + MAILBOX + 500;
    let mut juliet = house.secured().await;
    juliet.login("juliet").await;
    juliet.bind("balcony").await;
    for number in 0..most {
        let message =
            format!("<message to='romeo@example.org' type='chat'><body>{number}</body></message>");
        juliet.send(&message).await;
    }
    juliet
        .send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    juliet.find("iq").await;
    let mut romeo = house.romeo("r").await;
    romeo.manage().await;
    // What follows the presence stays in its order.
    romeo
        .send("<presence/><iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    let (mut handled, mut messages) = (0, 0);
    loop {
        let element = romeo.next().await;
        match element.name() {
            "r" => {
                romeo
                    .send(&format!("<a xmlns='urn:xmpp:sm:3' h='{handled}'/>"))
                    .await;
            }
            "iq" => break,
            name => {
                handled += 1;
                messages += usize::from(name == "message");
            }
        }
    }
    assert_eq!(messages, most);
}

#[tokio::test]
async fn a_session_outlives_its_connection() {
    let mut house = House::new().await;
    let mut client = house.romeo("r").await;
    let id = client.manage().await;
    let mut juliet = house.secured().await;
    juliet.login("juliet").await;
    juliet.bind("balcony").await;
    let say = |number: u32| {
        format!("<message to='romeo@example.org/r' type='chat'><body>{number}</body></message>")
    };
    juliet.send(&say(1)).await;
    client.find("message").await;
    client.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    juliet.send(&say(2)).await;
    client.find("message").await;
    // The second is not acknowledged, and the third comes when nobody is there.
    drop(client);
    juliet.send(&say(3)).await;
    juliet
        .send("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    juliet.find("iq").await;

    let resume =
        |id: &str, h: u32| format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>");
    // An id alone opens nothing.
    let mut thief = house.secured().await;
    thief.login("juliet").await;
    thief.send(&resume(&id, 1)).await;
    assert!(
        thief
            .find("failed")
            .await
            .has_child("item-not-found", ns::XMPP_STANZAS)
    );
    assert!(
        thief.bind("other").await.starts_with("juliet@"),
        "it may go on"
    );

    let mut client = house.secured().await;
    client.login("romeo").await;
    client.send(&resume(&id, 1)).await;
    let resumed = client.find("resumed").await;
    assert_eq!(resumed.attr("previd"), Some(id.as_str()));
    for expected in ["2", "3"] {
        let message = client.find("message").await;
        let body = message.get_child("body", ns::JABBER_CLIENT).unwrap();
        assert_eq!(body.text(), expected);
    }
    // Again, while the old connection is still there.
    let mut third = house.secured().await;
    third.login("romeo").await;
    third.send(&resume(&id, 3)).await;
    third.find("resumed").await;
    assert_eq!(client.condition().await, "conflict");
    juliet.send(&say(4)).await;
    third.find("message").await;
}

#[tokio::test]
async fn an_inactive_client_is_told_what_matters() {
    let mut house = House::new().await;
    let mut client = house.romeo("r").await;
    client.send("<inactive xmlns='urn:xmpp:csi:0'/>").await;
    let composing = "<message to='romeo@example.org/r'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>";
    client.send(composing).await;
    client
        .send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    assert_eq!(
        client.next().await.name(),
        "message",
        "what waited comes first"
    );
    assert_eq!(client.next().await.name(), "iq");
}

#[tokio::test]
async fn one_round_trip_logs_in_binds_and_leaves_a_token_for_the_next() {
    let mut house = House::new().await;
    let mut client = house.connect(ADDRESS, Security::DirectTls).encrypt().await;
    let features = client.open().await;
    let authentication = features.get_child("authentication", ns::SASL2).unwrap();
    let inline = authentication.get_child("inline", ns::SASL2).unwrap();
    assert!(inline.has_child("bind", ns::BIND2) && inline.has_child("fast", ns::FAST));
    let message = STANDARD.encode(format!("\0romeo\0{}", testing::PASSWORD));
    let bind = "<bind xmlns='urn:xmpp:bind:0'><tag>Test</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
    let agent = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>";
    client
        .send(&format!(
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>{message}</initial-response>{agent}{bind}\
             <request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/></authenticate>"
        ))
        .await;
    let success = client.next().await;
    assert!(success.is("success", ns::SASL2), "{success:?}");
    let jid = success
        .get_child("authorization-identifier", ns::SASL2)
        .unwrap()
        .text();
    assert!(jid.starts_with("romeo@example.org/Test."));
    let bound = success.get_child("bound", ns::BIND2).unwrap();
    assert!(
        bound
            .get_child("enabled", ns::SM)
            .unwrap()
            .attr("id")
            .is_some()
    );
    let token = success
        .get_child("token", ns::FAST)
        .unwrap()
        .attr("token")
        .unwrap()
        .to_owned();
    assert!(client.next().await.is("features", ns::STREAM));
    client.send("<presence/><r xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(client.find("a").await.attr("h"), Some("1"));

    let mut proof = Hmac::<Sha256>::new_from_slice(token.as_bytes()).unwrap();
    proof.update(b"Initiator");
    let mut response = b"romeo\0".to_vec();
    response.extend_from_slice(&proof.finalize().into_bytes());
    let authenticate = |response: &[u8]| {
        format!(
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-NONE'><initial-response>{}</initial-response>{agent}{bind}\
             <fast xmlns='urn:xmpp:fast:0'/></authenticate>",
            STANDARD.encode(response)
        )
    };
    let mut again = house.secured().await;
    again
        .send(&authenticate(b"juliet\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))
        .await;
    let failure = again.next().await;
    assert!(failure.is("failure", ns::SASL2) && failure.has_child("not-authorized", ns::SASL));
    again.send(&authenticate(&response)).await;
    let success = again.next().await;
    let identifier = success
        .get_child("authorization-identifier", ns::SASL2)
        .unwrap();
    assert_eq!(
        identifier.text(),
        jid,
        "the same installation has the same resource"
    );
    assert_eq!(client.condition().await, "conflict");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_writes_fast_is_read_slowly_and_loses_nothing() {
    let mut settings = Settings::new("example.org");
    settings.limits.c2s_bytes_per_second = 1_000;
    let mut house = House::with(settings).await;
    let mut client = house.romeo("r").await;
    let begun = tokio::time::Instant::now();
    for number in 0..20 {
        client
            .send(&format!(
                "<message to='romeo@example.org/r'><body>{number} {}</body></message>",
                "x".repeat(450)
            ))
            .await;
    }
    for number in 0..20 {
        let message = client.find("message").await;
        let body = message.get_child("body", ns::JABBER_CLIENT).unwrap().text();
        assert!(body.starts_with(&format!("{number} ")));
        // Chunks are read whole, and paid for afterwards.
        if number == 0 {
            client.send(" ").await;
        }
    }
    client
        .send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    client.find("iq").await;
    assert!(
        begun.elapsed() >= Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn white_space_and_half_a_stanza_are_read_as_slowly_as_stanzas() {
    for (name, flood) in [
        ("white space", " ".repeat(20_000)),
        (
            "half a stanza",
            format!("<message><body>{}", "x".repeat(20_000)),
        ),
    ] {
        let mut settings = Settings::new("example.org");
        settings.limits.c2s_bytes_per_second = 1_000;
        let mut house = House::with(settings).await;
        let mut client = house.romeo("r").await;
        let begun = tokio::time::Instant::now();
        client.send(&flood).await;
        let rest = if name == "white space" {
            ""
        } else {
            "</body></message>"
        };
        client
            .send(&format!(
                "{rest}<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>"
            ))
            .await;
        while client.find("iq").await.attr("id") != Some("p") {}
        assert!(
            begun.elapsed() >= Duration::from_secs(10),
            "{name}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_passwords_are_answered_more_and_more_slowly_and_then_not_at_all() {
    let mut settings = Settings::new("example.org");
    settings.limits.login_failures_per_ip = 6;
    let mut house = House::with(settings).await;
    let wrong = STANDARD.encode("\0romeo\0wrong");
    let auth = format!(
        "<auth xmlns='{}' mechanism='PLAIN'>{wrong}</auth>",
        ns::SASL
    );
    let mut waited = Vec::new();
    for _ in 0..2 {
        let mut client = house.secured().await;
        for _ in 0..3 {
            let begun = tokio::time::Instant::now();
            client.send(&auth).await;
            let failure = client.find("failure").await;
            assert!(failure.has_child("not-authorized", ns::SASL));
            waited.push(begun.elapsed());
        }
    }
    assert!(waited[5] > waited[2] + Duration::from_secs(1), "{waited:?}");
    // With the right password neither: the address is refused, over every transport.
    let right = STANDARD.encode(format!("\0romeo\0{}", testing::PASSWORD));
    let auth = format!(
        "<auth xmlns='{}' mechanism='PLAIN'>{right}</auth>",
        ns::SASL
    );
    let mut client = house.secured().await;
    client.send(&auth).await;
    let failure = client.find("failure").await;
    assert!(failure.has_child("temporary-auth-failure", ns::SASL));
    let abuse = house.streams.server().abuse();
    assert_eq!(abuse.count(Refusal::LoginFailures), 1);
    // Another address logs in at once.
    let elsewhere = "192.0.2.2".parse().unwrap();
    let client = house
        .connect(elsewhere, Security::DirectTls)
        .encrypt()
        .await;
    let mut client = client;
    client.open().await;
    let begun = tokio::time::Instant::now();
    client.login("romeo").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_client_in_this_process_needs_no_password() {
    let mut house = House::new().await;
    let romeo = BareJid::new("romeo@example.org").unwrap();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (streams, stop) = (house.streams.clone(), house.stop.clone());
    house
        .tasks
        .spawn(async move { streams.serve_local(theirs, romeo, stop).await });
    let mut client = Client::new(Box::new(ours));
    client.open().await;
    client
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
        .await;
    assert_eq!(client.next().await.name(), "success");
    client.open().await;
    assert_eq!(client.bind("bot").await, "romeo@example.org/bot");
}

#[tokio::test]
async fn a_stop_tells_every_client() {
    let mut house = House::new().await;
    let mut bound = house.romeo("r").await;
    let mut waiting = house.secured().await;
    house.stop.cancel();
    assert_eq!(bound.condition().await, "system-shutdown");
    assert_eq!(waiting.condition().await, "system-shutdown");
    drop((bound, waiting));
    while house.tasks.join_next().await.is_some() {}
}

/// Our end of a WebSocket.
struct Messages {
    incoming: channel::UnboundedReceiver<String>,
    outgoing: channel::UnboundedSender<String>,
}

impl futures::Stream for Messages {
    type Item = std::io::Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming
            .poll_next_unpin(cx)
            .map(|message| message.map(Ok))
    }
}

impl futures::Sink<String> for Messages {
    type Error = std::io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: String) -> std::io::Result<()> {
        self.outgoing
            .unbounded_send(message)
            .map_err(std::io::Error::other)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.outgoing.close_channel();
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_websocket_carries_one_element_in_each_message() {
    let mut house = House::new().await;
    let (mut send, incoming) = channel::unbounded();
    let (outgoing, mut receive) = channel::unbounded::<String>();
    let socket = Messages { incoming, outgoing };
    let (streams, stop) = (house.streams.clone(), house.stop.clone());
    house.tasks.spawn(async move {
        streams
            .serve_websocket(Box::new(socket), Line::default(), ADDRESS, true, stop)
            .await;
    });
    let open = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org' version='1.0'/>";
    let message = STANDARD.encode(format!("\0romeo\0{}", testing::PASSWORD));
    let auth = format!(
        "<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>",
        ns::SASL
    );
    let bind = "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    let hello = "<message xmlns='jabber:client' to='romeo@example.org' type='headline'><body>Hi</body></message>";
    let presence = "<presence xmlns='jabber:client'/>";
    let close = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";
    for (sent, expected) in [
        (
            open,
            &[
                "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id=",
                "<stream:features xmlns:stream=",
            ][..],
        ),
        (auth.as_str(), &["<success "]),
        (open, &["<open ", "<stream:features "]),
        (bind, &["<iq xmlns='jabber:client' "]),
        (presence, &["<presence xmlns='jabber:client' "]),
        (hello, &["<message xmlns='jabber:client' "]),
        (close, &["<close "]),
    ] {
        send.send(sent.to_owned()).await.unwrap();
        for start in expected {
            let message = receive.next().await.unwrap();
            assert!(message.starts_with(start), "{message}");
            assert!(message.parse::<Element>().is_ok(), "{message}");
        }
    }
    assert!(receive.next().await.is_none());
}

#[tokio::test]
async fn a_login_is_worth_nothing_once_the_password_has_changed() {
    let mut house = House::new().await;
    let mut client = house.secured().await;
    client.login("romeo").await;
    let accounts = house.streams.server().accounts().clone();
    let name = jid::NodePart::new("romeo").unwrap().into_owned();
    accounts
        .set_password(&name, "another".into(), None)
        .await
        .unwrap();
    client
        .send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        .await;
    let answer = client.find("iq").await;
    assert_eq!(answer.attr("type"), Some("error"));
    assert!(String::from(&answer).contains("not-authorized"));
}

#[tokio::test]
async fn what_is_in_the_namespace_of_streams_inside_of_a_message_needs_no_prefix() {
    let mut house = House::new().await;
    let mut romeo = house.romeo("r").await;
    romeo
        .send("<message to='romeo@example.org/r'><x xmlns='http://etherx.jabber.org/streams'/></message>")
        .await;
    let message = romeo.find("message").await;
    let mut text = Vec::new();
    Mail::new(message).write(" xmlns='jabber:client'", &mut text);
    let alone: Element = String::from_utf8(text).unwrap().parse().unwrap();
    assert!(alone.has_child("x", ns::STREAM));
}
