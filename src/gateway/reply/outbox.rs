//! The durable outbox: a chunk is stored before it is sent and removed once the server has acknowledged it. What was sent and not
//! acknowledged when a session or the process ended may have arrived or not; the archive is asked, and where there is none, it
//! is sent as a correction of itself, which no client shows twice.
//!
//! One task an account sends everything in order, place by place: a room that is not joined holds up nobody else.

mod chunk;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, warn};
use xmpp_parsers::message::Message;

pub use chunk::{Chunk, Ticket};

use crate::gateway::meters;
use crate::gateway::{Acknowledged, Place, SharedWire, WireError, now};
use crate::runtime::{Phase, Stop, Supervisor};
use crate::storage::{KeyValue, Storage};

/// Owner: the account. Key: [`Chunk::number`]. Value: [`Chunk`].
const OUTBOX: KeyValue = KeyValue("outbox");
/// So many passing messages may wait for the sending task before more are dropped.
const PASSING: usize = 1024;
/// How often a place that was not ready is looked at again.
const AGAIN: Duration = Duration::from_secs(1);
/// What could not be sent for so long is given up: the room is gone, or the contact's place is.
const GIVE_UP: i64 = 3 * 86_400_000;
/// What was lost so often together with its session is what ends the sessions.
const MOST_LOST: u32 = 20;
/// How long acknowledgements are waited for when the process ends.
const LAST_WORDS: Duration = Duration::from_millis(700);

enum Item {
    /// Sent now or never: signs of life, and texts that are still growing.
    Now(Box<(Place, Message, Option<Ticket>)>),
    Kept(Box<Chunk>),
    /// Stored by an earlier process: it may have been sent.
    Unsure(Box<Chunk>),
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Item")
    }
}

/// The way to an account's sending task.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Unbounded, so that what is stored is never refused; `passing` bounds the rest.
    items: mpsc::UnboundedSender<Item>,
    passing: Arc<AtomicUsize>,
}

impl Outbox {
    /// Starts the sending task of an account. At the end of the process it goes on until `busy`, the number of conversations
    /// at work, is zero and what they left has been sent.
    pub fn start(
        supervisor: &Supervisor,
        storage: Storage,
        wire: SharedWire,
        busy: watch::Receiver<usize>,
    ) -> Self {
        let (items, receiver) = mpsc::unbounded_channel();
        let passing = Arc::<AtomicUsize>::default();
        let name = format!("outbox/{}", wire.account());
        let sending = Sending {
            storage,
            wire,
            lanes: HashMap::new(),
            sends: FuturesUnordered::new(),
            acknowledgements: FuturesUnordered::new(),
            checks: FuturesUnordered::new(),
            removals: FuturesUnordered::new(),
            passing: Arc::clone(&passing),
            known: HashMap::new(),
        };
        supervisor.spawn(Phase::Conversations, name, |stop| {
            sending.run(receiver, stop, busy)
        });
        Self { items, passing }
    }

    /// Sends what is worth sending only now. Dropped where the account is not connected or far behind.
    pub fn now(&self, place: Place, message: Message, ticket: Option<Ticket>) {
        if self.passing.fetch_add(1, Ordering::Relaxed) >= PASSING {
            self.passing.fetch_sub(1, Ordering::Relaxed);
            debug!("A passing message was dropped: the outbox is far behind");
            return;
        }
        self.push(Item::Now(Box::new((place, message, ticket))));
    }

    /// Sends chunks that are stored.
    pub fn keep(&self, chunks: Vec<Chunk>) {
        for chunk in chunks {
            self.push(Item::Kept(Box::new(chunk)));
        }
    }

    /// Takes up what an earlier process has left.
    pub async fn resume(&self, storage: &Storage, account: &str) -> crate::storage::Result<()> {
        for (number, value) in storage.list(OUTBOX, account, "").await? {
            match serde_json::from_slice(&value) {
                Ok(chunk) => self.push(Item::Unsure(Box::new(chunk))),
                Err(err) => warn!(%number, "An outbox entry cannot be read: {err}"),
            }
        }
        Ok(())
    }

    fn push(&self, item: Item) {
        if self.items.send(item).is_err() {
            // The process ends; what is stored is sent by the next.
            debug!("The outbox has ended");
        }
    }
}

/// What waits for one place.
#[derive(Default)]
struct Lane {
    pending: VecDeque<Pending>,
    /// Sent, and it is not known whether it arrived.
    unsure: Vec<Chunk>,
    /// The archive is being asked, or a message is being handed over: one after the other.
    busy: bool,
}

enum Pending {
    Now(Box<(Message, Option<Ticket>)>),
    Kept(Box<Chunk>),
}

/// What the archive says of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Arrived,
    Missing,
    Unknown,
}

/// What an archive knows of a place's chunks.
type Checked = (Place, Vec<(Chunk, Verdict)>);

/// A message that was handed over, or not.
struct Sent {
    place: Place,
    /// `None`: a passing message.
    chunk: Option<Box<Chunk>>,
    outcome: Result<Acknowledged, WireError>,
}

struct Sending {
    storage: Storage,
    wire: SharedWire,
    lanes: HashMap<Place, Lane>,
    sends: FuturesUnordered<BoxFuture<'static, Sent>>,
    acknowledgements: FuturesUnordered<BoxFuture<'static, (Box<Chunk>, bool)>>,
    checks: FuturesUnordered<BoxFuture<'static, Checked>>,
    removals: FuturesUnordered<BoxFuture<'static, crate::storage::Result<Vec<u64>>>>,
    passing: Arc<AtomicUsize>,
    /// Numbers of the chunks in here, as one that is stored while the outbox is taken up comes both ways, and how often each was
    /// lost on its way.
    known: HashMap<String, u32>,
}

impl Sending {
    async fn run(
        mut self,
        mut items: mpsc::UnboundedReceiver<Item>,
        stop: Stop,
        mut busy: watch::Receiver<usize>,
    ) -> anyhow::Result<()> {
        // Set once the conversations have ended, which have until their own deadline to say their last words.
        let mut deadline = None;
        loop {
            let parked = self.lanes.values().any(|lane| !lane.busy);
            tokio::select! {
                // What became of earlier messages first, so that the order is kept.
                biased;
                Some(sent) = self.sends.next() => self.sent(sent),
                Some((chunk, arrived)) = self.acknowledgements.next() => {
                    if arrived {
                        meters::delivered(&chunk.account);
                        self.remove(&chunk);
                    } else {
                        self.lane(&chunk.place.clone()).unsure.push(*chunk);
                    }
                }
                Some((place, verdicts)) = self.checks.next() => self.checked(&place, verdicts),
                Some(removed) = self.removals.next() => {
                    if let Err(err) = removed {
                        warn!("An outbox entry could not be removed; it is checked at the next start: {err}");
                    }
                }
                item = items.recv() => match item {
                    Some(item) => self.take(item),
                    // Every handle is gone: nothing can come any more.
                    None => break,
                },
                () = silence(&stop, &mut busy), if deadline.is_none() => {
                    deadline = Some(Instant::now() + LAST_WORDS);
                }
                () = ended(deadline) => break,
                () = tokio::time::sleep(AGAIN), if parked => {}
            }
            self.pump();
            let is_done = self.sends.is_empty()
                && self.acknowledgements.is_empty()
                && self.removals.is_empty();
            if deadline.is_some() && items.is_empty() && is_done {
                break;
            }
        }
        Ok(())
    }

    fn lane(&mut self, place: &Place) -> &mut Lane {
        self.lanes.entry(place.clone()).or_default()
    }

    fn take(&mut self, item: Item) {
        if let Item::Kept(chunk) | Item::Unsure(chunk) = &item
            && self.known.insert(chunk.number.clone(), 0).is_some()
        {
            return;
        }
        match item {
            Item::Now(now) => {
                let (place, message, ticket) = *now;
                let pending = Pending::Now(Box::new((message, ticket)));
                self.lane(&place).pending.push_back(pending);
            }
            Item::Kept(chunk) => {
                let lane = self.lane(&chunk.place.clone());
                lane.pending.push_back(Pending::Kept(chunk));
            }
            Item::Unsure(chunk) => self.lane(&chunk.place.clone()).unsure.push(*chunk),
        }
    }

    /// Hands over what can be sent, and asks the archives.
    fn pump(&mut self) {
        let idle = self.lanes.iter().filter(|(_, lane)| !lane.busy);
        let places: Vec<Place> = idle.map(|(place, _)| place.clone()).collect();
        for place in places {
            if !self.wire.is_ready(&place) {
                self.park(&place);
                continue;
            }
            let wire = Arc::clone(&self.wire);
            let lane = self.lane(&place);
            if !lane.unsure.is_empty() {
                lane.busy = true;
                let chunks = std::mem::take(&mut lane.unsure);
                self.checks.push(Box::pin(check(wire, place, chunks)));
                continue;
            }
            while let lane = self.lane(&place)
                && !lane.busy
                && let Some(pending) = lane.pending.pop_front()
            {
                self.send(&place, pending);
            }
        }
        self.lanes
            .retain(|_, lane| lane.busy || !lane.pending.is_empty() || !lane.unsure.is_empty());
    }

    /// Hands over one message; or none, where it was taken back.
    fn send(&mut self, place: &Place, pending: Pending) {
        let (message, chunk) = match pending {
            Pending::Now(now) => {
                self.passing.fetch_sub(1, Ordering::Relaxed);
                let (message, ticket) = *now;
                let goes = ticket.is_none_or(|ticket| ticket.go());
                (goes.then_some(message), None)
            }
            Pending::Kept(chunk) => {
                let message = chunk.message();
                if message.is_none() {
                    warn!(id = %chunk.id, "An outbox entry is no message and is dropped");
                    self.remove(&chunk);
                }
                (message, Some(chunk))
            }
        };
        let Some(message) = message else {
            return;
        };
        self.lane(place).busy = true;
        let place = place.clone();
        let handing = self.wire.send(message);
        self.sends.push(Box::pin(async move {
            let outcome = handing.await;
            Sent {
                place,
                chunk,
                outcome,
            }
        }));
    }

    fn sent(&mut self, sent: Sent) {
        let Sent {
            place,
            chunk,
            outcome,
        } = sent;
        self.lane(&place).busy = false;
        match (outcome, chunk) {
            (Ok(acknowledged), Some(chunk)) => {
                self.acknowledgements.push(Box::pin(async move {
                    let arrived = acknowledged.await.is_ok();
                    (chunk, arrived)
                }));
            }
            (Ok(_), None) => {}
            (Err(err), None) => debug!("A passing message was not sent: {err}"),
            (Err(err @ WireError::Refused { .. }), Some(chunk)) => {
                warn!(id = %chunk.id, place = %place.address(), "A message cannot be sent and is dropped: {err}");
                self.remove(&chunk);
            }
            (Err(WireError::Gone), Some(chunk)) => {
                debug!(id = %chunk.id, "The account has ended; its next start takes this up");
            }
            (Err(err), Some(chunk)) => {
                debug!(id = %chunk.id, "Not sent yet: {err}");
                // Until the next look: it is the first again.
                self.lane(&place).pending.push_front(Pending::Kept(chunk));
            }
        }
    }

    fn checked(&mut self, place: &Place, verdicts: Vec<(Chunk, Verdict)>) {
        let mut again = Vec::new();
        for (chunk, verdict) in verdicts {
            debug!(id = %chunk.id, ?verdict, "Checked whether a message had arrived");
            match verdict {
                Verdict::Arrived => {
                    meters::delivered(&chunk.account);
                    self.remove(&chunk);
                }
                _ if self.is_lost_too_often(&chunk) => {
                    warn!(id = %chunk.id, place = %place.address(), "A message was lost with {MOST_LOST} sessions and is dropped");
                    self.remove(&chunk);
                }
                Verdict::Missing => again.push(chunk),
                Verdict::Unknown => again.push(chunk.into_correction()),
            }
        }
        let lane = self.lane(place);
        lane.busy = false;
        for chunk in again.into_iter().rev() {
            lane.pending.push_front(Pending::Kept(Box::new(chunk)));
        }
    }

    fn is_lost_too_often(&mut self, chunk: &Chunk) -> bool {
        let lost = self.known.entry(chunk.number.clone()).or_default();
        *lost += 1;
        *lost > MOST_LOST
    }

    /// A place that takes nothing now: passing messages go, and so does what has waited for too long.
    fn park(&mut self, place: &Place) {
        let oldest = now().saturating_sub(GIVE_UP);
        let lane = self.lane(place);
        let mut dropped = Vec::new();
        let mut passed = 0;
        for pending in std::mem::take(&mut lane.pending) {
            match pending {
                Pending::Now(now) => {
                    passed += 1;
                    if let (_, Some(ticket)) = *now {
                        ticket.take_back();
                    }
                }
                Pending::Kept(chunk) if chunk.at < oldest => dropped.push(*chunk),
                kept @ Pending::Kept(_) => lane.pending.push_back(kept),
            }
        }
        let (old, unsure): (Vec<_>, Vec<_>) =
            lane.unsure.drain(..).partition(|chunk| chunk.at < oldest);
        lane.unsure = unsure;
        self.passing.fetch_sub(passed, Ordering::Relaxed);
        for chunk in dropped.into_iter().chain(old) {
            warn!(id = %chunk.id, place = %place.address(), "A message could not be sent for three days and is dropped");
            self.remove(&chunk);
        }
    }

    fn remove(&mut self, chunk: &Chunk) {
        self.known.remove(&chunk.number);
        let storage = self.storage.clone();
        let batch = chunk.delete();
        self.removals
            // What comes back after a loss of power is checked against the archive, like everything that is not sure.
            .push(Box::pin(async move { storage.note(batch).await }));
    }
}

/// Resolves when the process ends and the conversations have.
async fn silence(stop: &Stop, busy: &mut watch::Receiver<usize>) {
    stop.cancelled().await;
    if busy.wait_for(|busy| *busy == 0).await.is_err() {
        debug!("The conversations are gone already");
    }
}

async fn ended(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Asks the place's archive which of the chunks arrived.
async fn check(wire: SharedWire, place: Place, chunks: Vec<Chunk>) -> Checked {
    const EARLIER: i64 = 60_000;
    const ATTEMPTS: u32 = 3;
    let first = chunks.iter().map(|chunk| chunk.at).min();
    let since = first.unwrap_or_default().saturating_sub(EARLIER);
    let mut archived = None;
    for _ in 0..ATTEMPTS {
        match wire.archived(&place, since).await {
            Ok(ids) => {
                archived = Some(ids);
                break;
            }
            Err(WireError::Refused { .. }) => break,
            Err(err) => {
                debug!("The archive does not answer: {err}");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }
    let verdict = |chunk: &Chunk| match &archived {
        Some(ids) if ids.contains(&chunk.id) => Verdict::Arrived,
        // There are servers whose archive answers and keeps nothing (ejabberd's default): only one that holds something of
        // ours is believed to lack the rest.
        Some(ids) if !ids.is_empty() => Verdict::Missing,
        Some(_) | None => Verdict::Unknown,
    };
    let verdicts = chunks
        .into_iter()
        .map(|chunk| {
            let verdict = verdict(&chunk);
            (chunk, verdict)
        })
        .collect();
    (place, verdicts)
}

#[cfg(test)]
mod tests;
