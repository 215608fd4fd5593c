//! Commands as an administrator's client sees them, and as another's.

use super::*;
use crate::server::Settings;
use crate::server::testing::{Client, client, online, with};
use crate::xmpp::element::child_text;

async fn admin_and_server(names: &[&str]) -> (Client, Server) {
    let settings = Settings {
        admins: vec!["admin@example.org".parse().unwrap()],
        ..Settings::new("example.org")
    };
    let server = with(settings, &[&["admin"], names].concat()).await;
    (client(&server, "admin/office").await, server)
}

fn node(name: &str) -> String {
    format!("http://jabber.org/protocol/admin#{name}")
}

/// Runs a command with a form; the `<command/>`, or the condition of the error.
async fn submit(
    client: &mut Client,
    name: &str,
    fields: &[(&str, &str)],
) -> Result<Element, String> {
    let field = |(name, value): &(&str, &str)| {
        format!("<field var='{name}'><value>{value}</value></field>")
    };
    let fields = fields.iter().map(field).collect::<Vec<_>>().concat();
    let form = if fields.is_empty() {
        String::new()
    } else {
        format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>")
    };
    raw(client, &format!("node='{}'", node(name)), &form).await
}

async fn raw(client: &mut Client, attributes: &str, form: &str) -> Result<Element, String> {
    let command = format!(
        "<command xmlns='{}' {attributes}>{form}</command>",
        ns::COMMANDS
    );
    let answer = client.ask("set", "example.org", &command).await;
    match answer.get_child("error", ns::JABBER_CLIENT) {
        Some(error) => Err(error.children().next().unwrap().name().to_owned()),
        None => Ok(answer.get_child("command", ns::COMMANDS).unwrap().clone()),
    }
}

fn note(command: &Element) -> String {
    child_text(command, "note", ns::COMMANDS).unwrap()
}

fn found(command: &Element, name: &str) -> Vec<String> {
    let form = command.get_child("x", ns::DATA_FORMS).unwrap();
    form.children()
        .filter(|field| field.attr("var") == Some(name))
        .flat_map(Element::children)
        .filter(|value| value.is("value", ns::DATA_FORMS))
        .map(Element::text)
        .collect()
}

#[tokio::test]
async fn an_account_is_added_in_two_steps() {
    let (mut admin, server) = admin_and_server(&[]).await;
    let asked = submit(&mut admin, "add-user", &[]).await.unwrap();
    assert_eq!(asked.attr("status"), Some("executing"));
    assert!(asked.attr("sessionid").is_some());
    let form = asked.get_child("x", ns::DATA_FORMS).unwrap();
    let names: Vec<_> = form
        .children()
        .filter_map(|field| field.attr("var"))
        .collect();
    assert_eq!(
        names,
        ["FORM_TYPE", "accountjid", "password", "password-verify"]
    );
    let add = [
        ("accountjid", "Romeo@example.org"),
        ("password", "secret"),
        ("password-verify", "secret"),
    ];
    let done = submit(&mut admin, "add-user", &add).await.unwrap();
    assert_eq!(done.attr("status"), Some("completed"));
    assert_eq!(note(&done), "romeo@example.org has been added");
    let claim = server.accounts().claim("romeo");
    assert!(
        server
            .accounts()
            .check(&claim, "secret".into())
            .await
            .unwrap()
    );
    for (jid, password, again, expected) in [
        ("romeo@example.org", "secret", "secret", "conflict"),
        ("nurse@example.org", "secret", "sacred", "not-acceptable"),
        ("nurse@example.org", "", "", "bad-request"),
        ("nurse@example.net", "secret", "secret", "not-acceptable"),
        ("example.org", "secret", "secret", "not-acceptable"),
        ("@", "secret", "secret", "jid-malformed"),
    ] {
        let add = [
            ("accountjid", jid),
            ("password", password),
            ("password-verify", again),
        ];
        let refused = submit(&mut admin, "add-user", &add).await;
        assert_eq!(refused.unwrap_err(), expected, "{jid} {password}");
    }
}

#[tokio::test]
async fn accounts_are_disabled_enabled_changed_and_deleted() {
    let (mut admin, server) = admin_and_server(&["romeo"]).await;
    let romeo = online(&server, "romeo/orchard").await;
    let name = romeo.session.jid().node().unwrap().to_owned();
    let account = [("accountjids", "romeo@example.org")];
    let online = submit(&mut admin, "get-online-users-list", &[])
        .await
        .unwrap();
    assert_eq!(found(&online, "onlineuserjids"), ["romeo@example.org"]);
    submit(&mut admin, "disable-user", &account).await.unwrap();
    assert!(server.accounts().is_disabled(&name) && romeo.session.is_ended());
    let disabled = submit(&mut admin, "get-disabled-users-list", &[])
        .await
        .unwrap();
    assert_eq!(found(&disabled, "disableduserjids"), ["romeo@example.org"]);
    submit(&mut admin, "reenable-user", &account).await.unwrap();
    assert!(!server.accounts().is_disabled(&name));
    let change = [("accountjid", "romeo@example.org"), ("password", "new")];
    submit(&mut admin, "change-user-password", &change)
        .await
        .unwrap();
    let claim = server.accounts().claim("romeo");
    assert!(server.accounts().check(&claim, "new".into()).await.unwrap());
    submit(&mut admin, "delete-user", &account).await.unwrap();
    assert!(!server.accounts().exists(&name));
    for command in ["delete-user", "disable-user", "reenable-user"] {
        let refused = submit(&mut admin, command, &account).await;
        assert_eq!(refused.unwrap_err(), "item-not-found", "{command}");
    }
    let left = submit(&mut admin, "get-registered-users-list", &[])
        .await
        .unwrap();
    assert_eq!(found(&left, "registereduserjids"), ["admin@example.org"]);
    let count = submit(&mut admin, "get-registered-users-num", &[])
        .await
        .unwrap();
    assert_eq!(found(&count, "registeredusersnum"), ["1"]);
}

#[tokio::test]
async fn sessions_are_ended_and_told_news() {
    let (mut admin, server) = admin_and_server(&["romeo"]).await;
    let mut orchard = online(&server, "romeo/orchard").await;
    let garden = online(&server, "romeo/garden").await;
    orchard.drain();
    let news = [("announcement", "The end is near")];
    let done = submit(&mut admin, "announce", &news).await.unwrap();
    assert_eq!(note(&done), "Announced to sessions: 2");
    let message = orchard.next().await;
    assert_eq!(message.attr("from"), Some("example.org"));
    let body = child_text(&message, "body", ns::JABBER_CLIENT);
    assert_eq!(body.as_deref(), Some("The end is near"));
    let one = [("accountjids", "romeo@example.org/garden")];
    submit(&mut admin, "end-user-session", &one).await.unwrap();
    assert!(garden.session.is_ended() && !orchard.session.is_ended());
    let all = [("accountjids", "romeo@example.org")];
    submit(&mut admin, "end-user-session", &all).await.unwrap();
    assert!(orchard.session.is_ended());
}

#[tokio::test]
async fn nobody_else_sees_or_runs_them() {
    let (mut admin, server) = admin_and_server(&["romeo"]).await;
    let mut romeo = client(&server, "romeo/orchard").await;
    for command in admin::COMMANDS {
        let refused = raw(&mut romeo, &format!("node='{}'", command.node), "").await;
        assert_eq!(refused.unwrap_err(), "forbidden", "{}", command.name);
    }
    let items = format!(
        "<query xmlns='{}' node='{}'/>",
        ns::DISCO_ITEMS,
        ns::COMMANDS
    );
    let count = |answer: &Element| {
        let query = answer.get_child("query", ns::DISCO_ITEMS).unwrap();
        query.children().count()
    };
    let of_admin = admin.ask("get", "example.org", &items).await;
    assert_eq!(count(&of_admin), admin::COMMANDS.len());
    let of_romeo = romeo.ask("get", "example.org", &items).await;
    assert_eq!(count(&of_romeo), 0);
    let info = format!(
        "<query xmlns='{}' node='{}'/>",
        ns::DISCO_INFO,
        node("add-user")
    );
    let of_admin = admin.ask("get", "example.org", &info).await;
    let identity = of_admin.get_child("query", ns::DISCO_INFO).unwrap();
    let identity = identity.get_child("identity", ns::DISCO_INFO).unwrap();
    assert_eq!(identity.attr("type"), Some("command-node"));
    let of_romeo = romeo.ask("get", "example.org", &info).await;
    assert_eq!(of_romeo.attr("type"), Some("error"));
}

#[tokio::test]
async fn what_is_no_command_is_refused() {
    let (mut admin, _server) = admin_and_server(&[]).await;
    let add = format!("node='{}'", node("add-user"));
    let result = "<x xmlns='jabber:x:data' type='result'/>";
    for (attributes, form, expected) in [
        ("node='urn:x'".to_owned(), "", "item-not-found"),
        (String::new(), "", "item-not-found"),
        (format!("{add} action='prev'"), "", "bad-request"),
        (format!("{add} action='dance'"), "", "bad-request"),
        (add.clone(), result, "bad-request"),
    ] {
        let refused = raw(&mut admin, &attributes, form).await;
        assert_eq!(refused.unwrap_err(), expected, "{attributes} {form}");
    }
    let canceled = raw(
        &mut admin,
        &format!("{add} action='cancel' sessionid='1'"),
        "",
    )
    .await;
    assert_eq!(canceled.unwrap().attr("status"), Some("canceled"));
}
