//! Slots as clients ask for them, and files from their first byte to their end.

use std::sync::Arc;

use minidom::Element;
use tempfile::TempDir;

use super::*;
use crate::server::desk::Desk;
use crate::server::router::IqType;
use crate::server::session::Sender;
use crate::server::stanza::Stanza;
use crate::server::testing::{self, Client, client};
use crate::server::{Host, Server};
use crate::xmpp::{datetime, ns};

const HOST: &str = "upload.example.org";

/// A server with an upload service, and the directory of its files.
struct House {
    server: Server,
    uploads: Uploads,
    directory: TempDir,
}

fn rules() -> Rules {
    Rules {
        settings: config::Upload {
            max_mb: 2,
            daily_quota_mb: 3,
            ..config::Upload::default()
        },
        base: Some(Url::parse("https://chat.example.org").unwrap()),
    }
}

async fn house() -> House {
    let server = testing::server(&["juliet", "romeo"]).await;
    let directory = tempfile::tempdir().unwrap();
    let storage = server.storage().clone();
    let uploads = Uploads::open(storage, directory.path(), rules()).unwrap();
    server.extensions().insert(uploads.clone());
    let host: Arc<dyn Host> = Arc::new(Service(uploads.clone()));
    server.set_hosts(vec![(HOST.to_owned(), host)]);
    House {
        server,
        uploads,
        directory,
    }
}

/// A slot's link and secret.
struct Given {
    id: String,
    secret: String,
}

async fn ask(who: &mut Client, size: u64) -> Element {
    let request = format!(
        "<request xmlns='{}' filename='a.png' size='{size}'/>",
        ns::HTTP_UPLOAD
    );
    who.ask("get", HOST, &request).await
}

async fn slot(who: &mut Client, size: u64) -> Given {
    let answer = ask(who, size).await;
    let slot = answer.get_child("slot", ns::HTTP_UPLOAD).unwrap();
    let put = slot.get_child("put", ns::HTTP_UPLOAD).unwrap();
    let link = put.attr("url").unwrap();
    let get = slot.get_child("get", ns::HTTP_UPLOAD).unwrap();
    assert_eq!(get.attr("url"), Some(link));
    let id = link
        .strip_prefix("https://chat.example.org/upload/")
        .unwrap();
    let id = id.strip_suffix("/a.png").unwrap();
    let secret = put.children().next().unwrap().text();
    let secret = secret.strip_prefix("Bearer ").unwrap();
    assert!(!link.contains(secret));
    Given {
        id: id.to_owned(),
        secret: secret.to_owned(),
    }
}

impl House {
    async fn put(&self, slot: &Given, bytes: &[u8]) -> Result<(), Refusal> {
        let size = u64::try_from(bytes.len()).unwrap();
        let uploads = &self.uploads;
        let kind = Some("image/png");
        let receiving = uploads.receive(&slot.id, "a.png", &slot.secret, size, kind);
        let mut reception = receiving.await?;
        reception.write(bytes).await?;
        reception.finish().await
    }

    async fn has(&self, slot: &Given) -> bool {
        let found = self.uploads.find(&slot.id, "a.png").await.unwrap();
        let on_disk = self.uploads.read(&slot.id).await.is_ok();
        assert_eq!(found.is_some(), on_disk);
        on_disk
    }

    /// How many files there are, unfinished ones too.
    fn files(&self) -> usize {
        std::fs::read_dir(self.directory.path().join(DIRECTORY))
            .unwrap()
            .count()
    }
}

fn condition(answer: &Element) -> String {
    let error = answer.get_child("error", ns::JABBER_CLIENT).unwrap();
    String::from(error)
}

#[tokio::test]
async fn the_service_says_what_it_is_and_how_large_a_file_may_be() {
    let house = house().await;
    let mut juliet = client(&house.server, "juliet/balcony").await;
    let query = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    let info = String::from(&juliet.ask("get", HOST, &query).await);
    assert!(
        info.contains(ns::HTTP_UPLOAD) && info.contains("<value>2000000</value>"),
        "{info}"
    );
    let items = format!("<query xmlns='{}'/>", ns::DISCO_ITEMS);
    let items = String::from(&juliet.ask("get", "example.org", &items).await);
    assert!(items.contains(HOST), "{items}");
    house.uploads.set_rules(Rules {
        base: None,
        ..rules()
    });
    let info = String::from(&juliet.ask("get", HOST, &query).await);
    assert!(!info.contains(ns::HTTP_UPLOAD), "{info}");
    let refused = condition(&ask(&mut juliet, 1).await);
    assert!(refused.contains("service-unavailable"), "{refused}");
}

#[tokio::test]
async fn a_file_is_put_once_and_found_by_its_link() {
    let house = house().await;
    let mut juliet = client(&house.server, "juliet/balcony").await;
    let slot = slot(&mut juliet, 5).await;
    assert!(!house.has(&slot).await);
    for (name, secret, bytes, expected) in [
        ("another secret", &slot.id, &b"hello"[..], Refusal::Secret),
        ("too short", &slot.secret, b"hell", Refusal::Size),
        ("too long", &slot.secret, b"hello!", Refusal::Size),
    ] {
        let given = Given {
            id: slot.id.clone(),
            secret: secret.clone(),
        };
        assert_eq!(house.put(&given, bytes).await, Err(expected), "{name}");
    }
    house.put(&slot, b"hello").await.unwrap();
    let file = house
        .uploads
        .find(&slot.id, "a.png")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((file.kind.as_str(), file.size), ("image/png", 5));
    assert_eq!(house.uploads.find(&slot.id, "b.png").await.unwrap(), None);
    assert_eq!(house.put(&slot, b"other").await, Err(Refusal::Done));
    assert_eq!(house.files(), 1);
}

#[tokio::test]
async fn what_did_not_arrive_may_be_sent_again_and_leaves_nothing() {
    let house = house().await;
    let mut juliet = client(&house.server, "juliet/balcony").await;
    let slot = slot(&mut juliet, 5).await;
    let take = || {
        house
            .uploads
            .receive(&slot.id, "a.png", &slot.secret, 5, None)
    };
    let mut reception = take().await.unwrap();
    reception.write(b"he").await.unwrap();
    assert_eq!(take().await.err(), Some(Refusal::Busy));
    drop(reception);
    assert_eq!(house.files(), 0);
    let mut reception = take().await.unwrap();
    assert_eq!(reception.write(b"hello!").await, Err(Refusal::Size));
    drop(reception);
    let mut reception = take().await.unwrap();
    reception.write(b"hell").await.unwrap();
    assert_eq!(reception.finish().await, Err(Refusal::Size));
    house.put(&slot, b"hello").await.unwrap();
    assert!(house.has(&slot).await);
}

#[tokio::test]
async fn the_type_that_was_said_is_the_type_that_comes() {
    let house = house().await;
    let mut juliet = client(&house.server, "juliet/balcony").await;
    let request = format!(
        "<request xmlns='{}' filename='a.png' size='0' content-type='text/plain'/>",
        ns::HTTP_UPLOAD
    );
    let answer = juliet.ask("get", HOST, &request).await;
    let put = answer.get_child("slot", ns::HTTP_UPLOAD).unwrap();
    let put = put.get_child("put", ns::HTTP_UPLOAD).unwrap();
    let id = put
        .attr("url")
        .unwrap()
        .split('/')
        .nth(4)
        .unwrap()
        .to_owned();
    let secret = put
        .children()
        .next()
        .unwrap()
        .text()
        .split_off("Bearer ".len());
    for (kind, expected) in [
        (Some("image/png"), Some(Refusal::Kind)),
        (Some("nonsense"), Some(Refusal::Kind)),
        (Some("TEXT/plain; charset=utf-8"), None),
        (None, None),
    ] {
        let outcome = house.uploads.receive(&id, "a.png", &secret, 0, kind).await;
        assert_eq!(outcome.err(), expected, "{kind:?}");
    }
    let mut only = rules();
    only.settings.allowed_types = vec!["image/*".to_owned()];
    house.uploads.set_rules(only);
    let slot = slot(&mut juliet, 0).await;
    let unsaid = house
        .uploads
        .receive(&slot.id, "a.png", &slot.secret, 0, None)
        .await;
    assert_eq!(unsaid.err(), Some(Refusal::Kind));
    house.put(&slot, b"").await.unwrap();
}

#[tokio::test]
async fn a_share_of_the_day_is_counted_over_restarts() {
    let house = house().await;
    let mut juliet = client(&house.server, "juliet/balcony").await;
    let first = slot(&mut juliet, 2_000_000).await;
    let refused = condition(&ask(&mut juliet, 1_000_001).await);
    assert!(
        refused.contains("resource-constraint") && refused.contains("stamp="),
        "{refused}"
    );
    house.put(&first, &vec![7; 2_000_000]).await.unwrap();
    let storage = house.server.storage().clone();
    let again = Uploads::open(storage, house.directory.path(), rules()).unwrap();
    let service = Service(again);
    let request = format!(
        "<request xmlns='{}' filename='a' size='1000001'/>",
        ns::HTTP_UPLOAD
    );
    let iq = format!("<iq type='get' id='1' to='{HOST}'>{request}</iq>");
    let from = jid::Jid::from(juliet.session.jid().clone());
    let to = jid::Jid::new(HOST).unwrap();
    let stanza = Stanza::new(from, Some(to), testing::stanza(&iq)).unwrap();
    service.handle(&house.server, Sender::Nobody, stanza).await;
    let refused = condition(&juliet.next().await);
    assert!(refused.contains("resource-constraint"), "{refused}");
    let mut romeo = client(&house.server, "romeo/orchard").await;
    slot(&mut romeo, 1_000_001).await;
}

#[tokio::test]
async fn files_end_by_age_and_with_their_account() {
    let house = house().await;
    let mut juliet = client(&house.server, "juliet/balcony").await;
    let mut romeo = client(&house.server, "romeo/orchard").await;
    let (hers, his) = (slot(&mut juliet, 1).await, slot(&mut romeo, 1).await);
    house.put(&hers, b"1").await.unwrap();
    house.put(&his, b"2").await.unwrap();
    let unused = slot(&mut juliet, 1).await;
    let late = slot(&mut juliet, 1).await;
    let file = house
        .uploads
        .find(&hers.id, "a.png")
        .await
        .unwrap()
        .unwrap();
    let days = |days: i64| file.at + days * quota::DAY;
    house.uploads.expire(&house.server, days(29)).await.unwrap();
    assert!(house.has(&hers).await && house.has(&his).await);
    let receiving = house
        .uploads
        .receive(&late.id, "a.png", &late.secret, 1, Some("image/png"));
    let mut receiving = receiving.await.unwrap();
    receiving.write(b"4").await.unwrap();
    let name = jid::NodePart::new("juliet").unwrap();
    house.server.accounts().delete(&name).await.unwrap();
    assert_eq!(receiving.finish().await, Err(Refusal::Unknown));
    assert!(!house.has(&hers).await && house.has(&his).await);
    assert_eq!(house.put(&unused, b"3").await, Err(Refusal::Unknown));
    house.uploads.expire(&house.server, days(31)).await.unwrap();
    assert!(!house.has(&his).await);
    assert_eq!(house.files(), 0);
}

#[tokio::test]
async fn a_crash_between_an_account_and_its_files_leaves_none() {
    let house = house().await;
    let mut juliet = client(&house.server, "juliet/balcony").await;
    let hers = slot(&mut juliet, 1).await;
    house.put(&hers, b"1").await.unwrap();
    std::fs::write(house.uploads.path("half.part"), "unfinished").unwrap();
    let other = testing::server(&["romeo"]).await;
    let storage = house.server.storage().clone();
    let again = Uploads::open(storage, house.directory.path(), rules()).unwrap();
    assert_eq!(house.files(), 1, "what was not finished is gone");
    again.expire(&other, datetime::now()).await.unwrap();
    assert_eq!(house.files(), 0, "there is no juliet there");
}

#[tokio::test]
async fn strangers_get_no_slot() {
    let house = house().await;
    let mut juliet = client(&house.server, "juliet/balcony").await;
    let service = Service(house.uploads.clone());
    let request = format!(
        "<request xmlns='{}' filename='a' size='1'/>",
        ns::HTTP_UPLOAD
    );
    let iq = testing::stanza(&format!("<iq type='get' id='1' to='{HOST}'>{request}</iq>"));
    for from in [
        "paris@elsewhere.example/x",
        "example.org",
        "bots.example.org",
    ] {
        let from = jid::Jid::new(from).unwrap();
        let to = jid::Jid::new(HOST).unwrap();
        let stanza = Stanza::new(from, Some(to), iq.clone()).unwrap();
        let payload = stanza.element().children().next().unwrap();
        let asked = service.asked(&house.server, &stanza, IqType::Get, payload);
        let error = asked.await.unwrap_err();
        assert_eq!(error.condition, crate::server::Condition::NotAllowed);
    }
    let many = format!("<message to='{HOST}'><body>Hi</body></message>");
    juliet.send(&many).await;
    assert!(condition(&juliet.next().await).contains("service-unavailable"));
}

#[test]
fn an_id_is_no_path() {
    assert!(is_id(&crate::server::random_id()));
    for id in [
        "",
        "..",
        "../../../../etc/passwd",
        "aaaaaaaaaaaaaaaaaaaaa/",
        "aaaaaaaaaaaaaaaaaaaaa.",
        "é",
    ] {
        assert!(!is_id(id), "{id}");
    }
}
