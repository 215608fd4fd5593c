//! Commands from a client's menus, as stanzas ask for them.

use super::super::COMMANDS;
use super::*;

const PERSON: Standing = Standing {
    operator: false,
    guest: false,
};
const OPERATOR: Standing = Standing {
    operator: true,
    guest: false,
};

fn alice() -> Jid {
    Jid::new("alice@example.com/desk").unwrap()
}

fn request(attributes: &str, content: &str) -> Element {
    format!(
        "<command xmlns='{}' {attributes}>{content}</command>",
        ns::COMMANDS
    )
    .parse()
    .unwrap()
}

fn submit(fields: &[(&str, &[&str])]) -> String {
    let fields = fields.iter().map(|(name, values)| {
        let values = values.join("</value><value>");
        format!("<field var='{name}'><value>{values}</value></field>")
    });
    format!(
        "<x xmlns='jabber:x:data' type='submit'>{}</x>",
        fields.collect::<String>()
    )
}

/// Opens a command's form; its session.
fn open(forms: &Forms, node: &str) -> String {
    match forms.step(&alice(), OPERATOR, &request(&format!("node='{node}'"), "")) {
        Ok(Step::Reply(reply)) => reply.attr("sessionid").unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_list_holds_what_one_may_use() {
    let names = |standing| {
        let own = Jid::new("bot@example.com/x").unwrap();
        let query = list(&own, standing);
        let nodes = query
            .children()
            .map(|item| item.attr("node").unwrap().to_owned());
        nodes.collect::<Vec<_>>()
    };
    assert!(!names(PERSON).contains(&"allow".to_owned()));
    assert_eq!(names(OPERATOR).len(), COMMANDS.len());
}

#[test]
fn a_command_without_arguments_runs_at_once() {
    let forms = Forms::default();
    let step = forms.step(
        &alice(),
        PERSON,
        &request("node='ping' action='execute'", ""),
    );
    let Ok(Step::Run {
        command, session, ..
    }) = step
    else {
        panic!("{step:?}");
    };
    let reply = completed(command, &session, "Pong.");
    assert_eq!(reply.attr("status"), Some("completed"));
    assert_eq!(
        reply.get_child("note", ns::COMMANDS).unwrap().text(),
        "Pong."
    );
}

#[test]
fn a_form_asks_for_the_arguments_and_is_read() {
    let forms = Forms::default();
    let step = forms.step(&alice(), OPERATOR, &request("node='say'", ""));
    let Ok(Step::Reply(reply)) = step else {
        panic!("{step:?}");
    };
    assert_eq!(reply.attr("status"), Some("executing"));
    let form = reply.get_child("x", ns::DATA_FORMS).unwrap().clone();
    let fields: Vec<_> = form
        .children()
        .filter(|field| field.is("field", ns::DATA_FORMS) && field.attr("type") != Some("hidden"))
        .map(|field| {
            let required = field.has_child("required", ns::DATA_FORMS);
            (field.attr("var"), field.attr("type"), required)
        })
        .collect();
    assert_eq!(
        fields,
        [
            (Some("JID"), Some("jid-single"), true),
            (Some("text"), Some("text-multi"), true)
        ]
    );
    let session = reply.attr("sessionid").unwrap();
    let attributes = format!("node='say' sessionid='{session}' action='complete'");
    let filled = submit(&[("JID", &["bob@example.com"]), ("text", &["one", "two"])]);
    let step = forms.step(&alice(), OPERATOR, &request(&attributes, &filled));
    let Ok(Step::Run {
        command, arguments, ..
    }) = step
    else {
        panic!("{step:?}");
    };
    assert_eq!(command.name, "say");
    assert_eq!(arguments.get("JID"), Some("bob@example.com"));
    assert_eq!(arguments.get("text"), Some("one\ntwo"));
    let again = forms.step(&alice(), OPERATOR, &request(&attributes, &filled));
    assert_eq!(again.unwrap_err().specific, Some("bad-sessionid"));
}

#[test]
fn a_form_can_be_cancelled() {
    let forms = Forms::default();
    let session = open(&forms, "allow");
    let attributes = format!("node='allow' sessionid='{session}' action='cancel'");
    let step = forms.step(&alice(), OPERATOR, &request(&attributes, ""));
    assert!(matches!(step, Ok(Step::Reply(reply)) if reply.attr("status") == Some("canceled")));
}

#[test]
fn each_fault_has_its_error() {
    let forms = Forms::default();
    let session = open(&forms, "allow");
    let with = |rest: &str| format!("node='allow' sessionid='{session}' {rest}");
    let rows = [
        (
            "no such command",
            OPERATOR,
            "node='nothing'".into(),
            "",
            DefinedCondition::ItemNotFound,
            None,
        ),
        (
            "no node",
            OPERATOR,
            String::new(),
            "",
            DefinedCondition::ItemNotFound,
            None,
        ),
        (
            "not allowed",
            PERSON,
            "node='allow'".into(),
            "",
            DefinedCondition::Forbidden,
            None,
        ),
        (
            "no longer allowed",
            PERSON,
            with(""),
            "",
            DefinedCondition::Forbidden,
            None,
        ),
        (
            "no form",
            OPERATOR,
            with("action='complete'"),
            "",
            DefinedCondition::BadRequest,
            Some("bad-payload"),
        ),
        (
            "an empty form",
            OPERATOR,
            with(""),
            &submit(&[]),
            DefinedCondition::BadRequest,
            Some("bad-payload"),
        ),
        (
            "back",
            OPERATOR,
            with("action='prev'"),
            "",
            DefinedCondition::BadRequest,
            Some("bad-action"),
        ),
        (
            "nonsense",
            OPERATOR,
            with("action='x'"),
            "",
            DefinedCondition::BadRequest,
            Some("malformed-action"),
        ),
        (
            "another's session",
            OPERATOR,
            "node='allow' sessionid='x'".into(),
            "",
            DefinedCondition::BadRequest,
            Some("bad-sessionid"),
        ),
        (
            "another command's session",
            OPERATOR,
            with("").replace("allow", "block"),
            "",
            DefinedCondition::BadRequest,
            Some("bad-sessionid"),
        ),
        (
            "complete without session",
            OPERATOR,
            "node='allow' action='complete'".into(),
            "",
            DefinedCondition::BadRequest,
            Some("bad-sessionid"),
        ),
    ];
    for (name, standing, attributes, content, condition, specific) in rows {
        let refusal = forms
            .step(&alice(), standing, &request(&attributes, content))
            .unwrap_err();
        assert_eq!(refusal, Refusal::new(condition, specific), "{name}");
    }
    let eve = Jid::new("eve@example.com/desk").unwrap();
    let stolen = forms.step(
        &eve,
        OPERATOR,
        &request(&with(""), &submit(&[("JID", &["x@y"])])),
    );
    assert_eq!(stolen.unwrap_err().specific, Some("bad-sessionid"));
}

#[tokio::test(start_paused = true)]
async fn forms_are_forgotten_after_an_hour() {
    let forms = Forms::default();
    open(&forms, "allow");
    tokio::time::advance(LIFETIME).await;
    open(&forms, "allow");
    assert_eq!(forms.with(|open| open.len()), 1);
}
