//! What `GET /metrics` counts; docs/configuration.md has the list. Labels are names of the configuration and of models, never
//! people.

use crate::llm::{ModelId, Usage};

/// How a turn ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Stopped,
    Failed,
    Withdrawn,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A message was accepted for a conversation.
pub(super) fn accepted(account: &str) {
    metrics::counter!("moltis_messages_accepted_total", "account" => account.to_owned())
        .increment(1);
}

/// The server has acknowledged a message of ours.
pub(super) fn delivered(account: &str) {
    metrics::counter!("moltis_messages_delivered_total", "account" => account.to_owned())
        .increment(1);
}

/// A turn has ended, `milliseconds` after its message came in.
pub(super) fn turn(account: &str, outcome: Outcome, milliseconds: i64) {
    let labels = [
        ("account", account.to_owned()),
        ("outcome", outcome.label().to_owned()),
    ];
    metrics::counter!("moltis_turns_total", &labels).increment(1);
    let milliseconds = u64::try_from(milliseconds).unwrap_or(0);
    metrics::counter!("moltis_turn_milliseconds_total", &labels).increment(milliseconds);
}

/// What a model has used.
pub(super) fn used(model: &ModelId, usage: &Usage) {
    for (kind, tokens) in [
        ("input", usage.input),
        ("output", usage.output),
        ("cache_read", usage.cache_read),
        ("cache_write", usage.cache_write),
    ] {
        let labels = [("model", model.to_string()), ("kind", kind.to_owned())];
        metrics::counter!("moltis_tokens_total", &labels).increment(tokens);
    }
}
