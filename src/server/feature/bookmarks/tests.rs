use super::super::super::testing::{Client, client, server};
use super::*;

const NEW: &str = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:bookmarks:1'/></pubsub>";
const OLD: &str =
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='storage:bookmarks'/></pubsub>";
const PRIVATE: &str =
    "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>";

async fn rooms(juliet: &mut Client) -> [Vec<String>; 3] {
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for (found, payload) in found.iter_mut().zip([NEW, OLD, PRIVATE]) {
        let answer = juliet.ask("get", "", payload).await;
        collect_jids(&answer, found);
        found.sort();
    }
    found
}

fn collect_jids(element: &Element, found: &mut Vec<String>) {
    for child in element.children() {
        if child.name() == "conference" {
            let jid = child.attr("jid").or(element.attr("id"));
            found.push(jid.unwrap().to_owned());
        }
        collect_jids(child, found);
    }
}

#[tokio::test]
async fn one_list_is_seen_and_changed_in_three_ways() {
    let server = server(&["juliet"]).await;
    let mut juliet = client(&server, "juliet/balcony").await;
    let answer = juliet.ask("set", "", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:bookmarks:1'><item id='a@muc.example'><conference xmlns='urn:xmpp:bookmarks:1' name='A'/></item></publish></pubsub>").await;
    assert_eq!(answer.attr("type"), Some("result"));
    assert!(
        rooms(&mut juliet)
            .await
            .iter()
            .all(|rooms| *rooms == ["a@muc.example"])
    );
    juliet.ask("set", "", "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'><conference jid='a@muc.example' name='A'/><conference jid='b@muc.example'/><url url='http://x'/></storage></query>").await;
    assert!(
        rooms(&mut juliet)
            .await
            .iter()
            .all(|rooms| *rooms == ["a@muc.example", "b@muc.example"])
    );
    // Bookmarks of pages are where they were stored.
    assert!(String::from(&juliet.ask("get", "", PRIVATE).await).contains("http://x"));
    juliet.ask("set", "", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='storage:bookmarks'><item id='current'><storage xmlns='storage:bookmarks'><conference jid='b@muc.example'/></storage></item></publish></pubsub>").await;
    assert!(
        rooms(&mut juliet)
            .await
            .iter()
            .all(|rooms| *rooms == ["b@muc.example"])
    );
}

#[tokio::test]
async fn nobody_else_sees_bookmarks() {
    let server = server(&["juliet", "romeo"]).await;
    let (one, other) = (
        BareJid::new("juliet@example.org").unwrap(),
        BareJid::new("romeo@example.org").unwrap(),
    );
    server
        .befriend(&one, "Juliet", &other, "Romeo")
        .await
        .unwrap();
    let mut juliet = client(&server, "juliet/balcony").await;
    juliet.ask("set", "", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:bookmarks:1'><item id='a@muc.example'><conference xmlns='urn:xmpp:bookmarks:1'/></item></publish></pubsub>").await;
    let mut romeo = client(&server, "romeo/orchard").await;
    for payload in [NEW, OLD] {
        let answer = romeo.ask("get", "juliet@example.org", payload).await;
        assert_eq!(answer.attr("type"), Some("error"));
    }
}
