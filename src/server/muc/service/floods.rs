//! How much one person may ask of rooms where it costs others: presence goes to everybody there, invitations and requests to
//! people who have not asked for them.

use std::collections::HashMap;

use jid::BareJid;

use crate::server::muc::event::Incoming;
use crate::xmpp::ns;

/// One presence in so many milliseconds, on the average.
const PRESENCE: i64 = 200;
/// One invitation, or request to those who decide.
const REQUEST: i64 = 1_000;
/// So many milliseconds' worth at once: a client that comes back enters all its rooms.
const BURST: i64 = 30_000;
/// When more people than this are remembered, those who were slow are forgotten.
const REMEMBERED: usize = 4_096;

/// When each person's allowance is whole again, in milliseconds since 1970 (the generic cell rate algorithm).
#[derive(Debug, Default)]
pub(super) struct Floods(HashMap<BareJid, i64>);

/// What a stanza to a room costs its sender; `None`: nothing, or what the limits of streams count already.
pub(super) fn cost(incoming: &Incoming) -> Option<i64> {
    let stanza = &incoming.stanza;
    match (stanza.name(), incoming.kind()) {
        ("presence", "" | "probe") => Some(PRESENCE),
        ("message", "" | "normal") if incoming.nick().is_none() => Some(REQUEST),
        ("iq", "set") if stanza.has_child("query", ns::REGISTER) => Some(REQUEST),
        _ => None,
    }
}

impl Floods {
    pub(super) fn admit(&mut self, who: &BareJid, cost: i64, now: i64) -> bool {
        if self.0.len() > REMEMBERED {
            self.0.retain(|_, whole| *whole > now);
        }
        let whole = self.0.get(who).copied().unwrap_or(now).max(now);
        let next = whole.saturating_add(cost);
        if next.saturating_sub(now) > BURST {
            return false;
        }
        self.0.insert(who.clone(), next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_a_few_each_second() {
        let mut floods = Floods::default();
        let who = BareJid::new("a@b").unwrap();
        let burst = (0..1_000)
            .filter(|_| floods.admit(&who, PRESENCE, 5))
            .count();
        assert_eq!(burst, 150);
        assert!(
            floods.admit(&BareJid::new("c@b").unwrap(), PRESENCE, 5),
            "others are not concerned"
        );
        let later = (0..1_000)
            .filter(|_| floods.admit(&who, PRESENCE, 1_005))
            .count();
        assert_eq!(later, 5);
        assert!(floods.admit(&who, PRESENCE, 100_000));
    }

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
