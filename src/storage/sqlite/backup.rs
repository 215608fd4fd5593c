//! Copies of everything in one file: the database as of one moment, copied by SQLite itself while everything goes on, and
//! in it the files that belong to it. Checked before it gets its name.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, named_params};

use super::{another, schema};
use crate::storage::{Error, Result};

/// A file beside the database: its name in the data directory, and its content.
pub type Beside = (String, Vec<u8>);

/// Writes a copy of the database and of what belongs to it to `path`, which must not exist. A process may be writing to
/// the database meanwhile. Blocks for as long as it takes.
pub fn backup(database: &Path, path: &Path, files: &[Beside]) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(failed(path, &"There is such a file already"));
    }
    if !database.is_file() {
        return Err(failed(path, &"There is no database yet"));
    }
    let connection = another(database)?;
    schema::refuse_newer(&connection)?;
    let partial = partial(path);
    let written = copy(&connection, &partial, path)
        .and_then(|()| enclose(&partial, files))
        .and_then(|()| verify(&partial, path))
        .and_then(|()| finish(&partial, path).map_err(|err| failed(path, &err)));
    if written.is_err() {
        // Already gone, or the next backup says what is in its way.
        fs::remove_file(&partial).ok();
    }
    written
}

/// Makes a database of a backup, in place of what is there, and answers the files that belong to it. No process may use
/// the database. Blocks.
pub fn restore(backup: &Path, database: &Path) -> Result<Vec<Beside>> {
    let refused = |what: &dyn std::fmt::Display| {
        Error::Backend(format!("{} is no backup: {what}", backup.display()))
    };
    let connection = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|err| refused(&err))?;
    schema::refuse_newer(&connection)?;
    let found: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(|err| refused(&err))?;
    if found != "ok" {
        return Err(refused(&found));
    }
    let files = enclosed(&connection).map_err(|err| refused(&err))?;
    let partial = partial(database);
    copy(&connection, &partial, database)?;
    Connection::open(&partial)?.execute_batch("DROP TABLE file;")?;
    for beside in ["-wal", "-shm"] {
        // What the old database had not folded in yet is not of the new one.
        let mut name = OsString::from(database);
        name.push(beside);
        match fs::remove_file(name) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(failed(database, &err));
            }
            _ => {}
        }
    }
    finish(&partial, database).map_err(|err| failed(database, &err))?;
    Ok(files)
}

fn partial(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    name.into()
}

fn copy(connection: &Connection, partial: &Path, path: &Path) -> Result<()> {
    let name = partial
        .to_str()
        .ok_or_else(|| failed(path, &"The name is not UTF-8"))?;
    // With its mode before anything is in it. SQLite takes an empty file as it takes none.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(partial)
        .map_err(|err| failed(path, &err))?;
    connection.execute("VACUUM INTO :name", named_params! {":name": name})?;
    Ok(())
}

fn enclose(partial: &Path, files: &[Beside]) -> Result<()> {
    let mut connection = Connection::open(partial)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE file (name TEXT NOT NULL PRIMARY KEY, content BLOB NOT NULL) STRICT;",
    )?;
    for (name, content) in files {
        transaction.execute(
            "INSERT INTO file (name, content) VALUES (:name, :content)",
            named_params! {":name": name, ":content": content},
        )?;
    }
    transaction.commit()?;
    Ok(())
}

fn enclosed(connection: &Connection) -> rusqlite::Result<Vec<Beside>> {
    let mut statement = connection.prepare("SELECT name, content FROM file ORDER BY name")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// SQLite does not sync what it vacuums into.
fn finish(partial: &Path, path: &Path) -> io::Result<()> {
    File::open(partial)?.sync_all()?;
    fs::rename(partial, path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn verify(copy: &Path, path: &Path) -> Result<()> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(failed(path, &found));
    }
    Ok(())
}

fn failed(path: &Path, what: &dyn std::fmt::Display) -> Error {
    Error::Backend(format!("{} cannot be written: {what}", path.display()))
}
