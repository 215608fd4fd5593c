//! Who follows an account: its own sessions, contacts who may see its presence, and whoever has sent it presence, as far as
//! their capabilities ask for a node (XEP-0163, 4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use tracing::warn;

use super::super::super::account::Account;
use super::super::super::pubsub::access::Relation;
use super::super::super::pubsub::node::Record;
use super::super::super::pubsub::{Audience, Notification};
use super::super::super::session::Session;
use super::super::super::{Server, StanzaError};
use super::super::caps::Interests;
use super::{engine, relation, tell};

/// How many clients from elsewhere are followed for one account.
const MOST_VISITORS: usize = 1_000;
/// What they want together, in bytes. Clients of a kind share what they want, and are counted all the same.
const MOST_BYTES: usize = 256 * 1_024;

/// What a session wants to be told.
#[derive(Default)]
struct Wanted(Mutex<Arc<Interests>>);

impl Wanted {
    fn get(&self) -> Arc<Interests> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, new: Arc<Interests>) -> Arc<Interests> {
        std::mem::replace(
            &mut self.0.lock().unwrap_or_else(PoisonError::into_inner),
            new,
        )
    }
}

/// Clients that are not sessions of contacts here, and have sent an account presence.
#[derive(Default)]
struct Visitors(Mutex<HashMap<Jid, Arc<Interests>>>);

impl Visitors {
    fn lock(&self) -> MutexGuard<'_, HashMap<Jid, Arc<Interests>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what was wanted before.
    fn replace(&self, jid: &Jid, new: Arc<Interests>) -> Arc<Interests> {
        let mut visitors = self.lock();
        let before = visitors.remove(jid).unwrap_or_default();
        let bytes: usize = visitors.values().map(|wanted| wanted.bytes()).sum();
        let fits = visitors.len() < MOST_VISITORS && bytes.saturating_add(new.bytes()) < MOST_BYTES;
        if !new.is_empty() && fits {
            visitors.insert(jid.clone(), new);
        }
        before
    }
}

/// The audience of every account.
pub(super) struct Contacts<'a>(pub(super) &'a Server);

impl Contacts<'_> {
    async fn all(
        &self,
        service: &BareJid,
        node: &str,
    ) -> Result<Vec<(Jid, Relation)>, StanzaError> {
        let Some(account) = self.0.account(service).await? else {
            return Ok(Vec::new());
        };
        let mut followers = wanting(&account, node, &Relation::owner());
        let roster = account.roster(self.0).await?;
        for (jid, contact) in roster.those(|contact| contact.state.from) {
            let relation = Relation {
                owner: false,
                presence: true,
                groups: contact.groups,
            };
            if let Some(contact) = self
                .0
                .account_in_memory(&jid)
                .filter(|_| self.0.is_local(jid.domain().as_str()))
            {
                followers.extend(wanting(&contact, node, &relation));
            }
        }
        for jid in visitors(&account, node) {
            if followers.iter().all(|(follower, _)| *follower != jid) {
                let relation = relation(self.0, service, &jid.to_bare()).await?;
                followers.push((jid, relation));
            }
        }
        let mut unblocked = Vec::with_capacity(followers.len());
        for (jid, relation) in followers {
            if relation.owner || may_be_told(self.0, &account, &jid).await {
                unblocked.push((jid, relation));
            }
        }
        Ok(unblocked)
    }
}

/// Nobody is told whom the user has blocked (XEP-0163, 4.3.3).
async fn may_be_told(server: &Server, account: &Arc<Account>, jid: &Jid) -> bool {
    for filter in &server.router().iqs {
        if filter.on_iq(server, account, jid, false).await.is_err() {
            return false;
        }
    }
    true
}

/// The sessions of an account that want a node, and are there for messages.
fn wanting(account: &Account, node: &str, relation: &Relation) -> Vec<(Jid, Relation)> {
    let sessions = account.sessions();
    sessions
        .iter()
        .filter(|session| session.priority().is_some_and(|priority| priority >= 0))
        .filter(|session| {
            let wanted = session.extensions.get::<Wanted>();
            wanted.is_some_and(|wanted| wanted.get().contains(node))
        })
        .map(|session| (Jid::from(session.jid().clone()), relation.clone()))
        .collect()
}

fn visitors(account: &Account, node: &str) -> Vec<Jid> {
    let Some(visitors) = account.extensions.get::<Visitors>() else {
        return Vec::new();
    };
    let visitors = visitors.lock();
    let wanting = visitors
        .iter()
        .filter(|(_, interests)| interests.contains(node));
    wanting.map(|(jid, _)| jid.clone()).collect()
}

impl Audience for Contacts<'_> {
    fn relation<'a>(
        &'a self,
        service: &'a BareJid,
        _: &'a Record,
        jid: &'a BareJid,
    ) -> BoxFuture<'a, Relation> {
        Box::pin(async move {
            relation(self.0, service, jid)
                .await
                .inspect_err(|error| warn!(account = %service, ?error, "A roster cannot be read"))
                .unwrap_or_default()
        })
    }

    fn followers<'a>(
        &'a self,
        service: &'a BareJid,
        node: &'a str,
    ) -> BoxFuture<'a, Vec<(Jid, Relation)>> {
        Box::pin(async move {
            self.all(service, node)
                .await
                .inspect_err(|error| warn!(account = %service, ?error, "A roster cannot be read"))
                .unwrap_or_default()
        })
    }

    fn is_present(&self, jid: &Jid) -> bool {
        self.0.is_available(jid)
    }
}

/// A session has said what it wants: it gets the last items of that, its own and its contacts' here (XEP-0163, 4.3.4).
/// Contacts elsewhere have a server of their own that does it.
pub(in super::super) async fn session_wants(
    server: &Server,
    session: &Arc<Session>,
    new: Arc<Interests>,
) {
    let wanted = session.extensions.get_or_default::<Wanted>();
    let before = wanted.replace(Arc::clone(&new));
    if new.is_empty() || new == before {
        return;
    }
    let account = session.account();
    let mut services = vec![account.jid().clone()];
    match account.roster(server).await {
        Ok(roster) => services.extend(
            roster
                .those(|contact| contact.state.to)
                .into_iter()
                .map(|(jid, _)| jid)
                .filter(|jid| server.is_local(jid.domain().as_str())),
        ),
        Err(error) => warn!(account = %account.jid(), ?error, "A roster cannot be read"),
    }
    let to = Jid::from(session.jid().clone());
    for service in services {
        catch_up(server, &service, &to, &before, &new).await;
    }
}

/// Somebody who sends an account presence has said what they want.
pub(in super::super) async fn visitor_wants(
    server: &Server,
    service: &BareJid,
    from: &Jid,
    new: Arc<Interests>,
) {
    let Some(account) = server.account_in_memory(service) else {
        return;
    };
    // It answers from beyond.
    let is_gone = from
        .try_as_full()
        .is_ok_and(|full| server.session(full).is_none());
    if server.is_local(from.domain().as_str()) && is_gone {
        return;
    }
    // Contacts here are followed by their sessions.
    if server.is_local(from.domain().as_str())
        && relation(server, service, &from.to_bare())
            .await
            .is_ok_and(|relation| relation.presence)
    {
        return;
    }
    let visitors = account.extensions.get_or_default::<Visitors>();
    let before = visitors.replace(from, Arc::clone(&new));
    if !new.is_empty() && new != before {
        catch_up(server, service, from, &before, &new).await;
    }
}

async fn catch_up(
    server: &Server,
    service: &BareJid,
    to: &Jid,
    before: &Interests,
    new: &Interests,
) {
    let wants = |node: &str| new.contains(node) && !before.contains(node);
    match last_items(server, service, to, wants).await {
        Ok(notifications) => tell(server, service, &notifications).await,
        Err(error) => warn!(account = %service, ?error, "The last items cannot be read"),
    }
}

async fn last_items(
    server: &Server,
    service: &BareJid,
    to: &Jid,
    wants: impl Fn(&str) -> bool,
) -> Result<Vec<Notification>, StanzaError> {
    let engine = engine(server)?;
    // Most have nothing to tell, and their roster need not be read.
    if !engine.names(service).await?.iter().any(|name| wants(name)) {
        return Ok(Vec::new());
    }
    let Some(account) = server.account(service).await? else {
        return Ok(Vec::new());
    };
    let relation = relation(server, service, &to.to_bare()).await?;
    if !relation.owner && !may_be_told(server, &account, to).await {
        return Ok(Vec::new());
    }
    engine.on_presence(service, to, &relation, wants).await
}
