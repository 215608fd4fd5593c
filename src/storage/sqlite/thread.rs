//! The threads of the store: commands come through a channel, and what commits at the same time shares one transaction.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::warn;

use super::queue::Held;
use super::writer::Writer;
use crate::storage::{Answer, Batch, Durability, Error, Result};

/// How many writes are taken at once at most, so that the first of them does not wait for ever. One sync of the disk is
/// a few milliseconds, in which thousands of messages arrive.
const GROUP: usize = 8_192;

/// The log is folded into the database when nothing has been asked for so long after a write.
const QUIET: Duration = Duration::from_millis(500);

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

pub(super) type Work = Box<dyn FnOnce(&Connection) + Send>;

/// What the threads are told.
pub(super) enum Command {
    Commit(Queued),
    /// Anything that does not write.
    Run(Work),
    Close(Reply<()>),
}

/// A batch in the queue.
pub(super) struct Queued {
    pub(super) batch: Batch,
    /// The id of its first appended entry; the others follow it.
    pub(super) first: u64,
    pub(super) durability: Durability,
    pub(super) reply: Reply<()>,
    pub(super) held: Held,
}

/// What is done in one turn.
#[derive(Default)]
struct Turn {
    group: Vec<Queued>,
    runs: Vec<Work>,
    closing: Option<Reply<()>>,
}

pub(super) fn start(name: &str, writer: Writer) -> Result<Sender<Command>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || serve(writer, &receiver))
        .map_err(|err| Error::Backend(format!("No thread for the store: {err}")))?;
    Ok(sender)
}

/// The life of a thread: it ends when it is told to close or nobody can tell it anything any more.
fn serve(mut writer: Writer, commands: &Receiver<Command>) {
    let mut written = false;
    while let Some(first) = next(writer.connection(), commands, &mut written) {
        let turn = gather(first, commands);
        written |= !turn.group.is_empty();
        commit(&mut writer, turn.group);
        // After the commits: a read must not see what a failing disk might still take back.
        for run in turn.runs {
            run(writer.connection());
        }
        if let Some(reply) = turn.closing {
            // Whoever asked may have given up.
            reply.send(writer.close()).ok();
            return;
        }
    }
}

/// Takes what has come in by now.
fn gather(first: Command, commands: &Receiver<Command>) -> Turn {
    let mut turn = Turn::default();
    let mut writes = 0_usize;
    let mut next = Some(first);
    while let Some(command) = next {
        writes = writes.saturating_add(1);
        match command {
            Command::Commit(queued) => {
                writes = writes.saturating_add(queued.batch.0.len());
                turn.group.push(queued);
            }
            Command::Run(run) => turn.runs.push(run),
            Command::Close(reply) => {
                turn.closing = Some(reply);
                break;
            }
        }
        next = (writes < GROUP).then(|| commands.try_recv().ok()).flatten();
    }
    turn
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
fn commit(writer: &mut Writer, group: Vec<Queued>) {
    let results = writer.commit(&group);
    for (result, queued) in results.into_iter().zip(group) {
        // Who waits for room is let in before whoever waited for this goes on.
        drop(queued.held);
        // Whoever asked may have given up; what is written stays written.
        queued.reply.send(result).ok();
    }
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
    work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
) -> Answer<T> {
    ask(thread, |reply| {
        Command::Run(Box::new(move |connection| {
            // Whoever asked may have given up.
            reply.send(work(connection)).ok();
        }))
    })
}
