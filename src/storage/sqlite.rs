//! The store in one SQLite file. A thread owns the connection that writes and another the one that reads, so that a
//! reader never waits for the disk; work comes through channels. What commits at the same time shares one transaction:
//! each batch runs in a savepoint of its own, and the disk is synced once for all (group commit).

mod statements;
mod thread;

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use self::thread::{Command, ask, run, start};
use super::{
    Answer, Archive, Backend, Batch, Durability, Entry, Error, KeyValue, Query, Result, Storage,
};

/// Pages in the log before a commit folds them into the database itself: under load that is one turn in a hundred, and
/// otherwise the thread does it in a quiet moment.
const LOG_PAGES: u32 = 8_000;

/// Run in order, once each; `user_version` counts them. Only ever appended to.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE key_value (
        store TEXT NOT NULL,
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        written INTEGER NOT NULL,
        PRIMARY KEY (store, owner, key)
    ) STRICT;
    CREATE INDEX key_value_by_age ON key_value (store, written);
    -- AUTOINCREMENT: an id is not given again after its entry was removed.
    CREATE TABLE archive (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        archive TEXT NOT NULL,
        owner TEXT NOT NULL,
        at INTEGER NOT NULL,
        value BLOB NOT NULL
    ) STRICT;
    CREATE INDEX archive_by_owner ON archive (archive, owner, id);
    CREATE INDEX archive_by_age ON archive (archive, at);
"];

impl Storage {
    /// Opens or creates the database at `path`, readable by its owner only. Blocks for the time of a few disk writes.
    pub fn open(path: &Path) -> Result<Self> {
        create(path).map_err(|err| Error::Backend(format!("{}: {err}", path.display())))?;
        let mut writer = Connection::open(path)?;
        // Before anything is changed: a newer database is left as it is.
        refuse_newer(&writer)?;
        writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        writer.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        prepare(&mut writer)?;
        let reader = Connection::open(path)?;
        reader.execute_batch("PRAGMA query_only = ON;")?;
        reader.busy_timeout(Duration::from_secs(5))?;
        let writer = start("storage/write", writer)?;
        let reader = start("storage/read", reader)?;
        Ok(Self::new(Arc::new(Sqlite { writer, reader })))
    }

    /// A store that is gone with the last handle.
    pub fn in_memory() -> Result<Self> {
        let (backend, _) = Sqlite::in_memory()?;
        Ok(Self::new(backend))
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

fn version(connection: &Connection) -> Result<u32> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

fn refuse_newer(connection: &Connection) -> Result<()> {
    let found = version(connection)?;
    if found > known() {
        return Err(Error::Newer {
            found,
            known: known(),
        });
    }
    Ok(())
}

fn prepare(connection: &mut Connection) -> Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    let done = version(connection)?;
    for (number, migration) in (1_u32..).zip(MIGRATIONS) {
        if number <= done {
            continue;
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

struct Sqlite {
    writer: Sender<Command>,
    /// The same as `writer` for a store in memory, which only one connection sees.
    reader: Sender<Command>,
}

impl From<rusqlite::Error> for Error {
    fn from(err: rusqlite::Error) -> Self {
        match err.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Backend(err.to_string()),
        }
    }
}

impl Sqlite {
    /// The second value reaches the same thread.
    fn in_memory() -> Result<(Arc<Self>, Sender<Command>)> {
        let mut connection = Connection::open_in_memory()?;
        prepare(&mut connection)?;
        let writer = start("storage/memory", connection)?;
        let backend = Arc::new(Self {
            reader: writer.clone(),
            writer: writer.clone(),
        });
        Ok((backend, writer))
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        run(&self.reader, read)
    }
}

impl Backend for Sqlite {
    fn commit(&self, batch: Batch, durability: Durability) -> Answer<Vec<u64>> {
        ask(&self.writer, |reply| Command::Commit {
            batch,
            durability,
            reply,
        })
    }

    fn get(&self, store: KeyValue, owner: &str, key: &str) -> Answer<Option<Vec<u8>>> {
        let (owner, key) = (owner.to_owned(), key.to_owned());
        self.read(move |connection| statements::get(connection, store, &owner, &key))
    }

    fn list(&self, store: KeyValue, owner: &str, prefix: &str) -> Answer<Vec<(String, Vec<u8>)>> {
        let (owner, prefix) = (owner.to_owned(), prefix.to_owned());
        self.read(move |connection| statements::list(connection, store, &owner, &prefix))
    }

    fn owners(&self, store: KeyValue) -> Answer<Vec<String>> {
        self.read(move |connection| statements::owners(connection, store))
    }

    fn query(&self, archive: Archive, owner: &str, which: Query) -> Answer<Vec<Entry>> {
        let owner = owner.to_owned();
        self.read(move |connection| statements::query(connection, archive, &owner, &which))
    }

    fn close(&self) -> Answer<()> {
        let closed_reader = ask(&self.reader, Command::Close);
        let writer = self.writer.clone();
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
