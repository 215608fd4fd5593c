//! What another server has sent, on its way to many people: in order for each of them, and nobody waits for somebody else
//! who does not read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jid::BareJid;

use crate::runtime::contain;
use crate::server::Server;
use crate::server::session::Commits;
use crate::server::stanza::Stanza;

/// So many stanzas of a stream wait for their recipients before no more is read.
const MOST: usize = 256;

pub(super) struct Lanes {
    server: Server,
    commits: Arc<Commits>,
    /// One for each recipient at most.
    running: FuturesUnordered<BoxFuture<'static, BareJid>>,
    /// Behind the one that is running.
    behind: HashMap<BareJid, VecDeque<Stanza>>,
    count: usize,
}

impl Lanes {
    pub(super) fn new(server: Server, commits: Arc<Commits>) -> Self {
        Self {
            server,
            commits,
            running: FuturesUnordered::new(),
            behind: HashMap::new(),
            count: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Routes a stanza. Most are through at once.
    pub(super) fn push(&mut self, recipient: BareJid, stanza: Stanza) {
        if let Some(behind) = self.behind.get_mut(&recipient) {
            behind.push_back(stanza);
            self.count += 1;
            return;
        }
        let mut routing = self.route(recipient.clone(), stanza);
        if (&mut routing).now_or_never().is_none() {
            self.count += 1;
            self.behind.insert(recipient, VecDeque::new());
            self.running.push(routing);
        }
    }

    fn route(&self, recipient: BareJid, stanza: Stanza) -> BoxFuture<'static, BareJid> {
        let (server, commits) = (self.server.clone(), Arc::clone(&self.commits));
        Box::pin(async move {
            let routing = server.route_from_peer(stanza, &commits);
            contain("A stanza of another server", routing).await;
            recipient
        })
    }

    /// Waits until one has arrived. Only where something is under way.
    pub(super) async fn next(&mut self) {
        let Some(recipient) = self.running.next().await else {
            return;
        };
        self.count = self.count.saturating_sub(1);
        let next = self
            .behind
            .get_mut(&recipient)
            .and_then(VecDeque::pop_front);
        match next {
            Some(stanza) => self.running.push(self.route(recipient, stanza)),
            None => drop(self.behind.remove(&recipient)),
        }
    }
}
