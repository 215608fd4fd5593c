//! Where clients come in: a TCP port whose connections are served each by a task of its own.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use jid::BareJid;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

pub use super::abuse::{Addresses, Counted};
use super::s2s;
use super::stream::{Security, Streams};
use crate::config::XmppServer;
use crate::runtime::{Stop, contain};

/// A port that is bound.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    security: Security,
}

/// How many connections wait to be accepted.
const BACKLOG: u32 = 1_024;

/// Binds every address and port of the settings. An address that this machine has not is passed over, as IPv6 where it
/// is off; a port that is taken is an error that says what to do.
pub fn bind(settings: &XmppServer) -> Result<Vec<Listener>> {
    let (clients, components) = (&settings.bind, &settings.component_bind);
    #[rustfmt::skip]
    let ports = [
        (settings.c2s_port, clients, Security::StartTls, "c2s_port", "bind"),
        (settings.c2s_tls_port, clients, Security::DirectTls, "c2s_tls_port", "bind"),
        (settings.s2s_port, clients, Security::Server, "s2s_port", "bind"),
        (settings.s2s_tls_port, clients, Security::ServerTls, "s2s_tls_port", "bind"),
        (settings.component_port, components, Security::Component, "component_port", "component_bind"),
    ];
    let mut listeners = Vec::new();
    for (port, addresses, security, key, bind) in ports {
        let for_servers = matches!(security, Security::Server | Security::ServerTls);
        if port == 0 || for_servers && !settings.federates() {
            continue;
        }
        let before = listeners.len();
        for address in addresses {
            match open(SocketAddr::new(*address, port)) {
                Ok(tcp) => listeners.push(Listener { tcp, security }),
                Err(err) if is_missing(&err) => {
                    warn!(
                        "This machine has no address {address}; port {port} does not listen on it"
                    );
                }
                Err(err) => {
                    return Err(err).with_context(|| {
                        format!("Failed to listen on {address} port {port}; set xmpp_server.{key} to a free port, or to 0 for none")
                    });
                }
            }
        }
        anyhow::ensure!(
            listeners.len() > before,
            "This machine has none of the addresses in xmpp_server.{bind}; set {bind} = [\"127.0.0.1\"] or another of its own"
        );
    }
    Ok(listeners)
}

pub(super) fn is_missing(err: &std::io::Error) -> bool {
    matches!(
        err.kind(),
        ErrorKind::AddrNotAvailable | ErrorKind::Unsupported
    ) || err.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

pub(super) fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // Beside 0.0.0.0 on the same port.
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves clients until the stop, and then until every stream has been told.
pub async fn serve(listeners: Vec<Listener>, streams: Streams, stop: Stop) -> Result<()> {
    let addresses = streams.addresses().clone();
    let mut tasks = JoinSet::new();
    for Listener { tcp, security } in listeners {
        tasks.spawn(listen(
            tcp,
            streams.clone(),
            security,
            addresses.clone(),
            stop.clone(),
        ));
    }
    if let Some(pipes) = streams.pipes() {
        tasks.spawn(serve_pipes(pipes, streams.clone(), stop.clone()));
    }
    let server = streams.server().clone();
    let closing = stop.clone();
    tasks.spawn(async move {
        closing.cancelled().await;
        server.close();
        Ok(())
    });
    while let Some(ended) = tasks.join_next().await {
        ended.context("A listener has failed")??;
    }
    Ok(())
}

/// The accounts of this process.
async fn serve_pipes(
    mut pipes: mpsc::Receiver<(DuplexStream, BareJid)>,
    streams: Streams,
    stop: Stop,
) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let pipe = tokio::select! {
            pipe = pipes.recv() => pipe,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => None,
        };
        let Some((io, account)) = pipe else {
            break;
        };
        let (streams, stop) = (streams.clone(), stop.clone());
        connections.spawn(async move {
            contain("A local stream", streams.serve_local(io, account, stop)).await;
        });
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// IPv4 that came in over IPv6 is IPv4.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) if six != Ipv6Addr::LOCALHOST => six.to_canonical(),
        other => other.to_canonical(),
    }
}

/// Serves what connects until the stop, and then until every stream has been told.
async fn listen(
    listener: TcpListener,
    streams: Streams,
    security: Security,
    addresses: Addresses,
    stop: Stop,
) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                // Somebody hung up, or there are no descriptors left for now.
                if err.kind() != ErrorKind::ConnectionAborted {
                    warn!("A connection cannot be accepted: {err}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                continue;
            }
        };
        let address = canonical(peer.ip());
        let most = streams.server().settings().limits.connections_per_ip;
        let abuse = streams.server().abuse();
        let counted = match addresses.admit(address, most) {
            Ok(counted) => counted,
            Err(refusal) => {
                abuse.refused(refusal, &address);
                continue;
            }
        };
        abuse.meters.connected(security.transport());
        if matches!(security, Security::Server | Security::ServerTls) {
            s2s::watch_over(&tcp);
        } else if let Err(err) = tcp.set_nodelay(true) {
            debug!(%err, "Small packets may be delayed");
        }
        let (streams, stop) = (streams.clone(), stop.clone());
        connections.spawn(async move {
            let served = streams.serve(Box::new(tcp), address, security, stop);
            contain("A stream", served).await;
            drop(counted);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_over_ipv6_is_the_same_address() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
        let local: IpAddr = "::1".parse().unwrap();
        assert_eq!(canonical(local), local);
    }
}
