//! XEP-0045, 8 to 10: roles and affiliations changed and listed.

use super::*;
use crate::server::muc::config::Whois;

const KICK: &str = "<item nick='thirdwitch' role='none'><reason>Avaunt</reason></item>";

#[test]
fn a_kick_takes_all_sessions_out_and_says_who_and_why() {
    let mut stage = Stage::full(Config::default());
    stage.enter("hag66@shakespeare.example/phone", "thirdwitch");
    stage.clear();
    assert_eq!(stage.administer(ADMIN, KICK), "ok");
    assert_eq!(
        stage.seen(GUEST),
        [
            "unavailable thirdwitch none,none,hag66@shakespeare.example/pda,by:secondwitch,reason:Avaunt 110 307"
        ]
    );
    assert_eq!(stage.seen("hag66@shakespeare.example/phone").len(), 1);
    let seen = stage.seen(OWNER);
    assert_eq!(seen.len(), 1);
    assert!(
        seen[0].contains("by:secondwitch,by:wiccarocks@shakespeare.example,reason:Avaunt"),
        "{seen:?}"
    );
    assert_eq!(stage.room.occupants(), 2);
    stage.enter(GUEST, "thirdwitch");
    assert_eq!(stage.room.occupants(), 3, "a kick is no ban");
}

#[test]
fn roles_are_changed_by_those_who_may() {
    let table = [
        (
            "a participant kicks",
            GUEST,
            "<item nick='secondwitch' role='none'/>",
            "forbidden",
        ),
        ("a stranger kicks", OTHER, KICK, "forbidden"),
        (
            "an admin kicks an owner",
            ADMIN,
            "<item nick='firstwitch' role='none'/>",
            "not-allowed",
        ),
        (
            "an admin kicks nobody",
            ADMIN,
            "<item nick='nobody' role='none'/>",
            "item-not-found",
        ),
        (
            "an admin takes an owner's voice",
            ADMIN,
            "<item nick='firstwitch' role='visitor'/>",
            "not-allowed",
        ),
        (
            "an owner takes an admin's voice",
            OWNER,
            "<item nick='secondwitch' role='visitor'/>",
            "not-allowed",
        ),
        (
            "an admin makes a moderator",
            ADMIN,
            "<item nick='thirdwitch' role='moderator'/>",
            "ok",
        ),
        (
            "an admin takes a voice by address",
            ADMIN,
            "<item jid='hag66@shakespeare.example/pda' role='visitor'/>",
            "ok",
        ),
        (
            "an owner who is elsewhere kicks",
            "crone1@shakespeare.example/x",
            KICK,
            "ok",
        ),
        (
            "both at once",
            ADMIN,
            "<item nick='thirdwitch' role='none' affiliation='none'/>",
            "bad-request",
        ),
        ("neither", ADMIN, "<item nick='thirdwitch'/>", "bad-request"),
        (
            "an unknown role",
            ADMIN,
            "<item nick='thirdwitch' role='king'/>",
            "bad-request",
        ),
        ("nothing", ADMIN, "", "bad-request"),
        (
            "all owners at once",
            OWNER,
            "<item affiliation='owner' jid='hecate@shakespeare.example'/><item affiliation='none' jid='hecate@shakespeare.example'/><item affiliation='none' jid='crone1@shakespeare.example'/>",
            "conflict",
        ),
        (
            "one of two may not be",
            ADMIN,
            "<item nick='thirdwitch' role='none'/><item nick='firstwitch' role='none'/>",
            "not-allowed",
        ),
    ];
    for (name, who, items, expected) in table {
        let mut stage = Stage::full(Config::default());
        assert_eq!(stage.administer(who, items), expected, "{name}");
        if expected != "ok" {
            assert_eq!(stage.room.occupants(), 3, "{name}");
            assert!(stage.got.values().all(Vec::is_empty), "{name}");
        }
    }
}

#[test]
fn a_new_moderator_sees_who_everybody_is() {
    let mut stage = Stage::full(Config::default());
    stage.administer(OWNER, "<item nick='thirdwitch' role='moderator'/>");
    assert_eq!(
        stage.seen(GUEST),
        [
            "presence thirdwitch none,moderator,hag66@shakespeare.example/pda,by:firstwitch,by:crone1@shakespeare.example 110",
            "presence firstwitch owner,moderator,crone1@shakespeare.example/desktop",
            "presence secondwitch admin,moderator,wiccarocks@shakespeare.example/laptop",
        ]
    );
    stage.administer(OWNER, "<item nick='thirdwitch' role='participant'/>");
    assert_eq!(
        stage.seen(GUEST)[1..],
        [
            "presence firstwitch owner,moderator",
            "presence secondwitch admin,moderator"
        ]
    );
}

#[test]
fn a_ban_takes_out_and_keeps_out() {
    let mut stage = Stage::full(Config::default());
    let ban = "<item affiliation='outcast' jid='hag66@shakespeare.example/pda'><reason>Treason</reason></item>";
    assert_eq!(stage.administer(ADMIN, ban), "ok");
    assert_eq!(
        stage.seen(GUEST),
        [
            "unavailable thirdwitch outcast,none,hag66@shakespeare.example/pda,by:secondwitch,reason:Treason 110 301"
        ]
    );
    stage.enter("hag66@shakespeare.example/phone", "x");
    assert_eq!(
        stage.outcome("hag66@shakespeare.example/phone"),
        "forbidden"
    );
    assert_eq!(
        stage.list(ADMIN, "affiliation='outcast'").unwrap(),
        ["hag66@shakespeare.example"]
    );
    assert_eq!(
        stage.administer(
            ADMIN,
            "<item affiliation='none' jid='hag66@shakespeare.example'/>"
        ),
        "ok"
    );
    stage.enter(GUEST, "thirdwitch");
    assert_eq!(stage.room.occupants(), 3);
}

#[test]
fn affiliations_are_changed_by_those_who_may() {
    let table = [
        (
            "a guest makes a member",
            GUEST,
            "<item affiliation='member' jid='x@y'/>",
            "forbidden",
        ),
        (
            "a stranger makes an owner",
            OTHER,
            "<item affiliation='owner' jid='hecate@shakespeare.example'/>",
            "forbidden",
        ),
        (
            "an admin makes a member",
            ADMIN,
            "<item affiliation='member' nick='thirdwitch'/>",
            "ok",
        ),
        (
            "an admin makes an admin",
            ADMIN,
            "<item affiliation='admin' nick='thirdwitch'/>",
            "forbidden",
        ),
        (
            "an admin makes an owner",
            ADMIN,
            "<item affiliation='owner' jid='wiccarocks@shakespeare.example'/>",
            "forbidden",
        ),
        (
            "an admin bans an owner",
            ADMIN,
            "<item affiliation='outcast' jid='crone1@shakespeare.example'/>",
            "not-allowed",
        ),
        (
            "an admin bans itself",
            ADMIN,
            "<item affiliation='outcast' jid='wiccarocks@shakespeare.example'/>",
            "conflict",
        ),
        (
            "an owner bans itself",
            OWNER,
            "<item affiliation='outcast' jid='crone1@shakespeare.example'/>",
            "conflict",
        ),
        (
            "the last owner steps down",
            OWNER,
            "<item affiliation='admin' jid='crone1@shakespeare.example'/>",
            "conflict",
        ),
        (
            "the last owner with another",
            OWNER,
            "<item affiliation='owner' jid='hag66@shakespeare.example'/>",
            "ok",
        ),
        (
            "an owner bans an admin",
            OWNER,
            "<item affiliation='outcast' jid='wiccarocks@shakespeare.example'/>",
            "ok",
        ),
        (
            "no address",
            OWNER,
            "<item affiliation='member'/>",
            "item-not-found",
        ),
        (
            "no such address",
            OWNER,
            "<item affiliation='member' jid='@'/>",
            "jid-malformed",
        ),
        (
            "an unknown affiliation",
            OWNER,
            "<item affiliation='king' jid='x@y'/>",
            "bad-request",
        ),
        (
            "a nick of another",
            OWNER,
            "<item affiliation='member' jid='x@y' nick='thirdwitch'/>",
            "conflict",
        ),
    ];
    for (name, who, items, expected) in table {
        let mut stage = Stage::full(Config::default());
        assert_eq!(stage.administer(who, items), expected, "{name}");
    }
    let mut stage = Stage::full(Config::default());
    let many: Vec<String> = (0..20)
        .map(|number| format!("<item affiliation='member' jid='m{number}@y'/>"))
        .collect();
    assert_eq!(
        stage.administer(OWNER, &many.concat()),
        "resource-constraint"
    );
}

#[test]
fn an_owner_may_step_down_when_there_is_another_and_not_both_at_once() {
    let mut stage = Stage::full(Config::default());
    stage.administer(
        OWNER,
        "<item affiliation='owner' jid='hag66@shakespeare.example'/>",
    );
    let both = "<item affiliation='none' jid='hag66@shakespeare.example'/><item affiliation='none' jid='crone1@shakespeare.example'/>";
    assert_eq!(stage.administer(OWNER, both), "conflict");
    stage.administer(
        OWNER,
        "<item affiliation='owner' jid='hag66@shakespeare.example'/>",
    );
    assert_eq!(
        stage.administer(
            OWNER,
            "<item affiliation='none' jid='crone1@shakespeare.example'/>"
        ),
        "ok"
    );
    assert_eq!(
        stage.list(GUEST, "affiliation='owner'").unwrap(),
        ["hag66@shakespeare.example"]
    );
}

#[test]
fn a_membership_changes_the_role_and_is_seen() {
    let mut stage = Stage::full(Config::default());
    stage.room.config.moderated = true;
    stage.administer(OWNER, "<item nick='thirdwitch' role='visitor'/>");
    stage.clear();
    stage.administer(
        OWNER,
        "<item affiliation='member' jid='hag66@shakespeare.example'/>",
    );
    assert!(stage.seen(GUEST)[0].starts_with("presence thirdwitch member,participant,"));
    stage.administer(
        OWNER,
        "<item affiliation='none' jid='hag66@shakespeare.example'/>",
    );
    assert!(stage.seen(GUEST)[0].starts_with("presence thirdwitch none,visitor,"));
    stage.room.config.members_only = true;
    stage.administer(
        OWNER,
        "<item affiliation='member' jid='hag66@shakespeare.example'/>",
    );
    stage.clear();
    stage.administer(
        OWNER,
        "<item affiliation='none' jid='hag66@shakespeare.example'/>",
    );
    assert!(stage.seen(GUEST)[0].ends_with(" 110 321"));
    assert_eq!(stage.room.occupants(), 2);
}

#[test]
fn a_lost_admin_is_no_moderator_any_more() {
    let mut stage = Stage::full(Config::default());
    stage.administer(
        OWNER,
        "<item affiliation='member' jid='wiccarocks@shakespeare.example'/>",
    );
    assert!(stage.seen(ADMIN)[0].starts_with("presence secondwitch member,participant,"));
    assert_eq!(stage.administer(ADMIN, KICK), "forbidden");
}

#[test]
fn of_somebody_who_is_not_here_those_are_told_who_may_know() {
    let mut stage = Stage::full(Config::default());
    stage.administer(
        OWNER,
        "<item affiliation='member' jid='hecate@shakespeare.example'/>",
    );
    assert_eq!(
        stage.seen(ADMIN),
        ["message room member,none,hecate@shakespeare.example"]
    );
    assert!(stage.seen(GUEST).is_empty());
    assert_eq!(
        stage.seen("hecate@shakespeare.example"),
        ["message room member,none,hecate@shakespeare.example 101"]
    );
    stage.administer(
        OWNER,
        "<item affiliation='outcast' jid='hecate@shakespeare.example'/>",
    );
    assert!(stage.seen("hecate@shakespeare.example").is_empty());
}

#[test]
fn lists_are_for_those_who_are_entitled() {
    let members = "affiliation='member'";
    let table = [
        (OWNER, "affiliation='owner'", true),
        (OWNER, "affiliation='admin'", true),
        (ADMIN, "affiliation='owner'", false),
        (ADMIN, "affiliation='admin'", false),
        (ADMIN, members, true),
        (ADMIN, "affiliation='outcast'", true),
        (ADMIN, "role='moderator'", true),
        (ADMIN, "role='participant'", true),
        (GUEST, members, false),
        (GUEST, "affiliation='outcast'", false),
        (GUEST, "affiliation='none'", false),
        (GUEST, "role='participant'", false),
        (OTHER, members, false),
        (OTHER, "role='visitor'", false),
    ];
    for (who, by, entitled) in table {
        let mut stage = Stage::full(Config::default());
        let found = stage.list(who, by);
        assert_eq!(found.is_ok(), entitled, "{who} {by}: {found:?}");
        if !entitled {
            assert_eq!(found, Err("forbidden".to_owned()));
        }
    }
    // A moderator who is no admin gets the voice list, and not the list of moderators (9.8).
    let mut stage = Stage::full(Config::default());
    stage.administer(OWNER, "<item nick='thirdwitch' role='moderator'/>");
    assert!(stage.list(GUEST, "role='participant'").unwrap().is_empty());
    assert_eq!(
        stage.list(GUEST, "role='moderator'"),
        Err("forbidden".into())
    );
    assert_eq!(stage.list(OWNER, "role='moderator'").unwrap().len(), 3);
}

#[test]
fn members_of_a_closed_room_without_secrets_know_one_another() {
    let closed = Config {
        members_only: true,
        whois: Whois::Anyone,
        ..Config::default()
    };
    let mut stage = Stage::open(closed);
    stage.administer(
        OWNER,
        "<item affiliation='member' jid='hag66@shakespeare.example'/>",
    );
    assert_eq!(
        stage.list(GUEST, "affiliation='member'").unwrap(),
        ["hag66@shakespeare.example"]
    );
    assert_eq!(stage.list(GUEST, "affiliation='owner'").unwrap().len(), 1);
    assert!(stage.list(GUEST, "affiliation='outcast'").is_err());
    assert!(stage.list(OTHER, "affiliation='member'").is_err());
    stage.room.config.whois = Whois::Moderators;
    assert!(stage.list(GUEST, "affiliation='member'").is_err());
}

#[test]
fn a_kept_nick_is_its_holders() {
    let mut stage = Stage::full(Config::default());
    assert_eq!(
        stage.administer(
            ADMIN,
            "<item affiliation='member' jid='hecate@shakespeare.example' nick='queen'/>"
        ),
        "ok"
    );
    stage.clear();
    stage.send(GUEST, "<presence to='coven@rooms.example/queen'/>");
    assert_eq!(stage.outcome(GUEST), "conflict");
    let ask = "<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>";
    let answer = stage.ask(OTHER, "get", ask);
    let query = answer.get_child("query", ns::DISCO_INFO).unwrap();
    let identity = query.get_child("identity", ns::DISCO_INFO).unwrap();
    assert_eq!(identity.attr("name"), Some("queen"));
    let none = stage.ask(GUEST, "get", ask);
    assert_eq!(
        none.get_child("query", ns::DISCO_INFO)
            .unwrap()
            .children()
            .count(),
        0
    );
    stage.enter(OTHER, "queen");
    assert_eq!(stage.room.occupants(), 4);
    stage.administer(
        ADMIN,
        "<item affiliation='outcast' jid='hecate@shakespeare.example'/>",
    );
    stage.administer(
        ADMIN,
        "<item affiliation='member' jid='hecate@shakespeare.example'/>",
    );
    stage.send(GUEST, "<presence to='coven@rooms.example/queen'/>");
    assert_eq!(
        stage
            .room
            .occupants
            .by_session(&FullJid::new(GUEST).unwrap())
            .unwrap()
            .nick,
        "queen"
    );
}
