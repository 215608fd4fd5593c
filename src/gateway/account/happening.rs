//! What an account's task tells the gateway, and the bounded queue that it goes through.

use jid::BareJid;
use tokio::sync::mpsc;

use super::answer::Asked;
use super::catch_up::Position;
use crate::gateway::Inbound;
use crate::gateway::inbound::Invite;

/// What an account's task tells the gateway.
#[derive(Debug)]
pub enum Happening {
    /// `moves`: the archive's position goes with it.
    Message {
        inbound: Box<Inbound>,
        moves: bool,
    },
    /// A room reflected our message: the id we gave it, and the room's.
    Echo {
        room: BareJid,
        id: String,
        stanza_id: String,
    },
    Invite(Invite),
    /// Somebody asks to see our presence.
    Subscribe(BareJid),
    /// XEP-0050: a command to execute, or the list of them.
    Command(Box<Asked>),
    Commands(Box<Asked>),
    /// An archive has been read up to here.
    Position {
        archive: Option<BareJid>,
        position: Position,
    },
    /// We are out of a room and stay out: why.
    Out {
        room: BareJid,
        reason: String,
    },
    /// A new session has begun.
    Online,
}

/// Things that may wait for the gateway.
pub(super) const HAPPENINGS: usize = 512;

/// The account's end of the queue.
#[derive(Clone, Debug)]
pub(super) struct Happenings(mpsc::Sender<Happening>);

impl Happenings {
    /// The queue's two ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<Happening>) {
        let (sender, receiver) = mpsc::channel(HAPPENINGS);
        (Self(sender), receiver)
    }

    /// Waits while the queue is full: not for the socket's task.
    pub(super) async fn send(&self, happening: Happening) {
        self.0.send(happening).await.ok(); // The gateway has ended, and so will we.
    }

    /// Gives it back where the queue is full.
    pub(super) fn offer(&self, happening: Happening) -> Result<(), Box<Happening>> {
        match self.0.try_send(happening) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(happening)) => Err(Box::new(happening)),
        }
    }
}
