//! A copy of the database as of one moment, made while everything goes on: by SQLite itself, which writes it without
//! holes, and checked before it gets its name.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, named_params};

use super::schema;
use crate::storage::{Error, Result};

/// Writes the copy to `path`, which must not exist.
pub(super) fn backup(connection: &Connection, path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(failed(path, &"There is such a file already"));
    }
    let partial = partial(path);
    let written = write(connection, &partial, path);
    if written.is_err() {
        // Already gone, or the next backup says what is in its way.
        fs::remove_file(&partial).ok();
    }
    written
}

fn partial(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    name.into()
}

fn write(connection: &Connection, partial: &Path, path: &Path) -> Result<()> {
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
    verify(partial)?;
    finish(partial, path).map_err(|err| failed(path, &err))
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

fn verify(copy: &Path) -> Result<()> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(failed(copy, &found));
    }
    if !schema::is_current(&connection)? {
        return Err(failed(copy, &"The copy has another schema"));
    }
    Ok(())
}

fn failed(path: &Path, what: &dyn std::fmt::Display) -> Error {
    Error::Backend(format!("No backup in {}: {what}", path.display()))
}
