//! A client's stream: bytes, TLS, SASL, bind and stream management (RFC 6120, RFC 7395, XEP-0198).
//!
//! A connection is one task: it negotiates what [`negotiation::STREAM_FEATURES`] has, row by row, until a session is bound, and then
//! reads, routes and writes at the same time until the end ([`session`]).

mod bind;
mod component;
mod csi;
mod limits;
mod line;
mod negotiation;
pub(super) mod rate;
mod register;
mod sasl;
mod sasl2;
mod session;
pub(super) mod sm;
mod starttls;
#[cfg(test)]
mod tests;
pub(super) mod wire;
pub mod xml;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jid::BareJid;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, debug_span};

use self::negotiation::{Negotiation, state};
use self::wire::{End, Output};
use crate::runtime::Stop;
use crate::server::abuse::{Refusal, Throttle, Transport};
use crate::server::certificate;
use crate::server::listener::Addresses;
use crate::server::sasl::{ChannelBinding, TLS_EXPORTER};
use crate::server::session::Origin;
use crate::server::{Server, StreamError};
use crate::xmpp::connector::Pipe;

pub use line::Line;
pub use wire::Socket;

/// How connections are encrypted. Whichever certificate is in use is behind both.
#[derive(Clone)]
pub struct Tls {
    pub starttls: Arc<rustls::ServerConfig>,
    /// Negotiates `xmpp-client` (XEP-0368, 4).
    pub direct_tls: Arc<rustls::ServerConfig>,
}

/// How much a pipe inside the process holds.
const PIPE: usize = 64 * 1024;
/// Pipes that wait to be served.
const WAITING_PIPES: usize = 64;

/// What all streams share. A handle.
#[derive(Clone)]
pub struct Streams(Arc<Shared>);

struct Shared {
    server: Server,
    tls: Tls,
    resumable: sm::Resumable,
    addresses: Addresses,
    pipes: mpsc::Sender<(DuplexStream, BareJid)>,
    /// Taken by the listener, which serves them.
    waiting: Mutex<Option<mpsc::Receiver<(DuplexStream, BareJid)>>>,
}

/// What comes in at a port: clients, with TLS from the first byte (XEP-0368) or when it is asked for (RFC 6120, 5), or
/// components, without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    StartTls,
    DirectTls,
    Component,
    /// Other servers, with STARTTLS.
    Server,
    /// Other servers, with TLS from the first byte.
    ServerTls,
}

impl Security {
    pub(super) fn transport(self) -> Transport {
        match self {
            Self::StartTls => Transport::StartTls,
            Self::DirectTls => Transport::Tls,
            Self::Component => Transport::Component,
            Self::Server | Self::ServerTls => Transport::Server,
        }
    }
}

impl Streams {
    pub fn new(server: Server, tls: Tls) -> Self {
        let (pipes, waiting) = mpsc::channel(WAITING_PIPES);
        Self(Arc::new(Shared {
            server,
            tls,
            resumable: sm::Resumable::default(),
            addresses: Addresses::default(),
            pipes,
            waiting: Mutex::new(Some(waiting)),
        }))
    }

    /// How many connections each address has, over TCP and WebSocket.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.0.addresses
    }

    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// Failed logins by address.
    pub fn failures(&self) -> &Throttle {
        let limit = self.0.server.settings().limits.login_failures_per_ip;
        self.0.server.abuse().failures(limit)
    }

    /// A stream inside this process, for an account that is at home here: whoever holds the other end is it.
    pub fn connect_local(&self, account: &BareJid) -> std::io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.0
            .pipes
            .try_send((ours, account.clone()))
            .map_err(|_full_or_closed| std::io::ErrorKind::ConnectionRefused)?;
        Ok(theirs)
    }

    /// The pipes that are to be served; once.
    pub(super) fn pipes(&self) -> Option<mpsc::Receiver<(DuplexStream, BareJid)>> {
        let mut waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.take()
    }

    fn limits(&self) -> xml::Limits {
        let settings = self.0.server.settings();
        xml::Limits {
            stanza_bytes: settings.limits.stanza_bytes,
            preauth_bytes: settings.limits.preauth_bytes,
            preauth_elements: usize::try_from(settings.limits.preauth_elements)
                .unwrap_or(usize::MAX),
            ..xml::Limits::default()
        }
    }

    /// Serves a connection until its end.
    pub async fn serve(&self, io: Box<dyn Pipe>, address: IpAddr, security: Security, stop: Stop) {
        let origin = Origin {
            address: Some(address),
            via: "tcp".to_owned(),
        };
        match security {
            Security::Component => {
                let meters = &self.0.server.abuse().meters;
                let _open = meters.stream(Transport::Component);
                self.serve_component(io, address, stop).await;
            }
            Security::Server | Security::ServerTls => {
                let meters = &self.0.server.abuse().meters;
                let _open = meters.stream(Transport::Server);
                if let Some(federation) = self.0.server.federation() {
                    let direct_tls = security == Security::ServerTls;
                    let server = self.server();
                    Box::pin(federation.accept(server, io, address, direct_tls, stop)).await;
                }
            }
            Security::StartTls => {
                let (input, output) = wire::bytes(io, self.limits());
                let plain = self.0.server.settings().allow_plaintext && address.is_loopback();
                let trusted = if plain { state::TRUSTED } else { 0 };
                let negotiation = Negotiation::new(self.clone(), input, output, origin)
                    .with(state::BYTES | trusted);
                self.run(Box::new(negotiation), stop).await;
            }
            Security::DirectTls => {
                // Over before the session, as the negotiation: in a box too.
                let accepted = Box::pin(self.accept(io, Security::DirectTls));
                let accepted = timeout(negotiation::DEADLINE, accepted);
                let (io, bindings) = match accepted.await {
                    Ok(Ok(accepted)) => accepted,
                    Ok(Err(err)) => return debug!(%err, "A TLS handshake failed"),
                    Err(_late) => {
                        let abuse = self.0.server.abuse();
                        return abuse.refused(Refusal::LoginTimeout, &address);
                    }
                };
                let (input, output) = wire::bytes(io, self.limits());
                let mut negotiation = Negotiation::new(self.clone(), input, output, origin)
                    .with(state::BYTES | state::ENCRYPTED | state::TRUSTED);
                negotiation.bindings = bindings;
                "tls".clone_into(&mut negotiation.origin.via);
                self.run(Box::new(negotiation), stop).await;
            }
        }
    }

    /// Serves a client in this process: it is who we say it is, whatever password it gives.
    pub async fn serve_local(&self, io: DuplexStream, account: BareJid, stop: Stop) {
        let (input, output) = wire::bytes(Box::new(io), self.limits());
        let origin = Origin {
            address: None,
            via: Origin::OWN_BOT.to_owned(),
        };
        let mut negotiation = Negotiation::new(self.clone(), input, output, origin)
            .with(state::ENCRYPTED | state::TRUSTED | state::LOCAL);
        negotiation.local = Some(account);
        self.run(Box::new(negotiation), stop).await;
    }

    /// Serves a WebSocket (RFC 7395): each message is an element. `line`: the connection below it. `secure`: nobody on the
    /// network reads along.
    pub async fn serve_websocket(
        &self,
        socket: Box<dyn Socket>,
        line: Line,
        address: IpAddr,
        secure: bool,
        stop: Stop,
    ) {
        let most = self.0.server.settings().limits.connections_per_ip;
        let abuse = self.0.server.abuse();
        let _counted = match self.0.addresses.admit(address, most) {
            Ok(counted) => counted,
            Err(refusal) => return abuse.refused(refusal, &address),
        };
        abuse.meters.connected(Transport::WebSocket);
        let (input, output) = wire::messages(socket, self.limits());
        let origin = Origin {
            address: Some(address),
            via: "websocket".to_owned(),
        };
        let bits = if secure {
            state::ENCRYPTED | state::TRUSTED
        } else {
            0
        };
        let mut negotiation = Negotiation::new(self.clone(), input, output, origin).with(bits);
        negotiation.line = line;
        self.run(Box::new(negotiation), stop).await;
    }

    async fn run(&self, negotiation: Box<Negotiation>, stop: Stop) {
        let span = debug_span!("stream", via = %negotiation.origin.via, address = ?negotiation.origin.address);
        let meters = &self.0.server.abuse().meters;
        let _open = meters.stream(match negotiation.origin.via.as_str() {
            "tls" => Transport::Tls,
            "websocket" => Transport::WebSocket,
            Origin::OWN_BOT => Transport::Local,
            _ => Transport::StartTls,
        });
        async {
            // Large, and over before a session begins: in a box of its own, which is given back.
            match Box::pin(negotiation.run(&stop)).await {
                Ok(bound) => session::run(self, bound, &stop).await,
                Err(ended) => {
                    let (mut output, end, address) = *ended;
                    self.note(&end, address);
                    finish(&mut output, end).await;
                }
            }
        }
        .instrument(span)
        .await;
    }

    /// A stream that ends because of what came in on it is counted.
    fn note(&self, end: &End, address: Option<IpAddr>) {
        note(&self.0.server, end, address);
    }

    /// A TLS handshake, and what binds a login to it.
    async fn accept(
        &self,
        io: Box<dyn Pipe>,
        security: Security,
    ) -> std::io::Result<(Box<dyn Pipe>, Vec<ChannelBinding>)> {
        let config = match security {
            Security::DirectTls => &self.0.tls.direct_tls,
            _ => &self.0.tls.starttls,
        };
        let stream = TlsAcceptor::from(Arc::clone(config)).accept(io).await?;
        let (_, connection) = stream.get_ref();
        if certificate::is_validation(connection) {
            // An authority has looked; the handshake was the answer (RFC 8737, 3).
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        let exporter = certificate::tls_exporter(connection);
        let binding = exporter.map(|data| ChannelBinding {
            name: TLS_EXPORTER,
            data,
        });
        Ok((Box::new(stream), binding.into_iter().collect()))
    }
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({})", self.0.server.domain())
    }
}

/// Counts a stream that ends because of what came in on it.
pub(in crate::server) fn note(server: &Server, end: &End, address: Option<IpAddr>) {
    if let (End::Error(error, _), Some(address)) = (end, address)
        && let Some(refusal) = Refusal::of_stream(error.condition)
    {
        server.abuse().refused(refusal, &address);
    }
}

/// How long a peer may take to read why it is sent away.
const GOODBYE: Duration = Duration::from_millis(200);

/// Says why, and closes (RFC 6120, 4.4 and 4.9.1). Whether everything was written before.
pub(super) async fn finish(output: &mut Output, end: End) -> bool {
    match end {
        End::Lost => return false,
        End::Closed => {}
        End::Error(error, detail) => {
            debug!(condition = error.condition, "A stream is closed");
            let mut element = error.to_element();
            if let Some(detail) = detail {
                element.append_child(*detail);
            }
            output.element(&element);
        }
        End::Resumed => {
            let error = StreamError::new("conflict").text("The session goes on elsewhere");
            output.element(&error.to_element());
        }
    }
    output.close();
    if !matches!(timeout(GOODBYE, output.flush()).await, Ok(Ok(()))) {
        debug!("The peer has not read the end");
        return false;
    }
    // Whoever does not wait for it has read all.
    timeout(GOODBYE, output.shut_down()).await.ok();
    true
}
