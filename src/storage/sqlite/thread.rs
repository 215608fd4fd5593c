//! The threads of the store: commands come through a channel, and what commits at the same time shares one transaction.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::warn;

use super::statements::apply;
use crate::storage::{Answer, Batch, Durability, Error, Result};

/// How many commands are taken at once at most, so that the first of them does not wait for ever.
const GROUP: usize = 256;

/// The log is folded into the database when nothing has been asked for so long after a write.
const QUIET: Duration = Duration::from_millis(500);

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// What the threads are told.
pub(super) enum Command {
    Commit {
        batch: Batch,
        durability: Durability,
        reply: Reply<Vec<u64>>,
    },
    /// Anything that does not write.
    Run(Box<dyn FnOnce(&Connection) + Send>),
    Close(Reply<()>),
}

pub(super) fn start(name: &str, connection: Connection) -> Result<Sender<Command>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || serve(connection, &receiver))
        .map_err(|err| Error::Backend(format!("No thread for the store: {err}")))?;
    Ok(sender)
}

/// The life of a thread: it ends when it is told to close or nobody can tell it anything any more.
fn serve(mut connection: Connection, commands: &Receiver<Command>) {
    let mut written = false;
    while let Some(first) = next(&connection, commands, &mut written) {
        let mut group = Vec::new();
        let mut durability = Durability::Process;
        let mut runs = Vec::new();
        let mut closing = None;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Commit {
                    batch,
                    durability: wanted,
                    reply,
                } => {
                    durability = durability.max(wanted);
                    group.push((batch, reply));
                }
                Command::Run(run) => runs.push(run),
                Command::Close(reply) => {
                    closing = Some(reply);
                    break;
                }
            }
            next = (group.len().saturating_add(runs.len()) < GROUP)
                .then(|| commands.try_recv().ok())
                .flatten();
        }
        written |= !group.is_empty();
        commit_group(&mut connection, group, durability);
        // After the commits: a read must not see what a failing disk might still take back.
        for run in runs {
            run(&connection);
        }
        if let Some(reply) = closing {
            let closed = connection.close().map_err(|(_, err)| err.into());
            // Whoever asked may have given up.
            reply.send(closed).ok();
            return;
        }
    }
}

/// Waits for a command. A checkpoint syncs two files, which is better done while nobody waits than in the middle of a turn.
fn next(
    connection: &Connection,
    commands: &Receiver<Command>,
    written: &mut bool,
) -> Option<Command> {
    if *written {
        match commands.recv_timeout(QUIET) {
            Ok(command) => return Some(command),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => *written = false,
        }
        if let Err(err) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            warn!("The log stays as it is: {err}");
        }
    }
    commands.recv().ok()
}

/// Answers every batch of the group, after it is durable.
fn commit_group(
    connection: &mut Connection,
    group: Vec<(Batch, Reply<Vec<u64>>)>,
    durability: Durability,
) {
    if group.is_empty() {
        return;
    }
    let (batches, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    let results = together(connection, &batches, durability).unwrap_or_else(|err| {
        // A full disk or an I/O error may have undone the whole transaction; alone, each gets its own answer.
        if batches.len() > 1 {
            warn!("The store commits one at a time after an error: {err}");
        }
        batches
            .iter()
            .map(|batch| {
                together(connection, std::slice::from_ref(batch), durability)
                    .and_then(|mut only| only.pop().unwrap_or(Err(Error::Closed)))
            })
            .collect()
    });
    for (result, reply) in results.into_iter().zip(replies) {
        // Whoever asked may have given up; what is written stays written.
        reply.send(result).ok();
    }
}

/// One transaction for all; a batch whose key is taken undoes only itself, any other error undoes everything.
fn together(
    connection: &mut Connection,
    batches: &[Batch],
    durability: Durability,
) -> Result<Vec<Result<Vec<u64>>>> {
    // In WAL mode NORMAL does not sync a commit; the next one that is synced takes along all that were written before.
    let level = match durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.pragma_update(None, "synchronous", level)?;
    let mut transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut results = Vec::with_capacity(batches.len());
    for batch in batches {
        // A savepoint that is dropped without a commit is rolled back.
        let savepoint = transaction.savepoint()?;
        let result = batch
            .0
            .iter()
            .filter_map(|write| apply(&savepoint, write).transpose())
            .collect::<Result<Vec<u64>>>();
        match result {
            Ok(ids) => {
                savepoint.commit()?;
                results.push(Ok(ids));
            }
            Err(Error::Taken { key }) => results.push(Err(Error::Taken { key })),
            Err(err) => return Err(err),
        }
    }
    transaction.commit()?;
    Ok(results)
}

/// Sends a command made from its reply's sender, and waits for the reply.
pub(super) fn ask<T: Send + 'static>(
    thread: &Sender<Command>,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Answer<T> {
    let (reply, answer) = oneshot::channel();
    // Sent now, not when first polled: commits happen in the order of the calls.
    let sent = thread.send(command(reply));
    Box::pin(async move {
        if sent.is_err() {
            return Err(Error::Closed);
        }
        // The thread has ended without an answer.
        answer.await.unwrap_or(Err(Error::Closed))
    })
}

pub(super) fn run<T: Send + 'static>(
    thread: &Sender<Command>,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Answer<T> {
    ask(thread, |reply| {
        Command::Run(Box::new(move |connection| {
            // Whoever asked may have given up.
            reply.send(work(connection).map_err(Error::from)).ok();
        }))
    })
}
