//! XEP-0045, 7.4, 7.13, 8.1 and 8.6: messages to all, the subject, and the voice to say them.

use super::*;

type Change = fn(&mut Config);

#[test]
fn what_one_says_all_hear_with_its_id() {
    let mut stage = Stage::full(Config::default());
    stage.say(GUEST, "Harpier cries");
    for who in [OWNER, ADMIN, GUEST] {
        let got = stage.got.remove(who).unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!(summary(&got[0]), "groupchat thirdwitch Harpier cries");
        assert_eq!(got[0].attr("id"), Some("m"));
    }
    assert_eq!(stage.archived, 1);
}

#[test]
fn who_is_not_here_or_has_no_voice_is_not_heard() {
    let mut stage = Stage::full(Config {
        moderated: true,
        ..Config::default()
    });
    stage.say(OTHER, "x");
    assert_eq!(stage.outcome(OTHER), "not-acceptable");
    stage.administer(OWNER, "<item nick='thirdwitch' role='visitor'/>");
    stage.clear();
    stage.say(GUEST, "x");
    assert_eq!(stage.outcome(GUEST), "forbidden");
    assert!(stage.got.is_empty());
}

#[test]
fn what_only_a_room_may_say_is_taken_out() {
    let mut stage = Stage::full(Config::default());
    stage.send(GUEST, "<message to='coven@rooms.example' type='groupchat' id='m'><body>x</body>\
        <stanza-id xmlns='urn:xmpp:sid:0' by='coven@rooms.example' id='forged'/>\
        <stanza-id xmlns='urn:xmpp:sid:0' by='hag66@shakespeare.example' id='1'/>\
        <origin-id xmlns='urn:xmpp:sid:0' id='m'/>\
        <delay xmlns='urn:xmpp:delay' from='COVEN@rooms.example/thirdwitch' stamp='2002-10-13T23:58:37Z'/>\
        <x xmlns='http://jabber.org/protocol/muc#user'><status code='301'/></x>\
        <occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/></message>");
    let got = stage.got.remove(OWNER).unwrap();
    let names: Vec<&str> = got[0].children().map(Element::name).collect();
    assert_eq!(names, ["body", "origin-id", "occupant-id"]);
    let id = got[0].get_child("occupant-id", ns::OID).unwrap();
    assert_ne!(id.attr("id"), Some("forged"));
}

#[test]
fn a_subject_is_set_by_those_who_may_and_told_who_enters() {
    let set = |who: &str, stage: &mut Stage| {
        stage.send(who, "<message to='coven@rooms.example' type='groupchat'><subject>Fire Burn</subject></message>");
    };
    let mut stage = Stage::full(Config::default());
    set(GUEST, &mut stage);
    assert_eq!(stage.outcome(GUEST), "forbidden");
    set(ADMIN, &mut stage);
    assert_eq!(
        stage.seen(GUEST),
        ["groupchat secondwitch subject:Fire Burn"]
    );
    assert_eq!(stage.archived, 0);
    stage.enter(OTHER, "hecate");
    let last = stage.got.remove(OTHER).unwrap().pop().unwrap();
    assert_eq!(summary(&last), "groupchat secondwitch subject:Fire Burn");
    assert!(last.has_child("delay", ns::DELAY) && last.has_child("occupant-id", ns::OID));
    let mut stage = Stage::full(Config {
        change_subject: true,
        ..Config::default()
    });
    set(GUEST, &mut stage);
    assert_eq!(
        stage.seen(OWNER),
        ["groupchat thirdwitch subject:Fire Burn"]
    );
}

#[test]
fn a_visitor_asks_for_a_voice_and_a_moderator_gives_it() {
    let mut stage = Stage::full(Config {
        moderated: true,
        ..Config::default()
    });
    stage.administer(OWNER, "<item nick='thirdwitch' role='visitor'/>");
    stage.clear();
    stage.send(GUEST, "<message to='coven@rooms.example'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field><field var='muc#role'><value>participant</value></field></x></message>");
    assert!(!stage.got.contains_key(GUEST));
    let request = stage.got.remove(OWNER).unwrap().pop().unwrap();
    assert!(stage.got.remove(ADMIN).is_some());
    let mut form = request.get_child("x", ns::DATA_FORMS).unwrap().clone();
    crate::xmpp::element::set(&mut form, "type", "submit");
    let refusal = String::from(&form);
    stage.send(
        OWNER,
        &format!("<message to='coven@rooms.example'>{refusal}</message>"),
    );
    assert!(stage.got.is_empty(), "it says no");
    let (before, after) = refusal.rsplit_once(">0<").unwrap();
    stage.send(
        OTHER,
        &format!("<message to='coven@rooms.example'>{before}>1<{after}</message>"),
    );
    assert_eq!(stage.outcome(OTHER), "not-acceptable");
    stage.send(
        ADMIN,
        &format!("<message to='coven@rooms.example'>{before}>1<{after}</message>"),
    );
    assert_eq!(
        stage.seen(GUEST),
        ["presence thirdwitch none,participant,hag66@shakespeare.example/pda,by:secondwitch 110"]
    );
}

#[test]
fn the_archive_is_for_those_who_could_enter() {
    let query = "<query xmlns='urn:xmpp:mam:2'/>";
    let table: [(&str, Change, &str, bool); 6] = [
        ("open", |_| {}, OTHER, true),
        (
            "not archived",
            |config| config.archived = false,
            OWNER,
            false,
        ),
        (
            "members only, a stranger",
            |config| config.members_only = true,
            OTHER,
            false,
        ),
        (
            "members only, an admin",
            |config| config.members_only = true,
            "wiccarocks@shakespeare.example/x",
            true,
        ),
        (
            "with a password, a stranger",
            |config| config.password = "x".into(),
            OTHER,
            false,
        ),
        (
            "with a password, an occupant",
            |config| config.password = "x".into(),
            GUEST,
            true,
        ),
    ];
    for (name, change, who, admitted) in table {
        let mut stage = Stage::full(Config::default());
        change(&mut stage.room.config);
        stage.send(
            who,
            &format!("<iq type='set' id='1' to='coven@rooms.example'>{query}</iq>"),
        );
        assert_eq!(!stage.queries.is_empty(), admitted, "{name}");
        assert_eq!(stage.got.contains_key(who), !admitted, "{name}");
    }
}
