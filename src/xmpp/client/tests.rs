//! The client against scripted servers: in a pipe where only the stream matters, over TCP and TLS where that does.

mod network;
mod stream;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::*;
use crate::xmpp::scram::{Binding, First, Hash};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='1' from='example.org' version='1.0'>";

/// The server's end of a connection.
pub(in crate::xmpp) struct Peer<Io> {
    io: Io,
    /// Read, and not yet looked for.
    unread: String,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Peer<Io> {
    pub(in crate::xmpp) const fn new(io: Io) -> Self {
        Self {
            io,
            unread: String::new(),
        }
    }

    pub(in crate::xmpp) async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads up to and including this text.
    pub(in crate::xmpp) async fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(start) = self.unread.find(text) {
                let rest = self.unread.split_off(start + text.len());
                return std::mem::replace(&mut self.unread, rest);
            }
            let mut bytes = [0; 4096];
            let count = self.io.read(&mut bytes).await.unwrap();
            assert!(
                count > 0,
                "the client closed; wanted {text:?}, got {:?}",
                self.unread
            );
            self.unread
                .push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }

    /// Reads all that comes until the client closes.
    async fn rest(mut self) -> String {
        // A reset is as good as an end.
        self.io.read_to_string(&mut self.unread).await.ok();
        self.unread
    }

    /// Answers a stream header with ours and these features.
    pub(in crate::xmpp) async fn open(&mut self, features: &str) {
        self.expect("<stream:stream ").await;
        self.expect(">").await;
        self.send(&format!(
            "{HEADER}<stream:features>{features}</stream:features>"
        ))
        .await;
    }

    async fn open_for_login(&mut self, mechanisms: &[&str]) {
        self.open_with_bindings(mechanisms, "").await;
    }

    /// `bindings`: XEP-0440.
    async fn open_with_bindings(&mut self, mechanisms: &[&str], bindings: &str) {
        let list: Vec<String> = mechanisms
            .iter()
            .map(|name| format!("<mechanism>{name}</mechanism>"))
            .collect();
        let list = list.concat();
        self.open(&format!(
            "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{list}</mechanisms>{bindings}"
        ))
        .await;
    }

    /// What an `<auth/>` or `<response/>` holds, and its tag.
    async fn sasl(&mut self) -> (String, String) {
        let tag = self.expect(">").await;
        let data = self.expect("<").await;
        self.expect(">").await;
        let decoded = STANDARD.decode(data.trim_end_matches('<')).unwrap();
        (tag, String::from_utf8(decoded).unwrap())
    }

    async fn succeed(&mut self, data: &str) {
        let data = STANDARD.encode(data);
        self.send(&format!(
            "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{data}</success>"
        ))
        .await;
        self.open("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/>")
            .await;
    }

    /// The quick way to a session that is logged in and not bound.
    async fn log_in(&mut self) {
        self.open_for_login(&["PLAIN"]).await;
        let (tag, message) = self.sasl().await;
        assert!(tag.contains("PLAIN"), "{tag}");
        assert_eq!(message, "\0bot\0secret");
        self.succeed("").await;
    }

    /// The server's half of SCRAM for a password, up to what it should say last.
    async fn scram(&mut self, hash: Hash, binding: Binding, password: &str) -> (String, String) {
        let (tag, first) = self.sasl().await;
        let nonce = first.rsplit_once("r=").unwrap().1.to_owned();
        let challenge = format!("r={nonce}server,s=c2FsdA==,i=4096");
        let mirror = First::new(hash, binding, "bot", nonce);
        assert_eq!(first, mirror.message());
        let proof = mirror.answer(&challenge, password).unwrap();
        let encoded = STANDARD.encode(challenge);
        self.send(&format!(
            "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{encoded}</challenge>"
        ))
        .await;
        let (_, answer) = self.sasl().await;
        assert_eq!(answer, proof.message);
        (tag, proof.expected())
    }

    /// Binds what the client asks for and enables stream management; the resource.
    async fn bind(&mut self) -> String {
        let request = self.expect("</iq>").await;
        let resource = request.split_once("<resource>").unwrap().1;
        let resource = resource.split_once('<').unwrap().0.to_owned();
        self.send(&format!(
            "<iq type='result' id='resource-binding'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <jid>bot@example.org/{resource}</jid></bind></iq>"
        ))
        .await;
        self.expect("</enable>").await;
        self.send("<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>")
            .await;
        resource
    }
}

fn settings() -> Settings {
    Settings::new("bot@example.org".parse().unwrap(), "secret".into())
}

/// Connections that come out at the other end.
pub(in crate::xmpp) fn pipe() -> (Transport, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let dial = move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let outcome = sender.send(far).map(|()| near).map_err(|_gone| refused);
        std::future::ready(outcome).boxed()
    };
    (Transport::Local(Arc::new(dial)), receiver)
}

fn piped(settings: Settings) -> (Client, mpsc::UnboundedReceiver<DuplexStream>) {
    let (transport, connections) = pipe();
    let client = Client::new(Settings {
        transport,
        ..settings
    });
    (client, connections)
}

fn message(id: &str) -> Stanza {
    let mut message =
        xmpp_parsers::message::Message::chat("ann@example.org".parse::<Jid>().unwrap());
    message.id = Some(xmpp_parsers::message::Id(id.to_owned()));
    message.into()
}

async fn online(client: &mut Client) -> (Jid, Option<Mechanism>) {
    match client.next().await {
        Some(Event::Online { jid, mechanism, .. }) => (jid, mechanism),
        other => panic!("{other:?}"),
    }
}

/// The id of the next message.
async fn next_message(client: &mut Client) -> Option<String> {
    match client.next().await {
        Some(Event::Stanza(stanza)) => match *stanza {
            Stanza::Message(message) => message.id.map(|id| id.0),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// The text of the next failure, and whether it is final.
async fn failure(client: &mut Client) -> (String, bool) {
    match client.next().await {
        Some(Event::Failed(err)) => (err.to_string(), true),
        Some(Event::Retrying { reason, .. }) => (reason, false),
        other => panic!("{other:?}"),
    }
}
