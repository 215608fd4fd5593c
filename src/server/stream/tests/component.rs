//! A component on the other end of a pipe (XEP-0114).

use sha1::{Digest, Sha1};

use super::*;
use crate::server::component;

const IRC: &str = "irc.example.org";
const OPEN: &str = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='irc.example.org'>";

async fn house() -> House {
    let mut settings = Settings::new("example.org");
    for domain in [IRC, "mail.example.org"] {
        settings
            .components
            .insert(domain.to_owned(), "secret".into());
    }
    let house = House::with(settings).await;
    let server = house.streams.server();
    server.set_hosts(component::hosts(server));
    house
}

fn proof(id: &str, secret: &str) -> String {
    let digest = Sha1::digest(format!("{id}{secret}"));
    digest
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Sends a header and a handshake with this secret; what comes back.
async fn shake(client: &mut Client, secret: &str) -> Option<Event> {
    client.send(OPEN).await;
    let Some(Event::Open(header)) = client.event().await else {
        panic!("no header");
    };
    assert_eq!(header.namespace, ns::COMPONENT);
    assert_eq!(header.from.as_deref(), Some(IRC));
    let proof = proof(&header.id.unwrap(), secret);
    client
        .send(&format!("<handshake>{proof}</handshake>"))
        .await;
    client.event().await
}

async fn connected(house: &mut House) -> Client {
    let mut client = house.connect(ADDRESS, Security::Component);
    let answer = shake(&mut client, "secret").await;
    let Some(Event::Element(handshake)) = answer else {
        panic!("{answer:?}");
    };
    assert!(handshake.is("handshake", ns::JABBER_CLIENT));
    client
}

/// The condition of the stream error, after which the stream is closed.
async fn ended(client: &mut Client, first: Option<Event>) -> String {
    let event = match first {
        Some(event) => Some(event),
        None => client.event().await,
    };
    let Some(Event::Element(error)) = event else {
        panic!("no error: {event:?}");
    };
    assert!(error.is("error", ns::STREAM), "{error:?}");
    assert_eq!(client.event().await, Some(Event::Close));
    let condition = error.children().next().unwrap();
    condition.name().to_owned()
}

async fn stanza(client: &mut Client) -> Element {
    match client.event().await {
        Some(Event::Element(element)) => element,
        other => panic!("{other:?}"),
    }
}

fn condition(stanza: &Element) -> String {
    let error = stanza.get_child("error", ns::JABBER_CLIENT).unwrap();
    error.children().next().unwrap().name().to_owned()
}

#[tokio::test]
async fn a_component_serves_its_domain() {
    let mut house = house().await;
    let mut irc = connected(&mut house).await;
    let server = house.streams.server().clone();
    let mut juliet = testing::online(&server, "juliet/balcony").await;
    juliet
        .send("<message to='romeo@irc.example.org/x' type='chat' id='1'><body>Hi</body></message>")
        .await;
    let message = stanza(&mut irc).await;
    assert_eq!(message.attr("from"), Some("juliet@example.org/balcony"));
    assert_eq!(message.attr("to"), Some("romeo@irc.example.org/x"));
    irc.send("<message from='romeo@irc.example.org/x' to='juliet@example.org' type='chat'><body>Ho</body></message>")
        .await;
    let answer = juliet.next().await;
    assert_eq!(answer.attr("from"), Some("romeo@irc.example.org/x"));
    // Without a sender it is the domain's own; to itself, it sees whether the link is alive.
    irc.send("<iq type='get' id='2' to='irc.example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    let ping = stanza(&mut irc).await;
    assert_eq!(ping.attr("from"), Some(IRC));
    // What is for nobody is said to be.
    irc.send("<iq type='get' id='3'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    assert_eq!(condition(&stanza(&mut irc).await), "bad-request");
    irc.send("<iq type='get' id='4' to='@'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    assert_eq!(condition(&stanza(&mut irc).await), "jid-malformed");
    // The server lists it.
    let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
    let items = juliet.ask("get", "example.org", items).await;
    let query = items.get_child("query", ns::DISCO_ITEMS).unwrap();
    let listed: Vec<_> = query.children().map(|item| item.attr("jid")).collect();
    assert_eq!(listed, [Some(IRC), Some("mail.example.org")]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_know_the_secret_is_not_let_in() {
    let mut house = house().await;
    let mut client = house.connect(ADDRESS, Security::Component);
    let answer = shake(&mut client, "wrong").await;
    assert_eq!(ended(&mut client, answer).await, "not-authorized");
    let mut client = house.connect(ADDRESS, Security::Component);
    client.send(OPEN).await;
    client.event().await;
    client
        .send("<message from='irc.example.org' to='juliet@example.org'/>")
        .await;
    assert_eq!(ended(&mut client, None).await, "not-authorized");
    // Who tries often is refused for a while, with the right one too.
    let most = house
        .streams
        .server()
        .settings()
        .limits
        .login_failures_per_ip;
    for _ in 1..most {
        let mut client = house.connect(ADDRESS, Security::Component);
        shake(&mut client, "wrong").await;
    }
    let mut client = house.connect(ADDRESS, Security::Component);
    client.send(OPEN).await;
    client.event().await;
    assert_eq!(ended(&mut client, None).await, "not-authorized");
}

#[tokio::test]
async fn hostile_headers_and_handshakes_end_the_stream() {
    struct Case {
        name: &'static str,
        sent: String,
        condition: &'static str,
    }
    let header = |namespace: &str, to: &str| {
        format!(
            "<stream:stream xmlns='{namespace}' xmlns:stream='{}'{to}>",
            ns::STREAM
        )
    };
    let cases = [
        Case {
            name: "a client",
            sent: header("jabber:client", " to='irc.example.org'"),
            condition: "invalid-namespace",
        },
        Case {
            name: "no domain",
            sent: header(ns::COMPONENT, ""),
            condition: "improper-addressing",
        },
        Case {
            name: "the server's own domain",
            sent: header(ns::COMPONENT, " to='example.org'"),
            condition: "host-unknown",
        },
        Case {
            name: "somebody of the domain",
            sent: header(ns::COMPONENT, " to='x@irc.example.org'"),
            condition: "host-unknown",
        },
        Case {
            name: "no header",
            sent: "<handshake/>".to_owned(),
            condition: "bad-format",
        },
        Case {
            name: "an empty handshake",
            sent: format!("{OPEN}<handshake/>"),
            condition: "not-authorized",
        },
        Case {
            name: "a huge handshake",
            sent: format!("{OPEN}<handshake>{}</handshake>", "0".repeat(100_000)),
            condition: "policy-violation",
        },
        Case {
            name: "another beginning",
            sent: format!(
                "{OPEN}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>"
            ),
            condition: "not-authorized",
        },
    ];
    let mut house = house().await;
    for case in cases {
        let mut client = house.connect(ADDRESS, Security::Component);
        client.send(&case.sent).await;
        let Some(Event::Open(_)) = client.event().await else {
            panic!("{}: no header", case.name);
        };
        let condition = ended(&mut client, None).await;
        assert_eq!(condition, case.condition, "{}", case.name);
    }
}

#[tokio::test]
async fn a_component_speaks_for_its_domain_alone() {
    for from in [
        "juliet@example.org",
        "mail.example.org",
        "romeo@irc.example.org.evil",
        "@",
    ] {
        let mut house = house().await;
        let mut irc = connected(&mut house).await;
        let server = house.streams.server().clone();
        let mut juliet = testing::online(&server, "juliet/balcony").await;
        for kind in ["message", "presence"] {
            irc.send(&format!("<{kind} from='{from}' to='juliet@example.org'/>"))
                .await;
        }
        assert_eq!(ended(&mut irc, None).await, "invalid-from", "{from}");
        assert!(juliet.drain().is_empty(), "{from}");
    }
}

#[tokio::test]
async fn one_is_connected_at_a_time_and_the_first_stays() {
    let mut house = house().await;
    let mut first = connected(&mut house).await;
    let mut second = house.connect(ADDRESS, Security::Component);
    let answer = shake(&mut second, "secret").await;
    assert_eq!(ended(&mut second, answer).await, "conflict");
    let server = house.streams.server().clone();
    let juliet = testing::client(&server, "juliet/balcony").await;
    juliet.send("<message to='irc.example.org' id='1'/>").await;
    assert_eq!(stanza(&mut first).await.attr("id"), Some("1"));
    first.send("</stream:stream>").await;
    assert_eq!(first.event().await, Some(Event::Close));
    house.tasks.join_next().await;
    house.tasks.join_next().await;
    connected(&mut house).await;
}

#[tokio::test]
async fn what_is_for_a_component_that_is_away_comes_back() {
    let mut house = house().await;
    let server = house.streams.server().clone();
    let mut juliet = testing::client(&server, "juliet/balcony").await;
    juliet
        .send("<message to='romeo@irc.example.org' id='1'><body>Hi</body></message>")
        .await;
    assert_eq!(condition(&juliet.next().await), "remote-server-timeout");
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let answer = juliet.ask("get", IRC, ping).await;
    assert_eq!(condition(&answer), "remote-server-timeout");
    // An answer to nobody is not answered.
    juliet
        .send("<iq type='result' id='2' to='irc.example.org'/>")
        .await;
    assert!(juliet.drain().is_empty());
    connected(&mut house).await;
}

#[tokio::test(start_paused = true)]
async fn a_component_that_does_not_read_is_ended_and_what_waits_comes_back() {
    let mut house = house().await;
    let mut irc = connected(&mut house).await;
    let server = house.streams.server().clone();
    let mut juliet = testing::client(&server, "juliet/balcony").await;
    let body = "x".repeat(4_000);
    let mut sent = 0;
    // The pipe takes 1 MiB, the stream's buffer a little, the mailbox 1,024 stanzas.
    let refused = loop {
        sent += 1;
        assert!(sent < 3_000, "it is bounded");
        juliet
            .send(&format!(
                "<message to='romeo@irc.example.org' id='{sent}'><body>{body}</body></message>"
            ))
            .await;
        if let Some(refused) = juliet.drain().first() {
            break refused.clone();
        }
    };
    assert_eq!(condition(&refused), "remote-server-timeout");
    house.tasks.join_next().await;
    // All that did not reach the pipe.
    assert!(juliet.drain().len() > 500);
    while irc.event().await.is_some() {}
}
