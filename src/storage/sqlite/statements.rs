//! What is written to SQLite: bound parameters only.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, named_params};

use super::places::{Places, tag_number};
use super::queries::id_bound;
use crate::storage::{Archive, Error, Result, Write};

const INSERT: &str = "INSERT INTO key_value (store, owner, key, value, written)
    VALUES (:store, :owner, :key, :value, :written)
    ON CONFLICT (store, owner, key)";

/// One write; `id` is given to the entry that it appends, and counted up.
pub(super) fn apply(
    connection: &Connection,
    places: &mut Places,
    write: &Write,
    id: &mut u64,
) -> Result<()> {
    let run = |sql: &str, parameters: &[(&str, &dyn rusqlite::ToSql)]| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters))
    };
    match write {
        Write::Put {
            store,
            owner,
            key,
            value,
        } => run(
            &format!(
                "{INSERT} DO UPDATE SET value = excluded.value, written = excluded.written"
            ),
            named_params! {":store": store.0, ":owner": owner, ":key": key, ":value": value, ":written": now()},
        )?,
        Write::PutNew {
            store,
            owner,
            key,
            value,
        } => {
            let written = run(
                &format!("{INSERT} DO NOTHING"),
                named_params! {":store": store.0, ":owner": owner, ":key": key, ":value": value, ":written": now()},
            )?;
            if written == 0 {
                return Err(Error::Taken { key: key.clone() });
            }
            written
        }
        Write::Delete { store, owner, key } => run(
            "DELETE FROM key_value WHERE store = :store AND owner = :owner AND key = :key",
            named_params! {":store": store.0, ":owner": owner, ":key": key},
        )?,
        Write::Append {
            archive,
            owner,
            at,
            tag,
            value,
        } => {
            let place = places.number(connection, *archive, owner)?;
            let tag = tag.as_deref().map_or(0, tag_number);
            let given = id_bound(*id);
            *id = id.saturating_add(1);
            run(
                "INSERT INTO entry (id, place, at, tag, value) VALUES (:id, :place, :at, :tag, :value)",
                named_params! {":id": given, ":place": place, ":at": at, ":tag": tag, ":value": value},
            )?
        }
        Write::Replace {
            archive,
            owner,
            id,
            value,
        } => run(
            "UPDATE entry SET value = :value
             WHERE id = :id AND place = (SELECT place.id FROM place WHERE archive = :archive AND owner = :owner)",
            named_params! {":archive": archive.0, ":owner": owner, ":id": id_bound(*id), ":value": value},
        )?,
        Write::Prune {
            archive,
            owner: None,
            before,
        } => run(
            "DELETE FROM entry WHERE at < :before AND place IN (SELECT place.id FROM place WHERE archive = :archive)",
            named_params! {":archive": archive.0, ":before": before},
        )?,
        Write::Prune {
            archive,
            owner: Some(owner),
            before,
        } => run(
            "DELETE FROM entry WHERE at < :before
             AND place = (SELECT place.id FROM place WHERE archive = :archive AND owner = :owner)",
            named_params! {":archive": archive.0, ":owner": owner, ":before": before},
        )?,
        Write::Expire { store, before } => run(
            "DELETE FROM key_value WHERE store = :store AND written < :before",
            named_params! {":store": store.0, ":before": before},
        )?,
        Write::Remove { archive, owner, id } => run(
            "DELETE FROM entry
             WHERE id = :id AND place = (SELECT place.id FROM place WHERE archive = :archive AND owner = :owner)",
            named_params! {":archive": archive.0, ":owner": owner, ":id": id_bound(*id)},
        )?,
        Write::Clear { archive, owner } => {
            places.forget();
            clear(connection, *archive, owner)?
        }
        Write::DeleteOwner { store, owner } => run(
            "DELETE FROM key_value WHERE store = :store AND owner = :owner",
            named_params! {":store": store.0, ":owner": owner},
        )?,
    };
    Ok(())
}

fn clear(connection: &Connection, archive: Archive, owner: &str) -> rusqlite::Result<usize> {
    let place = named_params! {":archive": archive.0, ":owner": owner};
    connection
        .prepare_cached(
            "DELETE FROM entry
             WHERE place = (SELECT place.id FROM place WHERE archive = :archive AND owner = :owner)",
        )?
        .execute(place)?;
    connection
        .prepare_cached("DELETE FROM place WHERE archive = :archive AND owner = :owner")?
        .execute(place)
}

/// Ids up to this one are not to be given again after a start.
pub(super) fn reserve(connection: &Connection, id: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE counter SET value = :value WHERE name = 'reserved'")?
        .execute(named_params! {":value": id_bound(id)})
        .map(|_| ())
}

/// The greatest id that may have been given.
pub(super) fn reserved(connection: &Connection) -> rusqlite::Result<u64> {
    let reserved: i64 = connection.query_row(
        "SELECT max(value, coalesce((SELECT max(id) FROM entry), 0)) FROM counter WHERE name = 'reserved'",
        [],
        |row| row.get(0),
    )?;
    Ok(reserved.unsigned_abs())
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}
