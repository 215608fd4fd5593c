//! What owners do: configure (XEP-0045, 10.1 and 10.2) and destroy (10.9).

use std::collections::BTreeSet;

use jid::BareJid;
use minidom::Element;

use super::announce::Notice;
use super::leave::Ending;
use super::{Room, reason};
use crate::server::StanzaError;
use crate::server::muc::config::{Roles, Submitted};
use crate::server::muc::event::{Effect, Incoming};
use crate::server::muc::rank::Affiliation;
use crate::xmpp::element::child_text;
use crate::xmpp::form::{self, Filled};
use crate::xmpp::ns;

impl Room {
    pub(super) fn configuration(&self, incoming: &Incoming) -> Result<Element, StanzaError> {
        self.must_own(incoming)?;
        let of = |affiliation| -> Vec<&str> {
            let people = self.affiliations.with(affiliation);
            people.map(|(who, _)| who.as_str()).collect()
        };
        let (owners, admins) = (of(Affiliation::Owner), of(Affiliation::Admin));
        let mut query = Element::bare("query", ns::MUC_OWNER);
        query.append_child(self.config.form(&self.address, &owners, &admins));
        Ok(query)
    }

    pub(super) fn own(
        &mut self,
        now: i64,
        incoming: &Incoming,
        query: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        self.must_own(incoming)?;
        if let Some(destroy) = query.get_child("destroy", ns::MUC_OWNER) {
            let venue = destroy.attr("jid").map(BareJid::new).transpose();
            let ending = Ending {
                venue: venue.map_err(|_malformed| StanzaError::jid_malformed())?,
                reason: reason(destroy)?,
                password: child_text(destroy, "password", ns::MUC_OWNER),
                at: now,
            };
            self.destroy(&ending, out);
            return Ok(());
        }
        let form = form::find(query);
        let form = Filled::read(form.ok_or_else(StanzaError::bad_request)?)?;
        if !form.cancelled {
            return self.configure(incoming, &form, out);
        }
        if self.locked {
            self.destroy(&Ending::default(), out);
        }
        Ok(())
    }

    pub(super) fn must_own(&self, incoming: &Incoming) -> Result<(), StanzaError> {
        if self.affiliation(&incoming.from) == Affiliation::Owner {
            Ok(())
        } else {
            Err(StanzaError::forbidden())
        }
    }

    fn configure(
        &mut self,
        incoming: &Incoming,
        form: &Filled,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let submitted = self.config.submitted(form)?;
        self.check_lists(&submitted)?;
        let mut new = submitted.config;
        if !self.limits.archive {
            new.archived = self.config.archived;
        }
        let old = std::mem::replace(&mut self.config, new);
        self.locked = false;
        if old.persistent == self.config.persistent {
            self.persist_state(out);
        } else if self.config.persistent {
            self.persist_all(out);
        } else {
            self.forget_all(out);
        }
        self.change_list(incoming, Affiliation::Owner, submitted.owners, out);
        self.change_list(incoming, Affiliation::Admin, submitted.admins, out);
        if self.config.members_only && !old.members_only {
            self.expel_strangers(out);
        }
        self.show_again(old.presence_broadcast, out);
        let codes = old.codes(&self.config);
        self.notify(&codes, out);
        Ok(())
    }

    /// Shows those of the roles whose presence is broadcast now, and hides those of which it is no longer.
    fn show_again(&mut self, old: Roles, out: &mut Vec<Effect>) {
        for occupant in self.occupants.iter() {
            let (was, is) = (old.has(occupant.role), self.is_shown(occupant.role));
            if was && !is {
                self.hide(&occupant.nick, &Notice::default(), out);
            } else if is && !was {
                self.announce(&occupant.nick, &Notice::default(), out);
            }
        }
    }

    /// A room keeps an owner, and nobody is in both lists.
    fn check_lists(&self, submitted: &Submitted) -> Result<(), StanzaError> {
        let owners = submitted.owners.as_deref();
        let admins = submitted.admins.as_deref().unwrap_or_default();
        if owners.is_some_and(<[_]>::is_empty) {
            return Err(StanzaError::conflict().text("A room needs an owner"));
        }
        self.make_room_for(owners.map_or(0, <[_]>::len) + admins.len())
    }

    /// Gives the affiliation to those in the list, and takes it from those who are not: an owner becomes an admin, an admin
    /// a member, as the examples of 10.2 have it. Who is above stays above.
    fn change_list(
        &mut self,
        incoming: &Incoming,
        affiliation: Affiliation,
        list: Option<Vec<BareJid>>,
        out: &mut Vec<Effect>,
    ) {
        let Some(list) = list else { return };
        let list: BTreeSet<BareJid> = list.into_iter().collect();
        let had = self.affiliations.with(affiliation);
        let had: BTreeSet<BareJid> = had.map(|(who, _)| who.clone()).collect();
        let actor = self.actor(&incoming.from);
        for who in list.difference(&had) {
            if self.affiliations.of(who) < affiliation {
                self.set_affiliation(who, affiliation, Some(actor.clone()), None, out);
            }
        }
        let lower = match affiliation {
            Affiliation::Owner => Affiliation::Admin,
            _ => Affiliation::Member,
        };
        for who in had.difference(&list) {
            self.set_affiliation(who, lower, Some(actor.clone()), None, out);
        }
    }
}
