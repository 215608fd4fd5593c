//! The store in one SQLite file. A thread owns the connection that writes and another the one that reads, so that a
//! reader never waits for the disk; work comes through channels. What commits at the same time shares one transaction:
//! each batch runs in a savepoint of its own, and the disk is synced once for all (group commit).

mod backup;
mod ids;
mod places;
mod queries;
mod queue;
mod schema;
mod statements;
mod thread;
mod writer;

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use futures::future::BoxFuture;
use rusqlite::{Connection, ErrorCode, ffi};

use self::queue::Queue;
use self::thread::{Command, ask, run, start};
use self::writer::Writer;
pub use backup::{Beside, backup, restore};

use super::{
    Answer, Archive, Backend, Batch, Durability, Entry, Error, KeyValue, Query, Result, Storage,
    Submitted,
};

/// Pages in the log before a commit folds them into the database itself: under load that is one turn in a hundred, and
/// otherwise the thread does it in a quiet moment.
const LOG_PAGES: u32 = 8_000;

impl Storage {
    /// Opens or creates the database at `path`, readable by its owner only. Blocks for the time of a few disk writes.
    pub fn open(path: &Path) -> Result<Self> {
        create(path).map_err(|err| Error::Backend(format!("{}: {err}", path.display())))?;
        let mut writer = Connection::open(path)?;
        // Before anything is changed: a newer database is left as it is.
        schema::refuse_newer(&writer)?;
        writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        writer.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        prepare(&mut writer)?;
        Ok(Self::new(Arc::new(Sqlite {
            queue: queue("storage/write", writer)?,
            reader: start("storage/read", Writer::reading(reader(path)?))?,
        })))
    }

    /// A store that is gone with the last handle.
    pub fn in_memory() -> Result<Self> {
        Ok(Self::new(Arc::new(Sqlite::in_memory()?)))
    }
}

/// Makes the file with its mode before SQLite would make it with another; the log beside it takes over the mode.
fn create(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn prepare(connection: &mut Connection) -> Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    schema::migrate(connection)
}

/// Another connection to the same database.
fn another(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// A connection that only reads.
fn reader(path: &Path) -> Result<Connection> {
    let reader = another(path)?;
    reader.execute_batch("PRAGMA query_only = ON;")?;
    Ok(reader)
}

/// Starts the thread that writes.
fn queue(name: &str, connection: Connection) -> Result<Queue> {
    let writer = Writer::new(connection)?;
    let last = writer.last();
    Ok(Queue::new(start(name, writer)?, last))
}

struct Sqlite {
    queue: Queue,
    /// The thread of the queue for a store in memory, which only one connection sees.
    reader: Sender<Command>,
}

impl From<rusqlite::Error> for Error {
    fn from(err: rusqlite::Error) -> Self {
        let full = err.sqlite_error_code() == Some(ErrorCode::DiskFull)
            // What a full disk says to the index of the log.
            || err.sqlite_error().map(|err| err.extended_code) == Some(ffi::SQLITE_IOERR_SHMSIZE);
        if full {
            Self::Full
        } else {
            Self::Backend(err.to_string())
        }
    }
}

impl Sqlite {
    fn in_memory() -> Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        prepare(&mut connection)?;
        let queue = queue("storage/memory", connection)?;
        Ok(Self {
            reader: queue.thread().clone(),
            queue,
        })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        run(&self.reader, move |connection| Ok(read(connection)?))
    }
}

impl Backend for Sqlite {
    fn submit(&self, batch: Batch, durability: Durability) -> Submitted {
        self.queue.submit(batch, durability)
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        self.queue.ready()
    }

    fn get(&self, store: KeyValue, owner: &str, key: &str) -> Answer<Option<Vec<u8>>> {
        let (owner, key) = (owner.to_owned(), key.to_owned());
        self.read(move |connection| queries::get(connection, store, &owner, &key))
    }

    fn list(&self, store: KeyValue, owner: &str, prefix: &str) -> Answer<Vec<(String, Vec<u8>)>> {
        let (owner, prefix) = (owner.to_owned(), prefix.to_owned());
        self.read(move |connection| queries::list(connection, store, &owner, &prefix))
    }

    fn owners(&self, store: KeyValue) -> Answer<Vec<String>> {
        self.read(move |connection| queries::owners(connection, store))
    }

    fn query(&self, archive: Archive, owner: &str, which: Query) -> Answer<Vec<Entry>> {
        let owner = owner.to_owned();
        self.read(move |connection| queries::query(connection, archive, &owner, &which))
    }

    fn count(&self, archive: Archive, owner: &str, which: Query) -> Answer<u64> {
        let owner = owner.to_owned();
        self.read(move |connection| queries::count(connection, archive, &owner, &which))
    }

    fn archived(&self, archive: Archive) -> Answer<Vec<String>> {
        self.read(move |connection| queries::archived(connection, archive))
    }

    fn close(&self) -> Answer<()> {
        let closed_reader = ask(&self.reader, Command::Close);
        let writer = self.queue.thread().clone();
        Box::pin(async move {
            // The writer is the last to close, so that SQLite folds the log into the database and removes it.
            closed_reader.await?;
            match ask(&writer, Command::Close).await {
                // In memory both are one thread, which has ended.
                Err(Error::Closed) => Ok(()),
                other => other,
            }
        })
    }
}

#[cfg(test)]
mod tests;
