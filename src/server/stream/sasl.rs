//! SASL (RFC 6120, 6), with the channel bindings listed (XEP-0440).

use jid::BareJid;
use minidom::Element;

use super::negotiation::{Answer, Feature, Negotiation, Next, state};
use super::wire::End;
use super::xml::Event;
use crate::server::StreamError;
use crate::server::sasl::{
    self, Condition, Context, Exchange, Failure, Fast, Step, Success, decode, encode,
};
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

pub(super) const FEATURE: Feature = Feature {
    name: "sasl",
    needs: state::TRUSTED,
    forbids: state::AUTHENTICATED,
    list,
    takes: &[("auth", ns::SASL)],
    negotiate,
};

/// How many logins and tokens of invitations may fail on one stream (RFC 6120, 6.4.5).
pub(super) const MOST_FAILURES: u32 = 5;

fn list(negotiation: &Negotiation) -> Vec<Element> {
    let mut mechanisms = Element::bare("mechanisms", ns::SASL);
    for name in offered(negotiation) {
        mechanisms.append_child(text_element("mechanism", ns::SASL, name));
    }
    let mut listed = vec![mechanisms];
    listed.extend(bindings(negotiation));
    listed
}

/// XEP-0440.
fn bindings(negotiation: &Negotiation) -> Option<Element> {
    if negotiation.bindings.is_empty() {
        return None;
    }
    let mut listed = Element::bare("sasl-channel-binding", ns::SASL_CB);
    for binding in &negotiation.bindings {
        let attributes = [("type", binding.name)];
        listed.append_child(element("channel-binding", ns::SASL_CB, &attributes));
    }
    Some(listed)
}

pub(super) fn offered(negotiation: &Negotiation) -> Vec<&'static str> {
    if negotiation.local.is_some() {
        return vec!["EXTERNAL"];
    }
    sasl::mechanisms(negotiation.is(state::ENCRYPTED), &negotiation.bindings)
}

fn negotiate(negotiation: &mut Negotiation, element: Element) -> Answer<'_> {
    Box::pin(login(negotiation, element))
}

async fn login(negotiation: &mut Negotiation, auth: Element) -> Result<Next, End> {
    let text = auth.text();
    let initial = (!text.is_empty()).then_some(text.as_str());
    let mechanism = auth.attr("mechanism").unwrap_or_default();
    let Some((account, success)) =
        exchange(negotiation, ns::SASL, mechanism, initial, None).await?
    else {
        return Ok(Next::Element);
    };
    let answer = match &success.data {
        Some(data) => text_element("success", ns::SASL, &encode(data)),
        None => Element::bare("success", ns::SASL),
    };
    negotiation.output.element(&answer);
    authenticated(negotiation, account);
    negotiation.input.reader.reset();
    Ok(Next::Restart)
}

pub(super) fn authenticated(negotiation: &mut Negotiation, account: BareJid) {
    let accounts = negotiation.streams.server().accounts();
    negotiation.credentials = account.node().and_then(|name| accounts.keys(name));
    negotiation.account = Some(account);
    negotiation.state |= state::AUTHENTICATED;
    negotiation.input.reader.authenticated();
    negotiation.line.authenticated();
}

/// Carries a login in SASL or SASL2. `None`: it failed, the client has been told, and may try again.
pub(super) async fn exchange(
    negotiation: &mut Negotiation,
    profile: &'static str,
    mechanism: &str,
    initial: Option<&str>,
    fast: Option<Fast>,
) -> Result<Option<(BareJid, Success)>, End> {
    let server = negotiation.streams.server().clone();
    let outcome = match attempt(negotiation, profile, mechanism, initial, fast).await? {
        Ok(success) => {
            server.abuse().meters.login(mechanism, true);
            let account = match &negotiation.local {
                Some(local) => local.clone(),
                None => negotiation
                    .streams
                    .server()
                    .accounts()
                    .jid(&success.account),
            };
            return Ok(Some((account, success)));
        }
        Err(failure) => failure,
    };
    server.abuse().meters.login(mechanism, false);
    negotiation.failures += 1;
    if let (Condition::NotAuthorized, Some(address)) =
        (outcome.condition, negotiation.origin.address)
    {
        let limit = server.settings().limits.login_failures_per_ip;
        server.abuse().failed(address, limit).await;
    }
    negotiation.output.element(&failed(profile, outcome));
    if negotiation.failures >= MOST_FAILURES {
        return Err(StreamError::new("policy-violation")
            .text("too many failed logins")
            .into());
    }
    Ok(None)
}

fn failed(profile: &'static str, failure: Failure) -> Element {
    let mut element = Element::bare("failure", profile);
    element.append_child(Element::bare(failure.condition.name(), ns::SASL));
    if let Some(text) = failure.text {
        element.append_child(text_element("text", profile, text));
    }
    element
}

async fn attempt(
    negotiation: &mut Negotiation,
    profile: &'static str,
    mechanism: &str,
    initial: Option<&str>,
    fast: Option<Fast>,
) -> Result<Result<Success, Failure>, End> {
    if let Some(local) = &negotiation.local {
        // Who it is was decided when it was let in.
        let account = local
            .node()
            .filter(|_| mechanism == "EXTERNAL")
            .map(ToOwned::to_owned);
        return Ok(account
            .map(|account| Success {
                account,
                data: None,
                rotate: false,
            })
            .ok_or(Condition::NotAuthorized.into()));
    }
    let server = negotiation.streams.server().clone();
    let limit = server.settings().limits.login_failures_per_ip;
    if let Some(address) = negotiation.origin.address
        && server.abuse().is_refused(address, limit).await
    {
        let text = "too many failed logins from this address";
        return Ok(Err(Failure::new(Condition::TemporaryAuthFailure, text)));
    }
    let initial = match initial.map(decode).transpose() {
        Ok(initial) => initial,
        Err(failure) => return Ok(Err(failure)),
    };
    let context = Context {
        accounts: negotiation.streams.server().accounts().clone(),
        secure: negotiation.is(state::ENCRYPTED),
        bindings: negotiation.bindings.clone(),
        offered: offered(negotiation),
        fast,
    };
    let (mut exchange, mut step) = Exchange::begin(mechanism, context, initial.as_deref()).await;
    loop {
        let data = match step {
            Step::Success(success) => return Ok(Ok(success)),
            Step::Failure(failure) => return Ok(Err(failure)),
            Step::Challenge(data) => data,
        };
        let challenge = text_element("challenge", profile, &encode(&data));
        negotiation.output.element(&challenge);
        negotiation.output.flush().await?;
        let response = match negotiation.input.next().await? {
            Event::Element(element) => element,
            Event::Close => return Err(End::Closed),
            Event::Open(_) => return Err(StreamError::new("bad-format").into()),
        };
        if response.is("abort", profile) {
            return Ok(Err(Condition::Aborted.into()));
        }
        if !response.is("response", profile) {
            return Ok(Err(Condition::MalformedRequest.into()));
        }
        step = match decode(&response.text()) {
            Ok(data) => exchange.step(&data).await,
            Err(failure) => Step::Failure(failure),
        };
    }
}
