//! What a person is told when there is no answer: one line with what happened, whether it is worth trying again, and a short id
//! that the log has too.

use std::time::Duration;

use super::budget::Refusal;
use super::history::random_id;
use crate::llm::Error;
use crate::llm::failover::Failure;

/// Why a turn ended without an answer.
#[derive(Debug)]
pub(super) enum Reason {
    Model(Failure),
    /// `chat.turn_timeout_secs` went by.
    TurnTimedOut(u64),
    Budget(Refusal),
    /// The model ended without a text.
    Empty,
    /// The model declined.
    Declined,
    /// It asked for a tool, and none is offered.
    ToolCall,
    QueueFull(usize),
    /// Too many conversations are open.
    Crowded,
    Panicked,
    Store(crate::storage::Error),
    /// Settings that a reload has taken away, or that never fitted.
    Setting(String),
}

/// The line for the person, and the id in it.
pub(super) fn line(reason: &Reason) -> (String, String) {
    let id: String = random_id().chars().skip(1).take(6).collect();
    (format!("⚠ {} ({id})", say(reason)), id)
}

fn say(reason: &Reason) -> String {
    match reason {
        Reason::Model(failure) => model(failure),
        Reason::TurnTimedOut(secs) => {
            format!("There was no complete answer within {secs} seconds. It may work if you try again.")
        }
        Reason::Budget(refusal) => budget(*refusal),
        Reason::Empty => "The model ended without an answer. Try again, or put it differently.".into(),
        Reason::Declined => {
            "The model declined to answer this. Trying again unchanged will not help.".into()
        }
        Reason::ToolCall => {
            "The model asked for a tool instead of answering, and there are none here. Put it differently.".into()
        }
        Reason::Crowded => {
            "Too many conversations are going on here. Try again in a few minutes.".into()
        }
        Reason::QueueFull(waiting) => format!(
            "{waiting} messages wait here already, so this one was not taken. Send it again once they are answered."
        ),
        Reason::Panicked => "Something failed in the bot itself. It may work if you try again.".into(),
        Reason::Store(crate::storage::Error::Full) => {
            "The bot's disk is full, so your message was not taken. Its operator has to make room.".into()
        }
        Reason::Store(_) => {
            "The bot's store failed. Trying again helps only after its operator has looked at it.".into()
        }
        Reason::Setting(what) => format!("{what} Trying again will not help until that is changed."),
    }
}

fn model(failure: &Failure) -> String {
    let later = |retry_after: Option<Duration>| match retry_after.or(failure.retry_after) {
        Some(wait) => format!("Try again in {}.", span(wait)),
        None => "Try again in a moment.".into(),
    };
    match &failure.error {
        Error::RateLimited { retry_after } => {
            format!("The model is answering too many at once. {}", later(*retry_after))
        }
        Error::Unavailable { retry_after, .. } => {
            format!("The model is overloaded or its server failed. {}", later(*retry_after))
        }
        Error::TimedOut => format!("The model did not answer in time. {}", later(None)),
        Error::Network(_) => format!("The model could not be reached. {}", later(None)),
        Error::Protocol(_) => format!("The model's answer could not be read. {}", later(None)),
        Error::Unauthorized { .. } => {
            "The model's provider refused the bot's key. Its operator has to look at it; trying again will not help.".into()
        }
        Error::NoSuchModel(_) => format!(
            "There is no model {}. Choose another with /model; trying again will not help.",
            failure.model
        ),
        Error::ContextTooLong => {
            "This is too long for the model, even after shortening the conversation. Send less, or begin with /new.".into()
        }
        Error::ContentRefused => {
            "The model's provider declined the content. Trying again unchanged will not help.".into()
        }
        Error::NoCredit => {
            "The bot's account with the model's provider has no credit left. Its operator has to look at it.".into()
        }
        Error::Invalid { .. } => {
            "The model's provider refused the request. The log has its reason; trying again unchanged will not help.".into()
        }
    }
}

fn budget(refusal: Refusal) -> String {
    match refusal {
        Refusal::SenderRate(wait) => {
            format!(
                "You are writing faster than allowed here. It goes on in {}.",
                span(wait)
            )
        }
        Refusal::RoomRate(wait) => {
            format!(
                "There are too many questions in this room. It goes on in {}.",
                span(wait)
            )
        }
        Refusal::Tokens => "Your tokens for today are used up. It goes on at 00:00 UTC.".into(),
        Refusal::SenderUsd => "Your budget for today is used up. It goes on at 00:00 UTC.".into(),
        Refusal::AllUsd => "The bot's budget for today is used up. It goes on at 00:00 UTC.".into(),
    }
}

/// Rounded up, in the largest unit that fits.
fn span(wait: Duration) -> String {
    let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    match secs.max(1) {
        secs @ ..120 => format!("{secs} s"),
        secs @ ..7200 => format!("{} min", secs.div_ceil(60)),
        secs => format!("{} h", secs.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_one_line_that_says_whether_to_try_again_and_has_its_id() {
        let failure = |error| {
            Reason::Model(Failure {
                model: "a/b".parse().unwrap(),
                error,
                partial: false,
                retry_after: None,
            })
        };
        let wait = Some(Duration::from_secs(30));
        let cases = [
            (failure(Error::RateLimited { retry_after: wait }), "in 30 s"),
            (
                failure(Error::Unavailable {
                    status: 503,
                    retry_after: None,
                }),
                "Try again",
            ),
            (failure(Error::TimedOut), "Try again"),
            (failure(Error::Network("dns".into())), "Try again"),
            (
                failure(Error::Unauthorized { status: 401 }),
                "will not help",
            ),
            (failure(Error::NoSuchModel("b".into())), "/model"),
            (failure(Error::ContextTooLong), "/new"),
            (failure(Error::ContentRefused), "will not help"),
            (failure(Error::NoCredit), "operator"),
            (
                failure(Error::Invalid {
                    status: 400,
                    message: "x\ny".into(),
                }),
                "will not help",
            ),
            (failure(Error::Protocol("x".into())), "Try again"),
            (Reason::Empty, "Try again"),
            (Reason::Declined, "will not help"),
            (Reason::TurnTimedOut(300), "300 seconds"),
            (Reason::Budget(Refusal::Tokens), "00:00 UTC"),
            (
                Reason::Budget(Refusal::SenderRate(Duration::from_millis(1500))),
                "in 2 s",
            ),
            (Reason::QueueFull(32), "32"),
            (Reason::Crowded, "Try again in a few minutes"),
            (Reason::Store(crate::storage::Error::Full), "disk is full"),
        ];
        for (reason, part) in cases {
            let (line, id) = line(&reason);
            assert!(line.contains(part), "{line}");
            assert!(line.ends_with(&format!("({id})")), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
