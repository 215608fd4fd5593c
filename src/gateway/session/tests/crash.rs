//! kill -9 before, during and after a turn: exactly one answer each.

use super::super::testing::{replaces, text};
use super::stage::{Cue, Stage, screen};

const ALICE: &str = "alice@example.com/phone";

#[tokio::test(start_paused = true)]
async fn killed_before_anything_was_shown_the_message_is_answered_by_the_next_life() {
    let stage = Stage::new();
    stage.script(&[Cue::Hang]);
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(500).await;
    let stage = stage.kill().await;
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["ok"]);
    assert!(
        stage.wire.texts().iter().all(|m| replaces(m).is_none()),
        "nothing was there to correct"
    );
    let stage = stage.kill().await;
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["ok"], "and not again");
}

#[tokio::test(start_paused = true)]
async fn killed_while_the_text_grew_the_same_message_is_corrected() {
    let stage = Stage::new();
    stage.script(&[
        Cue::Say("Once upon"),
        Cue::Wait(500),
        Cue::Say(" a time"),
        Cue::Hang,
    ]);
    stage.send(text(ALICE, "1", "Tell")).await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["Once upon a time"]);
    stage.script(&[
        Cue::Say("Another story"),
        Cue::Wait(500),
        Cue::Say(", whole."),
    ]);
    let stage = stage.kill().await;
    stage.pass(10_000).await;
    assert_eq!(
        stage.screen(),
        ["Another story, whole."],
        "the message that was there has become the answer"
    );
}

#[tokio::test(start_paused = true)]
async fn killed_twice_while_the_text_grew_it_is_still_one_message() {
    let mut stage = Stage::new();
    stage.script(&[Cue::Say("First try"), Cue::Hang]);
    stage.script(&[Cue::Say("Second try"), Cue::Hang]);
    stage.send(text(ALICE, "1", "Tell")).await;
    for _ in 0..2 {
        stage.pass(5_000).await;
        stage = stage.kill().await;
    }
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["ok"]);
}

#[tokio::test(start_paused = true)]
async fn killed_after_the_turn_the_answer_is_sent_again_only_if_it_did_not_arrive() {
    for (name, arrived) in [("arrived", true), ("lost", false)] {
        let stage = Stage::new();
        stage.wire.hold();
        stage.send(text(ALICE, "1", "Hi")).await;
        stage.pass(5_000).await;
        let answer = stage.wire.texts().pop().unwrap();
        let id = answer.id.clone().unwrap().0;
        if arrived {
            stage.wire.set_archive(&[&id]);
        } else {
            stage.wire.set_archive(&["an earlier one"]);
        }
        let before = stage.wire.texts().len();
        let stage = stage.kill().await;
        stage.pass(5_000).await;
        let again = stage.wire.texts().split_off(before);
        assert_eq!(again.len(), usize::from(!arrived), "{name}");
        assert_eq!(screen(&stage.wire.texts()).last().unwrap(), "ok", "{name}");
        assert_eq!(
            stage.asked().len(),
            1,
            "{name}: the model is not asked again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn killed_after_the_turn_without_an_archive_no_client_shows_the_answer_twice() {
    let stage = Stage::new();
    stage.wire.hold();
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(5_000).await;
    let stage = stage.kill().await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["ok"]);
}

#[tokio::test(start_paused = true)]
async fn what_waited_in_the_queue_is_answered_in_order_after_a_crash() {
    let stage = Stage::new();
    stage.script(&[Cue::Hang]);
    for n in 1..=3 {
        stage.send(text(ALICE, &n.to_string(), "Hi")).await;
    }
    stage.pass(1_000).await;
    let stage = stage.kill().await;
    for answer in ["one", "two", "three"] {
        stage.script(&[Cue::Wait(1), Cue::Say(answer)]);
    }
    stage.pass(30_000).await;
    assert_eq!(stage.screen(), ["one", "two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_from_the_archive_after_a_crash_is_known() {
    let stage = Stage::new();
    let inbound = text(ALICE, "1", "Hi");
    stage.send(inbound.clone()).await;
    stage.pass(5_000).await;
    let stage = stage.kill().await;
    let mut again = inbound;
    again.catch_up = true;
    again.ids.stanza_id = Some("archived".into());
    stage.send(again).await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["ok"]);
}

#[tokio::test(start_paused = true)]
async fn while_the_account_is_offline_the_answer_waits_and_is_then_one_whole_message() {
    let stage = Stage::new();
    stage.script(&[
        Cue::Wait(1_000),
        Cue::Say("An answer"),
        Cue::Wait(1_000),
        Cue::Say(" in two"),
    ]);
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(500).await;
    stage.wire.set_offline(true);
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), Vec::<String>::new());
    stage.wire.set_offline(false);
    stage.pass(2_000).await;
    assert_eq!(stage.screen(), ["An answer in two"]);
    assert_eq!(stage.wire.texts().len(), 1);
}
