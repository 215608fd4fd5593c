//! XEP-0401: everybody invites contacts, who may make an account where `registration` lets them; admins invite to an
//! account of a certain name too.

use jid::Jid;

use super::{Asks, Call, Command, Done, Outcome, is_person};
use crate::config::Registration;
use crate::server::invitations::{Invitation, Made};
use crate::server::{Server, StanzaError, accounts};
use crate::xmpp::form::{Field, Form, boolean};
use crate::xmpp::{datetime, ns};

const FORM_TYPE: &str = "urn:xmpp:invite#invitation";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        node: ns::INVITE_CONTACT,
        name: "Invite somebody",
        permitted: is_person,
        asks: Asks::Nothing,
        run: |call| Box::pin(contact(call)),
    },
    Command {
        node: ns::INVITE_ACCOUNT,
        name: "Invite somebody to an account",
        permitted: may_invite_accounts,
        asks: Asks::Form(account_form),
        run: |call| Box::pin(account(call)),
    },
];

fn may_invite_accounts(server: &Server, from: &Jid) -> bool {
    let closed = server.settings().registration == Registration::Closed;
    !closed && server.is_admin(&from.to_bare())
}

fn account_form() -> Form {
    let name = Field::new("text-single", "username").label("Name, if it is yours to choose");
    let befriend = Field::boolean("roster-subscription", false).label("Becomes my contact");
    Form::new("form", FORM_TYPE)
        .title("Invite somebody to an account")
        .fields([name, befriend])
}

/// At once, without a form (3.1).
async fn contact(call: Call) -> Outcome {
    let closed = call.server.settings().registration == Registration::Closed;
    let invitation = Invitation {
        inviter: Some(call.from.to_bare()),
        befriends: true,
        registers: !closed,
        ..Invitation::new()
    };
    let made = call.server.invitations().make(invitation).await?;
    Ok(Done::Found(found(&call.server, &made)))
}

async fn account(call: Call) -> Outcome {
    let (server, fields) = (&call.server, &call.fields);
    let name = match fields.optional("username") {
        Some(text) => {
            let name = accounts::name(text.trim())?;
            if server.accounts().exists(&name) {
                return Err(StanzaError::conflict().text("That name is taken"));
            }
            Some(name.as_str().to_owned())
        }
        None => None,
    };
    let befriends = fields.optional("roster-subscription").and_then(boolean) == Some(true);
    let invitation = Invitation {
        inviter: Some(call.from.to_bare()),
        befriends: befriends && is_person(server, &call.from),
        name,
        ..Invitation::new()
    };
    // With the form of XEP-0445, 2.2, whether they become contacts or not.
    let made = server.invitations().make(invitation).await?;
    Ok(Done::Found(found(server, &made)))
}

/// What 3.1 wants of the result.
fn found(server: &Server, made: &Made) -> Form {
    let field =
        |name: &str, label, value: &str| Field::new("text-single", name).label(label).value(value);
    let uri = made.invitation.uri(server.domain(), &made.token);
    let page = server.invitation_page(&made.token);
    let expires = made.invitation.expires.map(datetime::stamp);
    Form::new("result", FORM_TYPE)
        .field(field("uri", "Link of the invitation", &uri))
        .fields(page.map(|page| field("landing-url", "Page of the invitation", &page)))
        .fields(expires.map(|at| field("expire", "Valid until", &at)))
}
