//! The archive as clients see it.

use minidom::Element;

use crate::server::testing::{Client, client, online, server};
use crate::xmpp::ns;

const QUERY: &str = "<query xmlns='urn:xmpp:mam:2' queryid='q'/>";

/// The archived messages, and `<fin/>`.
async fn query(client: &mut Client, to: &str, query: &str) -> (Vec<Element>, Element) {
    client.drain();
    let id = "query";
    let to = if to.is_empty() {
        String::new()
    } else {
        format!(" to='{to}'")
    };
    client
        .send(&format!("<iq type='set' id='{id}'{to}>{query}</iq>"))
        .await;
    let mut messages = Vec::new();
    loop {
        let next = client.next().await;
        if next.attr("id") == Some(id) {
            return (messages, next);
        }
        let result = next.get_child("result", ns::MAM).unwrap();
        let forwarded = result.get_child("forwarded", ns::FORWARD).unwrap();
        let message = forwarded.get_child("message", ns::JABBER_CLIENT).unwrap();
        messages.push(message.clone());
    }
}

fn ids(message: &Element) -> Vec<(String, String)> {
    message
        .children()
        .filter(|child| child.is("stanza-id", ns::STANZA_ID))
        .map(|id| {
            let attribute = |name| id.attr(name).unwrap_or_default().to_owned();
            (attribute("by"), attribute("id"))
        })
        .collect()
}

#[tokio::test]
async fn both_archives_have_what_was_said_and_the_recipient_is_told_its_id() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let mut juliet = online(&server, "juliet/balcony").await;
    juliet.drain();
    romeo
        .send("<message to='juliet@example.org' type='chat' id='1'><body>hi</body></message>")
        .await;
    assert_eq!(romeo.session.take_pending().len(), 2);
    let message = juliet.next().await;
    let told = ids(&message);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "juliet@example.org");
    let (messages, fin) = query(&mut juliet, "", QUERY).await;
    assert_eq!(messages.len(), 1);
    let fin = fin.get_child("fin", ns::MAM).unwrap();
    assert_eq!(fin.attr("complete"), Some("true"));
    let first = fin.get_child("set", ns::RSM).unwrap();
    let first = first.get_child("first", ns::RSM).unwrap().text();
    assert_eq!(first, told[0].1);
    let (messages, _) = query(&mut romeo, "romeo@example.org", QUERY).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].attr("to"), Some("juliet@example.org"));
    assert_eq!(messages[0].attr("from"), Some("romeo@example.org/orchard"));
}

#[tokio::test]
async fn forged_ids_are_taken_off() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let mut juliet = online(&server, "juliet/balcony").await;
    juliet.drain();
    let forged = [
        "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.org' id='forged'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@example.org' id='forged'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='example.org' id='forged'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='@' id='forged'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' id='forged'/>",
        "<stanza-id xmlns='urn:xmpp:sid:0' by='room@elsewhere.example'/>",
    ];
    let others = "<stanza-id xmlns='urn:xmpp:sid:0' by='room@elsewhere.example' id='true'/>
        <origin-id xmlns='urn:xmpp:sid:0' id='mine'/>";
    romeo
        .send(&format!(
            "<message to='juliet@example.org' type='chat'><body>hi</body>{}{others}</message>",
            forged.concat()
        ))
        .await;
    let message = juliet.next().await;
    let told = ids(&message);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], ("room@elsewhere.example".into(), "true".into()));
    assert_eq!(told[1].0, "juliet@example.org");
    assert_ne!(told[1].1, "forged");
    assert!(message.has_child("origin-id", ns::STANZA_ID));
    let (messages, _) = query(&mut romeo, "", QUERY).await;
    assert_eq!(ids(&messages[0]).len(), 1);
}

#[tokio::test]
async fn nobody_tells_the_time_in_the_name_of_the_server() {
    let server = server(&["romeo", "juliet"]).await;
    let romeo = online(&server, "romeo/orchard").await;
    let mut juliet = online(&server, "juliet/balcony").await;
    juliet.drain();
    let delay = |from| {
        format!(
            "<delay xmlns='{}' from='{from}' stamp='2020-01-01T00:00:00Z'/>",
            ns::DELAY
        )
    };
    let claims = [
        "example.org",
        "juliet@example.org",
        "romeo@example.org",
        "elsewhere.example",
    ];
    romeo
        .send(&format!(
            "<message to='juliet@example.org' type='chat'><body>hi</body>{}</message>",
            claims.map(delay).concat()
        ))
        .await;
    let message = juliet.next().await;
    let left: Vec<_> = message
        .children()
        .filter(|child| child.is("delay", ns::DELAY))
        .filter_map(|delay| delay.attr("from"))
        .collect();
    assert_eq!(left, ["romeo@example.org", "elsewhere.example"]);
}

#[tokio::test]
async fn a_note_to_oneself_is_kept_once() {
    let server = server(&["romeo"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    romeo
        .send("<message type='chat'><body>note</body></message>")
        .await;
    let note = romeo.next().await;
    assert_eq!(ids(&note).len(), 1);
    let (messages, _) = query(&mut romeo, "", QUERY).await;
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn what_is_refused_is_not_kept() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    romeo
        .send("<message to='juliet@example.org/gone'><body>hi</body></message>")
        .await;
    assert_eq!(romeo.next().await.attr("type"), Some("error"));
    let mut juliet = client(&server, "juliet/balcony").await;
    let (messages, _) = query(&mut juliet, "", QUERY).await;
    assert!(messages.is_empty());
}

#[tokio::test]
async fn an_archive_is_its_owners_alone() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let (messages, answer) = query(&mut romeo, "juliet@example.org", QUERY).await;
    assert!(messages.is_empty());
    let error = answer.get_child("error", ns::JABBER_CLIENT).unwrap();
    assert!(error.has_child("forbidden", ns::XMPP_STANZAS));
}

#[tokio::test]
async fn the_private_message_of_a_room_is_kept_once_for_all_sessions() {
    use crate::server::stanza::Stanza;
    use jid::Jid;
    let server = server(&["juliet"]).await;
    let mut clients = Vec::new();
    for resource in ["balcony", "chamber"] {
        clients.push(online(&server, &format!("juliet/{resource}")).await);
    }
    for client in &mut clients {
        client.drain();
    }
    for resource in ["balcony", "chamber"] {
        let message = "<message xmlns='jabber:client' type='chat' id='1'><body>psst</body><x xmlns='http://jabber.org/protocol/muc#user'/></message>";
        let from = Jid::new("room@rooms.example.org/nick").unwrap();
        let to = Jid::new(&format!("juliet@example.org/{resource}")).unwrap();
        let stanza = Stanza::new(from, Some(to), message.parse().unwrap()).unwrap();
        server.route(stanza, None).await;
    }
    let mut told = Vec::new();
    for client in &mut clients {
        told.extend(ids(&client.next().await));
        assert!(client.drain().is_empty());
    }
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], told[1]);
    let (messages, _) = query(&mut clients[0], "", QUERY).await;
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn preferences_say_with_whom_messages_are_kept() {
    let server = server(&["romeo", "juliet", "nurse"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let defaults = romeo
        .ask("get", "", "<prefs xmlns='urn:xmpp:mam:2'/>")
        .await;
    let prefs = defaults.get_child("prefs", ns::MAM).unwrap();
    assert_eq!(prefs.attr("default"), Some("always"));
    for (default, always, never, kept) in [
        ("always", "", "", true),
        ("never", "", "", false),
        ("never", "juliet@example.org", "", true),
        ("always", "", "juliet@example.org", false),
        ("roster", "", "", false),
    ] {
        let list = |name: &str, jid: &str| {
            let jid = if jid.is_empty() {
                String::new()
            } else {
                format!("<jid>{jid}</jid>")
            };
            format!("<{name}>{jid}</{name}>")
        };
        let (before, _) = query(&mut romeo, "", QUERY).await;
        let prefs = format!(
            "<prefs xmlns='urn:xmpp:mam:2' default='{default}'>{}{}</prefs>",
            list("always", always),
            list("never", never)
        );
        let answer = romeo.ask("set", "", &prefs).await;
        let applied = answer.get_child("prefs", ns::MAM).unwrap();
        assert_eq!(applied.attr("default"), Some(default));
        romeo
            .send("<message to='juliet@example.org' type='chat'><body>hi</body></message>")
            .await;
        let (after, _) = query(&mut romeo, "", QUERY).await;
        let new = after.len() - before.len();
        assert_eq!(new, usize::from(kept), "{prefs}");
    }
    let item = "<query xmlns='jabber:iq:roster'><item jid='juliet@example.org'/></query>";
    romeo.ask("set", "", item).await;
    let (before, _) = query(&mut romeo, "", QUERY).await;
    romeo
        .send("<message to='juliet@example.org/x' type='chat'><body>hi</body></message>")
        .await;
    let (after, _) = query(&mut romeo, "", QUERY).await;
    assert_eq!(
        after.len(),
        before.len() + 1,
        "a contact, with the default roster"
    );
}

#[tokio::test]
async fn the_form_metadata_and_features_are_told() {
    let server = server(&["romeo"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let form = romeo
        .ask("get", "", "<query xmlns='urn:xmpp:mam:2'/>")
        .await;
    let form = form.get_child("query", ns::MAM).unwrap();
    assert!(form.has_child("x", ns::DATA_FORMS));
    let metadata = romeo
        .ask(
            "get",
            "romeo@example.org",
            "<metadata xmlns='urn:xmpp:mam:2'/>",
        )
        .await;
    assert!(metadata.has_child("metadata", ns::MAM));
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let info = romeo.ask("get", "romeo@example.org", info).await;
    let features: Vec<_> = info
        .get_child("query", ns::DISCO_INFO)
        .unwrap()
        .children()
        .filter_map(|child| child.attr("var").map(str::to_owned))
        .collect();
    for feature in [
        "urn:xmpp:mam:2",
        "urn:xmpp:mam:2#extended",
        "urn:xmpp:sid:0",
    ] {
        assert!(features.iter().any(|known| known == feature), "{feature}");
    }
}
