//! What people are to the owners of a node, by the owners' rosters, and who is there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use jid::{BareJid, FullJid, Jid};
use tracing::warn;

use super::super::Audience;
use super::super::access::Relation;
use super::super::config::AccessModel;
use super::super::node::Record;
use crate::server::stanza::Stanza;
use crate::server::{Server, StanzaError};

/// How many clients from elsewhere are known to be there.
const MOST_VISITORS: usize = 10_000;

/// Clients from elsewhere that have sent the service presence; of those here the server knows.
#[derive(Debug, Default)]
pub(super) struct Visitors(Mutex<BTreeSet<FullJid>>);

impl Visitors {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<FullJid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A presence for the service.
    pub(super) fn take(&self, presence: &Stanza) {
        let Ok(from) = presence.from().clone().try_into_full() else {
            return;
        };
        let mut visitors = self.lock();
        match presence.type_() {
            "" if visitors.len() < MOST_VISITORS => drop(visitors.insert(from)),
            "unavailable" | "error" => drop(visitors.remove(&from)),
            _ => {}
        }
    }

    fn has(&self, jid: &Jid) -> bool {
        let visitors = self.lock();
        match jid.try_as_full() {
            Ok(full) => visitors.contains(full),
            Err(bare) => visitors.iter().any(|visitor| visitor.to_bare() == *bare),
        }
    }
}

/// Everybody, as this server knows them.
#[derive(Clone)]
pub(super) struct People {
    server: Server,
    visitors: Arc<Visitors>,
}

impl People {
    pub(super) fn new(server: Server, visitors: Arc<Visitors>) -> Self {
        Self { server, visitors }
    }

    /// What one is to all owners together: in the roster of one of them is in the roster (XEP-0060, 4.5).
    async fn find(&self, record: &Record, jid: &BareJid) -> Result<Relation, StanzaError> {
        let mut relation = Relation::default();
        let asks = matches!(
            record.config.access_model,
            AccessModel::Presence | AccessModel::Roster
        );
        for owner in record.owners().filter(|_| asks) {
            let Some(account) = self.server.account(owner).await? else {
                continue;
            };
            let contact = account.roster(&self.server).await?.contact(jid);
            if let Some(contact) = contact.filter(|contact| contact.state.from) {
                relation.presence = true;
                relation.groups.extend(contact.groups);
            }
        }
        Ok(relation)
    }
}

impl Audience for People {
    fn relation<'a>(
        &'a self,
        service: &'a BareJid,
        record: &'a Record,
        jid: &'a BareJid,
    ) -> BoxFuture<'a, Relation> {
        Box::pin(async move {
            self.find(record, jid)
                .await
                .inspect_err(|error| warn!(%service, ?error, "A roster cannot be read"))
                .unwrap_or_default()
        })
    }

    /// Nobody: events go to subscribers.
    fn followers<'a>(&'a self, _: &'a BareJid, _: &'a str) -> BoxFuture<'a, Vec<(Jid, Relation)>> {
        Box::pin(async { Vec::new() })
    }

    fn is_present(&self, jid: &Jid) -> bool {
        if self.server.is_local(jid.domain().as_str()) {
            self.server.is_available(jid)
        } else {
            self.visitors.has(jid)
        }
    }
}
