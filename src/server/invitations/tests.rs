//! Invitations as they are made, shown, used up and revoked.

use std::net::IpAddr;

use minidom::Element;

use super::*;
use crate::config::Registration;
use crate::server::Settings;
use crate::server::testing::{Client, client, online, server, with};
use crate::xmpp::ns;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn jid(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

fn by(inviter: &str) -> Invitation {
    Invitation {
        inviter: Some(jid(inviter)),
        befriends: true,
        ..Invitation::new()
    }
}

/// Registers with a token; the account, or the condition of the error.
async fn register(server: &Server, name: &str, token: &str) -> Result<BareJid, String> {
    let shown = server.registering(token).await.unwrap();
    let made = server.register(name, "pencil".into(), shown.as_ref(), ADDRESS);
    made.await.map_err(|error| {
        let condition = Element::from(error.condition);
        condition.name().to_owned()
    })
}

#[test]
fn a_uri_is_that_of_the_standards() {
    let named = |name: &str| Invitation {
        name: Some(name.to_owned()),
        ..by("romeo@example.org")
    };
    for (invitation, expected) in [
        (Invitation::new(), "xmpp:example.org?register;preauth=T"),
        (
            named("juliet"),
            "xmpp:juliet@example.org?register;preauth=T",
        ),
        (
            named("o'hara\u{e9}"),
            "xmpp:o%27hara%C3%A9@example.org?register;preauth=T",
        ),
        (
            by("romeo@example.org"),
            "xmpp:romeo@example.org?roster;preauth=T;ibr=y",
        ),
        (
            Invitation {
                registers: false,
                ..by("romeo@example.org")
            },
            "xmpp:romeo@example.org?roster;preauth=T",
        ),
    ] {
        assert_eq!(invitation.uri("example.org", "T"), expected);
    }
}

#[tokio::test]
async fn of_a_token_nothing_is_stored_that_would_show_it() {
    let server = server(&[]).await;
    let made = server.invitations().make(Invitation::new()).await.unwrap();
    assert_eq!(made.token.len(), TOKEN);
    assert!(made.token.chars().all(|c| c.is_ascii_alphanumeric()));
    let stored = server.storage().list(INVITATIONS, "example.org", "").await;
    let stored = format!("{:?}", stored.unwrap());
    assert!(!stored.contains(&made.token), "{stored}");
    let shown = server.invitations().show(&made.token).await.unwrap();
    assert_eq!(shown.unwrap().invitation, made.invitation);
    for wrong in ["", "x", &made.id, &made.token.to_lowercase()] {
        assert_eq!(
            server.invitations().show(wrong).await.unwrap(),
            None,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn one_is_used_as_often_as_it_says_and_by_who_registers_alone() {
    let server = server(&["romeo"]).await;
    let twice = Invitation {
        uses: 2,
        ..by("romeo@example.org")
    };
    let made = server.invitations().make(twice).await.unwrap();
    for (name, expected) in [
        ("romeo", Err("conflict".to_owned())),
        ("not a name", Err("not-acceptable".to_owned())),
        ("juliet", Ok(jid("juliet@example.org"))),
        ("nurse", Ok(jid("nurse@example.org"))),
        ("paris", Err("not-allowed".to_owned())),
    ] {
        assert_eq!(
            register(&server, name, &made.token).await,
            expected,
            "{name}"
        );
    }
    assert!(server.invitations().list().await.unwrap().is_empty());
    let romeo = server
        .account(&jid("romeo@example.org"))
        .await
        .unwrap()
        .unwrap();
    let state = romeo
        .roster(&server)
        .await
        .unwrap()
        .state(&jid("nurse@example.org"));
    assert!(state.to && state.from);
}

#[tokio::test]
async fn what_was_shown_in_time_may_be_used_a_little_later_unless_it_was_revoked() {
    let server = server(&[]).await;
    let soon = Invitation {
        expires: Some(datetime::now() + 50),
        ..Invitation::new()
    };
    let made = server.invitations().make(soon).await.unwrap();
    let shown = server.registering(&made.token).await.unwrap().unwrap();
    while server.registering(&made.token).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    // XEP-0445, 4: its end is looked at when it is shown, and only then.
    let late = server.register("romeo", "pencil".into(), Some(&shown), ADDRESS);
    late.await.unwrap();
    let made = server.invitations().make(Invitation::new()).await.unwrap();
    let shown = server.registering(&made.token).await.unwrap().unwrap();
    assert!(!server.invitations().revoke("other", None).await.unwrap());
    assert!(server.invitations().revoke(&made.id, None).await.unwrap());
    let revoked = server.register("juliet", "pencil".into(), Some(&shown), ADDRESS);
    assert!(revoked.await.is_err());
}

#[tokio::test]
async fn a_name_is_kept_for_whom_it_was_promised() {
    let settings = Settings {
        registration: Registration::Open,
        ..Settings::new("example.org")
    };
    let server = with(settings, &[]).await;
    let juliet = Invitation {
        name: Some("juliet".to_owned()),
        ..Invitation::new()
    };
    let made = server.invitations().make(juliet).await.unwrap();
    assert_eq!(
        register(&server, "juliet", "").await,
        Err("conflict".to_owned())
    );
    let other = register(&server, "nurse", &made.token).await;
    assert_eq!(other, Err("not-acceptable".to_owned()));
    assert!(register(&server, "Juliet", &made.token).await.is_ok());
}

#[tokio::test]
async fn who_may_register_follows_the_policy() {
    for (registration, with_token, without) in [
        (Registration::Closed, false, false),
        (Registration::Invite, true, false),
        (Registration::Open, true, true),
    ] {
        let settings = Settings {
            registration,
            ..Settings::new("example.org")
        };
        let server = with(settings, &[]).await;
        let made = server.invitations().make(Invitation::new()).await.unwrap();
        let got = register(&server, "a", &made.token).await.is_ok();
        assert_eq!(got, with_token, "{registration:?}");
        let got = register(&server, "b", "").await.is_ok();
        assert_eq!(got, without, "{registration:?}");
    }
}

#[tokio::test]
async fn so_many_are_open_and_they_end_with_their_inviter() {
    let server = server(&["romeo"]).await;
    for _ in 0..MOST_EACH {
        server
            .invitations()
            .make(by("romeo@example.org"))
            .await
            .unwrap();
    }
    let refused = server.invitations().make(by("romeo@example.org")).await;
    let expected = StanzaError::resource_constraint().condition;
    assert_eq!(refused.unwrap_err().condition, expected);
    for number in 0..MOST - MOST_EACH {
        let other = by(&format!("{}@example.org", number / MOST_EACH));
        server.invitations().make(other).await.unwrap();
    }
    let full = server.invitations().make(Invitation::new()).await;
    assert_eq!(full.unwrap_err().condition, expected);
    let romeo = jid("romeo@example.org");
    server.delete_account(romeo.node().unwrap()).await.unwrap();
    let left = server.invitations().list().await.unwrap();
    assert!(
        left.iter()
            .all(|(_, one)| one.inviter.as_ref() != Some(&romeo))
    );
    assert_eq!(left.len(), MOST - MOST_EACH);
}

#[tokio::test]
async fn those_of_a_disabled_account_are_worth_nothing_until_it_is_enabled() {
    let server = server(&["romeo"]).await;
    let made = server
        .invitations()
        .make(by("romeo@example.org"))
        .await
        .unwrap();
    let romeo = jid("romeo@example.org");
    let romeo = romeo.node().unwrap();
    server.accounts().disable(romeo).await.unwrap();
    assert_eq!(server.invitation(&made.token).await.unwrap(), None);
    assert!(register(&server, "juliet", &made.token).await.is_err());
    server.accounts().enable(romeo).await.unwrap();
    assert!(register(&server, "juliet", &made.token).await.is_ok());
}

#[tokio::test]
async fn the_first_account_by_the_first_invitation_is_admin_and_the_second_is_not() {
    let server = server(&[]).await;
    let operator = Invitation {
        operator: true,
        uses: 2,
        ..Invitation::new()
    };
    let made = server.invitations().make(operator).await.unwrap();
    register(&server, "alice", &made.token).await.unwrap();
    assert!(server.is_admin(&jid("alice@example.org")));
    // CVE-2020-8086: the name alone is nobody.
    for other in [
        "alice@evil.example",
        "alice@conference.example.org",
        "example.org",
    ] {
        assert!(!server.is_admin(&jid(other)), "{other}");
    }
    register(&server, "bob", &made.token).await.unwrap();
    assert!(!server.is_admin(&jid("bob@example.org")));
    let domain = jid::DomainPart::new("example.org").unwrap().into_owned();
    let again = crate::server::accounts::Accounts::open(server.storage().clone(), &domain);
    let name = jid::NodePart::new("alice").unwrap().into_owned();
    assert!(again.await.unwrap().is_admin(&name), "it is kept");
}

async fn subscribe(client: &Client, to: &str, token: &str) {
    let preauth = format!("<preauth xmlns='{}' token='{token}'/>", ns::PREAUTH);
    client
        .send(&format!(
            "<presence to='{to}' type='subscribe'>{preauth}</presence>"
        ))
        .await;
}

#[tokio::test]
async fn a_subscription_with_a_token_is_approved_and_returned() {
    let server = server(&["romeo", "juliet", "paris"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    let mut juliet = online(&server, "juliet/balcony").await;
    let made = server
        .invitations()
        .make(by("romeo@example.org"))
        .await
        .unwrap();
    // The token of another account, and one that is none, are as good as nothing.
    let paris = client(&server, "paris/street").await;
    subscribe(&paris, "juliet@example.org", &made.token).await;
    let asked = juliet.next().await;
    assert_eq!(asked.attr("type"), Some("subscribe"));
    juliet.drain();
    subscribe(&juliet, "romeo@example.org", "wrong").await;
    assert_eq!(romeo.next().await.attr("type"), Some("subscribe"));
    juliet.drain();
    subscribe(&juliet, "romeo@example.org", &made.token).await;
    let told = juliet.drain();
    let kinds: Vec<_> = told
        .iter()
        .filter_map(|stanza| stanza.attr("type"))
        .collect();
    assert!(
        kinds.contains(&"subscribed") && kinds.contains(&"subscribe"),
        "{kinds:?}"
    );
    let account = server
        .account(&jid("romeo@example.org"))
        .await
        .unwrap()
        .unwrap();
    let state = account
        .roster(&server)
        .await
        .unwrap()
        .state(&jid("juliet@example.org"));
    assert!(state.from && state.pending_out && !state.pending_in);
    assert!(
        server.invitations().list().await.unwrap().is_empty(),
        "it was used"
    );
    juliet
        .send("<presence to='romeo@example.org' type='subscribed'/>")
        .await;
    let state = account
        .roster(&server)
        .await
        .unwrap()
        .state(&jid("juliet@example.org"));
    assert!(state.to && state.from);
}
