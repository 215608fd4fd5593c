//! The connection that writes: one transaction for many batches, and one sync of the disk for all of them.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tracing::warn;

use super::ids::{Reserved, microseconds};
use super::places::Places;
use super::statements::{apply, reserve, reserved};
use super::thread::Queued;
use crate::storage::{Batch, Durability, Error, Result, Write};

pub(super) struct Writer {
    connection: Connection,
    places: Places,
    /// `None` for a connection that only reads.
    reserved: Option<Reserved>,
    /// The greatest id that may have been given.
    last: u64,
    /// What the connection is set to.
    level: Option<Durability>,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Result<Self> {
        let last = reserved(&connection)?;
        let mut reserved = Reserved(last);
        // Before the first id is given; a full disk must not keep the store from opening.
        if let Some(id) = reserved.renew(last.max(microseconds())) {
            match reserve(&connection, id) {
                Ok(()) => reserved = Reserved(id),
                Err(err) => warn!("No ids are reserved yet: {err}"),
            }
        }
        Ok(Self {
            connection,
            places: Places::default(),
            reserved: Some(reserved),
            last,
            level: None,
        })
    }

    /// A connection that only reads.
    pub(super) fn reading(connection: Connection) -> Self {
        Self {
            connection,
            places: Places::default(),
            reserved: None,
            last: 0,
            level: None,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The greatest id that may have been given.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Answers for every batch of the group, after all that succeeded is durable.
    pub(super) fn commit(&mut self, group: &[Queued]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(group.len());
        let durability = group.iter().map(|queued| queued.durability).max();
        if let Some(durability) = durability {
            self.commit_part(group, durability, &mut results);
        }
        results
    }

    /// A full disk or an I/O error may have undone the whole transaction: the halves are tried for themselves, in order,
    /// so that each batch gets its own answer and few transactions are needed for it.
    fn commit_part(
        &mut self,
        group: &[Queued],
        durability: Durability,
        results: &mut Vec<Result<()>>,
    ) {
        match self.together(group, durability) {
            Ok(answers) => results.extend(answers),
            Err(err) if group.len() < 2 => results.push(Err(err)),
            Err(err) => {
                warn!("The store commits fewer at a time after an error: {err}");
                let (first, second) = group.split_at(group.len() / 2);
                self.commit_part(first, durability, results);
                self.commit_part(second, durability, results);
            }
        }
    }

    /// One transaction for all; a batch whose key is taken undoes only itself, any other error undoes everything.
    fn together(&mut self, group: &[Queued], durability: Durability) -> Result<Vec<Result<()>>> {
        if group.iter().all(|queued| queued.batch.is_empty()) {
            return Ok(group.iter().map(|_| Ok(())).collect());
        }
        let answers = self.transact(group, durability);
        if answers.is_err() {
            // A place that was new is none any more.
            self.places.forget();
        }
        answers
    }

    fn transact(&mut self, group: &[Queued], durability: Durability) -> Result<Vec<Result<()>>> {
        self.set_level(durability)?;
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let mut answers = Vec::with_capacity(group.len());
        for queued in group {
            let mut id = queued.first;
            let answer = if fails_halfway(&queued.batch) {
                in_savepoint(&transaction, &mut self.places, &queued.batch, &mut id)?
            } else {
                write(&transaction, &mut self.places, &queued.batch, &mut id)
            };
            match answer {
                Ok(()) => answers.push(Ok(())),
                Err(Error::Taken { key }) => answers.push(Err(Error::Taken { key })),
                Err(err) => return Err(err),
            }
            let given = u64::try_from(queued.batch.appended()).unwrap_or(u64::MAX);
            if given > 0 {
                let last = queued.first.saturating_add(given).saturating_sub(1);
                self.last = self.last.max(last);
            }
        }
        let renewed = self
            .reserved
            .as_ref()
            .and_then(|reserved| reserved.renew(self.last));
        if let Some(id) = renewed {
            reserve(&transaction, id)?;
        }
        transaction.commit()?;
        if let Some(id) = renewed {
            self.reserved = Some(Reserved(id));
        }
        Ok(answers)
    }

    /// In WAL mode NORMAL does not sync a commit; the next one that is synced takes along all that were written before.
    fn set_level(&mut self, durability: Durability) -> Result<()> {
        if self.level != Some(durability) {
            let level = match durability {
                Durability::Process => "NORMAL",
                Durability::Power => "FULL",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.level = Some(durability);
        }
        Ok(())
    }

    /// After this the ids go on where they ended.
    pub(super) fn close(self) -> Result<()> {
        if self.reserved.is_some()
            && let Err(err) = reserve(&self.connection, self.last)
        {
            warn!("The reserved ids stay reserved: {err}");
        }
        self.connection.close().map_err(|(_, err)| err.into())
    }
}

/// Whether it may fail alone after it has written something; then it needs a savepoint, which costs more than a write.
fn fails_halfway(batch: &Batch) -> bool {
    batch
        .0
        .iter()
        .skip(1)
        .any(|write| matches!(write, Write::PutNew { .. }))
}

fn write(connection: &Connection, places: &mut Places, batch: &Batch, id: &mut u64) -> Result<()> {
    batch
        .0
        .iter()
        .try_for_each(|write| apply(connection, places, write, id))
}

/// The outer error undoes the transaction, the inner one has undone the batch.
fn in_savepoint(
    connection: &Connection,
    places: &mut Places,
    batch: &Batch,
    id: &mut u64,
) -> Result<Result<()>> {
    let run = |sql| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
    };
    run("SAVEPOINT batch")?;
    let written = write(connection, places, batch, id);
    if written.is_err() {
        places.forget();
        run("ROLLBACK TO batch")?;
    }
    run("RELEASE batch")?;
    Ok(written)
}
