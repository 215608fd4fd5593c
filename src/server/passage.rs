//! A message on its way through one account: out of the sender's, into the recipient's. Features look at it stage by
//! stage ([`Stage`](super::router::Stage)).

use std::sync::Arc;

use super::Server;
use super::account::Account;
use super::session::{Sender, Session};
use super::stanza::Stanza;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The sender's account, before the message goes on.
    Outgoing,
    /// The recipient's.
    Incoming,
}

/// A place in an account's archive (XEP-0313).
#[derive(Clone, Debug)]
pub struct Archived {
    /// The stanza-id.
    pub id: String,
    pub position: u64,
}

/// `account`: whose. `stanza`: as it will be delivered.
#[derive(Debug)]
pub struct Passage<'a> {
    pub server: &'a Server,
    pub side: Side,
    pub account: &'a Arc<Account>,
    /// By whose stream it came in: what that is told waits for [`Sender::wait_for`].
    pub sender: Sender<'a>,
    pub stanza: &'a mut Stanza,
    /// The sessions it went to, once it has been delivered.
    pub delivered: Vec<Arc<Session>>,
    /// Kept for later: the sender is not told that nobody was there.
    pub stored: bool,
    /// Where it is in the account's archive.
    pub archived: Option<Archived>,
    /// The sender wants no copies of it (XEP-0280, 9); the wish itself is not passed on.
    pub private: bool,
    /// It was on its way before, to a session that ended: it is in the archive already.
    pub again: bool,
}
