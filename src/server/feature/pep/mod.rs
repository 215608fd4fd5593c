//! XEP-0163: Personal Eventing Protocol. Every account is a pubsub service: contacts follow it by their presence, and say
//! in their capabilities which nodes they want.

mod audience;
mod hooks;

use std::sync::Arc;

use jid::{BareJid, Jid};
use minidom::Element;
use tracing::warn;

use self::audience::Contacts;
pub(super) use self::audience::{session_wants, visitor_wants};
use super::super::pubsub::access::Relation;
use super::super::pubsub::config::{AccessModel, Config};
use super::super::pubsub::form::Filled;
use super::super::pubsub::page::Paging;
use super::super::pubsub::request::{NewItem, Request as Asked};
use super::super::pubsub::{Actor, Audience, Engine, Limits, Notification, Profile};
use super::super::router::{IqType, Reply, Request, Router, Target};
use super::super::{Server, StanzaError};
use crate::xmpp::ns;

/// What is announced (XEP-0060, 10), each with the prefix `http://jabber.org/protocol/pubsub#`.
const FEATURES: &[&str] = &[
    "access-authorize",
    "access-open",
    "access-presence",
    "access-roster",
    "access-whitelist",
    "auto-create",
    "auto-subscribe",
    "config-node",
    "config-node-max",
    "create-and-configure",
    "create-nodes",
    "delete-items",
    "delete-nodes",
    "filtered-notifications",
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
    "presence-notifications",
    "presence-subscribe",
    "publish",
    "publish-only-affiliation",
    "publish-options",
    "publisher-affiliation",
    "pubsub-on-a-jid",
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

const TARGETS: [Target; 2] = [Target::Own, Target::Other];

/// A client is to ask the account (XEP-0163, 6.1). Some, as Smack for OMEMO and XEP-0373, ask the domain alone, which so
/// announces what holds for its accounts, as ejabberd's does.
const ANNOUNCED_AT: [Target; 3] = [Target::Domain, Target::Own, Target::Other];

pub(super) fn register(router: &mut Router, server: &Server) -> anyhow::Result<()> {
    let storage = server.storage().clone();
    let profile = Profile {
        defaults,
        access_models: &[
            AccessModel::Open,
            AccessModel::Presence,
            AccessModel::Roster,
            AccessModel::Authorize,
            AccessModel::Whitelist,
        ],
        auto_create: true,
        limits: Limits::PERSONAL,
    };
    server
        .extensions()
        .insert(Pep(Engine::new(storage, profile)));
    router.identity(&ANNOUNCED_AT, "pubsub", "pep", "");
    router.disco(&ANNOUNCED_AT, ns::PUBSUB);
    for feature in FEATURES {
        router.disco(&ANNOUNCED_AT, &format!("{}#{feature}", ns::PUBSUB));
    }
    for kind in [IqType::Get, IqType::Set] {
        for namespace in [ns::PUBSUB, ns::PUBSUB_OWNER] {
            router.iq(&TARGETS, kind, "pubsub", namespace, handle)?;
        }
    }
    for target in TARGETS {
        router.disco_items(target, Arc::new(|request| Box::pin(disco_items(request))));
        router.disco_node(target, Arc::new(|request| Box::pin(disco_node(request))));
    }
    Ok(())
}

struct Pep(Engine);

/// The engine of all accounts' services.
pub(super) fn engine(server: &Server) -> Result<Engine, StanzaError> {
    let pep = server.extensions().get::<Pep>();
    pep.map(|pep| pep.0.clone())
        .ok_or_else(StanzaError::service_unavailable)
}

/// What a new node is like: private stores stay private even where a client forgets to say so (XEP-0402, 4; XEP-0490, 8).
fn defaults(node: &str) -> Config {
    match node {
        ns::BOOKMARKS2 | ns::MDS => Config::private(),
        _ => Config::personal(),
    }
}

/// What somebody is to an account.
pub(super) async fn relation(
    server: &Server,
    service: &BareJid,
    jid: &BareJid,
) -> Result<Relation, StanzaError> {
    if service == jid {
        return Ok(Relation::owner());
    }
    let Some(account) = server.account(service).await? else {
        return Ok(Relation::default());
    };
    let contact = account.roster(server).await?.contact(jid);
    Ok(contact.map_or_else(Relation::default, |contact| Relation {
        owner: false,
        presence: contact.state.from,
        groups: contact.groups,
    }))
}

async fn actor(request: &Request) -> Result<(BareJid, Actor), StanzaError> {
    let service = request.to.to_bare();
    let relation = relation(&request.server, &service, &request.from.to_bare()).await?;
    let actor = Actor {
        jid: request.from.clone(),
        may_create: relation.owner,
        relation,
        rosters: None,
    };
    Ok((service, actor))
}

async fn handle(request: Request) -> Reply {
    let (service, actor) = actor(&request).await?;
    let asked = Asked::parse(request.kind == IqType::Set, &request.payload)?;
    perform(&request.server, &service, &actor, asked).await
}

/// Does what is asked, tells whom it concerns, and what follows from it.
async fn perform(server: &Server, service: &BareJid, actor: &Actor, asked: Asked) -> Reply {
    if let Some(reply) = hooks::instead(server, service, actor, &asked).await? {
        return Ok(reply);
    }
    let outcome = engine(server)?
        .handle(service, actor, asked.clone())
        .await?;
    tell(server, service, &outcome.notifications).await;
    if let Err(error) = hooks::after(server, service, &asked).await {
        warn!(account = %service, ?error, "What follows from a publication was not done");
    }
    Ok(outcome.answer)
}

/// Publishes in the account's name, as its clients do.
pub(super) async fn publish(
    server: &Server,
    service: &BareJid,
    node: &str,
    id: &str,
    payload: Element,
) -> Result<(), StanzaError> {
    publish_with(server, service, node, id, payload, None).await
}

/// As [`publish`]; a node that is new is open to everybody, as what the item is made of was before.
pub(super) async fn publish_open(
    server: &Server,
    service: &BareJid,
    node: &str,
    id: &str,
    payload: Element,
) -> Result<(), StanzaError> {
    let is_new = engine(server)?.record(service, node).await?.is_none();
    let open = vec![AccessModel::Open.name().to_owned()];
    let options = is_new.then(|| Filled {
        cancelled: false,
        fields: vec![("pubsub#access_model".to_owned(), open)],
    });
    publish_with(server, service, node, id, payload, options).await
}

async fn publish_with(
    server: &Server,
    service: &BareJid,
    node: &str,
    id: &str,
    payload: Element,
    options: Option<Filled>,
) -> Result<(), StanzaError> {
    let asked = Asked::Publish {
        node: node.to_owned(),
        item: Some(NewItem {
            id: Some(id.to_owned()),
            payload: Some(payload),
        }),
        options,
    };
    let actor = Actor::owner(service.clone());
    let outcome = engine(server)?.handle(service, &actor, asked).await?;
    tell(server, service, &outcome.notifications).await;
    Ok(())
}

/// Removes an item in the account's name.
pub(super) async fn retract(
    server: &Server,
    service: &BareJid,
    node: &str,
    id: &str,
) -> Result<(), StanzaError> {
    let asked = Asked::Retract {
        node: node.to_owned(),
        ids: vec![id.to_owned()],
        notify: true,
    };
    let actor = Actor::owner(service.clone());
    let outcome = engine(server)?.handle(service, &actor, asked).await?;
    tell(server, service, &outcome.notifications).await;
    Ok(())
}

/// Sends events to whom they are for.
pub(super) async fn tell(server: &Server, service: &BareJid, notifications: &[Notification]) {
    let audience = Contacts(server);
    for notification in notifications {
        notification.send(server, service, &audience).await;
    }
}

async fn disco_items(request: Request) -> Result<Vec<Element>, StanzaError> {
    let (service, actor) = actor(&request).await?;
    let engine = engine(&request.server)?;
    let paging = Paging::inside(&request.payload)?;
    match request.payload.attr("node") {
        None | Some("") => engine.disco_nodes(&service, &actor, &paging).await,
        Some(node) => engine.disco_items(&service, &actor, node, &paging).await,
    }
}

async fn disco_node(request: Request) -> Result<Option<Vec<Element>>, StanzaError> {
    let (service, actor) = actor(&request).await?;
    let node = request.payload.attr("node").unwrap_or_default();
    let engine = engine(&request.server)?;
    engine.disco_info(&service, &actor, node).await.map(Some)
}

impl Server {
    /// Who would be told of an account's events: for lists and tests.
    pub async fn followers(&self, account: &BareJid, node: &str) -> Vec<Jid> {
        let followers = Contacts(self).followers(account, node).await;
        followers.into_iter().map(|(jid, _)| jid).collect()
    }
}

#[cfg(test)]
mod tests;
