//! Rooms: whom an answer is for, what the model overhears, and that nothing private is said there.

use super::super::testing::{body, payload, room_text, text};
use super::stage::{Cue, Stage, bot, config};
use crate::gateway::{Inbound, Kind, Place};

#[tokio::test(start_paused = true)]
async fn two_people_in_a_room_each_get_an_answer_that_refers_to_their_message() {
    let stage = Stage::new();
    stage.script(&[Cue::Wait(1_000), Cue::Say("for Alice")]);
    stage.script(&[Cue::Wait(1_000), Cue::Say("for Bob")]);
    stage.send(room_text("alice", "1", "What is one?")).await;
    stage.send(room_text("bob", "2", "What is two?")).await;
    stage.pass(30_000).await;
    let texts = stage.wire.texts();
    let answers: Vec<_> = texts
        .iter()
        .map(|m| {
            let reply = payload(m, "reply", "urn:xmpp:reply:0").unwrap();
            (reply.attr("id").unwrap(), body(m).unwrap())
        })
        .collect();
    assert_eq!(
        answers,
        [
            ("room-1", "> What is one?\nfor Alice"),
            ("room-2", "> What is two?\nfor Bob")
        ]
    );
    assert!(
        texts
            .iter()
            .all(|m| m.to.as_ref().unwrap().to_string() == "team@rooms.example")
    );
}

#[tokio::test(start_paused = true)]
async fn a_private_message_of_an_occupant_is_answered_privately() {
    let stage = Stage::new();
    let place = Place::RoomPrivate("team@rooms.example/alice".parse().unwrap());
    stage
        .send(Inbound {
            place,
            ..room_text("alice", "1", "psst")
        })
        .await;
    stage.pass(10_000).await;
    let sent = stage.wire.sent();
    assert!(!stage.screen().is_empty());
    for message in sent {
        assert_eq!(
            message.to.as_ref().unwrap().to_string(),
            "team@rooms.example/alice"
        );
        assert_ne!(message.type_, xmpp_parsers::message::MessageType::Groupchat);
    }
}

#[tokio::test(start_paused = true)]
async fn the_lines_before_a_mention_are_overheard_once_as_other_people_s_words() {
    let mut config = config();
    bot(&mut config).history_limit = 2;
    let stage = Stage::with(config);
    for (id, line) in [
        ("1", "lost"),
        ("2", "The build is red."),
        ("3", "Since noon."),
    ] {
        stage.conversations.observe(&room_text("bob", id, line));
    }
    stage.send(room_text("alice", "4", "what is wrong?")).await;
    stage.pass(10_000).await;
    let question = stage.last_question();
    assert!(
        question.contains(
            "bob: The build is red.\nbob: Since noon.\n</overheard>\nalice: what is wrong?"
        ),
        "{question}"
    );
    assert!(!question.contains("lost"));
    stage.send(room_text("alice", "5", "and now?")).await;
    stage.pass(10_000).await;
    assert_eq!(stage.last_question(), "alice: and now?");
}

#[tokio::test(start_paused = true)]
async fn what_the_archive_repeats_is_overheard_once_and_what_it_adds_stands_where_it_was_said() {
    let mut config = config();
    bot(&mut config).history_limit = 2;
    let stage = Stage::with(config);
    let archived = |id: &str, line: &str, before: i64| {
        let live = room_text("bob", id, line);
        Inbound {
            delayed: Some(live.at - before),
            catch_up: true,
            ..live
        }
    };
    let lines = [("2", "pushed out"), ("3", "third"), ("4", "fourth")];
    for (id, line) in lines {
        stage.conversations.observe(&room_text("bob", id, line));
    }
    // Joined a moment ago: the archive is read while people talk.
    let missed = archived("1", "while away", 60_000);
    stage.conversations.observe(&missed);
    for (id, line) in lines {
        stage.conversations.observe(&archived(id, line, 0));
    }
    stage.send(room_text("alice", "5", "what now?")).await;
    stage.pass(10_000).await;
    let question = stage.last_question();
    assert!(
        question.contains("bob: third\nbob: fourth\n</overheard>"),
        "{question}"
    );
    assert!(!question.contains("pushed out") && !question.contains("while away"));
    for (id, line) in lines {
        stage.conversations.observe(&archived(id, line, 0));
    }
    stage.conversations.observe(&room_text("bob", "7", "later"));
    stage
        .conversations
        .observe(&archived("6", "earlier", 60_000));
    stage.send(room_text("alice", "8", "and now?")).await;
    stage.pass(10_000).await;
    let question = stage.last_question();
    assert!(
        question.contains("bob: earlier\nbob: later\n</overheard>"),
        "taken once, and in order: {question}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_moderated_message_is_dropped_wherever_it_is() {
    let stage = Stage::new();
    stage
        .conversations
        .observe(&room_text("eve", "1", "overheard filth"));
    stage.send(room_text("bob", "6", "What do they say?")).await;
    stage.pass(5_000).await;
    stage
        .conversations
        .observe(&room_text("eve", "7", "more filth"));
    stage.send(room_text("eve", "2", "asked filth")).await;
    stage.pass(5_000).await;
    for (id, of) in [("3", "room-1"), ("4", "room-2"), ("8", "room-7")] {
        let kind = Kind::Retraction {
            of: of.into(),
            moderated: true,
        };
        let mut moderation = Inbound {
            kind,
            ..room_text("room", id, "")
        };
        moderation.sender.from = "team@rooms.example".parse().unwrap();
        moderation.sender.occupant_id = None;
        stage.send(moderation).await;
    }
    stage.send(room_text("alice", "5", "hello")).await;
    stage.pass(5_000).await;
    let all = format!("{:?}", stage.asked().last().unwrap().messages);
    assert!(!all.contains("filth"), "{all}");
}

#[tokio::test(start_paused = true)]
async fn in_rooms_an_answer_does_not_grow_unless_it_was_asked_for() {
    for (set, several) in [(false, false), (true, true)] {
        let mut config = config();
        bot(&mut config).stream_mode_set = set;
        let stage = Stage::with(config);
        stage.script(&[Cue::Say("One "), Cue::Wait(500), Cue::Say("two")]);
        stage.send(room_text("alice", "1", "Count")).await;
        stage.pass(10_000).await;
        assert_eq!(stage.wire.texts().len() > 1, several);
        assert_eq!(stage.screen(), ["> Count\nOne two"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_s_id_for_our_message_is_known_as_ours_and_in_that_room_only() {
    let stage = Stage::new();
    stage.send(room_text("alice", "1", "Hi")).await;
    stage.pass(5_000).await;
    let room = room_text("alice", "1", "Hi").place;
    let id = stage.wire.texts()[0].id.clone().unwrap().0;
    stage
        .conversations
        .echoed("bot", &room, &id, "room-echo")
        .await
        .unwrap();
    let is_own =
        async |place: &Place, id: &str| stage.conversations.is_own("bot", place, id).await.unwrap();
    assert!(is_own(&room, "room-echo").await);
    assert!(is_own(&room, &id).await);
    assert!(!is_own(&room, "room-1").await);
    let elsewhere = text("alice@example.com/x", "1", "").place;
    assert!(!is_own(&elsewhere, "room-echo").await);
}

#[tokio::test(start_paused = true)]
async fn a_notice_in_a_room_refers_to_what_it_answers() {
    let stage = Stage::new();
    let inbound = room_text("alice", "1", "/ping");
    stage
        .conversations
        .say("bot", &inbound.place, "pong", Some(&inbound))
        .await
        .unwrap();
    stage
        .conversations
        .say("bot", &inbound.place, "a notice", None)
        .await
        .unwrap();
    stage.pass(1_000).await;
    assert_eq!(stage.screen(), ["> /ping\npong", "a notice"]);
}
