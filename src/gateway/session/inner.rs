//! What conversations share: the store, the configuration in force, accounts, and which conversations are in memory.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::{debug, error, warn};

use super::MOST_OPEN;
use super::actor::{Actor, Event, Handle};
use super::budget::Ledger;
use super::failure::Reason;
use super::history::{self, HISTORY, Session, Settings};
use super::inbox::{self, Numbers, SEEN};
use super::key::Key;
use super::overheard::Rooms;
use super::own::{ECHOES, OWN};
use super::settle::{End, Progress, settle};
use crate::config::{self, Config};
use crate::gateway::prompt::{self, Prompts};
use crate::gateway::reply::outbox::Outbox;
use crate::gateway::reply::typing::Typing;
use crate::gateway::reply::upload::Uploads;
use crate::gateway::skills::Skills;
use crate::gateway::{Inbound, SharedWire, now, web};
use crate::llm::{ModelId, Models};
use crate::runtime::{Phase, Stop, Supervisor, contain};
use crate::storage::{Batch, Result, Storage};

const DAY: i64 = 86_400_000;
/// How long ids are remembered, of messages in and out.
const REMEMBERED: i64 = 60 * DAY;

/// What is in force. A reload replaces it whole.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) config: Arc<Config>,
    pub(super) models: Models,
    /// `None`: not even the built-in ones can be read.
    pub(super) prompts: Option<Arc<Prompts>>,
    pub(super) skills: Arc<Skills>,
}

pub(super) struct Inner {
    pub(super) storage: Storage,
    supervisor: Supervisor,
    config: watch::Receiver<Arc<Config>>,
    models: watch::Receiver<Models>,
    /// What was read for the configuration in it.
    read: Mutex<Option<Live>>,
    pub(super) numbers: Numbers,
    pub(super) ledger: Ledger,
    wires: Mutex<HashMap<String, Registered>>,
    open: Mutex<HashMap<Key, Handle>>,
    pub(super) rooms: Mutex<Rooms>,
    turns: Arc<Semaphore>,
    /// How many permits `turns` has been given.
    places: Mutex<usize>,
    busy: watch::Sender<usize>,
}

#[derive(Clone)]
struct Registered {
    wire: SharedWire,
    outbox: Outbox,
    /// Made when the first file is shared or fetched.
    uploads: Arc<OnceCell<Uploads>>,
}

/// An account as a turn needs it.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) config: config::Account,
    pub(super) wire: SharedWire,
    pub(super) outbox: Outbox,
    uploads: Arc<OnceCell<Uploads>>,
    live: watch::Receiver<Arc<Config>>,
}

impl Account {
    /// `None`, with a log line: there is nothing to share or fetch files with.
    pub(super) async fn uploads(&self) -> Option<&Uploads> {
        let uploads = self.uploads.get_or_try_init(|| async {
            let client = web::own(&self.config).await?;
            let uploads = Uploads::new(Arc::clone(&self.wire), client);
            let live = self.live.clone();
            anyhow::Ok(if self.config.local {
                uploads.at_home(Arc::new(move || live.borrow().own_files()))
            } else {
                uploads
            })
        });
        uploads
            .await
            .inspect_err(|err| warn!("Files cannot be shared: {err:#}"))
            .ok()
    }
}

/// A conversation at work, for as long as this lives.
pub(super) struct Busy(Arc<Inner>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0
            .busy
            .send_modify(|busy| *busy = busy.saturating_sub(1));
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(super) fn new(
        storage: Storage,
        supervisor: Supervisor,
        config: watch::Receiver<Arc<Config>>,
        models: watch::Receiver<Models>,
    ) -> Arc<Self> {
        Arc::new(Self {
            storage,
            supervisor,
            config,
            models,
            read: Mutex::default(),
            numbers: Numbers::default(),
            ledger: Ledger::default(),
            wires: Mutex::default(),
            open: Mutex::default(),
            rooms: Mutex::default(),
            turns: Arc::new(Semaphore::new(0)),
            places: Mutex::new(0),
            busy: watch::Sender::new(0),
        })
    }

    pub(super) fn live(&self) -> Live {
        let config = self.config.borrow().clone();
        let models = self.models.borrow().clone();
        let mut read = lock(&self.read);
        let old = read.take();
        let live = match old {
            Some(old) if Arc::ptr_eq(&old.config, &config) => Live { models, ..old },
            old => Live {
                // Checked when the configuration was; a file that has changed since keeps what was read before.
                prompts: Prompts::load(&config)
                    .inspect_err(|err| error!("The prompts cannot be read: {err:#}"))
                    .map(Arc::new)
                    .ok()
                    .or_else(|| old.and_then(|old| old.prompts))
                    .or_else(|| Prompts::load(&Config::default()).map(Arc::new).ok()),
                skills: Arc::new(Skills::discover(&config)),
                models,
                config,
            },
        };
        *read = Some(live.clone());
        live
    }

    pub(super) fn register(&self, wire: SharedWire) {
        let account = wire.account().to_owned();
        let outbox = Outbox::start(
            &self.supervisor,
            self.storage.clone(),
            Arc::clone(&wire),
            self.busy.subscribe(),
        );
        let registered = Registered {
            wire,
            outbox,
            uploads: Arc::default(),
        };
        lock(&self.wires).insert(account, registered);
    }

    pub(super) fn outbox(&self, account: &str) -> Option<Outbox> {
        let wires = lock(&self.wires);
        wires
            .get(account)
            .map(|registered| registered.outbox.clone())
    }

    /// `None`: not registered, or no longer configured.
    pub(super) fn account(&self, account: &str) -> Option<Account> {
        let config = self.live().config.channels.xmpp.get(account)?.clone();
        let Registered {
            wire,
            outbox,
            uploads,
        } = lock(&self.wires).get(account)?.clone();
        Some(Account {
            config,
            wire,
            outbox,
            uploads,
            live: self.config.clone(),
        })
    }

    /// Waits for a free place among `chat.max_concurrent_turns`, first come, first served.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let wanted = self.live().config.chat.max_concurrent_turns.max(1);
        {
            let mut places = lock(&self.places);
            if wanted > *places {
                self.turns.add_permits(wanted - *places);
                *places = wanted;
            } else if wanted < *places {
                // Those in use go on; the rest is taken away, now or with the next turn.
                *places -= self.turns.forget_permits(*places - wanted);
            }
        }
        // The semaphore is never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.send_modify(|busy| *busy += 1);
        Busy(Arc::clone(self))
    }

    /// Tells a conversation, which is opened where it is not.
    pub(super) fn deliver(self: &Arc<Self>, key: &Key, event: Event) {
        let mut open = lock(&self.open);
        let event = match open.get(key) {
            Some(handle) => {
                handle.state.waiting.fetch_add(1, Ordering::Relaxed);
                match handle.events.send(event) {
                    Ok(()) => return,
                    // It ended by the stop of its phase.
                    Err(mpsc::error::SendError(event)) => event,
                }
            }
            None => event,
        };
        let (actor, handle) = Actor::new(Arc::clone(self), key.clone());
        handle.state.waiting.fetch_add(1, Ordering::Relaxed);
        if handle.events.send(event).is_err() {
            debug!("A conversation ended before it began");
        }
        open.insert(key.clone(), handle);
        let name = format!("conversation/{}", key.account);
        let (inner, key) = (Arc::clone(self), key.clone());
        self.supervisor.spawn(Phase::Conversations, name, |stop| {
            inner.converse(key, actor, stop)
        });
    }

    /// A conversation's task.
    pub(super) async fn converse(
        self: Arc<Self>,
        key: Key,
        actor: Actor,
        stop: Stop,
    ) -> anyhow::Result<()> {
        match contain("A conversation", actor.run(stop)).await {
            Some(outcome) => outcome,
            // Boxed: every conversation's task would be as large as this.
            None => Box::pin(self.abandon(&key)).await,
        }
    }

    /// A conversation panicked outside of a turn: what it had is ended with an error, so that nobody waits for ever and the next
    /// start does not run into the same.
    pub(super) async fn abandon(&self, key: &Key) -> anyhow::Result<()> {
        let before = self.numbers.next();
        for entry in inbox::pending(&self.storage, &key.account).await? {
            if Key::of(&entry.inbound) == *key && entry.number < before {
                let entries = [entry];
                let end = End::Failed(Reason::Panicked);
                settle(self, key, &entries, &Progress::new(&entries), end).await;
            }
        }
        Ok(())
    }

    /// Takes an idle conversation out of memory. False: something has just come.
    pub(super) fn close(&self, key: &Key, events: &mpsc::UnboundedReceiver<Event>) -> bool {
        let mut open = lock(&self.open);
        if events.is_empty() {
            open.remove(key);
            true
        } else {
            false
        }
    }

    pub(super) fn handles(&self) -> Vec<Handle> {
        lock(&self.open).values().cloned().collect()
    }

    pub(super) fn handle(&self, key: &Key) -> Option<Handle> {
        lock(&self.open).get(key).cloned()
    }

    /// Whether this would be one conversation too many.
    pub(super) fn is_crowded_for(&self, key: &Key) -> bool {
        let open = lock(&self.open);
        open.len() >= MOST_OPEN && !open.contains_key(key)
    }

    /// How many messages wait in a conversation.
    pub(super) fn waiting(&self, key: &Key) -> usize {
        self.handle(key)
            .map_or(0, |handle| handle.state.waiting.load(Ordering::Relaxed))
    }

    pub(super) fn typing(&self, key: &Key) -> Option<Typing> {
        let account = self.account(&key.account)?;
        Some(Typing::start(
            account.outbox,
            key.place.clone(),
            key.thread.clone(),
            account.config.chat_states,
        ))
    }

    /// The session that a conversation points to; made where there is none.
    pub(super) async fn session(&self, key: &Key) -> Result<Session> {
        if let Some(session) = history::current(&self.storage, key).await? {
            return Ok(session);
        }
        let session = Session::new(None);
        // The first answer is committed with it; lost before that, it held nothing.
        self.storage
            .note(session.put(key).and(session.make_current(key)))
            .await?;
        Ok(session)
    }

    /// Names a session after its first message.
    pub(super) async fn title(&self, key: &Key, session: &Session, first: &Inbound) -> Batch {
        if !session.title.is_empty() {
            return Batch::new();
        }
        // It may have been given a title in the meantime.
        match history::session(&self.storage, key, session).await {
            Ok(Some(mut session)) if session.title.is_empty() => {
                session.title = history::title_of(&first.body);
                session.put(key)
            }
            _ => Batch::new(),
        }
    }

    /// Says something that cannot be stored.
    pub(super) fn say_unstored(&self, key: &Key, text: &str) {
        let Some(account) = self.account(&key.account) else {
            return;
        };
        let message = crate::gateway::reply::build(crate::gateway::reply::Draft {
            place: &key.place,
            thread: key.thread.as_deref(),
            id: history::random_id(),
            replaces: None,
            body: text,
            answers: None,
            keep: crate::gateway::reply::Keep::Yes,
            state: None,
            styled: account.config.styling,
        });
        account.outbox.now(key.place.clone(), message, None);
    }

    pub(super) fn start_pruning(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        self.supervisor
            .spawn(Phase::Listeners, "conversations/prune", |stop| {
                inner.prune(stop)
            });
    }

    /// Removes what has outlived its use, once an hour.
    async fn prune(self: Arc<Self>, stop: Stop) -> anyhow::Result<()> {
        loop {
            let now = now();
            let days = self.live().config.chat.history_retention_days;
            let mut batch = [SEEN, OWN, ECHOES]
                .into_iter()
                .fold(Batch::new(), |batch, store| {
                    batch.expire(store, now - REMEMBERED)
                });
            if days > 0 {
                batch = batch.prune(HISTORY, None, now - i64::from(days) * DAY);
            }
            if let Err(err) = self.storage.commit(batch).await {
                warn!("Old entries could not be removed: {err}");
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(Duration::from_hours(1)) => {}
            }
        }
    }
}

/// Tokens that a model may be given; 0: unknown.
pub(super) fn window(live: &Live, model: &ModelId) -> u32 {
    match live.config.chat.context_window {
        0 => live.models.info(model).context_window,
        configured => configured,
    }
}

/// How many tokens a session's messages may have after a compaction, where one is due. `taken`: by everything else.
pub(super) fn due(window: u64, threshold: f64, taken: u64, messages: u64) -> Option<u64> {
    if window == 0 {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of tokens, which is an estimate"
    )]
    let limit = (window as f64 * threshold.clamp(0.1, 1.0)) as u64;
    let left = limit.saturating_sub(taken);
    (messages > left).then_some(left / 2)
}

/// The system prompt of a conversation.
pub(super) fn system(
    live: &Live,
    account: &Account,
    key: &Key,
    settings: &Settings,
    model: &ModelId,
) -> anyhow::Result<String> {
    let room = key.place.room();
    let configured = room
        .as_ref()
        .and_then(|room| account.config.muc_rooms.get(room));
    let instructions = configured
        .map(|room| room.system_prompt.as_str())
        .into_iter()
        .chain(settings.system.as_deref())
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n");
    let names = configured
        .map(|room| room.skills.as_slice())
        .unwrap_or_default();
    let nick = room.as_ref().and_then(|room| account.wire.nick(room));
    let prompts = live.prompts.as_ref().context("There are no prompts")?;
    prompts.system(&prompt::Context {
        name: live.config.identity.name.clone(),
        model: model.to_string(),
        person: match &room {
            Some(_) => String::new(),
            None => key.place.address().to_string(),
        },
        room: room.map(|room| room.to_string()).unwrap_or_default(),
        nick: nick.unwrap_or_default(),
        date: prompt::today(),
        instructions,
        skills: live.skills.select(names.iter().chain(&settings.skills)),
    })
}

#[cfg(test)]
mod tests {
    use super::due;

    #[test]
    fn a_compaction_is_due_when_the_messages_do_not_fit_under_the_threshold() {
        assert_eq!(due(0, 0.9, 500, 10_000), None, "an unknown window");
        assert_eq!(due(1000, 0.9, 100, 800), None, "just fits");
        assert_eq!(due(1000, 0.9, 100, 801), Some(400));
        assert_eq!(due(1000, 0.5, 900, 1), Some(0), "nothing is left");
    }
}
