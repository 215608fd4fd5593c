use super::*;
use crate::server::Settings;
use crate::server::testing::{Client, client, online, stanza, with};
use crate::xmpp::element::child_text;

const SERVICE: &str = "pubsub.example.org";

/// With the service; tybalt is an administrator.
async fn server() -> Server {
    let settings = Settings {
        admins: vec![BareJid::new("tybalt@example.org").unwrap()],
        ..Settings::new("example.org")
    };
    let server = with(settings, &["juliet", "romeo", "nurse", "tybalt"]).await;
    let service = Service::new(BareJid::new(SERVICE).unwrap(), server.storage().clone());
    server.set_hosts(vec![(SERVICE.to_owned(), Arc::new(service))]);
    server
}

fn common(inner: &str) -> String {
    format!("<pubsub xmlns='{}'>{inner}</pubsub>", ns::PUBSUB)
}

fn owners(inner: &str) -> String {
    format!("<pubsub xmlns='{}'>{inner}</pubsub>", ns::PUBSUB_OWNER)
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (var, value) in fields {
        let field = format!("<field var='pubsub#{var}'><value>{value}</value></field>");
        text.push_str(&field);
    }
    format!("<x xmlns='jabber:x:data' type='submit'>{text}</x>")
}

async fn create(client: &mut Client, node: &str, fields: &[(&str, &str)]) -> Element {
    let form = form(fields);
    let request = common(&format!(
        "<create node='{node}'/><configure>{form}</configure>"
    ));
    client.ask("set", SERVICE, &request).await
}

fn publication(node: &str, id: &str) -> String {
    common(&format!(
        "<publish node='{node}'><item id='{id}'><x xmlns='urn:x'>{id}</x></item></publish>"
    ))
}

fn subscription(node: &str, jid: &str) -> String {
    common(&format!("<subscribe node='{node}' jid='{jid}'/>"))
}

/// `result`, or the conditions of an error.
fn outcome(answer: &Element) -> String {
    let Some(error) = answer.get_child("error", ns::JABBER_CLIENT) else {
        return answer.attr("type").unwrap().to_owned();
    };
    let names: Vec<&str> = error.children().map(Element::name).collect();
    names.join(" ")
}

/// The items of the events that wait.
fn events(client: &mut Client) -> Vec<String> {
    let stanzas = client.drain().into_iter();
    let events =
        stanzas.filter_map(|message| message.get_child("event", ns::PUBSUB_EVENT).cloned());
    let happened = events.filter_map(|event| event.children().next().cloned());
    happened
        .map(|what| match what.children().next() {
            Some(item) => format!("{} {}", item.name(), item.attr("id").unwrap_or_default()),
            None => what.name().to_owned(),
        })
        .collect()
}

#[tokio::test]
async fn an_account_creates_a_node_and_subscribers_get_what_is_published() {
    let server = server().await;
    let mut juliet = client(&server, "juliet/balcony").await;
    let mut romeo = online(&server, "romeo/orchard").await;
    assert_eq!(outcome(&create(&mut juliet, "verse", &[]).await), "result");
    let answer = romeo
        .ask("set", SERVICE, &subscription("verse", "romeo@example.org"))
        .await;
    assert_eq!(outcome(&answer), "result");
    juliet
        .ask("set", SERVICE, &publication("verse", "one"))
        .await;
    assert_eq!(events(&mut romeo), ["item one"]);
    let items = common("<items node='verse'/>");
    let answer = romeo.ask("get", SERVICE, &items).await;
    assert!(String::from(&answer).contains("urn:x"));
    // Also to one of several resources, and not to the others.
    let mut tomb = online(&server, "romeo/tomb").await;
    let unsubscribe = common("<unsubscribe node='verse' jid='romeo@example.org'/>");
    romeo.ask("set", SERVICE, &unsubscribe).await;
    let full = subscription("verse", "romeo@example.org/tomb");
    assert_eq!(outcome(&tomb.ask("set", SERVICE, &full).await), "result");
    tomb.drain();
    romeo.drain();
    juliet
        .ask("set", SERVICE, &publication("verse", "two"))
        .await;
    assert_eq!(events(&mut tomb), ["item two"]);
    assert!(events(&mut romeo).is_empty());
}

#[tokio::test]
async fn nodes_are_created_by_accounts_here_and_are_so_many() {
    let server = server().await;
    let mut juliet = client(&server, "juliet/balcony").await;
    let most = Profile::PUBLIC.limits.nodes_per_creator;
    for number in 0..most {
        let answer = create(&mut juliet, &number.to_string(), &[]).await;
        assert_eq!(outcome(&answer), "result");
    }
    let answer = create(&mut juliet, "more", &[]).await;
    assert_eq!(outcome(&answer), "policy-violation max-nodes-exceeded");
    let mut romeo = client(&server, "romeo/orchard").await;
    assert_eq!(outcome(&create(&mut romeo, "more", &[]).await), "result");
    // All of them are told a page at a time.
    let query = format!("<query xmlns='{}'/>", ns::DISCO_ITEMS);
    let answer = romeo.ask("get", SERVICE, &query).await;
    let query = answer.get_child("query", ns::DISCO_ITEMS).unwrap();
    let items = query.children().filter(|child| child.name() == "item");
    assert_eq!(items.count(), 250);
    let set = query.get_child("set", ns::RSM).unwrap();
    assert_eq!(child_text(set, "count", ns::RSM).unwrap(), "251");
    // Somebody from elsewhere may not.
    let xml = format!(
        "<iq type='set' id='1'>{}</iq>",
        common("<create node='x'/>")
    );
    let from = Jid::new("paris@verona.example/street").unwrap();
    let to = Some(Jid::new(SERVICE).unwrap());
    let actor = {
        let stanza = Stanza::new(from, to, stanza(&xml)).unwrap();
        let service = Service::new(BareJid::new(SERVICE).unwrap(), server.storage().clone());
        service.actor(&server, stanza.from())
    };
    assert!(!actor.may_create && !actor.relation.owner);
}

#[tokio::test]
async fn rosters_of_the_owners_open_nodes_to_their_contacts() {
    let server = server().await;
    let jid = |name: &str| BareJid::new(&format!("{name}@example.org")).unwrap();
    server
        .befriend(&jid("juliet"), "Juliet", &jid("romeo"), "Romeo")
        .await
        .unwrap();
    let mut juliet = client(&server, "juliet/balcony").await;
    let friends = "<query xmlns='jabber:iq:roster'><item jid='romeo@example.org'><group>Friends</group></item></query>";
    juliet.ask("set", "", friends).await;
    let mut romeo = client(&server, "romeo/orchard").await;
    let mut nurse = client(&server, "nurse/chamber").await;
    create(&mut juliet, "seen", &[("access_model", "presence")]).await;
    let friends = [
        ("access_model", "roster"),
        ("roster_groups_allowed", "Friends"),
    ];
    create(&mut juliet, "friends", &friends).await;
    let others = [
        ("access_model", "roster"),
        ("roster_groups_allowed", "Servants"),
    ];
    create(&mut juliet, "servants", &others).await;
    let presence = "not-authorized presence-subscription-required";
    for (node, of_romeo, of_the_nurse) in [
        ("seen", "result", presence),
        ("friends", "result", presence),
        ("servants", "not-authorized not-in-roster-group", presence),
    ] {
        let items = common(&format!("<items node='{node}'/>"));
        let answer = romeo.ask("get", SERVICE, &items).await;
        assert_eq!(outcome(&answer), of_romeo, "{node}");
        let request = subscription(node, "romeo@example.org");
        let answer = romeo.ask("set", SERVICE, &request).await;
        assert_eq!(outcome(&answer), of_romeo, "{node}");
        let answer = nurse.ask("get", SERVICE, &items).await;
        assert_eq!(outcome(&answer), of_the_nurse, "{node}");
    }
    let query = format!("<query xmlns='{}'/>", ns::DISCO_ITEMS);
    let listed = romeo.ask("get", SERVICE, &query).await;
    let listed = String::from(&listed);
    assert!(listed.contains("'seen'") || listed.contains("\"seen\""));
    assert!(!listed.contains("servants"));
    // Who is taken out of the roster is told no more.
    romeo.drain();
    juliet
        .ask("set", SERVICE, &publication("seen", "one"))
        .await;
    juliet
        .send("<presence type='unsubscribed' to='romeo@example.org'/>")
        .await;
    juliet
        .ask("set", SERVICE, &publication("seen", "two"))
        .await;
    romeo.send("<presence/>").await;
    assert!(!events(&mut romeo).contains(&"item two".to_owned()));
}

#[tokio::test]
async fn an_owner_approves_by_message_and_a_second_request_waits() {
    let server = server().await;
    let mut juliet = online(&server, "juliet/balcony").await;
    let mut romeo = online(&server, "romeo/orchard").await;
    create(&mut juliet, "asked", &[("access_model", "authorize")]).await;
    let request = subscription("asked", "romeo@example.org");
    romeo.ask("set", SERVICE, &request).await;
    let again = romeo.ask("set", SERVICE, &request).await;
    assert_eq!(outcome(&again), "not-authorized pending-subscription");
    let asked = juliet.drain();
    assert_eq!(asked.len(), 1, "asked once");
    let mut form = asked[0].get_child("x", ns::DATA_FORMS).unwrap().clone();
    crate::xmpp::element::set(&mut form, "type", "submit");
    let form = String::from(&form)
        .replace("<value>0</value>", "<value>1</value>")
        .replace(" xmlns=\"jabber:x:data\"", "")
        .replace("<x ", "<x xmlns='jabber:x:data' ");
    let approval = format!("<message to='{SERVICE}'>{form}</message>");
    // Romeo does not approve of himself.
    romeo.send(&approval).await;
    let refused = romeo.next().await;
    assert_eq!(outcome(&refused), "forbidden");
    juliet.send(&approval).await;
    assert_eq!(events(&mut romeo), ["subscription"]);
    let items = common("<items node='asked'/>");
    assert_eq!(outcome(&romeo.ask("get", SERVICE, &items).await), "result");
}

#[tokio::test]
async fn an_administrator_owns_every_node() {
    let server = server().await;
    let mut juliet = client(&server, "juliet/balcony").await;
    let mut tybalt = client(&server, "tybalt/street").await;
    let mut nurse = client(&server, "nurse/chamber").await;
    create(&mut juliet, "secret", &[("access_model", "whitelist")]).await;
    let delete = owners("<delete node='secret'/>");
    let answer = nurse.ask("set", SERVICE, &delete).await;
    assert_eq!(outcome(&answer), "forbidden");
    let answer = tybalt.ask("set", SERVICE, &delete).await;
    assert_eq!(outcome(&answer), "result");
}

#[tokio::test]
async fn what_a_deleted_account_had_is_gone() {
    let server = server().await;
    let mut juliet = online(&server, "juliet/balcony").await;
    let mut romeo = online(&server, "romeo/orchard").await;
    create(&mut juliet, "hers", &[]).await;
    create(&mut romeo, "his", &[]).await;
    let his = subscription("his", "juliet@example.org");
    juliet.ask("set", SERVICE, &his).await;
    let hers = subscription("hers", "romeo@example.org");
    romeo.ask("set", SERVICE, &hers).await;
    romeo.drain();
    let name = jid::NodePart::new("juliet").unwrap();
    server.delete_account(&name).await.unwrap();
    assert_eq!(events(&mut romeo), ["delete"]);
    let gone = common("<items node='hers'/>");
    assert_eq!(
        outcome(&romeo.ask("get", SERVICE, &gone).await),
        "item-not-found"
    );
    let subscribers = owners("<subscriptions node='his'/>");
    let answer = romeo.ask("get", SERVICE, &subscribers).await;
    assert!(!String::from(&answer).contains("juliet"));
}

#[tokio::test]
async fn only_those_who_are_there_are_told_where_the_node_wants_it() {
    let server = server().await;
    let mut juliet = client(&server, "juliet/balcony").await;
    let mut romeo = client(&server, "romeo/orchard").await;
    let presence = [
        ("presence_based_delivery", "1"),
        ("notification_type", "headline"),
    ];
    create(&mut juliet, "now", &presence).await;
    let full = subscription("now", "romeo@example.org/orchard");
    romeo.ask("set", SERVICE, &full).await;
    juliet.ask("set", SERVICE, &publication("now", "one")).await;
    assert!(events(&mut romeo).is_empty(), "he has sent no presence");
    romeo.send("<presence/>").await;
    juliet.ask("set", SERVICE, &publication("now", "two")).await;
    assert_eq!(events(&mut romeo), ["item two"]);
}

#[tokio::test]
async fn a_page_of_sql_is_not_found_and_harms_nothing() {
    let server = server().await;
    let mut juliet = client(&server, "juliet/balcony").await;
    create(&mut juliet, "verse", &[]).await;
    juliet
        .ask("set", SERVICE, &publication("verse", "one"))
        .await;
    let injection = "&apos;; DROP TABLE kv; --";
    for position in ["after", "before"] {
        let request = common(&format!(
            "<items node='verse'/><set xmlns='{}'><max>1</max><{position}>{injection}</{position}></set>",
            ns::RSM
        ));
        let answer = juliet.ask("get", SERVICE, &request).await;
        assert_eq!(outcome(&answer), "item-not-found", "{position}");
    }
    let node = common(&format!("<items node=\"{injection}\"/>"));
    let answer = juliet.ask("get", SERVICE, &node).await;
    assert_eq!(outcome(&answer), "item-not-found");
    let items = common("<items node='verse'/>");
    let answer = juliet.ask("get", SERVICE, &items).await;
    assert!(String::from(&answer).contains("one"));
}

#[tokio::test]
async fn a_node_of_many_items_is_told_in_pages() {
    let server = server().await;
    let mut juliet = client(&server, "juliet/balcony").await;
    create(&mut juliet, "many", &[("max_items", "max")]).await;
    for number in 0..300 {
        let item = publication("many", &format!("{number:03}"));
        juliet.ask("set", SERVICE, &item).await;
    }
    let mut told = Vec::new();
    let mut after = String::new();
    loop {
        let set = format!("<set xmlns='{}'><max>100000</max>{after}</set>", ns::RSM);
        let query = format!(
            "<query xmlns='{}' node='many'>{set}</query>",
            ns::DISCO_ITEMS
        );
        let answer = juliet.ask("get", SERVICE, &query).await;
        let query = answer.get_child("query", ns::DISCO_ITEMS).unwrap();
        let items = query.children().filter(|child| child.name() == "item");
        let page: Vec<String> = items
            .map(|item| item.attr("name").unwrap().to_owned())
            .collect();
        assert!(page.len() <= 250);
        let Some(last) = page.last() else {
            break;
        };
        after = format!("<after>{last}</after>");
        told.extend(page);
    }
    assert_eq!(told.len(), 300);
    assert!(told.is_sorted());
}

#[tokio::test]
async fn what_is_no_question_for_it_gets_its_error() {
    let server = server().await;
    let mut juliet = client(&server, "juliet/balcony").await;
    let ping = format!("<ping xmlns='{}'/>", ns::PING);
    assert_eq!(outcome(&juliet.ask("get", SERVICE, &ping).await), "result");
    let strange = juliet.ask("get", SERVICE, "<x xmlns='urn:x'/>").await;
    assert_eq!(outcome(&strange), "service-unavailable");
    let nobody = juliet
        .ask("get", "somebody@pubsub.example.org", &ping)
        .await;
    assert_eq!(outcome(&nobody), "item-not-found");
    juliet
        .send(&format!(
            "<message to='{SERVICE}'><body>Hello?</body></message>"
        ))
        .await;
    assert_eq!(outcome(&juliet.next().await), "service-unavailable");
    let answer = juliet
        .ask("set", SERVICE, &publication("none", "one"))
        .await;
    assert_eq!(outcome(&answer), "item-not-found");
}
