//! Every accepted message ends in exactly one of an answer, an error line, "stopped" or a refusal; and life shows meanwhile.

use xmpp_parsers::message::Message;

use super::super::testing::{body, chat_state, payload, replaces, text};
use super::super::{Accepted, MOST_WAITING};
use super::stage::{Cue, Stage, bot, config};
use crate::gateway::Inbound;
use crate::llm::{Error, Finish};

const ALICE: &str = "alice@example.com/phone";

#[tokio::test(start_paused = true)]
async fn a_message_is_answered_once_with_signs_of_life_before() {
    let stage = Stage::new();
    stage.script(&[Cue::Wait(5_000), Cue::Say("Hello, Alice")]);
    let mut inbound = text(ALICE, "1", "Hi");
    inbound.markable = true;
    inbound.wants_receipt = true;
    assert_eq!(stage.send(inbound).await, Accepted::Queued);
    stage.pass(900).await;
    let sent = stage.wire.sent();
    assert!(
        sent.iter()
            .any(|m| payload(m, "displayed", "urn:xmpp:chat-markers:0").is_some())
    );
    let receipt = sent
        .iter()
        .find(|m| payload(m, "received", "urn:xmpp:receipts").is_some());
    assert_eq!(receipt.unwrap().to.as_ref().unwrap().to_string(), ALICE);
    assert!(sent.iter().any(|m| chat_state(m) == Some("composing")));
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["Hello, Alice"]);
    let sent = stage.wire.sent();
    let last_state = sent.iter().filter_map(chat_state).next_back();
    assert_eq!(last_state, Some("active"));
    assert_eq!(
        sent.last().unwrap().to.as_ref().unwrap().to_string(),
        "alice@example.com"
    );
}

#[tokio::test(start_paused = true)]
async fn a_command_is_received_too_and_once() {
    let stage = Stage::new();
    let command = Inbound {
        wants_receipt: true,
        markable: true,
        ..text(ALICE, "1", "/export")
    };
    for _ in 0..2 {
        stage.conversations.begin_command(&command).await.unwrap();
    }
    stage.pass(1_000).await;
    let sent = stage.wire.sent();
    for (name, namespace) in [
        ("displayed", "urn:xmpp:chat-markers:0"),
        ("received", "urn:xmpp:receipts"),
    ] {
        let told = |m: &&Message| payload(m, name, namespace).is_some();
        assert_eq!(sent.iter().filter(told).count(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_a_model_fails_is_one_line_and_composing_is_taken_back() {
    let cases: [(&str, &[Cue], &str); 8] = [
        (
            "at once",
            &[Cue::Fail(Error::TimedOut)],
            "did not answer in time",
        ),
        ("without a text", &[], "ended without an answer"),
        ("blank", &[Cue::Say(" \n ")], "ended without an answer"),
        ("refusal", &[Cue::Finish(Finish::Refused)], "declined"),
        ("a tool", &[Cue::Finish(Finish::ToolCall)], "tool"),
        ("hang", &[Cue::Hang], "within 60 seconds"),
        ("panic", &[Cue::Panic], "failed in the bot itself"),
        (
            "half",
            &[
                Cue::Say("Half of"),
                Cue::Wait(500),
                Cue::Fail(Error::Network("x".into())),
            ],
            "Half of\n\n⚠",
        ),
    ];
    for (name, script, part) in cases {
        let stage = Stage::new();
        stage.script(script);
        stage.send(text(ALICE, "1", "Hi")).await;
        stage.pass(120_000).await;
        let screen = stage.screen();
        assert_eq!(screen.len(), 1, "{name}: {screen:?}");
        assert!(screen[0].contains(part), "{name}: {screen:?}");
        let sent = stage.wire.sent();
        assert_eq!(
            sent.iter().filter_map(chat_state).next_back(),
            Some("active"),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_dropped_and_not_answered() {
    let stage = Stage::new();
    let inbound = text(ALICE, "1", "Hi");
    assert_eq!(stage.send(inbound.clone()).await, Accepted::Queued);
    assert!(matches!(stage.send(inbound).await, Accepted::Dropped(_)));
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_growing_text_is_one_message_and_only_its_last_step_is_stored() {
    let stage = Stage::new();
    stage.script(&[
        Cue::Say("One "),
        Cue::Wait(150),
        Cue::Say("two "),
        Cue::Wait(150),
        Cue::Say("three"),
    ]);
    stage.send(text(ALICE, "1", "Count")).await;
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["One two three"]);
    let texts = stage.wire.texts();
    let first = texts[0].id.clone().unwrap().0;
    let (last, steps) = texts.split_last().unwrap();
    assert!(steps.len() >= 2, "{texts:?}");
    for step in steps {
        assert!(payload(step, "no-store", "urn:xmpp:hints").is_some());
        assert!(payload(step, "no-copy", "urn:xmpp:hints").is_some());
    }
    assert!(payload(last, "store", "urn:xmpp:hints").is_some());
    assert!(texts[1..].iter().all(|m| replaces(m) == Some(&first)));
    let mut ids: Vec<_> = texts.iter().map(|m| m.id.clone().unwrap().0).collect();
    ids.dedup();
    assert_eq!(ids.len(), texts.len(), "each step has an id of its own");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_corrections_gets_the_answer_whole() {
    let stage = Stage::new();
    stage.wire.set_supports("urn:xmpp:message-correct:0", false);
    stage.script(&[Cue::Say("One "), Cue::Wait(500), Cue::Say("two")]);
    stage.send(text(ALICE, "1", "Count")).await;
    stage.pass(10_000).await;
    let texts = stage.wire.texts();
    assert_eq!(
        texts.iter().filter_map(body).collect::<Vec<_>>(),
        ["One two"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_the_limit_is_several_messages_in_order() {
    let mut config = config();
    bot(&mut config).text_chunk_limit = 120;
    let stage = Stage::with(config);
    stage.script(&[
        Cue::Say(
            "The first paragraph is here, and it is long enough to fill most of a message of its own, or so one hopes.\n\n",
        ),
        Cue::Wait(300),
        Cue::Say("The second paragraph is here.\n\nThe third one."),
    ]);
    stage.send(text(ALICE, "1", "Write")).await;
    stage.pass(10_000).await;
    let screen = stage.screen();
    assert!(screen.len() >= 2, "{screen:?}");
    assert!(
        screen[0].contains("first") && screen.last().unwrap().contains("third"),
        "{screen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_the_newest_and_says_so() {
    let stage = Stage::new();
    stage.script(&[Cue::Wait(10_000), Cue::Say("at last")]);
    let mut refused = 0;
    for n in 0..MOST_WAITING + 5 {
        let accepted = stage.send(text(ALICE, &n.to_string(), "Hi")).await;
        refused += usize::from(accepted == Accepted::Refused);
        stage.pass(1).await;
    }
    assert!((3..=5).contains(&refused), "{refused}");
    stage.pass(60_000).await;
    let screen = stage.screen();
    let lines = screen
        .iter()
        .filter(|line| line.contains("was not taken"))
        .count();
    assert_eq!(lines, refused);
    assert_eq!(
        screen.len(),
        MOST_WAITING + 5,
        "each message has its one end"
    );
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_used_up_is_one_line_that_says_when_it_goes_on() {
    let mut config = config();
    config.budget.tokens_per_jid_per_day = 10;
    let stage = Stage::with(config);
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(1_000).await;
    stage.send(text(ALICE, "2", "Hi again")).await;
    stage.pass(1_000).await;
    let screen = stage.screen();
    assert_eq!(screen.len(), 2);
    assert!(screen[1].contains("00:00 UTC"), "{screen:?}");
    assert_eq!(stage.asked().len(), 1, "the model was not asked again");
    let rows = stage
        .conversations
        .usage(Some("alice@example.com"), 1)
        .await
        .unwrap();
    assert_eq!(
        (rows.len(), rows[0].turns, rows[0].tokens.input),
        (1, 1, 10)
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_model_says_is_data() {
    let stage = Stage::new();
    stage.script(&[Cue::Say(
        "/me \u{202e}evil\u{0} \u{e0041}\u{feff}text \u{1b}[31m",
    )]);
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(1_000).await;
    let screen = stage.screen();
    assert!(screen[0].starts_with(' '), "{screen:?}");
    assert_eq!(screen[0].trim(), "/me evil text [31m");
}

#[tokio::test(start_paused = true)]
async fn when_the_process_ends_a_running_turn_is_told_to_have_stopped_with_what_there_is() {
    let stage = Stage::new();
    stage.script(&[Cue::Say("As far as I"), Cue::Wait(1_000), Cue::Hang]);
    stage.send(text(ALICE, "1", "Hi")).await;
    stage.pass(500).await;
    stage.send(text(ALICE, "2", "And?")).await;
    stage.pass(500).await;
    stage.supervisor.shut_down().await;
    assert_eq!(stage.screen(), ["As far as I\n\n(stopped)"]);
    // What waited is put off: it is answered by the next life.
    let stage = stage.kill().await;
    stage.pass(10_000).await;
    assert_eq!(stage.screen(), ["As far as I\n\n(stopped)", "ok"]);
}
