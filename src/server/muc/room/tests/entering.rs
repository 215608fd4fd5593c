//! XEP-0045, 7.2 and 7.6: entering, with one or more sessions, and changing the nick.

use super::*;
use crate::server::muc::config::Whois;

const SECOND: &str = "hag66@shakespeare.example/phone";

#[test]
fn who_enters_sees_the_others_then_oneself_then_the_subject() {
    let mut stage = Stage::open(Config::default());
    stage.enter(GUEST, "thirdwitch");
    assert_eq!(
        stage.seen(GUEST),
        [
            "presence firstwitch owner,moderator",
            "presence thirdwitch none,participant,hag66@shakespeare.example/pda 110 170",
            "groupchat room subject:",
        ]
    );
    assert_eq!(
        stage.seen(OWNER),
        ["presence thirdwitch none,participant,hag66@shakespeare.example/pda"]
    );
    assert_eq!(stage.histories, [(GUEST.to_owned(), Request::default())]);
}

#[test]
fn the_first_one_is_told_that_the_room_is_new() {
    let mut stage = Stage::empty(Config::default(), true);
    stage.enter(OWNER, "firstwitch");
    let seen = stage.seen(OWNER);
    assert_eq!(
        seen.first().map(String::as_str),
        Some("presence firstwitch owner,moderator,crone1@shakespeare.example/desktop 110 170 201")
    );
    stage.enter(GUEST, "thirdwitch");
    assert_eq!(stage.outcome(GUEST), "item-not-found", "it is locked");
    assert_eq!(stage.configure(OWNER, &[]), "ok");
    stage.enter(GUEST, "thirdwitch");
    assert_eq!(stage.seen(GUEST).len(), 3);
}

#[test]
fn an_unconfigured_room_goes_with_its_creator() {
    for (name, leave) in [
        (
            "leaves",
            "<presence to='coven@rooms.example/firstwitch' type='unavailable'/>",
        ),
        (
            "cancels",
            "<iq to='coven@rooms.example' type='set' id='1'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='cancel'/></query></iq>",
        ),
    ] {
        let config = Config {
            persistent: true,
            ..Config::default()
        };
        let mut stage = Stage::empty(config, true);
        stage.enter(OWNER, "firstwitch");
        stage.send(OWNER, leave);
        assert!(stage.destroyed, "{name}");
    }
}

#[test]
fn an_instant_room_opens_with_an_empty_form() {
    let mut stage = Stage::empty(Config::default(), true);
    stage.enter(OWNER, "firstwitch");
    let answer = stage.ask(OWNER, "set", "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>");
    assert_eq!(answer.attr("type"), Some("result"));
    assert!(!stage.room.is_locked());
}

struct Refused {
    name: &'static str,
    config: fn(&mut Config),
    banned: &'static str,
    presence: &'static str,
    expected: (&'static str, &'static str),
}

#[test]
fn who_may_not_enter_is_told_why() {
    const JOIN: &str = "<presence to='coven@rooms.example/thirdwitch' id='j'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
    #[rustfmt::skip]
    let table = [
        Refused { name: "without a nick", config: |_| {}, banned: "", presence: "<presence to='coven@rooms.example'><x xmlns='http://jabber.org/protocol/muc'/></presence>", expected: ("modify", "jid-malformed") },
        Refused { name: "a nick in use", config: |_| {}, banned: "", presence: "<presence to='coven@rooms.example/firstwitch'><x xmlns='http://jabber.org/protocol/muc'/></presence>", expected: ("cancel", "conflict") },
        Refused { name: "a nick that is not seen", config: |_| {}, banned: "", presence: "<presence to='coven@rooms.example/&#x2800;'><x xmlns='http://jabber.org/protocol/muc'/></presence>", expected: ("cancel", "not-allowed") },
        Refused { name: "groupchat 1.0", config: |_| {}, banned: "", presence: "<presence to='coven@rooms.example/thirdwitch'/>", expected: ("cancel", "item-not-found") },
        Refused { name: "no password", config: |config| config.password = "x".into(), banned: "", presence: JOIN, expected: ("auth", "not-authorized") },
        Refused { name: "a wrong password", config: |config| config.password = "x".into(), banned: "", presence: "<presence to='coven@rooms.example/thirdwitch'><x xmlns='http://jabber.org/protocol/muc'><password>y</password></x></presence>", expected: ("auth", "not-authorized") },
        Refused { name: "members only", config: |config| config.members_only = true, banned: "", presence: JOIN, expected: ("auth", "registration-required") },
        Refused { name: "banned", config: |_| {}, banned: "hag66@shakespeare.example", presence: JOIN, expected: ("auth", "forbidden") },
        Refused { name: "banned with the domain", config: |_| {}, banned: "shakespeare.example", presence: JOIN, expected: ("auth", "forbidden") },
        Refused { name: "full", config: |config| config.max_users = 1, banned: "", presence: JOIN, expected: ("wait", "service-unavailable") },
    ];
    for Refused {
        name,
        config,
        banned,
        presence,
        expected,
    } in table
    {
        let mut settings = Config::default();
        let mut stage = Stage::open(settings.clone());
        if !banned.is_empty() {
            let item = format!("<item affiliation='outcast' jid='{banned}'/>");
            assert_eq!(stage.administer(OWNER, &item), "ok", "{name}");
        }
        config(&mut settings);
        stage.room.config = settings;
        stage.clear();
        stage.send(GUEST, presence);
        let got = stage.got.remove(GUEST).unwrap();
        let error = got.first().unwrap();
        assert_eq!(error.attr("type"), Some("error"), "{name}");
        assert_eq!(outcome(error), expected.1, "{name}");
        let kind = error.get_child("error", ns::JABBER_CLIENT).unwrap();
        assert_eq!(kind.attr("type"), Some(expected.0), "{name}");
        assert_eq!(kind.attr("by"), Some("coven@rooms.example"), "{name}");
        assert_eq!(stage.room.occupants(), 1, "{name}");
        assert!(stage.got.is_empty(), "{name}: {:?}", stage.got);
    }
}

#[test]
fn the_right_password_opens_and_an_admin_enters_a_full_room() {
    let mut stage = Stage::open(Config::default());
    stage.room.config.password = "cauldronburn".into();
    stage.send(GUEST, "<presence to='coven@rooms.example/thirdwitch'><x xmlns='http://jabber.org/protocol/muc'><password>cauldronburn</password></x></presence>");
    assert_eq!(stage.room.occupants(), 2);
    let mut stage = Stage::open(Config {
        max_users: 1,
        ..Config::default()
    });
    stage.administer(
        OWNER,
        "<item affiliation='admin' jid='wiccarocks@shakespeare.example'/>",
    );
    stage.enter(ADMIN, "secondwitch");
    assert_eq!(stage.room.occupants(), 2);
}

#[test]
fn the_first_role_is_by_affiliation_and_kind_of_room() {
    let config = Config {
        moderated: true,
        ..Config::default()
    };
    let mut stage = Stage::open(config);
    stage.administer(
        OWNER,
        "<item affiliation='member' jid='hecate@shakespeare.example'/>",
    );
    stage.enter(GUEST, "thirdwitch");
    stage.enter(OTHER, "hecate");
    assert_eq!(
        stage
            .seen(OWNER)
            .iter()
            .filter(|line| line.starts_with("presence"))
            .collect::<Vec<_>>(),
        [
            "presence thirdwitch none,visitor,hag66@shakespeare.example/pda",
            "presence hecate member,participant,hecate@shakespeare.example/broom",
        ]
    );
}

#[test]
fn real_addresses_are_seen_by_those_who_may() {
    let mut stage = Stage::full(Config::default());
    stage.enter(OTHER, "hecate");
    let guest = "presence hecate none,participant";
    let full = "presence hecate none,participant,hecate@shakespeare.example/broom";
    assert_eq!(stage.seen(GUEST), [guest]);
    assert_eq!(stage.seen(ADMIN), [full]);
    assert_eq!(stage.seen(OWNER), [full]);
    let mut stage = Stage::full(Config {
        whois: Whois::Anyone,
        ..Config::default()
    });
    stage.enter(OTHER, "hecate");
    assert_eq!(stage.seen(GUEST), [full]);
    let seen = stage.seen(OTHER);
    assert_eq!(
        seen.first().map(String::as_str),
        Some("presence firstwitch owner,moderator,crone1@shakespeare.example/desktop")
    );
    assert!(seen.contains(&format!("{full} 100 110 170")), "{seen:?}");
}

#[test]
fn the_history_asked_for_is_the_history_sent() {
    let mut stage = Stage::open(Config::default());
    stage.send(GUEST, "<presence to='coven@rooms.example/thirdwitch'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='3' seconds='10'/></x></presence>");
    let expected = Request {
        stanzas: Some(3),
        since: Some(NOW - 10_000),
        characters: None,
    };
    assert_eq!(stage.histories, [(GUEST.to_owned(), expected)]);
}

#[test]
fn several_sessions_of_one_person_share_a_nick() {
    let mut stage = Stage::full(Config {
        whois: Whois::Anyone,
        ..Config::default()
    });
    stage.enter(SECOND, "thirdwitch");
    let seen = stage.seen(SECOND);
    assert_eq!(seen.len(), 4, "two others, oneself, the subject: {seen:?}");
    assert!(
        seen.contains(
            &"presence thirdwitch none,participant,hag66@shakespeare.example/phone 100 110 170"
                .to_owned()
        )
    );
    assert_eq!(
        stage.seen(OWNER),
        [
            "presence thirdwitch none,participant,hag66@shakespeare.example/pda none,participant,hag66@shakespeare.example/phone"
        ]
    );
    assert_eq!(stage.room.occupants(), 3);
    stage.clear();
    stage.say(SECOND, "hello");
    assert_eq!(stage.seen(GUEST), ["groupchat thirdwitch hello"]);
    assert_eq!(stage.seen(SECOND), ["groupchat thirdwitch hello"]);
    // One leaves, the person stays.
    stage.send(
        SECOND,
        "<presence to='coven@rooms.example/thirdwitch' type='unavailable'/>",
    );
    assert_eq!(
        stage.seen(SECOND),
        ["unavailable thirdwitch none,none,hag66@shakespeare.example/phone 110"]
    );
    assert!(
        !stage
            .seen(OWNER)
            .iter()
            .any(|line| line.contains("unavailable"))
    );
    for resource in ["a", "b", "c"] {
        stage.enter(
            &format!("hag66@shakespeare.example/{resource}"),
            "thirdwitch",
        );
    }
    assert_eq!(
        stage.outcome("hag66@shakespeare.example/c"),
        "resource-constraint"
    );
}

#[test]
fn a_changed_presence_is_seen_by_all() {
    let mut stage = Stage::full(Config::default());
    stage.send(GUEST, "<presence to='coven@rooms.example/thirdwitch' id='p'><show>xa</show><status>gone</status><x xmlns='http://jabber.org/protocol/muc#user'><status code='307'/></x></presence>");
    assert_eq!(
        stage.seen(OWNER),
        ["presence thirdwitch status:gone none,participant,hag66@shakespeare.example/pda"]
    );
    let own = stage.got.remove(GUEST).unwrap();
    assert_eq!(own[0].attr("id"), Some("p"));
    assert_eq!(own.len(), 1);
    stage.administer(OWNER, "<item nick='thirdwitch' role='visitor'/>");
    let own = stage.got.remove(GUEST).unwrap();
    assert_eq!(own[0].attr("id"), None, "the id answers once");
    stage.administer(OWNER, "<item nick='thirdwitch' role='participant'/>");
    stage.clear();
    // To the room itself too.
    stage.send(
        GUEST,
        "<presence to='coven@rooms.example'><status>back</status></presence>",
    );
    assert_eq!(
        stage.seen(ADMIN).last().unwrap(),
        "presence thirdwitch status:back none,participant,hag66@shakespeare.example/pda"
    );
}

#[test]
fn who_enters_again_gets_everything_again() {
    let mut stage = Stage::full(Config::default());
    stage.enter(GUEST, "thirdwitch");
    assert_eq!(stage.seen(GUEST).len(), 4);
    assert_eq!(stage.histories.len(), 1);
}

#[test]
fn a_new_nick_is_told_with_the_old_one() {
    let mut stage = Stage::full(Config::default());
    stage.send(GUEST, "<presence to='coven@rooms.example/oldhag'/>");
    assert_eq!(
        stage.seen(OWNER),
        [
            "unavailable thirdwitch none,participant,hag66@shakespeare.example/pda,nick:oldhag 303",
            "presence oldhag none,participant,hag66@shakespeare.example/pda",
        ]
    );
    assert_eq!(
        stage.seen(GUEST),
        [
            "unavailable thirdwitch none,participant,hag66@shakespeare.example/pda,nick:oldhag 110 303",
            "presence oldhag none,participant,hag66@shakespeare.example/pda 110",
        ]
    );
    for taken in ["firstwitch", "secondwitch"] {
        stage.send(
            GUEST,
            &format!("<presence to='coven@rooms.example/{taken}'/>"),
        );
        assert_eq!(stage.outcome(GUEST), "conflict");
    }
    assert_eq!(stage.room.occupants(), 3);
}

#[test]
fn one_of_two_sessions_takes_a_nick_of_its_own_and_back() {
    let mut stage = Stage::full(Config::default());
    stage.enter(SECOND, "thirdwitch");
    stage.clear();
    stage.send(SECOND, "<presence to='coven@rooms.example/phonewitch'/>");
    assert_eq!(stage.room.occupants(), 4);
    assert_eq!(
        stage.seen(OWNER),
        [
            "presence thirdwitch none,participant,hag66@shakespeare.example/pda",
            "presence phonewitch none,participant,hag66@shakespeare.example/phone",
        ]
    );
    assert!(stage.seen(SECOND)[0].starts_with("unavailable thirdwitch"));
    stage.clear();
    stage.send(SECOND, "<presence to='coven@rooms.example/thirdwitch'/>");
    assert_eq!(stage.room.occupants(), 3);
    let seen = stage.seen(OWNER);
    assert_eq!(seen[0], "unavailable phonewitch none,none");
    assert!(seen[1].starts_with("presence thirdwitch"), "{seen:?}");
    let own = stage.seen(SECOND);
    assert_eq!(
        own[0],
        "unavailable phonewitch none,participant,hag66@shakespeare.example/phone,nick:thirdwitch 110 303"
    );
    assert_eq!(own.len(), 2, "{own:?}");
}

#[test]
fn an_occupant_has_the_same_id_each_time_and_nobody_forges_it() {
    let id = |stage: &mut Stage, nick: &str| {
        let got = stage.got.remove(OWNER).unwrap();
        let of_nick = |one: &&Element| one.attr("from").unwrap().ends_with(nick);
        let last = got.iter().rev().find(of_nick).unwrap();
        let ids: Vec<&Element> = last
            .children()
            .filter(|child| child.has_ns(ns::OID))
            .collect();
        assert_eq!(ids.len(), 1);
        ids[0].attr("id").unwrap().to_owned()
    };
    let mut stage = Stage::open(Config::default());
    stage.send(GUEST, "<presence to='coven@rooms.example/thirdwitch'><occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/><x xmlns='http://jabber.org/protocol/muc'/></presence>");
    let first = id(&mut stage, "thirdwitch");
    stage.send(
        GUEST,
        "<presence to='coven@rooms.example/thirdwitch' type='unavailable'/>",
    );
    stage.enter("hag66@shakespeare.example/phone", "other");
    assert_eq!(id(&mut stage, "other"), first);
    stage.send("hag66@shakespeare.example/phone", "<message type='groupchat' to='coven@rooms.example'><body>x</body><occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/></message>");
    assert_eq!(id(&mut stage, "other"), first);
    stage.enter(OTHER, "hecate");
    assert_ne!(id(&mut stage, "hecate"), first);
    assert!(!first.contains("hag66") && first.len() <= 128);
}

#[test]
fn a_probe_is_answered_to_occupants() {
    let mut stage = Stage::full(Config::default());
    stage.send(
        GUEST,
        "<presence to='coven@rooms.example/secondwitch' type='probe'/>",
    );
    assert_eq!(stage.seen(GUEST), ["presence secondwitch admin,moderator"]);
    stage.send(
        OTHER,
        "<presence to='coven@rooms.example/secondwitch' type='probe'/>",
    );
    assert_eq!(stage.outcome(OTHER), "not-acceptable");
    stage.send(OTHER, "<presence to='coven@rooms.example' type='probe'/>");
    assert!(stage.got.is_empty(), "a room is in no roster");
}
