//! The errors of XEP-0060: a defined condition and, beside it, one of `pubsub#errors`.

use minidom::Element;

use crate::server::StanzaError;
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// The error with its pubsub condition.
pub fn with(error: StanzaError, condition: &str) -> StanzaError {
    error.detail(Element::bare(condition, ns::PUBSUB_ERRORS))
}

/// A feature that this service or node does not have.
pub fn unsupported(feature: &str) -> StanzaError {
    StanzaError::feature_not_implemented().detail(element(
        "unsupported",
        ns::PUBSUB_ERRORS,
        &[("feature", feature)],
    ))
}

/// A request without its node.
pub fn nodeid_required() -> StanzaError {
    with(StanzaError::bad_request(), "nodeid-required")
}
