//! What everybody does with the own account: another password, and the invitations that are open.

use super::form::required;
use super::{Asks, Call, Command, Done, Outcome, is_person};
use crate::server::StanzaError;
use crate::xmpp::datetime;
use crate::xmpp::form::{Field, Form};

/// These are in no XEP.
const FORM_TYPE: &str = "urn:x-moltis:account";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        node: "urn:x-moltis:account#change-password",
        name: "Change my password",
        permitted: is_person,
        asks: Asks::Form(|| {
            Form::new("form", FORM_TYPE)
                .title("Change my password")
                .instructions("All other devices will have to log in again.")
                .field(required("text-private", "password", "The new password"))
                .field(required(
                    "text-private",
                    "password-verify",
                    "The same again",
                ))
        }),
        run: |call| Box::pin(change_password(call)),
    },
    Command {
        node: "urn:x-moltis:account#invitations",
        name: "My open invitations",
        permitted: is_person,
        asks: Asks::Nothing,
        run: |call| Box::pin(invitations(call)),
    },
    Command {
        node: "urn:x-moltis:account#revoke-invitation",
        name: "Revoke an invitation",
        permitted: is_person,
        asks: Asks::Form(|| {
            Form::new("form", FORM_TYPE)
                .title("Revoke an invitation")
                .instructions("\"My open invitations\" lists their names.")
                .field(required(
                    "text-single",
                    "invitation",
                    "Its name in the list",
                ))
        }),
        run: |call| Box::pin(revoke(call)),
    },
];

async fn change_password(call: Call) -> Outcome {
    let password = call.fields.password()?;
    let name = call.from.node().ok_or_else(StanzaError::not_allowed)?;
    let name = name.to_owned();
    let by = call.from.try_into_full().ok();
    let accounts = call.server.accounts();
    accounts.set_password(&name, password, by).await?;
    Ok(Done::Said("Your password has been changed".to_owned()))
}

async fn invitations(call: Call) -> Outcome {
    let own = call.from.to_bare();
    let open = call.server.invitations().list().await?;
    let lines = open
        .into_iter()
        .filter(|(_, invitation)| invitation.inviter.as_ref() == Some(&own))
        .map(|(id, invitation)| {
            let until = invitation.expires.map_or("for ever".to_owned(), |at| {
                format!("until {}", datetime::stamp(at))
            });
            let name = invitation
                .name
                .map_or(String::new(), |name| format!(", for {name}"));
            format!("{id}: {until}{name}")
        });
    let field = Field::new("text-multi", "invitations").label("Open invitations");
    Ok(Done::Found(
        Form::new("result", FORM_TYPE).field(field.values(lines)),
    ))
}

async fn revoke(call: Call) -> Outcome {
    let name = call.fields.one("invitation")?.trim();
    let own = call.from.to_bare();
    if call.server.invitations().revoke(name, Some(&own)).await? {
        Ok(Done::Said("The invitation has been revoked".to_owned()))
    } else {
        Err(StanzaError::item_not_found().text("You have no open invitation of that name"))
    }
}
