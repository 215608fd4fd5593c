//! XEP-0045, 6.4, 10.1 and 10.2: what owners set, what everybody learns of it, and what of it is kept.

use super::*;
use crate::server::muc::config::Whois;
use crate::xmpp::form::Filled;

fn features(stage: &mut Stage, who: &str) -> Vec<String> {
    let answer = stage.ask(
        who,
        "get",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
    );
    let query = answer.get_child("query", ns::DISCO_INFO).unwrap().clone();
    let vars = query.children().filter_map(|child| child.attr("var"));
    vars.map(str::to_owned).collect()
}

#[test]
fn only_owners_configure() {
    for (who, expected) in [
        (OWNER, "ok"),
        (ADMIN, "forbidden"),
        (GUEST, "forbidden"),
        (OTHER, "forbidden"),
    ] {
        let mut stage = Stage::full(Config::default());
        let form = stage.ask(
            who,
            "get",
            "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
        );
        assert_eq!(outcome(&form), expected);
        assert_eq!(String::from(&form).contains("roomsecret"), who == OWNER);
        assert_eq!(
            stage.configure(who, &[("roomname", "A Dark Cave")]),
            expected
        );
        assert_eq!(stage.room.config().name == "A Dark Cave", expected == "ok");
    }
}

#[test]
fn the_form_comes_back_with_what_was_set() {
    let mut stage = Stage::full(Config::default());
    stage.configure(
        OWNER,
        &[("roomname", "A Dark Cave"), ("roomsecret", "cauldronburn")],
    );
    let answer = stage.ask(
        OWNER,
        "get",
        "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
    );
    let form = answer
        .get_child("query", ns::MUC_OWNER)
        .unwrap()
        .children()
        .next()
        .unwrap();
    let form = Filled::fields_of(form).unwrap();
    let value = |var: &str| form.value(var).unwrap();
    assert_eq!(value("muc#roomconfig_roomname"), "A Dark Cave");
    assert_eq!(value("muc#roomconfig_passwordprotectedroom"), "1");
    assert_eq!(
        value("muc#roomconfig_roomowners"),
        "crone1@shakespeare.example"
    );
    assert_eq!(
        value("muc#roomconfig_roomadmins"),
        "wiccarocks@shakespeare.example"
    );
}

#[test]
fn occupants_are_told_of_changes_by_code() {
    let table: [(&[(&str, &str)], &str); 4] = [
        (&[("whois", "anyone")], "groupchat room 172"),
        (&[("enablearchiving", "0")], "groupchat room 171"),
        (&[("roomname", "x")], "groupchat room 104"),
        (&[("publicroom", "1")], ""),
    ];
    for (fields, expected) in table {
        let mut stage = Stage::full(Config::default());
        assert_eq!(stage.configure(OWNER, fields), "ok");
        assert_eq!(stage.seen(GUEST).join("; "), expected);
    }
}

#[test]
fn a_form_that_cannot_be_changes_nothing() {
    let table: [(&[(&str, &str)], &str); 4] = [
        (
            &[("roomname", "x"), ("passwordprotectedroom", "1")],
            "not-acceptable",
        ),
        (&[("roomname", "x"), ("whois", "none")], "not-acceptable"),
        (&[("roomname", "x"), ("roomadmins", "@")], "not-acceptable"),
        (&[("roomname", "x"), ("roomowners", "")], "conflict"),
    ];
    for (fields, expected) in table {
        let mut stage = Stage::full(Config::default());
        assert_eq!(stage.configure(OWNER, fields), expected);
        assert_eq!(stage.room.config(), &Config::default());
    }
    let mut stage = Stage::full(Config::default());
    let answer = stage.ask(OWNER, "set", "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='cancel'/></query>");
    assert_eq!(outcome(&answer), "ok");
    assert!(!stage.destroyed);
}

#[test]
fn who_is_no_member_leaves_a_room_that_becomes_for_members() {
    let mut stage = Stage::full(Config::default());
    stage.configure(OWNER, &[("membersonly", "1")]);
    assert_eq!(
        stage.seen(GUEST),
        ["unavailable thirdwitch none,none,hag66@shakespeare.example/pda 110 322"]
    );
    assert_eq!(
        stage.seen(ADMIN),
        [
            "unavailable thirdwitch none,none,hag66@shakespeare.example/pda 322",
            "groupchat room 104"
        ]
    );
    assert_eq!(stage.room.occupants(), 2);
}

#[test]
fn the_lists_of_the_form_are_whole() {
    let mut stage = Stage::full(Config::default());
    stage.configure(OWNER, &[("roomadmins", "hag66@shakespeare.example")]);
    assert_eq!(
        stage.list(OWNER, "affiliation='admin'").unwrap(),
        ["hag66@shakespeare.example"]
    );
    assert_eq!(
        stage.list(OWNER, "affiliation='member'").unwrap(),
        ["wiccarocks@shakespeare.example"]
    );
    assert!(stage.seen(GUEST)[0].starts_with("presence thirdwitch admin,moderator,"));
    stage.configure(OWNER, &[("roomowners", "hag66@shakespeare.example")]);
    assert_eq!(
        stage.list(GUEST, "affiliation='owner'").unwrap(),
        ["hag66@shakespeare.example"]
    );
    assert_eq!(
        stage.list(GUEST, "affiliation='admin'").unwrap(),
        ["crone1@shakespeare.example"]
    );
}

#[test]
fn a_room_tells_what_it_is() {
    let mut stage = Stage::full(Config::default());
    let found = features(&mut stage, OTHER);
    for feature in [
        "http://jabber.org/protocol/muc",
        "muc_public",
        "muc_temporary",
        "muc_open",
        "muc_unmoderated",
        "muc_unsecured",
        "muc_semianonymous",
        "urn:xmpp:mam:2",
        "urn:xmpp:occupant-id:0",
        "http://jabber.org/protocol/muc#self-ping-optimization",
        "http://jabber.org/protocol/muc#stable_id",
        "urn:xmpp:sid:0",
    ] {
        assert!(found.contains(&feature.to_owned()), "{feature}");
    }
    stage.room.config = Config {
        public: false,
        persistent: true,
        members_only: true,
        moderated: true,
        password: "x".into(),
        whois: Whois::Anyone,
        archived: false,
        ..Config::default()
    };
    let found = features(&mut stage, OTHER);
    for feature in [
        "muc_hidden",
        "muc_persistent",
        "muc_membersonly",
        "muc_moderated",
        "muc_passwordprotected",
        "muc_nonanonymous",
    ] {
        assert!(found.contains(&feature.to_owned()), "{feature}");
    }
    assert!(!found.contains(&"urn:xmpp:mam:2".to_owned()));
}

#[test]
fn what_is_said_inside_is_not_told_outside_a_closed_room() {
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    for (members_only, who, told) in [
        (false, OTHER, true),
        (true, OTHER, false),
        (true, ADMIN, true),
    ] {
        let mut stage = Stage::full(Config::default());
        stage.send(OWNER, "<message to='coven@rooms.example' type='groupchat'><subject>Secret</subject></message>");
        stage.room.config.members_only = members_only;
        let answer = String::from(&stage.ask(who, "get", info));
        assert_eq!(answer.contains("Secret"), told, "{who}");
        assert_eq!(answer.contains("roominfo_occupants"), told, "{who}");
    }
    let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
    for (public, members_only, who, count) in [
        (true, false, OTHER, 3),
        (false, false, OTHER, 0),
        (true, true, OTHER, 0),
        (false, true, GUEST, 3),
    ] {
        let mut stage = Stage::full(Config::default());
        stage.room.config.public = public;
        stage.room.config.members_only = members_only;
        let answer = stage.ask(who, "get", items);
        assert_eq!(
            answer
                .get_child("query", ns::DISCO_ITEMS)
                .unwrap()
                .children()
                .count(),
            count
        );
    }
}

#[test]
fn what_a_room_does_not_know_it_refuses() {
    let mut stage = Stage::full(Config::default());
    for (kind, payload, expected) in [
        (
            "get",
            "<query xmlns='jabber:iq:version'/>",
            "service-unavailable",
        ),
        (
            "get",
            "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>",
            "item-not-found",
        ),
        ("get", "", "bad-request"),
        (
            "get",
            "<query xmlns='http://jabber.org/protocol/muc#admin'/>",
            "bad-request",
        ),
        (
            "set",
            "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
            "bad-request",
        ),
        ("get", "<ping xmlns='urn:xmpp:ping'/>", "ok"),
    ] {
        assert_eq!(
            outcome(&stage.ask(OWNER, kind, payload)),
            expected,
            "{payload}"
        );
    }
}

#[test]
fn a_persistent_room_is_the_same_after_a_restart() {
    let mut stage = Stage::full(Config::default());
    stage.administer(
        OWNER,
        "<item affiliation='outcast' jid='x@y'><reason>Spam</reason></item>",
    );
    assert!(stage.stored.is_empty(), "a temporary one is not kept");
    stage.configure(OWNER, &[("persistentroom", "1"), ("roomname", "Cave")]);
    stage.administer(
        OWNER,
        "<item affiliation='member' jid='hecate@shakespeare.example' nick='queen'/>",
    );
    stage.send(
        OWNER,
        "<message to='coven@rooms.example' type='groupchat'><subject>Fire</subject></message>",
    );
    let address = stage.room.address().clone();
    let mut loaded = Stage::empty(Config::default(), true);
    loaded.room = Room::load(address, Limits::default(), &stage.stored).unwrap();
    assert_eq!(loaded.room.config(), stage.room.config());
    assert_eq!(
        loaded.list(OWNER, "affiliation='outcast'").unwrap(),
        ["x@y"]
    );
    let affiliations = |room: &Room| format!("{:?}", room.affiliations);
    assert_eq!(affiliations(&loaded.room), affiliations(&stage.room));
    assert_eq!(
        loaded.room.id_of(&BareJid::new("a@b").unwrap()),
        stage.room.id_of(&BareJid::new("a@b").unwrap())
    );
    loaded.enter(OTHER, "queen");
    let seen = loaded.seen(OTHER);
    assert!(!seen[0].contains("201"), "it is not new");
    assert_eq!(seen[1], "groupchat firstwitch subject:Fire");
    let listing = Room::stored_listing(&stage.stored).unwrap();
    assert_eq!(listing, stage.room.listing());
    stage.configure(OWNER, &[("persistentroom", "0")]);
    assert!(stage.stored.is_empty());
    assert!(
        Room::load(
            stage.room.address().clone(),
            Limits::default(),
            &stage.stored
        )
        .is_none()
    );
}

#[test]
fn those_whose_presence_is_not_broadcast_are_seen_by_nobody() {
    let mut stage = Stage::full(Config {
        moderated: true,
        ..Config::default()
    });
    let roles = |stage: &mut Stage, names: &str| {
        let values = names.replace(' ', "</value><value>");
        let form = format!(
            "<query xmlns='{}'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{}</value></field>
             <field var='muc#roomconfig_presencebroadcast'><value>{values}</value></field></x></query>",
            ns::MUC_OWNER,
            ns::MUC_ROOMCONFIG
        );
        assert_eq!(outcome(&stage.ask(OWNER, "set", &form)), "ok");
    };
    // The guest has no voice here.
    roles(&mut stage, "moderator participant");
    let hidden = stage.seen(OWNER);
    assert!(
        hidden[0].starts_with("unavailable thirdwitch"),
        "{hidden:?}"
    );
    stage.clear();
    stage.enter(OTHER, "hecate");
    assert!(
        !stage
            .seen(OTHER)
            .iter()
            .any(|line| line.contains("thirdwitch"))
    );
    assert!(stage.seen(OWNER).is_empty() && stage.seen(GUEST).is_empty());
    let occupants = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
    let listed = String::from(&stage.ask(OTHER, "get", occupants));
    assert!(
        listed.contains("firstwitch") && !listed.contains("thirdwitch"),
        "{listed}"
    );
    stage.administer(OWNER, "<item nick='thirdwitch' role='participant'/>");
    let seen = stage.seen(OTHER);
    assert!(seen[0].starts_with("presence thirdwitch"), "{seen:?}");
    stage.clear();
    stage.administer(OWNER, "<item nick='thirdwitch' role='visitor'/>");
    let seen = stage.seen(OTHER);
    assert!(seen[0].starts_with("unavailable thirdwitch"), "{seen:?}");
    let own = stage.seen(GUEST);
    assert!(
        own[0].starts_with("presence thirdwitch none,visitor"),
        "{own:?}"
    );
    stage.clear();
    stage.send(
        GUEST,
        "<presence to='coven@rooms.example/thirdwitch' type='unavailable'/>",
    );
    assert!(
        stage.seen(OTHER).is_empty(),
        "who was not seen is not missed"
    );
    roles(&mut stage, "moderator participant visitor");
    let seen = stage.seen(OWNER);
    assert!(seen[0].starts_with("presence hecate"), "{seen:?}");
}

#[test]
fn the_lists_of_members_are_for_the_roles_that_owners_name() {
    let mut stage = Stage::full(Config::default());
    let list = |stage: &mut Stage, who: &str, by: &str| stage.list(who, by).map(|list| list.len());
    for (roles, expected) in [("", Err("forbidden".to_owned())), ("participant", Ok(1))] {
        stage.configure(OWNER, &[("getmemberlist", roles)]);
        let found = list(&mut stage, GUEST, "affiliation='admin'");
        assert_eq!(found, expected, "{roles}");
        let outcasts = list(&mut stage, GUEST, "affiliation='outcast'");
        assert_eq!(outcasts, Err("forbidden".to_owned()));
        let stranger = list(&mut stage, OTHER, "affiliation='admin'");
        assert_eq!(stranger, Err("forbidden".to_owned()));
    }
}

#[test]
fn no_more_history_is_shown_than_the_owners_want() {
    let mut stage = Stage::open(Config::default());
    stage.configure(OWNER, &[("historylength", "3")]);
    stage.enter(GUEST, "x");
    assert_eq!(stage.histories[0].1.stanzas, Some(3));
}

#[test]
fn what_people_write_has_an_end() {
    let mut stage = Stage::full(Config::default());
    let long = "x".repeat(1_025);
    let kick = format!("<item nick='thirdwitch' role='none'><reason>{long}</reason></item>");
    assert_eq!(stage.administer(ADMIN, &kick), "not-acceptable");
    let nick = "x".repeat(257);
    stage.enter(OTHER, &nick);
    assert_eq!(stage.outcome(OTHER), "not-acceptable");
    let subject = "x".repeat(4_097);
    stage.send(OWNER, &format!("<message to='coven@rooms.example' type='groupchat'><subject>{subject}</subject></message>"));
    assert_eq!(stage.outcome(OWNER), "not-acceptable");
    let status = "x".repeat(8_193);
    stage.send(
        GUEST,
        &format!(
            "<presence to='coven@rooms.example/thirdwitch'><status>{status}</status></presence>"
        ),
    );
    assert_eq!(stage.outcome(GUEST), "policy-violation");
    let id = "x".repeat(1_025);
    stage.send(GUEST, &format!("<iq type='get' id='{id}' to='coven@rooms.example/firstwitch'><query xmlns='jabber:iq:version'/></iq>"));
    assert_eq!(stage.outcome(GUEST), "policy-violation");
}

#[test]
fn a_room_has_room_for_so_many_bytes_of_people() {
    let mut stage = Stage::full(Config::default());
    stage.room.limits.affiliations = 1_000;
    let reason = "x".repeat(1_000);
    let mut banned = 0;
    while banned < 500 {
        let ban = format!(
            "<item affiliation='outcast' jid='evil{banned}@x.example'><reason>{reason}</reason></item>"
        );
        if stage.administer(OWNER, &ban) != "ok" {
            break;
        }
        banned += 1;
    }
    assert!((50..100).contains(&banned), "{banned}");
    assert_eq!(
        stage.administer(OWNER, "<item affiliation='none' jid='evil1@x.example'/>"),
        "ok"
    );
}

#[test]
fn a_room_that_was_to_last_leaves_a_tombstone() {
    for persistent in [true, false] {
        let mut stage = Stage::full(Config {
            persistent,
            ..Config::default()
        });
        stage.ask(OWNER, "set", "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='hall@rooms.example'><reason>Over</reason></destroy></query>");
        let left = stage.tombstone.map(|left| (left.reason, left.at));
        let expected = persistent.then(|| (Some("Over".to_owned()), NOW));
        assert_eq!(left, expected);
    }
}
