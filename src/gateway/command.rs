//! Slash commands. One row each: name, arguments, help, who may use it, handler; `/help` and the list of XEP-0050 are read
//! from the rows. A command is parsed before the queue, so that `/stop` does not wait for what it stops.
//!
//! To add one: a handler in a file of this folder, and its row in [`COMMANDS`].

mod access;
pub mod adhoc;
mod context;
mod conversation;
mod house;
mod models;
mod operator;
pub mod parse;
mod person;

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use jid::BareJid;
use minidom::Element;

pub use context::{AccountStatus, Added, Context, Control, House, Invited, RoomStatus, Services};
pub use parse::{Line, parse, unescape};

use crate::config::Account;
use crate::gateway::{Inbound, Place, Sender, Standing};
use parse::Arguments;

/// Who may use a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everyone who is admitted, anywhere.
    Everyone,
    /// Operators, and only in a direct chat: a room does not prove who somebody is.
    Operator,
}

/// An argument, by position in a message and by name in a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    pub name: &'static str,
    /// For the form.
    pub label: &'static str,
    pub required: bool,
    /// The last one may take the rest of the text, spaces and lines included.
    pub rest: bool,
}

const fn required(name: &'static str, label: &'static str) -> Argument {
    Argument {
        name,
        label,
        required: true,
        rest: false,
    }
}

const fn optional(name: &'static str, label: &'static str) -> Argument {
    Argument {
        required: false,
        ..required(name, label)
    }
}

const fn rest(argument: Argument) -> Argument {
    Argument {
        rest: true,
        ..argument
    }
}

/// What a command says when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Markdown.
    Text(String),
    /// The conversation itself tells, as after `/stop`.
    Told,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

pub type Handler = fn(Context) -> BoxFuture<'static, anyhow::Result<Answer>>;

/// A row of [`COMMANDS`].
pub struct Command {
    pub name: &'static str,
    pub arguments: &'static [Argument],
    pub help: &'static str,
    pub who: Who,
    pub run: Handler,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", self.name)
    }
}

impl Command {
    /// `/join room [nick]`
    pub fn usage(&self) -> String {
        let mut words = vec![format!("/{}", self.name)];
        words.extend(self.arguments.iter().map(|argument| {
            if argument.required {
                argument.name.to_owned()
            } else {
                format!("[{}]", argument.name)
            }
        }));
        words.join(" ")
    }

    pub fn is_for(&self, standing: Standing) -> bool {
        self.who == Who::Everyone || standing.operator
    }
}

const JID: Argument = required("JID", "Address (JID)");

/// In the order in which `/help` lists them.
pub const COMMANDS: &[Command] = &[
    person::HELP,
    conversation::NEW,
    conversation::CLEAR,
    conversation::SESSIONS,
    conversation::TITLE,
    conversation::FORK,
    conversation::STOP,
    conversation::RETRY,
    conversation::UNDO,
    conversation::COMPACT,
    conversation::CONTEXT,
    models::MODEL,
    models::MODELS,
    conversation::SYSTEM,
    conversation::SKILLS,
    conversation::SKILL,
    person::USAGE,
    person::STATUS,
    person::WHOAMI,
    person::PING,
    conversation::EXPORT,
    access::CLAIM,
    access::ALLOW,
    access::GUEST,
    access::BLOCK,
    access::ACCESS,
    operator::JOIN,
    operator::LEAVE,
    operator::ROOMS,
    operator::SAY,
    operator::BUDGET,
    operator::RELOAD,
    operator::ACCOUNTS,
    operator::LOG,
    house::ADDUSER,
    house::DELUSER,
    house::INVITE,
    house::ANNOUNCE,
];

/// Rows of a program that uses the library.
static MORE: OnceLock<&[Command]> = OnceLock::new();

/// Adds commands to those there are, where a program that uses the library has its own; see examples/custom_command.rs. Once,
/// before accounts start: a second time is not heard, and a name that is taken stays what it was.
pub fn extend(commands: &'static [Command]) {
    if MORE.set(commands).is_err() {
        tracing::warn!("Commands were added twice; the first time counts");
    }
}

/// All rows, in the order in which `/help` lists them.
pub fn all() -> impl Iterator<Item = &'static Command> {
    let taken = |command: &&Command| COMMANDS.iter().any(|ours| ours.name == command.name);
    let more = MORE.get().copied().unwrap_or_default();
    COMMANDS
        .iter()
        .chain(more.iter().filter(move |command| !taken(command)))
}

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Command> {
    all().find(|command| command.name.eq_ignore_ascii_case(name))
}

/// What is to be done about a line.
#[derive(Debug)]
enum Decision {
    Run(&'static Command, Arguments),
    Say(String),
}

fn decide(line: &Line, standing: Standing, in_room: bool, own: &BareJid) -> Decision {
    let Some(command) = find(&line.name) else {
        return Decision::Say(parse::unknown(&line.name, standing));
    };
    if !command.is_for(standing) {
        return Decision::Say(if in_room {
            format!(
                "`/{}` is for my operators, and only in a direct chat with me: xmpp:{own}",
                command.name
            )
        } else {
            format!("`/{}` is for my operators.", command.name)
        });
    }
    match Arguments::read(command.arguments, &line.rest) {
        Some(arguments) => Decision::Run(command, arguments),
        None => Decision::Say(format!(
            "Please write `{}`: {}.",
            command.usage(),
            command.help
        )),
    }
}

/// All commands. A handle: clones share the open forms.
#[derive(Clone)]
pub struct Commands {
    services: Arc<Services>,
    forms: Arc<adhoc::Forms>,
}

impl Commands {
    pub fn new(services: Services) -> Self {
        Self {
            services: Arc::new(services),
            forms: Arc::default(),
        }
    }

    /// XEP-0050: takes a `<command/>` of an admitted sender. `place` is the direct chat with them, or the private one with an
    /// occupant. The answer goes into the result.
    pub async fn request(
        &self,
        account: &str,
        place: Place,
        sender: Sender,
        standing: Standing,
        request: &Element,
    ) -> Result<Element, adhoc::Refusal> {
        let (command, arguments, session) =
            match self.forms.step(&sender.from, standing, request)? {
                adhoc::Step::Reply(reply) => return Ok(reply),
                adhoc::Step::Run {
                    command,
                    arguments,
                    session,
                } => (command, arguments, session),
            };
        // Handlers are written for messages: this is one that says nothing.
        let inbound = Inbound::text(account, place, sender, "");
        let answer = self.execute(command, arguments, &inbound, standing).await;
        let text = match &answer {
            Answer::Text(text) => text,
            Answer::Told => "Done; see our chat.",
        };
        Ok(adhoc::completed(command, &session, text))
    }

    /// Runs what was written and sends the answer to where it was written.
    pub async fn run(&self, account: &Account, inbound: Inbound, standing: Standing, line: Line) {
        let in_room = inbound.place.room().is_some();
        let text = match decide(&line, standing, in_room, &account.jid) {
            Decision::Say(text) => text,
            Decision::Run(command, arguments) => {
                match self.execute(command, arguments, &inbound, standing).await {
                    Answer::Text(text) => text,
                    Answer::Told => return,
                }
            }
        };
        let (id, place) = (&inbound.account, &inbound.place);
        let said = self
            .services
            .conversations
            .say(id, place, &text, Some(&inbound));
        if let Err(err) = said.await {
            tracing::error!("Failed to store a command's answer: {err:#}");
        }
    }

    /// Runs a command. What goes wrong is in the log, under an id that the person is told.
    pub(crate) async fn execute(
        &self,
        command: &'static Command,
        arguments: Arguments,
        inbound: &Inbound,
        standing: Standing,
    ) -> Answer {
        let context = Context {
            inbound: inbound.clone(),
            standing,
            arguments,
            services: Arc::clone(&self.services),
        };
        match (command.run)(context).await {
            Ok(answer) => answer,
            Err(err) => {
                let id = format!("{:08x}", rand::random::<u32>());
                tracing::error!(id, from = %inbound.sender.from, "{command:?} failed: {err:#}");
                format!(
                    "`/{}` did not work. Trying again may help; the log knows more under {id}.",
                    command.name
                )
                .into()
            }
        }
    }
}

#[cfg(test)]
mod tests;
