//! Who is in a room: each nick is one person, with one or more sessions (XEP-0045, 7.2.8).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use jid::{BareJid, FullJid};
use minidom::Element;

use crate::server::mail::Mail;
use crate::server::muc::rank::Role;

/// A session and what its last presence said.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) jid: FullJid,
    /// What of the presence is passed on.
    pub(super) payload: Vec<Element>,
    pub(super) priority: i8,
    /// The id of the presence, which its sender gets back (XEP-0045, 7.2.2).
    pub(super) id: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Occupant {
    pub(super) nick: String,
    pub(super) who: BareJid,
    pub(super) role: Role,
    /// XEP-0421.
    pub(super) id: String,
    pub(super) sessions: Vec<Session>,
    /// Of those that the server itself serves.
    pub(super) is_own_bot: bool,
    seen: [OnceLock<Mail>; 2],
}

impl Occupant {
    pub(super) fn new(
        nick: String,
        who: BareJid,
        role: Role,
        id: String,
        is_own_bot: bool,
    ) -> Self {
        Self {
            nick,
            who,
            role,
            id,
            sessions: Vec::new(),
            is_own_bot,
            seen: Default::default(),
        }
    }

    /// What others see of the person: the presence of the highest priority, the latest of several (sessions are in the order
    /// of their last presence).
    pub(super) fn payload(&self) -> &[Element] {
        let best = self.sessions.iter().max_by_key(|session| session.priority);
        best.map_or(&[], |session| session.payload.as_slice())
    }

    /// The presence that those who do (or do not) see real JIDs get, made once until something of it changes.
    pub(super) fn seen(&self, reveal: bool, make: impl FnOnce() -> Element) -> Mail {
        let [closed, open] = &self.seen;
        let cell = if reveal { open } else { closed };
        cell.get_or_init(|| Mail::for_many(make())).clone()
    }

    fn changed(&mut self) {
        self.seen = Default::default();
    }
}

#[derive(Debug, Default)]
pub(super) struct Occupants {
    by_nick: BTreeMap<String, Occupant>,
    nicks: HashMap<FullJid, String>,
    everyone: Option<Arc<[FullJid]>>,
}

impl Occupants {
    pub(super) fn len(&self) -> usize {
        self.by_nick.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_nick.is_empty()
    }

    pub(super) fn get(&self, nick: &str) -> Option<&Occupant> {
        self.by_nick.get(nick)
    }

    pub(super) fn by_session(&self, session: &FullJid) -> Option<&Occupant> {
        self.by_nick.get(self.nicks.get(session)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Occupant> {
        self.by_nick.values()
    }

    /// The nicks of one person, or of all at a domain where `who` is one.
    pub(super) fn nicks_of(&self, who: &BareJid) -> Vec<String> {
        let is_them = |one: &Occupant| {
            one.who == *who || (who.node().is_none() && one.who.domain() == who.domain())
        };
        let nicks = self.iter().filter(|one| is_them(one));
        nicks.map(|one| one.nick.clone()).collect()
    }

    /// Changes an occupant; what others see of it is made anew.
    pub(super) fn change(&mut self, nick: &str, change: impl FnOnce(&mut Occupant)) {
        if let Some(occupant) = self.by_nick.get_mut(nick) {
            change(occupant);
            occupant.changed();
        }
    }

    /// Adds the session to the occupant, which is made if there is none of its nick; or takes its new presence.
    pub(super) fn put(
        &mut self,
        occupant: impl FnOnce() -> Occupant,
        nick: &str,
        session: Session,
    ) {
        self.nicks.insert(session.jid.clone(), nick.to_owned());
        let occupant = self.by_nick.entry(nick.to_owned()).or_insert_with(occupant);
        let sessions = occupant.sessions.len();
        occupant.sessions.retain(|old| old.jid != session.jid);
        if occupant.sessions.len() == sessions {
            self.everyone = None;
        }
        occupant.sessions.push(session);
        occupant.changed();
    }

    /// What answers a presence carries its id once.
    pub(super) fn answered(&mut self, session: &FullJid) {
        let nick = self.nicks.get(session);
        let occupant = nick.and_then(|nick| self.by_nick.get_mut(nick));
        let sessions = occupant.map(|occupant| &mut occupant.sessions);
        for one in sessions.into_iter().flatten() {
            one.id = None;
        }
    }

    /// Takes one session away. Answers its occupant as it was with this session alone; with the last session the occupant is
    /// gone.
    pub(super) fn take(&mut self, session: &FullJid) -> Option<Occupant> {
        let nick = self.nicks.remove(session)?;
        self.everyone = None;
        let occupant = self.by_nick.get_mut(&nick)?;
        let mut left = occupant.clone();
        left.sessions.retain(|one| one.jid == *session);
        occupant.sessions.retain(|one| one.jid != *session);
        occupant.changed();
        if occupant.sessions.is_empty() {
            self.by_nick.remove(&nick);
        }
        Some(left)
    }

    /// Takes an occupant away with all its sessions.
    pub(super) fn remove(&mut self, nick: &str) -> Option<Occupant> {
        let occupant = self.by_nick.remove(nick)?;
        for session in &occupant.sessions {
            self.nicks.remove(&session.jid);
        }
        self.everyone = None;
        Some(occupant)
    }

    /// The sessions of all, made once until somebody comes or goes.
    pub(super) fn everyone(&mut self) -> Arc<[FullJid]> {
        if let Some(everyone) = &self.everyone {
            return Arc::clone(everyone);
        }
        let everyone = self.sessions(|_| true);
        self.everyone = Some(Arc::clone(&everyone));
        everyone
    }

    /// The sessions of some.
    pub(super) fn sessions(&self, of: impl Fn(&Occupant) -> bool) -> Arc<[FullJid]> {
        let occupants = self.iter().filter(|occupant| of(occupant));
        let sessions = occupants.flat_map(|occupant| &occupant.sessions);
        sessions.map(|session| session.jid.clone()).collect()
    }
}
