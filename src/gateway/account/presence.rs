//! Presence, of others and our own: who is there, what their clients can, and what we show of ourselves.

use jid::Jid;
use minidom::Element;
use tokio::time::Instant;
use tracing::warn;
use xmpp_parsers::presence::{Presence, Type};

use super::capabilities::{Ask, own_caps};
use super::handle::State;
use super::{Account, Happening, Waiter, profile};
use crate::gateway::Request;
use crate::gateway::inbound::RoomView;
use crate::xmpp::Client;
use crate::xmpp::element::find;
use crate::xmpp::ns;

/// Clients that are asked for their capabilities at a time.
const MAX_ASKED: usize = 100;

impl Account {
    pub(super) async fn presence(&mut self, client: &mut Client, presence: Presence) {
        let Some(from) = presence.from.clone() else {
            return;
        };
        let bare = from.to_bare();
        let (is_room, effects) = {
            let mut state = self.handle.state();
            match state.rooms.get_mut(&bare) {
                Some(room) => (true, room.presence(&presence, Instant::now())),
                None => (false, Vec::new()),
            }
        };
        if is_room {
            self.effects(client, &bare, effects).await;
            if presence.type_ == Type::None && find(&presence.payloads, "c", ns::CAPS).is_some() {
                self.learn(client, &presence).await;
            }
            return;
        }
        match presence.type_ {
            Type::Subscribe
                if self
                    .happenings
                    .offer(Happening::Subscribe(bare.clone()))
                    .is_err() =>
            {
                warn!(%from, "A subscription request was put off: too much waits");
            }
            Type::Unsubscribed | Type::Unsubscribe if self.component => {
                self.handle.state().watchers.remove(&bare);
            }
            Type::Probe if self.component => {
                let mut answer = self.own_presence();
                answer.to = Some(from);
                self.send(client, answer.into()).await;
            }
            Type::None | Type::Unavailable => self.learn(client, &presence).await,
            _ => {}
        }
    }

    async fn learn(&mut self, client: &mut Client, presence: &Presence) {
        let ask = self.handle.state().contacts.presence(presence);
        self.mark_bot(presence.from.as_ref());
        self.ask(client, ask).await;
    }

    /// An occupant whose client says that it is a bot.
    fn mark_bot(&self, occupant: Option<&Jid>) {
        let Some(occupant) = occupant else { return };
        let mut state = self.handle.state();
        if state.contacts.is_bot(occupant)
            && let Some(nick) = occupant.resource().map(|nick| nick.as_str().to_owned())
            && let Some(room) = state.rooms.get_mut(&occupant.to_bare())
        {
            room.mark_bot(&nick);
        }
    }

    /// Where one turned out to be a bot, so may others that announce the same version.
    pub(super) fn mark_bots(&self, asked: &Jid) {
        let mut state = self.handle.state();
        if !state.contacts.is_bot(asked) {
            return;
        }
        let State {
            rooms, contacts, ..
        } = &mut *state;
        for room in rooms.values_mut() {
            let is_bot = |nick: &str| {
                let occupant = room.jid.with_resource_str(nick);
                occupant.is_ok_and(|occupant| contacts.is_bot(&occupant.into()))
            };
            let unmarked = room.occupants().filter(|(_, known)| !known.bot);
            let bots: Vec<String> = unmarked
                .map(|(nick, _)| nick.clone())
                .filter(|nick| is_bot(nick))
                .collect();
            for nick in bots {
                room.mark_bot(&nick);
            }
        }
    }

    pub(super) async fn ask(&mut self, client: &mut Client, ask: Option<Ask>) {
        let Some(ask) = ask else { return };
        let asking = self.pending.values();
        let asking = asking.filter(|pending| matches!(pending.waiter, Waiter::Capabilities(_)));
        if !self.up || asking.count() >= MAX_ASKED {
            // Rooms, archives and uploads need their places; it is asked when it matters again.
            self.handle.state().contacts.skipped(&ask);
            return;
        }
        let request = Request::Get(ask.query());
        self.query(
            client,
            Some(ask.to.clone()),
            request,
            Waiter::Capabilities(ask),
        )
        .await;
    }

    /// What every presence of ours carries: capabilities and the avatar's hash.
    pub(super) fn own_payloads(&self) -> Vec<Element> {
        let profile = self.handle.profile();
        let caps = own_caps(&profile.name).map(Element::from);
        let photo = profile::photo(&profile);
        caps.into_iter().chain([photo]).collect()
    }

    fn own_presence(&self) -> Presence {
        let profile = self.handle.profile();
        let mut presence = Presence::available();
        if !profile.status.is_empty() {
            presence.statuses.insert("".into(), profile.status.clone());
        }
        presence.payloads = self.own_payloads();
        presence
    }

    /// Sends our presence, to rooms too.
    pub(super) async fn announce(&mut self, client: &mut Client) {
        let presence = self.own_presence();
        if !self.component {
            self.send(client, presence.clone().into()).await;
        }
        let occupants: Vec<Jid> = {
            let state = self.handle.state();
            let joined = state.rooms.values().filter(|room| room.is_joined());
            joined
                .filter_map(|room| room.jid.with_resource_str(room.nick()).ok())
                .map(Into::into)
                .collect()
        };
        for occupant in occupants {
            let mut presence = presence.clone();
            presence.to = Some(occupant);
            self.send(client, presence.into()).await;
        }
    }
}
