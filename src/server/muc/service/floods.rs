//! How much one person may ask of rooms where it costs others: presence goes to everybody there, invitations and requests to
//! people who have not asked for them.

use std::time::Duration;

use crate::server::abuse::Rate;
use crate::server::muc::event::Incoming;
use crate::xmpp::ns;

/// One presence in so many milliseconds, on the average; thirty seconds' worth at once, as a client that comes back enters
/// all its rooms.
pub(super) const RATE: Rate = Rate::new(150, Duration::from_millis(200));
/// What that costs.
const PRESENCE: u32 = 1;
/// One invitation, or request to those who decide, in a second.
const REQUEST: u32 = 5;
/// Rooms that were not there: as many at once as there may be of one person, usually.
pub(super) const CREATIONS: Rate = Rate::new(100, Duration::from_secs(3));

/// What a stanza to a room costs its sender; `None`: nothing, or what the limits of streams count already.
pub(super) fn cost(incoming: &Incoming) -> Option<u32> {
    let stanza = &incoming.stanza;
    match (stanza.name(), incoming.kind()) {
        ("presence", "" | "probe") => Some(PRESENCE),
        ("message", "" | "normal") if incoming.nick().is_none() => Some(REQUEST),
        ("iq", "set") if stanza.has_child("query", ns::REGISTER) => Some(REQUEST),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_others_costs_the_sender() {
        let table = [
            ("<presence to='a@b/c'/>", Some(PRESENCE)),
            ("<presence to='a@b/c' type='unavailable'/>", None),
            ("<message to='a@b' type='groupchat'/>", None),
            ("<message to='a@b'/>", Some(REQUEST)),
            ("<message to='a@b/c' type='chat'/>", None),
            (
                "<iq to='a@b' type='set'><query xmlns='jabber:iq:register'/></iq>",
                Some(REQUEST),
            ),
            ("<iq to='a@b' type='get'/>", None),
        ];
        for (xml, expected) in table {
            let mut stanza = crate::server::testing::stanza(xml);
            crate::xmpp::element::set(&mut stanza, "from", "x@y/z");
            assert_eq!(cost(&Incoming::read(stanza).unwrap()), expected, "{xml}");
        }
    }
}
