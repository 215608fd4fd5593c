//! When somebody last logged in: kept in memory and written once a minute, so that a login waits for no disk.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jid::NodeRef;
use tracing::warn;

use super::{Accounts, LAST_LOGINS, lock, now};
use crate::runtime::Stop;
use crate::storage::Batch;

/// How often they are written. A crash forgets at most so much of them.
const EVERY: Duration = Duration::from_mins(1);

impl Accounts {
    /// Notes a login, which is written within a minute.
    pub fn logged_in(&self, name: &NodeRef) {
        let at = now();
        let before = self.with(name, |account| {
            account.last_login.swap(at, Ordering::Relaxed)
        });
        if before.is_some_and(|before| before != at) {
            lock(&self.0.logged_in).push(name.to_owned());
        }
    }

    /// Writes the last logins, until `stop` and a last time then.
    pub async fn keep(self, stop: Stop) -> anyhow::Result<()> {
        loop {
            let stopped = tokio::time::timeout(EVERY, stop.cancelled()).await.is_ok();
            self.write_logins().await;
            if stopped {
                return Ok(());
            }
        }
    }

    async fn write_logins(&self) {
        // A deletion in between would leave the login behind.
        let _writing = self.0.writing.lock().await;
        let mut names = std::mem::take(&mut *lock(&self.0.logged_in));
        names.sort_unstable();
        names.dedup();
        let batch = names.iter().fold(Batch::new(), |batch, name| {
            let at = self.with(name, |account| account.last_login.load(Ordering::Relaxed));
            match at {
                Some(at) => batch.put(
                    LAST_LOGINS,
                    &self.0.domain,
                    name,
                    at.to_string().into_bytes(),
                ),
                None => batch,
            }
        });
        if batch.is_empty() {
            return;
        }
        if let Err(err) = self.0.storage.note(batch).await {
            warn!("The last logins are not written: {err}");
        }
    }
}
