//! What persons do to their own messages and to our answers: correct, retract, react, stop, and the commands of a session.

use super::super::Accepted;
use super::super::testing::{payload, replaces, text};
use super::stage::{Cue, Stage, config};
use crate::config::CompactionMode;
use crate::gateway::{Inbound, Kind};
use crate::llm::{Content, Error};

const ALICE: &str = "alice@example.com/phone";
const MALLORY: &str = "mallory@example.com/x";

fn correction(from: &str, id: &str, replaces: &str, body: &str) -> Inbound {
    Inbound {
        kind: Kind::Correction {
            replaces: replaces.into(),
        },
        ..text(from, id, body)
    }
}

fn retraction(id: &str, of: &str) -> Inbound {
    Inbound {
        kind: Kind::Retraction {
            of: of.into(),
            moderated: false,
        },
        ..text(ALICE, id, "")
    }
}

fn reaction(id: &str, to: &str, emojis: &[&str]) -> Inbound {
    let emojis = emojis.iter().map(ToString::to_string).collect();
    Inbound {
        kind: Kind::Reactions {
            to: to.into(),
            emojis,
        },
        ..text(ALICE, id, "")
    }
}

fn first_id(stage: &Stage) -> String {
    stage.wire.texts()[0].id.clone().unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_correction_of_the_last_message_corrects_the_answer_in_place() {
    let stage = Stage::new();
    stage.script(&[Cue::Say("About cats")]);
    stage.script(&[Cue::Say("About bats")]);
    stage.script(&[Cue::Say("About rats")]);
    stage.send(text(ALICE, "1", "Tell me about cats")).await;
    stage.pass(5_000).await;
    assert_eq!(
        stage
            .send(correction(ALICE, "2", "1", "Tell me about bats"))
            .await,
        Accepted::Queued
    );
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["About bats"]);
    assert_eq!(stage.last_question(), "Tell me about bats");
    assert_eq!(
        stage.asked()[1].messages.len(),
        1,
        "the first version is forgotten"
    );
    // Corrections always refer to the first version's id (XEP-0308, 3).
    stage
        .send(correction(ALICE, "3", "1", "Tell me about rats"))
        .await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["About rats"]);
}

#[tokio::test(start_paused = true)]
async fn a_correction_while_the_turn_runs_runs_it_again() {
    let stage = Stage::new();
    stage.script(&[Cue::Say("About cats"), Cue::Hang]);
    stage.script(&[Cue::Say("About bats")]);
    stage.send(text(ALICE, "1", "Tell me about cats")).await;
    stage.pass(5_000).await;
    stage
        .send(correction(ALICE, "2", "1", "Tell me about bats"))
        .await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["About bats"]);
}

#[tokio::test(start_paused = true)]
async fn a_correction_of_a_waiting_message_changes_its_text() {
    let stage = Stage::new();
    stage.script(&[Cue::Wait(5_000), Cue::Say("one")]);
    stage.send(text(ALICE, "1", "first")).await;
    stage.send(text(ALICE, "2", "secnod")).await;
    stage.send(correction(ALICE, "3", "2", "second")).await;
    stage.pass(30_000).await;
    assert_eq!(stage.screen(), ["one", "ok"]);
    assert_eq!(stage.last_question(), "second");
}

#[tokio::test(start_paused = true)]
async fn a_correction_of_nothing_of_the_sender_s_is_unrelated() {
    let stage = Stage::new();
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(5_000).await;
    assert_eq!(
        stage.send(correction(ALICE, "2", "other", "x")).await,
        Accepted::Unrelated
    );
    assert_eq!(
        stage.send(correction(MALLORY, "3", "1", "x")).await,
        Accepted::Unrelated
    );
    stage.pass(5_000).await;
    assert_eq!(stage.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_correction_survives_a_crash() {
    let stage = Stage::new();
    stage.script(&[Cue::Say("About cats")]);
    stage.script(&[Cue::Hang]);
    stage.send(text(ALICE, "1", "Tell me about cats")).await;
    stage.pass(5_000).await;
    stage
        .send(correction(ALICE, "2", "1", "Tell me about bats"))
        .await;
    stage.pass(1_000).await;
    let stage = stage.kill().await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["ok"], "the old answer was corrected");
}

#[tokio::test(start_paused = true)]
async fn a_retraction_stops_the_turn_and_drops_the_text() {
    let stage = Stage::new();
    stage.script(&[Cue::Say("Well,"), Cue::Hang]);
    stage.send(text(ALICE, "1", "My password is hunter2")).await;
    stage.pass(5_000).await;
    stage.send(retraction("2", "1")).await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["(taken back)"]);
    stage.send(text(ALICE, "3", "And now?")).await;
    stage.pass(5_000).await;
    assert_eq!(stage.asked()[1].messages.len(), 1, "nothing of it is left");
}

#[tokio::test(start_paused = true)]
async fn a_retraction_of_an_answered_message_drops_it_from_the_history() {
    let stage = Stage::new();
    stage.send(text(ALICE, "1", "My password is hunter2")).await;
    stage.pass(5_000).await;
    let mut by_mallory = retraction("x", "1");
    by_mallory.sender = text(MALLORY, "x", "").sender;
    stage.send(by_mallory).await;
    stage.pass(1_000).await;
    stage.send(text(ALICE, "2", "Hm")).await;
    stage.pass(5_000).await;
    assert_eq!(
        stage.asked()[1].messages.len(),
        3,
        "another's retraction does nothing"
    );
    stage.send(retraction("3", "1")).await;
    stage.send(text(ALICE, "4", "And now?")).await;
    stage.pass(5_000).await;
    let texts = format!("{:?}", stage.asked()[2].messages);
    assert!(!texts.contains("hunter2"), "{texts}");
}

#[tokio::test(start_paused = true)]
async fn reactions_of_the_asker_ask_again_and_forget_once_each() {
    let stage = Stage::new();
    stage.script(&[Cue::Say("first")]);
    stage.script(&[Cue::Say("second")]);
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(5_000).await;
    let id = first_id(&stage);
    stage.send(reaction("2", &id, &["👍"])).await;
    stage.send(reaction("3", &id, &["👍", "🔁"])).await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["second"]);
    let mut by_mallory = reaction("4", &id, &["🔁"]);
    by_mallory.sender = text(MALLORY, "4", "").sender;
    assert!(matches!(stage.send(by_mallory).await, Accepted::Dropped(_)));
    stage.send(reaction("5", &id, &["🗑️"])).await;
    stage.pass(5_000).await;
    assert_eq!(stage.screen(), ["(forgotten)"]);
    let by_its_last_id = stage.wire.texts().last().unwrap().id.clone().unwrap().0;
    let place = text(ALICE, "6", "").place;
    assert!(
        stage
            .conversations
            .is_own("bot", &place, &by_its_last_id)
            .await
            .unwrap()
    );
    stage.send(text(ALICE, "6", "What did I say?")).await;
    stage.pass(5_000).await;
    assert_eq!(stage.asked().last().unwrap().messages.len(), 1);
    assert_eq!(stage.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_turn_and_what_waits_with_one_word_each_way() {
    let stage = Stage::new();
    stage.script(&[Cue::Say("A long story"), Cue::Hang]);
    let inbound = text(ALICE, "1", "Tell");
    stage.send(inbound.clone()).await;
    stage.pass(1_000).await;
    stage.send(text(ALICE, "2", "And more")).await;
    stage.pass(1_000).await;
    let chat = stage.conversations.chat(&inbound);
    assert_eq!(chat.queue(), (true, 1));
    assert!(chat.stop(&inbound).await);
    stage.pass(1_000).await;
    assert_eq!(stage.screen(), ["A long story\n\n(stopped)"]);
    assert!(!chat.stop(&inbound).await);
    assert_eq!(chat.queue(), (false, 0));
}

#[tokio::test(start_paused = true)]
async fn retry_answers_the_last_question_in_a_new_message_also_after_an_error() {
    let stage = Stage::new();
    stage.script(&[Cue::Fail(Error::TimedOut)]);
    stage.script(&[Cue::Say("now it works")]);
    let inbound = text(ALICE, "1", "Hi");
    let chat = stage.conversations.chat(&inbound);
    assert!(!chat.retry().await, "there is nothing yet");
    stage.send(inbound).await;
    stage.pass(5_000).await;
    assert!(chat.retry().await);
    stage.pass(5_000).await;
    let screen = stage.screen();
    assert_eq!(screen.len(), 2);
    assert_eq!(screen[1], "now it works");
    assert_eq!(stage.asked()[1].messages.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_left_and_found_again() {
    let stage = Stage::new();
    let inbound = text(ALICE, "1", "The first line\nand more");
    let chat = stage.conversations.chat(&inbound);
    stage.send(inbound.clone()).await;
    stage.pass(5_000).await;
    assert_eq!(chat.title().await.unwrap(), "The first line");
    chat.new_session(Some("Other")).await.unwrap();
    stage.send(text(ALICE, "2", "Hello")).await;
    stage.pass(5_000).await;
    assert_eq!(
        stage.asked()[1].messages.len(),
        1,
        "a new session begins with nothing"
    );
    assert_eq!(chat.undo().await.unwrap().as_deref(), Some("Hello"));
    assert_eq!(chat.undo().await.unwrap(), None);
    let titles: Vec<_> = chat
        .sessions()
        .await
        .unwrap()
        .into_iter()
        .map(|s| (s.title, s.current))
        .collect();
    assert_eq!(titles.len(), 2);
    assert!(titles.contains(&("Other".to_owned(), true)));
    let number = titles
        .iter()
        .position(|(title, _)| title == "The first line")
        .unwrap()
        + 1;
    assert!(chat.switch(number).await.unwrap().unwrap().current);
    assert_eq!(chat.switch(9).await.unwrap(), None);
    let fork = chat.fork(None).await.unwrap();
    assert_eq!(fork.title, "The first line");
    stage.send(text(ALICE, "3", "Go on")).await;
    stage.pass(5_000).await;
    assert_eq!(
        stage.asked()[2].messages.len(),
        3,
        "a fork begins with a copy"
    );
    let markdown = chat.export().await.unwrap();
    assert!(
        markdown.starts_with("# The first line\n") && markdown.contains("Go on"),
        "{markdown}"
    );
    assert_eq!(chat.clear().await.unwrap(), 4);
    assert_eq!(chat.context(&inbound).await.unwrap().messages, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_chat_has_set_is_what_its_turns_use() {
    let stage = Stage::new();
    let inbound = text(ALICE, "1", "Hi");
    let chat = stage.conversations.chat(&inbound);
    chat.set_system(Some("Answer in rhymes.")).await.unwrap();
    stage.send(inbound.clone()).await;
    stage.pass(5_000).await;
    assert!(stage.asked()[0].system.contains("Answer in rhymes."));
    chat.set_model(Some(&"gone/model".parse().unwrap()))
        .await
        .unwrap();
    stage.send(text(ALICE, "2", "Hi")).await;
    stage.pass(5_000).await;
    let screen = stage.screen();
    assert!(
        screen[1].contains("gone/model") && screen[1].contains("/model"),
        "{screen:?}"
    );
    chat.set_model(None).await.unwrap();
    chat.set_system(None).await.unwrap();
    assert_eq!(
        chat.model(&inbound).await.unwrap().0.to_string(),
        "fake/model"
    );
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_the_model_finds_too_long_is_compacted_and_asked_once_more() {
    for mode in [
        CompactionMode::Deterministic,
        CompactionMode::RecencyPreserving,
        CompactionMode::LlmReplace,
    ] {
        let mut config = config();
        config.chat.compaction.mode = mode;
        config.chat.compaction.summary_model = "fake/model".into();
        let stage = Stage::with(config);
        for n in 0..4 {
            stage
                .send(text(ALICE, &format!("q{n}"), &format!("Question {n}")))
                .await;
            stage.pass(5_000).await;
        }
        stage.script(&[Cue::Fail(Error::ContextTooLong)]);
        if mode == CompactionMode::LlmReplace {
            stage.script(&[Cue::Say("They counted.")]);
        }
        stage.send(text(ALICE, "last", "And?")).await;
        stage.pass(5_000).await;
        assert_eq!(stage.screen().last().unwrap(), "ok", "{mode:?}");
        let asked = stage.asked();
        let last = asked.last().unwrap();
        assert!(last.messages.len() < 9, "{mode:?}: {}", last.messages.len());
        let Content::Text(first) = &last.messages[0].content[0] else {
            panic!()
        };
        assert!(
            first.starts_with("[What was said earlier"),
            "{mode:?}: {first}"
        );
        if mode == CompactionMode::LlmReplace {
            assert!(first.contains("They counted."));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_compacted_before_its_window_is_full() {
    let mut config = config();
    config.chat.compaction.mode = CompactionMode::Deterministic;
    config.chat.context_window = 2_000;
    let stage = Stage::with(config);
    for n in 0..12 {
        stage
            .send(text(ALICE, &format!("q{n}"), &"word ".repeat(200)))
            .await;
        stage.pass(5_000).await;
    }
    let sizes: Vec<_> = stage
        .asked()
        .iter()
        .map(|request| request.messages.len())
        .collect();
    assert!(sizes.iter().all(|size| *size < 16), "{sizes:?}");
    assert_eq!(stage.screen().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_s_last_message_says_active_and_all_carry_the_thread() {
    let stage = Stage::new();
    let mut inbound = text(ALICE, "1", "Hi");
    inbound.thread = Some("t1".into());
    stage.send(inbound).await;
    stage.pass(5_000).await;
    let answer = stage.wire.texts().pop().unwrap();
    assert_eq!(answer.thread.as_ref().unwrap().id, "t1");
    assert!(payload(&answer, "active", "http://jabber.org/protocol/chatstates").is_some());
    // Another thread is another conversation.
    stage.send(text(ALICE, "2", "Hi")).await;
    stage.pass(5_000).await;
    assert_eq!(stage.asked()[1].messages.len(), 1);
    assert_eq!(replaces(stage.wire.texts().last().unwrap()), None);
}
