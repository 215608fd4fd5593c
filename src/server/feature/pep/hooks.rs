//! What else a publication means: nodes whose content is also somewhere else.

use jid::BareJid;
use minidom::Element;

use super::super::super::pubsub::request::Request as Asked;
use super::super::super::pubsub::{Actor, Notification};
use super::super::super::{Server, StanzaError};

/// An answer to a request for a node that is another one in disguise. `None`: the node is what it is.
pub(super) async fn instead(
    _server: &Server,
    _service: &BareJid,
    _actor: &Actor,
    _asked: &Asked,
) -> Result<Option<Option<Element>>, StanzaError> {
    Ok(None)
}

/// What follows from a request that was done.
pub(super) async fn after(
    _server: &Server,
    _service: &BareJid,
    _asked: &Asked,
    _notifications: &[Notification],
) -> Result<(), StanzaError> {
    Ok(())
}
