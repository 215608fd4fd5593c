//! Two clients, a proxy on loopback, and what passes through it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::*;
use crate::server::desk::Desk;
use crate::server::router::IqType;
use crate::server::testing::{Client, client, server};
use crate::xmpp::ns;

const HOST: &str = "proxy.example.org";
const TARGET: &str = "romeo@elsewhere.example/orchard";

struct Scene {
    juliet: Client,
    port: u16,
    _tasks: JoinSet<anyhow::Result<()>>,
}

async fn scene() -> Scene {
    let server = server(&["juliet"]).await;
    let mut settings = Settings::new("example.org");
    settings.proxy_host = HOST.to_owned();
    settings.proxy_port = 0;
    settings.bind = vec![std::net::Ipv4Addr::LOCALHOST.into()];
    let prepared = prepare(&settings).unwrap().unwrap();
    let port = prepared.listeners[0].local_addr().unwrap().port();
    server.set_hosts(vec![(prepared.host.clone(), prepared.service.clone())]);
    let mut tasks = JoinSet::new();
    tasks.spawn(prepared.serve(Stop::new()));
    Scene {
        juliet: client(&server, "juliet/balcony").await,
        port,
        _tasks: tasks,
    }
}

impl Scene {
    /// `None`: the proxy hangs up.
    async fn connect(&self, sid: &str) -> Option<TcpStream> {
        let name = socks::name(sid, "juliet@example.org/balcony", TARGET);
        let mut io = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        io.write_all(&[5, 1, 0]).await.unwrap();
        let mut method = [0; 2];
        io.read_exact(&mut method).await.unwrap();
        assert_eq!(method, [5, 0]);
        let mut ask = vec![5, 1, 0, 3, 40];
        ask.extend_from_slice(name.as_bytes());
        ask.extend_from_slice(&[0, 0]);
        io.write_all(&ask).await.unwrap();
        let mut answer = [0; 47];
        io.read_exact(&mut answer).await.ok()?;
        assert_eq!(answer[..4], [5, 0, 0, 3]);
        Some(io)
    }

    /// What the word to go is answered: the type, or the condition.
    async fn go(&mut self, sid: &str) -> String {
        let query = format!(
            "<query xmlns='{}' sid='{sid}'><activate>{TARGET}</activate></query>",
            ns::BYTESTREAMS
        );
        let answer = self.juliet.ask("set", HOST, &query).await;
        match answer.get_child("error", ns::JABBER_CLIENT) {
            Some(error) => error.children().next().unwrap().name().to_owned(),
            None => answer.attr("type").unwrap().to_owned(),
        }
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_once_the_word_was_given() {
    let mut scene = scene().await;
    let ask = format!("<query xmlns='{}' sid='s'/>", ns::BYTESTREAMS);
    let answer = scene.juliet.ask("get", HOST, &ask).await;
    let address = answer.get_child("query", ns::BYTESTREAMS).unwrap();
    let address = address.get_child("streamhost", ns::BYTESTREAMS).unwrap();
    assert_eq!(address.attr("port"), Some(scene.port.to_string().as_str()));
    assert_eq!(scene.go("s").await, "item-not-found");
    let mut romeo = scene.connect("s").await.unwrap();
    assert_eq!(scene.go("s").await, "not-allowed");
    let mut juliet = scene.connect("s").await.unwrap();
    // The third of two is sent away.
    assert!(scene.connect("s").await.is_none());
    assert_eq!(scene.go("s").await, "result");
    let sent: Vec<u8> = (0..1_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let receiving = async {
        let mut received = Vec::new();
        romeo.read_to_end(&mut received).await.unwrap();
        romeo.write_all(b"thanks").await.unwrap();
        romeo.shutdown().await.unwrap();
        received
    };
    let sending = async {
        juliet.write_all(&sent).await.unwrap();
        juliet.shutdown().await.unwrap();
        let mut answer = String::new();
        juliet.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (received, answer) = tokio::join!(receiving, sending);
    assert!(received == sent);
    assert_eq!(answer, "thanks");
    assert_eq!(scene.go("s").await, "item-not-found", "it is over");
}

#[tokio::test]
async fn an_account_has_so_many_transfers_under_way() {
    let mut scene = scene().await;
    let mut open = Vec::new();
    for number in 0..=OF_AN_ACCOUNT {
        let sid = format!("s{number}");
        open.push((scene.connect(&sid).await, scene.connect(&sid).await));
        let expected = if number < OF_AN_ACCOUNT {
            "result"
        } else {
            "resource-constraint"
        };
        assert_eq!(scene.go(&sid).await, expected);
    }
}

#[tokio::test]
async fn the_proxy_is_for_people_of_this_server() {
    let scene = scene().await;
    let (service, _starts) = Service::new(Proxy::default(), HOST, 1);
    for from in [
        "romeo@elsewhere.example/orchard",
        "example.org",
        "juliet@bots.example.org",
    ] {
        let ask = format!(
            "<iq type='get' id='1' to='{HOST}'><query xmlns='{}' sid='s'/></iq>",
            ns::BYTESTREAMS
        );
        let from = jid::Jid::new(from).unwrap();
        let to = jid::Jid::new(HOST).unwrap();
        let stanza = crate::server::testing::stanza(&ask);
        let stanza = crate::server::stanza::Stanza::new(from, Some(to), stanza).unwrap();
        let payload = stanza.element().children().next().unwrap();
        let asked = service.asked(&scene.juliet.server, &stanza, IqType::Get, payload);
        let error = asked.await.unwrap_err();
        assert_eq!(error.condition, crate::server::Condition::Forbidden);
    }
}
