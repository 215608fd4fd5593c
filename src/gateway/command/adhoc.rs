//! XEP-0050: the same commands from a client's menus. A command with arguments answers with a form (XEP-0004) first; what
//! it says when it is done is the note of the result.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jid::Jid;
use minidom::Element;
use tokio::time::Instant;
use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};

use super::parse::Arguments;
use super::{Command, all, find};
use crate::gateway::Standing;
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::form::{Field, Filled, Form, find as find_form};
use crate::xmpp::ns;

/// How long a form may lie on a screen, and how many of them are remembered.
const LIFETIME: Duration = Duration::from_hours(1);
const MOST_OPEN: usize = 1_000;

/// These are in no XEP.
const FORM_TYPE: &str = "urn:x-moltis:command";

/// XEP-0050, 4.2: a condition of RFC 6120 with one of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    condition: DefinedCondition,
    specific: Option<&'static str>,
}

impl Refusal {
    fn new(condition: DefinedCondition, specific: Option<&'static str>) -> Self {
        Self {
            condition,
            specific,
        }
    }

    pub fn into_stanza_error(self) -> StanzaError {
        let kind = match self.condition {
            DefinedCondition::BadRequest => ErrorType::Modify,
            DefinedCondition::Forbidden => ErrorType::Auth,
            _ => ErrorType::Cancel,
        };
        StanzaError {
            type_: kind,
            by: None,
            defined_condition: self.condition,
            texts: BTreeMap::new(),
            other: self.specific.map(|name| element(name, ns::COMMANDS, &[])),
        }
    }
}

/// What is to be done about a request.
#[derive(Debug)]
pub enum Step {
    /// The form, or the end of it.
    Reply(Element),
    /// To be run, and answered with [`completed`].
    Run {
        command: &'static Command,
        arguments: Arguments,
        session: String,
    },
}

/// The forms that wait for an answer.
#[derive(Debug, Default)]
pub struct Forms(Mutex<Open>);

/// By requester and session id: the command, and when its form was sent.
type Open = BTreeMap<(Jid, String), (&'static str, Instant)>;

impl Forms {
    /// Takes a `<command/>` of `from`.
    pub fn step(&self, from: &Jid, standing: Standing, request: &Element) -> Result<Step, Refusal> {
        let node = request.attr("node").unwrap_or_default();
        let command = find(node).filter(|command| command.name == node);
        let command = command.ok_or(Refusal::new(DefinedCondition::ItemNotFound, None))?;
        // Standing is asked for at every step: an operator may have been removed while the form was open.
        if !command.is_for(standing) {
            return Err(Refusal::new(DefinedCondition::Forbidden, None));
        }
        let bad = |specific| Refusal::new(DefinedCondition::BadRequest, Some(specific));
        let action = match request.attr("action").unwrap_or("execute") {
            action @ ("execute" | "complete" | "next" | "cancel") => action,
            "prev" => return Err(bad("bad-action")),
            _ => return Err(bad("malformed-action")),
        };
        let Some(session) = request.attr("sessionid") else {
            return match action {
                "execute" => Ok(self.begin(from, command)),
                _ => Err(bad("bad-sessionid")),
            };
        };
        let key = (from.clone(), session.to_owned());
        if self.with(|open| open.get(&key).map(|(name, _)| *name)) != Some(command.name) {
            return Err(bad("bad-sessionid"));
        }
        if action == "cancel" {
            self.with(|open| open.remove(&key));
            return Ok(Step::Reply(reply(command, session, "canceled")));
        }
        // A form that is filled in wrongly stays open.
        let arguments = read(command, request).ok_or(bad("bad-payload"))?;
        self.with(|open| open.remove(&key));
        Ok(Step::Run {
            command,
            arguments,
            session: session.to_owned(),
        })
    }

    fn begin(&self, from: &Jid, command: &'static Command) -> Step {
        let session = format!("{:016x}", rand::random::<u64>());
        if command.arguments.is_empty() {
            return Step::Run {
                command,
                arguments: Arguments::default(),
                session,
            };
        }
        let now = Instant::now();
        self.with(|open| {
            open.retain(|_, (_, since)| now.duration_since(*since) < LIFETIME);
            if open.len() >= MOST_OPEN {
                let oldest = open.iter().min_by_key(|(_, (_, since))| *since);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    open.remove(&oldest);
                }
            }
            open.insert((from.clone(), session.clone()), (command.name, now));
        });
        Step::Reply(form(command, &session))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Open) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The answer to disco#items of the commands' node: what `standing` may use.
pub fn list(own: &Jid, standing: Standing) -> Element {
    let items = all()
        .filter(|command| command.is_for(standing))
        .map(|command| {
            let title = title(command);
            let attributes = [
                ("jid", own.as_str()),
                ("node", command.name),
                ("name", &title),
            ];
            element("item", ns::DISCO_ITEMS, &attributes)
        });
    let mut query = element("query", ns::DISCO_ITEMS, &[("node", ns::COMMANDS)]);
    for item in items {
        query.append_child(item);
    }
    query
}

/// What a command is called in a menu.
fn title(command: &Command) -> String {
    format!("{}: {}", command.name, command.help)
}

/// The answer to a command that was run.
pub fn completed(command: &Command, session: &str, text: &str) -> Element {
    let mut reply = reply(command, session, "completed");
    let mut note = text_element("note", ns::COMMANDS, text);
    set(&mut note, "type", "info");
    reply.append_child(note);
    reply
}

fn reply(command: &Command, session: &str, status: &str) -> Element {
    let attributes = [
        ("node", command.name),
        ("sessionid", session),
        ("status", status),
    ];
    element("command", ns::COMMANDS, &attributes)
}

fn form(command: &Command, session: &str) -> Element {
    let fields = command.arguments.iter().map(|argument| {
        // Text of several lines has a field of several lines.
        let kind = match argument.name {
            "text" => "text-multi",
            "JID" | "room" => "jid-single",
            _ => "text-single",
        };
        let field = Field::new(kind, argument.name).label(argument.label);
        if argument.required {
            field.required()
        } else {
            field
        }
    });
    let form = Form::new("form", FORM_TYPE)
        .title(&format!("/{}", command.name))
        .instructions(command.help)
        .fields(fields);
    let mut actions = element("actions", ns::COMMANDS, &[("execute", "complete")]);
    actions.append_child(element("complete", ns::COMMANDS, &[]));
    let mut reply = reply(command, session, "executing");
    reply.append_child(actions);
    reply.append_child(form.build());
    reply
}

/// The arguments out of a form that was filled in.
fn read(command: &Command, request: &Element) -> Option<Arguments> {
    let filled = Filled::read(find_form(request)?).ok()?;
    if filled.cancelled {
        return None;
    }
    Arguments::from_fields(command.arguments, |name| {
        filled.values(name).map(|values| values.join("\n"))
    })
}

#[cfg(test)]
mod tests;
