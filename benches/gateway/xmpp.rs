//! The XMPP server: direct TLS, SCRAM-SHA-256, one account, and everybody who writes to it. It answers what a client needs
//! at its start, acknowledges (XEP-0198), and refuses the rest.

mod framing;
mod scram;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use minidom::Element;
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::framing::{Framer, Piece};
use self::scram::Scram;
use super::turns::{self, Turns};

pub(super) const ACCOUNT: &str = "bot@bench.example";
pub(super) const PASSWORD: &str = "correct horse battery staple";
const DOMAIN: &str = "bench.example";

const FOOTER: &str = "</stream:stream>";
const FEATURES_BEFORE: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-256</mechanism></mechanisms></stream:features>";
const FEATURES_AFTER: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
    <sm xmlns='urn:xmpp:sm:3'/></stream:features>";
/// What a client of our days announces, as long a list as usual: what is remembered of it counts.
const CLIENT_FEATURES: &[&str] = &[
    "http://jabber.org/protocol/caps",
    "http://jabber.org/protocol/chatstates",
    "http://jabber.org/protocol/disco#info",
    "http://jabber.org/protocol/muc",
    "http://jabber.org/protocol/nick+notify",
    "jabber:iq:version",
    "jabber:x:conference",
    "jabber:x:oob",
    "eu.siacs.conversations.axolotl.devicelist+notify",
    "urn:xmpp:avatar:metadata+notify",
    "urn:xmpp:bookmarks:1+notify",
    "urn:xmpp:chat-markers:0",
    "urn:xmpp:jingle:1",
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:apps:file-transfer:3",
    "urn:xmpp:jingle:apps:file-transfer:4",
    "urn:xmpp:jingle:apps:file-transfer:5",
    "urn:xmpp:jingle:apps:rtp:1",
    "urn:xmpp:jingle:apps:rtp:audio",
    "urn:xmpp:jingle:apps:rtp:video",
    "urn:xmpp:jingle:jet-omemo:0",
    "urn:xmpp:jingle:jet:0",
    "urn:xmpp:jingle:transports:ibb:1",
    "urn:xmpp:jingle:transports:ice-udp:1",
    "urn:xmpp:jingle:transports:s5b:1",
    "urn:xmpp:jingle-message:0",
    "urn:xmpp:message-correct:0",
    "urn:xmpp:ping",
    "urn:xmpp:reactions:0",
    "urn:xmpp:receipts",
    "urn:xmpp:time",
];
const SERVER: &str = "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='server' type='im' name='bench'/>\
    <feature var='http://jabber.org/protocol/disco#info'/><feature var='urn:xmpp:mam:2'/></query>";

pub(super) struct Server {
    pub(super) port: u16,
    /// Its certificate, for those who should trust it.
    pub(super) authority: String,
    sessions: mpsc::UnboundedReceiver<Session>,
    /// Ends with this.
    _serving: JoinSet<()>,
}

/// The account is online.
pub(super) struct Session {
    /// When its presence came.
    pub(super) since: Instant,
    out: mpsc::UnboundedSender<Out>,
}

struct Out {
    xml: String,
    /// It carries this turn's question.
    turn: Option<usize>,
}

impl Session {
    /// A person writes.
    pub(super) fn ask(&self, person: &str, turn: usize) -> Result<()> {
        let body = turns::question(turn);
        let xml = format!(
            "<message from='{person}@people.example/phone' to='{ACCOUNT}' type='chat' id='q{turn}'><body>{body}</body>\
             <origin-id xmlns='urn:xmpp:sid:0' id='q{turn}'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='{ACCOUNT}' id='s{turn}'/>\
             <request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>\
             <active xmlns='http://jabber.org/protocol/chatstates'/></message>"
        );
        let turn = Some(turn);
        self.out
            .send(Out { xml, turn })
            .ok()
            .context("The bot is no longer connected")
    }
}

impl Server {
    pub(super) async fn start(turns: Turns) -> Result<Self> {
        let key = rcgen::generate_simple_self_signed([DOMAIN.to_owned()])?;
        let secret = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], secret.into())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (online, sessions) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::new(tls), online, turns));
        Ok(Self {
            port,
            authority: key.cert.pem(),
            sessions,
            _serving: serving,
        })
    }

    /// Waits for the account to come online.
    pub(super) async fn online(&mut self) -> Result<Session> {
        self.sessions.recv().await.context("The server has ended")
    }
}

async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    online: mpsc::UnboundedSender<Session>,
    turns: Turns,
) {
    let acceptor = TlsAcceptor::from(tls);
    // Derived once: a server has it stored.
    let scram = Arc::new(Scram::new(PASSWORD));
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, scram) = (acceptor.clone(), Arc::clone(&scram));
        let (online, turns) = (online.clone(), turns.clone());
        connections.spawn(async move {
            if let Err(err) = connection(socket, &acceptor, &scram, online, turns).await {
                // The bot's end of it is in its log; this is for whoever works on this server.
                tracing::debug!("{err:#}");
            }
        });
    }
}

async fn connection(
    socket: TcpStream,
    acceptor: &TlsAcceptor,
    scram: &Scram,
    online: mpsc::UnboundedSender<Session>,
    turns: Turns,
) -> Result<()> {
    socket.set_nodelay(true)?;
    let (read, write) = tokio::io::split(acceptor.accept(socket).await?);
    let mut input = Input {
        read,
        framer: Framer::default(),
    };
    let (out, queue) = mpsc::unbounded_channel();
    let mut writer = JoinSet::new();
    writer.spawn(write_all(write, queue, turns.clone()));
    login(&mut input, &out, scram).await?;
    let mut stream = Stream {
        online,
        turns,
        out,
        received: 0,
    };
    while let Some((stanza, at)) = input.element().await? {
        stream.take(&stanza, at)?;
    }
    send(&stream.out, FOOTER)?;
    writer.join_all().await;
    Ok(())
}

fn send(out: &mpsc::UnboundedSender<Out>, xml: impl Into<String>) -> Result<()> {
    let (xml, turn) = (xml.into(), None);
    out.send(Out { xml, turn }).ok().context("Closed")
}

async fn write_all(
    mut write: WriteHalf<TlsStream<TcpStream>>,
    mut queue: mpsc::UnboundedReceiver<Out>,
    turns: Turns,
) {
    while let Some(Out { xml, turn }) = queue.recv().await {
        if let Some(turn) = turn {
            turns.note(turn, |turn| turn.written = Some(Instant::now()));
        }
        if write.write_all(xml.as_bytes()).await.is_err() || write.flush().await.is_err() {
            return;
        }
        if xml == FOOTER {
            break;
        }
    }
    // The other side may have closed already.
    write.shutdown().await.ok();
}

/// What comes in, cut into elements.
struct Input {
    read: ReadHalf<TlsStream<TcpStream>>,
    framer: Framer,
}

impl Input {
    /// `None`: the connection has ended.
    async fn piece(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.framer.next() {
                return Ok(Some(piece));
            }
            if self.read.read_buf(self.framer.buffer()).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next element and when it was there; `None` at the end of the stream.
    async fn element(&mut self) -> Result<Option<(Element, Instant)>> {
        let Some(Piece::Element(xml)) = self.piece().await? else {
            return Ok(None);
        };
        let at = Instant::now();
        let element =
            Element::from_reader_with_prefixes(xml.as_slice(), "jabber:client".to_owned())?;
        Ok(Some((element, at)))
    }

    /// Answers a stream's header with ours and the features.
    async fn open(&mut self, out: &mpsc::UnboundedSender<Out>, features: &str) -> Result<()> {
        match self.piece().await? {
            Some(Piece::Header) => {}
            _ => bail!("No stream header"),
        }
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
             from='{DOMAIN}' id='bench' version='1.0'>{features}"
        );
        send(out, header)
    }
}

/// RFC 6120, 6.4, and the second stream's header.
async fn login(input: &mut Input, out: &mpsc::UnboundedSender<Out>, scram: &Scram) -> Result<()> {
    input.open(out, FEATURES_BEFORE).await?;
    let (auth, _) = input.element().await?.context("No login")?;
    let exchange = Scram::begin(&auth.text())?;
    let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
    send(
        out,
        format!(
            "<challenge xmlns='{sasl}'>{}</challenge>",
            exchange.challenge
        ),
    )?;
    let (response, _) = input.element().await?.context("No response")?;
    let signature = scram.end(&exchange, &response.text())?;
    input.framer.restart();
    send(
        out,
        format!("<success xmlns='{sasl}'>{signature}</success>"),
    )?;
    input.open(out, FEATURES_AFTER).await
}

/// A stream that is logged in.
struct Stream {
    online: mpsc::UnboundedSender<Session>,
    turns: Turns,
    out: mpsc::UnboundedSender<Out>,
    /// XEP-0198, 4: counted stanzas.
    received: u32,
}

impl Stream {
    fn take(&mut self, stanza: &Element, at: Instant) -> Result<()> {
        match stanza.name() {
            "enable" => {
                self.received = 0;
                let enabled = "<enabled xmlns='urn:xmpp:sm:3' id='bench' resume='true'/>";
                return send(&self.out, enabled);
            }
            "r" => {
                let acknowledgement = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.received);
                return send(&self.out, acknowledgement);
            }
            "iq" => {
                if let Some(answer) = answer(stanza) {
                    send(&self.out, answer)?;
                }
            }
            "presence" if stanza.attr("to").is_none() && stanza.attr("type").is_none() => {
                let out = self.out.clone();
                // Nobody waits for it: then nobody.
                self.online.send(Session { since: at, out }).ok();
            }
            "message" => {
                if let Some(body) = stanza.get_child("body", "jabber:client") {
                    let is_correction = stanza.has_child("replace", "urn:xmpp:message-correct:0");
                    self.turns.heard(&body.text(), is_correction, at);
                }
            }
            _ => {}
        }
        self.received = self.received.wrapping_add(1);
        Ok(())
    }
}

/// The answer to a request.
fn answer(iq: &Element) -> Option<String> {
    if !matches!(iq.attr("type"), Some("get" | "set")) {
        return None;
    }
    let payload = iq.children().next()?;
    let id = iq.attr("id")?;
    let from = iq
        .attr("to")
        .map(|to| format!(" from='{to}'"))
        .unwrap_or_default();
    let is_person = from.contains("/phone");
    let result = match (payload.name(), payload.ns().as_str()) {
        ("bind", namespace) => {
            format!("<bind xmlns='{namespace}'><jid>{ACCOUNT}/moltis</jid></bind>")
        }
        ("query", "jabber:iq:roster") => "<query xmlns='jabber:iq:roster'/>".to_owned(),
        ("query", "http://jabber.org/protocol/disco#info") if is_person => client(),
        ("query", "http://jabber.org/protocol/disco#info") => SERVER.to_owned(),
        ("query", "urn:xmpp:mam:2") => {
            "<fin xmlns='urn:xmpp:mam:2' complete='true'><set xmlns='http://jabber.org/protocol/rsm'><count>0</count></set></fin>"
                .to_owned()
        }
        ("vCard", _) => String::new(),
        _ => {
            let error = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
            return Some(format!("<iq type='error' id='{id}'{from}>{error}</iq>"));
        }
    };
    Some(format!("<iq type='result' id='{id}'{from}>{result}</iq>"))
}

/// A disco#info result (XEP-0030, 3.1).
fn client() -> String {
    let mut query = "<query xmlns='http://jabber.org/protocol/disco#info'>\
        <identity category='client' type='phone' name='bench'/>"
        .to_owned();
    for feature in CLIENT_FEATURES {
        query.extend(["<feature var='", feature, "'/>"]);
    }
    query + "</query>"
}
