//! XEP-0050: Ad-Hoc Commands of the server. A command is a row of a table; each has one form at most, so that nothing is
//! remembered between its two steps. The commands of XEP-0133 are in `admin.rs`.

mod admin;
mod form;

use std::sync::Arc;

use futures::future::BoxFuture;
use jid::Jid;
use minidom::Element;
use tracing::info;
use xmpp_parsers::data_forms::DataForm;

use self::form::Filled;
use super::super::router::{IqType, Reply, Request, Router, Target};
use super::super::{Server, StanzaError, random_id};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

struct Command {
    node: &'static str,
    name: &'static str,
    permitted: fn(&Server, &Jid) -> bool,
    /// What it wants to know; `None`: nothing.
    form: Option<fn() -> DataForm>,
    run: fn(Call) -> BoxFuture<'static, Result<Done, StanzaError>>,
}

/// A command that is permitted, with its form filled in.
struct Call {
    server: Server,
    from: Jid,
    fields: Filled,
}

/// How it went: a sentence, or a form of results.
enum Done {
    Said(String),
    Found(DataForm),
}

fn commands() -> impl Iterator<Item = &'static Command> {
    admin::COMMANDS.iter()
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

async fn run(request: Request) -> Reply {
    let payload = &request.payload;
    let node = payload.attr("node").unwrap_or_default();
    let command = commands().find(|command| command.node == node);
    let command = command.ok_or_else(StanzaError::item_not_found)?;
    if !(command.permitted)(&request.server, &request.from) {
        return Err(StanzaError::forbidden());
    }
    let session = payload
        .attr("sessionid")
        .map_or_else(random_id, str::to_owned);
    let form = payload.get_child("x", ns::DATA_FORMS);
    match payload.attr("action").unwrap_or("execute") {
        "execute" | "complete" | "next" => {}
        "cancel" => return Ok(Some(reply(command, &session, "canceled"))),
        "prev" => return Err(bad("bad-action")),
        _ => return Err(bad("malformed-action")),
    }
    let fields = match (command.form, form) {
        (Some(ask), None) => return Ok(Some(asked(command, &session, ask()))),
        (Some(_), Some(form)) => Filled::read(form).ok_or_else(|| bad("bad-payload"))?,
        (None, _) => Filled::default(),
    };
    info!(command = command.name, from = %request.from, "A command is run");
    let done = (command.run)(Call {
        server: request.server.clone(),
        from: request.from.clone(),
        fields,
    });
    let mut answer = reply(command, &session, "completed");
    match done.await? {
        Done::Said(text) => {
            let mut note = text_element("note", ns::COMMANDS, &text);
            set(&mut note, "type", "info");
            answer.append_child(note);
        }
        Done::Found(form) => {
            answer.append_child(form.into());
        }
    }
    Ok(Some(answer))
}

fn asked(command: &Command, session: &str, form: DataForm) -> Element {
    let mut answer = reply(command, session, "executing");
    let mut actions = element("actions", ns::COMMANDS, &[("execute", "complete")]);
    actions.append_child(Element::bare("complete", ns::COMMANDS));
    answer.append_child(actions);
    answer.append_child(form.into());
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
