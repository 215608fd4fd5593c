//! What was said in rooms and not to the bot: the next turn there is told the last lines of it.

use std::collections::{HashMap, VecDeque};

use jid::BareJid;

use super::history::Overheard;
use super::inner::{Inner, lock};
use crate::gateway::{Ids, Inbound, Sender};

/// By account and room. In memory only: after a start, catching up with the room's archive fills it.
pub(super) type Rooms = HashMap<(String, BareJid), Heard>;

/// Lines of a room by which a repetition is known: more than are said while its archive is being read.
const MOST_KNOWN: usize = 256;

/// One room's lines.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// For the next turn, in the order in which they were said.
    lines: VecDeque<Overheard>,
    /// Of all lines, also of those that a turn has taken or newer ones have pushed out: while an archive is being read, it
    /// repeats what comes live.
    known: VecDeque<(Ids, Sender)>,
}

impl Heard {
    /// Whether it is the first time.
    fn is_new(&mut self, inbound: &Inbound) -> bool {
        let Inbound { ids, sender, .. } = inbound;
        if self.known.iter().any(|line| is_same(line, inbound)) {
            return false;
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((ids.clone(), sender.clone()));
        true
    }

    /// What an archive tells goes before what came live after it.
    fn add(&mut self, line: Overheard, live: bool, limit: usize) {
        let place = if live {
            self.lines.len()
        } else {
            self.lines.partition_point(|other| other.at <= line.at)
        };
        self.lines.insert(place, line);
        while self.lines.len() > limit {
            self.lines.pop_front();
        }
    }
}

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
        let heard = rooms.entry((inbound.account.clone(), room)).or_default();
        if !heard.is_new(inbound) {
            return;
        }
        let line = Overheard {
            name: inbound.sender.name(),
            text: inbound.body.chars().take(2_000).collect(),
            ids: inbound.ids.clone(),
            sender: inbound.sender.clone(),
            attachments: inbound.attachments.iter().take(2).cloned().collect(),
            at: inbound.delayed.unwrap_or(inbound.at),
        };
        heard.add(line, inbound.delayed.is_none(), limit);
    }

    /// Takes what was said in a room since the last turn there.
    pub(super) fn overheard(&self, account: &str, room: &BareJid, limit: usize) -> Vec<Overheard> {
        let mut rooms = lock(&self.rooms);
        let Some(heard) = rooms.get_mut(&(account.to_owned(), room.clone())) else {
            return Vec::new();
        };
        let lines = std::mem::take(&mut heard.lines);
        let skip = lines.len().saturating_sub(limit);
        lines.into_iter().skip(skip).collect()
    }

    /// Gives back what a turn has taken that begins anew.
    pub(super) fn overhear_again(&self, account: &str, room: &BareJid, context: Vec<Overheard>) {
        let mut rooms = lock(&self.rooms);
        let heard = rooms.entry((account.to_owned(), room.clone())).or_default();
        for line in context.into_iter().rev() {
            heard.lines.push_front(line);
        }
    }

    pub(super) fn forget_overheard(&self, retraction: &Inbound, of: &str, moderated: bool) {
        let Some(room) = retraction.place.room() else {
            return;
        };
        let key = (retraction.account.clone(), room);
        if let Some(heard) = lock(&self.rooms).get_mut(&key) {
            let by = (!moderated).then_some(&retraction.sender);
            heard.lines.retain(|line| !line.is(of, by));
        }
    }
}

/// The room's own id decides. A client's may come again, as some count anew with each session, and is looked at only where
/// the archive has the line under an id that it did not have when it came live.
fn is_same((ids, sender): &(Ids, Sender), inbound: &Inbound) -> bool {
    match (&ids.stanza_id, &inbound.ids.stanza_id) {
        (Some(known), Some(new)) => known == new,
        (None, None) => false,
        _ => ids.id.is_some() && ids.id == inbound.ids.id && sender.is_same(&inbound.sender),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::room_text;
    use super::*;

    #[test]
    fn a_line_is_known_again() {
        struct Case {
            name: &'static str,
            /// The stanza's id, and the room's.
            ids: (&'static str, Option<&'static str>),
            nick: &'static str,
            of_a_room_without: bool,
            same: bool,
        }
        let first = |without: bool| {
            let mut first = room_text("bob", "1", "hello");
            if without {
                first.ids.stanza_id = None;
            }
            (first.ids, first.sender)
        };
        for case in [
            Case {
                name: "the archive's copy",
                ids: ("1", Some("room-1")),
                nick: "bob",
                of_a_room_without: false,
                same: true,
            },
            Case {
                name: "a client that counts anew",
                ids: ("1", Some("room-2")),
                nick: "bob",
                of_a_room_without: false,
                same: false,
            },
            Case {
                name: "the copy of a line that came without a room's id",
                ids: ("1", Some("room-1")),
                nick: "bob",
                of_a_room_without: true,
                same: true,
            },
            Case {
                name: "the same id of somebody else",
                ids: ("1", Some("room-1")),
                nick: "eve",
                of_a_room_without: true,
                same: false,
            },
            Case {
                name: "a client that counts anew where there is no archive",
                ids: ("1", None),
                nick: "bob",
                of_a_room_without: true,
                same: false,
            },
        ] {
            let mut inbound = room_text(case.nick, case.ids.0, "hello");
            inbound.ids.stanza_id = case.ids.1.map(Into::into);
            let same = is_same(&first(case.of_a_room_without), &inbound);
            assert_eq!(same, case.same, "{}", case.name);
        }
    }
}
