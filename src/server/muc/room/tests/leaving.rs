//! XEP-0045, 7.14 and 10.9: leaving, being lost, and the end of a room.

use super::*;

#[test]
fn who_leaves_is_seen_to_go_with_a_last_word() {
    let mut stage = Stage::full(Config::default());
    stage.send(GUEST, "<presence to='coven@rooms.example/thirdwitch' type='unavailable'><status>gone where the goblins go</status></presence>");
    assert_eq!(
        stage.seen(OWNER),
        [
            "unavailable thirdwitch status:gone where the goblins go none,none,hag66@shakespeare.example/pda"
        ]
    );
    assert_eq!(
        stage.seen(GUEST),
        [
            "unavailable thirdwitch status:gone where the goblins go none,none,hag66@shakespeare.example/pda 110"
        ]
    );
    stage.send(
        GUEST,
        "<presence to='coven@rooms.example/thirdwitch' type='unavailable'/>",
    );
    assert!(
        stage.got.remove(GUEST).is_none(),
        "who is not here does not leave"
    );
    assert!(stage.seen(ADMIN).len() == 1 && !stage.destroyed);
}

#[test]
fn a_temporary_room_ends_with_its_last_occupant_and_a_persistent_one_stays() {
    for (persistent, destroyed) in [(false, true), (true, false)] {
        let mut stage = Stage::open(Config {
            persistent,
            ..Config::default()
        });
        stage.send(
            OWNER,
            "<presence to='coven@rooms.example' type='unavailable'/>",
        );
        assert_eq!(stage.destroyed, destroyed);
    }
}

#[test]
fn a_room_that_nobody_could_enter_is_not_left_behind() {
    let mut stage = Stage::empty(Config::default(), true);
    stage.enter(OWNER, "&#x2800;");
    assert_eq!(stage.outcome(OWNER), "not-allowed");
    assert!(stage.destroyed);
}

#[test]
fn errors_that_say_that_somebody_is_gone_take_them_out() {
    let table = [
        (
            "presence",
            "coven@rooms.example/firstwitch",
            "remote-server-not-found",
            true,
        ),
        (
            "message",
            "coven@rooms.example/firstwitch",
            "item-not-found",
            true,
        ),
        (
            "message",
            "coven@rooms.example",
            "service-unavailable",
            true,
        ),
        ("message", "coven@rooms.example", "not-acceptable", false),
        (
            "message",
            "coven@rooms.example/firstwitch",
            "forbidden",
            false,
        ),
    ];
    for (name, to, condition, gone) in table {
        let mut stage = Stage::full(Config::default());
        let xml = format!(
            "<{name} type='error' to='{to}'><error type='cancel'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></{name}>"
        );
        stage.send(GUEST, &xml);
        let seen = stage.seen(ADMIN);
        let expected = format!(
            "unavailable thirdwitch status:Disconnected: {} none,none,hag66@shakespeare.example/pda 333",
            condition.replace('-', " ")
        );
        assert_eq!(
            seen == [expected],
            gone,
            "{name} {to} {condition}: {seen:?}"
        );
        assert_eq!(stage.room.occupants(), if gone { 2 } else { 3 });
    }
}

#[test]
fn a_session_that_cannot_be_reached_is_taken_out() {
    let mut stage = Stage::full(Config::default());
    stage.happen(Event::Gone(FullJid::new(GUEST).unwrap()));
    assert_eq!(
        stage.seen(ADMIN),
        ["unavailable thirdwitch none,none,hag66@shakespeare.example/pda 333"]
    );
    stage.happen(Event::Gone(FullJid::new(GUEST).unwrap()));
    assert!(stage.seen(ADMIN).is_empty());
}

#[test]
fn a_destroyed_room_tells_each_once_and_where_to_go() {
    let mut stage = Stage::full(Config {
        persistent: true,
        ..Config::default()
    });
    let destroy = "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='darkcave@rooms.example'><reason>Macbeth doth come.</reason><password>x</password></destroy></query>";
    let refused = stage.ask(ADMIN, "set", destroy);
    assert_eq!(outcome(&refused), "forbidden");
    let answer = stage.ask(OWNER, "set", destroy);
    assert_eq!(outcome(&answer), "ok");
    assert!(stage.destroyed);
    for (who, nick) in [
        (OWNER, "firstwitch"),
        (ADMIN, "secondwitch"),
        (GUEST, "thirdwitch"),
    ] {
        let got = stage.got.get(who).unwrap().clone();
        let x = got[0].get_child("x", ns::MUC_USER).unwrap();
        let destroy = x.get_child("destroy", ns::MUC_USER).unwrap();
        assert_eq!(
            super::super::reason(destroy).unwrap().as_deref(),
            Some("Macbeth doth come.")
        );
        assert!(destroy.has_child("password", ns::MUC_USER));
        assert_eq!(
            stage.seen(who),
            [format!(
                "unavailable {nick} none,none 110 destroy:darkcave@rooms.example"
            )]
        );
    }
    stage.enter(GUEST, "thirdwitch");
    assert_eq!(stage.outcome(GUEST), "item-not-found");
}

#[test]
fn a_stopping_service_takes_everybody_out_and_keeps_the_room() {
    let mut stage = Stage::full(Config {
        persistent: true,
        ..Config::default()
    });
    stage.happen(Event::Shutdown);
    assert_eq!(
        stage.seen(GUEST),
        ["unavailable thirdwitch none,none 110 332"]
    );
    assert!(!stage.destroyed);
}
