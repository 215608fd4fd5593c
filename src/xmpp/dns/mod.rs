//! Where a domain's service is, for clients and for other servers: SRV records of both kinds (RFC 6120, 3.2; XEP-0368) in
//! one order, else the domain itself; a TCP connection to the first address that answers (RFC 8305); and what the DNS
//! says about certificates ([`tlsa`]).
//!
//! One [`Resolver`] serves the process. What it has heard it keeps as long as the DNS says, within bounds, because
//! whoever speaks to us as a server makes us ask about any domain they like.

mod answer;
mod cache;
mod error;
mod order;
mod places;
mod race;
mod resolver;
mod system;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod tlsa;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

pub use answer::{Answer, Data, Kind, SrvRecord};
pub use error::Error;
pub use resolver::Resolver;

/// Who wants to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Client,
    Server,
}

impl Service {
    /// The owner of the records for STARTTLS.
    pub fn starttls(self, domain: &str) -> String {
        match self {
            Self::Client => format!("_xmpp-client._tcp.{domain}"),
            Self::Server => format!("_xmpp-server._tcp.{domain}"),
        }
    }

    /// The owner of the records for direct TLS (XEP-0368, 3).
    pub fn direct(self, domain: &str) -> String {
        match self {
            Self::Client => format!("_xmpps-client._tcp.{domain}"),
            Self::Server => format!("_xmpps-server._tcp.{domain}"),
        }
    }

    /// The registered port (RFC 6120, 14.7).
    pub const fn port(self) -> u16 {
        match self {
            Self::Client => 5222,
            Self::Server => 5269,
        }
    }
}

/// Who named a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An SRV record; `secure`: whose answer was validated (DNSSEC), so that TLSA records of the host may be believed.
    Srv { secure: bool },
    /// Nobody: the domain itself (RFC 6120, 3.2.2).
    Domain,
    /// The settings: as for any program, a name may be one of the local network.
    Settings,
}

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// TLS from the first byte, else STARTTLS.
    pub direct_tls: bool,
    pub origin: Origin,
    /// Whether it may be on this machine: its domain stands in the settings. What strangers name may not (`race`).
    pub anywhere: bool,
}

impl Target {
    /// A place that the settings name.
    pub fn configured(host: &str, port: u16, direct_tls: bool) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Self {
            host: bare.to_owned(),
            port,
            direct_tls,
            origin: Origin::Settings,
            anywhere: true,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a [`Resolver`] that is watched does.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    Asked {
        name: &'a str,
        kind: Kind,
        outcome: Result<&'a Answer, &'a Error>,
    },
    Connecting(SocketAddr),
    Failed(SocketAddr, &'a io::Error),
    Connected(SocketAddr),
}

/// A domain in the form that DNS and certificates use (IDNA).
pub fn ascii(domain: &str) -> Result<String, Error> {
    if let Ok(address) = domain.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    url::Host::parse(domain)
        .map(|host| match host {
            url::Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        })
        .map_err(|err| Error::NotAName {
            name: domain.to_owned(),
            reason: err.to_string(),
        })
}

/// Whether a name needs no DNS: an address, or the loopback (RFC 6761, 6.3).
pub fn is_local(domain: &str) -> bool {
    domain.parse::<IpAddr>().is_ok() || is_loopback(domain)
}

fn is_loopback(domain: &str) -> bool {
    let domain = domain.trim_end_matches('.');
    domain == "localhost" || domain.ends_with(".localhost")
}
