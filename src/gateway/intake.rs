//! What an account's task tells, taken in one by one and in order: admission, pairing, mention, then a command or the
//! conversation. One task an account; it waits for the store, never for a model.

mod commands;
mod messages;
mod presence;
mod strangers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jid::BareJid;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, warn};

use super::access::Access;
use super::account::{Handle, Happening, Position, catch_up};
use super::command::Commands;
use super::pairing::Claim;
use super::session::Conversations;
use super::{Inbound, Place, rooms};
use crate::config::Config;
use crate::runtime::contain;
use crate::storage::Storage;

/// What taking in depends on.
pub struct Intake {
    pub account: String,
    pub own: BareJid,
    pub live: watch::Receiver<Arc<Config>>,
    pub handle: Handle,
    pub conversations: Conversations,
    pub access: Arc<Access>,
    pub claim: Arc<Claim>,
    pub commands: Commands,
    pub storage: Storage,
    /// Positions that are not stored yet.
    pub positions: BTreeMap<Option<BareJid>, Position>,
    /// Commands that take long.
    pub background: JoinSet<()>,
    /// When strangers were put before the operators.
    pub strangers: Vec<Instant>,
}

impl Intake {
    /// Runs until the account's task ends or `stop`.
    pub async fn run(
        mut self,
        mut happenings: mpsc::Receiver<Happening>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop);
        let mut flush = tokio::time::interval(Duration::from_secs(1));
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut resumed = false;
        loop {
            tokio::select! {
                () = &mut stop => break,
                happening = happenings.recv() => match happening {
                    Some(Happening::Online) if !resumed => {
                        // What is under way already is left alone, so that a failure is tried again with the next session.
                        match self.conversations.resume(&self.account).await {
                            Ok(()) => resumed = true,
                            Err(err) => error!("Failed to take up what was left of the last run: {err:#}"),
                        }
                    }
                    Some(happening) => self.take_alone(happening).await,
                    None => break,
                },
                _ = flush.tick() => self.store_positions().await,
            }
        }
        // What the server believes delivered is stored for the next start; it is little, as nothing new comes in.
        while let Ok(happening) = happenings.try_recv() {
            if matches!(happening, Happening::Message { .. }) {
                self.take_alone(happening).await;
            }
        }
        self.store_positions().await;
    }

    /// One stanza that is too much for us is not the end of the account.
    async fn take_alone(&mut self, happening: Happening) {
        contain("Taking a stanza in", self.take(happening)).await;
    }

    async fn take(&mut self, happening: Happening) {
        let config = self.live.borrow().clone();
        let Some(account) = config.channels.xmpp.get(&self.account) else {
            return;
        };
        match happening {
            Happening::Online => {}
            Happening::Message { inbound, moves } => {
                let archive = catch_up::archive_of(&inbound.place);
                let position = Position {
                    id: inbound.ids.stanza_id.clone(),
                    at: inbound.at,
                };
                self.message(account, *inbound).await;
                if moves && position.id.is_some() {
                    self.positions.insert(archive, position);
                }
            }
            Happening::Echo {
                room,
                id,
                stanza_id,
            } => {
                let place = Place::Room(room);
                if let Err(err) = self
                    .conversations
                    .echoed(&self.account, &place, &id, &stanza_id)
                    .await
                {
                    warn!("Failed to store a room's id of our message: {err:#}");
                }
            }
            Happening::Invite(invite) => self.invite(account, invite).await,
            Happening::Subscribe(jid) => self.subscribe(account, jid).await,
            Happening::Commands(asked) => self.list_commands(account, &asked).await,
            Happening::Command(asked) => self.execute_command(account, *asked).await,
            Happening::Position { archive, position } => {
                self.positions.insert(archive, position);
                self.store_positions().await;
            }
            Happening::Out { room, reason } => {
                rooms::forget(&self.storage, &self.account, &room).await;
                self.tell_operators(account, &format!("I am out of the room {room}: {reason}."))
                    .await;
            }
        }
    }

    /// Positions go to the store a second late at most: what is read twice is known by its ids.
    async fn store_positions(&mut self) {
        let mut batch = crate::storage::Batch::new();
        for (archive, position) in std::mem::take(&mut self.positions) {
            batch = batch.and(catch_up::store(&self.account, archive.as_ref(), &position));
        }
        if !batch.is_empty()
            && let Err(err) = self.storage.note(batch).await
        {
            warn!("Failed to store how far the archive has been read: {err:#}");
        }
    }

    async fn say(&self, place: &Place, text: &str, inbound: Option<&Inbound>) {
        if let Err(err) = self
            .conversations
            .say(&self.account, place, text, inbound)
            .await
        {
            error!("Failed to store a notice: {err:#}");
        }
    }
}
