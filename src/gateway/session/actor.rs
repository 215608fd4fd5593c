//! One conversation at work: a queue, at most one turn, and what persons do to both of them. The task ends when it has been idle for
//! a while; everything that matters is stored.

mod person;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Inner;
use super::failure::Reason;
use super::history::{self, Stored};
use super::inbox::Waiting;
use super::key::Key;
use super::queue;
use super::settle::{End, Progress, settle};
use super::turn::{self, Shared, look};
use crate::gateway::reply::typing::Typing;
use crate::gateway::{Kind, Place, Sender};
use crate::runtime::Stop;
use crate::storage::Result;

/// An idle conversation leaves memory after this.
const IDLE: Duration = Duration::from_mins(5);
/// So long after the last message from the archive the rest of them may still come.
const QUIET: Duration = Duration::from_secs(2);

/// What a conversation is told.
#[derive(Debug)]
pub(super) enum Event {
    /// Stored in the inbox: a text, or a correction.
    Message(Box<Waiting>),
    /// Found in the inbox when an account came up, perhaps again: this conversation may have it, or have ended it.
    Again(Box<Waiting>),
    Retract {
        of: String,
        sender: Box<Sender>,
        moderated: bool,
    },
    /// A new reaction of the asker to a turn's answer.
    Reaction { turn: String, emoji: String },
    /// Whether anything was running or waiting.
    Stop {
        sender: Box<Sender>,
        reply: oneshot::Sender<bool>,
    },
    /// Whether there was a question to ask again.
    Retry { reply: oneshot::Sender<bool> },
}

/// What others see of a conversation.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) waiting: AtomicUsize,
    pub(super) running: AtomicBool,
}

#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) state: Arc<State>,
}

struct Running {
    entries: Vec<Waiting>,
    shared: Shared,
    turn: BoxFuture<'static, End>,
}

pub(super) struct Actor {
    inner: Arc<Inner>,
    key: Key,
    events: mpsc::UnboundedReceiver<Event>,
    state: Arc<State>,
    queue: VecDeque<Waiting>,
    running: Option<Running>,
    typing: Option<Typing>,
    /// Nothing starts before: more may come from the archive.
    quiet: Option<Instant>,
    idle: Instant,
}

enum Next {
    Stop,
    Event(Option<Event>),
    Ended(End),
    Tick,
}

impl Actor {
    pub(super) fn new(inner: Arc<Inner>, key: Key) -> (Self, Handle) {
        let (sender, events) = mpsc::unbounded_channel();
        let state = Arc::<State>::default();
        let handle = Handle {
            events: sender,
            state: Arc::clone(&state),
        };
        let actor = Self {
            inner,
            key,
            events,
            state,
            queue: VecDeque::new(),
            running: None,
            typing: None,
            quiet: None,
            idle: Instant::now() + IDLE,
        };
        (actor, handle)
    }

    /// What is done with an event is boxed: a task is as large as its largest step, and most conversations are idle.
    pub(super) async fn run(mut self, stop: Stop) -> anyhow::Result<()> {
        let _busy = self.inner.busy();
        loop {
            let wake = self.quiet.unwrap_or(self.idle);
            let next = {
                let Self {
                    events, running, ..
                } = &mut self;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => Next::Stop,
                    event = events.recv() => Next::Event(event),
                    end = ended(running) => Next::Ended(end),
                    () = tokio::time::sleep_until(wake) => Next::Tick,
                }
            };
            match next {
                Next::Stop => {
                    Box::pin(self.finish(End::Stopped)).await;
                    // Said before `busy` is over.
                    self.typing = None;
                    return Ok(());
                }
                Next::Event(Some(event)) => {
                    if let Err(err) = Box::pin(self.take(event)).await {
                        warn!(conversation = %self.key.place.address(), "The store failed: {err}");
                    }
                }
                Next::Event(None) => return Ok(()),
                Next::Ended(end) => Box::pin(self.finish(end)).await,
                Next::Tick if self.quiet.is_some() => self.quiet = None,
                Next::Tick => {
                    if self.running.is_none() && self.inner.close(&self.key, &self.events) {
                        return Ok(());
                    }
                    self.idle = Instant::now() + IDLE;
                }
            }
            self.start();
        }
    }

    /// Starts the next turn where one may start, and shows what is going on.
    fn start(&mut self) {
        let waits = self.quiet.is_some();
        if self.running.is_none() && !waits && !self.queue.is_empty() {
            let mode = self.inner.live().config.chat.message_queue_mode;
            let count = queue::batch(&self.queue, mode);
            let entries: Vec<Waiting> = self.queue.drain(..count).collect();
            self.queue.shrink_to_fit();
            self.begin(entries);
        }
        if self.running.is_none() && self.queue.is_empty() {
            self.typing = None;
        } else if self.typing.is_none() {
            self.typing = self.inner.typing(&self.key);
        }
        let waiting = self.queue.len() + self.events.len();
        self.state.waiting.store(waiting, Ordering::Relaxed);
        let running = self.running.is_some();
        self.state.running.store(running, Ordering::Relaxed);
        if running || !self.queue.is_empty() {
            self.idle = Instant::now() + IDLE;
        }
    }

    fn begin(&mut self, entries: Vec<Waiting>) {
        let shared: Shared = Arc::new(Mutex::new(Progress::new(&entries)));
        let run = turn::run(
            Arc::clone(&self.inner),
            self.key.clone(),
            entries.clone(),
            Arc::clone(&shared),
        );
        // A panic in a turn is that turn's error, and the conversation goes on.
        let turn = AssertUnwindSafe(run)
            .catch_unwind()
            .map(|ended| match ended {
                Ok(Ok(note)) => End::Answer(note),
                Ok(Err(reason)) => End::Failed(reason),
                Err(_panic) => End::Failed(Reason::Panicked),
            });
        self.running = Some(Running {
            entries,
            shared,
            turn: turn.boxed(),
        });
    }

    /// Ends the running turn.
    async fn finish(&mut self, end: End) {
        let Some(Running {
            entries,
            shared,
            turn,
        }) = self.running.take()
        else {
            return;
        };
        // Closes the request to the model, and with it what the turn could still show.
        drop(turn);
        let progress = look(&shared, std::mem::take);
        if settle(&self.inner, &self.key, &entries, &progress, end).await
            && let Some(typing) = self.typing.take()
        {
            typing.answered();
        }
    }

    /// Takes the running turn back: its entries, which carry what is visible already.
    fn interrupt(&mut self) -> Vec<Waiting> {
        let Some(Running {
            mut entries,
            shared,
            turn,
        }) = self.running.take()
        else {
            return Vec::new();
        };
        drop(turn);
        let progress = look(&shared, std::mem::take);
        let mut seen = progress.seen();
        for entry in &mut entries {
            entry.visible = std::mem::take(&mut seen);
        }
        if let Place::Room(room) = &self.key.place {
            self.inner
                .overhear_again(&self.key.account, room, progress.context);
        }
        entries
    }

    async fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Message(waiting) => self.take_message(*waiting).await,
            Event::Again(waiting) => {
                if self.has(&waiting) || !waiting.is_stored(&self.inner.storage).await? {
                    return Ok(());
                }
                self.take_message(*waiting).await
            }
            Event::Retract {
                of,
                sender,
                moderated,
            } => self.retract(&of, &sender, moderated).await,
            Event::Reaction { turn, emoji } => self.react(&turn, &emoji).await,
            Event::Stop { sender, reply } => {
                let was = self.stop(&sender).await;
                reply.send(was).ok(); // the command may have gone
                Ok(())
            }
            Event::Retry { reply } => {
                let lines = self.lines().await?;
                let turn = history::last_turn(&lines).map(ToOwned::to_owned);
                let found = turn.is_some();
                if let Some(turn) = turn {
                    self.ask_again(&lines, &turn, Vec::new(), None).await?;
                }
                reply.send(found).ok(); // the command may have gone
                Ok(())
            }
        }
    }

    fn has(&self, waiting: &Waiting) -> bool {
        let running = self.running.iter().flat_map(|running| &running.entries);
        let mut known = self.queue.iter().chain(running);
        known.any(|entry| entry.number == waiting.number)
    }

    async fn lines(&mut self) -> Result<Vec<Stored>> {
        let session = self.inner.session(&self.key).await?;
        history::recent(&self.inner.storage, &session.id).await
    }

    async fn take_message(&mut self, mut waiting: Waiting) -> Result<()> {
        if let Kind::Correction { replaces } = &waiting.inbound.kind {
            let replaces = replaces.clone();
            if self.correct(&waiting, &replaces).await? {
                return Ok(());
            }
            // Of a message that was not for the bot, or is not known: a message like any other.
            waiting.inbound.kind = Kind::Text;
        }
        if waiting.is_stale() {
            self.quiet = Some(Instant::now() + QUIET);
        }
        let interrupts = self.running.as_ref().is_some_and(|running| {
            queue::interrupts(
                self.inner.live().config.chat.message_queue_mode,
                &running.entries,
                &waiting,
            )
        });
        if interrupts {
            debug!("A new message interrupts the turn");
            let mut entries = self.interrupt();
            entries.push(waiting);
            self.begin(entries);
        } else {
            self.queue.push_back(waiting);
        }
        Ok(())
    }
}

async fn ended(running: &mut Option<Running>) -> End {
    match running {
        Some(running) => (&mut running.turn).await,
        None => std::future::pending().await,
    }
}
