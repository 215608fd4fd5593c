//! Queue modes, places among the turns, and messages from the time when the bot was away.

use super::super::testing::text;
use super::stage::{Cue, Stage, config};
use crate::config::QueueMode;
use crate::gateway::Inbound;

const ALICE: &str = "alice@example.com/phone";
const HOUR: i64 = 3_600_000;

async fn three_messages(mode: QueueMode) -> Stage {
    let mut config = config();
    config.chat.message_queue_mode = mode;
    let stage = Stage::with(config);
    stage.script(&[Cue::Say("one"), Cue::Wait(5_000), Cue::Say(" and done")]);
    for (id, body) in [("1", "first"), ("2", "second"), ("3", "third")] {
        stage.send(text(ALICE, id, body)).await;
        stage.pass(1_000).await;
    }
    stage.pass(30_000).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn followup_answers_one_after_the_other() {
    let stage = three_messages(QueueMode::Followup).await;
    assert_eq!(stage.screen(), ["one and done", "ok", "ok"]);
    assert_eq!(stage.last_question(), "third");
}

#[tokio::test(start_paused = true)]
async fn collect_joins_what_came_in() {
    let stage = three_messages(QueueMode::Collect).await;
    assert_eq!(stage.screen(), ["one and done", "ok"]);
    assert_eq!(stage.last_question(), "second\nthird");
}

#[tokio::test(start_paused = true)]
async fn interrupt_goes_on_with_the_new_text_in_the_same_message() {
    let stage = three_messages(QueueMode::Interrupt).await;
    assert_eq!(stage.screen(), ["ok", "ok"]);
    assert_eq!(stage.asked().len(), 3);
    let second = format!("{:?}", stage.asked()[1].messages);
    assert!(
        second.contains("first") && second.contains("second"),
        "{second}"
    );
}

fn from_the_archive(id: &str, hours: i64) -> Inbound {
    let inbound = text(ALICE, id, &format!("from {hours} hours ago"));
    Inbound {
        catch_up: true,
        delayed: Some(inbound.at - hours * HOUR),
        ..inbound
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_hours_ago_is_one_turn_with_a_note_and_what_is_recent_its_own() {
    let stage = Stage::new();
    for (id, hours) in [("1", 9), ("2", 5), ("3", 3)] {
        stage.send(from_the_archive(id, hours)).await;
        stage.pass(300).await;
    }
    stage.send(from_the_archive("4", 0)).await;
    stage.pass(30_000).await;
    assert_eq!(stage.screen(), ["ok", "ok"]);
    let first = format!("{:?}", stage.asked()[0].messages);
    assert!(
        first.contains("These 3 messages came while you were away"),
        "{first}"
    );
    assert_eq!(stage.last_question(), "from 0 hours ago");
}

#[tokio::test(start_paused = true)]
async fn no_more_turns_run_than_allowed_and_the_first_come_is_the_first_served() {
    let mut config = config();
    config.chat.max_concurrent_turns = 1;
    let stage = Stage::with(config);
    for answer in ["a", "b", "c"] {
        stage.script(&[Cue::Wait(1_000), Cue::Say(answer)]);
    }
    for name in ["a", "b", "c"] {
        stage
            .send(text(&format!("{name}@example.com/x"), "1", name))
            .await;
        stage.pass(10).await;
    }
    stage.pass(500).await;
    assert_eq!(stage.asked().len(), 1);
    let load = stage.conversations.load();
    assert_eq!((load.open, load.running), (3, 3));
    stage.pass(30_000).await;
    let answers: Vec<_> = stage
        .wire
        .texts()
        .iter()
        .map(|m| m.to.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(answers, ["a@example.com", "b@example.com", "c@example.com"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_conversation_leaves_memory_and_comes_back_with_its_history() {
    let stage = Stage::new();
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(5_000).await;
    assert_eq!(stage.conversations.load().open, 1);
    stage.pass(600_000).await;
    assert_eq!(stage.conversations.load().open, 0);
    stage.send(text(ALICE, "2", "Again")).await;
    stage.pass(5_000).await;
    assert_eq!(stage.asked()[1].messages.len(), 3);
}

#[tokio::test]
async fn an_idle_conversation_is_small() {
    let stage = Stage::new();
    let size = stage.conversations.idle_size();
    assert!(size < 3 * 1024, "{size} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_conversations_at_once_are_all_answered_once() {
    let stage = Stage::new();
    for n in 0..1_000 {
        let from = format!("p{n}@example.com/x");
        stage.send(text(&from, "1", "Hi")).await;
    }
    stage.pass(10_000).await;
    let mut answered: Vec<_> = stage
        .wire
        .texts()
        .iter()
        .map(|m| m.to.as_ref().unwrap().to_string())
        .collect();
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), 1_000);
    assert_eq!(stage.screen(), vec!["ok"; 1_000]);
    assert_eq!(stage.conversations.load().running, 0);
}
