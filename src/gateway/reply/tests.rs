//! What goes on the wire, and what does not.

use super::*;
use crate::gateway::session::testing::{body, payload, replaces, room_text, text};
use crate::gateway::testing::account;

#[test]
fn characters_that_hide_or_break_are_taken_out_and_those_that_write_are_kept() {
    struct Case {
        name: &'static str,
        text: &'static str,
        clean: &'static str,
    }
    let cases = [
        Case {
            name: "controls",
            text: "a\0b\u{1b}[2Jc\u{85}",
            clean: "ab[2Jc",
        },
        Case {
            name: "line ends",
            text: "a\r\nb\tc",
            clean: "a\nb\tc",
        },
        Case {
            name: "override",
            text: "\u{202e}live\u{202c}\u{2066}x",
            clean: "livex",
        },
        Case {
            name: "tags",
            text: "a\u{e0041}\u{e0042}",
            clean: "a",
        },
        Case {
            name: "unseen",
            text: "a\u{200b}\u{feff}\u{ad}b",
            clean: "ab",
        },
        Case {
            name: "no characters",
            text: "a\u{fffe}\u{1ffff}b",
            clean: "ab",
        },
        Case {
            name: "a family",
            text: "👩\u{200d}👧",
            clean: "👩\u{200d}👧",
        },
        Case {
            name: "Persian",
            text: "می\u{200c}خواهم",
            clean: "می\u{200c}خواهم",
        },
        Case {
            name: "a heart",
            text: "❤\u{fe0f}",
            clean: "❤\u{fe0f}",
        },
    ];
    for case in cases {
        assert_eq!(clean(case.text), case.clean, "{}", case.name);
    }
}

#[test]
fn a_text_without_an_end_gets_one() {
    let text = clean(&"x".repeat(MOST_CHARACTERS * 2));
    assert!(text.chars().count() < MOST_CHARACTERS + 50);
    assert!(text.ends_with("(cut here: too long)"));
}

#[test]
fn no_message_begins_as_an_action_or_a_command() {
    for text in ["/me laughs", "/quit", "//x"] {
        for styling in [true, false] {
            let mut account = account();
            account.styling = styling;
            let bodies = render(text, &account);
            assert!(
                bodies.iter().all(|body| !body.starts_with('/')),
                "{bodies:?}"
            );
        }
    }
}

fn draft<'a>(place: &'a Place, body: &'a str) -> Draft<'a> {
    Draft {
        place,
        thread: None,
        id: "m1".into(),
        replaces: None,
        body,
        answers: None,
        keep: Keep::Yes,
        state: None,
        styled: true,
    }
}

#[test]
fn an_answer_in_a_room_refers_to_the_question_and_quotes_it_for_old_clients() {
    let mut inbound = room_text("alice", "q", "Why is the sky blue?\nReally.");
    inbound.body.insert_str(0, "😀 ");
    let answers = Answers::to(&inbound).unwrap();
    let message = build(Draft {
        answers: Some(&answers),
        ..draft(&inbound.place, "Rayleigh.")
    });
    assert_eq!(message.type_, MessageType::Groupchat);
    assert_eq!(
        message.to.as_ref().unwrap().to_string(),
        "team@rooms.example"
    );
    let reply = payload(&message, "reply", "urn:xmpp:reply:0").unwrap();
    assert_eq!(
        reply.attr("id"),
        Some("room-q"),
        "XEP-0461: the room's id in rooms"
    );
    assert_eq!(reply.attr("to"), Some("team@rooms.example/alice"));
    let fallback = payload(&message, "fallback", "urn:xmpp:fallback:0").unwrap();
    let end: usize = fallback
        .children()
        .next()
        .unwrap()
        .attr("end")
        .unwrap()
        .parse()
        .unwrap();
    let body = body(&message).unwrap();
    assert!(body.starts_with("> 😀 Why is the sky blue?\n"), "{body}");
    let rest: String = body.chars().skip(end).collect();
    assert_eq!(rest, "Rayleigh.", "XEP-0428 counts code points");
}

#[test]
fn an_answer_to_a_bare_mention_quotes_nothing() {
    let inbound = room_text("alice", "q", "");
    let answers = Answers::to(&inbound).unwrap();
    let message = build(Draft {
        answers: Some(&answers),
        ..draft(&inbound.place, "Rayleigh.")
    });
    assert!(payload(&message, "reply", "urn:xmpp:reply:0").is_some());
    assert!(payload(&message, "fallback", "urn:xmpp:fallback:0").is_none());
    assert_eq!(body(&message), Some("Rayleigh."));
}

#[test]
fn a_private_message_of_an_occupant_is_answered_to_the_occupant_and_never_to_the_room() {
    let place = Place::RoomPrivate("team@rooms.example/alice".parse().unwrap());
    let message = build(draft(&place, "psst"));
    assert_eq!(message.type_, MessageType::Chat);
    assert_eq!(
        message.to.as_ref().unwrap().to_string(),
        "team@rooms.example/alice"
    );
    assert!(payload(&message, "x", "http://jabber.org/protocol/muc#user").is_some());
    let inbound = Inbound {
        place,
        ..room_text("alice", "q", "hi")
    };
    assert_eq!(Answers::to(&inbound), None);
}

#[test]
fn every_message_has_its_ids_its_thread_and_its_hints() {
    let place = Place::Direct("alice@example.com".parse().unwrap());
    let message = build(Draft {
        thread: Some("t"),
        replaces: Some("m0".into()),
        styled: false,
        state: Some("active"),
        ..draft(&place, "hi")
    });
    assert_eq!(message.id.as_ref().unwrap().0, "m1");
    assert_eq!(
        payload(&message, "origin-id", "urn:xmpp:sid:0")
            .unwrap()
            .attr("id"),
        Some("m1")
    );
    assert_eq!(message.thread.as_ref().unwrap().id, "t");
    assert_eq!(replaces(&message), Some("m0"));
    assert!(payload(&message, "store", ns::HINTS).is_some());
    assert!(payload(&message, "unstyled", "urn:xmpp:styling:0").is_some());
    let growing = build(Draft {
        keep: Keep::No,
        ..draft(&place, "hi")
    });
    assert!(payload(&growing, "store", ns::HINTS).is_none());
    assert!(payload(&growing, "no-store", ns::HINTS).is_some());
    assert!(payload(&growing, "no-copy", ns::HINTS).is_some());
}

#[test]
fn signs_of_life_go_where_they_belong() {
    let mut account = account();
    account.ack_reaction = "👀".into();
    let mut direct = text("alice@example.com/phone", "q", "hi");
    direct.markable = true;
    direct.wants_receipt = true;
    let messages = typing::acceptance(&direct, &account);
    let to: Vec<_> = messages
        .iter()
        .map(|m| m.to.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(
        to,
        [
            "alice@example.com",
            "alice@example.com/phone",
            "alice@example.com"
        ]
    );
    let mut room = room_text("alice", "q", "hi");
    room.markable = true;
    room.wants_receipt = true;
    let messages = typing::acceptance(&room, &account);
    assert_eq!(messages.len(), 2, "no receipts in rooms (XEP-0184, 5.3)");
    let displayed = payload(&messages[0], "displayed", "urn:xmpp:chat-markers:0").unwrap();
    assert_eq!(displayed.attr("id"), Some("room-q"));
    account.chat_markers = false;
    account.ack_reaction.clear();
    assert_eq!(typing::acceptance(&direct, &account), []);
}

#[test]
fn no_text_makes_a_stanza_for_which_a_server_closes_the_stream() {
    let account = Account {
        text_chunk_limit: 100_000,
        ..account()
    };
    for (name, text) in [
        (
            "a tower of accents",
            format!("a{}", "\u{20d0}".repeat(90_000)),
        ),
        (
            "many of them",
            format!("a{}", "\u{20d0}".repeat(40)).repeat(2_000),
        ),
        ("what is escaped", "&".repeat(90_000)),
        ("four bytes each", "😀".repeat(90_000)),
    ] {
        let chunks = render(&text, &account);
        assert!(!chunks.is_empty(), "{name}");
        for chunk in chunks {
            assert!(on_the_wire(&chunk) <= MOST_BYTES, "{name}");
        }
    }
}
