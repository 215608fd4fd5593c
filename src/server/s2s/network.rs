//! How other servers are found and reached.

use std::time::Duration;

use futures::future::BoxFuture;
use tracing::debug;

use super::failure::{Failure, Obstacle};
use super::trust::Chain;
use crate::xmpp::connector::Pipe;
use crate::xmpp::dns::tlsa::Verdict;
use crate::xmpp::dns::{Error, Resolver, Service, Target};

/// How long the kernel waits for a sign of life before a connection is lost: what was written must arrive, or come back,
/// while somebody still remembers it.
const SILENCE: Duration = Duration::from_secs(30);

/// The Internet, or in tests something smaller.
pub trait Network: Send + Sync {
    /// Where a domain's service for other servers is, best first.
    fn targets<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Vec<Target>, Failure>>;

    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Pipe>, Failure>>;

    /// What the DNS of a domain says about a certificate that is shown for it: by this host, or by somebody who has
    /// connected to us and may be any of its hosts.
    fn dane<'a>(
        &'a self,
        domain: &'a str,
        host: Option<&'a Target>,
        chain: &'a Chain,
    ) -> BoxFuture<'a, Result<Verdict, Failure>>;
}

/// DNS and TCP.
pub struct Internet(pub Resolver);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let obstacle = if error.is_temporary() {
            Obstacle::Unreachable
        } else {
            Obstacle::NotFound
        };
        Self::new(obstacle, error.to_string())
    }
}

impl Network for Internet {
    fn targets<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Vec<Target>, Failure>> {
        Box::pin(async move { Ok(self.0.targets(domain, Service::Server).await?) })
    }

    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Pipe>, Failure>> {
        Box::pin(async move {
            let (tcp, address) = self.0.connect(target).await?;
            debug!(%address, "Connected");
            watch_over(&tcp);
            Ok(Box::new(tcp) as Box<dyn Pipe>)
        })
    }

    fn dane<'a>(
        &'a self,
        domain: &'a str,
        host: Option<&'a Target>,
        chain: &'a Chain,
    ) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(compare(&self.0, domain, host, chain))
    }
}

pub(super) async fn compare(
    resolver: &Resolver,
    domain: &str,
    host: Option<&Target>,
    chain: &Chain,
) -> Result<Verdict, Failure> {
    if !resolver.is_trusted() {
        return Ok(Verdict::Silent);
    }
    let hosts = match host {
        Some(host) => vec![host.clone()],
        None => match resolver.targets(domain, Service::Server).await {
            Ok(hosts) => hosts,
            Err(error) if error.is_temporary() => return Err(error.into()),
            // It may still come to us, with an authority's word.
            Err(_) => return Ok(Verdict::Silent),
        },
    };
    Ok(resolver.dane(domain, &hosts, chain).await?)
}

/// So that a dead connection is noticed, and small stanzas are not held back.
#[cfg(unix)]
pub(in crate::server) fn watch_over(tcp: &tokio::net::TcpStream) {
    use rustix::net::sockopt;

    let milliseconds = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    let outcome = tcp
        .set_nodelay(true)
        .and_then(|()| Ok(sockopt::set_socket_keepalive(tcp, true)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepidle(tcp, SILENCE)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepintvl(tcp, SILENCE / 3)?));
    #[cfg(target_os = "linux")]
    let outcome = outcome.and_then(|()| Ok(sockopt::set_tcp_user_timeout(tcp, milliseconds)?));
    if let Err(err) = outcome {
        debug!(%err, "A dead connection will be noticed late");
    }
}
