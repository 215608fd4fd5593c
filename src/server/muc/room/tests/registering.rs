//! XEP-0045, 7.10, 7.12 and 9.9: registering with a room, and nicks that are kept.

use super::*;
use crate::server::muc::rank::Affiliation;

fn query(payload: &str) -> String {
    format!("<query xmlns='jabber:iq:register'>{payload}</query>")
}

fn form(nick: &str) -> String {
    query(&format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{}</value></field>
         <field var='muc#register_roomnick'><value>{nick}</value></field></x>",
        ns::MUC_REGISTER
    ))
}

fn answer(nick: &str, allow: &str) -> String {
    format!(
        "<message to='coven@rooms.example'><x xmlns='jabber:x:data' type='submit'>
         <field var='FORM_TYPE'><value>{}</value></field>
         <field var='muc#register_roomnick'><value>{nick}</value></field>
         <field var='muc#register_allow'><value>{allow}</value></field></x></message>",
        ns::MUC_REGISTER
    )
}

impl Stage {
    fn register(&mut self, who: &str, nick: &str) -> String {
        outcome(&self.ask(who, "set", &form(nick)))
    }

    fn affiliation_of(&self, who: &str) -> Affiliation {
        self.room.affiliation(&jid::Jid::new(who).unwrap())
    }

    /// The nick that somebody learns is kept for them.
    fn kept_for(&mut self, who: &str) -> Option<String> {
        let asked = "<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>";
        let answer = self.ask(who, "get", asked);
        let identity = answer
            .children()
            .next()
            .unwrap()
            .get_child("identity", ns::DISCO_INFO);
        identity.and_then(|one| one.attr("name").map(str::to_owned))
    }
}

fn with(registration: &str) -> Stage {
    let mut stage = Stage::full(Config::default());
    stage.configure(OWNER, &[("persistentroom", "1")]);
    stage.send(
        OWNER,
        &format!(
            "<iq to='coven@rooms.example' type='set' id='c'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'>
             <field var='FORM_TYPE'><value>{}</value></field>
             <field var='x-muc#roomconfig_registration'><value>{registration}</value></field></x></query></iq>",
            ns::MUC_OWNER,
            ns::MUC_ROOMCONFIG
        ),
    );
    stage.clear();
    stage
}

#[test]
fn who_registers_becomes_a_member_as_the_owners_have_it() {
    let table = [
        ("closed", "not-allowed", Affiliation::None, 0),
        ("approval", "ok", Affiliation::None, 1),
        ("open", "ok", Affiliation::Member, 0),
    ];
    for (registration, expected, affiliation, forms) in table {
        let mut stage = with(registration);
        let asked = stage.ask(OTHER, "get", &query(""));
        assert_eq!(outcome(&asked), expected, "{registration}");
        assert_eq!(stage.register(OTHER, "hecate"), expected, "{registration}");
        assert_eq!(stage.affiliation_of(OTHER), affiliation, "{registration}");
        for who in [OWNER, ADMIN, GUEST] {
            let got = stage.got.remove(who).unwrap_or_default();
            let forms_got = got.iter().filter(|one| one.has_child("x", ns::DATA_FORMS));
            let entitled = usize::from(who != GUEST) * forms;
            assert_eq!(forms_got.count(), entitled, "{registration} {who}");
        }
    }
}

#[test]
fn an_admin_decides_about_who_has_asked() {
    for (who, allow, expected) in [
        (ADMIN, "1", Affiliation::Member),
        (ADMIN, "0", Affiliation::None),
        (GUEST, "1", Affiliation::None),
    ] {
        let mut stage = with("approval");
        stage.register(OTHER, "hecate");
        stage.clear();
        stage.send(who, &answer("hecate", allow));
        assert_eq!(stage.affiliation_of(OTHER), expected, "{who} {allow}");
        assert_eq!(stage.outcome(who) == "forbidden", who == GUEST);
        let told = stage.got.contains_key("hecate@shakespeare.example");
        assert_eq!(told, expected == Affiliation::Member, "by message (101)");
        let kept = (expected == Affiliation::Member).then(|| "hecate".to_owned());
        assert_eq!(stage.kept_for(OTHER), kept);
        stage.send(ADMIN, &answer("hecate", "1"));
        assert_eq!(stage.outcome(ADMIN), "ok", "who is slower is not told off");
    }
}

#[test]
fn an_answer_about_somebody_else_decides_nothing() {
    let jid = |who: &str| format!("<field var='muc#jid'><value>{who}</value></field></x>");
    for (who, expected) in [
        ("hag66@shakespeare.example", Affiliation::None),
        ("hecate@shakespeare.example", Affiliation::Member),
    ] {
        let mut stage = with("approval");
        stage.register(OTHER, "hecate");
        stage.send(ADMIN, &answer("hecate", "1").replace("</x>", &jid(who)));
        assert_eq!(stage.affiliation_of(OTHER), expected, "{who}");
    }
}

#[test]
fn who_waits_is_told_to_admins_who_come_later_after_a_restart_too() {
    let mut stage = with("approval");
    stage.register(OTHER, "hecate");
    let address = stage.room.address().clone();
    stage.room = Room::load(address, Limits::default(), &stage.stored).unwrap();
    stage.clear();
    stage.enter(ADMIN, "secondwitch");
    let got = stage.got.remove(ADMIN).unwrap();
    let asked = got.last().unwrap();
    assert!(
        asked.has_child("x", ns::DATA_FORMS),
        "{}",
        String::from(asked)
    );
    stage.send(ADMIN, &answer("hecate", "1"));
    assert_eq!(stage.affiliation_of(OTHER), Affiliation::Member);
    assert!(!stage.stored.keys().any(|key| key.starts_with("applicant/")));
}

#[test]
fn a_nick_is_one_persons() {
    let mut stage = with("open");
    stage.administer(
        OWNER,
        "<item affiliation='member' jid='hag66@shakespeare.example'/>",
    );
    assert_eq!(stage.register(GUEST, "hag"), "ok");
    let long = "x".repeat(257);
    let table = [
        ("one that is kept", "hag", "conflict"),
        ("one in use", "firstwitch", "conflict"),
        ("one that is not seen", "\u{2800}", "not-allowed"),
        ("a long one", long.as_str(), "not-acceptable"),
        ("none", "", "jid-malformed"),
    ];
    for (name, nick, expected) in table {
        assert_eq!(stage.register(OTHER, nick), expected, "{name}");
    }
    stage.clear();
    stage.enter(OTHER, "hag");
    assert_eq!(
        stage.outcome(OTHER),
        "conflict",
        "also while its holder is away"
    );
    assert_eq!(
        stage.register(GUEST, "crone"),
        "ok",
        "its holder takes another"
    );
    assert_eq!(stage.kept_for(GUEST).as_deref(), Some("crone"));
    stage.enter(OTHER, "hag");
    assert_eq!(stage.outcome(OTHER), "ok");
}

#[test]
fn who_is_banned_does_not_register() {
    let mut stage = with("open");
    stage.administer(
        OWNER,
        "<item affiliation='outcast' jid='hecate@shakespeare.example'/>",
    );
    assert_eq!(outcome(&stage.ask(OTHER, "get", &query(""))), "forbidden");
    assert_eq!(stage.register(OTHER, "hecate"), "forbidden");
    let removed = stage.ask(OTHER, "set", &query("<remove/>"));
    assert_eq!(outcome(&removed), "forbidden");
    assert_eq!(stage.affiliation_of(OTHER), Affiliation::Outcast);
}

#[test]
fn who_has_registered_is_told_so_and_may_take_it_back() {
    let mut stage = with("open");
    for (who, after) in [(OTHER, Affiliation::None), (ADMIN, Affiliation::Admin)] {
        stage.register(who, "x");
        let told = stage.ask(who, "get", &query(""));
        let told = told.get_child("query", ns::REGISTER).unwrap();
        assert!(told.has_child("registered", ns::REGISTER));
        let removed = stage.ask(who, "set", &query("<remove/>"));
        assert_eq!(outcome(&removed), "ok");
        assert_eq!(stage.affiliation_of(who), after);
        assert_eq!(stage.kept_for(who), None);
    }
    let again = stage.ask(OTHER, "set", &query("<remove/>"));
    assert_eq!(outcome(&again), "registration-required");
}

#[test]
fn not_everybody_may_wait() {
    let mut stage = with("approval");
    for number in 0..60 {
        let who = format!("p{number}@shakespeare.example/x");
        let expected = if number < 50 {
            "ok"
        } else {
            "resource-constraint"
        };
        assert_eq!(stage.register(&who, &format!("n{number}")), expected);
    }
}

#[test]
fn where_nicks_are_locked_one_enters_with_ones_own() {
    let mut stage = with("open");
    stage.register(OTHER, "hecate");
    stage.room.config.locks_nicks = true;
    stage.clear();
    stage.enter(OTHER, "other");
    let own = stage.seen(OTHER);
    let own = own.iter().find(|line| line.contains(" 110")).unwrap();
    assert!(
        own.starts_with("presence hecate") && own.contains(" 210"),
        "{own}"
    );
    stage.enter(OTHER, "other");
    assert!(!stage.seen(OTHER).iter().any(|line| line.contains("error")));
    stage.send(OTHER, "<presence to='coven@rooms.example/other'/>");
    assert_eq!(stage.outcome(OTHER), "not-acceptable");
    stage.send(GUEST, "<presence to='coven@rooms.example/other'/>");
    assert_eq!(
        stage.outcome(GUEST),
        "ok",
        "who has registered none is free"
    );
}
