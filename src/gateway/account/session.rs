//! A session from its beginning to its end: what is done when the account comes online, is cut off and is back again.

use jid::{BareJid, Jid};
use tokio::time::Instant;
use tokio_xmpp::Stanza;
use tracing::{error, info, warn};

use super::catch_up;
use super::handle::Command;
use super::mechanism;
use super::room::{Effect, Room};
use super::{Account, Happening, Waiter};
use crate::gateway::WireError;
use crate::xmpp::{Client, Event, Mechanism};

impl Account {
    pub(super) async fn event(&mut self, client: &mut Client, event: Event) {
        match event {
            Event::Online {
                jid,
                mechanism,
                features: _,
            } => {
                self.online(client, jid, mechanism).await;
            }
            Event::Resumed => {
                info!("Session resumed");
                self.up = true;
                self.set_condition(true, "online".into());
                self.flush(client).await;
            }
            Event::Suspended { reason } => {
                self.up = false;
                self.set_condition(false, format!("reconnecting: {reason}"));
                warn!("Connection lost: {reason}");
            }
            Event::Retrying { reason, after } => {
                warn!(
                    "Connection failed, next try in {:.1} s: {reason}",
                    after.as_secs_f64()
                );
                self.set_condition(false, format!("trying again: {reason}"));
            }
            Event::Failed(err) => {
                error!(
                    "Account {} has stopped and is not tried again: {err}",
                    self.options.id
                );
                self.up = false;
                self.set_condition(false, format!("failed: {err}"));
                self.forget_session();
            }
            Event::Stanza(stanza) => match *stanza {
                Stanza::Message(message) => self.message(client, message).await,
                Stanza::Presence(presence) => self.presence(client, presence).await,
                Stanza::Iq(iq) => self.iq(client, iq).await,
            },
        }
    }

    fn set_condition(&self, online: bool, condition: String) {
        let mut state = self.handle.state();
        state.online = online;
        state.condition = condition;
    }

    /// Whatever belonged to the old session is void: requests fail, rooms are left.
    fn forget_session(&mut self) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            match pending.waiter {
                Waiter::Caller(caller) => drop(caller.send(Err(WireError::Offline))),
                Waiter::Archive { caller, .. } => drop(caller.send(Err(WireError::Offline))),
                _ => {}
            }
        }
        self.helpers.abort_all();
        self.archives.reset();
        let mut state = self.handle.state();
        state.rooms.values_mut().for_each(Room::reset);
        state.contacts.reset();
    }

    /// A new session: presence first, then rooms and archives (RFC 6121, 4.2).
    async fn online(&mut self, client: &mut Client, jid: Jid, mechanism: Option<Mechanism>) {
        info!("Online as {jid}");
        self.forget_session();
        self.up = true;
        self.handle.state().jid = jid;
        self.set_condition(true, "online".into());
        if let Some(mechanism) = mechanism {
            self.remember_mechanism(mechanism);
        }
        if !self.component {
            self.fetch_roster(client).await;
        }
        if self.component || self.known_archives.contains(&None) {
            self.appear(client).await;
        } else {
            self.mark_beginning(None, Command::Appear);
        }
    }

    /// Stores where an archive begins for us that was never read, and then goes on.
    pub(super) fn mark_beginning(&mut self, archive: Option<BareJid>, then: Command) {
        let (handle, storage) = (self.handle.clone(), self.storage.clone());
        self.known_archives.insert(archive.clone());
        self.helpers.spawn(async move {
            catch_up::mark_beginning(&handle, &storage, archive).await;
            handle.ask(then).await.ok(); // The account has ended.
        });
    }

    /// Shows the account to the others, and takes up what was left.
    pub(super) async fn appear(&mut self, client: &mut Client) {
        self.announce(client).await;
        self.publish_profile();
        if !self.component {
            self.catch_up(None);
        }
        self.happenings.offer(Happening::Online).ok(); // A full queue has enough to do.
        self.flush(client).await;
        let now = Instant::now();
        let effects: Vec<(BareJid, Vec<Effect>)> = {
            let mut state = self.handle.state();
            let rooms = state.rooms.iter_mut().filter(|(_, room)| !room.is_out());
            rooms
                .map(|(jid, room)| (jid.clone(), room.begin(now)))
                .collect()
        };
        for (room, effects) in effects {
            self.effects(client, &room, effects).await;
        }
    }

    fn remember_mechanism(&mut self, mechanism: Mechanism) {
        let storage = self.storage.clone();
        let batch = mechanism::remember(&self.own, mechanism);
        self.helpers.spawn(async move {
            if let Err(err) = storage.commit(batch).await {
                warn!("Failed to remember the login mechanism: {err:#}");
            }
        });
    }
}
