//! Federation: the rest of the network (RFC 6120 between servers).
//!
//! `Server::route → Federation::send → Peer (a queue per pair of domains) → connect (DNS, TCP, TLS, SASL EXTERNAL or dialback)
//! → Traffic` outwards; `listener → accept (TLS, certificate, SASL EXTERNAL or dialback) → Traffic → Server::route`
//! inwards. With XEP-0288 either carries both ways.

mod accept;
mod connect;
mod dialback;
mod failure;
mod lanes;
mod network;
mod peer;
mod policy;
#[cfg(test)]
mod tests;
mod traffic;
mod trust;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jid::{DomainPart, Jid};
use rustls::{ClientConfig, ServerConfig};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, info, info_span, warn};

use self::dialback::Secret;
use self::peer::{Offer, Peer};
use super::mail::Mail;
use super::stanza::Stanza;
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
/// Attempts to connect that are under way at a time.
const MOST_ATTEMPTS: usize = 256;
/// Call-backs of dialback that are under way at a time.
const MOST_CALLS: usize = 64;

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
    dials: mpsc::UnboundedSender<Dial>,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Dial>>>,
    attempts: Semaphore,
    calls: Semaphore,
}

/// Somebody has to connect. There is one at most for each peer.
struct Dial {
    peer: Arc<Peer>,
    stop: Stop,
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
        let (dials, waiting) = mpsc::unbounded_channel();
        Ok(Self(Arc::new(Inner {
            network,
            tls,
            trust,
            secret: Secret::generate()?,
            peers: Mutex::default(),
            dials,
            waiting: Mutex::new(Some(waiting)),
            attempts: Semaphore::new(MOST_ATTEMPTS),
            calls: Semaphore::new(MOST_CALLS),
        })))
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<Pair, Arc<Peer>>> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: there are too many already.
    fn peer(&self, pair: &Pair) -> Option<Arc<Peer>> {
        let mut peers = self.peers();
        if let Some(peer) = peers.get(pair) {
            return Some(Arc::clone(peer));
        }
        if peers.len() >= MOST_PEERS {
            // Whoever is about to use one has another handle.
            peers.retain(|_, peer| Arc::strong_count(peer) > 1 || !peer.is_idle());
        }
        if peers.len() >= MOST_PEERS {
            return None;
        }
        let peer = Arc::new(Peer::new(pair.clone()));
        peers.insert(pair.clone(), Arc::clone(&peer));
        Some(peer)
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
            server.refuse(&stanza, &failure.to_error()).await;
            return;
        }
        let Some(peer) = self.peer(&pair) else {
            let error = StanzaError::resource_constraint()
                .text("This server talks to too many others at the moment");
            server.refuse(&stanza, &error).await;
            return;
        };
        match peer.offer(Mail::from(stanza)) {
            Offer::Kept => {}
            Offer::Dial(stop) => self.dial(peer, stop),
            Offer::Refused(mail, failure) => give_back(server, &peer, vec![mail], &failure).await,
        }
    }

    /// The answer to a ping has come, by whichever stream.
    fn answered(&self, pair: &Pair, id: &str) {
        let peer = self.peers().get(pair).cloned();
        if let Some(peer) = peer {
            peer.answered(id);
        }
    }

    fn dial(&self, peer: Arc<Peer>, stop: Stop) {
        // Nobody connects any more when the process ends.
        if let Err(unsent) = self.0.dials.send(Dial { peer, stop }) {
            unsent.0.peer.stop_dialing();
        }
    }

    /// Nothing that waits may be forgotten: after a stream has ended.
    fn resume(&self, peer: &Arc<Peer>) {
        if let Some(stop) = peer.wants_dialing() {
            self.dial(Arc::clone(peer), stop);
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
        let mut tasks = JoinSet::new();
        loop {
            let dial = tokio::select! {
                dial = waiting.recv() => dial,
                Some(_) = tasks.join_next() => continue,
                () = stop.cancelled() => None,
            };
            let Some(Dial { peer, stop: taken }) = dial else {
                break;
            };
            let (federation, server, stop) = (self.clone(), server.clone(), stop.clone());
            let span = info_span!("s2s", local = %peer.pair.local, remote = %peer.pair.remote);
            let work = async move {
                contain(
                    "A connection to another server",
                    federation.carry(&server, &peer, &taken, &stop),
                )
                .await;
                peer.stop_dialing();
                if !stop.is_cancelled() {
                    federation.resume(&peer);
                }
            };
            tasks.spawn(work.instrument(span));
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Connects until what waits has been carried, has come back, or goes another way.
    async fn carry(&self, server: &Server, peer: &Arc<Peer>, taken: &Stop, stop: &Stop) {
        loop {
            if !self.may_try(server, peer, taken, stop).await {
                return;
            }
            let Ok(permit) = self.0.attempts.acquire().await else {
                return;
            };
            let limits = limits(server);
            let mut watch = |step: Step| debug!(step = step.name, ok = step.ok, "{}", step.text);
            let attempt = connect::connect(self, server, &peer.pair, limits, &mut watch);
            let outcome = tokio::select! {
                outcome = Box::pin(attempt) => outcome,
                () = taken.cancelled() => return,
                () = stop.cancelled() => return,
            };
            drop(permit);
            let failure = match outcome {
                Ok(link) => {
                    info!(
                        authentication = link.way.authentication,
                        tls = link.way.tls,
                        "Connected to another server"
                    );
                    let Some(carrier) = peer.take_place() else {
                        return;
                    };
                    traffic::run(self, server, link, Some(carrier), stop).await;
                    return;
                }
                Err(failure) => failure,
            };
            warn!(obstacle = ?failure.obstacle, "{failure}");
            let back = peer.failed(&failure);
            give_back(server, peer, back, &failure).await;
            if peer.expires().is_none() {
                return;
            }
        }
    }

    /// Waits for the time of the next attempt; what has waited for too long goes back meanwhile. `false`: there is nothing
    /// left to do.
    async fn may_try(&self, server: &Server, peer: &Peer, taken: &Stop, stop: &Stop) -> bool {
        loop {
            let Some(next) = peer.next_attempt().filter(|next| *next > Instant::now()) else {
                return true;
            };
            let Some(expires) = peer.expires() else {
                return false;
            };
            tokio::select! {
                () = sleep_until(next.min(expires)) => {}
                () = taken.cancelled() => return false,
                () = stop.cancelled() => return false,
            }
            let back = peer.expired();
            let text = peer.last_error().unwrap_or_default();
            give_back(server, peer, back, &Failure::unreachable(text)).await;
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

/// Returns stanzas to their senders, with the reason.
async fn give_back(server: &Server, peer: &Peer, mails: Vec<Mail>, failure: &Failure) {
    let error = failure.to_error();
    for mail in mails {
        let element = mail.element();
        let address = |name| element.attr(name).and_then(|jid| Jid::new(jid).ok());
        if let (Some(from), Some(to)) = (address("from"), address("to"))
            && let Some(stanza) = Stanza::new(from, Some(to), element)
        {
            peer.count_returned();
            server.refuse(&stanza, &error).await;
        }
    }
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
