//! An owner's archive has a number in the database, which the thread that writes remembers.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, named_params};
use sha2::{Digest, Sha256};

use crate::storage::Archive;

/// How many are remembered before all are forgotten: a bound, not an aim.
const REMEMBERED: usize = 16_384;

#[derive(Default)]
pub(super) struct Places {
    known: HashMap<&'static str, HashMap<String, i64>>,
    count: usize,
}

impl Places {
    /// The number of a place, which is new if need be.
    pub(super) fn number(
        &mut self,
        connection: &Connection,
        archive: Archive,
        owner: &str,
    ) -> rusqlite::Result<i64> {
        if let Some(number) = self
            .known
            .get(archive.0)
            .and_then(|owners| owners.get(owner))
        {
            return Ok(*number);
        }
        let number = match find(connection, archive, owner)? {
            Some(number) => number,
            None => insert(connection, archive, owner)?,
        };
        if self.count >= REMEMBERED {
            self.forget();
        }
        self.known
            .entry(archive.0)
            .or_default()
            .insert(owner.to_owned(), number);
        self.count = self.count.saturating_add(1);
        Ok(number)
    }

    /// After what was written has been taken back, or places were removed.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn find(connection: &Connection, archive: Archive, owner: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM place WHERE archive = :archive AND owner = :owner")?
        .query_row(
            named_params! {":archive": archive.0, ":owner": owner},
            |row| row.get(0),
        )
        .optional()
}

fn insert(connection: &Connection, archive: Archive, owner: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO place (archive, owner) VALUES (:archive, :owner)")?
        .insert(named_params! {":archive": archive.0, ":owner": owner})
}

/// What stands for a tag in the database. A hash, so that the names are gone with their entries and the index is small;
/// two tags with the same one would have to be sought for ages. 0 stands for none.
pub(super) fn tag_number(tag: &str) -> i64 {
    let hash = Sha256::digest(tag);
    let number = hash
        .iter()
        .take(8)
        .fold(0_i64, |number, byte| (number << 8) | i64::from(*byte));
    if number == 0 { 1 } else { number }
}
