//! A client's stream: bytes, TLS, SASL, bind and stream management (RFC 6120, RFC 7395, XEP-0198).
//!
//! A connection is one task: it negotiates what [`negotiation::STREAM_FEATURES`] has, row by row, until a session is bound, and then
//! reads, routes and writes at the same time until the end ([`session`]).

mod bind;
mod csi;
mod limits;
mod negotiation;
mod rate;
mod sasl;
mod session;
mod sm;
mod starttls;
#[cfg(test)]
mod tests;
mod wire;
pub mod xml;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Sink, Stream};
use jid::BareJid;
use rustls::ServerConfig;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, debug_span};

use self::negotiation::{Negotiation, state};
use self::wire::{End, Output};
use super::listener::{Addresses, Security};
use crate::runtime::Stop;
use crate::server::accounts::Throttle;
use crate::server::sasl::{ChannelBinding, TLS_EXPORTER};
use crate::server::session::Origin;
use crate::server::{Server, StreamError};
use crate::xmpp::connector::Pipe;
use crate::xmpp::tls;

/// What all streams share. A handle.
#[derive(Clone)]
pub struct Streams(Arc<Shared>);

struct Shared {
    server: Server,
    starttls: Arc<ServerConfig>,
    direct_tls: Arc<ServerConfig>,
    failures: Throttle,
    addresses: Addresses,
    resumable: sm::Resumable,
    /// Sessions over sockets.
    count: AtomicUsize,
    local: mpsc::Sender<Local>,
    locals: Mutex<Option<mpsc::Receiver<Local>>>,
    /// Every stream is to end.
    stop: Stop,
}

/// A client in this process: our end of its pipe, and who it is.
pub(super) type Local = (DuplexStream, BareJid);

/// How many clients in this process may wait to be served.
const LOCALS: usize = 64;
/// How much a pipe inside this process holds.
const PIPE: usize = 64 * 1024;

impl Streams {
    pub fn new(server: Server, starttls: Arc<ServerConfig>, direct_tls: Arc<ServerConfig>) -> Self {
        let limit = server.settings().limits.login_failures_per_ip;
        let (local, locals) = mpsc::channel(LOCALS);
        Self(Arc::new(Shared {
            server,
            starttls,
            direct_tls,
            failures: Throttle::login_failures(limit),
            addresses: Addresses::default(),
            resumable: sm::Resumable::default(),
            count: AtomicUsize::new(0),
            local,
            locals: Mutex::new(Some(locals)),
            stop: Stop::new(),
        }))
    }

    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// Failed logins by address; other ways to give a password count here too.
    pub fn failures(&self) -> &Throttle {
        &self.0.failures
    }

    /// How many sessions there are over sockets.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.0.addresses
    }

    pub(super) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Those that [`Self::connect_local`] has let in; once.
    pub(super) fn locals(&self) -> Option<mpsc::Receiver<Local>> {
        self.0
            .locals
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }

    /// A connection for a client in this process, which is this account without a password.
    pub fn connect_local(&self, account: &BareJid) -> std::io::Result<DuplexStream> {
        let (theirs, ours) = tokio::io::duplex(PIPE);
        self.0
            .local
            .try_send((ours, account.clone()))
            .map_err(|_not_served| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
        Ok(theirs)
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
    pub(super) async fn serve_bytes(&self, io: Box<dyn Pipe>, address: IpAddr, security: Security) {
        let origin = Origin {
            address: Some(address),
            via: "tcp".to_owned(),
        };
        match security {
            Security::StartTls => {
                let (input, output) = wire::bytes(io, self.limits());
                let plain = self.0.server.settings().allow_plaintext && address.is_loopback();
                let trusted = if plain { state::TRUSTED } else { 0 };
                let negotiation = Negotiation::new(self.clone(), input, output, origin);
                self.run(negotiation.with(state::BYTES | trusted)).await;
            }
            Security::DirectTls => {
                let config = Arc::clone(&self.0.direct_tls);
                let accepted = timeout(negotiation::DEADLINE, accept(io, config));
                let Ok(Ok((io, bindings))) = accepted.await else {
                    debug!("A TLS handshake failed");
                    return;
                };
                let (input, output) = wire::bytes(io, self.limits());
                let bits = state::BYTES | state::ENCRYPTED | state::TRUSTED;
                let mut negotiation =
                    Negotiation::new(self.clone(), input, output, origin).with(bits);
                negotiation.bindings = bindings;
                "tls".clone_into(&mut negotiation.origin.via);
                self.run(negotiation).await;
            }
        }
    }

    /// Serves a client in this process: it is who we say it is.
    pub(super) async fn serve_local(&self, (io, account): Local) {
        let (input, output) = wire::bytes(Box::new(io), self.limits());
        let origin = Origin {
            address: None,
            via: "local".to_owned(),
        };
        let mut negotiation = Negotiation::new(self.clone(), input, output, origin)
            .with(state::ENCRYPTED | state::TRUSTED);
        negotiation.local = Some(account);
        self.run(negotiation).await;
    }

    /// Serves a WebSocket (RFC 7395) until its end: each message is an element. `secure`: nobody on the network reads
    /// along.
    pub async fn serve_websocket<S>(&self, socket: S, peer: IpAddr, secure: bool)
    where
        S: Stream<Item = std::io::Result<String>>
            + Sink<String, Error = std::io::Error>
            + Send
            + Unpin
            + 'static,
    {
        let most = self.0.server.settings().limits.connections_per_ip;
        let Some(_counted) = self.addresses().admit(peer, most) else {
            debug!(%peer, "An address has as many connections as it may have");
            return;
        };
        let (input, output) = wire::messages(Box::new(socket), self.limits());
        let origin = Origin {
            address: Some(peer),
            via: "websocket".to_owned(),
        };
        let bits = if secure {
            state::ENCRYPTED | state::TRUSTED
        } else {
            0
        };
        let negotiation = Negotiation::new(self.clone(), input, output, origin);
        self.run(negotiation.with(bits)).await;
    }

    async fn run(&self, negotiation: Negotiation) {
        let span = debug_span!("stream", via = %negotiation.origin.via, address = ?negotiation.origin.address);
        async {
            // Large, and over before a session begins: in a box of its own, which is given back.
            match Box::pin(negotiation.run()).await {
                Ok(bound) => session::run(self, *bound).await,
                Err(ended) => {
                    let (mut output, end) = *ended;
                    finish(&mut output, end).await;
                }
            }
        }
        .instrument(span)
        .await;
    }
}

/// A TLS handshake, and what binds a login to it.
async fn accept(
    io: Box<dyn Pipe>,
    config: Arc<ServerConfig>,
) -> std::io::Result<(Box<dyn Pipe>, Vec<ChannelBinding>)> {
    let stream = TlsAcceptor::from(config).accept(io).await?;
    let (_, connection) = stream.get_ref();
    let exporter = tls::exporter(connection).map(|data| ChannelBinding {
        name: TLS_EXPORTER,
        data,
    });
    Ok((Box::new(stream), exporter.into_iter().collect()))
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({})", self.0.server.domain())
    }
}

/// How long a peer may take to read why it is sent away.
const GOODBYE: Duration = Duration::from_millis(400);

/// Says why, and closes (RFC 6120, 4.4 and 4.9.1).
async fn finish(output: &mut Output, end: End) {
    match end {
        End::Lost => return,
        End::Closed => {}
        End::Error(error, detail) => {
            debug!(condition = error.condition, "A stream is closed");
            let mut element = error.to_element();
            if let Some(detail) = detail {
                element.append_child(detail);
            }
            output.element(&element);
        }
        End::Resumed => {
            let error = StreamError::new("conflict").text("The session goes on elsewhere");
            output.element(&error.to_element());
        }
    }
    output.close();
    let goodbye = async {
        output.flush().await?;
        output.shut_down().await
    };
    let done = timeout(GOODBYE, goodbye).await;
    if !matches!(done, Ok(Ok(()))) {
        debug!("The peer has not read the end");
    }
}
