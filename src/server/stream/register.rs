//! Registration before the login (XEP-0077, 8), where anybody may register.

use minidom::Element;

use super::negotiation::{Answer, Feature, Negotiation, Next, state};
use crate::server::StreamError;
use crate::server::feature::register::Registrar;
use crate::xmpp::ns;

pub(super) const FEATURE: Feature = Feature {
    name: "register",
    needs: state::TRUSTED,
    forbids: state::AUTHENTICATED | state::LOCAL,
    list: |negotiation| {
        let settings = negotiation.streams.server().settings();
        Registrar::feature(&settings).into_iter().collect()
    },
    takes: &[("iq", ns::JABBER_CLIENT)],
    negotiate,
};

fn negotiate(negotiation: &mut Negotiation, iq: Element) -> Answer<'_> {
    Box::pin(async move {
        let refused = StreamError::new("not-authorized");
        let address = negotiation.origin.address.ok_or(refused.clone())?;
        let server = negotiation.streams.server().clone();
        let registrar = Registrar {
            server: &server,
            address,
        };
        let answer = registrar.answer(&iq).await.ok_or(refused)?;
        negotiation.output.element(&answer);
        Ok(Next::Element)
    })
}
