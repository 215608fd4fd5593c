//! An account that comes up a second time in one process, as after a reload that connects it anew.

use super::super::testing::{room_text, text};
use super::super::{Accepted, Event, Key, MOST_OPEN, UNANSWERED};
use super::stage::{Cue, Stage};

const ALICE: &str = "alice@example.com/phone";

#[tokio::test(start_paused = true)]
async fn what_runs_or_waits_when_its_account_comes_up_again_is_answered_once() {
    let stage = Stage::new();
    stage.script(&[Cue::Wait(1_000), Cue::Say("first")]);
    stage.script(&[Cue::Wait(1_000), Cue::Say("second")]);
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.send(text(ALICE, "2", "And?")).await;
    stage.pass(500).await;
    stage.conversations.resume("bot").await.unwrap();
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["first", "second"]);
    stage.conversations.resume("bot").await.unwrap();
    stage.pass(10_000).await;
    assert_eq!(stage.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_breaks_tells_whoever_waits() {
    let stage = Stage::new();
    stage.script(&[Cue::Hang]);
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(100).await;
    let key = Key::of(&text(ALICE, "1", "Hi"));
    stage.conversations.0.abandon(&key).await.unwrap();
    stage.pass(1_000).await;
    let screen = stage.screen();
    assert_eq!(screen.len(), 1, "{screen:?}");
    assert!(screen[0].contains("failed in the bot itself"), "{screen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_a_crash_took_along_is_told_of_once() {
    let stage = Stage::new();
    let [lost, answered] = ["1", "2"].map(|id| text(ALICE, id, "/ping"));
    for command in [&lost, &answered] {
        let seen = stage.conversations.begin_command(command).await;
        assert_eq!(seen.unwrap(), None);
    }
    let place = &answered.place;
    let said = stage
        .conversations
        .say("bot", place, "Pong", Some(&answered));
    said.await.unwrap();
    stage.pass(100).await;
    let stage = stage.kill().await.kill().await;
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["Pong", UNANSWERED]);
    assert!(stage.conversations.seen(&lost).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_the_archive_repeats_is_heard_once() {
    let stage = Stage::new();
    let line = room_text("romeo", "1", "good morning");
    let room = line.place.room().unwrap();
    stage.conversations.observe(&line);
    stage.conversations.observe(&line);
    stage
        .conversations
        .observe(&room_text("juliet", "2", "and to you"));
    assert_eq!(stage.conversations.0.overheard("bot", &room, 20).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn threads_without_number_are_refused_and_told_why() {
    let stage = Stage::new();
    for number in 0..MOST_OPEN {
        let mut inbound = text(ALICE, "1", "Hi");
        inbound.thread = Some(number.to_string());
        let key = Key::of(&inbound);
        let sender = Box::new(inbound.sender);
        let (reply, _) = tokio::sync::oneshot::channel();
        stage
            .conversations
            .0
            .deliver(&key, Event::Stop { sender, reply });
    }
    let new = text(ALICE, "new", "Hi");
    assert_eq!(stage.send(new).await, Accepted::Refused);
    stage.pass(100).await;
    assert!(stage.screen()[0].contains("Too many conversations"));
    stage.pass(6 * 60_000).await;
    let later = text(ALICE, "later", "Hi");
    assert_eq!(stage.send(later).await, Accepted::Queued);
}
