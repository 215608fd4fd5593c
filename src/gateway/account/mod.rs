//! One account: its connection, rooms, roster and answers. One task owns the socket and never waits for a model, a
//! database or a conversation: what comes in leaves as a [`Happening`] through a bounded queue, what goes out comes
//! in through the [`Handle`].

pub mod answer;
mod archives;
pub mod capabilities;
pub mod catch_up;
mod effects;
mod handle;
mod happening;
mod iq;
mod mechanism;
mod messages;
mod outgoing;
mod presence;
mod profile;
mod requests;
pub mod room;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jid::{BareJid, Jid};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_xmpp::Stanza;
use tracing::debug;
use xmpp_parsers::presence::{Presence, Type};

use self::archives::Archives;
use self::capabilities::Ask;
use self::handle::{Command, Page, QueryResult};
use self::happening::Happenings;
use self::outgoing::Held;
use self::room::{Effect, Room};
use super::rooms::Wanted;
use super::{Acknowledged, Inbound, WireError};
use crate::runtime::Stop;
use crate::storage::Storage;
use crate::xmpp::{Client, Settings};

pub use self::catch_up::Position;
pub use self::handle::{Handle, State};
pub use self::happening::Happening;
pub use self::mechanism::{forget_mechanism, last_mechanism};
pub use self::profile::{Avatar, Profile};

/// What an account needs to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub id: String,
    pub connection: Settings,
    pub nick: String,
    pub profile: Arc<Profile>,
    /// As `catch_up::known` has them.
    pub known_archives: BTreeSet<Option<BareJid>>,
    /// Rooms to be in.
    pub rooms: Vec<Wanted>,
}

/// How long an IQ may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests under way.
const MAX_PENDING: usize = 1_000;

/// Creates the account; [`Account::run`] is its task.
pub fn open(options: Options, storage: Storage) -> (Account, Handle, mpsc::Receiver<Happening>) {
    let (handle, commands) = Handle::new(&options.id, &options.connection.jid);
    let (happenings, receiver) = Happenings::new();
    let account = Account {
        own: options.connection.jid.clone(),
        component: options.connection.component_secret.is_some(),
        known_archives: options.known_archives.clone(),
        handle: handle.clone(),
        options,
        storage,
        commands,
        happenings,
        pending: BTreeMap::new(),
        held: VecDeque::new(),
        archives: Archives::default(),
        helpers: JoinSet::new(),
        next_id: 0,
        up: false,
    };
    {
        let mut state = handle.state();
        state.profile = Arc::clone(&account.options.profile);
        state.contacts.know_ourselves(&account.options.profile.name);
        let now = Instant::now();
        for (room, nick, password) in &account.options.rooms {
            let nick = nick.as_deref().unwrap_or(&account.options.nick);
            let room_state = Room::new(room.clone(), nick, password.clone(), now);
            state.rooms.insert(room.clone(), room_state);
        }
    }
    (account, handle, receiver)
}

/// What waits for an answer.
enum Waiter {
    Caller(oneshot::Sender<QueryResult>),
    Archive {
        caller: oneshot::Sender<Result<Page, WireError>>,
        page: Page,
    },
    Discover(BareJid),
    Ping(BareJid),
    Capabilities(Ask),
    Roster,
    /// Only its failure is worth a line in the log: what it was.
    Nobody(&'static str),
}

struct Pending {
    /// `None`: our own account or server.
    to: Option<Jid>,
    deadline: Instant,
    waiter: Waiter,
}

/// The task's state.
pub struct Account {
    options: Options,
    own: BareJid,
    component: bool,
    storage: Storage,
    handle: Handle,
    commands: mpsc::Receiver<Command>,
    happenings: Happenings,
    pending: BTreeMap<String, Pending>,
    held: VecDeque<Held>,
    archives: Archives,
    /// Archives of which a position is stored, or was asked for in this run.
    known_archives: BTreeSet<Option<BareJid>>,
    helpers: JoinSet<()>,
    next_id: u64,
    /// Connected now; a suspended session is not.
    up: bool,
}

impl Account {
    /// How it connects.
    pub fn settings(&self) -> &Settings {
        &self.options.connection
    }

    /// What to log in with, where it was not known when the account was opened.
    pub fn set_password(&mut self, password: secrecy::SecretString) {
        self.options.connection.password = password;
    }

    /// Runs until stopped, or until the connection fails for good: then it stays, offline, and says why.
    pub async fn run(mut self, stop: Stop) {
        let mut client = Client::new(self.options.connection.clone());
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alive = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = client.next(), if alive => match event {
                    Some(event) => self.event(&mut client, event).await,
                    None => alive = false,
                },
                command = self.commands.recv(), if client.has_room() => match command {
                    Some(command) => self.command(&mut client, command).await,
                    None => break,
                },
                _ = tick.tick() => self.tick(&mut client).await,
                Some(_) = self.helpers.join_next() => {}
            }
        }
        if self.up {
            // What the conversations left behind goes out first.
            while let Ok(command) = self.commands.try_recv() {
                self.command(&mut client, command).await;
            }
            self.send(&mut client, Presence::new(Type::Unavailable).into())
                .await;
        }
        client.close().await;
        self.handle.state().online = false;
        debug!("Account has ended");
    }

    async fn send(&self, client: &mut Client, mut stanza: Stanza) -> Acknowledged {
        if self.component {
            // A component's stanzas must say who they are from (XEP-0114, 4).
            let own: Jid = self.handle.state().jid.clone();
            match &mut stanza {
                Stanza::Message(message) => message.from.get_or_insert(own),
                Stanza::Presence(presence) => presence.from.get_or_insert(own),
                Stanza::Iq(iq) => iq.from_mut().get_or_insert(own),
            };
        }
        client.send(stanza).await
    }

    async fn command(&mut self, client: &mut Client, command: Command) {
        match command {
            Command::Send { message, reply } => {
                self.send_message(client, Held { message, reply }).await;
            }
            Command::Query { to, request, reply } => {
                self.query(client, to, request, Waiter::Caller(reply)).await;
            }
            Command::Archive {
                archive,
                query,
                reply,
            } => {
                self.query_archive(client, archive, query, reply).await;
            }
            Command::Appear => self.appear(client).await,
            Command::Enter { room, features } => self.enter(client, &room, features).await,
            Command::Answer(iq) => {
                self.send(client, (*iq).into()).await;
            }
            Command::Presence(presence) => {
                self.send(client, (*presence).into()).await;
            }
            Command::Join {
                room,
                nick,
                password,
            } => self.join(client, room, nick, password).await,
            Command::Leave { room } => {
                let presence = self
                    .handle
                    .state()
                    .rooms
                    .remove(&room)
                    .and_then(|mut room| room.leave());
                if let Some(presence) = presence {
                    self.send(client, presence.into()).await;
                }
                self.flush(client).await;
            }
            Command::Nick(nick) => self.rename(client, &nick).await,
            Command::Refresh => {
                if self.up {
                    self.announce(client).await;
                    self.publish_profile();
                }
            }
            Command::CaughtUp {
                archive,
                session,
                outcome,
            } => self
                .archives
                .ended(archive, session, &outcome, Instant::now()),
        }
    }

    async fn tick(&mut self, client: &mut Client) {
        let now = Instant::now();
        let late: Vec<String> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.deadline <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            if let Some(pending) = self.pending.remove(&id) {
                self.finish(client, pending.waiter, Err(WireError::TimedOut))
                    .await;
            }
        }
        if !self.up {
            return;
        }
        let effects: Vec<(BareJid, Vec<Effect>)> = {
            let mut state = self.handle.state();
            state
                .rooms
                .iter_mut()
                .map(|(jid, room)| (jid.clone(), room.tick(now)))
                .collect()
        };
        for (room, effects) in effects {
            self.effects(client, &room, effects).await;
        }
        for archive in self.archives.due(now) {
            // A room that we are not in is read when we are.
            if self.can_read(archive.as_ref()) {
                self.catch_up(archive);
            }
        }
    }
}

impl Drop for Account {
    /// However the task ends: nobody sends into it any more.
    fn drop(&mut self) {
        self.handle.state().online = false;
    }
}
