//! SASL2 (XEP-0388), with Bind 2 (XEP-0386), resumption (XEP-0198) and FAST (XEP-0484) in the same round trip.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jid::BareJid;
use minidom::Element;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use tracing::warn;

use super::negotiation::{Answer, Feature, Negotiation, Next, state};
use super::sm::{self, Parcel};
use super::wire::End;
use super::{bind, sasl};
use crate::server::sasl::{Fast, Success, encode, fast_mechanisms};
use crate::server::{Server, StreamError, random_id};
use crate::xmpp::element::{child_text, element, text_element};
use crate::xmpp::ns;

pub(super) const FEATURE: Feature = Feature {
    name: "sasl2",
    needs: state::TRUSTED | state::ENCRYPTED,
    forbids: state::AUTHENTICATED | state::LOCAL,
    list,
    takes: &[("authenticate", ns::SASL2)],
    negotiate,
};

/// What Bind 2 can turn on.
const INLINE: [&str; 3] = [ns::CARBONS, ns::CSI, ns::SM];

fn list(negotiation: &Negotiation) -> Vec<Element> {
    let mut authentication = Element::bare("authentication", ns::SASL2);
    for name in sasl::offered(negotiation) {
        authentication.append_child(text_element("mechanism", ns::SASL2, name));
    }
    let mut inline = Element::bare("inline", ns::SASL2);
    inline.append_child(Element::bare("sm", ns::SM));
    let mut features = Element::bare("inline", ns::BIND2);
    for feature in INLINE {
        features.append_child(element("feature", ns::BIND2, &[("var", feature)]));
    }
    let mut bind = Element::bare("bind", ns::BIND2);
    bind.append_child(features);
    inline.append_child(bind);
    let mut fast = Element::bare("fast", ns::FAST);
    for name in fast_mechanisms(true, &negotiation.bindings) {
        fast.append_child(text_element("mechanism", ns::FAST, name));
    }
    inline.append_child(fast);
    authentication.append_child(inline);
    vec![authentication]
}

fn negotiate(negotiation: &mut Negotiation, element: Element) -> Answer<'_> {
    Box::pin(authenticate(negotiation, element))
}

/// What `<authenticate/>` asks for besides a login.
struct Request {
    mechanism: String,
    /// The id of the user agent, by which its tokens and its resource are known.
    client: String,
    authenticate: Element,
}

async fn authenticate(negotiation: &mut Negotiation, element: Element) -> Result<Next, End> {
    let agent = element.get_child("user-agent", ns::SASL2);
    let request = Request {
        mechanism: element.attr("mechanism").unwrap_or_default().to_owned(),
        client: agent
            .and_then(|agent| agent.attr("id"))
            .unwrap_or_default()
            .to_owned(),
        authenticate: element,
    };
    let initial = child_text(&request.authenticate, "initial-response", ns::SASL2);
    let fast = request
        .authenticate
        .get_child("fast", ns::FAST)
        .map(|fast| Fast {
            client: request.client.clone(),
            count: fast.attr("count").and_then(|count| count.parse().ok()),
            invalidate: matches!(fast.attr("invalidate"), Some("true" | "1")),
        });
    let done = sasl::exchange(
        negotiation,
        ns::SASL2,
        &request.mechanism,
        initial.as_deref(),
        fast,
    )
    .await?;
    let Some((account, success)) = done else {
        return Ok(Next::Element);
    };
    sasl::authenticated(negotiation, account.clone());
    succeed(negotiation, &request, &account, &success).await
}

async fn succeed(
    negotiation: &mut Negotiation,
    request: &Request,
    account: &BareJid,
    success: &Success,
) -> Result<Next, End> {
    let token = token(negotiation, request, success).await;
    let mut inline = Vec::new();
    let parcel = inline_session(negotiation, request, &mut inline).await?;
    let mut answer = Element::bare("success", ns::SASL2);
    if let Some(data) = &success.data {
        answer.append_child(text_element("additional-data", ns::SASL2, &encode(data)));
    }
    let identifier = match &parcel {
        Some(parcel) => parcel.session.jid().as_str(),
        None => account.as_str(),
    };
    answer.append_child(text_element(
        "authorization-identifier",
        ns::SASL2,
        identifier,
    ));
    for part in inline.into_iter().chain(token) {
        answer.append_child(part);
    }
    negotiation.output.element(&answer);
    if parcel.is_some() {
        negotiation.state |= state::BOUND;
    }
    // XEP-0388, 2.6.1: without a new stream.
    negotiation.write_features();
    Ok(match parcel {
        Some(parcel) => Next::Bound(Box::new(parcel)),
        None => Next::Element,
    })
}

/// A session that is resumed or bound with the login.
async fn inline_session(
    negotiation: &mut Negotiation,
    request: &Request,
    inline: &mut Vec<Element>,
) -> Result<Option<Parcel>, End> {
    if let Some(resume) = request.authenticate.get_child("resume", ns::SM) {
        match sm::resume(negotiation, resume).await? {
            Ok((parcel, answer)) => {
                inline.push(answer);
                return Ok(Some(parcel));
            }
            Err(answer) => inline.push(answer),
        }
    }
    let Some(wanted) = request.authenticate.get_child("bind", ns::BIND2) else {
        return Ok(None);
    };
    let resource = resource(wanted, &request.client);
    let opened = bind::open(negotiation, Some(&resource)).await;
    let mut parcel = opened.map_err(|_refused| {
        StreamError::new("resource-constraint")
            .text("this account has as many sessions as it may have")
    })?;
    let server = negotiation.streams.server().clone();
    let mut bound = Element::bare("bound", ns::BIND2);
    for child in wanted.children() {
        if child.is("enable", ns::SM) {
            parcel.managed = true;
            parcel.id = matches!(child.attr("resume"), Some("true" | "1")).then(random_id);
            bound.append_child(sm::enabled(parcel.id.as_deref()));
        } else if child.is("inactive", ns::CSI) {
            parcel.inactive = true;
        } else if child.is("enable", ns::CARBONS) {
            turn_on(&server, &mut parcel, child).await?;
        }
    }
    inline.push(bound);
    Ok(Some(parcel))
}

/// Asks the router on the client's behalf, which then is not told what it did not ask.
async fn turn_on(server: &Server, parcel: &mut Parcel, payload: &Element) -> Result<(), End> {
    let id = random_id();
    let mut iq = element("iq", ns::JABBER_CLIENT, &[("type", "set"), ("id", &id)]);
    iq.append_child(payload.clone());
    server.receive(&parcel.session, iq).await?;
    while let Ok(mail) = parcel.mailbox.try_recv() {
        if mail.shared().attr("id") != Some(id.as_str()) {
            parcel.held.push(mail);
        }
    }
    Ok(())
}

/// XEP-0386, 4.1: the client's name and something of ours, the same for the same installation, so that its old session
/// makes room for the new one.
fn resource(bind: &Element, client: &str) -> String {
    let tag = child_text(bind, "tag", ns::BIND2).unwrap_or_default();
    let tag: String = tag.chars().filter(|c| !c.is_control()).take(64).collect();
    let own = if client.is_empty() {
        random_id()
    } else {
        let digest = Sha256::digest(client.as_bytes());
        URL_SAFE_NO_PAD.encode(digest.get(..9).unwrap_or_default())
    };
    if tag.is_empty() {
        own
    } else {
        format!("{tag}.{own}")
    }
}

/// XEP-0484, 3.3: a token, where the client asks for one or its own is due to be replaced.
async fn token(
    negotiation: &mut Negotiation,
    request: &Request,
    success: &Success,
) -> Option<Element> {
    let asked = request.authenticate.get_child("request-token", ns::FAST);
    let mechanism = match asked.and_then(|asked| asked.attr("mechanism")) {
        Some(mechanism) => fast_mechanisms(true, &negotiation.bindings)
            .into_iter()
            .find(|known| *known == mechanism)?,
        None if success.rotate => &request.mechanism,
        None => return None,
    };
    negotiation.still_account()?;
    let accounts = negotiation.streams.server().accounts().clone();
    let issued = accounts
        .issue_token(&success.account, &request.client, mechanism)
        .await;
    match issued {
        Ok(token) => {
            let expiry = token.expires.format(&Rfc3339).ok()?;
            let secret = token.token.expose_secret();
            Some(element(
                "token",
                ns::FAST,
                &[("token", secret), ("expiry", &expiry)],
            ))
        }
        Err(err) => {
            warn!("A token cannot be issued: {err}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_has_the_same_resource_each_time() {
        let bind: Element = "<bind xmlns='urn:xmpp:bind:0'><tag>Chat\u{1F4AC}</tag></bind>"
            .parse()
            .unwrap();
        let first = resource(&bind, "device-1");
        assert_eq!(first, resource(&bind, "device-1"));
        assert_ne!(first, resource(&bind, "device-2"));
        assert!(first.starts_with("Chat\u{1F4AC}."));
        assert_ne!(resource(&bind, ""), resource(&bind, ""));
        let untagged = resource(&Element::bare("bind", ns::BIND2), "device-1");
        assert!(first.ends_with(&untagged));
    }
}
