use super::*;
use crate::xmpp::caps::hash as caps_hash;

const QUERY: &str = "<query xmlns='http://jabber.org/protocol/disco#info'>\
    <identity category='client' type='pc' name='x'/>\
    <feature var='urn:x'/><feature var='urn:x+notify'/><feature var='+notify'/></query>";

fn version(ver: &str) -> Version {
    Version {
        node: "urn:client".to_owned(),
        hash: "sha-1".to_owned(),
        ver: ver.to_owned(),
    }
}

#[test]
fn only_a_right_hash_speaks_for_others() {
    let query: Element = QUERY.parse().unwrap();
    let right = version(&caps::hash(&query, "sha-1").unwrap());
    let wrong = version("wrong");
    let known = Known::default();
    for version in [&right, &wrong] {
        assert!(known.learn(version, &query).contains("urn:x"));
    }
    assert!(known.get(&right).is_some());
    assert!(known.get(&wrong).is_none());
}

#[test]
fn interests_are_bounded() {
    use std::fmt::Write;
    let mut text = String::from("<query xmlns='http://jabber.org/protocol/disco#info'>");
    for number in 0..1_000 {
        write!(text, "<feature var='{number}+notify'/>").unwrap();
    }
    write!(
        text,
        "<feature var='{}+notify'/></query>",
        "x".repeat(1_000)
    )
    .unwrap();
    let interests = Interests::of(&text.parse().unwrap());
    assert_eq!(interests.0.len(), MOST_NODES);
}

#[test]
fn an_answer_counts_only_from_whom_was_asked() {
    let known = Known::default();
    let romeo = Jid::new("romeo@montague.example/orchard").unwrap();
    let id = known.ask(Question {
        to: romeo.clone(),
        client: Client::Visitor(BareJid::new("juliet@capulet.example").unwrap()),
        version: version("x"),
    });
    let answer = |from: &Jid| {
        let result = iq("result", &id, QUERY.parse().unwrap());
        Stanza::new(from.clone(), None, result).unwrap()
    };
    let tybalt = Jid::new("tybalt@capulet.example/street").unwrap();
    assert!(known.answered(&answer(&tybalt)).is_none());
    assert!(known.answered(&answer(&romeo)).is_some());
    assert!(known.answered(&answer(&romeo)).is_none(), "once");
}

#[tokio::test]
async fn the_domain_answers_for_the_hash_in_its_stream_features() {
    let server = super::super::super::testing::server(&["romeo"]).await;
    let caps = server.caps().unwrap();
    let node = format!(
        "{}#{}",
        caps.attr("node").unwrap(),
        caps.attr("ver").unwrap()
    );
    let mut romeo = super::super::super::testing::online(&server, "romeo/x").await;
    let query = format!("<query xmlns='{}' node='{node}'/>", ns::DISCO_INFO);
    let answer = romeo.ask("get", "example.org", &query).await;
    let query = answer.get_child("query", ns::DISCO_INFO).unwrap();
    assert_eq!(query.attr("node"), Some(node.as_str()));
    let hash = caps_hash(query, "sha-1");
    assert_eq!(hash.as_deref(), caps.attr("ver"));
}
