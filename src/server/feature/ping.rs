//! XEP-0199: XMPP Ping. The server answers for itself and for its accounts.

use super::super::Server;
use super::super::router::{IqType, Router, Target};
use crate::xmpp::ns;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    let targets = [Target::Domain, Target::Own];
    router.disco(&targets, ns::PING);
    router.iq(&targets, IqType::Get, "ping", ns::PING, |_| async {
        Ok(None)
    })
}
