//! Stanzas on their way to many people: in order for each of them, and nobody waits for somebody else who does not read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jid::BareJid;
use tokio::time::Instant;

use crate::runtime::contain;
use crate::server::session::Commits;
use crate::server::stanza::Stanza;
use crate::server::{Server, StanzaError};

/// So many stanzas wait for their recipients before no more is read.
const MOST: usize = 512;
/// So many for one of them: then no more is read, or where that one is slow, refused.
const MOST_FOR_ONE: usize = 64;
/// Who takes fewer than so many in this time is slow.
const FEW: usize = 16;
const WINDOW: Duration = Duration::from_secs(2);
/// The number of a stanza that is not counted.
const NONE: u64 = u64::MAX;

pub(super) struct Lanes {
    server: Server,
    commits: Arc<Commits>,
    /// One for each recipient at most.
    running: FuturesUnordered<BoxFuture<'static, (BareJid, u64)>>,
    /// Behind the one that is running.
    recipients: HashMap<BareJid, Lane>,
    /// Whose lane was full when something came for them last.
    crowded: Option<BareJid>,
    count: usize,
    /// All stanzas before this number have arrived.
    arrived: u64,
    /// Those from there on: whether they have.
    later: VecDeque<bool>,
}

/// What stands behind the stanza that is on its way to a recipient.
struct Lane {
    behind: VecDeque<(u64, Stanza)>,
    /// How many it took since when.
    taken: usize,
    since: Instant,
    slow: bool,
}

impl Lane {
    fn new() -> Self {
        Self {
            behind: VecDeque::new(),
            taken: 0,
            since: Instant::now(),
            slow: false,
        }
    }

    fn is_full(&self) -> bool {
        self.behind.len() >= MOST_FOR_ONE
    }

    fn is_slow(&self) -> bool {
        if self.since.elapsed() < WINDOW {
            self.slow
        } else {
            self.taken < FEW
        }
    }

    fn take(&mut self) -> Option<(u64, Stanza)> {
        if self.since.elapsed() >= WINDOW {
            self.slow = self.is_slow();
            self.since = Instant::now();
            self.taken = 0;
        }
        self.taken = self.taken.saturating_add(1);
        self.behind.pop_front()
    }
}

impl Lanes {
    pub(super) fn new(server: Server, commits: Arc<Commits>) -> Self {
        Self {
            server,
            commits,
            running: FuturesUnordered::new(),
            recipients: HashMap::new(),
            crowded: None,
            count: 0,
            arrived: 0,
            later: VecDeque::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        let crowded = self
            .crowded
            .as_ref()
            .and_then(|who| self.recipients.get(who));
        self.count >= MOST || crowded.is_some_and(|lane| lane.is_full() && !lane.is_slow())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many stanzas have arrived without one among them that has not.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// How many there were.
    pub(super) fn begun(&self) -> u64 {
        self.arrived
            .saturating_add(u64::try_from(self.later.len()).unwrap_or(u64::MAX))
    }

    /// Counts a stanza that goes to nobody.
    pub(super) fn skip(&mut self) {
        let number = self.number();
        self.done(number);
    }

    fn number(&mut self) -> u64 {
        let number = self.begun();
        self.later.push_back(false);
        number
    }

    fn done(&mut self, number: u64) {
        if number == NONE {
            return;
        }
        let index = usize::try_from(number.saturating_sub(self.arrived)).unwrap_or(usize::MAX);
        if let Some(arrived) = self.later.get_mut(index) {
            *arrived = true;
        }
        while self.later.front() == Some(&true) {
            self.later.pop_front();
            self.arrived = self.arrived.saturating_add(1);
        }
    }

    /// Routes a stanza. Most are through at once.
    pub(super) fn push(&mut self, recipient: BareJid, stanza: Stanza) {
        let number = self.number();
        let Some(lane) = self.recipients.get_mut(&recipient) else {
            self.start(recipient, number, stanza);
            return;
        };
        if lane.is_full() && lane.is_slow() {
            self.refuse(number, &stanza);
            return;
        }
        lane.behind.push_back((number, stanza));
        self.count += 1;
        if lane.is_full() {
            self.crowded = Some(recipient);
        }
    }

    /// Routes a stanza of ours, which is not counted.
    pub(super) fn aside(&mut self, recipient: BareJid, stanza: Stanza) {
        match self.recipients.get_mut(&recipient) {
            None => self.start(recipient, NONE, stanza),
            Some(lane) if lane.is_full() => {}
            Some(lane) => {
                lane.behind.push_back((NONE, stanza));
                self.count += 1;
            }
        }
    }

    /// Its recipient does not read: the sender may try again later.
    fn refuse(&mut self, number: u64, stanza: &Stanza) {
        let error = StanzaError::resource_constraint()
            .text("Too much waits for this address already; try again later");
        match stanza.error(&error) {
            Some(refusal) => {
                let sender = stanza.from().to_bare();
                if self.recipients.contains_key(&sender) {
                    // Nobody hears who does not read either.
                    self.done(number);
                } else {
                    self.start(sender, number, refusal);
                }
            }
            None => self.done(number),
        }
    }

    fn start(&mut self, recipient: BareJid, number: u64, stanza: Stanza) {
        let mut routing = self.route(recipient.clone(), number, stanza);
        if (&mut routing).now_or_never().is_some() {
            self.done(number);
        } else {
            self.count += 1;
            self.recipients.insert(recipient, Lane::new());
            self.running.push(routing);
        }
    }

    fn route(
        &self,
        recipient: BareJid,
        number: u64,
        stanza: Stanza,
    ) -> BoxFuture<'static, (BareJid, u64)> {
        let (server, commits) = (self.server.clone(), Arc::clone(&self.commits));
        Box::pin(async move {
            let routing = server.route_from_peer(stanza, &commits);
            contain("A stanza between servers", routing).await;
            (recipient, number)
        })
    }

    /// Waits until one has arrived. Only where something is under way.
    pub(super) async fn next(&mut self) {
        let Some((recipient, number)) = self.running.next().await else {
            return;
        };
        self.done(number);
        self.count = self.count.saturating_sub(1);
        let next = self.recipients.get_mut(&recipient).and_then(Lane::take);
        match next {
            Some((number, stanza)) => {
                let routing = self.route(recipient, number, stanza);
                self.running.push(routing);
            }
            None => drop(self.recipients.remove(&recipient)),
        }
    }
}

#[cfg(test)]
mod tests {
    use jid::Jid;

    use super::*;
    use crate::server::session::MAILBOX;
    use crate::server::testing;

    fn message(to: &str, id: usize) -> (BareJid, Stanza) {
        let to = Jid::new(to).unwrap();
        let xml = format!("<message type='chat' id='{id}'><body>x</body></message>");
        let from = Jid::new("x@there.example/y").unwrap();
        let recipient = to.to_bare();
        let stanza = Stanza::new(from, Some(to), testing::stanza(&xml)).unwrap();
        (recipient, stanza)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_delays_nobody_else() {
        let server = testing::server(&["romeo", "juliet"]).await;
        let _deaf = testing::online(&server, "romeo/phone").await;
        let mut juliet = testing::online(&server, "juliet/phone").await;
        let mut lanes = Lanes::new(server, Arc::default());
        for id in 0..MAILBOX + 2 * MOST_FOR_ONE {
            if lanes.is_full() {
                // Perhaps it is only a burst.
                tokio::time::advance(WINDOW).await;
                assert!(!lanes.is_full());
            }
            let (recipient, stanza) = message("romeo@example.org/phone", id);
            lanes.push(recipient, stanza);
        }
        assert!(!lanes.is_full() && !lanes.is_empty());
        let (recipient, stanza) = message("juliet@example.org", 7);
        lanes.push(recipient, stanza);
        let got = async {
            loop {
                if let Ok(mail) = juliet.mailbox.try_recv() {
                    return mail.element();
                }
                // What is on its way goes on only where somebody waits for it.
                tokio::time::timeout(Duration::from_millis(1), lanes.next())
                    .await
                    .ok();
            }
        };
        let got = tokio::time::timeout(Duration::from_secs(5), got).await;
        assert_eq!(got.unwrap().attr("id"), Some("7"));
        // What came behind is not told to have arrived before what waits.
        assert!(lanes.arrived() < lanes.begun());
        while !lanes.is_empty() {
            tokio::time::timeout(Duration::from_mins(1), lanes.next())
                .await
                .unwrap();
        }
        assert_eq!(lanes.arrived(), lanes.begun());
    }
}
