//! Federation: the rest of the network (RFC 6120 between servers).
//!
//! `Server::route → Federation::send → Peer (a queue per pair of domains) → connect (DNS, TCP, TLS, SASL EXTERNAL or dialback)
//! → Traffic` outwards; `listener → accept (TLS, certificate, SASL EXTERNAL or dialback) → Traffic → Server::route`
//! inwards. With XEP-0288 either carries both ways.

mod accept;
mod connect;
mod dialback;
mod failure;
mod kept;
mod lanes;
mod network;
mod peer;
mod places;
mod policy;
#[cfg(test)]
mod tests;
mod traffic;
mod trust;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jid::{DomainPart, Jid};
use rustls::{ClientConfig, ServerConfig};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, info, info_span, warn};

use self::dialback::Secret;
use self::lanes::Lanes;
use self::peer::{Dialing, Offer, Peer};
use self::places::Places;
use super::abuse::{Allowance, Rate, subscriber};
use super::mail::Mail;
use super::stanza::{Kind, Stanza};
use super::stream::xml::Limits;
use super::{Server, StanzaError};
use crate::runtime::{Stop, contain};

pub use connect::{Step, walk};
pub use failure::{Failure, Obstacle};
pub(super) use network::watch_over;
pub use network::{Internet, Network};
pub use peer::{Report, Way};
pub use trust::Trust;

/// Pairs of domains that are known at a time.
const MOST_PEERS: usize = 10_000;
/// Of them, those with domains of one owner.
const MOST_OF_ONE: usize = 256;
/// Attempts to connect that are under way at a time, and those to domains of one owner.
const MOST_ATTEMPTS: (usize, usize) = (256, 8);
/// Call-backs of dialback that are under way at a time, and those to domains of one owner.
const MOST_CALLS: (usize, usize) = (64, 4);
/// What may wait for all other servers together, in bytes.
const TOTAL: usize = 128 << 20;
/// Questions of dialback that an address may ask.
const QUESTIONS: Rate = Rate::new(32, Duration::from_millis(500));
/// Between two looks for pairs that nobody uses.
const SWEEP: Duration = Duration::from_secs(1);

/// A domain of ours and one of another server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    pub local: String,
    pub remote: String,
}

impl Pair {
    pub fn new(local: impl Into<String>, remote: impl Into<String>) -> Self {
        Self {
            local: local.into(),
            remote: remote.into(),
        }
    }
}

/// A domain as it is compared; `None`: it is none.
fn domain(text: &str) -> Option<String> {
    DomainPart::new(text)
        .ok()
        .map(|domain| domain.as_str().to_owned())
}

/// How connections with other servers are encrypted.
#[derive(Clone)]
pub struct Tls {
    /// Those who connect to us are asked for their certificate.
    pub accept_starttls: Arc<ServerConfig>,
    pub accept_direct: Arc<ServerConfig>,
    /// We show ours.
    pub connect_starttls: Arc<ClientConfig>,
    pub connect_direct: Arc<ClientConfig>,
}

/// A handle: clones share the state.
#[derive(Clone)]
pub struct Federation(Arc<Inner>);

struct Inner {
    network: Box<dyn Network>,
    tls: Tls,
    trust: Trust,
    secret: Secret,
    peers: Mutex<BTreeMap<Pair, Arc<Peer>>>,
    swept: Mutex<Option<Instant>>,
    work: mpsc::UnboundedSender<Work>,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Work>>>,
    attempts: Places,
    calls: Places,
    total: Arc<Semaphore>,
    questions: Allowance<IpAddr>,
}

/// What is done beside the routing.
enum Work {
    /// Somebody has to connect. There is one at most for each peer.
    Dial(Arc<Peer>, Dialing),
    /// Stanzas go back to their senders.
    GiveBack(Vec<Mail>, Failure),
}

/// A row of the status page.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub local: String,
    pub remote: String,
    /// Stanzas.
    pub waiting: usize,
    #[serde(flatten)]
    pub report: Report,
}

impl Federation {
    pub fn new(
        network: Box<dyn Network>,
        tls: Tls,
        trust: Trust,
    ) -> Result<Self, getrandom::Error> {
        let (work, waiting) = mpsc::unbounded_channel();
        Ok(Self(Arc::new(Inner {
            network,
            tls,
            trust,
            secret: Secret::generate()?,
            peers: Mutex::default(),
            swept: Mutex::default(),
            work,
            waiting: Mutex::new(Some(waiting)),
            attempts: Places::new(MOST_ATTEMPTS.0, MOST_ATTEMPTS.1),
            calls: Places::new(MOST_CALLS.0, MOST_CALLS.1),
            total: Arc::new(Semaphore::new(TOTAL)),
            questions: Allowance::new(QUESTIONS),
        })))
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<Pair, Arc<Peer>>> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: there are too many already, or too many of this owner.
    fn peer(&self, pair: &Pair) -> Option<Arc<Peer>> {
        let mut peers = self.peers();
        if let Some(peer) = peers.get(pair) {
            return Some(Arc::clone(peer));
        }
        let owner = places::owner(&pair.remote);
        let of_one = |peers: &BTreeMap<Pair, Arc<Peer>>| {
            let mut same = peers
                .keys()
                .filter(|known| places::owner(&known.remote) == owner);
            same.nth(MOST_OF_ONE - 1).is_some()
        };
        if peers.len() >= MOST_OF_ONE && (peers.len() >= MOST_PEERS || of_one(&peers)) {
            self.sweep(&mut peers);
            if peers.len() >= MOST_PEERS || of_one(&peers) {
                return None;
            }
        }
        let peer = Arc::new(Peer::new(pair.clone(), Arc::clone(&self.0.total)));
        peers.insert(pair.clone(), Arc::clone(&peer));
        Some(peer)
    }

    /// Forgets those that nobody uses, not too often.
    fn sweep(&self, peers: &mut BTreeMap<Pair, Arc<Peer>>) {
        let mut swept = self.0.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_none_or(|swept| swept.elapsed() >= SWEEP) {
            *swept = Some(Instant::now());
            // Whoever is about to use one has another handle.
            peers.retain(|_, peer| Arc::strong_count(peer) > 1 || !peer.is_idle());
        }
    }

    /// Every pair of domains, for the operator.
    pub fn rows(&self) -> Vec<Row> {
        let peers: Vec<Arc<Peer>> = self.peers().values().cloned().collect();
        let row = |peer: &Arc<Peer>| {
            let (report, waiting) = peer.report();
            Row {
                local: peer.pair.local.clone(),
                remote: peer.pair.remote.clone(),
                waiting,
                report,
            }
        };
        peers.iter().map(row).collect()
    }

    /// A stanza for another domain, its sender ours. It waits, or comes back with the reason.
    pub(super) async fn send(&self, server: &Server, stanza: Stanza) {
        let Some(to) = stanza.to() else {
            return;
        };
        let pair = Pair::new(stanza.from().domain().as_str(), to.domain().as_str());
        if let Some(failure) = policy::reason_against(&server.settings().federation, &pair.remote) {
            server.abuse().meters.returned(failure.obstacle, 1);
            server.refuse(&stanza, &failure.to_error()).await;
            return;
        }
        let Some(peer) = self.peer(&pair) else {
            let error = StanzaError::resource_constraint()
                .text("This server talks to too many others at the moment");
            server.abuse().meters.returned(Obstacle::Full, 1);
            server.refuse(&stanza, &error).await;
            return;
        };
        match peer.offer(Mail::from(stanza)) {
            Offer::Kept => {}
            Offer::Dial(dialing) => self.dial(peer, dialing),
            Offer::Refused(mail, failure) => self.give_back(&peer, vec![mail], &failure),
        }
    }

    /// Whether an address may ask to be believed once more.
    fn may_ask(&self, address: IpAddr) -> bool {
        self.0.questions.take(&subscriber(address))
    }

    /// The answer to a ping has come, by whichever stream.
    fn answered(&self, pair: &Pair, id: &str) {
        let peer = self.peers().get(pair).cloned();
        if let Some(peer) = peer {
            peer.answered(id);
        }
    }

    fn dial(&self, peer: Arc<Peer>, dialing: Dialing) {
        // Nobody connects any more when the process ends.
        if let Err(unsent) = self.0.work.send(Work::Dial(peer, dialing))
            && let Work::Dial(peer, dialing) = unsent.0
        {
            peer.stop_dialing(&dialing);
        }
    }

    /// Nothing that waits may be forgotten: after a stream has ended.
    fn resume(&self, peer: &Arc<Peer>) {
        if let Some(dialing) = peer.wants_dialing() {
            self.dial(Arc::clone(peer), dialing);
        }
    }

    /// Returns stanzas to their senders, with the reason: beside what is going on here, because a sender may be slow to
    /// read, or a room that sends to many others of the same domain.
    fn give_back(&self, peer: &Peer, mails: Vec<Mail>, failure: &Failure) {
        if !mails.is_empty() {
            peer.count_returned(mails.len());
            // Nobody is told any more when the process ends.
            self.0
                .work
                .send(Work::GiveBack(mails, failure.clone()))
                .ok();
        }
    }

    /// Connects to whom there is something to say, until the stop.
    pub async fn serve(self, server: Server, stop: Stop) -> anyhow::Result<()> {
        let waiting = {
            let mut waiting = self
                .0
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            waiting.take()
        };
        let Some(mut waiting) = waiting else {
            anyhow::bail!("The federation is served already");
        };
        if let Err(err) = kept::send(&self, &server).await {
            warn!("What was kept for other servers cannot be read: {err}");
        }
        let mut tasks = JoinSet::new();
        let mut refusals = Lanes::new(server.clone(), Arc::default());
        loop {
            let work = tokio::select! {
                work = waiting.recv() => work,
                () = refusals.next(), if !refusals.is_empty() => continue,
                Some(_) = tasks.join_next() => continue,
                () = stop.cancelled() => None,
            };
            match work {
                Some(Work::Dial(peer, dialing)) => {
                    let work = self
                        .clone()
                        .connection(server.clone(), peer, dialing, stop.clone());
                    tasks.spawn(work);
                }
                Some(Work::GiveBack(mails, failure)) => {
                    let meters = &server.abuse().meters;
                    meters.returned(failure.obstacle, mails.len());
                    let error = failure.to_error();
                    for refusal in mails.iter().filter_map(|mail| refusal(mail, &error)) {
                        if let Some(to) = refusal.to().map(Jid::to_bare) {
                            refusals.push(to, refusal);
                        }
                    }
                }
                None => break,
            }
        }
        // At once, for there is little time: what no stream is about to carry.
        let all = || -> Vec<Arc<Peer>> { self.peers().values().cloned().collect() };
        let idle = all().into_iter().filter(|peer| !peer.is_carried());
        kept::keep(&server, idle.collect()).await;
        while tasks.join_next().await.is_some() {}
        kept::keep(&server, all()).await;
        Ok(())
    }

    async fn connection(self, server: Server, peer: Arc<Peer>, dialing: Dialing, stop: Stop) {
        let span = info_span!("s2s", local = %peer.pair.local, remote = %peer.pair.remote);
        let carried = self.carry(&server, &peer, &dialing, &stop);
        contain("A connection to another server", carried.instrument(span)).await;
        peer.stop_dialing(&dialing);
        if !stop.is_cancelled() {
            self.resume(&peer);
        }
    }

    /// Connects until what waits has been carried, has come back, or goes another way.
    async fn carry(&self, server: &Server, peer: &Arc<Peer>, dialing: &Dialing, stop: &Stop) {
        while self.may_try(peer, dialing, stop).await {
            let Some(outcome) = self.attempt(server, peer, dialing, stop).await else {
                return;
            };
            peer.set_busy(dialing, false);
            let failure = match outcome {
                Ok(link) => {
                    info!(
                        authentication = link.way.authentication,
                        tls = link.way.tls,
                        "Connected to another server"
                    );
                    let carrier = peer.connected(dialing);
                    // Boxed: large, and not there while nobody is connected.
                    Box::pin(traffic::run(self, server, link, carrier, stop)).await;
                    return;
                }
                Err(failure) => failure,
            };
            warn!(obstacle = ?failure.obstacle, "{failure}");
            let back = peer.failed(&failure);
            self.give_back(peer, back, &failure);
            if peer.expires().is_none() {
                return;
            }
        }
    }

    /// One attempt; what has waited for too long goes back meanwhile. `None`: there is nothing left to do.
    async fn attempt(
        &self,
        server: &Server,
        peer: &Peer,
        dialing: &Dialing,
        stop: &Stop,
    ) -> Option<Result<connect::Link, Failure>> {
        let mut watch = |step: Step| {
            debug!(step = step.name, ok = step.ok, "{}", step.text);
            match step.name {
                // Somebody is there: from here on the stream may come about.
                "tcp" => peer.set_busy(dialing, true),
                "host" => peer.set_busy(dialing, false),
                _ => {}
            }
        };
        let mut attempt = Box::pin(async {
            let _place = self.0.attempts.take(&peer.pair.remote).await;
            connect::connect(self, server, &peer.pair, limits(server), &mut watch).await
        });
        loop {
            let expires = peer.expires();
            tokio::select! {
                outcome = &mut attempt => return Some(outcome),
                () = sleep_until(expires.unwrap_or_else(Instant::now)), if expires.is_some() => {
                    let text = format!("The server of {} does not answer", peer.pair.remote);
                    let failure = Failure::unreachable(text);
                    self.give_back(peer, peer.expired(), &failure);
                    if peer.expires().is_none() {
                        return Some(Err(failure));
                    }
                }
                () = dialing.stop.cancelled() => return None,
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Waits for the time of the next attempt; what has waited for too long goes back meanwhile. `false`: there is nothing
    /// left to do.
    async fn may_try(&self, peer: &Peer, dialing: &Dialing, stop: &Stop) -> bool {
        loop {
            let changed = peer.changed();
            let Some(next) = peer.next_attempt().filter(|next| *next > Instant::now()) else {
                return true;
            };
            let Some(expires) = peer.expires() else {
                return false;
            };
            tokio::select! {
                () = sleep_until(next.min(expires)) => {}
                () = changed => {}
                () = dialing.stop.cancelled() => return false,
                () = stop.cancelled() => return false,
            }
            let text = peer.last_error().unwrap_or_default();
            self.give_back(peer, peer.expired(), &Failure::unreachable(text));
        }
    }
}

impl std::fmt::Debug for Federation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Federation({} peers)", self.peers().len())
    }
}

fn limits(server: &Server) -> Limits {
    let settings = server.settings();
    Limits {
        stanza_bytes: settings.limits.s2s_stanza_bytes,
        preauth_bytes: settings.limits.preauth_bytes,
        preauth_elements: usize::try_from(settings.limits.preauth_elements).unwrap_or(usize::MAX),
        ..Limits::default()
    }
}

/// What the sender of a stanza is told. `None`: nothing, because they wait for no answer to it.
fn refusal(mail: &Mail, error: &StanzaError) -> Option<Stanza> {
    let stanza = Stanza::read(mail.element())?;
    let is_wanted = match (stanza.kind(), stanza.type_()) {
        // To a contact with many others; to a room it is one that somebody wants to enter.
        (Kind::Presence, "") => stanza.to().is_some_and(|to| to.resource().is_some()),
        (Kind::Presence, kind) => kind == "subscribe",
        _ => true,
    };
    is_wanted.then(|| stanza.error(error)).flatten()
}

impl Server {
    /// Lets the server talk to others; once.
    pub fn federate(&self, federation: Federation) {
        self.0.federation.set(federation).ok(); // Once.
    }

    pub fn federation(&self) -> Option<&Federation> {
        self.0.federation.get()
    }

    /// Whether a domain is served here: the accounts', or that of a service.
    pub(super) fn serves(&self, domain: &str) -> bool {
        self.is_local(domain) || self.hosts().iter().any(|(host, _)| host == domain)
    }
}
