//! Table tests of what is for the bot, and what is left of the text.

use std::collections::BTreeMap;

use super::*;
use crate::config::Room;
use crate::gateway::testing::{account, inbound};
use crate::gateway::{Attachment, ReplyTo};

fn room() -> BareJid {
    BareJid::new("room@rooms.org").unwrap()
}

fn in_room(body: &str) -> Inbound {
    inbound(Place::Room(room()), "room@rooms.org/alice", body)
}

fn decide_as(nick: &str, inbound: &Inbound) -> Result<Addressed, NotForBot> {
    let account = account();
    let names = Names {
        jid: &account.jid,
        nick,
        resource: "res-1",
    };
    addressed(&account, names, inbound, |id| id == "own-1")
}

#[test]
fn a_name_as_a_whole_word_is_a_mention_and_is_taken_off() {
    struct Row {
        nick: &'static str,
        body: &'static str,
        /// The text that is left; `None`: no mention.
        text: Option<&'static str>,
    }
    let row = |nick, body, text| Row { nick, body, text };
    let rows = [
        row("Moltis", "moltis: hello", Some("hello")),
        row("Moltis", "MOLTIS, hello", Some("hello")),
        row("Moltis", "@moltis hello", Some("hello")),
        row("Moltis", "  Moltis hello", Some("hello")),
        row("Moltis", "hello @moltis", Some("hello")),
        row("Moltis", "are you there, Moltis?", Some("are you there?")),
        row(
            "Moltis",
            "I think Moltis knows this",
            Some("I think Moltis knows this"),
        ),
        row("Moltis", "hello", None),
        row("Moltis", "", None),
        // The local part of the JID is "bot".
        row("Moltis", "bot: hello", Some("hello")),
        row("Moltis", "@bot, hello", Some("hello")),
        row("Moltis", "the robot is here", None),
        row("Moltis", "robots, bots, bot_2", None),
        row("Moltis", "botany", None),
        row("Moltis", "see bot.example.com", None),
        row("Moltis", "the bot's fault", None),
        row("Moltis", "write to bot@other.org", None),
        row("Moltis", "write to me@bot", None),
        row("Moltis", "https://x.org/bot?a", None),
        row("Moltis", "bot@example.com: hello", Some("hello")),
        row("Moltis", "res-1: hello", Some("hello")),
        row("Moltis", "> bot: what was that\nI agree", None),
        row(
            "Moltis",
            "> who knows\nbot: you?",
            Some("> who knows\nyou?"),
        ),
        row(
            "Moltis",
            "bot: line one\nline two",
            Some("line one\nline two"),
        ),
        row("Moltis", "/help bot", Some("/help")),
        row("Moltis", "bot: /model GPT-4o", Some("/model GPT-4o")),
        row("Moltis", "ＭＯＬＴＩＳ hi", Some("hi")),
        row("Moltis", "moltis你好", Some("你好")),
        row("Żółw", "żÓŁW: cześć", Some("cześć")),
        row("Żółw", "z\u{307}o\u{301}łw: cześć", Some("cześć")),
        row("ΟΔΥΣΣΕΥΣ", "οδυσσευς γεια", Some("γεια")),
        row("C++ (bot)", "c++ (bot): hi", Some("hi")),
        row("C++ (bot)", "c hi", None),
        row(".*", "anything", None),
        row(".*", ".* hi", Some("hi")),
        row("two words", "Two Words: hi", Some("hi")),
        row("two words", "two hi", None),
        row("🤖", "🤖 hi", Some("hi")),
        row("bot", "@bot", Some("")),
        row("bot", "bot?", Some("")),
        row("bot", "bot 👍", Some("👍")),
    ];
    for row in rows {
        let outcome = decide_as(row.nick, &in_room(row.body));
        let text = outcome
            .as_ref()
            .ok()
            .map(|addressed| addressed.text.as_str());
        assert_eq!(text, row.text, "{} for {}", row.body, row.nick);
        let bare = outcome.is_ok_and(|addressed| addressed.bare);
        assert_eq!(bare, row.text == Some(""), "{}", row.body);
    }
}

#[test]
fn references_and_replies_are_mentions() {
    let reference = |jid: &str| Inbound {
        mentions: vec![jid.into()],
        ..in_room("hello")
    };
    let reply = |id: &str, to: Option<&str>| Inbound {
        reply: Some(ReplyTo {
            id: id.into(),
            to: to.map(Into::into),
            quoted: None,
        }),
        ..in_room("hello")
    };
    let rows = [
        (
            "the occupant JID",
            reference("room@rooms.org/Moltis Bot"),
            Some(How::Reference),
        ),
        (
            "percent-encoded",
            reference("room@rooms.org/Moltis%20Bot"),
            Some(How::Reference),
        ),
        (
            "with a query",
            reference("bot@example.com?message"),
            Some(How::Reference),
        ),
        (
            "the bare JID",
            reference("Bot@Example.com"),
            Some(How::Reference),
        ),
        ("another occupant", reference("room@rooms.org/alice"), None),
        (
            "the nick in another room",
            reference("other@rooms.org/Moltis Bot"),
            None,
        ),
        ("no JID", reference("%%%zz@/@"), None),
        (
            "a reply to its message",
            reply("own-1", None),
            Some(How::Reply),
        ),
        (
            "a reply to its nick",
            reply("x", Some("room@rooms.org/Moltis Bot")),
            Some(How::Reply),
        ),
        (
            "a reply to another",
            reply("x", Some("room@rooms.org/alice")),
            None,
        ),
    ];
    for (name, inbound, expected) in rows {
        let how = decide_as("Moltis Bot", &inbound)
            .ok()
            .map(|addressed| addressed.how);
        assert_eq!(how, expected, "{name}");
    }
}

#[test]
fn mention_mode_and_require_mention_decide() {
    use MentionMode::{Always, Mention, None as Never};
    let rows = [
        (Mention, None, Err(NotForBot::NotMentioned), Ok(How::Name)),
        (
            Mention,
            Some(true),
            Err(NotForBot::NotMentioned),
            Ok(How::Name),
        ),
        (Mention, Some(false), Ok(How::Always), Ok(How::Name)),
        (Always, None, Ok(How::Always), Ok(How::Name)),
        (
            Always,
            Some(true),
            Err(NotForBot::NotMentioned),
            Ok(How::Name),
        ),
        (Always, Some(false), Ok(How::Always), Ok(How::Name)),
        (Never, None, Err(NotForBot::Off), Err(NotForBot::Off)),
        (
            Never,
            Some(true),
            Err(NotForBot::NotMentioned),
            Ok(How::Name),
        ),
        (Never, Some(false), Ok(How::Always), Ok(How::Name)),
    ];
    for (mode, require_mention, plain, mentioned) in rows {
        let mut account = account();
        account.mention_mode = mode;
        account.muc_rooms = BTreeMap::from([(
            room(),
            Room {
                require_mention,
                ..Room::default()
            },
        )]);
        for (body, expected) in [("hello", plain), ("Moltis: hello", mentioned)] {
            let names = Names {
                jid: &account.jid,
                nick: "Moltis",
                resource: "moltis",
            };
            let how = addressed(&account, names, &in_room(body), |_| false)
                .map(|addressed| addressed.how);
            assert_eq!(how, expected, "{body} under {mode:?}, {require_mention:?}");
        }
    }
}

#[test]
fn replies_count_only_where_configured() {
    let mut account = account();
    account.reply_counts_as_mention = false;
    let names = Names {
        jid: &account.jid,
        nick: "Moltis",
        resource: "moltis",
    };
    let mut inbound = in_room("hello");
    inbound.reply = Some(ReplyTo {
        id: "own-1".into(),
        to: None,
        quoted: None,
    });
    assert_eq!(
        addressed(&account, names, &inbound, |_| true),
        Err(NotForBot::NotMentioned)
    );
}

#[test]
fn a_mention_with_a_file_is_not_bare() {
    let mut inbound = in_room("@bot");
    inbound.attachments = vec![Attachment {
        url: "https://x.org/a.png".into(),
        name: None,
        media_type: None,
    }];
    assert!(!decide_as("bot", &inbound).unwrap().bare);
}

#[test]
fn direct_chats_and_private_messages_are_always_for_the_bot() {
    let places = [
        Place::Direct(BareJid::new("alice@a.org").unwrap()),
        Place::RoomPrivate(jid::FullJid::new("room@rooms.org/alice").unwrap()),
    ];
    for place in places {
        let addressed = decide_as("bot", &inbound(place, "alice@a.org/x", "bot: hi")).unwrap();
        assert_eq!(
            (addressed.how, addressed.text.as_str()),
            (How::Direct, "bot: hi")
        );
    }
}
