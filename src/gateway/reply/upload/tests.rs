//! A server in the tests: IQs answered from a script, files taken over real HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::put;

use xmpp_parsers::message::MessageType;

use super::*;
use crate::gateway::testing::{TestWire, account};

/// What the HTTP server was sent.
type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// An HTTP server on loopback that answers with this status; its address and what it gets.
async fn http(status: StatusCode) -> (String, Received) {
    let received = Received::default();
    let router = Router::new()
        .route(
            "/{*file}",
            put(
                move |State(received): State<Received>, headers: HeaderMap, body: Bytes| async move {
                    received.lock().await.push((headers, body));
                    status
                },
            ),
        )
        .with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await });
    // Ends with the test's runtime.
    tasks.detach_all();
    (format!("http://{address}"), received)
}

const NOTHING: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'>\
     <item jid='rooms.example.com'/><item jid='upload.example.com'/></query>";
const SERVICE: &str = "<query xmlns='http://jabber.org/protocol/disco#info'>\
     <identity category='store' type='file'/><feature var='urn:xmpp:http:upload:0'/>\
     <x xmlns='jabber:x:data' type='result'>\
     <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:http:upload:0</value></field>\
     <field var='max-file-size'><value>1000</value></field></x></query>";

fn slot(put: &str) -> String {
    format!(
        "<slot xmlns='urn:xmpp:http:upload:0'><put url='{put}/f/a.txt'>\
         <header name='Authorization'>Basic a\r\nb</header><header name='cookie'>c=d</header>\
         <header name='X-Evil'>e</header></put><get url='https://files.example.com/f/a.txt'/></slot>"
    )
}

async fn uploads(wire: TestWire) -> Uploads {
    web::install_provider();
    Uploads::new(Arc::new(wire), web::own(&account()).await.unwrap())
}

fn usual(slot: &str) -> TestWire {
    TestWire::new("bot@example.com/x")
        .answer("example.com", "query", NOTHING)
        .answer("example.com", "query", ITEMS)
        .refuse("rooms.example.com", "query", "service-unavailable")
        .answer("upload.example.com", "query", SERVICE)
        .answer("upload.example.com", "request", slot)
}

#[tokio::test]
async fn a_file_is_put_where_the_slot_says_with_the_headers_it_names() {
    let (base, received) = http(StatusCode::CREATED).await;
    let uploads = uploads(usual(&slot(&base))).await;
    let uploaded = uploads.upload("a.txt", Bytes::from("hello")).await.unwrap();
    assert_eq!(uploaded.url, "https://files.example.com/f/a.txt");
    let received = received.lock().await;
    let (headers, body) = &received[0];
    assert_eq!(body, "hello");
    assert_eq!(headers["authorization"], "Basic ab");
    assert_eq!(headers["cookie"], "c=d");
    assert_eq!(headers["content-type"], "text/plain");
    assert!(!headers.contains_key("x-evil"));
}

#[tokio::test]
async fn the_message_shares_the_file_in_both_ways() {
    let (base, _) = http(StatusCode::CREATED).await;
    let uploads = uploads(usual(&slot(&base))).await;
    let uploaded = uploads.upload("a.txt", Bytes::from("hello")).await.unwrap();
    let room = BareJid::new("room@rooms.example.com").unwrap();
    let message = uploaded.message(&Place::Room(room));
    assert_eq!(message.type_, MessageType::Groupchat);
    assert_eq!(message.bodies[""], uploaded.url);
    let [oob, sharing] = &message.payloads[..] else {
        panic!("Two payloads: {message:?}");
    };
    assert_eq!(oob.get_child("url", ns::OOB).unwrap().text(), uploaded.url);
    let file = sharing.get_child("file", ns::FILE_METADATA).unwrap();
    let text = |name| file.get_child(name, ns::FILE_METADATA).unwrap().text();
    assert_eq!(
        [text("name"), text("media-type"), text("size")],
        ["a.txt", "text/plain", "5"]
    );
    // As `printf hello | openssl dgst -sha256 -binary | base64` prints it.
    assert_eq!(
        file.get_child("hash", ns::HASHES).unwrap().text(),
        "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
    );
    let sources = sharing.get_child("sources", ns::FILE_SHARING).unwrap();
    let source = sources.get_child("url-data", ns::URL_DATA).unwrap();
    assert_eq!(source.attr("target"), Some(uploaded.url.as_str()));
}

#[tokio::test]
async fn each_way_to_fail_is_its_own_error() {
    let (gone, _) = http(StatusCode::FORBIDDEN).await;
    let without_service = TestWire::new("bot@example.com/x")
        .answer("example.com", "query", NOTHING)
        .answer(
            "example.com",
            "query",
            "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        );
    let refused = TestWire::new("bot@example.com/x")
        .answer("example.com", "query", SERVICE)
        .refuse("example.com", "request", "resource-constraint");
    let rows = [
        ("no service", without_service, 5, "offers no file upload"),
        ("too large", usual(""), 1_001, "takes 1 kB at most"),
        (
            "refused",
            refused,
            5,
            "refused the upload (resource-constraint)",
        ),
        ("failed", usual(&slot(&gone)), 5, "failed (HTTP 403)"),
        (
            "no slot",
            usual("<x xmlns='y'/>"),
            5,
            "something else than a slot",
        ),
        (
            "no TLS",
            usual(&slot("http://files.example.com")),
            5,
            "has no TLS",
        ),
        (
            "nobody there",
            usual(&slot("http://127.0.0.1:1")),
            5,
            "the upload failed (",
        ),
    ];
    for (name, wire, size, expected) in rows {
        let uploads = uploads(wire).await;
        let err = uploads
            .upload("a.txt", Bytes::from(vec![b'x'; size]))
            .await
            .unwrap_err();
        assert!(err.to_string().contains(expected), "{name}: {err}");
    }
}

#[tokio::test]
async fn the_service_is_looked_for_once() {
    let (base, received) = http(StatusCode::OK).await;
    let wire = usual(&slot(&base)).answer("upload.example.com", "request", &slot(&base));
    let uploads = uploads(wire).await;
    for _ in 0..2 {
        uploads.upload("a.txt", Bytes::from("x")).await.unwrap();
    }
    assert_eq!(received.lock().await.len(), 2);
}
