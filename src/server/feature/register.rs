//! XEP-0077: In-Band Registration: a password is changed or an account removed in a session; an account is made before a
//! login, where `registration` allows it, with the token of an invitation (XEP-0445) or without. The stream before the login
//! calls [`Registrar`].

use std::net::IpAddr;

use minidom::Element;
use tracing::info;

use super::super::invitations::Shown;
use super::super::router::{IqType, Reply, Request, Router, Target};
use super::super::{Server, Settings, StanzaError, accounts};
use crate::config::Registration;
use crate::xmpp::element::{child_text, element, text_element};
use crate::xmpp::form::{self, Filled};
use crate::xmpp::ns;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    let targets = [Target::Domain, Target::Own];
    router.disco(&[Target::Domain], ns::REGISTER);
    router.iq(&targets, IqType::Get, "query", ns::REGISTER, registered)?;
    router.iq(&targets, IqType::Set, "query", ns::REGISTER, change)?;
    Ok(())
}

/// What a `<query/>` of type set asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Remove,
    /// An account with this name and password, or another password for it.
    Account {
        name: String,
        password: String,
    },
}

/// Reads it, from fields or from a form (XEP-0077, 4).
fn wish(query: &Element) -> Result<Wish, StanzaError> {
    let bad = |text: &str| StanzaError::bad_request().text(text);
    if query.has_child("remove", ns::REGISTER) {
        // XEP-0077, 3.2: alone.
        if query.children().count() > 1 {
            return Err(bad("<remove/> stands alone"));
        }
        return Ok(Wish::Remove);
    }
    let form = form::find(query).map(Filled::read).transpose()?;
    let value = |name: &str| match &form {
        Some(form) => form.value(name).map(str::to_owned),
        None => child_text(query, name, ns::REGISTER),
    };
    match (value("username"), value("password")) {
        (Some(name), Some(password)) if !name.is_empty() && !password.is_empty() => {
            Ok(Wish::Account { name, password })
        }
        _ => Err(StanzaError::not_acceptable().text("Fill in username and password")),
    }
}

/// XEP-0077, 3.1, for who has an account: its name.
async fn registered(request: Request) -> Reply {
    let session = request.session()?;
    let mut query = Element::bare("query", ns::REGISTER);
    query.append_child(Element::bare("registered", ns::REGISTER));
    let name = session.account().owner();
    query.append_child(text_element("username", ns::REGISTER, name));
    query.append_child(Element::bare("password", ns::REGISTER));
    Ok(Some(query))
}

async fn change(request: Request) -> Reply {
    let session = request.session()?;
    let own = session.jid();
    let name = own.node().ok_or_else(StanzaError::not_allowed)?;
    match wish(&request.payload)? {
        Wish::Remove => {
            info!(jid = %own, "The account is removed by its owner");
            // The session ends with it, after the answer.
            request.server.delete_account(name).await?;
        }
        Wish::Account {
            name: claimed,
            password,
        } => {
            if accounts::name(&claimed).ok().as_deref() != Some(name) {
                return Err(StanzaError::not_allowed().text("That is not your account"));
            }
            let accounts = request.server.accounts();
            let by = Some(own.clone());
            accounts.set_password(name, password.into(), by).await?;
        }
    }
    Ok(None)
}

/// Registrations on a stream that has not logged in.
#[derive(Debug)]
pub struct Registrar<'a> {
    pub server: &'a Server,
    /// Where the stream comes from.
    pub address: IpAddr,
    /// The invitation whose token the client has shown (XEP-0445).
    pub shown: &'a mut Option<Shown>,
}

impl Registrar<'_> {
    /// The stream features to announce (XEP-0077, 8; XEP-0445, 3), where anybody may register, or anybody with a token.
    pub fn features(settings: &Settings) -> Vec<Element> {
        if settings.registration == Registration::Closed {
            return Vec::new();
        }
        let namespaces = [ns::IBR_TOKEN, ns::REGISTER_FEATURE].into_iter();
        namespaces
            .map(|namespace| Element::bare("register", namespace))
            .collect()
    }

    /// Answers an `<iq/>` with a registration `<query/>` or the token of an invitation; `None`: it is another stanza, and
    /// not for us.
    pub async fn answer(&mut self, iq: &Element) -> Option<Element> {
        let id = iq.attr("id").filter(|_| iq.is("iq", ns::JABBER_CLIENT))?;
        let query = iq.get_child("query", ns::REGISTER);
        let token = iq.get_child("preauth", ns::PREAUTH);
        let outcome = match (iq.attr("type")?, query, token) {
            ("get", Some(_), _) => self.form().map(Some),
            ("set", Some(query), _) => self.make(query).await.map(|()| None),
            ("set", None, Some(preauth)) => self.show(preauth).await.map(|()| None),
            _ => return None,
        };
        let domain = self.server.domain();
        let answer = |kind| {
            let attributes = [("type", kind), ("id", id), ("from", domain)];
            element("iq", ns::JABBER_CLIENT, &attributes)
        };
        Some(match outcome {
            Ok(payload) => {
                let mut answer = answer("result");
                if let Some(payload) = payload {
                    answer.append_child(payload);
                }
                answer
            }
            Err(error) => {
                let mut answer = answer("error");
                answer.append_child(error.to_element());
                answer
            }
        })
    }

    /// XEP-0445, 4: a token that is no good changes nothing.
    async fn show(&mut self, preauth: &Element) -> Result<(), StanzaError> {
        let token = preauth.attr("token").ok_or_else(StanzaError::bad_request)?;
        let shown = self.server.registering(token).await?;
        let invalid = || StanzaError::item_not_found().text("The token is invalid or has expired");
        *self.shown = Some(shown.ok_or_else(invalid)?);
        Ok(())
    }

    /// Before a token too: some clients ask for the form first, and the account is what needs one.
    fn form(&self) -> Result<Element, StanzaError> {
        if !self.server.may_invite_to_accounts() {
            self.server.may_register(None)?;
        }
        let mut query = Element::bare("query", ns::REGISTER);
        let text = format!("Choose a name and a password for {}.", self.server.domain());
        query.append_child(text_element("instructions", ns::REGISTER, &text));
        let shown = self.shown.as_ref();
        let name = shown.and_then(|shown| shown.invitation.name.as_deref());
        query.append_child(text_element(
            "username",
            ns::REGISTER,
            name.unwrap_or_default(),
        ));
        query.append_child(Element::bare("password", ns::REGISTER));
        Ok(query)
    }

    async fn make(&mut self, query: &Element) -> Result<(), StanzaError> {
        self.server.may_register(self.shown.as_ref())?;
        let Wish::Account { name, password } = wish(query)? else {
            // XEP-0077, 3.2: nobody is logged in.
            return Err(StanzaError::unexpected_request());
        };
        let shown = self.shown.as_ref();
        self.server
            .register(&name, password.into(), shown, self.address)
            .await?;
        // For one account: whoever wants another shows it again.
        *self.shown = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
