//! The port, and the bytes: a task for each connection until it waits, and one for each transfer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::{End, Pair, Prepared, Proxy, socks};
use crate::config::XmppServer;
use crate::runtime::{Stop, contain};
use crate::server::listener::{self, Addresses, Counted};

/// How long a client may take to name its transfer, and how long it waits for the other and the word to go.
const GREETING: Duration = Duration::from_secs(10);
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// A transfer in which nothing passes for so long is over.
const SILENCE: Duration = Duration::from_mins(2);

/// Connections that have not named a transfer yet.
const GREETINGS: usize = 200;

const PIECE: usize = 16 * 1_024;

/// Binds the port on every address of the settings that this machine has.
pub(super) fn bind(settings: &XmppServer) -> Result<Vec<TcpListener>> {
    let port = settings.proxy_port;
    let mut listeners = Vec::new();
    for address in &settings.bind {
        match listener::open(SocketAddr::new(*address, port)) {
            Ok(listener) => listeners.push(listener),
            Err(err) if listener::is_missing(&err) => {}
            Err(err) => {
                return Err(err).with_context(|| {
                    format!("Failed to listen on {address} port {port}; set xmpp_server.proxy_port to a free port")
                });
            }
        }
    }
    Ok(listeners)
}

/// Serves until `stop`.
pub(super) async fn serve(prepared: Prepared, stop: Stop) -> Result<()> {
    let Prepared {
        proxy,
        listeners,
        mut starts,
        connections_per_ip,
        ..
    } = prepared;
    let addresses = Addresses::default();
    let mut tasks = JoinSet::new();
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let accept = accept(
            listener,
            proxy.clone(),
            addresses.clone(),
            connections_per_ip,
            stop.clone(),
        );
        accepting.spawn(accept);
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => {}
            Some((pair, started)) = starts.recv() => {
                let proxy = proxy.clone();
                tasks.spawn(async move {
                    let account = pair.account.clone();
                    contain("A transfer", transfer(pair, started)).await;
                    proxy.ended(&account);
                });
            }
        }
    }
    // A transfer has no end that is worth waiting for: clients begin it anew.
    tasks.shutdown().await;
    accepting.shutdown().await;
    Ok(())
}

async fn accept(
    listener: TcpListener,
    proxy: Proxy,
    addresses: Addresses,
    most: usize,
    stop: Stop,
) {
    let mut greetings = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = greetings.join_next() => continue,
            accepted = listener.accept(), if greetings.len() < GREETINGS => accepted,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                // Somebody hung up, or there are no descriptors left for now.
                warn!("A connection of the proxy cannot be accepted: {err}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let counted = match addresses.admit(peer.ip().to_canonical(), most) {
            Ok(counted) => counted,
            Err(refusal) => {
                debug!(%peer, reason = refusal.label(), "The proxy refuses a connection");
                continue;
            }
        };
        let proxy = proxy.clone();
        greetings.spawn(async move {
            let greeted = contain("A greeting", greet(io, counted, &proxy));
            if timeout(GREETING, greeted).await.is_err() {
                debug!(%peer, "No transfer was named in time");
            }
        });
    }
}

async fn greet(mut io: TcpStream, counted: Counted, proxy: &Proxy) {
    match socks::greet(&mut io).await {
        Ok(name) => {
            let end = End {
                io,
                counted,
                since: Instant::now(),
            };
            if !proxy.connected(&name, end) {
                debug!("A connection is one too many");
            }
        }
        Err(err) => debug!("A connection names no transfer: {err}"),
    }
}

/// Passes bytes both ways until both ends have said all, or nothing is said any more.
async fn transfer(pair: Pair, started: tokio::sync::oneshot::Sender<()>) {
    let Pair {
        first,
        second,
        account,
    } = pair;
    let (first_counted, second_counted) = (first.counted, second.counted);
    let (mut first, mut second) = (first.io, second.io);
    // Whoever asked has gone; the bytes pass all the same.
    started.send(()).ok();
    let ((first_in, first_out), (second_in, second_out)) = (first.split(), second.split());
    let (there, back) = tokio::join!(pass(first_in, second_out), pass(second_in, first_out));
    info!(
        account,
        bytes = there.saturating_add(back),
        "A transfer has ended"
    );
    drop((first_counted, second_counted));
}

/// How many bytes have passed.
async fn pass(
    mut from: tokio::net::tcp::ReadHalf<'_>,
    mut to: tokio::net::tcp::WriteHalf<'_>,
) -> u64 {
    let mut piece = vec![0; PIECE];
    let mut passed = 0_u64;
    while let Ok(Ok(count @ 1..)) = timeout(SILENCE, from.read(&mut piece)).await {
        let bytes = piece.get(..count).unwrap_or_default();
        if !matches!(timeout(SILENCE, to.write_all(bytes)).await, Ok(Ok(()))) {
            break;
        }
        passed = passed.saturating_add(u64::try_from(count).unwrap_or_default());
    }
    // The other end may have gone already.
    to.shutdown().await.ok();
    passed
}
