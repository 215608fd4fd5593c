//! The pubsub service (XEP-0060): the engine on a domain of its own, where local accounts create nodes for whomever they
//! let in. Collections (XEP-0248) are left out.

mod audience;
mod disco;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;
use tracing::error;

use self::audience::{People, Visitors};
use super::access::Relation;
use super::request::{Authorization, Request};
use super::{Actor, Engine, Notification, Profile};
use crate::server::router::{IqType, Reply};
use crate::server::session::Sender;
use crate::server::stanza::{Kind, Stanza};
use crate::server::{Host, Server, StanzaError};
use crate::storage::Storage;
use crate::xmpp::ns;

const NAME: &str = "Publish-subscribe";

/// The nodes of one host.
pub struct Service {
    address: BareJid,
    /// As people see it.
    name: String,
    engine: Engine,
    visitors: Arc<Visitors>,
}

impl Service {
    pub fn new(address: BareJid, storage: Storage) -> Self {
        Self {
            address,
            name: NAME.to_owned(),
            engine: Engine::new(storage, Profile::PUBLIC),
            visitors: Arc::default(),
        }
    }

    fn people(&self, server: &Server) -> People {
        People::new(server.clone(), Arc::clone(&self.visitors))
    }

    /// Who asks: an administrator owns every node, an account here may create some, and what somebody is to a node's owners
    /// is in their rosters.
    fn actor(&self, server: &Server, from: &Jid) -> Actor {
        let bare = from.to_bare();
        let is_admin = server.is_admin(&bare);
        Actor {
            jid: from.clone(),
            relation: Relation {
                owner: is_admin,
                ..Relation::default()
            },
            may_create: is_admin
                || (bare.node().is_some() && server.is_local(bare.domain().as_str())),
            rosters: Some(Arc::new(self.people(server))),
        }
    }

    async fn answer(&self, server: &Server, from: &Jid, kind: IqType, payload: &Element) -> Reply {
        let actor = self.actor(server, from);
        match (kind, payload.name(), payload.ns().as_str()) {
            (_, "pubsub", ns::PUBSUB | ns::PUBSUB_OWNER) => {
                let request = Request::parse(kind == IqType::Set, payload)?;
                let outcome = self.engine.handle(&self.address, &actor, request).await?;
                self.tell(server, &outcome.notifications).await;
                Ok(outcome.answer)
            }
            (IqType::Get, "query", ns::DISCO_INFO) => self.info(&actor, payload).await.map(Some),
            (IqType::Get, "query", ns::DISCO_ITEMS) => self.items(&actor, payload).await.map(Some),
            (IqType::Get, "ping", ns::PING) => Ok(None),
            _ => Err(StanzaError::service_unavailable()),
        }
    }

    /// Messages are an owner's answers to requests for subscriptions (8.6); others have no meaning here.
    async fn message(&self, server: &Server, stanza: &Stanza) -> Result<(), StanzaError> {
        if stanza.is_error() {
            return Ok(());
        }
        let answer = Authorization::parse(stanza.element());
        let answer = answer.ok_or_else(StanzaError::service_unavailable)?;
        let actor = self.actor(server, stanza.from());
        let told = self
            .engine
            .authorize(&self.address, &actor, &answer)
            .await?;
        self.tell(server, &told).await;
        Ok(())
    }

    async fn tell(&self, server: &Server, notifications: &[Notification]) {
        let people = self.people(server);
        for notification in notifications {
            notification.send(server, &self.address, &people).await;
        }
    }
}

impl Host for Service {
    fn handle<'a>(
        &'a self,
        server: &'a Server,
        _: Sender<'a>,
        stanza: Stanza,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let is_service = stanza
                .to()
                .is_some_and(|to| to.node().is_none() && to.resource().is_none());
            match stanza.kind() {
                Kind::Presence => self.visitors.take(&stanza),
                _ if !is_service => server.refuse(&stanza, &StanzaError::item_not_found()).await,
                Kind::Iq => {
                    let from = stanza.from().clone();
                    let answering = |kind, payload: Element| async move {
                        self.answer(server, &from, kind, &payload).await
                    };
                    server.answer_iq(&stanza, answering).await;
                }
                Kind::Message => {
                    if let Err(error) = self.message(server, &stanza).await {
                        server.refuse(&stanza, &error).await;
                    }
                }
            }
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn account_gone<'a>(&'a self, server: &'a Server, account: &'a BareJid) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            match self.engine.forget(&self.address, account).await {
                Ok(told) => self.tell(server, &told).await,
                Err(error) => {
                    error!(%account, condition = ?error.condition, "What the deleted account had at the pubsub service stays there");
                }
            }
        })
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({})", self.address)
    }
}
