//! Whom an account has blocked: in the store, and in memory once somebody has asked.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use jid::Jid;
use tokio::sync::{Mutex, OnceCell};

use crate::server::account::Account;
use crate::server::{Server, StanzaError};
use crate::storage::{Batch, KeyValue};

/// By local part: a key for each address.
pub const BLOCKED: KeyValue = KeyValue("blocked");

/// The list of an account.
#[derive(Default)]
pub(super) struct Blocked {
    loaded: OnceCell<RwLock<Arc<BTreeSet<Jid>>>>,
    changing: Mutex<()>,
}

impl Blocked {
    /// All of them; a snapshot.
    pub(super) fn all(&self) -> Arc<BTreeSet<Jid>> {
        self.loaded.get().map_or_else(Arc::default, |list| {
            Arc::clone(&list.read().unwrap_or_else(PoisonError::into_inner))
        })
    }

    /// Kept before it is in force.
    pub(super) async fn change(
        &self,
        server: &Server,
        account: &Account,
        add: &BTreeSet<Jid>,
        remove: &BTreeSet<Jid>,
    ) -> Result<(), StanzaError> {
        let _one_at_a_time = self.changing.lock().await;
        let mut batch = Batch::new();
        for jid in remove {
            batch = batch.delete(BLOCKED, account.owner(), jid.as_str());
        }
        for jid in add {
            batch = batch.put(BLOCKED, account.owner(), jid.as_str(), Vec::new());
        }
        server.storage().commit(batch).await?;
        if let Some(list) = self.loaded.get() {
            let all = self.all();
            let kept = all.difference(remove).cloned();
            let all: BTreeSet<Jid> = kept.chain(add.iter().cloned()).collect();
            *list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
        }
        Ok(())
    }
}

/// The list of an account, read from the store the first time.
pub(super) async fn blocked(
    server: &Server,
    account: &Account,
) -> Result<Arc<Blocked>, StanzaError> {
    let blocked = account.extensions.get_or_default::<Blocked>();
    let load = async || {
        let stored = server.storage().list(BLOCKED, account.owner(), "").await?;
        let all = stored.iter().filter_map(|(jid, _)| Jid::new(jid).ok());
        Ok::<_, crate::storage::Error>(RwLock::new(Arc::new(all.collect())))
    };
    blocked.loaded.get_or_try_init(load).await?;
    Ok(blocked)
}

/// Whether the account has blocked this address. Nobody blocks oneself.
pub(super) async fn is_blocked(
    server: &Server,
    account: &Account,
    jid: &Jid,
) -> Result<bool, StanzaError> {
    let blocked = blocked(server, account).await?;
    let all = blocked.all();
    if all.is_empty() || jid.to_bare() == *account.jid() {
        return Ok(false);
    }
    Ok(all.iter().any(|blocked| matches(blocked, jid)))
}

/// XEP-0191, 2.
pub(super) fn matches(blocked: &Jid, jid: &Jid) -> bool {
    let same_domain = blocked.domain() == jid.domain();
    match (blocked.node(), blocked.resource()) {
        (Some(_), Some(_)) => blocked == jid,
        (Some(node), None) => same_domain && jid.node() == Some(node),
        (None, Some(resource)) => same_domain && jid.resource() == Some(resource),
        (None, None) => {
            same_domain
                || jid
                    .domain()
                    .as_str()
                    .strip_suffix(blocked.domain().as_str())
                    .is_some_and(|sub| sub.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_match_as_xep_0191_says() {
        for (blocked, jid, expected) in [
            ("romeo@a.lit/x", "romeo@a.lit/x", true),
            ("romeo@a.lit/x", "romeo@a.lit/y", false),
            ("romeo@a.lit/x", "romeo@a.lit", false),
            ("romeo@a.lit", "romeo@a.lit", true),
            ("romeo@a.lit", "romeo@a.lit/x", true),
            ("romeo@a.lit", "iago@a.lit", false),
            ("romeo@a.lit", "romeo@b.a.lit", false),
            ("a.lit/x", "a.lit/x", true),
            ("a.lit/x", "a.lit/y", false),
            ("a.lit/x", "a.lit", false),
            ("a.lit", "a.lit", true),
            ("a.lit", "romeo@a.lit/x", true),
            ("a.lit", "a.lit/x", true),
            ("a.lit", "romeo@rooms.a.lit", true),
            ("a.lit", "romeo@nota.lit", false),
            ("a.lit", "lit", false),
        ] {
            let (blocked, jid) = (Jid::new(blocked).unwrap(), Jid::new(jid).unwrap());
            assert_eq!(matches(&blocked, &jid), expected, "{blocked} {jid}");
        }
    }
}
