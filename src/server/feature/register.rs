//! XEP-0077: In-Band Registration: a password is changed or an account removed in a session; an account is made before a
//! login, where `registration` allows it. Forms and policy are here, the stream before the login calls [`Registrar`].

use std::net::IpAddr;

use jid::Jid;
use minidom::Element;
use secrecy::SecretString;
use tracing::info;

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

/// Registrations on streams that have not logged in.
#[derive(Clone, Copy, Debug)]
pub struct Registrar<'a> {
    pub server: &'a Server,
    /// Where the stream comes from.
    pub address: IpAddr,
}

impl Registrar<'_> {
    /// The stream feature to announce (XEP-0077, 8), where anybody may register.
    pub fn feature(settings: &Settings) -> Option<Element> {
        let open = settings.registration == Registration::Open;
        open.then(|| Element::bare("register", ns::REGISTER_FEATURE))
    }

    /// Answers an `<iq/>` with a registration `<query/>`; `None`: it is another stanza, and not for us.
    pub async fn answer(&self, iq: &Element) -> Option<Element> {
        let query = iq.get_child("query", ns::REGISTER)?;
        let id = iq.attr("id").filter(|_| iq.is("iq", ns::JABBER_CLIENT))?;
        let outcome = match iq.attr("type")? {
            "get" => self.form().map(Some),
            "set" => self.make(query).await.map(|()| None),
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

    fn policy(&self) -> Result<(), StanzaError> {
        if self.server.settings().registration != Registration::Open {
            return Err(StanzaError::not_allowed()
                .text("Accounts are made by the people who run this server; ask them"));
        }
        Ok(())
    }

    fn form(&self) -> Result<Element, StanzaError> {
        self.policy()?;
        let mut query = Element::bare("query", ns::REGISTER);
        let text = format!("Choose a name and a password for {}.", self.server.domain());
        query.append_child(text_element("instructions", ns::REGISTER, &text));
        query.append_child(Element::bare("username", ns::REGISTER));
        query.append_child(Element::bare("password", ns::REGISTER));
        Ok(query)
    }

    async fn make(&self, query: &Element) -> Result<(), StanzaError> {
        self.policy()?;
        let Wish::Account { name, password } = wish(query)? else {
            // XEP-0077, 3.2: nobody is logged in.
            return Err(StanzaError::unexpected_request());
        };
        let name = accounts::name(&name)?;
        let accounts = self.server.accounts();
        let throttle = accounts.registrations();
        let limits = &self.server.settings().limits;
        throttle.set_limit(limits.registrations_per_ip_per_hour);
        if let Some(rest) = throttle.refusal(self.address) {
            let minutes = rest.as_secs().div_ceil(60);
            return Err(StanzaError::resource_constraint().text(format!(
                "Too many accounts were made from your address; try again in {minutes} minutes"
            )));
        }
        // Before the work, so that many at once are not all let through.
        throttle.count(self.address);
        let made = accounts.create(&name, SecretString::from(password)).await;
        if made.is_err() {
            throttle.take_back(self.address);
        }
        made?;
        info!(jid = %Jid::from(accounts.jid(&name)), address = %self.address, "An account was registered");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
