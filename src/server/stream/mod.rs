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
use std::sync::Arc;

use jid::BareJid;
use tokio::io::DuplexStream;
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, debug_span};

use self::negotiation::{Negotiation, state};
use self::wire::{End, Output};
use crate::runtime::Stop;
use crate::server::accounts::Throttle;
use crate::server::sasl::{ChannelBinding, TLS_EXPORTER};
use crate::server::session::Origin;
use crate::server::{Server, StreamError};
use crate::xmpp::connector::Pipe;

pub use wire::Socket;

/// The certificate in use, asked for each connection; `None`: there is none yet.
pub type Tls = Arc<dyn Fn() -> Option<Arc<rustls::ServerConfig>> + Send + Sync>;

/// What all streams share. A handle.
#[derive(Clone)]
pub struct Streams(Arc<Shared>);

struct Shared {
    server: Server,
    tls: Tls,
    failures: Throttle,
    resumable: sm::Resumable,
}

/// Whether TLS begins with the first byte (XEP-0368) or is asked for (RFC 6120, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    StartTls,
    DirectTls,
}

impl Streams {
    pub fn new(server: Server, tls: Tls) -> Self {
        let limit = server.settings().limits.login_failures_per_ip;
        Self(Arc::new(Shared {
            server,
            tls,
            failures: Throttle::login_failures(limit),
            resumable: sm::Resumable::default(),
        }))
    }

    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// Failed logins by address; HTTP counts its own here too.
    pub fn failures(&self) -> &Throttle {
        &self.0.failures
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
            Security::StartTls => {
                let (input, output) = wire::bytes(io, self.limits());
                let plain = self.0.server.settings().allow_plaintext && address.is_loopback();
                let trusted = if plain { state::TRUSTED } else { 0 };
                let negotiation = Negotiation::new(self.clone(), input, output, origin)
                    .with(state::BYTES | trusted);
                self.run(negotiation, stop).await;
            }
            Security::DirectTls => {
                let accepted = tokio::time::timeout(
                    negotiation::DEADLINE,
                    self.accept(io, Some(b"xmpp-client")),
                );
                let Ok(Ok((io, bindings))) = accepted.await else {
                    debug!("A TLS handshake failed");
                    return;
                };
                let (input, output) = wire::bytes(io, self.limits());
                let mut negotiation = Negotiation::new(self.clone(), input, output, origin)
                    .with(state::BYTES | state::ENCRYPTED | state::TRUSTED);
                negotiation.bindings = bindings;
                "tls".clone_into(&mut negotiation.origin.via);
                self.run(negotiation, stop).await;
            }
        }
    }

    /// Serves a client in this process: it is who we say it is, whatever password it gives.
    pub async fn serve_local(&self, io: DuplexStream, account: BareJid, stop: Stop) {
        let (input, output) = wire::bytes(Box::new(io), self.limits());
        let origin = Origin {
            address: None,
            via: "local".to_owned(),
        };
        let mut negotiation = Negotiation::new(self.clone(), input, output, origin)
            .with(state::ENCRYPTED | state::TRUSTED);
        negotiation.local = Some(account);
        self.run(negotiation, stop).await;
    }

    /// Serves a WebSocket (RFC 7395): each message is an element. `secure`: nobody on the network reads along.
    pub async fn serve_websocket(
        &self,
        socket: Box<dyn Socket>,
        address: IpAddr,
        secure: bool,
        stop: Stop,
    ) {
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
        let negotiation = Negotiation::new(self.clone(), input, output, origin).with(bits);
        self.run(negotiation, stop).await;
    }

    async fn run(&self, negotiation: Negotiation, stop: Stop) {
        let span = debug_span!("stream", via = %negotiation.origin.via, address = ?negotiation.origin.address);
        async {
            // Large, and over before a session begins: in a box of its own, which is given back.
            match Box::pin(negotiation.run(&stop)).await {
                Ok(bound) => session::run(self, *bound, &stop).await,
                Err(ended) => {
                    let (mut output, end) = *ended;
                    finish(&mut output, end).await;
                }
            }
        }
        .instrument(span)
        .await;
    }

    /// A TLS handshake, and what binds a login to it.
    async fn accept(
        &self,
        io: Box<dyn Pipe>,
        alpn: Option<&[u8]>,
    ) -> std::io::Result<(Box<dyn Pipe>, Vec<ChannelBinding>)> {
        let Some(mut config) = (self.0.tls)() else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        if let Some(alpn) = alpn {
            // XEP-0368, 4.
            let mut with_alpn = (*config).clone();
            with_alpn.alpn_protocols = vec![alpn.to_vec()];
            config = Arc::new(with_alpn);
        }
        let stream = TlsAcceptor::from(config).accept(io).await?;
        let (_, connection) = stream.get_ref();
        let mut bindings = Vec::new();
        // RFC 9266; before TLS 1.3 only unique under conditions that we cannot see.
        if connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
            && let Ok(data) =
                connection.export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", None)
        {
            bindings.push(ChannelBinding {
                name: TLS_EXPORTER,
                data,
            });
        }
        Ok((Box::new(stream), bindings))
    }

    fn has_certificate(&self) -> bool {
        (self.0.tls)().is_some()
    }
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({})", self.0.server.domain())
    }
}

/// How long a peer may take to read why it is sent away.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(2);

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
    let done = tokio::time::timeout(GOODBYE, goodbye).await;
    if !matches!(done, Ok(Ok(()))) {
        debug!("The peer has not read the end");
    }
}
