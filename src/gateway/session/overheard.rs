//! What was said in rooms and not to the bot: the next turn there is told the last lines of it.

use std::collections::{HashMap, VecDeque};

use jid::BareJid;

use super::history::Overheard;
use super::inner::{Inner, lock};
use crate::gateway::Inbound;

/// By account and room. In memory only: after a start, catching up with the room's archive fills it.
pub(super) type Rooms = HashMap<(String, BareJid), VecDeque<Overheard>>;

impl Inner {
    pub(super) fn overhear(&self, inbound: &Inbound) {
        let Some(room) = inbound.place.room().filter(|_| inbound.place.is_room()) else {
            return;
        };
        let live = self.live();
        let limit = live
            .config
            .channels
            .xmpp
            .get(&inbound.account)
            .map_or(0, |account| account.history_limit);
        let mut rooms = lock(&self.rooms);
        let lines = rooms.entry((inbound.account.clone(), room)).or_default();
        // The archive repeats what came live.
        if lines.iter().any(|line| is_same(line, inbound)) {
            return;
        }
        lines.push_back(Overheard {
            name: inbound.sender.name(),
            text: inbound.body.chars().take(2_000).collect(),
            ids: inbound.ids.clone(),
            sender: inbound.sender.clone(),
        });
        while lines.len() > limit {
            lines.pop_front();
        }
    }

    /// Takes what was said in a room since the last turn there.
    pub(super) fn overheard(&self, account: &str, room: &BareJid, limit: usize) -> Vec<Overheard> {
        let lines = lock(&self.rooms).remove(&(account.to_owned(), room.clone()));
        let lines = lines.unwrap_or_default();
        let skip = lines.len().saturating_sub(limit);
        lines.into_iter().skip(skip).collect()
    }

    /// Gives back what a turn has taken that begins anew.
    pub(super) fn overhear_again(&self, account: &str, room: &BareJid, context: Vec<Overheard>) {
        let mut rooms = lock(&self.rooms);
        let lines = rooms.entry((account.to_owned(), room.clone())).or_default();
        for line in context.into_iter().rev() {
            lines.push_front(line);
        }
    }

    pub(super) fn forget_overheard(&self, retraction: &Inbound, of: &str, moderated: bool) {
        let Some(room) = retraction.place.room() else {
            return;
        };
        let key = (retraction.account.clone(), room);
        if let Some(lines) = lock(&self.rooms).get_mut(&key) {
            let by = (!moderated).then_some(&retraction.sender);
            lines.retain(|line| !line.is(of, by));
        }
    }
}

fn is_same(line: &Overheard, inbound: &Inbound) -> bool {
    let shared = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    shared(&line.ids.stanza_id, &inbound.ids.stanza_id)
        || shared(&line.ids.id, &inbound.ids.id) && line.sender.is_same(&inbound.sender)
}
