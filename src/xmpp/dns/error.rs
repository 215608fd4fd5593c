//! Why there is no connection. Each text says what a person can do; callers tell what is over from what may pass.

use std::net::SocketAddr;

use super::Service;
use crate::xmpp;

/// Why a domain's service was not found, or not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("\"{name}\" is no domain name: {reason}")]
    NotAName { name: String, reason: String },
    /// NXDOMAIN.
    #[error("There is no domain {0} in the DNS; check how it is written")]
    NoSuchDomain(String),
    /// An SRV record whose target is the root (RFC 2782).
    #[error("The DNS of {domain} says that it has no XMPP service for {}", whom(*.service))]
    NoService { domain: String, service: Service },
    #[error("{0} has no address in the DNS; its owner must add an A or AAAA record")]
    NoAddress(String),
    /// What strangers name must be a host of others.
    #[error(
        "{0} has only addresses that no other server can have (loopback, link-local, multicast)"
    )]
    NotAbroad(String),
    /// SERVFAIL, a refusal or silence: nothing is known, neither that there is something nor that there is nothing.
    #[error("The DNS does not say where {name} is: {reason}")]
    Temporary { name: String, reason: String },
    /// Nobody can be asked.
    #[error("This machine has no DNS resolver to ask ({0}); see /etc/resolv.conf")]
    NoResolver(String),
    #[error("Cannot connect to {host}:{port} ({}): {reason}", addresses(.tried))]
    Unreachable {
        host: String,
        port: u16,
        /// Of the last address that was tried.
        reason: String,
        tried: Vec<SocketAddr>,
    },
}

fn addresses(tried: &[SocketAddr]) -> String {
    let tried: Vec<String> = tried.iter().map(|it| it.ip().to_string()).collect();
    tried.join(", ")
}

fn whom(service: Service) -> &'static str {
    match service {
        Service::Client => "clients; check the domain, or set server = \"host:port\"",
        Service::Server => "other servers",
    }
}

impl Error {
    /// Whether the same question may soon have an answer. Nothing that is known for certain has come of it.
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Temporary { .. } | Self::NoResolver(_) | Self::Unreachable { .. } => true,
            Self::NotAName { .. }
            | Self::NoSuchDomain(_)
            | Self::NoService { .. }
            | Self::NoAddress(_)
            | Self::NotAbroad(_) => false,
        }
    }
}

impl From<Error> for xmpp::Error {
    fn from(err: Error) -> Self {
        let text = err.to_string();
        match err {
            Error::NotAName { .. } => Self::Settings(text),
            Error::NoSuchDomain(_)
            | Error::NoService { .. }
            | Error::NoAddress(_)
            | Error::NotAbroad(_) => Self::NoService(text),
            Error::Temporary { .. } | Error::NoResolver(_) | Error::Unreachable { .. } => {
                Self::Network(text)
            }
        }
    }
}
