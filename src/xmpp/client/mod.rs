//! A session that lasts: connects, logs in, resumes (XEP-0198) or starts anew after a cut, and tells what was lost.
//!
//! Everything runs inside [`Client::next`]: the account's task polls it and owns all there is. Nothing here waits for a
//! model, a database or another account.

mod drive;
mod outbox;
mod session;
mod slot;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use secrecy::SecretString;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio_xmpp::Stanza;
use xmpp_parsers::stream_features::StreamFeatures;

pub use self::drive::Client;
use super::Error;
use super::dns::Resolver;

/// Resolves when the server has acknowledged the stanza (XEP-0198), or, without stream management, once it is written.
/// Dropped where the stanza was lost: the session could not be resumed before it was acknowledged.
pub type Acknowledged = oneshot::Receiver<()>;

/// How we proved who we are; the greater, the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    Plain,
    ScramSha1,
    ScramSha1Plus,
    ScramSha256,
    ScramSha256Plus,
}

/// Opens an in-process connection to an embedded server.
pub type Dial = dyn Fn() -> BoxFuture<'static, std::io::Result<DuplexStream>> + Send + Sync;

/// What carries the bytes.
#[derive(Clone, Default)]
pub enum Transport {
    /// TCP and TLS, found by DNS or `server`.
    #[default]
    Network,
    /// A pipe inside this process, which needs no TLS.
    Local(Arc<Dial>),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "Network",
            Self::Local(_) => "Local",
        })
    }
}

/// What a session needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub jid: BareJid,
    pub resource: String,
    pub password: SecretString,
    /// Overrides DNS: host and port.
    pub server: Option<(String, u16)>,
    /// With `server`: TLS from the first byte (XEP-0368).
    pub direct_tls: bool,
    /// `false` accepts any certificate.
    pub tls_verify: bool,
    /// An additional root certificate, PEM.
    pub tls_ca_file: Option<PathBuf>,
    /// The mechanism of the last session: a weaker one is refused.
    pub minimum_mechanism: Option<Mechanism>,
    /// Connect as a XEP-0114 component: `jid` is its domain, `password` is not used.
    pub component_secret: Option<SecretString>,
    pub transport: Transport,
    pub resolver: Resolver,
}

impl Settings {
    /// The usual: DNS, STARTTLS or direct TLS, verified certificate.
    pub fn new(jid: BareJid, password: SecretString) -> Self {
        Self {
            jid,
            resource: "moltis".to_owned(),
            password,
            server: None,
            direct_tls: false,
            tls_verify: true,
            tls_ca_file: None,
            minimum_mechanism: None,
            component_secret: None,
            transport: Transport::Network,
            resolver: Resolver::system(),
        }
    }
}

/// What happens to a session.
#[derive(Debug)]
pub enum Event {
    /// A new session: nothing of an earlier one is left. Send presence, join rooms, catch up.
    Online {
        /// The bound full JID; a component's bare domain.
        jid: Jid,
        /// Remember it for `Settings::minimum_mechanism`; `None` for components.
        mechanism: Option<Mechanism>,
        /// `None` for components.
        features: Option<Box<StreamFeatures>>,
    },
    /// The connection was lost; what is sent waits. `Resumed` or `Online` follows, or `Failed`.
    Suspended {
        reason: String,
    },
    /// The session goes on, nothing was lost.
    Resumed,
    Stanza(Box<Stanza>),
    /// An attempt failed; the next is made after the delay.
    Retrying {
        reason: String,
        after: Duration,
    },
    /// Not retried: a person must act. The last event.
    Failed(Error),
}
