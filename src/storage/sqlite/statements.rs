//! What the store says to SQLite: bound parameters only.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::storage::{Archive, Entry, Error, KeyValue, Query, Result, Write};

/// One write; an appended entry's id.
pub(super) fn apply(connection: &Connection, write: &Write) -> Result<Option<u64>> {
    let run = |sql: &str, parameters: &[(&str, &dyn rusqlite::ToSql)]| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters))
            .map_err(Error::from)
    };
    match write {
        Write::Put {
            store,
            owner,
            key,
            value,
        } => {
            run(
                "INSERT INTO key_value (store, owner, key, value, written)
                 VALUES (:store, :owner, :key, :value, :written)
                 ON CONFLICT (store, owner, key)
                 DO UPDATE SET value = excluded.value, written = excluded.written",
                named_params! {":store": store.0, ":owner": owner, ":key": key, ":value": value, ":written": now()},
            )?;
        }
        Write::PutNew {
            store,
            owner,
            key,
            value,
        } => {
            let written = run(
                "INSERT INTO key_value (store, owner, key, value, written)
                 VALUES (:store, :owner, :key, :value, :written)
                 ON CONFLICT (store, owner, key) DO NOTHING",
                named_params! {":store": store.0, ":owner": owner, ":key": key, ":value": value, ":written": now()},
            )?;
            if written == 0 {
                return Err(Error::Taken { key: key.clone() });
            }
        }
        Write::Delete { store, owner, key } => {
            run(
                "DELETE FROM key_value WHERE store = :store AND owner = :owner AND key = :key",
                named_params! {":store": store.0, ":owner": owner, ":key": key},
            )?;
        }
        Write::DeleteOwner { store, owner } => {
            run(
                "DELETE FROM key_value WHERE store = :store AND owner = :owner",
                named_params! {":store": store.0, ":owner": owner},
            )?;
        }
        Write::Append {
            archive,
            owner,
            at,
            value,
        } => {
            run(
                "INSERT INTO archive (archive, owner, at, value) VALUES (:archive, :owner, :at, :value)",
                named_params! {":archive": archive.0, ":owner": owner, ":at": at, ":value": value},
            )?;
            return u64::try_from(connection.last_insert_rowid())
                .map(Some)
                .map_err(|err| Error::Backend(err.to_string()));
        }
        Write::Prune {
            archive,
            owner: None,
            before,
        } => {
            run(
                "DELETE FROM archive WHERE archive = :archive AND at < :before",
                named_params! {":archive": archive.0, ":before": before},
            )?;
        }
        Write::Prune {
            archive,
            owner: Some(owner),
            before,
        } => {
            run(
                "DELETE FROM archive WHERE archive = :archive AND owner = :owner AND at < :before",
                named_params! {":archive": archive.0, ":owner": owner, ":before": before},
            )?;
        }
        Write::Expire { store, before } => {
            run(
                "DELETE FROM key_value WHERE store = :store AND written < :before",
                named_params! {":store": store.0, ":before": before},
            )?;
        }
        Write::Remove { archive, owner, id } => {
            run(
                "DELETE FROM archive WHERE archive = :archive AND owner = :owner AND id = :id",
                named_params! {":archive": archive.0, ":owner": owner, ":id": id_bound(*id)},
            )?;
        }
    }
    Ok(None)
}

pub(super) fn list(
    connection: &Connection,
    store: KeyValue,
    owner: &str,
    prefix: &str,
) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    // SQLite compares text by its bytes, which for UTF-8 is the order of the code points.
    connection
        .prepare_cached(
            "SELECT key, value FROM key_value
             WHERE store = :store AND owner = :owner AND key >= :from AND (:to IS NULL OR key < :to)
             ORDER BY key",
        )?
        .query_map(
            named_params! {":store": store.0, ":owner": owner, ":from": prefix, ":to": successor(prefix)},
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect()
}

/// The first string after all that start with `prefix`; `None` where there is none.
pub(super) fn successor(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        let next = match last {
            // Between them lie the surrogates, which are no characters.
            '\u{D7FF}' => Some('\u{E000}'),
            other => u32::from(other).checked_add(1).and_then(char::from_u32),
        };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

pub(super) fn query(
    connection: &Connection,
    archive: Archive,
    owner: &str,
    query: &Query,
) -> rusqlite::Result<Vec<Entry>> {
    let order = if query.newest { "DESC" } else { "ASC" };
    let limit = match query.limit {
        0 => -1,
        limit => i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let mut entries = connection
        .prepare_cached(&format!(
            "SELECT id, at, value FROM archive
             WHERE archive = :archive AND owner = :owner AND id > :after AND id < :before
             ORDER BY id {order} LIMIT :limit"
        ))?
        .query_map(
            named_params! {
                ":archive": archive.0,
                ":owner": owner,
                ":after": query.after.map_or(0, id_bound),
                ":before": query.before.map_or(i64::MAX, id_bound),
                ":limit": limit,
            },
            |row| {
                Ok(Entry {
                    id: row.get::<_, i64>(0)?.unsigned_abs(),
                    at: row.get(1)?,
                    value: row.get(2)?,
                })
            },
        )?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if query.newest {
        entries.reverse();
    }
    Ok(entries)
}

/// SQLite's ids are signed; no entry has one beyond.
fn id_bound(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

/// A key's value.
pub(super) fn get(
    connection: &Connection,
    store: KeyValue,
    owner: &str,
    key: &str,
) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached(
            "SELECT value FROM key_value WHERE store = :store AND owner = :owner AND key = :key",
        )?
        .query_row(
            named_params! {":store": store.0, ":owner": owner, ":key": key},
            |row| row.get(0),
        )
        .optional()
}

pub(super) fn owners(connection: &Connection, store: KeyValue) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT DISTINCT owner FROM key_value WHERE store = :store ORDER BY owner")?
        .query_map(named_params! {":store": store.0}, |row| row.get(0))?
        .collect()
}
