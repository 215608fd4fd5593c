//! What else a publication means: nodes whose content is also somewhere else.

use jid::BareJid;
use minidom::Element;

use super::super::super::pubsub::Actor;
use super::super::super::pubsub::request::Request as Asked;
use super::super::super::{Server, StanzaError};
use super::super::{avatar, bookmarks, vcard};

/// An answer to a request for a node that is another one in disguise. `None`: the node is what it is.
pub(super) async fn instead(
    server: &Server,
    service: &BareJid,
    actor: &Actor,
    asked: &Asked,
) -> Result<Option<Option<Element>>, StanzaError> {
    bookmarks::instead(server, service, actor, asked).await
}

/// What follows from a request that was done.
pub(super) async fn after(
    server: &Server,
    service: &BareJid,
    asked: &Asked,
) -> Result<(), StanzaError> {
    bookmarks::after(server, service, asked).await?;
    avatar::after(server, service, asked).await?;
    vcard::after(server, service, asked).await
}
