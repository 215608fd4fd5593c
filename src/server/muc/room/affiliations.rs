//! The people a room knows: by bare JID, or by domain where a whole one is banned (XEP-0045, 9.2).

use std::collections::BTreeMap;

use jid::BareJid;
use serde::{Deserialize, Serialize};

use crate::server::muc::rank::Affiliation;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Affiliate {
    pub(super) affiliation: Affiliation,
    /// Why, mostly of a ban.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// The nick that is kept for them (XEP-0045, 7.12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nick: Option<String>,
}

/// Those without an affiliation are not in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Affiliations(BTreeMap<BareJid, Affiliate>);

impl Affiliations {
    pub(super) fn of(&self, who: &BareJid) -> Affiliation {
        match self.0.get(who) {
            Some(affiliate) => affiliate.affiliation,
            None if self.bans_domain_of(who) => Affiliation::Outcast,
            None => Affiliation::None,
        }
    }

    /// The domain itself or one above it.
    fn bans_domain_of(&self, who: &BareJid) -> bool {
        let mut domain = who.domain().as_str();
        loop {
            let banned = BareJid::new(domain).ok().and_then(|jid| self.0.get(&jid));
            if banned.is_some_and(|entry| entry.affiliation == Affiliation::Outcast) {
                return true;
            }
            match domain.split_once('.') {
                Some((_, above)) => domain = above,
                None => return false,
            }
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &BareJid> {
        let all = self.0.iter();
        let members = all.filter(|(_, one)| one.affiliation >= Affiliation::Member);
        members.map(|(who, _)| who)
    }

    pub(super) fn get(&self, who: &BareJid) -> Option<&Affiliate> {
        self.0.get(who)
    }

    /// A banned person's nick is not kept (XEP-0045, 9.1).
    pub(super) fn set(&mut self, who: BareJid, affiliation: Affiliation, reason: Option<String>) {
        if affiliation == Affiliation::None {
            self.0.remove(&who);
            return;
        }
        let nick = self.0.get(&who).and_then(|old| old.nick.clone());
        let affiliate = Affiliate {
            affiliation,
            reason,
            nick: nick.filter(|_| affiliation >= Affiliation::Member),
        };
        self.0.insert(who, affiliate);
    }

    pub(super) fn insert(&mut self, who: BareJid, affiliate: Affiliate) {
        self.0.insert(who, affiliate);
    }

    /// Keeps a nick for somebody who is at least a member.
    pub(super) fn reserve(&mut self, who: &BareJid, nick: String) {
        if let Some(affiliate) = self.0.get_mut(who)
            && affiliate.affiliation >= Affiliation::Member
        {
            affiliate.nick = Some(nick);
        }
    }

    /// Keeps no nick for somebody any more. `false`: there was none.
    pub(super) fn release(&mut self, who: &BareJid) -> bool {
        let nick = self.0.get_mut(who).and_then(|one| one.nick.take());
        nick.is_some()
    }

    /// For whom a nick is kept.
    pub(super) fn holder(&self, nick: &str) -> Option<&BareJid> {
        let holder = self
            .0
            .iter()
            .find(|(_, one)| one.nick.as_deref() == Some(nick));
        holder.map(|(who, _)| who)
    }

    pub(super) fn with(
        &self,
        affiliation: Affiliation,
    ) -> impl Iterator<Item = (&BareJid, &Affiliate)> {
        self.0
            .iter()
            .filter(move |(_, one)| one.affiliation == affiliation)
    }

    /// Whether the room would have no owner without this one.
    pub(super) fn is_last_owner(&self, who: &BareJid) -> bool {
        let mut owners = self.with(Affiliation::Owner).map(|(owner, _)| owner);
        owners.next() == Some(who) && owners.next().is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&BareJid, &Affiliate)> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What they weigh: addresses, nicks and reasons.
    pub(super) fn bytes(&self) -> usize {
        let texts = |(who, one): (&BareJid, &Affiliate)| {
            let nick = one.nick.as_ref().map_or(0, String::len);
            let reason = one.reason.as_ref().map_or(0, String::len);
            who.as_str().len() + nick + reason
        };
        self.0.iter().map(texts).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_domain_covers_what_is_below_it() {
        let mut affiliations = Affiliations::default();
        let jid = |text: &str| BareJid::new(text).unwrap();
        affiliations.set(jid("evil.example"), Affiliation::Outcast, None);
        affiliations.set(jid("good@evil.example"), Affiliation::Member, None);
        affiliations.set(jid("nice.example"), Affiliation::Member, None);
        for (who, expected) in [
            ("evil.example", Affiliation::Outcast),
            ("x@evil.example", Affiliation::Outcast),
            ("x@sub.evil.example", Affiliation::Outcast),
            ("good@evil.example", Affiliation::Member),
            ("x@notevil.example", Affiliation::None),
            ("x@example", Affiliation::None),
            ("x@nice.example", Affiliation::None),
        ] {
            assert_eq!(affiliations.of(&jid(who)), expected, "{who}");
        }
    }
}
