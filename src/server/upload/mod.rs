//! XEP-0363: HTTP File Upload. A client asks here for a slot, puts the file there over HTTP, and passes the link on.
//!
//! The link cannot be guessed, and whoever has it reads the file; to put a file there needs the slot's own secret, once. A
//! file is below `uploads` in the data directory under a name of ours; what a client calls it is in the store alone.

mod expiry;
mod host;
mod quota;
mod reception;
mod request;
mod slots;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use url::Url;

pub use expiry::maintain;
pub use host::Service;
pub use reception::{Reception, Refusal};

use crate::config::{self, Config};
use crate::storage::{self, Archive, KeyValue, Storage};
use slots::Slots;

/// What each account has uploaded, in order: [`Entry`] by local part.
pub(super) const UPLOADS: Archive = Archive("uploads");

/// A [`File`] by its id.
const FILES: KeyValue = KeyValue("upload_files");
const KEY: &str = "file";

/// Directory of the files in the data directory.
const DIRECTORY: &str = "uploads";

const MEGABYTE: u64 = 1_000_000;

/// A type that no browser does anything with.
const UNKNOWN: &str = "application/octet-stream";

/// What is uploaded by whom, as an account's list has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    id: String,
    size: u64,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub name: String,
    /// As its sender said, without parameters.
    #[serde(rename = "type")]
    pub kind: String,
    pub size: u64,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// What holds at the moment; replaced by a reload.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub settings: config::Upload,
    /// The server's own address. `None`: it has none that others reach, and takes no files.
    pub base: Option<Url>,
}

impl Rules {
    pub fn of(config: &Config) -> Self {
        Self {
            settings: config.xmpp_server.upload.clone(),
            base: config.files_url(),
        }
    }

    /// Bytes of the largest file.
    fn most(&self) -> u64 {
        let file = self.settings.max_mb.saturating_mul(MEGABYTE);
        self.quota().map_or(file, |quota| file.min(quota))
    }

    /// Bytes of an account in a day; `None`: no limit.
    fn quota(&self) -> Option<u64> {
        let quota = self.settings.daily_quota_mb;
        (quota > 0).then(|| quota.saturating_mul(MEGABYTE))
    }

    fn takes(&self, kind: &str) -> bool {
        let allowed = &self.settings.allowed_types;
        let family = |allowed: &str| {
            let family = allowed.strip_suffix('*')?;
            kind.strip_prefix(family)
        };
        allowed.is_empty()
            || allowed
                .iter()
                .any(|allowed| allowed == kind || family(allowed).is_some())
    }
}

/// A handle: clones share the files.
#[derive(Clone)]
pub struct Uploads(Arc<Inner>);

struct Inner {
    storage: Storage,
    directory: PathBuf,
    rules: RwLock<Arc<Rules>>,
    slots: Mutex<Slots>,
    /// Held from the look at what an account has taken until its slot is there.
    admitting: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Uploads({})", self.0.directory.display())
    }
}

impl Uploads {
    /// Makes the directory, and removes what a process that ended had not finished.
    pub fn open(storage: Storage, data_dir: &Path, rules: Rules) -> anyhow::Result<Self> {
        let directory = data_dir.join(DIRECTORY);
        let prepared = reception::prepare(&directory);
        prepared.with_context(|| format!("Failed to prepare {}", directory.display()))?;
        Ok(Self(Arc::new(Inner {
            storage,
            directory,
            rules: RwLock::new(Arc::new(rules)),
            slots: Mutex::default(),
            admitting: tokio::sync::Mutex::default(),
        })))
    }

    pub fn set_rules(&self, rules: Rules) {
        let rules = Arc::new(rules);
        *self.0.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn rules(&self) -> Arc<Rules> {
        let rules = self.0.rules.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&rules)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a link leads to. `None`: there is no such file, or none of this name.
    pub async fn find(&self, id: &str, name: &str) -> storage::Result<Option<File>> {
        if !is_id(id) {
            return Ok(None);
        }
        let stored = self.0.storage.get(FILES, id, KEY).await?;
        let file = stored.and_then(|json| serde_json::from_slice::<File>(&json).ok());
        Ok(file.filter(|file| file.name == name))
    }

    /// Opens a file that [`Self::find`] has found.
    pub async fn read(&self, id: &str) -> std::io::Result<tokio::fs::File> {
        tokio::fs::File::open(self.path(id)).await
    }

    /// How long a file will still be there; `None`: for ever.
    pub fn lasts(&self, file: &File) -> Option<Duration> {
        let days = self.rules().settings.expire_days;
        let lifetime = Duration::from_secs(u64::from(days).saturating_mul(86_400));
        let since = Duration::from_millis(u64::try_from(file.at).unwrap_or_default());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let left = since
            .saturating_add(lifetime)
            .saturating_sub(now.unwrap_or_default());
        (days > 0).then_some(left)
    }

    /// Where the web chat may put and get files.
    pub fn base(&self) -> Option<Url> {
        self.rules().base.clone()
    }

    /// Bytes of the disk that are free for us. A disk that does not say has no end.
    fn free(&self) -> u64 {
        let free = rustix::fs::statvfs(&self.0.directory);
        free.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Only for ids of ours.
    fn path(&self, id: &str) -> PathBuf {
        self.0.directory.join(id)
    }
}

/// Whether it is of the shape of [`crate::server::random_id`]: no path, whatever came in a link.
fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    id.len() == 22 && id.bytes().all(plain)
}
