//! Registration before a login and in a session.

use super::*;
use crate::server::accounts::Change;
use crate::server::testing::{client, online, server, stanza, with};
use crate::storage::KeyValue;

#[test]
fn a_wish_is_read_from_fields_or_a_form() {
    let account = |name: &str, password: &str| {
        Ok(Wish::Account {
            name: name.to_owned(),
            password: password.to_owned(),
        })
    };
    let refused = |error: StanzaError| Err(error.condition);
    for (inner, expected) in [
        (
            "<username>a</username><password>b</password><email/>",
            account("a", "b"),
        ),
        (
            "<x xmlns='jabber:x:data' type='submit'><field var='username'><value>a</value></field>\
             <field var='password'><value>b</value></field></x>",
            account("a", "b"),
        ),
        ("<remove/>", Ok(Wish::Remove)),
        (
            "<remove/><username>a</username>",
            refused(StanzaError::bad_request()),
        ),
        (
            "<username>a</username>",
            refused(StanzaError::not_acceptable()),
        ),
        (
            "<username/><password>b</password>",
            refused(StanzaError::not_acceptable()),
        ),
        (
            "<x xmlns='jabber:x:data'/>",
            refused(StanzaError::not_acceptable()),
        ),
        ("", refused(StanzaError::not_acceptable())),
    ] {
        let query = format!("<query xmlns='jabber:iq:register'>{inner}</query>");
        let read = wish(&query.parse().unwrap());
        assert_eq!(read.map_err(|error| error.condition), expected, "{inner}");
    }
}

fn settings(registration: Registration) -> Settings {
    Settings {
        registration,
        ..Settings::new("example.org")
    }
}

/// The condition of the error, or `result`.
async fn outcome(server: &Server, address: &str, kind: &str, query: &str) -> String {
    let mut registrar = Registrar {
        server,
        address: address.parse().unwrap(),
        shown: &mut None,
    };
    let iq =
        format!("<iq type='{kind}' id='1'><query xmlns='jabber:iq:register'>{query}</query></iq>");
    let answer = registrar.answer(&stanza(&iq)).await.unwrap();
    assert_eq!(answer.attr("id"), Some("1"));
    match answer.get_child("error", ns::JABBER_CLIENT) {
        Some(error) => error.children().next().unwrap().name().to_owned(),
        None => answer.attr("type").unwrap().to_owned(),
    }
}

#[tokio::test]
async fn where_registration_is_closed_nobody_registers() {
    let server = with(settings(Registration::Closed), &[]).await;
    assert!(Registrar::features(&server.settings()).is_empty());
    for kind in ["get", "set"] {
        let query = "<username>a</username><password>b</password>";
        let refused = outcome(&server, "192.0.2.1", kind, query).await;
        assert_eq!(refused, "not-allowed", "{kind}");
    }
    assert!(server.accounts().is_empty());
}

#[tokio::test]
async fn by_invitation_a_token_comes_first_and_is_for_one_account() {
    let server = with(settings(Registration::Invite), &[]).await;
    let invitation = crate::server::invitations::Invitation {
        name: Some("juliet".to_owned()),
        ..crate::server::invitations::Invitation::new()
    };
    let made = server.invitations().make(invitation).await.unwrap();
    let mut names = Vec::new();
    let mut shown = None;
    let mut registrar = Registrar {
        server: &server,
        address: "192.0.2.1".parse().unwrap(),
        shown: &mut shown,
    };
    let query = |name: &str| {
        let fields = format!("<username>{name}</username><password>b</password>");
        format!("<query xmlns='jabber:iq:register'>{fields}</query>")
    };
    let token = |token: &str| format!("<preauth xmlns='urn:xmpp:pars:0' token='{token}'/>");
    let get = "<query xmlns='jabber:iq:register'/>".to_owned();
    for (kind, payload, expected) in [
        ("get", get.clone(), "result"),
        ("set", query("juliet"), "not-allowed"),
        ("set", token("wrong"), "item-not-found"),
        (
            "set",
            "<preauth xmlns='urn:xmpp:pars:0'/>".to_owned(),
            "bad-request",
        ),
        ("set", token(&made.token), "result"),
        ("get", get, "result"),
        ("set", query("nurse"), "not-acceptable"),
        ("set", query("juliet"), "result"),
        ("set", query("paris"), "not-allowed"),
        ("set", token(&made.token), "item-not-found"),
    ] {
        let iq = stanza(&format!("<iq type='{kind}' id='1'>{payload}</iq>"));
        let answer = registrar.answer(&iq).await.unwrap();
        let got = match answer.get_child("error", ns::JABBER_CLIENT) {
            Some(error) => error.children().next().unwrap().name().to_owned(),
            None => answer.attr("type").unwrap().to_owned(),
        };
        assert_eq!(got, expected, "{kind} {payload}");
        if let Some(form) = answer.get_child("query", ns::REGISTER) {
            let name = child_text(form, "username", ns::REGISTER);
            names.push(name.unwrap_or_default());
        }
    }
    assert_eq!(names, ["", "juliet"], "the name is filled in");
    assert_eq!(server.accounts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_it_is_open_so_many_register_from_an_address() {
    let server = with(settings(Registration::Open), &["juliet"]).await;
    assert_eq!(Registrar::features(&server.settings()).len(), 2);
    assert_eq!(outcome(&server, "192.0.2.1", "get", "").await, "result");
    let query = |name: &str| format!("<username>{name}</username><password>b</password>");
    for (name, expected) in [
        ("romeo", "result"),
        ("Juliet", "conflict"),
        ("not a name", "not-acceptable"),
        ("nurse", "result"),
        ("tybalt", "result"),
        ("paris", "resource-constraint"),
    ] {
        let got = outcome(&server, "192.0.2.1", "set", &query(name)).await;
        assert_eq!(got, expected, "{name}");
    }
    assert_eq!(
        outcome(&server, "192.0.2.2", "set", &query("paris")).await,
        "result"
    );
    tokio::time::advance(std::time::Duration::from_hours(1)).await;
    assert_eq!(
        outcome(&server, "192.0.2.1", "set", &query("mab")).await,
        "result"
    );
    let removal = outcome(&server, "192.0.2.3", "set", "<remove/>").await;
    assert_eq!(removal, "unexpected-request");
    assert_eq!(server.accounts().len(), 6);
    let mut registrar = Registrar {
        server: &server,
        address: "192.0.2.1".parse().unwrap(),
        shown: &mut None,
    };
    for other in [
        "<iq type='get' id='1'><x xmlns='urn:x'/></iq>",
        "<message/>",
    ] {
        assert!(registrar.answer(&stanza(other)).await.is_none(), "{other}");
    }
}

#[tokio::test]
async fn a_person_changes_the_own_password_and_no_other() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = client(&server, "romeo/orchard").await;
    let other = client(&server, "romeo/phone").await;
    let changes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&changes);
    server
        .accounts()
        .observe(std::sync::Arc::new(move |jid, change| {
            seen.lock().unwrap().push((jid, change));
            Box::pin(std::future::ready(()))
        }));
    let query = "<query xmlns='jabber:iq:register'/>";
    let form = romeo.ask("get", "", query).await;
    let form = form.get_child("query", ns::REGISTER).unwrap();
    assert!(form.has_child("registered", ns::REGISTER));
    assert_eq!(
        child_text(form, "username", ns::REGISTER).as_deref(),
        Some("romeo")
    );
    for (name, expected) in [("juliet", "error"), ("Romeo", "result")] {
        let query = format!(
            "<query xmlns='jabber:iq:register'><username>{name}</username><password>new</password></query>"
        );
        let answer = romeo.ask("set", "example.org", &query).await;
        assert_eq!(answer.attr("type"), Some(expected), "{name}");
    }
    let by = Some(romeo.session.jid().clone());
    let expected = (romeo.session.jid().to_bare(), Change::Password { by });
    assert_eq!(*changes.lock().unwrap(), [expected]);
    // The other devices log in again.
    assert!(other.session.is_ended() && !romeo.session.is_ended());
    let claim = server.accounts().claim("romeo");
    assert!(server.accounts().check(&claim, "new".into()).await.unwrap());
}

#[tokio::test]
async fn a_person_leaves_and_nothing_is_left() {
    let server = server(&["romeo", "juliet"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let mut juliet = online(&server, "juliet/balcony").await;
    let (one, two) = (
        romeo.session.jid().to_bare(),
        juliet.session.jid().to_bare(),
    );
    server
        .befriend(&one, "Romeo", &two, "Juliet")
        .await
        .unwrap();
    juliet.drain();
    let bookmarks = "<query xmlns='jabber:iq:private'><x xmlns='urn:x'>y</x></query>";
    let vcard = "<vCard xmlns='vcard-temp'><FN>Romeo</FN></vCard>";
    let nickname = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:x'>\
        <item id='1'><x xmlns='urn:x'/></item></publish></pubsub>";
    for payload in [bookmarks, vcard, nickname] {
        let kept = romeo.ask("set", "", payload).await;
        assert_eq!(kept.attr("type"), Some("result"), "{payload}");
    }
    let query = "<query xmlns='jabber:iq:register'><remove/></query>";
    let answer = romeo.ask("set", "", query).await;
    assert_eq!(answer.attr("type"), Some("result"));
    assert!(romeo.session.is_ended());
    romeo.leave().await;
    let name = one.node().unwrap();
    assert!(!server.accounts().exists(name));
    for store in [
        "roster",
        "roster_version",
        "private",
        "vcard",
        "pubsub_nodes",
        "fast_tokens",
    ] {
        let owners = server.storage().owners(KeyValue(store)).await.unwrap();
        assert!(
            !owners.iter().any(|owner| owner.starts_with("romeo")),
            "{store}: {owners:?}"
        );
    }
    let told = juliet.drain();
    let has = |kind: &str| told.iter().any(|stanza| stanza.attr("type") == Some(kind));
    assert!(has("unsubscribed") && has("unsubscribe"), "{told:?}");
    let roster = server.account(&two).await.unwrap().unwrap();
    let state = roster.roster(&server).await.unwrap().state(&one);
    assert!(!state.to && !state.from);
    let back = server.accounts().create_without_password(name).await;
    assert!(back.is_err());
}
