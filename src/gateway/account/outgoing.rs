//! Messages of ours: sent, held back until the connection or the room is there, or refused.

use jid::Jid;
use tokio::sync::oneshot;
use xmpp_parsers::message::{Message, MessageType};

use super::Account;
use crate::gateway::{Acknowledged, WireError};
use crate::xmpp::Client;

/// Queue of what may be held back while offline or outside a room.
const MAX_HELD: usize = 1_000;

/// A message that waits for its way.
pub(super) struct Held {
    pub(super) message: Box<Message>,
    pub(super) reply: oneshot::Sender<Result<Acknowledged, WireError>>,
}

enum Verdict {
    Send,
    Hold,
    Refuse,
}

impl Account {
    /// Sends what was held back and can go now.
    pub(super) async fn flush(&mut self, client: &mut Client) {
        for held in std::mem::take(&mut self.held) {
            self.send_message(client, held).await;
        }
    }

    /// Sends a message, holds it back, or says that it cannot go.
    pub(super) async fn send_message(&mut self, client: &mut Client, held: Held) {
        let Held { mut message, reply } = held;
        let room = message.to.as_ref().map(Jid::to_bare);
        let verdict = {
            let mut state = self.handle.state();
            match room.and_then(|room| state.rooms.get_mut(&room)) {
                Some(room) if room.is_out() => Verdict::Refuse,
                Some(room) if !room.is_joined() => Verdict::Hold,
                Some(room) if self.up => {
                    if message.type_ == MessageType::Groupchat
                        && let Some(id) = &message.id
                    {
                        room.sent(&id.0);
                    }
                    Verdict::Send
                }
                None if message.type_ == MessageType::Groupchat => Verdict::Refuse,
                None if self.up => Verdict::Send,
                Some(_) | None => Verdict::Hold,
            }
        };
        match verdict {
            Verdict::Send => {
                message.from = None;
                let acknowledged = self.send(client, (*message).into()).await;
                reply.send(Ok(acknowledged)).ok(); // Nobody waits for it: then nobody.
            }
            Verdict::Hold if self.held.len() < MAX_HELD => {
                self.held.push_back(Held { message, reply });
            }
            Verdict::Hold => drop(reply.send(Err(WireError::Offline))),
            Verdict::Refuse => {
                let condition = "not in that room".to_owned();
                drop(reply.send(Err(WireError::Refused {
                    condition,
                    text: None,
                })));
            }
        }
    }
}
