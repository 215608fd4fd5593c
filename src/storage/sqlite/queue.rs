//! What waits to be written. Ids and places in the queue are given under one lock, so that the entry with the lesser id
//! is written first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, ready};
use tokio::sync::{Notify, oneshot};

use super::ids::{Ids, microseconds};
use super::thread::{Command, Queued};
use crate::storage::{Batch, Durability, Error, Submitted};

/// Bytes in the queue from which on [`Queue::ready`] waits: about a second's work of a slow disk.
const FULL: usize = 16 << 20;

/// Bytes in the queue beyond which a batch is refused. Between the two is room for all who were let in at once.
const REFUSED: usize = 4 * FULL;

/// The way to the thread that writes.
pub(super) struct Queue {
    ids: Mutex<Ids>,
    load: Arc<Load>,
    thread: Sender<Command>,
}

/// How much waits.
#[derive(Default)]
struct Load {
    bytes: AtomicUsize,
    room: Notify,
}

/// A batch's part of the load, until it is dropped.
pub(super) struct Held {
    load: Arc<Load>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let before = self.load.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if before >= FULL && before.saturating_sub(self.bytes) < FULL {
            self.load.room.notify_waiters();
        }
    }
}

impl Load {
    /// One batch of any size may enter an empty queue.
    fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let held = Held {
            load: Arc::clone(self),
            bytes,
        };
        (before == 0 || before.saturating_add(bytes) <= REFUSED).then_some(held)
    }

    async fn wait(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Listens before it looks, so that no signal is missed between the two.
            room.as_mut().enable();
            if self.bytes.load(Ordering::Acquire) < FULL {
                return;
            }
            room.await;
        }
    }
}

impl Queue {
    /// Ids go on after `last`.
    pub(super) fn new(thread: Sender<Command>, last: u64) -> Self {
        Self {
            ids: Mutex::new(Ids::after(last)),
            load: Arc::default(),
            thread,
        }
    }

    pub(super) fn submit(&self, batch: Batch, durability: Durability) -> Submitted {
        let Some(held) = self.load.hold(batch.weight()) else {
            return refused(Error::Busy);
        };
        let (reply, answer) = oneshot::channel();
        let count = batch.appended();
        let (first, sent) = {
            let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            let first = ids.take(count, microseconds());
            let queued = Queued {
                batch,
                first,
                durability,
                reply,
                held,
            };
            (first, self.thread.send(Command::Commit(queued)))
        };
        if sent.is_err() {
            return refused(Error::Closed);
        }
        Submitted {
            ids: (first..).take(count).collect(),
            // The thread may end without an answer.
            written: Box::pin(async move { answer.await.unwrap_or(Err(Error::Closed)) }),
        }
    }

    pub(super) fn ready(&self) -> BoxFuture<'static, ()> {
        let load = Arc::clone(&self.load);
        Box::pin(async move { load.wait().await })
    }

    pub(super) fn thread(&self) -> &Sender<Command> {
        &self.thread
    }
}

fn refused(error: Error) -> Submitted {
    Submitted {
        ids: Vec::new(),
        written: Box::pin(ready(Err(error))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use futures::FutureExt;

    use super::*;
    use crate::storage::{Archive, KeyValue};

    const LOG: Archive = Archive("log");

    fn big() -> Batch {
        Batch::new().put(KeyValue("big"), "me", "k", vec![0; FULL])
    }

    #[tokio::test]
    async fn a_full_queue_lets_nobody_in_until_it_has_been_emptied() {
        let (sender, commands) = channel();
        let queue = Queue::new(sender, 0);
        assert!(queue.ready().now_or_never().is_some());
        let _first = queue.submit(big(), Durability::Power);
        let mut waiting = queue.ready();
        assert!(waiting.as_mut().now_or_never().is_none());
        let refused = (0..4).map(|_| queue.submit(big(), Durability::Power));
        let refused: Vec<_> = refused
            .map(|submitted| submitted.written.now_or_never())
            .collect();
        // Those that were let in wait for their answer.
        assert!(refused[..2].iter().all(Option::is_none));
        assert!(matches!(refused[3], Some(Err(Error::Busy))));
        while commands.try_recv().is_ok() {}
        assert!(waiting.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_batch_beyond_all_limits_may_enter_an_empty_queue() {
        let (sender, _commands) = channel();
        let queue = Queue::new(sender, 0);
        let huge = (0..5).fold(Batch::new(), |batch, _| batch.and(big()));
        assert!(
            queue
                .submit(huge, Durability::Power)
                .written
                .now_or_never()
                .is_none()
        );
    }

    #[test]
    fn ids_are_known_at_once_and_in_the_order_of_the_queue() {
        let (sender, commands) = channel();
        let queue = Queue::new(sender, u64::MAX / 2);
        let two = || {
            Batch::new()
                .append(LOG, "a", 0, Vec::new())
                .append(LOG, "b", 0, Vec::new())
        };
        let ids: Vec<u64> = (0..3)
            .flat_map(|_| queue.submit(two(), Durability::Power).ids)
            .collect();
        let expected: Vec<u64> = (1..=6).map(|step| u64::MAX / 2 + step).collect();
        assert_eq!(ids, expected);
        let firsts: Vec<u64> = commands
            .try_iter()
            .filter_map(|command| match command {
                Command::Commit(queued) => Some(queued.first),
                _ => None,
            })
            .collect();
        assert_eq!(firsts, [expected[0], expected[2], expected[4]]);
    }
}
