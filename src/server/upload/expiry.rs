//! The end of files: after `expire_days`, with their account, and of what nobody knows of any more.

use std::io;
use std::time::{Duration, SystemTime};

use jid::{BareJid, NodePart};
use tracing::{info, warn};

use super::reception::PARTIAL;
use super::{Entry, FILES, UPLOADS, Uploads, is_id};
use crate::runtime::Stop;
use crate::server::Server;
use crate::storage::{self, Batch, Query};
use crate::xmpp::datetime;

/// Between two looks.
const PAUSE: Duration = Duration::from_hours(1);

/// A file without an entry is one that is being finished, unless it is older than this.
const ORPHANED: Duration = Duration::from_hours(1);

/// So many are removed in one write.
const CHUNK: usize = 100;

/// Removes what is too old, and what belongs to nobody, until `stop`.
pub async fn maintain(server: Server, uploads: Uploads, stop: Stop) -> anyhow::Result<()> {
    loop {
        // It is tried again; a store that has failed for good says so elsewhere.
        if let Err(err) = uploads.expire(&server, datetime::now()).await {
            warn!("Files that are too old stay for now: {err}");
        }
        if let Err(err) = uploads.adopt().await {
            warn!("The directory of uploads cannot be looked through: {err:#}");
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

impl Uploads {
    /// Removes what is older than `expire_days` before `now`, and all of accounts that do not exist: a crash may have come
    /// between the end of an account and that of its files.
    pub(super) async fn expire(&self, server: &Server, now: i64) -> storage::Result<()> {
        let days = self.rules().settings.expire_days;
        let before = now.saturating_sub(i64::from(days).saturating_mul(super::quota::DAY));
        for owner in self.0.storage.archived(UPLOADS).await? {
            let exists = NodePart::new(&owner).is_ok_and(|name| server.accounts().exists(&name));
            if !exists {
                self.remove(&owner, None).await?;
            } else if days > 0 {
                self.remove(&owner, Some(before)).await?;
            }
        }
        Ok(())
    }

    /// Removes the files of an account that was deleted.
    pub async fn forget(&self, account: &BareJid) -> storage::Result<()> {
        let owner = account.node().map_or("", |node| node.as_str());
        self.slots().close_all(owner);
        self.remove(owner, None).await
    }

    async fn remove(&self, owner: &str, until: Option<i64>) -> storage::Result<()> {
        loop {
            let query = Query {
                until,
                limit: CHUNK,
                ..Query::default()
            };
            let entries = self.0.storage.query(UPLOADS, owner, query).await?;
            if entries.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for entry in &entries {
                batch = batch.remove(UPLOADS, owner, entry.id);
                let Ok(Entry { id, .. }) = serde_json::from_slice(&entry.value) else {
                    continue;
                };
                if is_id(&id) {
                    // First the file: what of it stays in the store leads nowhere, and is tried again.
                    if let Err(err) = tokio::fs::remove_file(self.path(&id)).await
                        && err.kind() != io::ErrorKind::NotFound
                    {
                        warn!(owner, "An uploaded file stays on the disk: {err}");
                    }
                    batch = batch.delete_owner(FILES, &id);
                }
            }
            info!(owner, files = entries.len(), "Uploaded files were removed");
            self.0.storage.commit(batch).await?;
        }
    }

    /// Removes files that the store does not know: a crash came before their entry, or the store is an older one.
    async fn adopt(&self) -> anyhow::Result<()> {
        let mut directory = tokio::fs::read_dir(&self.0.directory).await?;
        while let Some(entry) = directory.next_entry().await? {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                continue;
            };
            let id = name.strip_suffix(PARTIAL).unwrap_or(name);
            let written = entry.metadata().await?.modified()?;
            let age = SystemTime::now().duration_since(written);
            let is_old = age.is_ok_and(|age| age > ORPHANED);
            if !is_id(id) || !is_old || self.slots().is_busy(id) {
                continue;
            }
            let known = self.0.storage.get(FILES, id, super::KEY).await?;
            if known.is_none() {
                tokio::fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }
}
