//! Whatever is sent in whatever order: no panic, and what must hold of a room holds.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::server::muc::config::Whois;
use crate::server::muc::rank::{Affiliation, Role};

const PEOPLE: [&str; 6] = [
    OWNER,
    ADMIN,
    GUEST,
    OTHER,
    "hag66@shakespeare.example/phone",
    "crone1@shakespeare.example/phone",
];
const NICKS: [&str; 4] = ["firstwitch", "secondwitch", "thirdwitch", "x"];

fn xml() -> impl Strategy<Value = String> {
    let nick = prop::sample::select(&NICKS[..]);
    let person = prop::sample::select(&PEOPLE[..]);
    let kind = prop::sample::select(&["", "unavailable", "error", "probe", "subscribe"][..]);
    let role = prop::sample::select(&["none", "visitor", "participant", "moderator", "?"][..]);
    let affiliation = prop::sample::select(&["outcast", "none", "member", "admin", "owner"][..]);
    let setting = prop::sample::select(
        &[
            ("whois", "anyone"),
            ("whois", "moderators"),
            ("membersonly", "1"),
            ("membersonly", "0"),
            ("moderatedroom", "1"),
            ("persistentroom", "1"),
            ("persistentroom", "0"),
            ("maxusers", "2"),
            ("roomowners", "hag66@shakespeare.example"),
            ("roomadmins", "crone1@shakespeare.example"),
            ("presencebroadcast", "moderator"),
            ("getmemberlist", "participant"),
            ("historylength", "1"),
        ][..],
    );
    prop_oneof![
        8 => (nick.clone(), kind).prop_map(|(nick, kind)| format!("<presence to='coven@rooms.example/{nick}' type='{kind}'><x xmlns='http://jabber.org/protocol/muc'/></presence>").replace(" type=''", "")),
        2 => nick.clone().prop_map(|nick| format!("<message to='coven@rooms.example/{nick}' type='chat'><body>x</body></message>")),
        2 => Just("<message to='coven@rooms.example' type='groupchat'><body>x</body></message>".to_owned()),
        1 => Just("<message to='coven@rooms.example' type='groupchat'><subject>x</subject></message>".to_owned()),
        1 => nick.clone().prop_map(|nick| format!("<iq type='set' id='1' to='coven@rooms.example'><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{}</value></field><field var='muc#register_roomnick'><value>{nick}</value></field></x></query></iq>", ns::MUC_REGISTER)),
        1 => (nick.clone(), prop::bool::ANY).prop_map(|(nick, allow)| format!("<message to='coven@rooms.example'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{}</value></field><field var='muc#register_roomnick'><value>{nick}</value></field><field var='muc#register_allow'><value>{allow}</value></field></x></message>", ns::MUC_REGISTER)),
        1 => Just("<iq type='set' id='1' to='coven@rooms.example'><query xmlns='jabber:iq:register'><remove/></query></iq>".to_owned()),
        1 => Just(format!("<iq type='set' id='1' to='coven@rooms.example'><moderate xmlns='{}' id='1'><retract xmlns='{}'/></moderate></iq>", ns::MODERATE, ns::RETRACT)),
        1 => Just("<iq type='set' id='1' to='coven@rooms.example'><vCard xmlns='vcard-temp'/></iq>".to_owned()),
        1 => person.clone().prop_map(|to| format!("<message to='coven@rooms.example'><x xmlns='{}'><invite to='{to}'/></x></message>", ns::MUC_USER)),
        1 => nick.clone().prop_map(|nick| format!("<iq type='get' id='1' to='coven@rooms.example/{nick}'><query xmlns='jabber:iq:version'/></iq>")),
        3 => (nick, role.clone()).prop_map(|(nick, role)| format!("<iq type='set' id='1' to='coven@rooms.example'><query xmlns='{}'><item nick='{nick}' role='{role}'/></query></iq>", ns::MUC_ADMIN)),
        3 => (person, affiliation.clone()).prop_map(|(jid, affiliation)| format!("<iq type='set' id='1' to='coven@rooms.example'><query xmlns='{}'><item jid='{jid}' affiliation='{affiliation}'/></query></iq>", ns::MUC_ADMIN)),
        2 => affiliation.prop_map(|affiliation| format!("<iq type='get' id='list' to='coven@rooms.example'><query xmlns='{}'><item affiliation='{affiliation}'/></query></iq>", ns::MUC_ADMIN)),
        1 => role.prop_map(|role| format!("<iq type='get' id='list' to='coven@rooms.example'><query xmlns='{}'><item role='{role}'/></query></iq>", ns::MUC_ADMIN)),
        2 => setting.prop_map(|(var, value)| format!("<iq type='set' id='1' to='coven@rooms.example'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{}</value></field><field var='muc#roomconfig_{var}'><value>{value}</value></field></x></query></iq>", ns::MUC_OWNER, ns::MUC_ROOMCONFIG)),
    ]
}

/// What is true of a room at all times.
fn check(stage: &Stage) {
    let room = &stage.room;
    let mut sessions = BTreeSet::new();
    for occupant in room.occupants.iter() {
        assert!(!occupant.sessions.is_empty() && occupant.sessions.len() <= room.limits.sessions);
        assert_ne!(occupant.role, Role::None);
        assert_ne!(room.affiliations.of(&occupant.who), Affiliation::Outcast);
        for session in &occupant.sessions {
            assert_eq!(
                session.jid.to_bare(),
                occupant.who,
                "a nick is one person's"
            );
            assert!(
                sessions.insert(session.jid.clone()),
                "a session has one nick"
            );
            let found = room.occupants.by_session(&session.jid).unwrap();
            assert_eq!(found.nick, occupant.nick);
        }
        if room.affiliations.of(&occupant.who) >= Affiliation::Admin {
            assert_eq!(occupant.role, Role::Moderator);
        }
    }
    assert!(room.affiliations.with(Affiliation::Owner).next().is_some());
    let mut kept = BTreeSet::new();
    for (who, affiliate) in room.affiliations.iter() {
        assert!(
            affiliate.nick.iter().all(|nick| kept.insert(nick.clone())),
            "a nick is kept once"
        );
        assert!(
            room.applicants.get(who).is_none(),
            "who is known does not wait"
        );
    }
}

/// Who sees real JIDs of others: those entitled before or after what happened, and who did it by naming them.
fn entitled(room: &Room) -> BTreeSet<String> {
    let mut entitled = BTreeSet::new();
    for who in PEOPLE {
        let rank = room.rank(&jid::Jid::new(who).unwrap());
        let member = rank.affiliation >= Affiliation::Member && room.config.members_only;
        let everybody = room.config.whois == Whois::Anyone;
        let here = rank.role != Role::None;
        let by_role = here && room.config.member_lists.has(rank.role);
        if rank.role == Role::Moderator || by_role || (everybody && (here || member)) {
            entitled.insert(who.to_owned());
        }
    }
    entitled
}

/// A stanza of the room that tells somebody else's real JID.
fn reveals(stanza: &Element, to: &str) -> bool {
    let own = to.split('/').next().unwrap();
    let text = String::from(stanza)
        .replace(to, "")
        .replace(&format!("'{own}'"), "");
    let own_sessions = |text: &str| text.replace(own, "");
    stanza.attr("type") != Some("error") && own_sessions(&text).contains("@shakespeare.example")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_room_keeps_its_promises(events in prop::collection::vec((0..PEOPLE.len(), xml()), 1..60)) {
        let mut stage = Stage::full(Config::default());
        for (who, xml) in events {
            if stage.destroyed {
                break;
            }
            let before = entitled(&stage.room);
            stage.clear();
            stage.send(PEOPLE[who], &xml);
            check(&stage);
            let after = entitled(&stage.room);
            for (to, stanzas) in &stage.got {
                // An invitation names who invites; a change of affiliation its subject.
                if !PEOPLE.contains(&to.as_str()) || before.contains(to) || after.contains(to) {
                    continue;
                }
                for stanza in stanzas.iter().filter(|one| one.name() == "presence" || one.attr("id") == Some("list")) {
                    prop_assert!(!reveals(stanza, to), "{to} sees {}", String::from(stanza));
                }
            }
        }
    }
}
