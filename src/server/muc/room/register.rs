//! Registering with a room (XEP-0045, 7.10): a member keeps a nick; who is none becomes one, at once or when an admin agrees
//! (9.9), as the owners have it.

use std::collections::BTreeMap;

use jid::{BareJid, FullJid};
use minidom::Element;

use super::enter::is_nick;
use super::{Room, prepared};
use crate::server::StanzaError;
use crate::server::mail::Mail;
use crate::server::muc::config::Registration;
use crate::server::muc::event::{Effect, Incoming};
use crate::server::muc::rank::Affiliation;
use crate::xmpp::element::{element, text_element};
use crate::xmpp::form::{self, Field, Filled, Form};
use crate::xmpp::ns;

const NICK: &str = "muc#register_roomnick";
const ALLOW: &str = "muc#register_allow";
/// As in requests for a voice (8.6): a nick alone tells an admin little.
const JID: &str = "muc#jid";

/// So many people may wait for an answer.
const MOST: usize = 50;

/// Who has asked to become a member, with the nick they want.
#[derive(Clone, Debug, Default)]
pub(super) struct Applicants(BTreeMap<BareJid, String>);

impl Applicants {
    pub(super) fn insert(&mut self, who: BareJid, nick: String) {
        self.0.insert(who, nick);
    }

    /// Who wants this nick.
    pub(super) fn holder(&self, nick: &str) -> Option<&BareJid> {
        let mut applicants = self.iter();
        let found = applicants.find(|(_, wanted)| *wanted == nick);
        found.map(|(who, _)| who)
    }

    pub(super) fn get(&self, who: &BareJid) -> Option<&str> {
        self.0.get(who).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&BareJid, &str)> {
        self.0.iter().map(|(who, nick)| (who, nick.as_str()))
    }
}

impl Room {
    /// What somebody is asked for who wants to register, and what they have registered.
    pub(super) fn registration(&self, incoming: &Incoming) -> Result<Element, StanzaError> {
        let who = incoming.from.to_bare();
        self.may_register(&who)?;
        let own = self.affiliations.get(&who);
        let own = own.and_then(|own| own.nick.as_deref());
        let mut query = Element::bare("query", ns::REGISTER);
        if let Some(nick) = own {
            query.append_child(Element::bare("registered", ns::REGISTER));
            query.append_child(text_element("username", ns::REGISTER, nick));
        }
        let text = format!("Choose the nick that {} keeps for you.", self.address);
        query.append_child(text_element("instructions", ns::REGISTER, &text));
        let nick = Field::new("text-single", NICK).label("Nickname").required();
        let nick = own.into_iter().fold(nick, Field::value);
        let form = Form::new("form", ns::MUC_REGISTER)
            .title(&format!("Registration with {}", self.address))
            .instructions(&text)
            .field(nick);
        query.append_child(form.build());
        Ok(query)
    }

    pub(super) fn register(
        &mut self,
        incoming: &Incoming,
        query: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let who = incoming.from.to_bare();
        if query.has_child("remove", ns::REGISTER) {
            return self.unregister(&who, out);
        }
        self.may_register(&who)?;
        let form = form::find(query).ok_or_else(StanzaError::bad_request)?;
        let form = Filled::read(form)?;
        if form.cancelled {
            return Ok(());
        }
        let nick = form.value(NICK);
        let nick = nick.filter(|_| form.form_type() == Some(ns::MUC_REGISTER));
        let nick = prepared(nick.ok_or_else(StanzaError::bad_request)?)?;
        is_nick(&nick)?;
        self.may_reserve(&nick, &who)?;
        match self.config.registration {
            _ if self.affiliations.of(&who) >= Affiliation::Member => {
                self.reserve(&who, nick, out);
            }
            Registration::Approval => self.apply(&who, nick, out)?,
            // Who may not at all has been told so.
            Registration::Open | Registration::Closed => self.admit(&who, nick, out)?,
        }
        Ok(())
    }

    fn may_register(&self, who: &BareJid) -> Result<(), StanzaError> {
        match self.affiliations.of(who) {
            Affiliation::Outcast => Err(StanzaError::forbidden()),
            Affiliation::None if self.config.registration == Registration::Closed => {
                Err(StanzaError::not_allowed().text("Nobody registers with this room"))
            }
            _ => Ok(()),
        }
    }

    /// A member is none any more, who is more than that keeps it; neither keeps the nick (XEP-0077, 3.2).
    fn unregister(&mut self, who: &BareJid, out: &mut Vec<Effect>) -> Result<(), StanzaError> {
        let affiliation = self.affiliations.of(who);
        if affiliation == Affiliation::Outcast {
            return Err(StanzaError::forbidden());
        }
        if affiliation == Affiliation::Member {
            self.set_affiliation(who, Affiliation::None, None, None, out);
        } else if self.affiliations.release(who) {
            self.persist_affiliation(who, out);
        } else if self.applicants.get(who).is_some() {
            self.dismiss(who, out);
        } else {
            return Err(StanzaError::registration_required());
        }
        Ok(())
    }

    fn admit(
        &mut self,
        who: &BareJid,
        nick: String,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        self.make_room_for(1)?;
        self.set_affiliation(who, Affiliation::Member, None, None, out);
        self.reserve(who, nick, out);
        Ok(())
    }

    fn apply(
        &mut self,
        who: &BareJid,
        nick: String,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        if self.applicants.0.len() >= MOST && self.applicants.get(who).is_none() {
            return Err(StanzaError::resource_constraint().text("Many others wait already"));
        }
        let to = self
            .occupants
            .sessions(|one| self.affiliations.of(&one.who) >= Affiliation::Admin);
        if !to.is_empty() {
            let stanza = Mail::for_many(self.application(who, &nick));
            out.push(Effect::Broadcast { to, stanza });
        }
        self.applicants.insert(who.clone(), nick);
        self.persist_applicant(who, out);
        Ok(())
    }

    /// Who decides learns of those who wait when coming in, too.
    pub(super) fn tell_applicants(&self, to: &FullJid, out: &mut Vec<Effect>) {
        let applicants = self.applicants.iter();
        let forms = applicants.map(|(who, nick)| Mail::for_many(self.application(who, nick)));
        let stanzas: Vec<Mail> = forms.collect();
        if !stanzas.is_empty() {
            let to = to.clone();
            out.push(Effect::Deliver { to, stanzas });
        }
    }

    /// The form of 9.9.
    fn application(&self, who: &BareJid, nick: &str) -> Element {
        let form = Form::new("form", ns::MUC_REGISTER)
            .title("Registration request")
            .instructions("Should this person become a member, with this nick?")
            .field(
                Field::new("jid-single", JID)
                    .label("User ID")
                    .value(who.as_str()),
            )
            .field(
                Field::new("text-single", NICK)
                    .label("Desired Nickname")
                    .value(nick),
            )
            .field(
                Field::boolean(ALLOW, false).label("Allow this person to register with the room?"),
            )
            .build();
        let from = [("from", self.address.as_str())];
        let mut message = element("message", ns::JABBER_CLIENT, &from);
        message.append_child(form);
        message
    }

    /// An admin's answer. About who does not wait any more another one was faster.
    pub(super) fn approve(
        &mut self,
        incoming: &Incoming,
        form: &Filled,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        if self.affiliation(&incoming.from) < Affiliation::Admin {
            return Err(StanzaError::forbidden());
        }
        if form.cancelled {
            return Ok(());
        }
        let nick = form.value(NICK).ok_or_else(StanzaError::bad_request)?;
        let allowed = form.value(ALLOW).and_then(form::boolean);
        let allowed = allowed.ok_or_else(StanzaError::bad_request)?;
        let Some(who) = self.applicants.holder(nick).cloned() else {
            return Ok(());
        };
        // Somebody else may have asked for the same nick since the form was sent.
        if form.value(JID).is_some_and(|jid| jid != who.as_str()) {
            return Ok(());
        }
        let nick = nick.to_owned();
        if allowed {
            self.admit(&who, nick, out)
        } else {
            self.dismiss(&who, out);
            Ok(())
        }
    }

    /// Nothing is asked for somebody any more.
    pub(super) fn dismiss(&mut self, who: &BareJid, out: &mut Vec<Effect>) {
        if self.applicants.0.remove(who).is_some() {
            self.persist_applicant(who, out);
        }
    }
}
