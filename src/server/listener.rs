//! Where clients come in: a TCP port whose connections are served each by a task of its own.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Settings;
use super::stream::Streams;
use crate::runtime::{Stop, contain};

/// How many connections an address has, over all listeners.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that is counted until it is dropped.
#[derive(Debug)]
pub struct Counted {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more, unless there are as many as there may be.
    pub fn admit(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if most > 0 && *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted {
            addresses: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self
            .addresses
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Whether TLS begins with the first byte (XEP-0368) or is asked for (RFC 6120, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    StartTls,
    DirectTls,
}

/// A port that is open.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    security: Security,
}

impl Listener {
    pub fn new(tcp: TcpListener, security: Security) -> Self {
        Self { tcp, security }
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }
}

/// Opens the ports for clients on all addresses. An IPv6 address that the machine does not have is left out.
pub async fn bind(settings: &Settings) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let ports = [
        ("c2s_port", settings.c2s_port, Security::StartTls),
        ("c2s_tls_port", settings.c2s_tls_port, Security::DirectTls),
    ];
    for (key, port, security) in ports {
        for address in &settings.bind {
            if port == 0 {
                continue;
            }
            match open(SocketAddr::new(*address, port)) {
                Ok(tcp) => listeners.push(Listener { tcp, security }),
                Err(err) if address.is_ipv6() && is_absent(&err) => {
                    warn!(%address, port, "This machine does not have this address: {err}");
                }
                Err(err) => {
                    let advice = match err.kind() {
                        ErrorKind::AddrInUse => "another program has it; stop that or set",
                        ErrorKind::PermissionDenied => "this user may not open it; set",
                        _ => "correct bind or",
                    };
                    anyhow::bail!(
                        "Failed to listen on {address} port {port}: {err}; {advice} {key} in [xmpp_server]"
                    );
                }
            }
        }
    }
    Ok(listeners)
}

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    #[cfg(unix)]
    if address.is_ipv6() {
        // IPv4 has sockets of its own.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_absent(err: &std::io::Error) -> bool {
    #[cfg(unix)]
    if err.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) {
        return true;
    }
    err.kind() == ErrorKind::AddrNotAvailable
}

impl Streams {
    /// Serves what connects until the stop, and then until every stream has been told.
    pub async fn serve(&self, listeners: Vec<Listener>, stop: Stop) -> Result<()> {
        let mut connections = JoinSet::new();
        let mut locals = self.locals();
        let mut accepting: FuturesUnordered<_> = listeners
            .into_iter()
            .map(|listener| accept(listener, Duration::ZERO))
            .collect();
        loop {
            tokio::select! {
                Some((listener, accepted)) = accepting.next() => {
                    let pause = self.accepted(&mut connections, accepted, listener.security);
                    accepting.push(accept(listener, pause));
                }
                Some(local) = async { locals.as_mut()?.recv().await } => {
                    let streams = self.clone();
                    connections.spawn(async move {
                        contain("A stream in this process", streams.serve_local(local)).await;
                    });
                }
                Some(_) = connections.join_next() => {}
                () = stop.cancelled() => break,
            }
        }
        drop((accepting, locals));
        self.stop().cancel();
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    /// Serves a connection; answers how long to wait before the next is accepted.
    fn accepted(
        &self,
        connections: &mut JoinSet<()>,
        accepted: std::io::Result<(TcpStream, SocketAddr)>,
        security: Security,
    ) -> Duration {
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(err) if err.kind() == ErrorKind::ConnectionAborted => return Duration::ZERO,
            Err(err) => {
                // There are no descriptors left for now.
                warn!("A connection cannot be accepted: {err}");
                return Duration::from_millis(100);
            }
        };
        let address = peer.ip().to_canonical();
        let most = self.server().settings().limits.connections_per_ip;
        let Some(counted) = self.addresses().admit(address, most) else {
            debug!(%address, "An address has as many connections as it may have");
            return Duration::ZERO;
        };
        if let Err(err) = tcp.set_nodelay(true) {
            debug!(%err, "Small packets may be delayed");
        }
        let streams = self.clone();
        connections.spawn(async move {
            let served = streams.serve_bytes(Box::new(tcp), address, security);
            contain("A client's stream", served).await;
            drop(counted);
        });
        Duration::ZERO
    }
}

async fn accept(
    listener: Listener,
    pause: Duration,
) -> (Listener, std::io::Result<(TcpStream, SocketAddr)>) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let accepted = listener.tcp.accept().await;
    (listener, accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_at_once() {
        let addresses = Addresses::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let first = addresses.admit(address, 2).unwrap();
        let second = addresses.admit(address, 2);
        assert!(second.is_some());
        assert!(addresses.admit(address, 2).is_none());
        assert!(addresses.admit("192.0.2.2".parse().unwrap(), 2).is_some());
        drop(first);
        let third = addresses.admit(address, 2);
        assert!(third.is_some());
        drop((second, third));
        assert!(addresses.0.lock().unwrap().is_empty(), "nothing is left");
        assert!(addresses.admit(address, 0).is_some(), "0: no limit");
    }
}
