//! Resource binding (RFC 6120, 7), and the session of RFC 3921, which does nothing.

use jid::{BareJid, Jid};
use minidom::Element;

use super::negotiation::{Answer, Feature, Negotiation, Next, state};
use super::sm::{Parcel, Queue};
use super::wire::End;
use crate::server::{StanzaError, StreamError};
use crate::xmpp::element::{child_text, element, text_element};
use crate::xmpp::ns;

pub(super) const FEATURE: Feature = Feature {
    name: "bind",
    needs: state::AUTHENTICATED,
    forbids: state::BOUND,
    list,
    takes: &[("iq", ns::JABBER_CLIENT)],
    negotiate,
};

fn list(negotiation: &Negotiation) -> Vec<Element> {
    // Clients that know RFC 3921 alone want a session unless it is optional.
    let mut session = Element::bare("session", ns::SESSION);
    session.append_child(Element::bare("optional", ns::SESSION));
    let mut features = vec![Element::bare("bind", ns::BIND), session];
    // RFC 6121, 2.6.1 and 3.4.
    features.push(Element::bare("ver", "urn:xmpp:features:rosterver"));
    features.push(Element::bare("sub", "urn:xmpp:features:pre-approval"));
    // XEP-0115, 6.3: what the server itself can do.
    features.extend(negotiation.streams.server().caps());
    features
}

fn negotiate(negotiation: &mut Negotiation, element: Element) -> Answer<'_> {
    Box::pin(bind(negotiation, element))
}

async fn bind(negotiation: &mut Negotiation, iq: Element) -> Result<Next, End> {
    let Some(request) = iq
        .get_child("bind", ns::BIND)
        .filter(|_| iq.attr("type") == Some("set"))
    else {
        // RFC 6120, 7.1: nothing else before there is a resource.
        return Err(StreamError::new("not-authorized").into());
    };
    let resource = child_text(request, "resource", ns::BIND);
    match open(negotiation, resource.as_deref()).await {
        Ok(parcel) => {
            let mut bound = Element::bare("bind", ns::BIND);
            bound.append_child(text_element("jid", ns::BIND, parcel.session.jid().as_str()));
            let mut answer = result(&iq);
            answer.append_child(bound);
            negotiation.output.element(&answer);
            Ok(Next::Bound(Box::new(parcel)))
        }
        Err(error) => {
            let mut answer = result(&iq);
            crate::xmpp::element::set(&mut answer, "type", "error");
            answer.append_child(error.to_element());
            negotiation.output.element(&answer);
            Ok(Next::Element)
        }
    }
}

/// A new session of whoever has logged in.
pub(super) async fn open(
    negotiation: &mut Negotiation,
    resource: Option<&str>,
) -> Result<Parcel, StanzaError> {
    let account: &BareJid = negotiation
        .still_account()
        .ok_or_else(StanzaError::not_authorized)?;
    let server = negotiation.streams.server();
    let (session, mailbox) = server
        .bind(account, resource, negotiation.origin.clone())
        .await?;
    Ok(Parcel {
        session,
        mailbox,
        queue: Queue::default(),
        held: Vec::new(),
        handled: 0,
        id: None,
        managed: false,
        inactive: false,
    })
}

fn result(iq: &Element) -> Element {
    let id = iq.attr("id").unwrap_or_default();
    element("iq", ns::JABBER_CLIENT, &[("type", "result"), ("id", id)])
}

/// What answers a request for a session of RFC 3921. `None`: it is no such request.
pub(super) fn session(iq: &Element) -> Option<Element> {
    let asked =
        iq.name() == "iq" && iq.attr("type") == Some("set") && iq.has_child("session", ns::SESSION);
    // Another entity's affair, should somebody ask one.
    let ours = iq
        .attr("to")
        .is_none_or(|to| Jid::new(to).is_ok_and(|to| to.node().is_none()));
    (asked && ours).then(|| result(iq))
}
