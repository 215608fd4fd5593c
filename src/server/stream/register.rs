//! Registration before the login (XEP-0077, 8), with the token of an invitation where it needs one (XEP-0445).

use minidom::Element;

use super::negotiation::{Answer, Feature, Negotiation, Next, state};
use super::sasl::MOST_FAILURES;
use crate::server::StreamError;
use crate::server::feature::register::Registrar;
use crate::xmpp::ns;

pub(super) const FEATURE: Feature = Feature {
    name: "register",
    needs: state::TRUSTED,
    forbids: state::AUTHENTICATED | state::LOCAL,
    list: |negotiation| {
        let settings = negotiation.streams.server().settings();
        Registrar::features(&settings)
    },
    takes: &[("iq", ns::JABBER_CLIENT)],
    negotiate,
};

fn negotiate(negotiation: &mut Negotiation, iq: Element) -> Answer<'_> {
    Box::pin(async move {
        let refused = StreamError::new("not-authorized");
        let address = negotiation.origin.address.ok_or(refused.clone())?;
        let streams = negotiation.streams.clone();
        if streams.failures().refusal(address).is_some() {
            return Err(StreamError::new("policy-violation")
                .text("too many failed attempts from this address")
                .into());
        }
        let mut registrar = Registrar {
            server: streams.server(),
            address,
            shown: &mut negotiation.invitation,
        };
        let answer = registrar.answer(&iq).await.ok_or(refused)?;
        negotiation.output.element(&answer);
        // A token is guessed as seldom as a password.
        if iq.has_child("preauth", ns::PREAUTH) && answer.attr("type") == Some("error") {
            streams.failures().count(address);
            negotiation.failures = negotiation.failures.saturating_add(1);
            if negotiation.failures >= MOST_FAILURES {
                return Err(StreamError::new("policy-violation")
                    .text("too many failed attempts")
                    .into());
            }
        }
        Ok(Next::Element)
    })
}
