//! What somebody new finds.

use super::*;
use crate::server::Settings;
use crate::server::testing::{client, online, with};
use crate::xmpp::element::child_text;

fn jid(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

/// An account that is made while the server runs.
async fn make(server: &Server, name: &str) {
    let name = jid::NodePart::new(name).unwrap().into_owned();
    let made = server.accounts().create_without_password(&name).await;
    made.unwrap();
}

#[tokio::test]
async fn a_new_account_finds_a_bot_a_room_and_a_message() {
    let bot = jid("helper@example.org");
    let settings = Settings {
        bots: vec![bot.clone()],
        welcome: Welcome {
            bot: Some(bot.clone()),
            room: Some(jid("lobby@conference.example.org")),
            message: "Welcome!".to_owned(),
        },
        ..Settings::new("example.org")
    };
    let server = with(settings, &[]).await;
    make(&server, "romeo").await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let roster = romeo
        .ask("get", "", "<query xmlns='jabber:iq:roster'/>")
        .await;
    let roster = roster.get_child("query", ns::ROSTER).unwrap();
    let contact = roster.children().next().unwrap();
    assert_eq!(contact.attr("jid"), Some(bot.as_str()));
    assert_eq!(contact.attr("subscription"), Some("both"));
    let bookmarks = "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>";
    let bookmarks = romeo.ask("get", "", bookmarks).await;
    assert!(String::from(&bookmarks).contains("lobby@conference.example.org"));
    romeo.leave().await;
    // The message waited, and came with the first presence: here it is told to somebody who looks.
    make(&server, "juliet").await;
    let mut juliet = client(&server, "juliet/balcony").await;
    juliet.send("<presence/>").await;
    let said: Vec<_> = juliet.drain();
    let said = said.iter().find_map(|stanza| {
        Some((
            stanza.attr("from")?,
            child_text(stanza, "body", ns::JABBER_CLIENT)?,
        ))
    });
    assert_eq!(said, Some((bot.as_str(), "Welcome!".to_owned())));
}

#[tokio::test]
async fn without_a_bot_the_domain_speaks_and_bots_are_told_nothing() {
    let settings = Settings {
        bots: vec![jid("helper@example.org")],
        welcome: Welcome {
            message: "Welcome!".to_owned(),
            ..Welcome::default()
        },
        ..Settings::new("example.org")
    };
    let server = with(settings, &[]).await;
    for (who, expected) in [("romeo", 1), ("helper", 0)] {
        make(&server, who).await;
        let mut client = client(&server, &format!("{who}/a")).await;
        client.send("<presence/>").await;
        let said = client.drain();
        let said = said.iter().filter(|stanza| stanza.name() == "message");
        let from = said.filter(|stanza| stanza.attr("from") == Some("example.org"));
        assert_eq!(from.count(), expected, "{who}");
    }
}
