//! What the service is, which nodes it has, and what they hold (XEP-0060, 5).

use minidom::Element;

use super::super::Actor;
use super::super::page::Paging;
use super::{NAME, Service};
use crate::server::StanzaError;
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// What is announced (XEP-0060, 10), each with the prefix `http://jabber.org/protocol/pubsub#`.
const FEATURES: &[&str] = &[
    "access-authorize",
    "access-open",
    "access-presence",
    "access-roster",
    "access-whitelist",
    "config-node",
    "config-node-max",
    "create-and-configure",
    "create-nodes",
    "delete-items",
    "delete-nodes",
    "instant-nodes",
    "item-ids",
    "last-published",
    "manage-subscriptions",
    "member-affiliation",
    "meta-data",
    "modify-affiliations",
    "multi-items",
    "outcast-affiliation",
    "persistent-items",
    "publish",
    "publish-only-affiliation",
    "publish-options",
    "publisher-affiliation",
    "purge-nodes",
    "retract-items",
    "retrieve-affiliations",
    "retrieve-default",
    "retrieve-items",
    "retrieve-subscriptions",
    "rsm",
    "subscribe",
    "subscription-options",
];

impl Service {
    pub(super) async fn info(
        &self,
        actor: &Actor,
        query: &Element,
    ) -> Result<Element, StanzaError> {
        match query.attr("node").filter(|node| !node.is_empty()) {
            None => Ok(description()),
            Some(node) => {
                let children = self.engine.disco_info(&self.address, actor, node).await?;
                Ok(answer(ns::DISCO_INFO, Some(node), children))
            }
        }
    }

    pub(super) async fn items(
        &self,
        actor: &Actor,
        query: &Element,
    ) -> Result<Element, StanzaError> {
        let (engine, address) = (&self.engine, &self.address);
        let paging = Paging::inside(query)?;
        match query.attr("node").filter(|node| !node.is_empty()) {
            None => {
                let nodes = engine.disco_nodes(address, actor, &paging).await?;
                Ok(answer(ns::DISCO_ITEMS, None, nodes))
            }
            Some(node) => {
                let items = engine.disco_items(address, actor, node, &paging).await?;
                Ok(answer(ns::DISCO_ITEMS, Some(node), items))
            }
        }
    }
}

fn answer(namespace: &str, node: Option<&str>, children: Vec<Element>) -> Element {
    let attributes = node.map(|node| ("node", node));
    let mut query = element("query", namespace, attributes.as_slice());
    for child in children {
        query.append_child(child);
    }
    query
}

fn description() -> Element {
    let identity = [("category", "pubsub"), ("type", "service"), ("name", NAME)];
    let plain = [
        ns::DISCO_INFO,
        ns::DISCO_ITEMS,
        ns::PUBSUB,
        ns::PING,
        ns::RSM,
    ];
    let own = FEATURES
        .iter()
        .map(|feature| format!("{}#{feature}", ns::PUBSUB));
    let features = plain.into_iter().map(ToOwned::to_owned).chain(own);
    let features =
        features.map(|feature| element("feature", ns::DISCO_INFO, &[("var", feature.as_str())]));
    let identity = element("identity", ns::DISCO_INFO, &identity);
    answer(
        ns::DISCO_INFO,
        None,
        std::iter::once(identity).chain(features).collect(),
    )
}
