//! A text that grows in front of the person: its first part, then corrections of that message (XEP-0308). Only the message that
//! the answer begins with is shown growing; what outgrows it follows when the answer is complete, because only the last message
//! may be corrected.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Account, StreamMode};
use crate::gateway::{Place, Wire};
use crate::xmpp::ns;

/// Whether answers in a place are shown while they grow.
pub fn is_on(account: &Account, place: &Place, wire: &dyn Wire) -> bool {
    match (account.stream_mode, place) {
        (StreamMode::Off, _) => false,
        // Everyone in the room would see every step: only where somebody asked for it.
        (StreamMode::Correction, Place::Room(_)) => account.stream_mode_set,
        (StreamMode::Correction, Place::Direct(_) | Place::RoomPrivate(_)) => {
            wire.supports(&place.address(), ns::MESSAGE_CORRECT) != Some(false)
        }
    }
}

/// When a growing text is shown again.
#[derive(Debug)]
pub struct Pace {
    first: usize,
    pause: Duration,
    shown: Option<(Instant, String)>,
    ended: bool,
}

impl Pace {
    pub fn new(account: &Account) -> Self {
        Self {
            first: account.stream_min_initial_chars.max(1),
            pause: Duration::from_millis(account.edit_throttle_ms),
            shown: None,
            ended: false,
        }
    }

    /// When the next step is due, for a text of so many characters; `None`: not before more has come.
    pub fn due(&self, characters: usize) -> Option<Instant> {
        if self.ended {
            return None;
        }
        match &self.shown {
            Some((at, _)) => Some(*at + self.pause),
            None => (characters >= self.first).then(Instant::now),
        }
    }

    /// What is shown now, of the chunks that the text so far becomes: the first, unless it is shown already. A second chunk
    /// ends the show with the first one complete.
    pub fn step(&mut self, chunks: &[String]) -> Option<String> {
        let first = chunks.first()?;
        self.ended = chunks.len() > 1;
        let now = Instant::now();
        let old = self.shown.replace((now, first.clone()));
        match old {
            Some((_, shown)) if shown == *first => None,
            _ => Some(first.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::session::testing::FakeWire;
    use crate::gateway::testing::account;

    #[test]
    fn a_text_grows_in_direct_chats_unless_the_client_cannot_and_in_rooms_only_when_asked_for() {
        struct Case {
            name: &'static str,
            mode: StreamMode,
            set: bool,
            place: Place,
            supports: Option<bool>,
            on: bool,
        }
        let direct = || Place::Direct("a@example.com".parse().unwrap());
        let room = || Place::Room("r@rooms.example".parse().unwrap());
        let on = StreamMode::Correction;
        let cases = [
            Case {
                name: "direct",
                mode: on,
                set: false,
                place: direct(),
                supports: Some(true),
                on: true,
            },
            Case {
                name: "unknown client",
                mode: on,
                set: false,
                place: direct(),
                supports: None,
                on: true,
            },
            Case {
                name: "cannot",
                mode: on,
                set: true,
                place: direct(),
                supports: Some(false),
                on: false,
            },
            Case {
                name: "off",
                mode: StreamMode::Off,
                set: true,
                place: direct(),
                supports: None,
                on: false,
            },
            Case {
                name: "room",
                mode: on,
                set: false,
                place: room(),
                supports: None,
                on: false,
            },
            Case {
                name: "room, asked for",
                mode: on,
                set: true,
                place: room(),
                supports: None,
                on: true,
            },
        ];
        for case in cases {
            let wire = FakeWire::default();
            if let Some(supports) = case.supports {
                wire.set_supports(ns::MESSAGE_CORRECT, supports);
            }
            let mut account = account();
            account.stream_mode = case.mode;
            account.stream_mode_set = case.set;
            assert_eq!(
                is_on(&account, &case.place, &wire),
                case.on,
                "{}",
                case.name
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_step_waits_for_enough_text_and_the_others_for_their_time() {
        let mut account = account();
        account.stream_min_initial_chars = 5;
        account.edit_throttle_ms = 2_000;
        let mut pace = Pace::new(&account);
        assert_eq!(pace.due(4), None);
        assert_eq!(pace.due(5), Some(Instant::now()));
        assert_eq!(pace.step(&["Hello".into()]), Some("Hello".into()));
        assert_eq!(pace.due(6), Some(Instant::now() + Duration::from_secs(2)));
        assert_eq!(pace.step(&["Hello".into()]), None, "nothing new to show");
        assert_eq!(
            pace.step(&["Hello you".into(), "there".into()]),
            Some("Hello you".into())
        );
        assert_eq!(pace.due(1000), None, "the first message is complete");
    }
}
