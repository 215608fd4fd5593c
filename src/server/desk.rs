//! Services on hosts of their own that answer requests and have nobody on them: uploads, the proxy of bytestreams.

use futures::future::BoxFuture;
use minidom::Element;

use super::router::{IqType, Reply};
use super::stanza::{Kind, Stanza};
use super::{Server, StanzaError};
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// What such a service says.
pub(super) trait Desk: Send + Sync {
    /// Its disco#info (XEP-0030, 3).
    fn info(&self) -> Element;

    /// A request that is neither discovery nor a ping.
    fn asked<'a>(
        &'a self,
        server: &'a Server,
        stanza: &'a Stanza,
        kind: IqType,
        payload: &'a Element,
    ) -> BoxFuture<'a, Reply>;
}

/// A `disco#info` with what every desk understands, and `features` besides.
pub(super) fn info(category: &str, kind: &str, name: &str, features: &[&str]) -> Element {
    let mut query = Element::bare("query", ns::DISCO_INFO);
    let identity = [("category", category), ("type", kind), ("name", name)];
    query.append_child(element("identity", ns::DISCO_INFO, &identity));
    let all = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING];
    for feature in all.iter().chain(features) {
        query.append_child(element("feature", ns::DISCO_INFO, &[("var", feature)]));
    }
    query
}

/// Handles whatever comes for the host of a desk.
pub(super) async fn attend(desk: &impl Desk, server: &Server, stanza: &Stanza) {
    // There are no occupants or accounts here.
    let is_desk = stanza.to().is_none_or(|to| to.node().is_none());
    match stanza.kind() {
        Kind::Presence => {}
        Kind::Iq if is_desk => {
            let answering = |kind, payload: Element| async move {
                answer(desk, server, stanza, kind, &payload).await
            };
            server.answer_iq(stanza, answering).await;
        }
        Kind::Iq | Kind::Message => {
            let refused = StanzaError::service_unavailable();
            server.refuse(stanza, &refused).await;
        }
    }
}

async fn answer(
    desk: &impl Desk,
    server: &Server,
    stanza: &Stanza,
    kind: IqType,
    payload: &Element,
) -> Reply {
    let has_node = payload.attr("node").is_some_and(|node| !node.is_empty());
    match (kind, payload.name(), payload.ns().as_str()) {
        (IqType::Get, "query", ns::DISCO_INFO | ns::DISCO_ITEMS) if has_node => {
            Err(StanzaError::item_not_found())
        }
        (IqType::Get, "query", ns::DISCO_INFO) => Ok(Some(desk.info())),
        (IqType::Get, "query", ns::DISCO_ITEMS) => {
            Ok(Some(Element::bare("query", ns::DISCO_ITEMS)))
        }
        (IqType::Get, "ping", ns::PING) => Ok(None),
        _ => desk.asked(server, stanza, kind, payload).await,
    }
}
