//! Every way into a room and out of it.

use super::*;

fn presence(inner: &str, kind: &str, nick: &str) -> Presence {
    let kind = if kind.is_empty() {
        String::new()
    } else {
        format!("type='{kind}'")
    };
    let xml =
        format!("<presence xmlns='jabber:client' from='r@c/{nick}' {kind}>{inner}</presence>");
    Presence::try_from(xml.parse::<Element>().unwrap()).unwrap()
}

fn user(inner: &str) -> String {
    format!("<x xmlns='http://jabber.org/protocol/muc#user'>{inner}</x>")
}

fn joining(now: Instant) -> Room {
    let mut room = Room::new(BareJid::new("r@c").unwrap(), "bot", None, now);
    assert_eq!(room.begin(now), [Effect::Discover]);
    let features = Features {
        archive: true,
        occupant_ids: true,
        stanza_ids: true,
    };
    assert!(matches!(
        room.join(features, now).as_slice(),
        [Effect::Send(_)]
    ));
    room
}

fn joined(now: Instant) -> Room {
    let mut room = joining(now);
    let own = user("<item affiliation='member' role='participant'/><status code='110'/>")
        + "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='me'/>";
    assert_eq!(
        room.presence(&presence(&own, "", "bot"), now),
        [Effect::Joined]
    );
    room
}

#[tokio::test(start_paused = true)]
async fn a_join_asks_for_no_history_and_knows_its_own_occupant() {
    let now = Instant::now();
    let mut room = Room::new(BareJid::new("r@c").unwrap(), "bot", Some("pw".into()), now);
    room.begin(now);
    let effects = room.join(Features::default(), now);
    let [Effect::Send(presence)] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    let xml = String::from(&presence.payloads[0]);
    assert!(
        xml.contains("maxstanzas=\"0\"") || xml.contains("maxstanzas='0'"),
        "{xml}"
    );
    assert!(xml.contains("pw"));
    let room = joined(now);
    assert_eq!(room.own_occupant_id(), Some("me"));
}

#[tokio::test(start_paused = true)]
async fn a_taken_nick_takes_the_next_variant_and_gives_up_for_a_while() {
    let now = Instant::now();
    let mut room = joining(now);
    let conflict = presence(
        "<error xmlns='jabber:client' type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
        "error",
        "bot",
    );
    let mut nicks = Vec::new();
    loop {
        match room.presence(&conflict, now).as_slice() {
            [Effect::Send(presence)] => nicks.push(presence.to.clone().unwrap().to_string()),
            [] => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        nicks,
        [
            "r@c/bot-2",
            "r@c/bot-3",
            "r@c/bot-4",
            "r@c/bot-5",
            "r@c/bot-6"
        ]
    );
    assert!(matches!(room.phase, Phase::Waiting { .. }));
}

#[tokio::test(start_paused = true)]
async fn every_way_out_is_known() {
    struct Case {
        name: &'static str,
        inner: String,
        out: Option<&'static str>,
    }
    let now = Instant::now();
    let cases = [
        Case {
            name: "kicked",
            inner: user(
                "<item affiliation='none' role='none'><reason>noise</reason></item><status code='110'/><status code='307'/>",
            ),
            out: Some("I was kicked: noise"),
        },
        Case {
            name: "banned",
            inner: user(
                "<item affiliation='outcast' role='none'/><status code='110'/><status code='301'/>",
            ),
            out: Some("I was banned"),
        },
        Case {
            name: "membership lost",
            inner: user(
                "<item affiliation='none' role='none'/><status code='110'/><status code='321'/>",
            ),
            out: Some("my membership was taken away"),
        },
        Case {
            name: "members only",
            inner: user(
                "<item affiliation='none' role='none'/><status code='110'/><status code='322'/>",
            ),
            out: Some("the room is for members only now"),
        },
        Case {
            name: "destroyed",
            inner: user(
                "<item affiliation='none' role='none'/><status code='110'/><destroy jid='new@c'><reason>moved</reason></destroy>",
            ),
            out: Some("it was destroyed: moved; it went on as new@c: /join new@c"),
        },
        Case {
            name: "service shut down",
            inner: user(
                "<item affiliation='none' role='none'/><status code='110'/><status code='332'/>",
            ),
            out: None,
        },
        Case {
            name: "technical",
            inner: user(
                "<item affiliation='none' role='none'/><status code='110'/><status code='307'/><status code='333'/>",
            ),
            out: None,
        },
    ];
    for case in cases {
        let mut room = joined(now);
        let effects = room.presence(&presence(&case.inner, "unavailable", "bot"), now);
        match case.out {
            Some(reason) => assert_eq!(effects, [Effect::Out(reason.into())], "{}", case.name),
            None => assert!(matches!(room.phase, Phase::Waiting { .. }), "{}", case.name),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_refusal_is_known() {
    let now = Instant::now();
    for (condition, expected) in [
        (
            "not-authorized",
            "it wants a password; see `password` in muc_rooms",
        ),
        ("registration-required", "it is for members only"),
        ("forbidden", "I am banned there"),
        ("not-allowed", "I may not create rooms there"),
    ] {
        let mut room = joining(now);
        let error = format!(
            "<error xmlns='jabber:client' type='auth'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        );
        assert_eq!(
            room.presence(&presence(&error, "error", "bot"), now),
            [Effect::Out(expected.into())]
        );
    }
    let mut room = joining(now);
    let error = "<error xmlns='jabber:client' type='wait'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    room.presence(&presence(error, "error", "bot"), now);
    assert!(matches!(room.phase, Phase::Waiting { .. }));
}

#[tokio::test(start_paused = true)]
async fn nick_changes_keep_the_occupant() {
    let now = Instant::now();
    let mut room = joined(now);
    let romeo = user("<item affiliation='owner' role='moderator' jid='romeo@example.org/x'/>");
    room.presence(&presence(&romeo, "", "romeo"), now);
    assert!(room.occupant("romeo").unwrap().moderator);
    let change =
        user("<item affiliation='owner' role='moderator' nick='Romeo M.'/><status code='303'/>");
    room.presence(&presence(&change, "unavailable", "romeo"), now);
    assert_eq!(room.occupant("romeo"), None);
    assert_eq!(
        room.occupant("Romeo M.").unwrap().real,
        BareJid::new("romeo@example.org").ok()
    );
    let own = user(
        "<item affiliation='member' role='participant' nick='robot'/><status code='303'/><status code='110'/>",
    );
    room.presence(&presence(&own, "unavailable", "bot"), now);
    assert_eq!(room.nick(), "robot");
    assert!(room.is_joined());
}

#[tokio::test(start_paused = true)]
async fn a_new_room_is_configured_and_then_says_what_it_can() {
    let now = Instant::now();
    let mut room = Room::new(BareJid::new("r@c").unwrap(), "bot", None, now);
    room.begin(now);
    // It is not there yet.
    room.join(Features::default(), now);
    let own = user(
        "<item affiliation='owner' role='moderator'/><status code='110'/><status code='201'/>",
    );
    assert_eq!(
        room.presence(&presence(&own, "", "bot"), now),
        [Effect::Configure, Effect::Joined]
    );
    let features = Features {
        archive: true,
        occupant_ids: true,
        stanza_ids: true,
    };
    assert_eq!(room.join(features, now), [], "it is not entered again");
    assert!(room.has_stanza_ids());
}

#[tokio::test(start_paused = true)]
async fn a_silent_room_is_pinged_and_rejoined_if_we_are_out() {
    let start = Instant::now();
    let mut room = joined(start);
    assert_eq!(room.tick(start + Duration::from_mins(4)), []);
    let later = start + Duration::from_mins(6);
    assert_eq!(
        room.tick(later),
        [Effect::Ping(Jid::new("r@c/bot").unwrap())]
    );
    assert_eq!(room.tick(later), []);
    assert_eq!(room.pong(Ok(()), later), []);
    let again = later + Duration::from_mins(6);
    assert_eq!(room.tick(again).len(), 1);
    assert_eq!(room.pong(Err("not-acceptable"), again), [Effect::Discover]);
    let mut silent = joined(start);
    assert_eq!(silent.tick(later).len(), 1);
    silent.tick(later + Duration::from_mins(1));
    assert!(matches!(silent.phase, Phase::Waiting { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_join_without_an_answer_is_tried_again() {
    let start = Instant::now();
    let mut room = joining(start);
    room.tick(start + Duration::from_mins(2));
    let Phase::Waiting { until, .. } = room.phase.clone() else {
        panic!("{:?}", room.phase)
    };
    assert_eq!(room.tick(until), [Effect::Discover]);
}
