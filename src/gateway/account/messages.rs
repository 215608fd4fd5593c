//! Messages that come in: read, and handed on to the gateway, or refused where too many wait.

use jid::Jid;
use tokio::time::Instant;
use tracing::{debug, warn};
use xmpp_parsers::message::{Message, MessageType};
use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::answer;
use super::iq::describe;
use super::{Account, Happening, Waiter};
use crate::gateway::inbound::{self, RoomView, Skip, Source};
use crate::gateway::now;
use crate::xmpp::Client;
use crate::xmpp::element::find;
use crate::xmpp::ns;

/// Results of one page that are kept; an archive that sends more than it was asked for is cut.
const MAX_RESULTS: usize = 200;

impl Account {
    pub(super) async fn message(&mut self, client: &mut Client, message: Message) {
        if self.take_archive_result(&message) {
            return;
        }
        if let Some(invite) = inbound::invite(&message) {
            if self.happenings.offer(Happening::Invite(invite)).is_err() {
                warn!("An invitation was dropped: too much waits");
            }
            return;
        }
        let Some(from) = message.from.clone() else {
            return;
        };
        if self.component
            && message
                .to
                .as_ref()
                .is_some_and(|to| to.to_bare() != self.own)
        {
            if message.type_ == MessageType::Error {
                // Never answered (RFC 6120, 8.3.1): the other side might do the same, for ever.
                return;
            }
            self.refuse(client, &message, DefinedCondition::ItemNotFound, None)
                .await;
            return;
        }
        let bare = from.to_bare();
        let (outcome, echo) = {
            let mut state = self.handle.state();
            if let Some(room) = state.rooms.get_mut(&bare) {
                room.heard(Instant::now());
            }
            // A private message may come before the room has let us in again: it is none of a direct chat.
            let groupchat = message.type_ == MessageType::Groupchat;
            let room = state.rooms.get(&bare);
            let room = room.filter(|room| room.is_joined() || !groupchat);
            let context = inbound::Context {
                account: self.handle.id(),
                own: &self.own,
                room: room.map(|room| room as &dyn RoomView),
                source: Source::Live,
                now: now(),
            };
            let mut outcome = inbound::read(&message, &context);
            if let Ok(inbound) = &mut outcome
                && !inbound.place.is_room()
            {
                inbound.sender.bot |= state.contacts.is_bot(&from);
            }
            let echo = matches!(outcome, Err(Skip::Own))
                .then(|| inbound::echo(&message, &bare, &context))
                .flatten();
            (outcome, echo)
        };
        match outcome {
            Ok(inbound) => self.offer(client, message, inbound).await,
            Err(Skip::Own) => {
                if let Some((id, stanza_id)) = echo
                    && message.type_ == MessageType::Groupchat
                {
                    let echo = Happening::Echo {
                        room: bare,
                        id,
                        stanza_id,
                    };
                    self.happenings.offer(echo).ok(); // Replies to it are then not known as such.
                }
            }
            Err(Skip::Error) => Self::bounced(&message),
            Err(skip) => debug!(%from, "Message skipped: {}", skip.reason()),
        }
    }

    /// Hands a message on, or tells its sender that too many wait.
    async fn offer(&mut self, client: &mut Client, message: Message, inbound: super::Inbound) {
        let from = inbound.sender.from.clone();
        let archive = super::catch_up::archive_of(&inbound.place);
        let moves = !self.archives.is_behind(archive.as_ref());
        let groupchat = inbound.place.is_room();
        let happening = Happening::Message {
            inbound: Box::new(inbound),
            moves,
        };
        if self.happenings.offer(happening).is_err() {
            warn!(%from, "A message was refused: too many wait");
            if groupchat {
                // Nobody in particular can be told; the archive has it.
                self.archives.missed(archive, Instant::now());
            } else {
                let text = Some("Too many messages wait; try again in a minute");
                self.refuse(client, &message, DefinedCondition::ResourceConstraint, text)
                    .await;
            }
        }
        if !groupchat {
            let ask = self.handle.state().contacts.message(&from);
            self.ask(client, ask).await;
        }
    }

    /// An error came back for something of ours: for the log, never for an answer.
    fn bounced(message: &Message) {
        let from = message
            .from
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let (condition, text) = message
            .payloads
            .iter()
            .find(|p| p.name() == "error")
            .map(describe)
            .unwrap_or_default();
        let id = message
            .id
            .as_ref()
            .map(|id| id.0.as_str())
            .unwrap_or_default();
        warn!(from, id, condition, text, "A message of ours came back");
    }

    async fn refuse(
        &self,
        client: &mut Client,
        message: &Message,
        condition: DefinedCondition,
        text: Option<&str>,
    ) {
        let mut error: StanzaError = answer::error(condition);
        if let Some(text) = text {
            error.texts.insert("en".into(), text.into());
        }
        let mut reply = Message::error(message.from.clone());
        reply.id.clone_from(&message.id);
        if self.component {
            // A component has many addresses, and the error comes from the one that was written to.
            reply.from.clone_from(&message.to);
        }
        reply.payloads.push(error.into());
        self.send(client, reply.into()).await;
    }

    /// A result of an archive query of ours: from the archive asked, with a query id that is live (CVE-2019-16237).
    fn take_archive_result(&mut self, message: &Message) -> bool {
        let Some(result) = find(&message.payloads, "result", ns::MAM) else {
            return false;
        };
        let Some(query_id) = result.attr("queryid") else {
            return false;
        };
        let Some(pending) = self.pending.get_mut(query_id) else {
            return false;
        };
        let expected = pending
            .to
            .as_ref()
            .map_or_else(|| self.own.clone(), Jid::to_bare);
        // Our own server may leave `from` out (RFC 6120, 8.1.2.1).
        let right = message.from.as_ref().map_or(pending.to.is_none(), |from| {
            from.to_bare() == expected && from.resource().is_none()
        });
        if !right {
            warn!("An archive result from somebody else was dropped");
            return true;
        }
        if let Waiter::Archive { page, .. } = &mut pending.waiter
            && let (Some(id), Some(forwarded)) = (
                result.attr("id"),
                result.get_child("forwarded", ns::FORWARD),
            )
            && page.results.len() < MAX_RESULTS
        {
            page.results.push((id.to_owned(), forwarded.clone()));
        }
        true
    }
}
