//! XEP-0045, 7.5, and XEP-0410: what occupants send one another by nick.

use super::*;
use crate::server::muc::config::PrivateMessages;

#[test]
fn a_private_message_comes_from_the_nick_to_one_alone() {
    let mut stage = Stage::full(Config::default());
    stage.send(GUEST, "<message to='coven@rooms.example/firstwitch' type='chat' id='p'><body>psst</body><x xmlns='http://jabber.org/protocol/muc#user'><status code='307'/></x></message>");
    let got = stage.got.remove(OWNER).unwrap();
    assert_eq!(summary(&got[0]), "chat thirdwitch psst");
    let marks = got[0].children().filter(|child| child.has_ns(ns::MUC_USER));
    assert_eq!(marks.count(), 1);
    assert!(
        !String::from(&got[0]).contains("hag66"),
        "nothing tells who it is"
    );
    assert!(stage.got.is_empty());
    assert_eq!(stage.archived, 0);
}

#[test]
fn a_private_message_that_cannot_be_is_refused() {
    let table = [
        (
            "to all of one",
            GUEST,
            "firstwitch",
            "groupchat",
            "bad-request",
        ),
        ("to nobody", GUEST, "nobody", "chat", "item-not-found"),
        (
            "from outside",
            OTHER,
            "firstwitch",
            "chat",
            "not-acceptable",
        ),
        (
            "from outside to nobody",
            OTHER,
            "nobody",
            "chat",
            "not-acceptable",
        ),
    ];
    for (name, from, to, kind, expected) in table {
        let mut stage = Stage::full(Config::default());
        stage.send(
            from,
            &format!(
                "<message to='coven@rooms.example/{to}' type='{kind}'><body>x</body></message>"
            ),
        );
        assert_eq!(stage.outcome(from), expected, "{name}");
        assert!(stage.got.is_empty(), "{name}");
    }
}

#[test]
fn private_messages_are_for_those_the_owners_let() {
    let table = [
        (PrivateMessages::Anyone, GUEST, "secondwitch", true),
        (PrivateMessages::Participants, GUEST, "secondwitch", true),
        (PrivateMessages::Moderators, GUEST, "secondwitch", false),
        (PrivateMessages::Moderators, ADMIN, "thirdwitch", true),
        (PrivateMessages::None, OWNER, "thirdwitch", false),
    ];
    for (allowed, from, to, expected) in table {
        let mut stage = Stage::full(Config {
            private_messages: allowed,
            ..Config::default()
        });
        stage.send(
            from,
            &format!("<message to='coven@rooms.example/{to}' type='chat'><body>x</body></message>"),
        );
        assert_eq!(
            stage.got.contains_key(from),
            !expected,
            "{allowed:?} {from}"
        );
    }
}

#[test]
fn a_ping_to_oneself_is_answered_by_the_room() {
    let mut stage = Stage::full(Config::default());
    let ping = |to: &str| {
        format!(
            "<iq type='get' id='1' to='coven@rooms.example/{to}'><ping xmlns='urn:xmpp:ping'/></iq>"
        )
    };
    stage.send(GUEST, &ping("thirdwitch"));
    let answer = stage.got.remove(GUEST).unwrap().pop().unwrap();
    assert_eq!(answer.attr("type"), Some("result"));
    assert_eq!(answer.attr("from"), Some("coven@rooms.example/thirdwitch"));
    stage.send(OTHER, &ping("thirdwitch"));
    assert_eq!(stage.outcome(OTHER), "not-acceptable");
    stage.send(GUEST, &ping("nobody"));
    assert_eq!(stage.outcome(GUEST), "item-not-found");
}

#[test]
fn nobody_outside_learns_what_an_occupant_is() {
    for (payload, expected) in [
        (
            "<query xmlns='http://jabber.org/protocol/disco#info'/>",
            "bad-request",
        ),
        (
            "<query xmlns='http://jabber.org/protocol/disco#items'/>",
            "bad-request",
        ),
        ("<query xmlns='jabber:iq:version'/>", "not-acceptable"),
    ] {
        for nick in ["thirdwitch", "nobody"] {
            let mut stage = Stage::full(Config::default());
            stage.send(
                OTHER,
                &format!("<iq type='get' id='1' to='coven@rooms.example/{nick}'>{payload}</iq>"),
            );
            assert_eq!(stage.outcome(OTHER), expected, "{payload} {nick}");
        }
    }
}

#[test]
fn a_request_to_another_goes_and_comes_back_without_real_addresses() {
    let mut stage = Stage::full(Config::default());
    stage.send(GUEST, "<iq type='get' id='v' to='coven@rooms.example/secondwitch'><query xmlns='jabber:iq:version'/></iq>");
    let request = stage.got.remove(ADMIN).unwrap().pop().unwrap();
    assert_eq!(request.attr("from"), Some("coven@rooms.example/thirdwitch"));
    let id = request.attr("id").unwrap().to_owned();
    assert_ne!(id, "v");
    let answer = format!(
        "<iq type='result' id='{id}' to='coven@rooms.example/thirdwitch'><query xmlns='jabber:iq:version'/></iq>"
    );
    stage.send(OTHER, &answer);
    stage.send(OWNER, &answer);
    assert!(stage.got.is_empty(), "only who was asked answers");
    stage.send(ADMIN, &answer);
    let answered = stage.got.remove(GUEST).unwrap().pop().unwrap();
    assert_eq!(answered.attr("id"), Some("v"));
    assert_eq!(
        answered.attr("from"),
        Some("coven@rooms.example/secondwitch")
    );
    stage.send(ADMIN, &answer);
    assert!(stage.got.is_empty(), "and once");
    stage.send(GUEST, "<iq type='get' id='v' to='coven@rooms.example/secondwitch'><vCard xmlns='vcard-temp'/></iq>");
    assert!(
        stage.got.contains_key("wiccarocks@shakespeare.example"),
        "the account answers"
    );
}
