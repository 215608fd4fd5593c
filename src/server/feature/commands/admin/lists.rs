//! How many users there are, and who (XEP-0133, 4.13 to 4.22).

use futures::future::BoxFuture;

use super::super::{Asks, Call, Command, Outcome};
use super::{ask, at_once, permitted, tell};
use crate::server::session::Session;
use crate::server::{Server, StanzaError};
use crate::xmpp::element::child_text;
use crate::xmpp::form::{Field, Form};
use crate::xmpp::ns;

/// More addresses than this make a stanza that clients do not take.
const MOST: usize = 2_000;

/// A row: what is counted, and the two commands about it.
macro_rules! counted {
    ($($who:ident, $number:literal, $number_field:literal, $list:literal, $list_field:literal, $what:literal;)*) => {
        pub(super) const COMMANDS: &[Command] = &[$(
            Command {
                node: concat!("http://jabber.org/protocol/admin#", $number),
                name: concat!("Count ", $what),
                permitted,
                asks: Asks::Nothing,
                run: |call| at_once(number($number_field, $who(&call.server).len())),
            },
            Command {
                node: concat!("http://jabber.org/protocol/admin#", $list),
                name: concat!("List ", $what),
                permitted,
                asks: Asks::Form(how_many),
                run: |call| list(&call, $list_field, $who(&call.server)),
            },
        )*];
    };
}

counted! {
    registered, "get-registered-users-num", "registeredusersnum", "get-registered-users-list", "registereduserjids", "users";
    disabled, "get-disabled-users-num", "disabledusersnum", "get-disabled-users-list", "disableduserjids", "disabled users";
    online, "get-online-users-num", "onlineusersnum", "get-online-users-list", "onlineuserjids", "users who are online";
    active, "get-active-users-num", "activeusersnum", "get-active-users", "activeuserjids", "active users";
    idle, "get-idle-users-num", "idleusersnum", "get-idle-users", "idleuserjids", "idle users";
}

fn how_many() -> Form {
    let most = Field::new("list-single", "max_items").label("Maximum number of items to show");
    let choices = ["25", "50", "75", "100", "150", "200"];
    let most = choices
        .into_iter()
        .fold(most, |field, choice| field.option(choice, choice));
    ask("List users", [most.option("none", "None").value("none")])
}

fn number(name: &str, count: usize) -> Outcome {
    let field = Field::new("text-single", name).value(count.to_string());
    tell([field])
}

fn list(call: &Call, name: &str, mut jids: Vec<String>) -> BoxFuture<'static, Outcome> {
    let most = match call.fields.optional("max_items") {
        None | Some("none") => Ok(MOST),
        Some(text) => text.parse().map(|most: usize| most.min(MOST)),
    };
    at_once(match most {
        Ok(most) => {
            jids.truncate(most);
            tell([Field::new("jid-multi", name).values(jids)])
        }
        Err(_) => Err(StanzaError::not_acceptable().text("How many?")),
    })
}

fn registered(server: &Server) -> Vec<String> {
    accounts(server, false)
}

fn disabled(server: &Server) -> Vec<String> {
    accounts(server, true)
}

fn accounts(server: &Server, only_disabled: bool) -> Vec<String> {
    let accounts = server.accounts().list().into_iter();
    accounts
        .filter(|account| account.disabled.is_some() || !only_disabled)
        .map(|account| format!("{}@{}", account.name, server.domain()))
        .collect()
}

/// Those with an available session, once each.
fn online(server: &Server) -> Vec<String> {
    with_session(server, |_| true)
}

/// Those of them who have one that does not say that they are away.
fn active(server: &Server) -> Vec<String> {
    with_session(server, |session| !is_away(session))
}

fn idle(server: &Server) -> Vec<String> {
    let active = active(server);
    let mut idle = online(server);
    idle.retain(|jid| active.binary_search(jid).is_err());
    idle
}

/// XEP-0133 leaves open what an idle user is: here, one who says so (RFC 6121, 4.7.2.1).
fn is_away(session: &Session) -> bool {
    let presence = session.available().map(|available| available.presence);
    let show =
        presence.and_then(|presence| child_text(presence.element(), "show", ns::JABBER_CLIENT));
    matches!(show.as_deref(), Some("away" | "xa"))
}

fn with_session(server: &Server, counts: impl Fn(&Session) -> bool) -> Vec<String> {
    let sessions = server.sessions();
    let available = sessions
        .iter()
        .filter(|session| session.is_available() && counts(session));
    let mut jids: Vec<String> = available
        .map(|session| session.account().jid().to_string())
        .collect();
    jids.sort_unstable();
    jids.dedup();
    jids
}
