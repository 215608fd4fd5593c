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
    if name.contains(':') {
        return name.to_owned();
    }
    format!("http://jabber.org/protocol/admin#{name}")
}

/// Runs a command, in the two steps that most have; the `<command/>`, or the condition of the error.
async fn submit(
    client: &mut Client,
    name: &str,
    fields: &[(&str, &str)],
) -> Result<Element, String> {
    let field = |(name, value): &(&str, &str)| {
        format!("<field var='{name}'><value>{value}</value></field>")
    };
    let fields = fields.iter().map(field).collect::<Vec<_>>().concat();
    let form = format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>");
    let asked = raw(client, &format!("node='{}'", node(name)), "").await?;
    if asked.attr("status") != Some("executing") {
        return Ok(asked);
    }
    let session = asked.attr("sessionid").unwrap();
    let second = format!("node='{}' sessionid='{session}'", node(name));
    raw(client, &second, &form).await
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
    let first = format!("node='{}'", node("add-user"));
    let asked = raw(&mut admin, &first, "").await.unwrap();
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
    for command in admin::COMMANDS.iter().copied().flatten() {
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
    assert_eq!(count(&of_admin), commands().count());
    let of_romeo = romeo.ask("get", "example.org", &items).await;
    let romeo_jid = Jid::from(romeo.session.jid().clone());
    let for_all = commands().filter(|command| (command.permitted)(&server, &romeo_jid));
    assert_eq!(count(&of_romeo), for_all.count());
    assert_eq!(
        count(&of_romeo),
        4,
        "what everybody does with the own account"
    );
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
async fn an_admin_is_a_whole_address_and_no_name() {
    let (_admin, server) = admin_and_server(&["romeo"]).await;
    for (from, expected) in [
        ("admin@example.org", true),
        ("admin@example.org/anything", true),
        ("Admin@EXAMPLE.org", true),
        // CVE-2020-8086.
        ("admin@evil.example", false),
        ("admin@conference.example.org", false),
        ("admin@example.org.evil.example", false),
        ("conference.example.org/admin@example.org", false),
        ("example.org/admin", false),
        ("example.org", false),
        ("romeo@example.org/admin@example.org", false),
    ] {
        let from = Jid::new(from).unwrap();
        for command in admin::COMMANDS.iter().copied().flatten() {
            let permitted = (command.permitted)(&server, &from);
            assert_eq!(permitted, expected, "{from}: {}", command.name);
        }
    }
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
}

#[tokio::test]
async fn a_form_is_open_for_who_asked_until_it_is_sent_or_cancelled() {
    let (mut admin, server) = admin_and_server(&["romeo"]).await;
    let mut phone = client(&server, "admin/phone").await;
    let add = format!("node='{}'", node("add-user"));
    let asked = raw(&mut admin, &add, "").await.unwrap();
    let session = asked.attr("sessionid").unwrap();
    let of = |rest: &str| format!("{add} sessionid='{session}' {rest}");
    let fields = |name: &str| {
        format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='accountjid'><value>{name}@example.org</value></field>\
             <field var='password'><value>secret</value></field></x>"
        )
    };
    let cancel = "<x xmlns='jabber:x:data' type='cancel'/>";
    for (attributes, form, expected) in [
        (of("action='next'"), fields("nurse"), "bad-request"),
        (of("action='prev'"), String::new(), "bad-request"),
        (of(""), String::new(), "bad-request"),
        // What is filled in wrongly may be filled in again.
        (of(""), fields("romeo"), "conflict"),
        (
            format!("{add} sessionid='other'"),
            fields("nurse"),
            "bad-request",
        ),
        (
            format!("{add} action='complete'"),
            fields("nurse"),
            "bad-request",
        ),
    ] {
        let refused = raw(&mut admin, &attributes, &form).await;
        assert_eq!(refused.unwrap_err(), expected, "{attributes}");
    }
    let stolen = raw(&mut phone, &of(""), &fields("nurse")).await;
    assert_eq!(stolen.unwrap_err(), "bad-request");
    let done = raw(&mut admin, &of("action='complete'"), &fields("nurse")).await;
    assert_eq!(done.unwrap().attr("status"), Some("completed"));
    let again = raw(&mut admin, &of(""), &fields("paris")).await;
    assert_eq!(again.unwrap_err(), "bad-request", "it has ended");
    for (rest, form) in [("action='cancel'", ""), ("", cancel)] {
        let asked = raw(&mut admin, &add, "").await.unwrap();
        let session = asked.attr("sessionid").unwrap();
        let canceled = raw(
            &mut admin,
            &format!("{add} sessionid='{session}' {rest}"),
            form,
        )
        .await;
        assert_eq!(canceled.unwrap().attr("status"), Some("canceled"), "{rest}");
    }
    assert_eq!(server.accounts().len(), 3);
}

/// A field of a form that is to be filled in, as it stands there.
async fn filled_in(client: &mut Client, name: &str, field: &str) -> Vec<String> {
    let asked = raw(client, &format!("node='{}'", node(name)), "").await;
    found(&asked.unwrap(), field)
}

#[tokio::test]
async fn the_message_of_the_day_is_set_edited_shown_and_deleted() {
    let (mut admin, server) = admin_and_server(&["romeo"]).await;
    let mut romeo = online(&server, "romeo/orchard").await;
    romeo.drain();
    submit(&mut admin, "set-motd", &[("motd", "Rehearsal at nine")])
        .await
        .unwrap();
    let told = romeo.next().await;
    assert_eq!(
        child_text(&told, "body", ns::JABBER_CLIENT).as_deref(),
        Some("Rehearsal at nine")
    );
    assert_eq!(
        filled_in(&mut admin, "edit-motd", "motd").await,
        ["Rehearsal at nine"]
    );
    submit(&mut admin, "edit-motd", &[("motd", "Rehearsal at ten")])
        .await
        .unwrap();
    assert_eq!(romeo.drain().len(), 1);
    submit(&mut admin, "edit-motd", &[("motd", "Rehearsal at ten")])
        .await
        .unwrap();
    assert!(romeo.drain().is_empty(), "the same is told once");
    submit(&mut admin, "delete-motd", &[]).await.unwrap();
    assert!(filled_in(&mut admin, "edit-motd", "motd").await.is_empty());
    for empty in ["", " "] {
        let refused = submit(&mut admin, "set-motd", &[("motd", empty)]).await;
        assert_eq!(refused.unwrap_err(), "bad-request");
    }
}

#[tokio::test]
async fn the_first_message_of_new_accounts_is_set_and_deleted() {
    let (mut admin, server) = admin_and_server(&[]).await;
    let said = async |name: &str| {
        let name_part = jid::NodePart::new(name).unwrap().into_owned();
        server
            .accounts()
            .create_without_password(&name_part)
            .await
            .unwrap();
        let mut new = client(&server, &format!("{name}/a")).await;
        new.send("<presence/>").await;
        let said = new.drain();
        let said = said.iter().find(|stanza| stanza.name() == "message");
        said.and_then(|said| child_text(said, "body", ns::JABBER_CLIENT))
    };
    assert_eq!(said("one").await, None);
    submit(&mut admin, "set-welcome", &[("welcome", "Hail")])
        .await
        .unwrap();
    assert_eq!(said("two").await.as_deref(), Some("Hail"));
    assert_eq!(
        filled_in(&mut admin, "set-welcome", "welcome").await,
        ["Hail"]
    );
    submit(&mut admin, "delete-welcome", &[]).await.unwrap();
    assert_eq!(said("three").await, None);
}

#[tokio::test]
async fn admins_are_made_and_unmade_but_those_of_the_configuration() {
    let (mut admin, server) = admin_and_server(&["romeo", "juliet"]).await;
    let jid = |text: &str| jid::BareJid::new(text).unwrap();
    let (romeo, juliet) = (jid("romeo@example.org"), jid("juliet@example.org"));
    for (jid, expected) in [
        ("romeo@evil.example", "not-acceptable"),
        ("nurse@example.org", "item-not-found"),
        ("@", "jid-malformed"),
    ] {
        let refused = submit(&mut admin, "edit-admin", &[("adminjids", jid)]).await;
        assert_eq!(refused.unwrap_err(), expected, "{jid}");
    }
    submit(
        &mut admin,
        "edit-admin",
        &[("adminjids", "romeo@example.org")],
    )
    .await
    .unwrap();
    assert!(server.is_admin(&romeo) && server.is_admin(&jid("admin@example.org")));
    let listed = filled_in(&mut admin, "edit-admin", "adminjids").await;
    assert_eq!(listed, ["admin@example.org", "romeo@example.org"]);
    let mut new = client(&server, "romeo/orchard").await;
    // Whoever was made admin does not shut out themselves by mistake.
    let refused = submit(
        &mut new,
        "edit-admin",
        &[("adminjids", "juliet@example.org")],
    )
    .await;
    assert_eq!(refused.unwrap_err(), "not-acceptable");
    submit(
        &mut admin,
        "edit-admin",
        &[("adminjids", "juliet@example.org")],
    )
    .await
    .unwrap();
    assert!(!server.is_admin(&romeo) && server.is_admin(&juliet));
    let refused = submit(
        &mut new,
        "edit-admin",
        &[("adminjids", "romeo@example.org")],
    )
    .await;
    assert_eq!(refused.unwrap_err(), "forbidden");
}

#[tokio::test]
async fn an_account_is_looked_at() {
    let (mut admin, server) = admin_and_server(&["romeo", "juliet"]).await;
    let romeo = online(&server, "romeo/orchard").await;
    let juliet = jid::BareJid::new("juliet@example.org").unwrap();
    let own = romeo.session.jid().to_bare();
    server
        .befriend(&own, "Romeo", &juliet, "Juliet")
        .await
        .unwrap();
    let one = [("accountjids", "romeo@example.org")];
    let roster = submit(&mut admin, "get-user-roster", &one).await.unwrap();
    assert_eq!(found(&roster, "accountjids"), ["romeo@example.org"]);
    let form = roster.get_child("x", ns::DATA_FORMS).unwrap();
    let contact = form
        .get_child("query", ns::ROSTER)
        .unwrap()
        .children()
        .next();
    assert_eq!(contact.unwrap().attr("jid"), Some("juliet@example.org"));
    let never = submit(&mut admin, "get-user-lastlogin", &one)
        .await
        .unwrap();
    assert!(found(&never, "lastlogin").is_empty());
    server.accounts().logged_in(own.node().unwrap());
    let now = submit(&mut admin, "get-user-lastlogin", &one)
        .await
        .unwrap();
    assert!(found(&now, "lastlogin")[0].ends_with('Z'));
    let figures = [("accountjid", "romeo@example.org")];
    let figures = submit(&mut admin, "user-stats", &figures).await.unwrap();
    assert_eq!(found(&figures, "rostersize"), ["1"]);
    assert_eq!(found(&figures, "onlineresources"), ["orchard"]);
    for command in ["get-user-roster", "get-user-lastlogin"] {
        let refused = submit(&mut admin, command, &[("accountjids", "nurse@example.org")]).await;
        assert_eq!(refused.unwrap_err(), "item-not-found", "{command}");
    }
}

#[tokio::test]
async fn who_is_away_is_idle_and_lists_are_as_long_as_was_asked() {
    let (mut admin, server) = admin_and_server(&["romeo", "juliet"]).await;
    let _romeo = online(&server, "romeo/orchard").await;
    let juliet = online(&server, "juliet/balcony").await;
    juliet.send("<presence><show>xa</show></presence>").await;
    for (command, field, expected) in [
        (
            "get-active-users",
            "activeuserjids",
            &["romeo@example.org"][..],
        ),
        ("get-idle-users", "idleuserjids", &["juliet@example.org"]),
        ("get-active-users-num", "activeusersnum", &["1"]),
        ("get-idle-users-num", "idleusersnum", &["1"]),
        ("get-online-users-num", "onlineusersnum", &["2"]),
    ] {
        let answer = submit(&mut admin, command, &[]).await.unwrap();
        assert_eq!(found(&answer, field), expected, "{command}");
    }
    for (most, expected) in [
        ("25", Ok(3)),
        ("1", Ok(1)),
        ("none", Ok(3)),
        ("x", Err("not-acceptable".to_owned())),
    ] {
        let list = submit(
            &mut admin,
            "get-registered-users-list",
            &[("max_items", most)],
        )
        .await;
        let count = list.map(|list| found(&list, "registereduserjids").len());
        assert_eq!(count, expected, "{most}");
    }
}

#[tokio::test]
async fn everybody_invites_and_sees_and_revokes_the_own_invitations() {
    let (mut admin, server) = admin_and_server(&["romeo", "juliet"]).await;
    let mut romeo = client(&server, "romeo/orchard").await;
    let made = submit(&mut romeo, ns::INVITE_CONTACT, &[]).await.unwrap();
    let uri = &found(&made, "uri")[0];
    assert!(
        uri.starts_with("xmpp:romeo@example.org?roster;preauth=") && uri.ends_with(";ibr=y"),
        "{uri}"
    );
    assert!(
        found(&made, "landing-url").is_empty(),
        "nobody has said where pages are"
    );
    assert_eq!(found(&made, "expire").len(), 1);
    let own = "urn:x-moltis:account#invitations";
    let listed = submit(&mut romeo, own, &[]).await.unwrap();
    let id = found(&listed, "invitations")[0]
        .split(':')
        .next()
        .unwrap()
        .to_owned();
    let mut juliet = client(&server, "juliet/balcony").await;
    let hers = submit(&mut juliet, own, &[]).await.unwrap();
    assert!(found(&hers, "invitations").is_empty());
    let revoke = "urn:x-moltis:account#revoke-invitation";
    let theft = submit(&mut juliet, revoke, &[("invitation", &id)]).await;
    assert_eq!(theft.unwrap_err(), "item-not-found");
    submit(&mut romeo, revoke, &[("invitation", &id)])
        .await
        .unwrap();
    assert!(server.invitations().list().await.unwrap().is_empty());
    let refused = submit(&mut romeo, ns::INVITE_ACCOUNT, &[("username", "nurse")]).await;
    assert_eq!(refused.unwrap_err(), "forbidden");
    let taken = submit(&mut admin, ns::INVITE_ACCOUNT, &[("username", "romeo")]).await;
    assert_eq!(taken.unwrap_err(), "conflict");
    let befriends = [("username", "nurse"), ("roster-subscription", "1")];
    let made = submit(&mut admin, ns::INVITE_ACCOUNT, &befriends)
        .await
        .unwrap();
    let uri = &found(&made, "uri")[0];
    assert!(
        uri.starts_with("xmpp:nurse@example.org?register;preauth="),
        "{uri}"
    );
    let anybody = submit(&mut admin, ns::INVITE_ACCOUNT, &[]).await.unwrap();
    let uri = &found(&anybody, "uri")[0];
    assert!(
        uri.starts_with("xmpp:example.org?register;preauth="),
        "{uri}"
    );
}

#[tokio::test]
async fn a_person_changes_the_own_password_by_a_command() {
    let (_admin, server) = admin_and_server(&["romeo"]).await;
    let mut romeo = client(&server, "romeo/orchard").await;
    let phone = client(&server, "romeo/phone").await;
    let change = "urn:x-moltis:account#change-password";
    let fields = [("password", "new"), ("password-verify", "other")];
    let refused = submit(&mut romeo, change, &fields).await;
    assert_eq!(refused.unwrap_err(), "not-acceptable");
    let fields = [("password", "new"), ("password-verify", "new")];
    submit(&mut romeo, change, &fields).await.unwrap();
    assert!(phone.session.is_ended() && !romeo.session.is_ended());
    let claim = server.accounts().claim("romeo");
    assert!(server.accounts().check(&claim, "new".into()).await.unwrap());
}

#[test]
fn a_step_follows_from_action_and_session() {
    use Step::{Ask, Cancel, Run};
    for (asks, session, action, form, expected) in [
        (true, false, None, false, Some(Ask)),
        (true, false, Some("execute"), false, Some(Ask)),
        (true, false, None, true, Some(Run)),
        (false, false, None, false, Some(Run)),
        (true, true, None, true, Some(Run)),
        (true, true, Some("complete"), true, Some(Run)),
        (true, true, Some("cancel"), false, Some(Cancel)),
        (true, true, Some("next"), true, None),
        (true, true, Some("prev"), true, None),
        (true, false, Some("cancel"), false, None),
        (true, false, Some("complete"), true, None),
        (true, true, Some("dance"), true, None),
    ] {
        let got = step(asks, session, action, form).ok();
        assert_eq!(got, expected, "{asks} {session} {action:?} {form}");
    }
}
