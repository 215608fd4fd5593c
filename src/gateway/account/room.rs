//! One room as a state machine without I/O (XEP-0045): what comes in and the time go in, [`Effect`]s come out. It knows
//! every way in (nick taken, password, locked new room) and every way out (kicked, banned, destroyed, members only,
//! service shut down, silently gone: XEP-0410).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jid::{BareJid, Jid};
use minidom::Element;
use tokio::time::Instant;
use xmpp_parsers::presence::{Presence, Type};

use crate::gateway::inbound::{Occupant, RoomView};
use crate::gateway::rooms::Password;
use crate::runtime::Backoff;
use crate::xmpp::element::{child_text, find};
use crate::xmpp::ns;

/// How long a join may take before it is tried again.
const JOIN_TIMEOUT: Duration = Duration::from_mins(1);
/// A room that was silent for this long is asked whether we are still in (XEP-0410).
const SILENCE: Duration = Duration::from_mins(5);
/// How long the answer to that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(30);
/// Occupants that are remembered; a larger room works, its further occupants are just not known by name.
const MAX_OCCUPANTS: usize = 10_000;
/// Ids of our own messages that are remembered to know their echoes.
const MAX_SENT: usize = 128;
/// Nicks that are tried before waiting.
const MAX_NICKS: u32 = 5;

/// What a room's disco#info says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub archive: bool,
    pub occupant_ids: bool,
    pub stanza_ids: bool,
}

/// Where we stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not asked to join since the session began.
    Idle,
    Joining {
        since: Instant,
    },
    Joined,
    /// Tried again at this time.
    Waiting {
        until: Instant,
        reason: String,
    },
    /// Out, and not tried again before somebody asks: why.
    Out(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask disco#info, then call [`Room::join`].
    Discover,
    Send(Box<Presence>),
    /// Accept a new room's default configuration (XEP-0045, 10.1.2).
    Configure,
    /// We are in.
    Joined,
    /// We are out for good; tell the operators and the log.
    Out(String),
    /// Self-ping this occupant JID (XEP-0410).
    Ping(Jid),
}

/// A room that we are in or want to be in.
#[derive(Clone, Debug)]
pub struct Room {
    pub jid: BareJid,
    pub phase: Phase,
    pub features: Features,
    password: Option<Password>,
    /// What we would like to be called.
    wanted: String,
    nick: String,
    /// How many variants of the nick were taken.
    taken: u32,
    own_occupant_id: Option<String>,
    occupants: BTreeMap<String, Occupant>,
    sent: VecDeque<String>,
    backoff: Backoff,
    heard: Instant,
    pinged: Option<Instant>,
    /// Consecutive answers to other bots.
    pub bot_rounds: u32,
}

impl Room {
    pub fn new(jid: BareJid, nick: &str, password: Option<Password>, now: Instant) -> Self {
        Self {
            jid,
            phase: Phase::Idle,
            features: Features::default(),
            password,
            wanted: nick.to_owned(),
            nick: nick.to_owned(),
            taken: 0,
            own_occupant_id: None,
            occupants: BTreeMap::new(),
            sent: VecDeque::new(),
            backoff: Backoff::new(Duration::from_secs(2), Duration::from_mins(10)),
            heard: now,
            pinged: None,
            bot_rounds: 0,
        }
    }

    /// What an operator or a new session asks: go in, whatever happened before.
    pub fn begin(&mut self, now: Instant) -> Vec<Effect> {
        self.occupants.clear();
        self.own_occupant_id = None;
        self.taken = 0;
        self.nick.clone_from(&self.wanted);
        self.pinged = None;
        self.phase = Phase::Joining { since: now };
        vec![Effect::Discover]
    }

    /// The session has ended: we are in no room.
    pub fn reset(&mut self) {
        if !matches!(self.phase, Phase::Out(_)) {
            self.phase = Phase::Idle;
        }
        self.occupants.clear();
        self.pinged = None;
    }

    /// What we would like to be called.
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// Takes another nick or password with the next join.
    pub fn rename(&mut self, nick: &str, password: Option<Password>) {
        nick.clone_into(&mut self.wanted);
        if password.is_some() {
            self.password = password;
        }
    }

    /// The presence that enters; no history is asked for (XEP-0045, 7.2.14), the archive has it.
    ///
    /// A room that we are in has only its features learnt: it was new, and could not be asked before.
    pub fn join(&mut self, features: Features, now: Instant) -> Vec<Effect> {
        if self.is_joined() {
            self.features = features;
        }
        if !matches!(self.phase, Phase::Joining { .. }) {
            return Vec::new();
        }
        self.features = features;
        self.phase = Phase::Joining { since: now };
        vec![Effect::Send(Box::new(self.presence_to_join()))]
    }

    fn presence_to_join(&self) -> Presence {
        use xmpp_parsers::muc::Muc;
        use xmpp_parsers::muc::muc::History;
        let mut muc = Muc::new().with_history(History::new().with_maxstanzas(0));
        if let Some(password) = &self.password {
            muc = muc.with_password(password.expose().to_owned());
        }
        let mut presence = Presence::available();
        presence.to = self.occupant_jid();
        presence.payloads.push(muc.into());
        presence
    }

    /// The presence that leaves.
    pub fn leave(&mut self) -> Option<Presence> {
        let inside = matches!(self.phase, Phase::Joined | Phase::Joining { .. });
        self.phase = Phase::Out("I left".into());
        let mut presence = Presence::new(Type::Unavailable);
        presence.to = self.occupant_jid();
        self.occupants.clear();
        inside.then_some(presence)
    }

    fn occupant_jid(&self) -> Option<Jid> {
        self.jid.with_resource_str(&self.nick).ok().map(Into::into)
    }

    pub fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    pub fn is_out(&self) -> bool {
        matches!(self.phase, Phase::Out(_))
    }

    pub fn occupants(&self) -> impl Iterator<Item = (&String, &Occupant)> {
        self.occupants.iter()
    }

    /// An occupant turned out to be a bot.
    pub fn mark_bot(&mut self, nick: &str) {
        if let Some(occupant) = self.occupants.get_mut(nick) {
            occupant.bot = true;
        }
    }

    /// Remembers the id of a message of ours, to know its echo.
    pub fn sent(&mut self, id: &str) {
        if self.sent.len() >= MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back(id.to_owned());
    }

    /// Something came from the room: it lives.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A presence from the room or an occupant.
    pub fn presence(&mut self, presence: &Presence, now: Instant) -> Vec<Effect> {
        self.heard = now;
        if presence.type_ == Type::Error {
            return self.refused(presence, now);
        }
        let Some(nick) = presence.from.as_ref().and_then(|from| from.resource()) else {
            return Vec::new();
        };
        let nick = nick.as_str().to_owned();
        let user = find(&presence.payloads, "x", ns::MUC_USER);
        let codes: Vec<u16> = user.into_iter().flat_map(status_codes).collect();
        let own = codes.contains(&110) || (nick == self.nick && self.is_joined());
        match presence.type_ {
            Type::None => self.available(nick, presence, user, &codes, own),
            Type::Unavailable => self.unavailable(&nick, user, &codes, own, now),
            _ => Vec::new(),
        }
    }

    fn available(
        &mut self,
        nick: String,
        presence: &Presence,
        user: Option<&Element>,
        codes: &[u16],
        own: bool,
    ) -> Vec<Effect> {
        let item = user.and_then(|user| user.get_child("item", ns::MUC_USER));
        let attribute = |name| item.and_then(|item| item.attr(name));
        let occupant_id = find(&presence.payloads, "occupant-id", ns::OID)
            .and_then(|element| element.attr("id"))
            .filter(|_| self.features.occupant_ids)
            .map(ToOwned::to_owned);
        let occupant = Occupant {
            real: attribute("jid")
                .and_then(|jid| Jid::new(jid).ok())
                .map(|jid| jid.to_bare()),
            occupant_id: occupant_id.clone(),
            moderator: attribute("role") == Some("moderator")
                || matches!(attribute("affiliation"), Some("owner" | "admin")),
            bot: self.occupants.get(&nick).is_some_and(|known| known.bot),
        };
        if self.occupants.len() < MAX_OCCUPANTS || self.occupants.contains_key(&nick) {
            self.occupants.insert(nick.clone(), occupant);
        }
        if !own {
            return Vec::new();
        }
        // 210: the service gave us another nick; 110 names it.
        self.nick = nick;
        self.own_occupant_id = occupant_id;
        let mut effects = Vec::new();
        if codes.contains(&201) {
            effects.push(Effect::Configure);
        }
        if matches!(self.phase, Phase::Joining { .. }) {
            self.phase = Phase::Joined;
            self.backoff.reset();
            effects.push(Effect::Joined);
        }
        effects
    }

    fn unavailable(
        &mut self,
        nick: &str,
        user: Option<&Element>,
        codes: &[u16],
        own: bool,
        now: Instant,
    ) -> Vec<Effect> {
        let known = self.occupants.remove(nick);
        let item = user.and_then(|user| user.get_child("item", ns::MUC_USER));
        if codes.contains(&303) {
            // A new nick (XEP-0045, 7.6): the same occupant.
            if let (Some(new), Some(known)) = (item.and_then(|item| item.attr("nick")), known) {
                self.occupants.insert(new.to_owned(), known);
            }
            if own && let Some(new) = item.and_then(|item| item.attr("nick")) {
                new.clone_into(&mut self.nick);
            }
            return Vec::new();
        }
        if !own || self.is_out() {
            return Vec::new();
        }
        self.occupants.clear();
        let reason = item
            .and_then(|item| child_text(item, "reason", ns::MUC_USER))
            .filter(|reason| !reason.trim().is_empty())
            .map(|reason| format!(": {}", short(&reason)))
            .unwrap_or_default();
        if let Some(destroy) = user.and_then(|user| user.get_child("destroy", ns::MUC_USER)) {
            return self.out(destroyed(destroy));
        }
        match codes {
            codes if codes.contains(&332) || codes.contains(&333) => {
                self.wait("the room's service went away", now)
            }
            codes if codes.contains(&301) => self.out(format!("I was banned{reason}")),
            codes if codes.contains(&307) => self.out(format!("I was kicked{reason}")),
            codes if codes.contains(&321) => {
                self.out(format!("my membership was taken away{reason}"))
            }
            codes if codes.contains(&322) => self.out("the room is for members only now".into()),
            _ => self.wait("I was removed", now),
        }
    }

    /// A join or anything else of ours was refused.
    fn refused(&mut self, presence: &Presence, now: Instant) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Joining { .. }) {
            return Vec::new();
        }
        let error = presence.payloads.iter().find(|p| p.name() == "error");
        let condition = error
            .into_iter()
            .flat_map(Element::children)
            .find(|child| child.has_ns(ns::XMPP_STANZAS) && child.name() != "text");
        let text = error
            .and_then(|error| child_text(error, "text", ns::XMPP_STANZAS))
            .map(|text| format!(" ({})", short(&text)))
            .unwrap_or_default();
        match condition.map(Element::name) {
            Some("conflict") => self.next_nick(now),
            Some("not-authorized") if self.password.is_some() => {
                self.out("its password is another one; see `password` in muc_rooms".into())
            }
            Some("not-authorized") => {
                self.out("it wants a password; see `password` in muc_rooms".into())
            }
            Some("registration-required") => self.out("it is for members only".into()),
            Some("forbidden") => self.out(format!("I am banned there{text}")),
            Some("not-allowed") => self.out(format!("I may not create rooms there{text}")),
            Some("not-acceptable") => self.out(format!("it wants another nick{text}")),
            Some("gone") => {
                let venue = condition
                    .map(Element::text)
                    .filter(|venue| !venue.is_empty());
                let venue = venue.as_deref().map(next_venue).unwrap_or_default();
                self.out(format!("it is gone{venue}"))
            }
            Some("jid-malformed") => self.out("its address is not valid".into()),
            other => self.wait(&format!("{}{text}", other.unwrap_or("refused")), now),
        }
    }

    /// The next free variant of the nick; after a few, another time.
    fn next_nick(&mut self, now: Instant) -> Vec<Effect> {
        self.taken += 1;
        if self.taken > MAX_NICKS {
            self.taken = 0;
            self.nick.clone_from(&self.wanted);
            return self.wait("all my nicks are taken", now);
        }
        self.nick = format!("{}-{}", self.wanted, self.taken + 1);
        self.phase = Phase::Joining { since: now };
        vec![Effect::Send(Box::new(self.presence_to_join()))]
    }

    fn wait(&mut self, reason: &str, now: Instant) -> Vec<Effect> {
        let until = now + self.backoff.next_delay();
        self.phase = Phase::Waiting {
            until,
            reason: reason.to_owned(),
        };
        self.pinged = None;
        Vec::new()
    }

    fn out(&mut self, reason: String) -> Vec<Effect> {
        self.phase = Phase::Out(reason.clone());
        vec![Effect::Out(reason)]
    }

    /// Time passes: joins that took too long, waits that are over, rooms that were silent.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect> {
        match &self.phase {
            Phase::Joining { since } if now.duration_since(*since) > JOIN_TIMEOUT => {
                self.wait("no answer to my join", now)
            }
            Phase::Waiting { until, .. } if now >= *until => self.begin(now),
            Phase::Joined => match self.pinged {
                Some(since) if now.duration_since(since) > PING_TIMEOUT => {
                    self.wait("no answer to my self-ping", now)
                }
                None if now.duration_since(self.heard) > SILENCE => {
                    self.pinged = Some(now);
                    self.occupant_jid().map(Effect::Ping).into_iter().collect()
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// The answer to the self-ping (XEP-0410, 3): `Ok`, or the error's condition.
    pub fn pong(&mut self, answer: Result<(), &str>, now: Instant) -> Vec<Effect> {
        if self.pinged.take().is_none() || !self.is_joined() {
            return Vec::new();
        }
        self.heard = now;
        match answer {
            // Joined: the other client of ours, or a server, does not do pings, or the nick has just changed.
            Ok(()) | Err("service-unavailable" | "feature-not-implemented" | "item-not-found") => {
                Vec::new()
            }
            Err("remote-server-not-found" | "remote-server-timeout") => {
                self.wait("its server is out of reach", now)
            }
            // `not-acceptable`: we are no occupant.
            Err(_) => self.begin(now),
        }
    }
}

impl RoomView for Room {
    fn nick(&self) -> &str {
        &self.nick
    }

    fn own_occupant_id(&self) -> Option<&str> {
        self.own_occupant_id.as_deref()
    }

    fn has_occupant_ids(&self) -> bool {
        self.features.occupant_ids
    }

    fn has_stanza_ids(&self) -> bool {
        self.features.stanza_ids || self.features.archive
    }

    fn occupant(&self, nick: &str) -> Option<Occupant> {
        self.occupants.get(nick).cloned()
    }

    fn has_sent(&self, id: &str) -> bool {
        self.sent.iter().any(|sent| sent == id)
    }
}

/// Status codes, unknown ones too.
fn status_codes(user: &Element) -> impl Iterator<Item = u16> {
    user.children()
        .filter(|child| child.is("status", ns::MUC_USER))
        .filter_map(|status| status.attr("code")?.parse().ok())
}

fn destroyed(destroy: &Element) -> String {
    let venue = destroy.attr("jid").map(next_venue).unwrap_or_default();
    let reason = child_text(destroy, "reason", ns::MUC_USER)
        .filter(|reason| !reason.trim().is_empty())
        .map(|reason| format!(": {}", short(&reason)))
        .unwrap_or_default();
    format!("it was destroyed{reason}{venue}")
}

/// Where the room went, if the address is one; nothing is joined by itself.
fn next_venue(venue: &str) -> String {
    let venue = venue.trim().trim_start_matches("xmpp:");
    let venue = venue.split('?').next().unwrap_or(venue);
    BareJid::new(venue)
        .map(|venue| format!("; it went on as {venue}: /join {venue}"))
        .unwrap_or_default()
}

/// A stranger's words for one line of a log or a message.
fn short(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests;
