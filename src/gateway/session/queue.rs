//! What of a queue one turn takes, and which messages interrupt a turn.

use std::collections::VecDeque;

use super::inbox::Waiting;
use crate::config::QueueMode;

/// How many of the waiting messages, from the first, the next turn answers.
pub(super) fn batch(queue: &VecDeque<Waiting>, mode: QueueMode) -> usize {
    let Some(first) = queue.front() else {
        return 0;
    };
    if first.is_stale() {
        // What came in hours ago is one turn, whoever wrote it, and not a storm.
        return queue.iter().take_while(|entry| entry.is_stale()).count();
    }
    match mode {
        QueueMode::Followup | QueueMode::Interrupt => 1,
        // Of one person only: in a room everyone gets an answer of their own.
        QueueMode::Collect => queue
            .iter()
            .take_while(|entry| {
                !entry.is_stale() && entry.inbound.sender.is_same(&first.inbound.sender)
            })
            .count(),
    }
}

/// Whether a new message stops the turn and is answered together with its question: only the asker's own.
pub(super) fn interrupts(mode: QueueMode, running: &[Waiting], new: &Waiting) -> bool {
    mode == QueueMode::Interrupt
        && !new.is_stale()
        && running
            .iter()
            .all(|entry| entry.inbound.sender.is_same(&new.inbound.sender))
}

#[cfg(test)]
mod tests {
    use super::super::testing::room_text;
    use super::*;
    use crate::config::QueueMode::{Collect, Followup, Interrupt};
    use crate::gateway::Standing;

    fn waiting(nick: &str, stale: bool) -> Waiting {
        let mut inbound = room_text(nick, "1", "hi");
        if stale {
            inbound.catch_up = true;
            inbound.delayed = Some(inbound.at - 2 * 3_600_000);
        }
        Waiting {
            number: String::new(),
            inbound,
            standing: Standing::default(),
            visible: Vec::new(),
        }
    }

    const A: (&str, bool) = ("alice", false);
    const B: (&str, bool) = ("bob", false);
    const OLD: (&str, bool) = ("alice", true);

    #[test]
    fn a_turn_takes_what_its_mode_says_and_old_messages_together() {
        struct Case {
            name: &'static str,
            queue: &'static [(&'static str, bool)],
            mode: QueueMode,
            count: usize,
        }
        let cases = [
            Case {
                name: "nothing",
                queue: &[],
                mode: Collect,
                count: 0,
            },
            Case {
                name: "one after the other",
                queue: &[A, A],
                mode: Followup,
                count: 1,
            },
            Case {
                name: "what an interrupt left",
                queue: &[A, A],
                mode: Interrupt,
                count: 1,
            },
            Case {
                name: "collected",
                queue: &[A, A, A],
                mode: Collect,
                count: 3,
            },
            Case {
                name: "collected by person",
                queue: &[A, A, B, A],
                mode: Collect,
                count: 2,
            },
            Case {
                name: "old ones of all",
                queue: &[OLD, ("bob", true), OLD, A],
                mode: Followup,
                count: 3,
            },
        ];
        for case in cases {
            let queue = case
                .queue
                .iter()
                .map(|(nick, stale)| waiting(nick, *stale))
                .collect();
            assert_eq!(batch(&queue, case.mode), case.count, "{}", case.name);
        }
    }

    #[test]
    fn only_the_asker_interrupts() {
        let running = [waiting("alice", false)];
        let interrupts = |mode, nick| interrupts(mode, &running, &waiting(nick, false));
        assert!(interrupts(Interrupt, "alice"));
        assert!(!interrupts(Interrupt, "bob"));
        assert!(!interrupts(Followup, "alice"));
    }
}
