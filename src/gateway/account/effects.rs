//! Rooms: going in and out, and what a change of their state has as its effect; reading archives is one.

use jid::BareJid;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::catch_up;
use super::handle::Command;
use super::room::{Effect, Room};
use super::{Account, Happening};
use crate::gateway::rooms::Password;
use crate::xmpp::Client;

impl Account {
    pub(super) async fn join(
        &mut self,
        client: &mut Client,
        room: BareJid,
        nick: Option<String>,
        password: Option<Password>,
    ) {
        let now = Instant::now();
        let effects = {
            let mut state = self.handle.state();
            let nick = nick.as_deref().unwrap_or(&self.options.nick);
            let entry = state
                .rooms
                .entry(room.clone())
                .or_insert_with(|| Room::new(room.clone(), nick, None, now));
            entry.rename(nick, password);
            if self.up {
                entry.begin(now)
            } else {
                Vec::new()
            }
        };
        self.effects(client, &room, effects).await;
    }

    pub(super) async fn rename(&mut self, client: &mut Client, nick: &str) {
        let old = std::mem::replace(&mut self.options.nick, nick.to_owned());
        if old == nick {
            return;
        }
        let rooms: Vec<BareJid> = {
            let state = self.handle.state();
            let rooms = state.rooms.values();
            let rooms = rooms.filter(|room| room.wanted() == old && !room.is_out());
            rooms.map(|room| room.jid.clone()).collect()
        };
        for room in rooms {
            self.join(client, room, None, None).await;
        }
    }

    pub(super) async fn effects(
        &mut self,
        client: &mut Client,
        room: &BareJid,
        effects: Vec<Effect>,
    ) {
        for effect in effects {
            match effect {
                Effect::Discover => self.discover(client, room).await,
                Effect::Send(mut presence) => {
                    presence.payloads.extend(self.own_payloads());
                    self.send(client, (*presence).into()).await;
                }
                Effect::Configure => self.accept_defaults(client, room).await,
                Effect::Ping(occupant) => self.ping(client, room, occupant).await,
                Effect::Joined => {
                    info!(%room, "Joined");
                    self.flush(client).await;
                    if self.can_read(Some(room)) {
                        self.catch_up(Some(room.clone()));
                    }
                }
                Effect::Out(reason) => {
                    warn!(%room, "Out of the room: {reason}");
                    self.flush(client).await;
                    let out = Happening::Out {
                        room: room.clone(),
                        reason,
                    };
                    self.happenings.offer(out).ok(); // It is in the log, and in /rooms.
                }
            }
        }
    }

    /// Reads an archive in a task of its own, from where we left off.
    pub(super) fn catch_up(&mut self, archive: Option<BareJid>) {
        let Some(session) = self.archives.begin(archive.clone()) else {
            return;
        };
        let handle = self.handle.clone();
        let storage = self.storage.clone();
        let own = self.own.clone();
        let happenings = self.happenings.clone();
        self.helpers.spawn(async move {
            let outcome =
                catch_up::run(&handle, &storage, &own, archive.clone(), &happenings).await;
            if let Err(err) = &outcome {
                // Servers without an archive refuse; then there is nothing to catch up with.
                debug!("Archive not read: {err}");
            }
            let ended = Command::CaughtUp {
                archive,
                session,
                outcome,
            };
            handle.ask(ended).await.ok(); // The account has ended.
        });
    }

    /// Whether an archive is there to be read now.
    pub(super) fn can_read(&self, archive: Option<&BareJid>) -> bool {
        let Some(room) = archive else {
            return !self.component;
        };
        let state = self.handle.state();
        let room = state.rooms.get(room);
        room.is_some_and(|room| room.is_joined() && room.features.archive)
    }
}
