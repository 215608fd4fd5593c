//! How often one person may enter rooms: each time costs a presence to everybody there.

use std::collections::HashMap;

use jid::BareJid;

/// One entry in so many milliseconds, on the average.
const INTERVAL: i64 = 200;
/// So many milliseconds' worth at once: a client that comes back enters all its rooms.
const BURST: i64 = 30_000;
/// When more people than this are remembered, those who were slow are forgotten.
const REMEMBERED: usize = 4_096;

/// When each person's allowance is whole again, in milliseconds since 1970 (the generic cell rate algorithm).
#[derive(Debug, Default)]
pub(super) struct Floods(HashMap<BareJid, i64>);

impl Floods {
    pub(super) fn admit(&mut self, who: &BareJid, now: i64) -> bool {
        if self.0.len() > REMEMBERED {
            self.0.retain(|_, whole| *whole > now);
        }
        let whole = self.0.get(who).copied().unwrap_or(now).max(now);
        let next = whole.saturating_add(INTERVAL);
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
        let burst = (0..1_000).filter(|_| floods.admit(&who, 5)).count();
        assert_eq!(burst, 150);
        assert!(
            floods.admit(&BareJid::new("c@b").unwrap(), 5),
            "others are not concerned"
        );
        let later = (0..1_000).filter(|_| floods.admit(&who, 1_005)).count();
        assert_eq!(later, 5);
        assert!(floods.admit(&who, 100_000));
    }
}
