//! XEP-0478: what a stanza may have, and when an idle stream is asked whether it is alive.

use minidom::Element;

use super::negotiation::{Feature, Negotiation, Next};
use crate::xmpp::element::text_element;
use crate::xmpp::ns;

pub(super) const FEATURE: Feature = Feature {
    name: "limits",
    needs: 0,
    forbids: 0,
    list,
    takes: &[],
    negotiate: |_, _| Box::pin(std::future::ready(Ok(Next::Element))),
};

fn list(negotiation: &Negotiation) -> Vec<Element> {
    let most = negotiation.streams.server().settings().limits.stanza_bytes;
    let mut limits = Element::bare("limits", ns::STREAM_LIMITS);
    limits.append_child(text_element(
        "max-bytes",
        ns::STREAM_LIMITS,
        &most.to_string(),
    ));
    vec![limits]
}
