//! XEP-0030: Service Discovery, of the domain and of accounts.

use jid::Jid;
use minidom::Element;

use super::super::router::{IqType, Reply, Request, Router, Target};
use super::super::{Server, StanzaError};
use crate::xmpp::element::element;
use crate::xmpp::ns;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    let targets = [Target::Domain, Target::Own, Target::Other];
    router.disco(&targets, ns::DISCO_INFO);
    router.disco(&targets, ns::DISCO_ITEMS);
    router.identity(&[Target::Domain], "server", "im", "moltis");
    router.identity(&[Target::Own, Target::Other], "account", "registered", "");
    router.iq(&targets, IqType::Get, "query", ns::DISCO_INFO, info)?;
    router.iq(&targets, IqType::Get, "query", ns::DISCO_ITEMS, items)?;
    Ok(())
}

/// Accounts tell those who may see their presence, and nobody else (XEP-0030, 8).
async fn permitted(request: &Request) -> Result<(), StanzaError> {
    if request.target != Target::Other {
        return Ok(());
    }
    let roster = request.account()?.roster(&request.server).await?;
    if roster.state(&request.from.to_bare()).from {
        Ok(())
    } else {
        Err(StanzaError::service_unavailable())
    }
}

async fn info(request: Request) -> Reply {
    permitted(&request).await?;
    let node = request.payload.attr("node").unwrap_or_default().to_owned();
    if !node.is_empty() {
        return node_info(&request, &node).await;
    }
    let router = request.server.router();
    Ok(Some(describe(&request.server, router, request.target)))
}

/// A node is what a feature says it is.
async fn node_info(request: &Request, node: &str) -> Reply {
    let nodes = request.server.router().nodes.get(&request.target);
    for provider in nodes.into_iter().flatten() {
        if let Some(children) = provider(request.clone()).await? {
            let mut query = element("query", ns::DISCO_INFO, &[("node", node)]);
            for child in children {
                query.append_child(child);
            }
            return Ok(Some(query));
        }
    }
    Err(StanzaError::item_not_found())
}

/// The disco#info of a target; of the domain also what its stream features' hash is made of.
pub(super) fn describe(server: &Server, router: &Router, target: Target) -> Element {
    let mut query = Element::bare("query", ns::DISCO_INFO);
    for (category, kind, name) in router.identities.get(&target).into_iter().flatten() {
        let mut attributes = vec![("category", category.as_str()), ("type", kind.as_str())];
        if !name.is_empty() {
            attributes.push(("name", name));
        }
        query.append_child(element("identity", ns::DISCO_INFO, &attributes));
    }
    for feature in router.features.get(&target).into_iter().flatten() {
        query.append_child(element("feature", ns::DISCO_INFO, &[("var", feature)]));
    }
    if target == Target::Domain {
        for form in router.forms.iter().filter_map(|form| form(server)) {
            query.append_child(form);
        }
    }
    query
}

async fn items(request: Request) -> Reply {
    permitted(&request).await?;
    let mut query = Element::bare("query", ns::DISCO_ITEMS);
    let node = request.payload.attr("node").unwrap_or_default().to_owned();
    if !node.is_empty() {
        query = element("query", ns::DISCO_ITEMS, &[("node", &node)]);
    } else if request.target == Target::Domain {
        for (domain, host) in request.server.hosts() {
            if let Ok(jid) = Jid::new(domain) {
                let attributes = [("jid", jid.as_str()), ("name", host.name())];
                query.append_child(element("item", ns::DISCO_ITEMS, &attributes));
            }
        }
    }
    let providers = request.server.router().items.get(&request.target);
    for provider in providers.into_iter().flatten() {
        for item in provider(request.clone()).await? {
            query.append_child(item);
        }
    }
    Ok(Some(query))
}
