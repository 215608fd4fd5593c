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
        let limit = streams.server().settings().limits.login_failures_per_ip;
        if streams.server().abuse().is_refused(address, limit).await {
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
        // A token is guessed as seldom as a password.
        if iq.has_child("preauth", ns::PREAUTH) && answer.attr("type") == Some("error") {
            streams.server().abuse().failed(address, limit).await;
            negotiation.failures = negotiation.failures.saturating_add(1);
            if negotiation.failures >= MOST_FAILURES {
                negotiation.output.element(&answer);
                return Err(StreamError::new("policy-violation")
                    .text("too many failed attempts")
                    .into());
            }
        }
        negotiation.output.element(&answer);
        Ok(Next::Element)
    })
}
