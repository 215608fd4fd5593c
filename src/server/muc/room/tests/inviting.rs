//! XEP-0045, 7.8: invitations by way of the room, and refusals.

use super::*;

type Change = fn(&mut Config);

const INVITED: &str = "banquo@shakespeare.example";

fn invite(stage: &mut Stage, who: &str) {
    stage.send(who, "<message to='coven@rooms.example'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='banquo@shakespeare.example'><reason>Come</reason><continue thread='t'/></invite></x></message>");
}

#[test]
fn an_invitation_comes_from_the_room_with_its_password() {
    let mut stage = Stage::full(Config::default());
    stage.room.config.password = "cauldronburn".into();
    invite(&mut stage, GUEST);
    let got = stage.got.remove(INVITED).unwrap().pop().unwrap();
    assert_eq!(got.attr("from"), Some("coven@rooms.example"));
    let x = got.get_child("x", ns::MUC_USER).unwrap();
    let invite = x.get_child("invite", ns::MUC_USER).unwrap();
    assert_eq!(
        invite.attr("from"),
        Some("coven@rooms.example/thirdwitch"),
        "semi-anonymous"
    );
    assert_eq!(
        super::super::reason(invite).unwrap().as_deref(),
        Some("Come")
    );
    assert!(invite.has_child("continue", ns::MUC_USER));
    assert_eq!(
        x.get_child("password", ns::MUC_USER).unwrap().text(),
        "cauldronburn"
    );
    let direct = got.get_child("x", ns::CONFERENCE).unwrap();
    assert_eq!(direct.attr("jid"), Some("coven@rooms.example"));
    assert!(stage.stored.is_empty() && stage.got.is_empty());
}

#[test]
fn only_those_who_may_invite_do() {
    let table: [(&str, Change, &str, &str); 7] = [
        ("open", |_| {}, GUEST, "ok"),
        ("from outside", |_| {}, OTHER, "not-acceptable"),
        (
            "an owner from another session",
            |_| {},
            "crone1@shakespeare.example/x",
            "ok",
        ),
        (
            "members only",
            |config| config.members_only = true,
            GUEST,
            "forbidden",
        ),
        (
            "members only, an admin",
            |config| config.members_only = true,
            ADMIN,
            "ok",
        ),
        (
            "members may, no member",
            |config| {
                config.members_only = true;
                config.allow_invites = true;
            },
            GUEST,
            "forbidden",
        ),
        (
            "members may",
            |config| {
                config.members_only = true;
                config.allow_invites = true;
            },
            ADMIN,
            "ok",
        ),
    ];
    for (name, change, who, expected) in table {
        let mut stage = Stage::full(Config::default());
        change(&mut stage.room.config);
        invite(&mut stage, who);
        assert_eq!(stage.outcome(who), expected, "{name}");
        assert_eq!(stage.got.contains_key(INVITED), expected == "ok", "{name}");
    }
}

#[test]
fn who_is_invited_to_a_members_only_room_becomes_a_member() {
    let mut stage = Stage::full(Config::default());
    stage.room.config.members_only = true;
    invite(&mut stage, ADMIN);
    assert_eq!(
        stage.list(OWNER, "affiliation='member'").unwrap(),
        [INVITED]
    );
    stage.administer(
        OWNER,
        "<item affiliation='outcast' jid='banquo@shakespeare.example'/>",
    );
    stage.clear();
    invite(&mut stage, ADMIN);
    assert_eq!(
        stage.outcome(ADMIN),
        "not-allowed",
        "a ban is not lifted by an invitation"
    );
    stage.room.config.members_only = false;
    let mut open = Stage::full(Config::default());
    invite(&mut open, ADMIN);
    assert!(open.list(OWNER, "affiliation='member'").unwrap().is_empty());
}

#[test]
fn a_refusal_reaches_who_is_in_the_room_and_nobody_else() {
    let decline = |to: &str| {
        format!(
            "<message to='coven@rooms.example'><x xmlns='http://jabber.org/protocol/muc#user'><decline to='{to}'><reason>Busy</reason></decline></x></message>"
        )
    };
    let from = "banquo@shakespeare.example/horse";
    for to in [
        "hag66@shakespeare.example",
        "coven@rooms.example/thirdwitch",
        GUEST,
    ] {
        let mut stage = Stage::full(Config::default());
        stage.send(from, &decline(to));
        assert_eq!(
            stage.seen(GUEST),
            ["message room decline:banquo@shakespeare.example"],
            "{to}"
        );
    }
    let mut stage = Stage::full(Config::default());
    stage.send(from, &decline("duncan@shakespeare.example"));
    assert_eq!(
        stage.outcome(from),
        "ok",
        "as for somebody who is in the room"
    );
    assert!(stage.got.is_empty());
}

#[test]
fn what_is_no_invitation_is_refused() {
    for payload in [
        "",
        "<status code='301'/>",
        "<invite/>",
        "<invite to='@'/>",
        "<decline/>",
    ] {
        let mut stage = Stage::full(Config::default());
        stage.send(GUEST, &format!("<message to='coven@rooms.example'><x xmlns='http://jabber.org/protocol/muc#user'>{payload}</x></message>"));
        assert!(
            ["bad-request", "jid-malformed"].contains(&stage.outcome(GUEST).as_str()),
            "{payload}"
        );
        assert!(stage.got.is_empty());
    }
}
