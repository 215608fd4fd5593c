//! What can go wrong between a name and a session. Each text says what to do, because it is what the user reads.

use std::time::Duration;

/// Why there is no session.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Worth another try: the network, a server that restarts.
    #[error("{0}")]
    Network(String),
    #[error("{step} took longer than {} s", after.as_secs())]
    TimedOut { step: &'static str, after: Duration },
    /// A `<stream:error/>` (RFC 6120, 4.9.3).
    #[error("The server closed the stream: {condition}{}", text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Stream {
        condition: String,
        text: Option<String>,
    },
    /// What the server sent is not XMPP as we accept it.
    #[error("The server sent something unacceptable: {0}")]
    Protocol(String),
    /// No host to connect to: the domain says so, or its name does not exist.
    #[error("{0}")]
    NoService(String),
    #[error("{0}")]
    Tls(String),
    #[error(
        "The server does not offer TLS, and no password is sent without it; ask its operator, or set direct_tls = true where it only listens for direct TLS"
    )]
    NoTls,
    #[error("{0}")]
    Login(String),
    /// The server says that it will work later.
    #[error("The server cannot check passwords right now")]
    TemporaryAuthFailure,
    #[error(
        "The server now offers only {offered}, weaker than {minimum} of last time: someone may sit in between; if the server was really changed, start once with `moltis run --accept-weaker-login`"
    )]
    Downgrade { offered: String, minimum: String },
    #[error("{0}")]
    Settings(String),
    #[error("The connection was closed")]
    Closed,
}

impl Error {
    /// Whether trying again by itself may help. Refused credentials and wrong settings need a
    /// person; a certificate may be renewed, and nothing was said before it was checked.
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::Network(_)
            | Self::TimedOut { .. }
            | Self::Stream { .. }
            | Self::Protocol(_)
            | Self::NoService(_)
            | Self::Tls(_)
            | Self::NoTls
            | Self::TemporaryAuthFailure
            | Self::Closed => false,
            Self::Login(_) | Self::Downgrade { .. } | Self::Settings(_) => true,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(err: std::io::Error) -> Self {
        Self::Network(err.to_string())
    }
}
