//! Conversations. Every accepted message ends in exactly one of: an answer, one error line a person understands, "stopped", or a
//! notice that it was put off; also across kill -9, reconnect and replay.
//!
//! How that is kept: a message is stored in the inbox before its turn starts, and everything that ends it (the answer's
//! chunks in the outbox, the history, the usage, the removal from the inbox) is one atomic write (`settle.rs`). What a turn
//! has shown before that, it has noted on the inbox entry, so that a second run corrects that message instead of sending
//! another.
//!
//! - [`Conversations`] is the door: the intake gives it messages, accounts register with it.
//! - [`Chat`] is what commands do with one conversation.

mod actor;
mod budget;
pub mod chat;
mod choose;
mod compaction;
mod failure;
mod history;
mod inbox;
mod inner;
pub mod key;
mod overheard;
mod own;
mod question;
mod queue;
mod settle;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use tracing::{error, warn};

use actor::Event;
pub use budget::UsageRow;
pub use chat::{Chat, ContextInfo, SessionInfo};
pub use choose::ModelChoice;
use failure::Reason;
pub(crate) use history::random_id;
use inbox::Waiting;
use inner::{Account, Inner, Live, due, system, window};
pub use key::Key;

use crate::config::Config;
use crate::gateway::meters;
use crate::gateway::reply::{typing, upload};
use crate::gateway::{Inbound, Kind, Place, SharedWire, Standing};
use crate::llm::Models;
use crate::runtime::Supervisor;
use crate::storage::{Batch, Error, Result, Storage};

/// So many messages wait in one conversation; the next is refused.
const MOST_WAITING: usize = 32;
/// So many conversations are in memory: a person has as many as they write threads, and they stay for a while.
const MOST_OPEN: usize = 10_000;

/// What is said of a command whose answer an end of the process or of the account took along.
const UNANSWERED: &str = "I was started again before I could answer that. Please look whether it was done, and send it again if not.";

/// All conversations of all accounts. A handle: clones share them.
#[derive(Clone)]
pub struct Conversations(Arc<Inner>);

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Stored; its conversation runs it.
    Queued,
    /// Not taken, with the reason for the log: a duplicate, or reactions that concern nothing here or are not the asker's.
    Dropped(&'static str),
    /// A correction of nothing that this sender has asked here. Nothing was noted of it: it may be a text for the bot like any other,
    /// to be accepted as [`Kind::Text`].
    Unrelated,
    /// Too many wait in this conversation; the person has been told.
    Refused,
}

/// What is going on now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Conversations in memory.
    pub open: usize,
    /// Messages that wait in them.
    pub waiting: usize,
    /// Turns that run or wait for a free place.
    pub running: usize,
}

impl Conversations {
    /// The store's pruning runs under the supervisor from here on.
    pub fn new(
        storage: Storage,
        supervisor: Supervisor,
        live: watch::Receiver<Arc<Config>>,
        models: watch::Receiver<Models>,
    ) -> Self {
        let inner = Inner::new(storage, supervisor, live, models);
        inner.start_pruning();
        Self(inner)
    }

    /// An account has started: its conversations and its outbox send through this wire from now on.
    pub fn register(&self, wire: SharedWire) {
        self.0.register(wire);
    }

    /// Runs again what an earlier process had accepted and not ended, and sends again what it had not brought through.
    /// After each `register`: what is under way already is left alone.
    pub async fn resume(&self, account: &str) -> Result<()> {
        if let Some(outbox) = self.0.outbox(account) {
            outbox.resume(&self.0.storage, account).await?;
        }
        for command in inbox::commands(&self.0.storage, account).await? {
            // Not run again: what it does may have been done.
            self.say(account, &command.place, UNANSWERED, Some(&command))
                .await?;
        }
        for waiting in inbox::pending(&self.0.storage, account).await? {
            let key = Key::of(&waiting.inbound);
            self.0.deliver(&key, Event::Again(Box::new(waiting)));
        }
        Ok(())
    }

    /// Marks a message as seen and says why it is a duplicate, where it is one. [`Self::accept`] does this itself; the intake
    /// calls it for what does not go there: commands and room lines.
    pub async fn seen(&self, inbound: &Inbound) -> Result<Option<&'static str>> {
        inbox::mark(&self.0.storage, inbound, Batch::new()).await
    }

    /// As [`Self::seen`], for a command: until [`Self::say`] or [`Self::end_command`] ends it, it counts as not answered.
    pub async fn begin_command(&self, inbound: &Inbound) -> Result<Option<&'static str>> {
        let known = inbox::mark(&self.0.storage, inbound, inbox::begun(inbound)).await?;
        if known.is_none() {
            self.show_acceptance(inbound);
        }
        Ok(known)
    }

    /// Tells who wrote that it has arrived and is looked at.
    fn show_acceptance(&self, inbound: &Inbound) {
        if let Some(account) = self.0.account(&inbound.account) {
            for message in typing::acceptance(inbound, &account.config) {
                account.outbox.now(inbound.place.clone(), message, None);
            }
        }
    }

    /// For a command that the conversation itself has answered.
    pub async fn end_command(&self, inbound: &Inbound) -> Result<()> {
        self.0.storage.commit(inbox::done(inbound)).await.map(drop)
    }

    /// Takes an admitted message for the bot, the mention stripped: text, a correction, a retraction or reactions. It is
    /// stored when this returns; its turn runs in the conversation's own task. An error means that it could not be
    /// stored; the person has been told.
    pub async fn accept(&self, inbound: Inbound, standing: Standing) -> Result<Accepted> {
        let (key, place) = (Key::of(&inbound), inbound.place.clone());
        let taken = match &inbound.kind {
            Kind::Text => self.accept_text(inbound, standing, key.clone()).await,
            Kind::Correction { replaces } => {
                let replaces = replaces.clone();
                self.accept_correction(inbound, standing, &replaces).await
            }
            Kind::Retraction { of, moderated } => {
                let (of, moderated) = (of.clone(), *moderated);
                self.accept_retraction(inbound, of, moderated).await
            }
            Kind::Reactions { to, emojis } => self.accept_reactions(&inbound, to, emojis).await,
        };
        if let Err(err) = &taken {
            error!(place = %place.address(), "A message could not be stored: {err}");
            let full = matches!(err, Error::Full);
            let reason = Reason::Store(if full { Error::Full } else { Error::Closed });
            self.0.say_unstored(&key, &failure::line(&reason).0);
        }
        taken
    }

    async fn accept_text(
        &self,
        mut inbound: Inbound,
        standing: Standing,
        key: Key,
    ) -> Result<Accepted> {
        let inner = &self.0;
        // The thread of what it corrects, so that a second run finds the same conversation.
        inbound.thread.clone_from(&key.thread);
        let waits = inner.waiting(&key);
        let refused = if waits >= MOST_WAITING {
            Some(Reason::QueueFull(waits))
        } else {
            inner.is_crowded_for(&key).then_some(Reason::Crowded)
        };
        if let Some(refused) = refused {
            if let Some(reason) = inbox::mark(&inner.storage, &inbound, Batch::new()).await? {
                return Ok(Accepted::Dropped(reason));
            }
            let (line, id) = failure::line(&refused);
            warn!(%id, place = %key.place.address(), "A message was refused: {refused:?}");
            settle::say(inner, &key, &line, Some(&inbound), &[], Batch::new()).await?;
            return Ok(Accepted::Refused);
        }
        let waiting = Waiting {
            number: inner.numbers.next(),
            inbound,
            standing,
            visible: Vec::new(),
        };
        let put = waiting.put();
        if let Some(reason) = inbox::mark(&inner.storage, &waiting.inbound, put).await? {
            return Ok(Accepted::Dropped(reason));
        }
        meters::accepted(&key.account);
        self.show_acceptance(&waiting.inbound);
        inner.deliver(&key, Event::Message(Box::new(waiting)));
        Ok(Accepted::Queued)
    }

    async fn accept_correction(
        &self,
        inbound: Inbound,
        standing: Standing,
        replaces: &str,
    ) -> Result<Accepted> {
        let mut key = Key::of(&inbound);
        if let Some(thread) = inbox::thread_of(&self.0.storage, &inbound, replaces).await? {
            key.thread = thread;
        }
        // The inbox first: what is settled in between is in the history.
        let pending = inbox::pending(&self.0.storage, &inbound.account).await?;
        let waits = pending.iter().any(|entry| {
            entry.inbound.place == inbound.place
                && entry.inbound.ids.has(replaces)
                && entry.inbound.sender.is_same(&inbound.sender)
        });
        if !waits {
            let session = self.0.session(&key).await?;
            let lines = history::lines(&self.0.storage, &session.id).await?;
            if history::turn_of(&lines, replaces, Some(&inbound.sender)).is_none() {
                return Ok(Accepted::Unrelated);
            }
        }
        self.accept_text(inbound, standing, key).await
    }

    async fn accept_retraction(
        &self,
        inbound: Inbound,
        of: String,
        moderated: bool,
    ) -> Result<Accepted> {
        let inner = &self.0;
        if let Some(reason) = inbox::mark(&inner.storage, &inbound, Batch::new()).await? {
            return Ok(Accepted::Dropped(reason));
        }
        inner.forget_overheard(&inbound, &of, moderated);
        let mut key = Key::of(&inbound);
        if let Some(thread) = inbox::thread_of(&inner.storage, &inbound, &of).await? {
            key.thread = thread;
        }
        let sender = Box::new(inbound.sender);
        inner.deliver(
            &key,
            Event::Retract {
                of,
                sender,
                moderated,
            },
        );
        Ok(Accepted::Queued)
    }

    async fn accept_reactions(
        &self,
        inbound: &Inbound,
        to: &str,
        emojis: &[String],
    ) -> Result<Accepted> {
        let inner = &self.0;
        if let Some(reason) = inbox::mark(&inner.storage, inbound, Batch::new()).await? {
            return Ok(Accepted::Dropped(reason));
        }
        let own = own::find(&inner.storage, &inbound.account, &inbound.place, to).await?;
        let Some(own) = own else {
            return Ok(Accepted::Dropped("it reacts to nothing of ours"));
        };
        let (Some(turn), Some(asker)) = (own.turn, own.sender) else {
            return Ok(Accepted::Dropped("it reacts to a notice"));
        };
        if own.key.place != inbound.place || !asker.is_same(&inbound.sender) {
            return Ok(Accepted::Dropped(
                "it reacts to an answer for somebody else",
            ));
        }
        let account = &inbound.account;
        let new = own::react(&inner.storage, account, &turn, &inbound.sender, emojis).await?;
        for emoji in new {
            let turn = turn.clone();
            inner.deliver(&own.key, Event::Reaction { turn, emoji });
        }
        Ok(Accepted::Queued)
    }

    /// A room's line that is not for the bot: the next turn there sees the last `history_limit` of them, as other people's words.
    pub fn observe(&self, inbound: &Inbound) {
        self.0.overhear(inbound);
    }

    /// Our own message came back from a room, with the room's id for it: what replies and reactions in that room refer to.
    pub async fn echoed(
        &self,
        account: &str,
        place: &Place,
        id: &str,
        stanza_id: &str,
    ) -> Result<()> {
        own::echoed(&self.0.storage, account, place, id, stanza_id).await
    }

    /// Whether an id that a message refers to is that of a message of ours, by its own id or a room's.
    pub async fn is_own(&self, account: &str, place: &Place, id: &str) -> Result<bool> {
        let own = own::find(&self.0.storage, account, place, id).await?;
        Ok(own.is_some_and(|own| own.key.place == *place))
    }

    /// Sends a text through styling, chunking and the durable outbox: a command's answer, a notice. `inbound`: what it answers,
    /// which in a room is referred to.
    pub async fn say(
        &self,
        account: &str,
        place: &Place,
        text: &str,
        inbound: Option<&Inbound>,
    ) -> Result<()> {
        let key = Key {
            account: account.into(),
            place: place.clone(),
            thread: inbound.and_then(|inbound| inbound.thread.clone()),
        };
        let done = inbound.map(inbox::done).unwrap_or_default();
        settle::say(&self.0, &key, text, inbound, &[], done).await
    }

    /// Uploads a file and sends the message that shares it, through the durable outbox.
    pub async fn share(
        &self,
        account: &str,
        place: &Place,
        name: &str,
        bytes: bytes::Bytes,
    ) -> std::result::Result<(), upload::Error> {
        let account_id = account;
        let account = self.0.account(account_id).ok_or(upload::Error::NoService)?;
        let uploads = account.uploads().await.ok_or(upload::Error::NoService)?;
        let file = uploads.upload(name, bytes).await?;
        let key = Key {
            account: account_id.into(),
            place: place.clone(),
            thread: None,
        };
        settle::share(&self.0, &account, &key, file.message(place))
            .await
            .map_err(|err| upload::Error::Network(err.to_string()))
    }

    /// The conversation that a message belongs to, for commands.
    pub fn chat(&self, inbound: &Inbound) -> Chat {
        Chat::new(Arc::clone(&self.0), Key::of(inbound))
    }

    /// What was used in the last `days` days (1: today), by one sender's [`crate::gateway::Sender::key`] or by all, newest first.
    pub async fn usage(&self, sender: Option<&str>, days: u32) -> Result<Vec<UsageRow>> {
        budget::usage(&self.0.storage, sender, days).await
    }

    /// How many bytes a conversation's task takes while nothing happens.
    #[cfg(test)]
    fn idle_size(&self) -> usize {
        let inbound = testing::text("alice@example.com/a", "1", "");
        let key = Key::of(&inbound);
        let (actor, _) = actor::Actor::new(Arc::clone(&self.0), key.clone());
        let stop = crate::runtime::Stop::new();
        size_of_val(&Arc::clone(&self.0).converse(key, actor, stop))
    }

    /// What is going on, for `/status` and metrics.
    pub fn load(&self) -> Load {
        self.0
            .handles()
            .iter()
            .fold(Load::default(), |load, handle| Load {
                open: load.open + 1,
                waiting: load.waiting + handle.state.waiting.load(Ordering::Relaxed),
                running: load.running + usize::from(handle.state.running.load(Ordering::Relaxed)),
            })
    }
}
