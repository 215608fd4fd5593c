//! STARTTLS (RFC 6120, 5).

use minidom::Element;

use super::Security;
use super::negotiation::{Answer, Feature, Negotiation, Next, state};
use super::wire::{self, End};
use crate::server::StreamError;
use crate::xmpp::ns;

pub(super) const FEATURE: Feature = Feature {
    name: "starttls",
    needs: state::BYTES,
    forbids: state::ENCRYPTED | state::AUTHENTICATED,
    list,
    takes: &[("starttls", ns::TLS)],
    negotiate,
};

fn list(negotiation: &Negotiation) -> Vec<Element> {
    let mut starttls = Element::bare("starttls", ns::TLS);
    if !negotiation.is(state::TRUSTED) {
        starttls.append_child(Element::bare("required", ns::TLS));
    }
    vec![starttls]
}

fn negotiate(negotiation: &mut Negotiation, _: Element) -> Answer<'_> {
    Box::pin(start(negotiation))
}

async fn start(negotiation: &mut Negotiation) -> Result<Next, End> {
    // What stands behind the request was not protected, and would be read as if it were (CVE-2011-0411).
    if !negotiation.input.reader.is_empty() {
        return Err(StreamError::new("policy-violation")
            .text("nothing may follow <starttls/>")
            .into());
    }
    negotiation
        .output
        .element(&Element::bare("proceed", ns::TLS));
    negotiation.output.flush().await?;
    // Something must stand in their place while the handshake lasts.
    let (input, output) = wire::bytes(Box::new(tokio::io::empty()), negotiation.streams.limits());
    let input = std::mem::replace(&mut negotiation.input, input);
    let output = std::mem::replace(&mut negotiation.output, output);
    let Some((io, mut reader)) = wire::unsplit(input, output) else {
        return Err(End::Lost);
    };
    // RFC 6120, 5.4.3.2: a handshake that fails ends the connection.
    let (io, bindings) = negotiation.streams.accept(io, Security::StartTls).await?;
    reader.reset();
    (negotiation.input, negotiation.output) = wire::resplit(io, reader);
    negotiation.bindings = bindings;
    negotiation.state |= state::ENCRYPTED | state::TRUSTED;
    "tls".clone_into(&mut negotiation.origin.via);
    Ok(Next::Restart)
}
