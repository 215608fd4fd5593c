//! What is read from SQLite: bound parameters only.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};

use super::places::tag_number;
use crate::storage::{Archive, Entry, KeyValue, Query};

/// The entries of a place that a query asks for; the index holds all that is compared here.
const MATCHING: &str = "
    FROM entry
    WHERE place = (SELECT place.id FROM place WHERE archive = :archive AND owner = :owner)
    AND id > :after AND id < :before AND at >= :since AND at <= :until
    AND (:tag IS NULL OR tag = :tag)";

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

pub(super) fn owners(connection: &Connection, store: KeyValue) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT DISTINCT owner FROM key_value WHERE store = :store ORDER BY owner")?
        .query_map(named_params! {":store": store.0}, |row| row.get(0))?
        .collect()
}

pub(super) fn archived(connection: &Connection, archive: Archive) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT owner FROM place
             WHERE archive = :archive AND EXISTS (SELECT 1 FROM entry WHERE entry.place = place.id)
             ORDER BY owner",
        )?
        .query_map(named_params! {":archive": archive.0}, |row| row.get(0))?
        .collect()
}

pub(super) fn query(
    connection: &Connection,
    archive: Archive,
    owner: &str,
    query: &Query,
) -> rusqlite::Result<Vec<Entry>> {
    if let Some(ids) = &query.ids {
        return each(connection, archive, owner, query, ids);
    }
    let order = if query.newest { "DESC" } else { "ASC" };
    let sql = format!("SELECT id, at, value {MATCHING} ORDER BY id {order} LIMIT :limit");
    let mut entries = matching(archive, owner, query, |parameters| {
        connection
            .prepare_cached(&sql)?
            .query_map(parameters, entry)?
            .collect::<rusqlite::Result<Vec<_>>>()
    })?;
    if query.newest {
        entries.reverse();
    }
    Ok(entries)
}

/// The entries of these ids, one by one: each is found at once.
fn each(
    connection: &Connection,
    archive: Archive,
    owner: &str,
    query: &Query,
    ids: &[u64],
) -> rusqlite::Result<Vec<Entry>> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    if query.newest {
        ids.reverse();
    }
    let sql = format!("SELECT id, at, value {MATCHING} AND id = :id LIMIT :limit");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut entries = Vec::new();
    for id in ids {
        if query.limit > 0 && entries.len() >= query.limit {
            break;
        }
        let found = matching(archive, owner, query, |parameters| {
            let id = id_bound(id);
            let mut parameters = parameters.to_vec();
            parameters.push((":id", &id));
            statement.query_row(parameters.as_slice(), entry).optional()
        })?;
        entries.extend(found);
    }
    if query.newest {
        entries.reverse();
    }
    Ok(entries)
}

/// How many a query finds, counted up to its limit.
pub(super) fn count(
    connection: &Connection,
    archive: Archive,
    owner: &str,
    query: &Query,
) -> rusqlite::Result<u64> {
    if let Some(ids) = &query.ids {
        let found = each(connection, archive, owner, query, ids)?;
        return Ok(u64::try_from(found.len()).unwrap_or(u64::MAX));
    }
    let sql = format!("SELECT count(*) FROM (SELECT 1 {MATCHING} LIMIT :limit)");
    matching(archive, owner, query, |parameters| {
        let count: i64 = connection
            .prepare_cached(&sql)?
            .query_row(parameters, |row| row.get(0))?;
        Ok(count.unsigned_abs())
    })
}

/// Calls `run` with what [`MATCHING`] and a limit ask for.
fn matching<T>(
    archive: Archive,
    owner: &str,
    query: &Query,
    run: impl FnOnce(&[(&str, &dyn ToSql)]) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let limit = match query.limit {
        0 => -1,
        limit => i64::try_from(limit).unwrap_or(i64::MAX),
    };
    run(named_params! {
        ":archive": archive.0,
        ":owner": owner,
        ":after": query.after.map_or(0, id_bound),
        ":before": query.before.map_or(i64::MAX, id_bound),
        ":since": query.since.unwrap_or(i64::MIN),
        ":until": query.until.unwrap_or(i64::MAX),
        ":tag": query.tag.as_deref().map(tag_number),
        ":limit": limit,
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: row.get::<_, i64>(0)?.unsigned_abs(),
        at: row.get(1)?,
        value: row.get(2)?,
    })
}

/// SQLite's ids are signed; no entry has one beyond.
pub(super) fn id_bound(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
