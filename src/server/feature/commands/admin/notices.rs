//! What admins tell everybody (XEP-0133, 4.23 to 4.28).

use super::super::form::required;
use super::super::{Asks, Call, Command, Done, Outcome};
use super::{ask, permitted};
use crate::server::feature::announcements::{self, Text};
use crate::server::{Server, StanzaError};
use crate::xmpp::form::{Field, Form};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        node: "http://jabber.org/protocol/admin#announce",
        name: "Announce something to those who are online",
        permitted,
        asks: Asks::Form(|| {
            let subject = Field::new("text-single", "subject").label("Subject");
            let text = required("text-multi", "announcement", "What to announce");
            ask("Announce something", [subject, text])
        }),
        run: |call| Box::pin(announce(call)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#set-motd",
        name: "Set the message of the day",
        permitted,
        asks: Asks::Form(|| ask("Set the message of the day", [motd()])),
        run: |call| Box::pin(set(call, Text::Motd, "motd")),
    },
    Command {
        node: "http://jabber.org/protocol/admin#edit-motd",
        name: "Edit the message of the day",
        permitted,
        asks: Asks::Current(|server| {
            Box::pin(current(
                server,
                Text::Motd,
                "Edit the message of the day",
                motd(),
            ))
        }),
        run: |call| Box::pin(set(call, Text::Motd, "motd")),
    },
    Command {
        node: "http://jabber.org/protocol/admin#delete-motd",
        name: "Delete the message of the day",
        permitted,
        asks: Asks::Nothing,
        run: |call| Box::pin(delete(call, Text::Motd)),
    },
    Command {
        node: "http://jabber.org/protocol/admin#set-welcome",
        name: "Set the first message of new accounts",
        permitted,
        asks: Asks::Current(|server| {
            let field = required("text-multi", "welcome", "What new accounts are told");
            Box::pin(current(
                server,
                Text::Welcome,
                "Set the first message",
                field,
            ))
        }),
        run: |call| Box::pin(set(call, Text::Welcome, "welcome")),
    },
    Command {
        node: "http://jabber.org/protocol/admin#delete-welcome",
        name: "Delete the first message of new accounts",
        permitted,
        asks: Asks::Nothing,
        run: |call| Box::pin(delete(call, Text::Welcome)),
    },
];

fn motd() -> Field {
    required("text-multi", "motd", "Message of the day")
}

async fn announce(call: Call) -> Outcome {
    let text = call.fields.text("announcement")?;
    let subject = call.fields.optional("subject");
    let count = announcements::announce(&call.server, subject, &text)?;
    Ok(Done::Said(format!("Announced to sessions: {count}")))
}

/// The form with the text that is in force.
async fn current(
    server: Server,
    which: Text,
    title: &str,
    field: Field,
) -> Result<Form, StanzaError> {
    let text = match which {
        Text::Motd => announcements::stored(&server, which).await?,
        Text::Welcome => Some(announcements::welcome(&server, &server.settings().welcome).await?),
    };
    let text = text.unwrap_or_default();
    Ok(ask(title, [field.values(text.lines())]))
}

async fn set(call: Call, which: Text, field: &str) -> Outcome {
    let text = call.fields.text(field)?;
    announcements::store(&call.server, which, Some(&text)).await?;
    if which == Text::Motd {
        announcements::show_motd(&call.server).await?;
    }
    Ok(Done::Said(match which {
        Text::Motd => "Everybody is told once: now, or at the next login".to_owned(),
        Text::Welcome => "New accounts will be told".to_owned(),
    }))
}

async fn delete(call: Call, which: Text) -> Outcome {
    // Nothing, where the configuration would say something.
    let nothing = (which == Text::Welcome).then_some("");
    announcements::store(&call.server, which, nothing).await?;
    Ok(Done::Said("It has been deleted".to_owned()))
}
