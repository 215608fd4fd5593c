//! The message of the day as accounts see it.

use super::*;
use crate::server::testing::{Client, client, server};
use crate::xmpp::element::child_text;

/// What a client is told that has just logged in and come online.
async fn told(server: &Server, jid: &str) -> Vec<String> {
    let mut client: Client = client(server, jid).await;
    client.send("<presence/>").await;
    let told = client.drain();
    let bodies = told
        .iter()
        .filter_map(|stanza| child_text(stanza, "body", ns::JABBER_CLIENT));
    let bodies = bodies.collect();
    client.leave().await;
    bodies
}

#[tokio::test]
async fn each_account_is_shown_each_text_once() {
    let server = server(&["romeo", "juliet"]).await;
    assert!(told(&server, "romeo/orchard").await.is_empty());
    store(&server, Text::Motd, Some("One")).await.unwrap();
    for (jid, expected) in [
        ("romeo/orchard", &["One"][..]),
        ("romeo/phone", &[]),
        ("juliet/balcony", &["One"]),
    ] {
        assert_eq!(told(&server, jid).await, expected, "{jid}");
    }
    store(&server, Text::Motd, Some("Two")).await.unwrap();
    assert_eq!(told(&server, "romeo/orchard").await, ["Two"]);
    store(&server, Text::Motd, None).await.unwrap();
    assert!(told(&server, "juliet/balcony").await.is_empty());
    let long = "x".repeat(LONGEST + 1);
    assert!(store(&server, Text::Motd, Some(&long)).await.is_err());
}

#[tokio::test]
async fn the_text_of_an_admin_goes_before_that_of_the_configuration() {
    let server = server(&[]).await;
    let configured = Welcome {
        message: "Hello".to_owned(),
        ..Welcome::default()
    };
    for (stored, expected) in [(None, "Hello"), (Some("Hail"), "Hail"), (Some(""), "")] {
        store(&server, Text::Welcome, stored).await.unwrap();
        assert_eq!(welcome(&server, &configured).await.unwrap(), expected);
    }
}
