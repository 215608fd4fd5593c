//! What the database looks like, and how an older one becomes it.

use rusqlite::Connection;

use crate::storage::{Error, Result};

/// Run in order, once each; `user_version` counts them. Only ever appended to.
pub(super) const MIGRATIONS: [&str; 2] = [
    "
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
",
    // Entries get their ids before they are written, and are found by tag and time in one index: two B-trees to write
    // instead of three, with numbers instead of names in them.
    "
    CREATE TABLE place (
        id INTEGER PRIMARY KEY,
        archive TEXT NOT NULL,
        owner TEXT NOT NULL,
        UNIQUE (archive, owner)
    ) STRICT;
    INSERT INTO place (archive, owner) SELECT DISTINCT archive, owner FROM archive;
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY,
        place INTEGER NOT NULL,
        at INTEGER NOT NULL,
        tag INTEGER NOT NULL DEFAULT 0,
        value BLOB NOT NULL
    ) STRICT;
    INSERT INTO entry (id, place, at, value)
        SELECT archive.id, place.id, archive.at, archive.value
        FROM archive JOIN place USING (archive, owner)
        ORDER BY archive.id;
    CREATE INDEX entry_by_place ON entry (place, id, tag, at);
    CREATE TABLE counter (
        name TEXT NOT NULL PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT;
    -- No id up to this one is given again.
    INSERT INTO counter (name, value)
        SELECT 'reserved', coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'archive'), 0);
    DROP TABLE archive;
",
];

fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

fn version(connection: &Connection) -> Result<u32> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

pub(super) fn refuse_newer(connection: &Connection) -> Result<()> {
    let found = version(connection)?;
    if found > known() {
        return Err(Error::Newer {
            found,
            known: known(),
        });
    }
    Ok(())
}

pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
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
