//! How the server refuses: a stanza ([`StanzaError`], RFC 6120, 8.3) or a stream ([`StreamError`], RFC 6120, 4.9). What is
//! told a stranger says nothing of this machine.

use minidom::Element;
pub use xmpp_parsers::stanza_error::{DefinedCondition as Condition, ErrorType};

use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// Why a stanza is answered with an error.
#[derive(Clone, Debug, PartialEq)]
pub struct StanzaError {
    pub kind: ErrorType,
    pub condition: Condition,
    /// In English, for a person.
    pub text: Option<String>,
    /// An application's own condition beside the defined one (RFC 6120, 8.3.4).
    pub detail: Option<Box<Element>>,
}

/// A constructor per condition, with the type that RFC 6120, 8.3.3 associates.
macro_rules! conditions {
    ($($name:ident, $condition:expr, $kind:ident;)*) => {
        $(
            pub fn $name() -> Self {
                Self::new(ErrorType::$kind, $condition)
            }
        )*
    };
}

impl StanzaError {
    pub fn new(kind: ErrorType, condition: Condition) -> Self {
        Self {
            kind,
            condition,
            text: None,
            detail: None,
        }
    }

    conditions! {
        bad_request, Condition::BadRequest, Modify;
        conflict, Condition::Conflict, Cancel;
        feature_not_implemented, Condition::FeatureNotImplemented, Cancel;
        forbidden, Condition::Forbidden, Auth;
        gone, Condition::Gone { new_address: None }, Cancel;
        internal_server_error, Condition::InternalServerError, Cancel;
        item_not_found, Condition::ItemNotFound, Cancel;
        jid_malformed, Condition::JidMalformed, Modify;
        not_acceptable, Condition::NotAcceptable, Modify;
        not_allowed, Condition::NotAllowed, Cancel;
        not_authorized, Condition::NotAuthorized, Auth;
        policy_violation, Condition::PolicyViolation, Modify;
        recipient_unavailable, Condition::RecipientUnavailable, Wait;
        registration_required, Condition::RegistrationRequired, Auth;
        remote_server_not_found, Condition::RemoteServerNotFound, Cancel;
        remote_server_timeout, Condition::RemoteServerTimeout, Wait;
        resource_constraint, Condition::ResourceConstraint, Wait;
        service_unavailable, Condition::ServiceUnavailable, Cancel;
        subscription_required, Condition::SubscriptionRequired, Auth;
        undefined_condition, Condition::UndefinedCondition, Cancel;
        unexpected_request, Condition::UnexpectedRequest, Wait;
    }

    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: Element) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    /// The `<error/>` of the stanza.
    pub fn to_element(&self) -> Element {
        let kind = match self.kind {
            ErrorType::Auth => "auth",
            ErrorType::Cancel => "cancel",
            ErrorType::Continue => "continue",
            ErrorType::Modify => "modify",
            ErrorType::Wait => "wait",
        };
        let mut error = element("error", ns::JABBER_CLIENT, &[("type", kind)]);
        error.append_child(self.condition.clone().into());
        if let Some(text) = &self.text {
            error.append_child(text_element("text", ns::XMPP_STANZAS, text));
        }
        if let Some(detail) = &self.detail {
            error.append_child(detail.as_ref().clone());
        }
        error
    }
}

/// A store that fails: the disk is full, or somebody must look. Nothing of it is told.
impl From<crate::xmpp::form::Error> for StanzaError {
    fn from(error: crate::xmpp::form::Error) -> Self {
        let refused = match error {
            crate::xmpp::form::Error::NotSubmitted => Self::bad_request(),
            crate::xmpp::form::Error::TooLong => Self::policy_violation(),
        };
        refused.text(error.to_string())
    }
}

impl From<crate::storage::Error> for StanzaError {
    fn from(error: crate::storage::Error) -> Self {
        match error {
            crate::storage::Error::Full => {
                Self::resource_constraint().text("The server's disk is full")
            }
            crate::storage::Error::Busy => {
                Self::resource_constraint().text("The server's disk does not keep up")
            }
            other => {
                tracing::error!("The store failed: {other}");
                Self::internal_server_error()
            }
        }
    }
}

/// What was wrong with a request about an account.
impl From<super::accounts::Error> for StanzaError {
    fn from(error: super::accounts::Error) -> Self {
        use super::accounts::Error;

        let text = error.to_string();
        match error {
            Error::Exists(_) => Self::conflict().text("That name is taken"),
            Error::Deleted(_) => Self::conflict().text("That name is not given again"),
            Error::Unknown(_) => Self::item_not_found().text(text),
            Error::Name(_) | Error::Password(_) => Self::not_acceptable().text(text),
            Error::Storage(error) => error.into(),
            Error::System(text) => {
                tracing::error!("An account could not be changed: {text}");
                Self::internal_server_error()
            }
        }
    }
}

/// Why a stream ends (RFC 6120, 4.9.3). The name of the condition, and a text for a person where one helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    pub condition: &'static str,
    pub text: Option<&'static str>,
}

impl StreamError {
    pub const fn new(condition: &'static str) -> Self {
        Self {
            condition,
            text: None,
        }
    }

    #[must_use]
    pub const fn text(self, text: &'static str) -> Self {
        Self {
            condition: self.condition,
            text: Some(text),
        }
    }

    /// The `<stream:error/>`.
    pub fn to_element(&self) -> Element {
        let mut error = Element::bare("error", ns::STREAM);
        error.append_child(Element::bare(self.condition, ns::XMPP_STREAMS));
        if let Some(text) = self.text {
            error.append_child(text_element("text", ns::XMPP_STREAMS, text));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_type_condition_and_text() {
        let error = StanzaError::item_not_found().text("<none>").to_element();
        assert_eq!(error.attr("type"), Some("cancel"));
        assert!(error.has_child("item-not-found", ns::XMPP_STANZAS));
        let text = error.get_child("text", ns::XMPP_STANZAS).unwrap();
        assert_eq!(text.text(), "<none>");
    }
}
