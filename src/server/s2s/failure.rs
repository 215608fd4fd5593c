//! Why a stanza does not reach another server, in the words of RFC 6120, 8.3.3 and for a person.

use std::fmt;

use serde::Serialize;

use crate::server::StanzaError;

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// There is no such domain, or it has no such service.
    NotFound,
    /// Nobody answers, or somebody breaks off: later it may be otherwise.
    Unreachable,
    /// Somebody answers, and does not show that the domain is theirs.
    Untrusted,
    /// The other server does not want to talk to us.
    Refused,
    /// Our own configuration forbids it.
    Forbidden,
    /// As much waits already as may.
    Full,
    /// The other server does not take stanzas of this size.
    TooLarge,
}

/// A connection that did not come about, or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub obstacle: Obstacle,
    /// One sentence, for whoever wrote the stanza and for the operator.
    pub text: String,
}

impl Failure {
    pub(super) fn new(obstacle: Obstacle, text: impl Into<String>) -> Self {
        Self {
            obstacle,
            text: text.into(),
        }
    }

    pub(super) fn unreachable(text: impl Into<String>) -> Self {
        Self::new(Obstacle::Unreachable, text)
    }

    pub(super) fn full(text: impl Into<String>) -> Self {
        Self::new(Obstacle::Full, text)
    }

    /// Whether the same may succeed in a moment.
    pub(super) fn is_temporary(&self) -> bool {
        self.obstacle == Obstacle::Unreachable
    }

    /// What a stanza is answered that waited for this connection.
    pub(super) fn to_error(&self) -> StanzaError {
        let error = match self.obstacle {
            Obstacle::NotFound => StanzaError::remote_server_not_found(),
            // RFC 6120, 8.3.3.17: a connection could not be established.
            Obstacle::Unreachable | Obstacle::Untrusted | Obstacle::Refused => {
                StanzaError::remote_server_timeout()
            }
            Obstacle::Forbidden => StanzaError::not_allowed(),
            Obstacle::Full => StanzaError::resource_constraint(),
            Obstacle::TooLarge => StanzaError::policy_violation(),
        };
        error.text(self.text.clone())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
