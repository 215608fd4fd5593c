//! Connections of the HTTP port: with TLS or without by their first byte, HTTP/1.1 or 2 by what TLS has agreed on. Who says
//! nothing for long, or has too many of them, is sent away.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use tracing::{debug, warn};

use super::metered::Metered;
use crate::runtime::{Stop, contain};
use crate::server::Server;
use crate::server::abuse::{Addresses, Transport};
use crate::server::stream::Line;

/// The first byte, the handshake, and the head of each request have so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// A peer of HTTP/2 that does not answer a ping for so long is gone.
const SILENCE: Duration = Duration::from_mins(1);
/// What is under way at the end has so long.
const FAREWELL: Duration = Duration::from_secs(2);
/// All connections together; each takes a descriptor.
const CONNECTIONS: usize = 4_096;
/// Of one connection of HTTP/2, and bytes that wait in each for a peer that does not read.
const STREAMS: u32 = 32;
const SEND_BUFFER: usize = 16 * 1_024;
/// The head of a request, in bytes.
const HEAD: usize = 64 * 1_024;
/// What a TLS record of a handshake begins with (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
const HTTP_2: &[u8] = b"h2";
/// ALPN, ours first.
pub const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];

/// How a request has come, for [`super::visit::Visit`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) peer: SocketAddr,
    pub(super) tls: bool,
}

/// How many connections an address may have; `None`: as many as it likes.
pub(super) type Limit = Arc<dyn Fn(IpAddr) -> Option<usize> + Send + Sync>;

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) app: Router,
    /// `None`: there is no certificate, and what speaks TLS is not understood.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) limit: Limit,
    /// Where refusals are counted.
    pub(super) server: Option<Server>,
}

impl Connections {
    /// Accepts until the stop, then lets what is under way end.
    pub(super) async fn serve(self, listener: TcpListener, stop: Stop) -> Result<()> {
        let addresses = Addresses::default();
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                accepted = listener.accept(), if tasks.len() < CONNECTIONS => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(err) => {
                    // Somebody hung up, or there are no descriptors left for now.
                    warn!(%err, "A connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let address = peer.ip().to_canonical();
            let most = (self.limit)(address).unwrap_or_default();
            let counted = match addresses.admit(address, most) {
                Ok(counted) => counted,
                Err(refusal) => {
                    if let Some(server) = &self.server {
                        server.abuse().refused(refusal, &address);
                    } else {
                        debug!(%address, "{}", refusal.sentence());
                    }
                    continue;
                }
            };
            if let Some(server) = &self.server {
                server.abuse().meters.connected(Transport::Http);
            }
            let (connections, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                contain("An HTTP connection", connections.one(tcp, peer, stop)).await;
                drop(counted);
            });
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn one(self, tcp: TcpStream, peer: SocketAddr, stop: Stop) {
        let mut first = [0];
        let Ok(Ok(1)) = timeout(PATIENCE, tcp.peek(&mut first)).await else {
            return;
        };
        let Some(tls) = self.tls.filter(|_| first == [HANDSHAKE]) else {
            return http_1(tcp, self.app, Arrival { peer, tls: false }, stop).await;
        };
        let stream = match timeout(PATIENCE, TlsAcceptor::from(tls).accept(tcp)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(err)) => return debug!(%err, "TLS has failed"),
            Err(_elapsed) => return debug!("TLS took too long"),
        };
        let arrival = Arrival { peer, tls: true };
        match stream.get_ref().1.alpn_protocol() {
            Some(HTTP_2) => http_2(stream, self.app, arrival, stop).await,
            // An authority has seen what it wanted to (RFC 8737, 3).
            Some(protocol) if !PROTOCOLS.contains(&protocol) => {}
            _ => http_1(stream, self.app, arrival, stop).await,
        }
    }
}

/// The application, which answers everything, even what it does not know.
async fn answer(
    mut app: Router,
    arrival: Arrival,
    line: Option<Line>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(arrival);
    if let Some(line) = line {
        request.extensions_mut().insert(line);
    }
    app.call(request.map(Body::new)).await
}

async fn http_1<S>(stream: S, app: Router, arrival: Arrival, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A WebSocket takes over all of the connection.
    let line = Line::default();
    let stream = Metered::new(stream, line.clone());
    let service =
        service_fn(move |request| answer(app.clone(), arrival, Some(line.clone()), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    run(
        Box::pin(connection),
        http1::UpgradeableConnection::graceful_shutdown,
        stop,
    )
    .await;
}

async fn http_2<S>(stream: S, app: Router, arrival: Arrival, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(app.clone(), arrival, None, request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(PATIENCE)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    run(
        Box::pin(connection),
        http2::Connection::graceful_shutdown,
        stop,
    )
    .await;
}

/// To the end of the connection; at the stop, `farewell` lets what is under way end.
async fn run<C>(mut connection: Pin<Box<C>>, farewell: fn(Pin<&mut C>), stop: Stop)
where
    C: Future<Output = hyper::Result<()>>,
{
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            farewell(connection.as_mut());
            timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    // Browsers drop what they do not need any more, too.
    if let Err(err) = ended {
        debug!(%err, "An HTTP connection has failed");
    }
}
