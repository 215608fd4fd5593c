//! `[chat]`, `[failover]` and `[budget]`: which model answers, how, and for how much.

use std::collections::BTreeSet;

use super::{built_in_or_file, known_model};
use crate::config::section::Section;
use crate::config::tree::Origin;
use crate::config::{Budget, Chat, Compaction, CompactionMode, Failover, QueueMode};

pub(super) fn chat(
    root: &mut Section<'_>,
    names: &BTreeSet<String>,
    model: &str,
    origin: &Origin,
) -> Chat {
    let default = Chat::default();
    let mut section = root.section("chat");
    if model.is_empty() && section.written("model").is_none() {
        let message = "is needed, as the provider lists no models: model = \"<provider>/<model>\"";
        section.fault("model", origin, message);
    }
    let chat = Chat {
        model: section.checked("model", model, |text| known_model(text, names)),
        system_prompt_file: built_in_or_file(
            &mut section,
            "system_prompt_file",
            &default.system_prompt_file,
        ),
        message_queue_mode: section.word(
            "message_queue_mode",
            default.message_queue_mode,
            &[
                ("followup", QueueMode::Followup),
                ("collect", QueueMode::Collect),
                ("interrupt", QueueMode::Interrupt),
            ],
        ),
        context_window: section.integer("context_window", default.context_window, 0..=100_000_000),
        max_output_tokens: section.integer(
            "max_output_tokens",
            default.max_output_tokens,
            1..=10_000_000,
        ),
        temperature: section.float_or_unset("temperature", 0.0..=2.0),
        turn_timeout_secs: section.integer(
            "turn_timeout_secs",
            default.turn_timeout_secs,
            1..=86_400,
        ),
        max_concurrent_turns: section.integer(
            "max_concurrent_turns",
            default.max_concurrent_turns,
            1..=10_000,
        ),
        history_retention_days: section.integer(
            "history_retention_days",
            default.history_retention_days,
            0..=36_500,
        ),
        compaction: compaction(&mut section, names),
    };
    section.finish();
    chat
}

fn compaction(chat: &mut Section<'_>, names: &BTreeSet<String>) -> Compaction {
    let default = Compaction::default();
    let mut section = chat.section("compaction");
    let compaction = Compaction {
        mode: section.word(
            "mode",
            default.mode,
            &[
                ("off", CompactionMode::Off),
                ("deterministic", CompactionMode::Deterministic),
                ("recency_preserving", CompactionMode::RecencyPreserving),
                ("llm_replace", CompactionMode::LlmReplace),
            ],
        ),
        threshold_percent: section.float("threshold_percent", default.threshold_percent, 0.1..=1.0),
        protect_tail_min: section.integer("protect_tail_min", default.protect_tail_min, 0..=10_000),
        summary_model: section.checked("summary_model", "", |text| {
            if text.is_empty() {
                return Ok(());
            }
            known_model(text, names)
        }),
    };
    section.finish();
    compaction
}

pub(super) fn failover(root: &mut Section<'_>, names: &BTreeSet<String>) -> Failover {
    let mut section = root.section("failover");
    let failover = Failover {
        fallback_models: section.list("fallback_models", &[], |text| {
            known_model(text, names).map(|()| text.to_owned())
        }),
        cooldown_secs: section.integer(
            "cooldown_secs",
            Failover::default().cooldown_secs,
            0..=86_400,
        ),
    };
    section.finish();
    failover
}

pub(super) fn budget(root: &mut Section<'_>) -> Budget {
    let default = Budget::default();
    let mut section = root.section("budget");
    let budget = Budget {
        usd_per_day: section.float("usd_per_day", default.usd_per_day, 0.0..=f64::INFINITY),
        usd_per_jid_per_day: section.float(
            "usd_per_jid_per_day",
            default.usd_per_jid_per_day,
            0.0..=f64::INFINITY,
        ),
        tokens_per_jid_per_day: section.integer(
            "tokens_per_jid_per_day",
            default.tokens_per_jid_per_day,
            0..=1_000_000_000_000,
        ),
        turns_per_jid_per_minute: section.integer(
            "turns_per_jid_per_minute",
            default.turns_per_jid_per_minute,
            0..=100_000,
        ),
        turns_per_room_per_minute: section.integer(
            "turns_per_room_per_minute",
            default.turns_per_room_per_minute,
            0..=100_000,
        ),
    };
    section.finish();
    budget
}
