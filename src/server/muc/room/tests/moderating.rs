//! XEP-0424 and XEP-0425: messages taken back, and by whom. XEP-0317 and XEP-0486: hats, and the room's picture.

use super::*;
use crate::server::muc::config::Whois;

const BOT: &str = "bot@shakespeare.example/moltis";
const MODERATE: &str = "<moderate xmlns='urn:xmpp:message-moderate:1' id='s1'><retract xmlns='urn:xmpp:message-retract:1'/><reason>Spam</reason></moderate>";
const OLDER: &str = "<apply-to xmlns='urn:xmpp:fasten:0' id='s1'><moderate xmlns='urn:xmpp:message-moderate:0'><retract xmlns='urn:xmpp:message-retract:0'/></moderate></apply-to>";

#[test]
fn moderators_take_back_what_others_said() {
    for request in [MODERATE, OLDER] {
        for (who, expected) in [
            (OWNER, "ok"),
            (ADMIN, "ok"),
            (GUEST, "forbidden"),
            (OTHER, "forbidden"),
        ] {
            let mut stage = Stage::full(Config::default());
            assert_eq!(outcome(&stage.ask(who, "set", request)), expected, "{who}");
            assert_eq!(stage.retractions.len(), usize::from(expected == "ok"));
            for (id, author, _) in &stage.retractions {
                assert_eq!((id.as_str(), author), ("s1", &None));
            }
        }
    }
}

#[test]
fn all_are_told_by_whom_and_nobodys_address() {
    let mut stage = Stage::full(Config::default());
    stage.ask(ADMIN, "set", MODERATE);
    let told = stage.got[GUEST].last().unwrap();
    assert_eq!(told.attr("from"), Some("coven@rooms.example"));
    let retract = told.get_child("retract", ns::RETRACT).unwrap();
    assert_eq!(retract.attr("id"), Some("s1"));
    let moderated = retract.get_child("moderated", ns::MODERATE).unwrap();
    assert_eq!(
        moderated.attr("by"),
        Some("coven@rooms.example/secondwitch")
    );
    assert!(moderated.has_child("occupant-id", ns::OID));
    assert!(
        told.has_child("apply-to", ns::FASTEN),
        "in the older words too"
    );
    let text = String::from(told);
    assert!(
        text.contains("Spam") && !text.contains("wiccarocks"),
        "{text}"
    );
    let remains = String::from(&stage.retractions[0].2);
    assert!(remains.contains("Spam") && !remains.contains("wiccarocks"));
}

#[test]
fn an_author_takes_back_the_own_message_alone() {
    let mut stage = Stage::full(Config::default());
    stage.send(GUEST, "<message to='coven@rooms.example' type='groupchat' id='r1'><retract xmlns='urn:xmpp:message-retract:1' id='s1'/><body>/me retracted</body></message>");
    let (id, author, remains) = &stage.retractions[0];
    let own = stage.room.id_of(&jid::Jid::new(GUEST).unwrap().to_bare());
    assert_eq!((id.as_str(), author.as_deref()), ("s1", Some(own.as_str())));
    assert_eq!(remains.attr("id"), Some("r1"));
    let heard = stage.got[OWNER].last().unwrap();
    assert!(heard.has_child("retract", ns::RETRACT), "all are told");
}

#[test]
fn the_servers_bot_sees_who_people_are_and_wears_a_hat() {
    let mut stage = Stage::full(Config::default());
    stage.enter(BOT, "helper");
    let text = |stanza: &Element| String::from(stanza);
    let roster: Vec<String> = stage.got[BOT].iter().map(text).collect();
    assert!(roster.iter().any(|one| one.contains(GUEST)), "{roster:?}");
    let seen = text(stage.got[GUEST].last().unwrap());
    assert!(
        seen.contains("urn:xmpp:hats:0") && seen.contains("Bot"),
        "{seen}"
    );
    assert!(!seen.contains("bot@"), "{seen}");
    stage.clear();
    stage.enter(OTHER, "hecate");
    assert!(text(stage.got[BOT].last().unwrap()).contains(OTHER));
    let guest = text(stage.got[GUEST].last().unwrap());
    assert!(!guest.contains(OTHER) && !guest.contains("hats"), "{guest}");
    stage.send(BOT, "<presence to='coven@rooms.example/other'/>");
    assert!(
        text(stage.got[GUEST].last().unwrap()).contains("hats"),
        "the hat stays on"
    );
    stage.ask_archive(BOT);
    stage.ask_archive(GUEST);
    assert_eq!(stage.queries, [Reveal::Everybody, Reveal::Nobody]);
}

#[test]
fn nobody_else_wears_a_hat() {
    let mut stage = Stage::full(Config::default());
    stage.send(OTHER, "<presence to='coven@rooms.example/h'><x xmlns='http://jabber.org/protocol/muc'/><hats xmlns='urn:xmpp:hats:0'><hat uri='urn:moltis:hats:bot' title='Bot'/></hats></presence>");
    let seen = String::from(stage.got[GUEST].last().unwrap());
    assert!(!seen.contains("hats"), "{seen}");
}

impl Stage {
    /// A query that goes to the archive has no answer of the room's.
    fn ask_archive(&mut self, who: &str) {
        self.send(
            who,
            "<iq to='coven@rooms.example' type='set' id='a'><query xmlns='urn:xmpp:mam:2'/></iq>",
        );
    }
}

#[test]
fn the_archive_tells_those_who_may_know_who_spoke() {
    for (whois, expected) in [
        (Whois::Moderators, [Reveal::Everybody, Reveal::Nobody]),
        (Whois::Anyone, [Reveal::Everybody, Reveal::Open]),
    ] {
        let mut stage = Stage::full(Config {
            whois,
            ..Config::default()
        });
        stage.ask_archive(ADMIN);
        stage.ask_archive(GUEST);
        assert_eq!(stage.queries, expected);
    }
}

const PICTURE: &str = "<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>aGVsbG8=</BINVAL></PHOTO><FN>x</FN></vCard>";

#[test]
fn owners_set_the_picture_and_everybody_sees_it() {
    let mut stage = Stage::full(Config::default());
    stage.configure(OWNER, &[("persistentroom", "1")]);
    stage.clear();
    let asked = "<vCard xmlns='vcard-temp'/>";
    assert_eq!(outcome(&stage.ask(OTHER, "get", asked)), "item-not-found");
    for (who, expected) in [(GUEST, "forbidden"), (ADMIN, "forbidden"), (OWNER, "ok")] {
        assert_eq!(outcome(&stage.ask(who, "set", PICTURE)), expected, "{who}");
    }
    assert_eq!(stage.seen(GUEST), ["groupchat room 104"]);
    let address = stage.room.address().clone();
    stage.room = Room::load(address, Limits::default(), &stage.stored).unwrap();
    let vcard = String::from(&stage.ask(OTHER, "get", asked));
    assert!(
        vcard.contains("aGVsbG8=") && !vcard.contains("FN"),
        "{vcard}"
    );
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let hash = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
    assert!(String::from(&stage.ask(OTHER, "get", info)).contains(hash));
    assert_eq!(
        outcome(&stage.ask(OWNER, "set", asked)),
        "ok",
        "an empty one"
    );
    assert!(!String::from(&stage.ask(OTHER, "get", info)).contains("avatarhash"));
    assert!(!stage.stored.contains_key("avatar"));
}
