//! RFC 7395: XMPP over WebSocket. Here ends HTTP: the upgrade, who may ask for it, the sizes, pings. What goes on is a
//! stream of texts, each one element, which the embedded server serves like any other.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Sink, Stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::debug;

use super::visit::{Peer, Visit};
use crate::config::Config;
use crate::runtime::Stop;
use crate::server::stream::Line;

/// Where host-meta says it is.
pub const PATH: &str = "/xmpp-websocket";

/// The subprotocol (RFC 7395, 3.1).
const PROTOCOL: &str = "xmpp";

/// A ping goes out when nothing has come for so long; twice as long, and the peer is gone. Proxies cut what is silent
/// for a minute.
const SILENCE: Duration = Duration::from_secs(45);

/// What frames may add to what they carry until somebody is logged in. The largest message is that of a stanza, and is
/// put together before anybody sees it; but so much alone may come.
const ON_THE_WIRE: usize = 2;

/// Serves one connection to its end. Dropped when the process ends.
pub type Serve = Arc<dyn Fn(Messages, Peer) -> BoxFuture<'static, ()> + Send + Sync>;

/// Where HTTP hands over what it has accepted.
#[derive(Clone)]
pub struct Service {
    accepted: mpsc::Sender<Accepted>,
    /// The largest element, in bytes.
    limit: usize,
}

/// What HTTP has accepted, for [`run`].
pub struct Waiting(mpsc::Receiver<Accepted>);

/// Accepted and not served yet.
type Accepted = (Messages, Peer);

/// Upgrades that wait to be served; a burst waits in its handlers.
const WAITING: usize = 64;

/// Both ends. `limit`: the largest element, in bytes. HTTP ends before the streams do, so they are served apart.
pub fn service(limit: usize) -> (Service, Waiting) {
    let (accepted, waiting) = mpsc::channel(WAITING);
    (Service { accepted, limit }, Waiting(waiting))
}

/// Answers a request for an upgrade; the socket goes to [`run`].
pub(super) fn accept(
    upgrade: WebSocketUpgrade,
    visit: &Visit,
    config: &Config,
    service: Service,
) -> Response {
    let Service { accepted, limit } = service;
    let server = &config.server;
    if !visit.may_connect(server) {
        return (StatusCode::FORBIDDEN, "This origin may not connect\n").into_response();
    }
    let upgrade = upgrade.protocols([PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let text = "The subprotocol is xmpp (RFC 7395)\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let peer = visit.client(server);
    let (line, limits) = (visit.line(), &config.xmpp_server.limits);
    line.open(
        limits.c2s_bytes_per_second,
        limits.preauth_bytes.saturating_mul(ON_THE_WIRE),
    );
    // Fragments are put together up to the size of a message, so a message in many is no larger than one in one piece. The
    // buffers are taken for each connection: most are idle.
    upgrade
        .max_frame_size(limit)
        .max_message_size(limit)
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .on_upgrade(move |socket| async move {
            if accepted
                .send((Messages::new(socket, line), peer))
                .await
                .is_err()
            {
                debug!("A WebSocket came while the process ends");
            }
        })
}

/// Owns the connections: serves what is accepted, and after `stop` waits for those that end by themselves.
pub async fn run(serve: Serve, waiting: Waiting, stop: Stop) {
    let Waiting(mut accepted) = waiting;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            next = accepted.recv() => match next {
                Some((messages, peer)) => {
                    connections.spawn(serve(messages, peer));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

/// The texts of one WebSocket, both ways. The stream ends when the peer closes; what is no text, too large or no UTF-8 is an
/// error, after which nothing comes. Closing the sink closes the WebSocket.
pub struct Messages {
    socket: WebSocket,
    beat: Interval,
    /// Whether anything came since the last beat, and how many beats nothing did.
    silent_beats: u32,
    ping_is_due: bool,
    line: Line,
    /// The answer to a ping has not left yet.
    pong_waits: bool,
}

impl Messages {
    fn new(socket: WebSocket, line: Line) -> Self {
        let start = tokio::time::Instant::now() + SILENCE;
        let mut beat = tokio::time::interval_at(start, SILENCE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            socket,
            beat,
            silent_beats: 0,
            ping_is_due: false,
            line,
            pong_waits: false,
        }
    }

    /// What counts the bytes below.
    pub fn line(&self) -> Line {
        self.line.clone()
    }

    /// Sends the ping that is due, as soon as there is room for it.
    fn poll_ping(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ping_is_due {
            ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(io::Error::other)?;
            let ping = Message::Ping(Bytes::new());
            Pin::new(&mut self.socket)
                .start_send(ping)
                .map_err(io::Error::other)?;
            self.ping_is_due = false;
        }
        Pin::new(&mut self.socket)
            .poll_flush(context)
            .map_err(io::Error::other)
    }
}

impl Stream for Messages {
    type Item = io::Result<String>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // Who does not take an answer is not read: the next ones would pile up behind it.
            if this.pong_waits {
                match Pin::new(&mut this.socket).poll_flush(context) {
                    Poll::Ready(Ok(())) => this.pong_waits = false,
                    Poll::Ready(Err(err)) => return Poll::Ready(Some(Err(io::Error::other(err)))),
                    Poll::Pending => {}
                }
            }
            let next = if this.pong_waits {
                Poll::Pending
            } else {
                Pin::new(&mut this.socket).poll_next(context)
            };
            match next {
                Poll::Ready(Some(Ok(message))) => {
                    this.silent_beats = 0;
                    match message {
                        Message::Text(text) => {
                            return Poll::Ready(Some(Ok(text.as_str().to_owned())));
                        }
                        // RFC 7395, 3.2: text alone.
                        Message::Binary(_) => {
                            let error =
                                io::Error::new(io::ErrorKind::InvalidData, "a binary message");
                            return Poll::Ready(Some(Err(error)));
                        }
                        Message::Close(_) => return Poll::Ready(None),
                        Message::Ping(_) => this.pong_waits = true,
                        Message::Pong(_) => {}
                    }
                    continue;
                }
                Poll::Ready(Some(Err(err))) => {
                    return Poll::Ready(Some(Err(io::Error::other(err))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if this.beat.poll_tick(context).is_ready() {
                this.silent_beats += 1;
                if this.silent_beats > 1 {
                    let text = "the peer has gone without a word";
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, text))));
                }
                this.ping_is_due = true;
                continue; // For the next beat to wake us.
            }
            if this.ping_is_due
                && let Poll::Ready(Err(err)) = this.poll_ping(context)
            {
                return Poll::Ready(Some(Err(err)));
            }
            return Poll::Pending;
        }
    }
}

impl Sink<String> for Messages {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Pin::new(&mut self.socket);
        socket.poll_ready(context).map_err(io::Error::other)
    }

    fn start_send(mut self: Pin<&mut Self>, text: String) -> io::Result<()> {
        let socket = Pin::new(&mut self.socket);
        socket
            .start_send(Message::Text(text.into()))
            .map_err(io::Error::other)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Pin::new(&mut self.socket);
        socket.poll_flush(context).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Pin::new(&mut self.socket);
        socket.poll_close(context).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests;
