//! XEP-0050: Ad-Hoc Commands of the server. A command is a row of a table, and has one form at most: two steps are the
//! longest. Those of XEP-0133 are in `admin`, those of XEP-0401 in `invite.rs`, one's own in `own.rs`.

mod admin;
mod form;
mod invite;
mod open;
mod own;

use std::sync::Arc;

use futures::future::BoxFuture;
use jid::Jid;
use minidom::Element;
use tracing::info;

use self::form::Fields;
use self::open::Open;
use super::super::router::{IqType, Reply, Request, Router, Target};
use super::super::{Server, StanzaError, random_id};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::form::{Filled, Form, find};
use crate::xmpp::ns;

type Outcome = Result<Done, StanzaError>;

struct Command {
    node: &'static str,
    name: &'static str,
    permitted: fn(&Server, &Jid) -> bool,
    asks: Asks,
    run: fn(Call) -> BoxFuture<'static, Outcome>,
}

/// What a command wants to know before it is run.
enum Asks {
    Nothing,
    Form(fn() -> Form),
    /// What is in force now is filled in already.
    Current(fn(Server) -> BoxFuture<'static, Result<Form, StanzaError>>),
}

/// A command that is permitted, with its form filled in.
struct Call {
    server: Server,
    from: Jid,
    fields: Fields,
}

/// How it went: a sentence, or a form of results.
enum Done {
    Said(String),
    Found(Form),
}

fn commands() -> impl Iterator<Item = &'static Command> {
    let admin = admin::COMMANDS.iter().copied().flatten();
    admin.chain(invite::COMMANDS).chain(own::COMMANDS)
}

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    let domain = [Target::Domain];
    router.disco(&domain, ns::COMMANDS);
    router.iq(&domain, IqType::Set, "command", ns::COMMANDS, run)?;
    router.disco_items(
        Target::Domain,
        Arc::new(|request| Box::pin(async move { Ok(items(&request)) })),
    );
    router.disco_node(
        Target::Domain,
        Arc::new(|request| Box::pin(async move { Ok(info_of(&request)) })),
    );
    Ok(())
}

/// XEP-0050, 2.2: those that the requester may run.
fn items(request: &Request) -> Vec<Element> {
    if request.payload.attr("node") != Some(ns::COMMANDS) {
        return Vec::new();
    }
    let jid = request.server.domain();
    commands()
        .filter(|command| (command.permitted)(&request.server, &request.from))
        .map(|command| {
            let attributes = [("jid", jid), ("node", command.node), ("name", command.name)];
            element("item", ns::DISCO_ITEMS, &attributes)
        })
        .collect()
}

/// XEP-0050, 2.3.
fn info_of(request: &Request) -> Option<Vec<Element>> {
    let node = request.payload.attr("node").unwrap_or_default();
    let (kind, name) = if node == ns::COMMANDS {
        ("command-list", "Commands")
    } else {
        let command = commands().find(|command| command.node == node)?;
        if !(command.permitted)(&request.server, &request.from) {
            return None;
        }
        ("command-node", command.name)
    };
    let identity = [("category", "automation"), ("type", kind), ("name", name)];
    let feature = |name| element("feature", ns::DISCO_INFO, &[("var", name)]);
    Some(vec![
        element("identity", ns::DISCO_INFO, &identity),
        feature(ns::COMMANDS),
        feature(ns::DATA_FORMS),
    ])
}

/// XEP-0050, 4.2: a condition of RFC 6120 with one of its own.
fn bad(specific: &str) -> StanzaError {
    StanzaError::bad_request().detail(Element::bare(specific, ns::COMMANDS))
}

/// An account of this server.
fn is_person(server: &Server, from: &Jid) -> bool {
    let has_account = |name| server.accounts().exists(name);
    server.is_local(from.domain().as_str()) && from.node().is_some_and(has_account)
}

/// What the requester does with a command.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Its form is asked for.
    Ask,
    Cancel,
    Run,
}

/// `session`: the one that is open. Who knows a form may send it filled in with the first request.
fn step(asks: bool, session: bool, action: Option<&str>, form: bool) -> Result<Step, StanzaError> {
    match (action.unwrap_or("execute"), session) {
        ("cancel", true) => Ok(Step::Cancel),
        ("execute", false) if asks && !form => Ok(Step::Ask),
        ("execute", false) | ("execute" | "complete", true) => Ok(Step::Run),
        ("cancel" | "complete" | "next" | "prev", false) => Err(bad("bad-sessionid")),
        // The form offers none of these (3.4.1.1).
        ("next" | "prev", true) => Err(bad("bad-action")),
        _ => Err(bad("malformed-action")),
    }
}

async fn run(request: Request) -> Reply {
    let (server, from, payload) = (&request.server, &request.from, &request.payload);
    let node = payload.attr("node").unwrap_or_default();
    let command = commands().find(|command| command.node == node);
    let command = command.ok_or_else(StanzaError::item_not_found)?;
    // At each step: who was an admin when the form was sent may be none any more.
    if !(command.permitted)(server, from) {
        return Err(StanzaError::forbidden());
    }
    let open = server.extensions().get_or_default::<Open>();
    let session = payload.attr("sessionid");
    if session.is_some_and(|id| !open.is_open(from, id, command.node)) {
        return Err(bad("bad-sessionid"));
    }
    let asks = !matches!(command.asks, Asks::Nothing);
    let form = find(payload);
    let step = step(
        asks,
        session.is_some(),
        payload.attr("action"),
        form.is_some(),
    )?;
    let filled = form.map(Filled::read).transpose();
    let filled = filled.map_err(|_malformed| bad("bad-payload"))?;
    match step {
        Step::Ask => {
            let form = match command.asks {
                Asks::Nothing => return Err(StanzaError::internal_server_error()),
                Asks::Form(form) => form(),
                Asks::Current(form) => form(server.clone()).await?,
            };
            let session = open.begin(from, command.node);
            return Ok(Some(asked(command, &session, form)));
        }
        Step::Run if !filled.as_ref().is_some_and(|filled| filled.cancelled) => {}
        Step::Run | Step::Cancel => {
            let session = session.unwrap_or_default();
            open.end(from, session);
            return Ok(Some(reply(command, session, "canceled")));
        }
    }
    let fields = match filled {
        Some(filled) => Fields(filled),
        None if asks => return Err(bad("bad-payload")),
        None => Fields::default(),
    };
    let id = session.map_or_else(random_id, str::to_owned);
    // A form that is filled in wrongly stays open.
    let done = execute(command, &request, fields).await?;
    open.end(from, &id);
    Ok(Some(completed(command, &id, done)))
}

async fn execute(command: &'static Command, request: &Request, fields: Fields) -> Outcome {
    info!(command = command.name, from = %request.from, "A command is run");
    (command.run)(Call {
        server: request.server.clone(),
        from: request.from.clone(),
        fields,
    })
    .await
}

fn completed(command: &Command, session: &str, done: Done) -> Element {
    let mut answer = reply(command, session, "completed");
    match done {
        Done::Said(text) => {
            let mut note = text_element("note", ns::COMMANDS, &text);
            set(&mut note, "type", "info");
            answer.append_child(note);
        }
        Done::Found(form) => {
            answer.append_child(form.build());
        }
    }
    answer
}

fn asked(command: &Command, session: &str, form: Form) -> Element {
    let mut answer = reply(command, session, "executing");
    let mut actions = element("actions", ns::COMMANDS, &[("execute", "complete")]);
    actions.append_child(Element::bare("complete", ns::COMMANDS));
    answer.append_child(actions);
    answer.append_child(form.build());
    answer
}

fn reply(command: &Command, session: &str, status: &str) -> Element {
    let attributes = [
        ("node", command.node),
        ("sessionid", session),
        ("status", status),
    ];
    element("command", ns::COMMANDS, &attributes)
}

#[cfg(test)]
mod tests;
