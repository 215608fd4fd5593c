use super::super::super::testing::{Client, client, server};
use super::*;

const TUNE: &str = "http://jabber.org/protocol/tune";

/// A client whose capabilities ask for a node's events, and which says so when it is asked.
async fn following(server: &Server, jid: &str, nodes: &[&str]) -> Client {
    let mut client = client(server, jid).await;
    appear(&mut client, nodes).await;
    client
}

async fn appear(client: &mut Client, nodes: &[&str]) {
    let mut query = Element::bare("query", ns::DISCO_INFO);
    for node in nodes {
        let feature = [("var", &*format!("{node}+notify"))];
        query.append_child(crate::xmpp::element::element(
            "feature",
            ns::DISCO_INFO,
            &feature,
        ));
    }
    let ver = crate::xmpp::caps::hash(&query, "sha-1").unwrap();
    client
        .send(&format!(
            "<presence><c xmlns='{}' hash='sha-1' node='urn:client' ver='{ver}'/></presence>",
            ns::CAPS
        ))
        .await;
    let mut questions = client.drain();
    questions.retain(|stanza| stanza.name() == "iq");
    for question in questions {
        let id = question.attr("id").unwrap();
        let to = question.attr("from").unwrap();
        let query = String::from(&query);
        client
            .send(&format!(
                "<iq type='result' id='{id}' to='{to}'>{query}</iq>"
            ))
            .await;
    }
}

fn publish_xml(node: &str, id: &str, access: &str) -> String {
    format!(
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{node}'><item id='{id}'>\
         <x xmlns='urn:x'/></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'>\
         <field var='pubsub#access_model'><value>{access}</value></field></x></publish-options></pubsub>"
    )
}

/// The events that wait: `node:item`.
fn events(client: &mut Client) -> Vec<String> {
    let events = client.drain().into_iter().filter_map(|message| {
        let event = message.get_child("event", ns::PUBSUB_EVENT)?;
        let items = event.get_child("items", ns::PUBSUB_EVENT)?;
        let item = items.children().next()?;
        Some(format!("{}:{}", items.attr("node")?, item.attr("id")?))
    });
    events.collect()
}

async fn befriended(server: &Server) {
    let jid = |name: &str| BareJid::new(&format!("{name}@example.org")).unwrap();
    server
        .befriend(&jid("juliet"), "Juliet", &jid("romeo"), "Romeo")
        .await
        .unwrap();
}

#[tokio::test]
async fn contacts_and_own_sessions_get_what_they_asked_for() {
    let server = server(&["romeo", "juliet", "paris"]).await;
    befriended(&server).await;
    let mut balcony = following(&server, "juliet/balcony", &[TUNE]).await;
    let mut chamber = following(&server, "juliet/chamber", &[]).await;
    let mut romeo = following(&server, "romeo/orchard", &[TUNE]).await;
    let mut paris = following(&server, "paris/street", &[TUNE]).await;
    for client in [&mut balcony, &mut chamber, &mut romeo, &mut paris] {
        client.drain();
    }
    let answer = balcony
        .ask("set", "", &publish_xml(TUNE, "1", "presence"))
        .await;
    assert_eq!(answer.attr("type"), Some("result"));
    assert_eq!(events(&mut romeo), [format!("{TUNE}:1")]);
    assert!(events(&mut chamber).is_empty(), "did not ask for it");
    assert!(events(&mut paris).is_empty(), "may not see it");
    balcony
        .send(&format!(
            "<iq type='set' id='2'>{}</iq>",
            publish_xml(TUNE, "2", "presence")
        ))
        .await;
    assert_eq!(events(&mut balcony), [format!("{TUNE}:2")]);
    let error = paris
        .ask(
            "get",
            "juliet@example.org",
            &format!(
                "<pubsub xmlns='{}'><items node='{TUNE}'/></pubsub>",
                ns::PUBSUB
            ),
        )
        .await;
    assert_eq!(error.attr("type"), Some("error"));
    let error = error.get_child("error", ns::JABBER_CLIENT).unwrap();
    assert!(error.has_child("presence-subscription-required", ns::PUBSUB_ERRORS));
}

#[tokio::test]
async fn the_last_item_comes_with_presence_even_from_who_is_away() {
    let server = server(&["romeo", "juliet"]).await;
    befriended(&server).await;
    let mut juliet = client(&server, "juliet/balcony").await;
    for (node, access) in [(TUNE, "presence"), ("urn:secret", "whitelist")] {
        juliet.ask("set", "", &publish_xml(node, "1", access)).await;
    }
    juliet.leave().await;
    let mut romeo = following(&server, "romeo/orchard", &[TUNE, "urn:secret"]).await;
    assert_eq!(events(&mut romeo), [format!("{TUNE}:1")]);
    // The same presence again brings nothing again.
    appear(&mut romeo, &[TUNE, "urn:secret"]).await;
    assert!(events(&mut romeo).is_empty());
    let mut juliet = following(&server, "juliet/balcony", &["urn:secret"]).await;
    assert_eq!(events(&mut juliet), ["urn:secret:1"]);
}

#[tokio::test]
async fn an_account_says_that_it_is_a_service_and_so_does_its_domain() {
    let server = server(&["romeo", "juliet"]).await;
    let mut juliet = client(&server, "juliet/balcony").await;
    juliet.ask("set", "", &publish_xml(TUNE, "1", "open")).await;
    let query = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    let is_pep = |child: &Element| {
        child.attr("category") == Some("pubsub") && child.attr("type") == Some("pep")
    };
    let has_whitelists =
        |child: &Element| child.attr("var") == Some(&*format!("{}#access-whitelist", ns::PUBSUB));
    for asked in ["juliet@example.org", "example.org"] {
        let answer = juliet.ask("get", asked, &query).await;
        let query = answer.get_child("query", ns::DISCO_INFO).unwrap();
        assert!(query.children().any(is_pep), "{asked}");
        assert!(query.children().any(has_whitelists), "{asked}");
    }
    let query = format!("<query xmlns='{}'/>", ns::DISCO_ITEMS);
    let answer = juliet.ask("get", "juliet@example.org", &query).await;
    let item = answer.children().next().unwrap().children().next().unwrap();
    assert_eq!(item.attr("node"), Some(TUNE));
    let query = format!("<query xmlns='{}' node='{TUNE}'/>", ns::DISCO_INFO);
    let answer = juliet.ask("get", "juliet@example.org", &query).await;
    assert!(String::from(&answer).contains("leaf"));
}

#[tokio::test]
async fn directed_presence_follows_what_is_open() {
    let server = server(&["romeo", "juliet"]).await;
    let mut juliet = following(&server, "juliet/balcony", &[]).await;
    let mut romeo = client(&server, "romeo/orchard").await;
    let mut query = Element::bare("query", ns::DISCO_INFO);
    let feature = [("var", &*format!("{TUNE}+notify"))];
    query.append_child(crate::xmpp::element::element(
        "feature",
        ns::DISCO_INFO,
        &feature,
    ));
    let ver = crate::xmpp::caps::hash(&query, "sha-1").unwrap();
    let caps = format!(
        "<c xmlns='{}' hash='sha-1' node='urn:client' ver='{ver}'/>",
        ns::CAPS
    );
    romeo
        .send(&format!(
            "<presence to='juliet@example.org'>{caps}</presence>"
        ))
        .await;
    let question = romeo.next().await;
    let (id, to) = (question.attr("id").unwrap(), question.attr("from").unwrap());
    let query = String::from(&query);
    romeo
        .send(&format!(
            "<iq type='result' id='{id}' to='{to}'>{query}</iq>"
        ))
        .await;
    juliet.ask("set", "", &publish_xml(TUNE, "1", "open")).await;
    juliet
        .ask("set", "", &publish_xml("urn:other", "1", "open"))
        .await;
    assert_eq!(events(&mut romeo), [format!("{TUNE}:1")]);
    romeo
        .send("<presence to='juliet@example.org' type='unavailable'/>")
        .await;
    juliet.ask("set", "", &publish_xml(TUNE, "2", "open")).await;
    assert!(events(&mut romeo).is_empty());
}

#[tokio::test]
async fn what_is_deleted_is_gone() {
    let server = server(&["juliet"]).await;
    let mut juliet = client(&server, "juliet/balcony").await;
    juliet.ask("set", "", &publish_xml(TUNE, "1", "open")).await;
    let account = BareJid::new("juliet@example.org").unwrap();
    let name = account.node().unwrap();
    server.delete_account(name).await.unwrap();
    assert!(
        engine(&server)
            .unwrap()
            .names(&account)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(server.followers(&account, TUNE).await.is_empty());
}
