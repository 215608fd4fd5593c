//! An account in memory: its sessions, its roster, and what features remember of it.

use std::sync::{Arc, PoisonError, RwLock};

use jid::{BareJid, FullJid};
use tokio::sync::OnceCell;

use super::extensions::Extensions;
use super::mail::Mail;
use super::roster::Roster;
use super::session::Session;

pub struct Account {
    jid: BareJid,
    sessions: RwLock<Arc<[Arc<Session>]>>,
    pub(super) roster: OnceCell<Roster>,
    pub extensions: Extensions,
}

impl Account {
    pub(super) fn new(jid: BareJid) -> Self {
        Self {
            jid,
            sessions: RwLock::new(Arc::new([])),
            roster: OnceCell::new(),
            extensions: Extensions::default(),
        }
    }

    pub fn jid(&self) -> &BareJid {
        &self.jid
    }

    /// Name of the account in stores: its local part.
    pub fn owner(&self) -> &str {
        self.jid.node().map_or("", |node| node.as_str())
    }

    /// All sessions, available or not. A snapshot.
    pub fn sessions(&self) -> Arc<[Arc<Session>]> {
        Arc::clone(&self.sessions.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn session(&self, jid: &FullJid) -> Option<Arc<Session>> {
        let sessions = self.sessions();
        sessions
            .iter()
            .find(|session| session.jid() == jid)
            .cloned()
    }

    /// The sessions that have sent an available presence.
    pub fn available(&self) -> Vec<Arc<Session>> {
        let sessions = self.sessions();
        let available = sessions.iter().filter(|session| session.is_available());
        available.cloned().collect()
    }

    /// Sends to all sessions that asked for the roster (RFC 6121, 2.1.6): pushes.
    pub fn push(&self, make: impl Fn(&Session) -> Mail) {
        for session in self
            .sessions()
            .iter()
            .filter(|session| session.is_interested())
        {
            session.try_send(make(session));
        }
    }

    /// Adds a session; answers those of the same resource, which it replaces (RFC 6120, 7.7.2.2).
    pub(super) fn add(&self, session: &Arc<Session>) -> Vec<Arc<Session>> {
        let mut sessions = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let (replaced, mut kept): (Vec<_>, Vec<_>) = sessions
            .iter()
            .cloned()
            .partition(|other| other.jid() == session.jid());
        kept.push(Arc::clone(session));
        *sessions = kept.into();
        replaced
    }

    /// `false`: it was not there any more.
    pub(super) fn remove(&self, session: &Arc<Session>) -> bool {
        let mut sessions = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = sessions.len();
        let kept: Vec<_> = sessions
            .iter()
            .filter(|other| !Arc::ptr_eq(other, session))
            .cloned()
            .collect();
        let removed = kept.len() < before;
        *sessions = kept.into();
        removed
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.jid)
    }
}
