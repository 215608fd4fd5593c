//! Table tests of reading messages: each row a fault that some bot shipped with, or a rule of a XEP.

use jid::FullJid;
use minidom::Element;

use super::*;
use crate::gateway::Ids;

struct Room;

impl RoomView for Room {
    fn nick(&self) -> &'static str {
        "bot"
    }
    fn own_occupant_id(&self) -> Option<&str> {
        Some("own-occupant")
    }
    fn has_occupant_ids(&self) -> bool {
        true
    }
    fn has_stanza_ids(&self) -> bool {
        true
    }
    fn occupant(&self, nick: &str) -> Option<Occupant> {
        (nick == "romeo").then(|| Occupant {
            real: BareJid::new("romeo@example.org").ok(),
            occupant_id: Some("occupant-romeo".into()),
            moderator: true,
            bot: false,
        })
    }
    fn has_sent(&self, id: &str) -> bool {
        id == "sent-1"
    }
}

fn parse(xml: &str) -> Message {
    let element: Element = xml
        .replacen("<message", "<message xmlns='jabber:client'", 1)
        .parse()
        .unwrap();
    Message::try_from(element).unwrap()
}

fn read_from(xml: &str, room: Option<&dyn RoomView>, source: Source) -> Result<Inbound, Skip> {
    let own = BareJid::new("bot@example.net").unwrap();
    read(
        &parse(xml),
        &Context {
            account: "a",
            own: &own,
            room,
            source,
            now: 1_000,
        },
    )
}

fn direct(xml: &str) -> Result<Inbound, Skip> {
    read_from(xml, None, Source::Live)
}

fn in_room(xml: &str) -> Result<Inbound, Skip> {
    read_from(xml, Some(&Room), Source::Live)
}

#[test]
fn what_is_nothing_for_a_conversation_is_skipped_with_its_reason() {
    struct Case {
        name: &'static str,
        xml: &'static str,
        room: bool,
        skip: Skip,
    }
    let cases = [
        Case {
            name: "an error is never answered",
            room: false,
            skip: Skip::Error,
            xml: "<message from='a@b/c' type='error'><body>hi</body></message>",
        },
        Case {
            name: "a headline",
            room: false,
            skip: Skip::Headline,
            xml: "<message from='a@b' type='headline'><body>news</body></message>",
        },
        Case {
            name: "a carbon of our own account",
            room: false,
            skip: Skip::Carbon,
            xml: "<message from='bot@example.net' type='chat'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='bot@example.net/x' to='a@b'><body>hi</body></message></forwarded></sent></message>",
        },
        Case {
            name: "a forged carbon",
            room: false,
            skip: Skip::Carbon,
            xml: "<message from='evil@b' type='chat'><received xmlns='urn:xmpp:carbons:2'/><body>hi</body></message>",
        },
        Case {
            name: "a forged archive result",
            room: false,
            skip: Skip::ArchiveResult,
            xml: "<message from='evil@b'><result xmlns='urn:xmpp:mam:2' id='1'/><body>x</body></message>",
        },
        Case {
            name: "from ourselves",
            room: false,
            skip: Skip::Own,
            xml: "<message from='bot@example.net/other' type='chat'><body>hi</body></message>",
        },
        Case {
            name: "groupchat from a room we are not in",
            room: false,
            skip: Skip::UnknownRoom,
            xml: "<message from='r@c/x' type='groupchat'><body>hi</body></message>",
        },
        Case {
            name: "a private message of an occupant of a room we are not in",
            room: false,
            skip: Skip::UnknownRoom,
            xml: "<message from='r@c/x' type='chat'><body>hi</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>",
        },
        Case {
            name: "a chat state",
            room: false,
            skip: Skip::NoContent,
            xml: "<message from='a@b/c' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
        },
        Case {
            name: "white space",
            room: false,
            skip: Skip::NoContent,
            xml: "<message from='a@b/c' type='chat'><body> \n </body></message>",
        },
        Case {
            name: "the room's subject",
            room: true,
            skip: Skip::Room,
            xml: "<message from='r@c' type='groupchat'><subject>s</subject></message>",
        },
        Case {
            name: "our echo, known by occupant-id though the nick differs",
            room: true,
            skip: Skip::Own,
            xml: "<message from='r@c/old' type='groupchat'><body>hi</body><occupant-id xmlns='urn:xmpp:occupant-id:0' id='own-occupant'/></message>",
        },
        Case {
            name: "our echo, known by the id we sent",
            room: true,
            skip: Skip::Own,
            xml: "<message from='r@c/bot' id='sent-1' type='groupchat'><body>hi</body></message>",
        },
        Case {
            name: "a retraction that the room did not authenticate",
            room: true,
            skip: Skip::Room,
            xml: "<message from='r@c' type='groupchat'><retract xmlns='urn:xmpp:message-retract:1' id='1'/></message>",
        },
    ];
    for case in cases {
        let outcome = if case.room {
            in_room(case.xml)
        } else {
            direct(case.xml)
        };
        assert_eq!(outcome.unwrap_err(), case.skip, "{}", case.name);
    }
}

#[test]
fn somebody_else_who_now_has_our_nick_in_the_history_is_not_us() {
    let inbound = read_from(
        "<message from='r@c/bot' type='groupchat' id='x'><body>hi</body><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z' from='r@c'/><occupant-id xmlns='urn:xmpp:occupant-id:0' id='another'/></message>",
        Some(&Room),
        Source::Live,
    )
    .unwrap();
    assert_eq!(inbound.sender.occupant_id.as_deref(), Some("another"));
    assert!(
        inbound.delayed.is_some() && !inbound.catch_up,
        "history is no catch-up"
    );
}

#[test]
fn a_private_message_of_an_occupant_is_room_private() {
    let inbound = in_room("<message from='r@c/romeo' type='chat'><body>psst</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>").unwrap();
    assert_eq!(
        inbound.place,
        Place::RoomPrivate(FullJid::new("r@c/romeo").unwrap())
    );
    assert_eq!(inbound.place.address().to_string(), "r@c/romeo");
    assert_eq!(inbound.sender.real, BareJid::new("romeo@example.org").ok());
}

#[test]
fn a_room_message_knows_its_sender() {
    let inbound = in_room("<message from='r@c/romeo' type='groupchat' id='m1'><body>bot: hi</body><stanza-id xmlns='urn:xmpp:sid:0' id='s1' by='r@c'/><stanza-id xmlns='urn:xmpp:sid:0' id='forged' by='romeo@example.org'/></message>").unwrap();
    assert_eq!(inbound.place, Place::Room(BareJid::new("r@c").unwrap()));
    assert_eq!(inbound.sender.nick.as_deref(), Some("romeo"));
    assert_eq!(
        inbound.sender.occupant_id.as_deref(),
        Some("occupant-romeo")
    );
    assert_eq!(inbound.ids.stanza_id.as_deref(), Some("s1"));
    assert!(inbound.sender.moderator);
    assert!(!inbound.catch_up);
}

#[test]
fn ids_of_strangers_are_not_believed() {
    let inbound = direct("<message from='a@b/c' type='chat' id='m1'><body>hi</body><stanza-id xmlns='urn:xmpp:sid:0' id='forged' by='a@b'/><origin-id xmlns='urn:xmpp:sid:0' id='o1'/></message>").unwrap();
    assert_eq!(
        inbound.ids,
        Ids {
            id: Some("m1".into()),
            origin_id: Some("o1".into()),
            stanza_id: None
        }
    );
    assert_eq!(inbound.sender.occupant_id, None);
}

#[test]
fn a_delay_of_a_stranger_is_not_believed() {
    let forged = direct("<message from='a@b/c' type='chat'><body>hi</body><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z' from='a@b'/></message>").unwrap();
    assert_eq!(forged.delayed, None);
    let ours = direct("<message from='a@b/c' type='chat'><body>hi</body><delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:01Z' from='example.net'/></message>").unwrap();
    assert_eq!((ours.delayed, ours.catch_up), (Some(1_000), true));
}

#[test]
fn a_reply_loses_its_fallback_counted_in_code_points() {
    let inbound = direct("<message from='a@b/c' type='chat'><body>&gt; é👍 old\nnew</body><reply xmlns='urn:xmpp:reply:0' id='r1' to='bot@example.net'/><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='9'/></fallback></message>").unwrap();
    assert_eq!(inbound.body, "new");
    let reply = inbound.reply.unwrap();
    assert_eq!(
        (reply.id.as_str(), reply.quoted.as_deref()),
        ("r1", Some("é👍 old"))
    );
}

#[test]
fn hostile_fallback_ranges_do_no_harm() {
    for (start, end) in [
        ("9999999", "99999999999999999999999"),
        ("5", "2"),
        ("-1", "x"),
        ("0", "18446744073709551615"),
    ] {
        let xml = format!(
            "<message from='a@b/c' type='chat'><body>hi there</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='{start}' end='{end}'/></fallback></message>"
        );
        match direct(&xml) {
            Ok(inbound) => assert_eq!(inbound.body, "hi there"),
            Err(skip) => assert_eq!((skip, start), (Skip::NoContent, "0")),
        }
    }
}

#[test]
fn corrections_retractions_and_reactions_are_known() {
    let kind = |xml| direct(xml).unwrap().kind;
    assert_eq!(
        kind(
            "<message from='a@b/c' type='chat'><body>new</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/></message>"
        ),
        Kind::Correction {
            replaces: "1".into()
        }
    );
    assert_eq!(
        kind(
            "<message from='a@b/c' type='chat'><body>old client</body><retract xmlns='urn:xmpp:message-retract:1' id='1'/></message>"
        ),
        Kind::Retraction {
            of: "1".into(),
            moderated: false
        }
    );
    assert_eq!(
        kind(
            "<message from='a@b/c' type='chat'><apply-to xmlns='urn:xmpp:fasten:0' id='1'><retract xmlns='urn:xmpp:message-retract:0'/></apply-to></message>"
        ),
        Kind::Retraction {
            of: "1".into(),
            moderated: false
        }
    );
    assert_eq!(
        kind(
            "<message from='a@b/c' type='chat'><reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>👍</reaction></reactions></message>"
        ),
        Kind::Reactions {
            to: "1".into(),
            emojis: vec!["👍".into()]
        }
    );
    let moderated = [
        "<message from='r@c' type='groupchat'><retract xmlns='urn:xmpp:message-retract:1' id='s1'><moderated xmlns='urn:xmpp:message-moderate:1' by='r@c/romeo'/></retract></message>",
        "<message from='r@c' type='groupchat'><apply-to xmlns='urn:xmpp:fasten:0' id='s1'><moderated xmlns='urn:xmpp:message-moderate:0' by='r@c/romeo'><retract xmlns='urn:xmpp:message-retract:0'/></moderated></apply-to></message>",
    ];
    for xml in moderated {
        assert_eq!(
            in_room(xml).unwrap().kind,
            Kind::Retraction {
                of: "s1".into(),
                moderated: true
            },
            "{xml}"
        );
    }
}

#[test]
fn an_encrypted_message_is_known_as_such() {
    let marks = [
        "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:example:secret'/>",
        "<encrypted xmlns='eu.siacs.conversations.axolotl'/>",
        "<encrypted xmlns='urn:xmpp:omemo:2'/>",
        "<openpgp xmlns='urn:xmpp:openpgp:0'/>",
    ];
    for mark in marks {
        let with_body = format!(
            "<message from='a@b/c' type='chat'><body>You have no OMEMO</body>{mark}</message>"
        );
        assert!(direct(&with_body).unwrap().encrypted, "{mark}");
        let without = format!("<message from='a@b/c' type='chat'>{mark}</message>");
        assert!(direct(&without).unwrap().encrypted, "{mark}");
    }
    let plain = direct("<message from='a@b/c' type='chat'><body>hi</body></message>");
    assert!(!plain.unwrap().encrypted);
}

#[test]
fn files_are_found_and_their_links_leave_the_body() {
    let inbound = direct("<message from='a@b/c' type='chat'><body>https://up.example/1/cat.png</body><x xmlns='jabber:x:oob'><url>https://up.example/1/cat.png</url></x></message>").unwrap();
    assert_eq!(inbound.body, "");
    assert_eq!(inbound.attachments.len(), 1);
    let secret = direct(
        "<message from='a@b/c' type='chat'><body>aesgcm://up.example/x#00ff</body></message>",
    )
    .unwrap();
    assert_eq!(secret.attachments[0].url, "aesgcm://up.example/x#00ff");
    let shared = direct("<message from='a@b/c' type='chat'><body>look https://up.example/1/cat.png</body><file-sharing xmlns='urn:xmpp:sfs:0'><file xmlns='urn:xmpp:file:metadata:0'><name>cat.png</name><media-type>image/png</media-type></file><sources><url-data xmlns='http://jabber.org/protocol/url-data' target='https://up.example/1/cat.png'/></sources></file-sharing></message>").unwrap();
    assert_eq!(shared.attachments[0].name.as_deref(), Some("cat.png"));
    assert_eq!(shared.body, "look https://up.example/1/cat.png");
}

#[test]
fn invitations_are_read_both_ways() {
    let mediated = invite(&parse("<message from='r@c'><x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b/c'/><password>p</password></x></message>")).unwrap();
    assert_eq!(
        (
            mediated.room.as_str(),
            mediated.from.to_string().as_str(),
            mediated.mediated
        ),
        ("r@c", "a@b/c", true)
    );
    assert_eq!(mediated.password, Some("p".into()));
    let direct = invite(&parse(
        "<message from='a@b/c'><x xmlns='jabber:x:conference' jid='r@c'/></message>",
    ))
    .unwrap();
    assert_eq!((direct.room.as_str(), direct.mediated), ("r@c", false));
    let forged = parse(
        "<message from='r@c/nick'><x xmlns='http://jabber.org/protocol/muc#user'><invite from='admin@b'/></x></message>",
    );
    assert_eq!(invite(&forged), None);
}

#[test]
fn a_live_message_proves_nothing_by_a_delay_and_an_item_that_its_sender_wrote() {
    let item = "<x xmlns='http://jabber.org/protocol/muc#user'><item jid='romeo@example.org'/></x>";
    for (name, delay, real) in [
        (
            "a delay of another's",
            "<delay xmlns='urn:xmpp:delay' from='mallory@evil.org' stamp='2026-01-01T00:00:00Z'/>",
            Some("romeo@example.org"),
        ),
        (
            "a delay without its author",
            "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>",
            None,
        ),
        (
            "one that names the room",
            "<delay xmlns='urn:xmpp:delay' from='r@c' stamp='2026-01-01T00:00:00Z'/>",
            None,
        ),
    ] {
        let from = |nick: &str| {
            let xml = format!(
                "<message from='r@c/{nick}' type='groupchat'><body>hi</body>{delay}{item}</message>"
            );
            in_room(&xml).unwrap().sender
        };
        assert_eq!(from("mallory").real, None, "{name}");
        let romeo = from("romeo").real.map(|jid| jid.to_string());
        assert_eq!(
            romeo.as_deref(),
            real,
            "{name}: what the room's presence showed"
        );
    }
}

#[test]
fn ids_that_are_texts_of_their_own_are_not_kept() {
    let long = "x".repeat(513);
    let xml = format!(
        "<message from='a@b/c' type='chat' id='{long}'><body>hi</body><thread>{long}</thread><origin-id xmlns='urn:xmpp:sid:0' id='{long}'/></message>"
    );
    let inbound = direct(&xml).unwrap();
    assert_eq!(inbound.ids, Ids::default());
    assert_eq!(inbound.thread, None);
}
