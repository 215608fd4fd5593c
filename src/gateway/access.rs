//! The stored approvals: what `/allow`, `/guest`, `/block` and `/claim` decided, and when a stranger was last told to
//! wait. Kept in memory as well, so that admission reads them without waiting for the database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jid::BareJid;
use serde::{Deserialize, Serialize};

use crate::gateway::admission::{Approvals, Grant};
use crate::storage::{Batch, KeyValue, Result, Storage};

/// By account, then JID.
const ACCESS: KeyValue = KeyValue("access");
/// When a stranger was last asked to wait, by account, then JID.
const ASKED: KeyValue = KeyValue("pairing_asked");
const DAY: i64 = 24 * 60 * 60 * 1_000;

/// A decision with who took it, and when in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub grant: Grant,
    pub by: String,
    pub at: i64,
}

#[derive(Debug)]
pub struct Access {
    storage: Storage,
    accounts: Mutex<BTreeMap<String, Arc<Approvals>>>,
}

impl Access {
    /// Reads the approvals of all accounts.
    pub async fn load(storage: Storage) -> Result<Self> {
        let mut accounts = BTreeMap::new();
        for account in storage.owners(ACCESS).await? {
            let mut approvals = Approvals::default();
            for (jid, record) in list(&storage, &account).await? {
                approvals.set(&jid, record.grant);
            }
            accounts.insert(account, Arc::new(approvals));
        }
        Ok(Self {
            storage,
            accounts: Mutex::new(accounts),
        })
    }

    /// The approvals of an account as they are now.
    pub fn approvals(&self, account: &str) -> Arc<Approvals> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.get(account).cloned().unwrap_or_default()
    }

    /// Stores a decision; it replaces an earlier one about the same JID.
    pub async fn grant(&self, account: &str, jid: &BareJid, grant: Grant, by: &str) -> Result<()> {
        let record = Record {
            grant,
            by: by.to_owned(),
            at: crate::gateway::now(),
        };
        let value = serde_json::to_vec(&record)
            .map_err(|err| crate::storage::Error::Backend(err.to_string()))?;
        let batch = Batch::new().put(ACCESS, account, &key(jid), value);
        self.storage.commit(batch).await?;
        self.update(account, |approvals| approvals.set(jid, grant));
        Ok(())
    }

    /// Takes a decision back; `false` where there was none.
    pub async fn revoke(&self, account: &str, jid: &BareJid) -> Result<bool> {
        let batch =
            Batch::new()
                .delete(ACCESS, account, &key(jid))
                .delete(ASKED, account, &key(jid));
        self.storage.commit(batch).await?;
        let mut existed = false;
        self.update(account, |approvals| existed = approvals.remove(jid));
        Ok(existed)
    }

    /// All decisions of an account, in the order of their JIDs.
    pub async fn list(&self, account: &str) -> Result<Vec<(BareJid, Record)>> {
        list(&self.storage, account).await
    }

    /// Whether a stranger's message is to be answered with the pairing line and put before the operators: once a day
    /// each. A `true` counts as done.
    pub async fn ask(&self, account: &str, jid: &BareJid, now: i64) -> Result<bool> {
        let last = self.storage.get(ASKED, account, &key(jid)).await?;
        let last = last
            .and_then(|bytes| bytes.try_into().ok())
            .map(i64::from_be_bytes);
        if last.is_some_and(|last| (last..last.saturating_add(DAY)).contains(&now)) {
            return Ok(false);
        }
        let batch = Batch::new().expire(ASKED, now.saturating_sub(DAY)).put(
            ASKED,
            account,
            &key(jid),
            now.to_be_bytes().to_vec(),
        );
        self.storage.commit(batch).await?;
        Ok(true)
    }

    fn update(&self, account: &str, change: impl FnOnce(&mut Approvals)) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let approvals = accounts.entry(account.to_owned()).or_default();
        change(Arc::make_mut(approvals));
    }
}

fn key(jid: &BareJid) -> String {
    crate::gateway::pattern::comparable(jid)
}

async fn list(storage: &Storage, account: &str) -> Result<Vec<(BareJid, Record)>> {
    let stored = storage.list(ACCESS, account, "").await?;
    let mut records = Vec::with_capacity(stored.len());
    for (key, value) in stored {
        if let (Ok(jid), Ok(record)) = (BareJid::new(&key), serde_json::from_slice(&value)) {
            records.push((jid, record));
        } else {
            tracing::warn!(
                account,
                key,
                "An approval could not be read and is left out"
            );
        }
    }
    Ok(records)
}
