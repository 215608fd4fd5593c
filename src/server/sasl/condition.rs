//! How a login fails (RFC 6120, 6.5).

/// The defined conditions that we use; `name` is the element's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Aborted,
    AccountDisabled,
    CredentialsExpired,
    EncryptionRequired,
    IncorrectEncoding,
    InvalidAuthzid,
    InvalidMechanism,
    MalformedRequest,
    NotAuthorized,
    TemporaryAuthFailure,
}

impl Condition {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}

/// A condition, and what a person may like to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub condition: Condition,
    pub text: Option<&'static str>,
}

impl Failure {
    pub const fn new(condition: Condition, text: &'static str) -> Self {
        Self {
            condition,
            text: Some(text),
        }
    }
}

impl From<Condition> for Failure {
    fn from(condition: Condition) -> Self {
        Self {
            condition,
            text: None,
        }
    }
}
