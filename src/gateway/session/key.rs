//! Which conversation a message belongs to: the account, the place, and the XEP-0201 thread where the client sends one.

use serde::{Deserialize, Serialize};

use crate::gateway::{Inbound, Place};

/// One conversation. Its `Display` form is the owner's name in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    pub account: String,
    pub place: Place,
    pub thread: Option<String>,
}

impl Key {
    pub fn of(inbound: &Inbound) -> Self {
        Self {
            account: inbound.account.clone(),
            place: inbound.place.clone(),
            thread: inbound.thread.clone(),
        }
    }
}

impl std::fmt::Display for Key {
    /// Unambiguous: a JID holds no tab, and the thread, which may, comes last.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\t{}", self.account, place_name(&self.place))?;
        match &self.thread {
            Some(thread) => write!(f, "\t{thread}"),
            None => Ok(()),
        }
    }
}

/// A place in the names of stored things. A room and a private chat with an occupant never share one.
pub fn place_name(place: &Place) -> String {
    match place {
        Place::Direct(jid) => format!("direct {jid}"),
        Place::Room(jid) => format!("room {jid}"),
        Place::RoomPrivate(jid) => format!("private {jid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_a_private_chat_in_it_and_a_thread_are_different_conversations() {
        let place = |place, thread: Option<&str>| {
            Key {
                account: "a".into(),
                place,
                thread: thread.map(Into::into),
            }
            .to_string()
        };
        let mut names = vec![
            place(Place::Room("r@c.example".parse().unwrap()), None),
            place(Place::Room("r@c.example".parse().unwrap()), Some("t")),
            place(Place::RoomPrivate("r@c.example/n".parse().unwrap()), None),
            place(Place::Direct("r@c.example".parse().unwrap()), None),
        ];
        names.dedup();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 4);
    }
}
