//! A file on its way in: into a file beside its place, and when all of it is on the disk, to its place and into the store.
//! So a link leads to the whole file or to none, also after a crash.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tracing::{error, info, warn};

use super::slots::{Shut, Slot};
use super::{Entry, FILES, KEY, UNKNOWN, UPLOADS, Uploads, is_id, request};
use crate::runtime::to_the_end;
use crate::storage::{Batch, Error};
use crate::xmpp::datetime;

/// End of the names of files that are not there yet.
pub(super) const PARTIAL: &str = ".part";

/// Why a file is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such slot, or it was open too long ago.
    Unknown,
    /// The secret is wrong.
    Secret,
    /// Somebody is putting a file there at this moment.
    Busy,
    /// The file is there.
    Done,
    /// It is not as long as was said.
    Size,
    /// It is not of the type that was said, or that is taken.
    Kind,
    /// The disk is full.
    Full,
    Internal,
}

impl From<Shut> for Refusal {
    fn from(shut: Shut) -> Self {
        match shut {
            Shut::Unknown => Self::Unknown,
            Shut::Secret => Self::Secret,
            Shut::Busy => Self::Busy,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => {
                error!("An uploaded file cannot be kept: {error}");
                Self::Internal
            }
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Full | Error::Busy => Self::Full,
            other => {
                error!("An uploaded file cannot be kept: {other}");
                Self::Internal
            }
        }
    }
}

/// Makes the directory, for nobody else, and clears it of what was not finished.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Given up where it is dropped unfinished.
#[derive(Debug)]
pub struct Reception {
    partial: Partial,
    taken: Taken,
    slot: Slot,
    kind: String,
    file: File,
    written: u64,
}

/// A slot that is in use until this is dropped.
#[derive(Debug)]
struct Taken {
    uploads: Uploads,
    id: String,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.uploads.slots().give_back(&self.id);
    }
}

/// A file that goes when this is dropped, unless it has another name by then.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // A few microseconds; what stays all the same is removed at the next start.
        if let Err(err) = std::fs::remove_file(&self.0)
            && err.kind() != io::ErrorKind::NotFound
        {
            warn!("{} stays: {err}", self.0.display());
        }
    }
}

impl Uploads {
    /// Begins to take a file for a slot. `size`, `kind`: as the request's head has them.
    pub async fn receive(
        &self,
        id: &str,
        name: &str,
        secret: &str,
        size: u64,
        kind: Option<&str>,
    ) -> Result<Reception, Refusal> {
        if !is_id(id) {
            return Err(Refusal::Unknown);
        }
        let taken = self.slots().take(id, name, secret);
        let slot = match taken {
            Ok(slot) => slot,
            // The slot is closed when its file is there, which whoever has the link may know.
            Err(Shut::Unknown) if self.find(id, name).await?.is_some() => {
                return Err(Refusal::Done);
            }
            Err(shut) => return Err(shut.into()),
        };
        let taken = Taken {
            uploads: self.clone(),
            id: id.to_owned(),
        };
        self.begin(taken, slot, size, kind).await
    }

    async fn begin(
        &self,
        taken: Taken,
        slot: Slot,
        size: u64,
        kind: Option<&str>,
    ) -> Result<Reception, Refusal> {
        if size != slot.wanted.size {
            return Err(Refusal::Size);
        }
        let said = kind.map(|kind| request::essence(kind).ok_or(Refusal::Kind));
        let kind = match (said.transpose()?, &slot.wanted.kind) {
            (Some(said), Some(wanted)) if said != *wanted => return Err(Refusal::Kind),
            (Some(said), _) => said,
            (None, Some(wanted)) => wanted.clone(),
            (None, None) => UNKNOWN.to_owned(),
        };
        if !self.rules().takes(&kind) {
            return Err(Refusal::Kind);
        }
        let partial = Partial(self.path(&format!("{}{PARTIAL}", taken.id)));
        let file = File::create(&partial.0).await?;
        Ok(Reception {
            partial,
            taken,
            slot,
            kind,
            file,
            written: 0,
        })
    }
}

impl Reception {
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.written = self.written.saturating_add(count);
        if self.written > self.slot.wanted.size {
            return Err(Refusal::Size);
        }
        Ok(self.file.write_all(bytes).await?)
    }

    /// All of it has come: the link leads to it from now on. To the end, also where whoever has sent it does not wait.
    pub async fn finish(self) -> Result<(), Refusal> {
        if self.written != self.slot.wanted.size {
            return Err(Refusal::Size);
        }
        let kept = to_the_end(self.keep()).await;
        kept.unwrap_or(Err(Refusal::Internal))
    }

    async fn keep(mut self) -> Result<(), Refusal> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let Taken { uploads, id } = &self.taken;
        // The account may have gone meanwhile, and its slots with it.
        if !uploads.slots().is_busy(id) {
            return Err(Refusal::Unknown);
        }
        let path = uploads.path(id);
        tokio::fs::rename(&self.partial.0, &path).await?;
        // The new name too must outlive a loss of power, before the store says that it is there.
        File::open(&uploads.0.directory).await?.sync_all().await?;
        if let Err(refusal) = self.record().await {
            tokio::fs::remove_file(&path).await?;
            return Err(refusal);
        }
        uploads.slots().close(id);
        let (owner, size) = (&self.slot.owner, self.written);
        info!(%owner, size, "A file was uploaded");
        Ok(())
    }

    async fn record(&self) -> Result<(), Refusal> {
        let at = datetime::now();
        let wanted = &self.slot.wanted;
        let file = super::File {
            name: wanted.name.clone(),
            kind: self.kind.clone(),
            size: wanted.size,
            at,
        };
        let entry = Entry {
            id: self.taken.id.clone(),
            size: wanted.size,
        };
        let json = |error: serde_json::Error| {
            error!("An uploaded file cannot be described: {error}");
            Refusal::Internal
        };
        let batch = Batch::new()
            .put(
                FILES,
                &self.taken.id,
                KEY,
                serde_json::to_vec(&file).map_err(json)?,
            )
            .append(
                UPLOADS,
                &self.slot.owner,
                at,
                serde_json::to_vec(&entry).map_err(json)?,
            );
        self.taken.uploads.0.storage.commit(batch).await?;
        Ok(())
    }
}
