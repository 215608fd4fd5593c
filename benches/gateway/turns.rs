//! What was seen of each turn, at which instant. A turn is known by its number, which travels in the question, in the
//! model's answer and in what the person gets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::Notify;

/// Followed by a turn's number: in the question, at the beginning of the answer, and at its end.
const QUESTION: &str = "benchquestion";
const ANSWER: &str = "benchanswer";
const END: &str = "benchend";

/// The instants of one turn, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// The stanza with the question is written.
    pub(super) written: Option<Instant>,
    /// The whole request has arrived at the model.
    pub(super) asked: Option<Instant>,
    /// The first delta is written.
    pub(super) began: Option<Instant>,
    /// The first stanza with text has arrived.
    pub(super) shown: Option<Instant>,
    /// The end of the model's stream is written.
    pub(super) ended: Option<Instant>,
    /// The stanza with the whole text has arrived.
    pub(super) answered: Option<Instant>,
    /// Messages that are no correction of another (XEP-0308): what a person sees as messages.
    messages: u32,
    /// Messages with the end of the answer.
    answers: u32,
}

/// All turns so far. A handle: clones share them.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Inner>);

#[derive(Default)]
struct Inner {
    turns: Mutex<Vec<Turn>>,
    answered: Notify,
}

impl Turns {
    fn all(&self) -> MutexGuard<'_, Vec<Turn>> {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new turn's number.
    pub(super) fn begin(&self) -> usize {
        let mut turns = self.all();
        turns.push(Turn::default());
        turns.len() - 1
    }

    /// The number of the next turn.
    pub(super) fn begin_at(&self) -> usize {
        self.all().len()
    }

    pub(super) fn note(&self, number: usize, change: impl FnOnce(&mut Turn)) {
        if let Some(turn) = self.all().get_mut(number) {
            change(turn);
        }
    }

    /// A message with a text has come for a person.
    pub(super) fn heard(&self, body: &str, is_correction: bool, at: Instant) {
        let Some(number) = number_after(ANSWER, body) else {
            return;
        };
        let is_whole = number_after(END, body) == Some(number);
        self.note(number, |turn| {
            turn.shown.get_or_insert(at);
            turn.messages += u32::from(!is_correction);
            if is_whole {
                turn.answered.get_or_insert(at);
                turn.answers += 1;
            }
        });
        if is_whole {
            self.0.answered.notify_waiters();
        }
    }

    /// Waits until everything from `first` on is answered. The time is no verdict: what is not there then is missing.
    pub(super) async fn settle(&self, first: usize, patience: Duration) {
        let all_answered = async {
            loop {
                let notified = self.0.answered.notified();
                if self.from(first).iter().all(|turn| turn.answered.is_some()) {
                    return;
                }
                notified.await;
            }
        };
        // Whether it ran out shows in `checked`.
        tokio::time::timeout(patience, all_answered).await.ok();
    }

    fn from(&self, first: usize) -> Vec<Turn> {
        self.all().iter().skip(first).copied().collect()
    }

    /// The turns from `first` on, each answered once.
    pub(super) fn checked(&self, first: usize) -> Result<Vec<Turn>> {
        let turns = self.from(first);
        let missing = turns.iter().filter(|turn| turn.answers == 0).count();
        let doubled = turns
            .iter()
            .filter(|turn| turn.answers > 1 || turn.messages > 1)
            .count();
        ensure!(
            missing == 0 && doubled == 0,
            "Of {} messages {missing} got no answer and {doubled} more than one",
            turns.len()
        );
        Ok(turns)
    }
}

/// What a person writes.
pub(super) fn question(number: usize) -> String {
    format!("{QUESTION}{number} What would you cook with beans, lemons and two hours of time?")
}

/// The turn that a request is about: its last question, behind those of its history.
pub(super) fn asked(request: &str) -> Option<usize> {
    let (_, rest) = request.rsplit_once(QUESTION)?;
    leading_number(rest)
}

/// What the model says, in so many pieces.
pub(super) fn answer(number: usize, pieces: usize) -> Vec<String> {
    let mut answer = vec![format!("{ANSWER}{number} Soak the beans in warm water. ")];
    answer
        .extend((1..pieces).map(|piece| format!("Step {piece}: simmer them and stir at times. ")));
    answer.push(format!("{END}{number}"));
    answer
}

fn number_after(word: &str, text: &str) -> Option<usize> {
    let (_, rest) = text.split_once(word)?;
    leading_number(rest)
}

fn leading_number(text: &str) -> Option<usize> {
    let end = text.find(|character: char| !character.is_ascii_digit());
    let (digits, _) = text.split_at_checked(end.unwrap_or(text.len()))?;
    digits.parse().ok()
}
