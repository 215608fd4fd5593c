//! A room (XEP-0045) as a pure state machine: events in, effects out, no clock, no I/O, nothing random but its secret.

mod admin;
mod affiliations;
mod announce;
mod avatar;
mod disco;
mod enter;
mod invite;
mod leave;
mod moderate;
mod nick;
mod occupants;
mod owner;
mod register;
mod saved;
mod speak;
mod voice;
mod whisper;

#[cfg(test)]
mod tests;

use jid::{BareJid, FullJid, Jid, ResourcePart};
use minidom::Element;

use super::config::{Config, Whois};
use super::event::{Effect, Event, Incoming};
use super::rank::{Affiliation, Rank, Role};
use crate::server::StanzaError;
use crate::xmpp::element::child_text;
use crate::xmpp::form::{self, Filled};
use crate::xmpp::ns;
use affiliations::Affiliations;
use avatar::Avatar;
use leave::Ending;
use occupants::{Occupant, Occupants};
use register::Applicants;
pub use saved::Stored;
use whisper::Forwarded;

/// What the service allows each of its rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub occupants: usize,
    /// People with an affiliation.
    pub affiliations: usize,
    /// Bytes of their addresses, nicks and reasons.
    pub affiliation_bytes: usize,
    /// Sessions of one person under one nick.
    pub sessions: usize,
    /// Whether the service has an archive.
    pub archive: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // All of them, and what was said, fit into the mailbox of who enters.
            occupants: 800,
            affiliations: 10_000,
            affiliation_bytes: 1_048_576,
            sessions: 20,
            archive: false,
        }
    }
}

/// How many bytes of somebody's choice a room keeps and tells everybody.
const LONGEST_NICK: usize = 256;
const LONGEST_REASON: usize = 1_024;
const LONGEST_SUBJECT: usize = 4_096;
/// Of the ids of requests that wait, and of messages that are taken back.
const LONGEST_ID: usize = 1_024;

/// The subject and who set it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Subject {
    text: String,
    nick: String,
    occupant_id: String,
    at: i64,
}

#[derive(Debug)]
pub struct Room {
    address: BareJid,
    creator: BareJid,
    config: Config,
    limits: Limits,
    affiliations: Affiliations,
    occupants: Occupants,
    subject: Option<Subject>,
    /// The key of its occupants' ids (XEP-0421).
    secret: [u8; 32],
    forwarded: Forwarded,
    /// Who asked to become a member.
    applicants: Applicants,
    avatar: Avatar,
    /// Nobody has entered since it was created (status 201).
    fresh: bool,
    /// Not yet configured by its creator (XEP-0045, 10.1.1): nobody else enters.
    locked: bool,
    destroyed: bool,
}

/// What the list of rooms says of one (XEP-0045, 6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub name: String,
    pub public: bool,
    pub creator: BareJid,
}

impl Room {
    /// A room that is being created: its creator is to enter next. Locked until configured, if so wanted.
    pub fn create(
        address: BareJid,
        creator: BareJid,
        config: Config,
        limits: Limits,
        secret: [u8; 32],
        locked: bool,
    ) -> Self {
        let mut affiliations = Affiliations::default();
        affiliations.set(creator.clone(), Affiliation::Owner, None);
        Self {
            address,
            creator,
            config,
            limits,
            affiliations,
            occupants: Occupants::default(),
            subject: None,
            secret,
            forwarded: Forwarded::default(),
            applicants: Applicants::default(),
            avatar: Avatar::default(),
            fresh: true,
            locked,
            destroyed: false,
        }
    }

    pub fn address(&self) -> &BareJid {
        &self.address
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn listing(&self) -> Listing {
        Listing {
            name: self.config.name.clone(),
            public: self.config.public && !self.locked,
            creator: self.creator.clone(),
        }
    }

    /// Those who belong to a room that lasts, whether or not they are in it.
    pub fn members(&self) -> impl Iterator<Item = &BareJid> {
        let members = self.affiliations.members();
        members.filter(|_| self.config.persistent)
    }

    pub fn occupants(&self) -> usize {
        self.occupants.len()
    }

    /// Lets the first occupant's creation stand although nobody configured it (XEP-0045, 10.1.1, step 5).
    pub fn unlock(&mut self) {
        self.locked = false;
    }

    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// What is to be done about an event. `now`: milliseconds since 1970.
    pub fn handle(&mut self, now: i64, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Stanza(incoming) => {
                if let Err(error) = self.stanza(now, &incoming, &mut out)
                    && let Some(answer) = incoming.error(&error)
                {
                    out.push(Effect::Reply(answer));
                }
            }
            Event::Gone(session) => self.lose(&session, None, &mut out),
            Event::Shutdown => self.clear(332, &mut out),
            Event::Destroy { venue, reason } => {
                let ending = Ending {
                    venue,
                    reason,
                    password: None,
                    at: now,
                };
                self.destroy(&ending, &mut out);
            }
        }
        if self.occupants.is_empty() && !self.config.persistent && !self.destroyed {
            self.end(None, &mut out);
        }
        out
    }

    fn stanza(
        &mut self,
        now: i64,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        if self.destroyed {
            return Err(StanzaError::item_not_found());
        }
        match (incoming.stanza.name(), incoming.nick()) {
            ("presence", _) => self.presence(now, incoming, out),
            ("message", None) => self.message(now, incoming, out),
            ("message", Some(nick)) => self.private_message(incoming, nick, out),
            ("iq", None) => self.iq(now, incoming, out),
            ("iq", Some(nick)) => self.private_iq(now, incoming, nick, out),
            _ => Err(StanzaError::bad_request()),
        }
    }

    fn presence(
        &mut self,
        now: i64,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        match incoming.kind() {
            "" => self.available(now, incoming, out),
            "unavailable" => {
                self.unavailable(incoming, out);
                Ok(())
            }
            "error" => {
                if let Some(session) = incoming.session() {
                    self.lose(session, leave::condition(&incoming.stanza), out);
                }
                Ok(())
            }
            "probe" => self.probe(incoming, out),
            _ => Err(StanzaError::bad_request()),
        }
    }

    /// A message to the room itself.
    fn message(
        &mut self,
        now: i64,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        match incoming.kind() {
            "groupchat" => self.groupchat(now, incoming, out),
            "error" => {
                self.failed(incoming, out);
                Ok(())
            }
            "headline" => Ok(()),
            _ if incoming.stanza.has_child("x", ns::MUC_USER) => self.invitation(incoming, out),
            _ => self.answer_form(incoming, out),
        }
    }

    /// A form for the room: a voice is asked for, or something that was asked of moderators or admins is decided.
    fn answer_form(
        &mut self,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let Some(form) = form::find(&incoming.stanza) else {
            return Err(self.unhandled(incoming));
        };
        let form = Filled::read(form)?;
        match form.form_type() {
            Some(ns::MUC_REQUEST) => self.voice(incoming, &form, out),
            Some(ns::MUC_REGISTER) => self.approve(incoming, &form, out),
            _ => Err(self.unhandled(incoming)),
        }
    }

    /// An IQ to the room itself.
    fn iq(
        &mut self,
        now: i64,
        incoming: &Incoming,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        let kind = incoming.kind();
        if !matches!(kind, "get" | "set") {
            return Ok(());
        }
        let Some(query) = incoming.stanza.children().next() else {
            return Err(StanzaError::bad_request());
        };
        if self.locked && self.affiliation(&incoming.from) != Affiliation::Owner {
            return Err(StanzaError::item_not_found());
        }
        let payload = match (kind, query.name(), query.ns().as_str()) {
            ("get", "query", ns::DISCO_INFO) => Some(self.disco_info(incoming, query)?),
            ("get", "query", ns::DISCO_ITEMS) => Some(self.disco_items(incoming, query)),
            ("get", "query", ns::MUC_ADMIN) => Some(self.list(incoming, query)?),
            ("set", "query", ns::MUC_ADMIN) => {
                self.administer(incoming, query, out)?;
                None
            }
            ("get", "query", ns::MUC_OWNER) => Some(self.configuration(incoming)?),
            ("set", "query", ns::MUC_OWNER) => {
                self.own(now, incoming, query, out)?;
                None
            }
            ("get", "query", ns::REGISTER) => Some(self.registration(incoming)?),
            ("set", "query", ns::REGISTER) => {
                self.register(incoming, query, out)?;
                None
            }
            ("set", "moderate", ns::MODERATE) | ("set", "apply-to", ns::FASTEN) => {
                self.moderate(now, incoming, query, out)?;
                None
            }
            ("get", "vCard", ns::VCARD) => Some(self.avatar.to_vcard()?),
            ("set", "vCard", ns::VCARD) => {
                self.set_avatar(incoming, query, out)?;
                None
            }
            ("get", "ping", ns::PING) => None,
            (_, "query" | "metadata", ns::MAM) => return self.archive(incoming, out),
            _ => return Err(StanzaError::service_unavailable()),
        };
        out.push(Effect::Reply(incoming.result(payload)));
        Ok(())
    }

    fn affiliation(&self, who: &Jid) -> Affiliation {
        self.affiliations.of(&who.to_bare())
    }

    /// Somebody's rank: one with the power of an admin has it without being here too.
    fn rank(&self, who: &Jid) -> Rank {
        let affiliation = self.affiliation(who);
        let present = who
            .try_as_full()
            .ok()
            .and_then(|session| self.occupants.by_session(session));
        let role = match present {
            Some(occupant) => occupant.role,
            None if affiliation >= Affiliation::Admin => Role::Moderator,
            None => Role::None,
        };
        Rank { affiliation, role }
    }

    fn default_role(&self, affiliation: Affiliation) -> Role {
        affiliation.role(self.config.moderated, self.config.members_only)
    }

    /// Whether an occupant sees real JIDs. The bots of the server itself do, which serve people by who they are.
    fn reveals_to(&self, occupant: &Occupant) -> bool {
        self.config.whois == Whois::Anyone
            || occupant.role == Role::Moderator
            || occupant.is_own_bot
    }

    /// Whether the others get the presence of an occupant of this role (`muc#roomconfig_presencebroadcast`).
    fn is_shown(&self, role: Role) -> bool {
        self.config.presence_broadcast.has(role)
    }

    /// The occupant whose session sends this, or the error for all who are not in the room (XEP-0045, 7.4).
    fn present(&self, incoming: &Incoming) -> Result<&Occupant, StanzaError> {
        let session = incoming.session();
        session
            .and_then(|session| self.occupants.by_session(session))
            .ok_or_else(absent)
    }

    fn is_occupant(&self, who: &Jid) -> bool {
        who.try_as_full()
            .is_ok_and(|session| self.occupants.by_session(session).is_some())
    }

    fn address_of(&self, nick: &str) -> String {
        format!("{}/{nick}", self.address)
    }

    /// The sessions of all occupants.
    fn everyone(&mut self) -> std::sync::Arc<[FullJid]> {
        self.occupants.everyone()
    }
}

/// XEP-0410 wants this condition, and a client enters again when it sees it.
fn absent() -> StanzaError {
    let mut error = StanzaError::not_acceptable().text("You are not in this room");
    error.kind = crate::server::ErrorType::Cancel;
    error
}

/// The text of a `<reason/>` in the same namespace as its parent.
fn reason(parent: &Element) -> Result<Option<String>, StanzaError> {
    let reason = child_text(parent, "reason", &parent.ns());
    let reason = reason.filter(|text| !text.is_empty());
    if reason
        .as_ref()
        .is_some_and(|text| text.len() > LONGEST_REASON)
    {
        return Err(StanzaError::not_acceptable().text("The reason is too long"));
    }
    Ok(reason)
}

/// A nick as it would be in an address (RFC 7622, 3.4).
fn prepared(nick: &str) -> Result<String, StanzaError> {
    let nick = ResourcePart::new(nick).map_err(|_malformed| StanzaError::jid_malformed())?;
    Ok(nick.as_str().to_owned())
}
