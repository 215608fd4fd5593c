//! What the rest of the gateway holds of an account: [`Handle`], which asks the account's task through a bounded
//! channel, and what of its state can be read at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;
use tokio::sync::{mpsc, oneshot};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::message::Message;
use xmpp_parsers::presence::Presence;

use super::capabilities::Contacts;
use super::catch_up;
use super::profile::Profile;
use super::room::{Features, Phase, Room};
use crate::gateway::inbound::RoomView;
use crate::gateway::rooms::Password;
use crate::gateway::{Acknowledged, Place, Request, Wire, WireError};

/// Stanzas and requests that may wait for the account's task.
pub(super) const COMMANDS: usize = 256;

/// What the account's task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Send {
        message: Box<Message>,
        reply: oneshot::Sender<Result<Acknowledged, WireError>>,
    },
    Query {
        to: Option<Jid>,
        request: Request,
        reply: oneshot::Sender<QueryResult>,
    },
    Archive {
        archive: Option<BareJid>,
        query: Element,
        reply: oneshot::Sender<Result<Page, WireError>>,
    },
    Answer(Box<Iq>),
    /// The end of our archive is stored: send presence.
    Appear,
    /// Likewise of a room's: go in.
    Enter {
        room: BareJid,
        features: Features,
    },
    Presence(Box<Presence>),
    Join {
        room: BareJid,
        nick: Option<String>,
        password: Option<Password>,
    },
    Leave {
        room: BareJid,
    },
    /// What to be called in rooms that ask for no other nick.
    Nick(String),
    /// The status, the name or the avatar has changed: send presence and publish again.
    Refresh,
    /// This archive has been read to its end, whereupon live messages move its position, or not.
    CaughtUp {
        archive: Option<BareJid>,
        session: u64,
        outcome: Result<(), WireError>,
    },
}

pub(super) type QueryResult = Result<Option<Element>, WireError>;

/// One page of an archive (XEP-0313).
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Archive id, `<forwarded/>`.
    pub(super) results: Vec<(String, Element)>,
    pub(super) complete: bool,
    /// The id of its last message.
    pub(super) last: Option<String>,
}

/// What is known of an account at any moment.
#[derive(Debug)]
pub struct State {
    /// The bound JID, the bare one before the first session.
    pub jid: Jid,
    pub online: bool,
    /// For `/accounts` and the status page: one line.
    pub condition: String,
    pub rooms: BTreeMap<BareJid, Room>,
    pub contacts: Contacts,
    pub profile: Arc<Profile>,
    /// Who asked to see our presence and waits for the operators' word.
    pub asking: BTreeSet<BareJid>,
    /// Bare JIDs that may see our presence.
    pub watchers: BTreeSet<BareJid>,
}

/// A handle to an account; clones share it.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: String,
    commands: mpsc::Sender<Command>,
    state: Mutex<State>,
}

impl Handle {
    pub(super) fn new(id: &str, jid: &BareJid) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let state = State {
            jid: jid.clone().into(),
            online: false,
            condition: "connecting".into(),
            rooms: BTreeMap::new(),
            contacts: Contacts::default(),
            profile: Arc::default(),
            asking: BTreeSet::new(),
            watchers: BTreeSet::new(),
        };
        let shared = Shared {
            id: id.to_owned(),
            commands,
            state: Mutex::new(state),
        };
        (Self(Arc::new(shared)), receiver)
    }

    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// For a short look; never held across an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn ask(&self, command: Command) -> Result<(), WireError> {
        self.0
            .commands
            .send(command)
            .await
            .map_err(|_closed| WireError::Gone)
    }

    /// Answers an IQ request.
    pub async fn answer(&self, iq: Iq) -> Result<(), WireError> {
        self.ask(Command::Answer(Box::new(iq))).await
    }

    pub async fn presence(&self, presence: Presence) -> Result<(), WireError> {
        self.ask(Command::Presence(Box::new(presence))).await
    }

    /// Enters a room, or again with another nick or password.
    pub async fn join(
        &self,
        room: BareJid,
        nick: Option<String>,
        password: Option<Password>,
    ) -> Result<(), WireError> {
        self.ask(Command::Join {
            room,
            nick,
            password,
        })
        .await
    }

    pub async fn leave(&self, room: BareJid) -> Result<(), WireError> {
        self.ask(Command::Leave { room }).await
    }

    /// Takes another nick in the rooms that ask for no other; nothing where it is the one we have.
    pub async fn set_nick(&self, nick: String) -> Result<(), WireError> {
        self.ask(Command::Nick(nick)).await
    }

    pub fn profile(&self) -> Arc<Profile> {
        Arc::clone(&self.state().profile)
    }

    /// Takes another profile: sends presence, and publishes what has changed.
    pub async fn set_profile(&self, profile: Arc<Profile>) -> Result<(), WireError> {
        {
            let mut state = self.state();
            state.contacts.know_ourselves(&profile.name);
            state.profile = profile;
        }
        self.ask(Command::Refresh).await
    }

    pub(super) async fn page(
        &self,
        archive: Option<BareJid>,
        query: Element,
    ) -> Result<Page, WireError> {
        let (reply, page) = oneshot::channel();
        self.ask(Command::Archive {
            archive,
            query,
            reply,
        })
        .await?;
        page.await.map_err(|_gone| WireError::Gone)?
    }

    /// Rooms and where we stand in each: `room`, nick, one word and its reason.
    pub fn rooms(&self) -> Vec<(BareJid, String, String)> {
        let state = self.state();
        let describe = |room: &Room| match &room.phase {
            Phase::Idle => "not joined".to_owned(),
            Phase::Joining { .. } => "joining".to_owned(),
            Phase::Joined => "joined".to_owned(),
            Phase::Waiting { reason, .. } => format!("trying again: {reason}"),
            Phase::Out(reason) => format!("out: {reason}"),
        };
        state
            .rooms
            .values()
            .map(|room| (room.jid.clone(), room.nick().to_owned(), describe(room)))
            .collect()
    }
}

impl Wire for Handle {
    fn account(&self) -> &str {
        &self.0.id
    }

    fn jid(&self) -> Jid {
        self.state().jid.clone()
    }

    fn nick(&self, room: &BareJid) -> Option<String> {
        let state = self.state();
        let room = state.rooms.get(room).filter(|room| room.is_joined())?;
        Some(room.nick().to_owned())
    }

    fn send(&self, message: Message) -> BoxFuture<'static, Result<Acknowledged, WireError>> {
        let handle = self.clone();
        Box::pin(async move {
            let (reply, sent) = oneshot::channel();
            handle
                .ask(Command::Send {
                    message: Box::new(message),
                    reply,
                })
                .await?;
            sent.await.map_err(|_gone| WireError::Gone)?
        })
    }

    fn query(&self, to: Option<Jid>, request: Request) -> BoxFuture<'static, QueryResult> {
        let handle = self.clone();
        Box::pin(async move {
            let (reply, result) = oneshot::channel();
            handle.ask(Command::Query { to, request, reply }).await?;
            result.await.map_err(|_gone| WireError::Gone)?
        })
    }

    fn archived(
        &self,
        place: &Place,
        since: i64,
    ) -> BoxFuture<'static, Result<Vec<String>, WireError>> {
        let handle = self.clone();
        let place = place.clone();
        Box::pin(async move { catch_up::own_ids(&handle, &place, since).await })
    }

    fn supports(&self, jid: &Jid, feature: &str) -> Option<bool> {
        self.state().contacts.supports(jid, feature)
    }

    fn is_ready(&self, place: &Place) -> bool {
        let state = self.state();
        match place.room() {
            None => state.online,
            Some(room) => state.online && state.rooms.get(&room).is_some_and(Room::is_joined),
        }
    }
}
