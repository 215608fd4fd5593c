//! A pair of domains, ours and another: what waits to go from the one to the other, and over which stream it goes.
//!
//! Whoever holds the [`Carrier`] takes what waits, one stream at a time, so that stanzas keep their order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use super::Pair;
use super::failure::Failure;
use crate::runtime::{Backoff, Stop};
use crate::server::mail::{Budget, Mail};

/// So much waits for a domain at most; in bytes it is a [`Budget`], with what is written and not confirmed.
const MOST: usize = 4_096;
/// How long a stanza waits for a server that may come back.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The delays between attempts.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_mins(2);
/// A stream that has lasted so long did not end because of how it began.
const SETTLED: Duration = Duration::from_secs(30);

pub(super) struct Peer {
    pub(super) pair: Pair,
    budget: Budget,
    /// What may wait for all.
    total: Arc<Semaphore>,
    state: Mutex<State>,
    /// Something waits, the carrier's place is free, or there is a sign of life.
    changed: Notify,
}

struct State {
    waiting: VecDeque<Waiting>,
    place: Place,
    /// How often somebody has begun to dial.
    dials: u64,
    backoff: Backoff,
    /// No attempt before.
    retry: Option<Instant>,
    /// A ping that was sent behind what is unconfirmed, by its id.
    ping: Option<(String, oneshot::Sender<()>)>,
    report: Report,
}

struct Waiting {
    mail: Mail,
    since: Instant,
}

/// Who carries what waits.
enum Place {
    Free,
    /// Somebody tries to connect.
    Dialing {
        number: u64,
        stop: Stop,
        /// An attempt is under way, and no pause between two.
        busy: bool,
    },
    Taken,
}

/// The right to dial, until the token is cancelled.
pub(super) struct Dialing {
    number: u64,
    pub(super) stop: Stop,
}

/// How a stream came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// `out`, `in`, or with XEP-0288 `out, both ways` and the like.
    pub direction: &'static str,
    /// `certificate`, `dialback`.
    pub authentication: &'static str,
    /// `TLSv1_3` and the like; empty: none.
    pub tls: String,
}

/// What is to be seen of a pair.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The streams there are.
    pub streams: Vec<Way>,
    /// Since the start.
    pub sent: u64,
    pub received: u64,
    pub returned: u64,
    pub last_error: Option<String>,
    /// Unix time in seconds.
    pub last_error_at: Option<u64>,
}

/// What becomes of a stanza.
pub(super) enum Offer {
    /// It waits, and somebody is at it.
    Kept,
    /// It waits, and somebody has to connect, until the token is cancelled.
    Dial(Dialing),
    /// There is no sense in waiting.
    Refused(Mail, Failure),
}

impl Peer {
    pub(super) fn new(pair: Pair, total: Arc<Semaphore>) -> Self {
        Self {
            pair,
            budget: Budget::default(),
            total,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                place: Place::Free,
                dials: 0,
                backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
                retry: None,
                ping: None,
                report: Report::default(),
            }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn offer(&self, mail: Mail) -> Offer {
        let now = Instant::now();
        let mut state = self.state();
        let is_free = matches!(state.place, Place::Free);
        if is_free
            && state.retry.is_some_and(|retry| retry > now + PATIENCE)
            && let Some(text) = state.report.last_error.clone()
        {
            return Offer::Refused(mail, Failure::unreachable(text));
        }
        let weighed = if state.waiting.len() < MOST {
            self.weigh(mail)
        } else {
            Err(mail)
        };
        let mail = match weighed {
            Ok(mail) => mail,
            Err(mail) => {
                let text = format!("Too much waits for {} already", self.pair.remote);
                return Offer::Refused(mail, Failure::full(text));
            }
        };
        state.waiting.push_back(Waiting { mail, since: now });
        if is_free {
            return Offer::Dial(state.dial());
        }
        drop(state);
        self.changed.notify_waiters();
        Offer::Kept
    }

    /// Takes its part of what may wait for this domain, and for all.
    fn weigh(&self, mail: Mail) -> Result<Mail, Mail> {
        let cost = mail.cost();
        let mail = self.budget.try_weigh(mail)?;
        match Arc::clone(&self.total).try_acquire_many_owned(cost) {
            Ok(permit) => Ok(mail.with_receipt(Arc::new(permit))),
            Err(_full) => Err(mail),
        }
    }

    /// Somebody has to connect: something waits and nobody is at it.
    pub(super) fn wants_dialing(&self) -> Option<Dialing> {
        let mut state = self.state();
        let wants = matches!(state.place, Place::Free) && !state.waiting.is_empty();
        wants.then(|| state.dial())
    }

    /// A stream that is there wants to carry what waits. `None`: another one does, or is about to.
    ///
    /// Where both servers connect to each other at the same time, one of the two streams must be let go, and both have to
    /// choose the same: it is that of the domain which comes first.
    pub(super) fn take_place(self: &Arc<Self>) -> Option<Carrier> {
        let mut state = self.state();
        match &state.place {
            Place::Taken => return None,
            Place::Dialing { busy: true, .. } if self.pair.local < self.pair.remote => return None,
            Place::Dialing { stop, .. } => stop.cancel(),
            Place::Free => {}
        }
        Some(self.taken(&mut state))
    }

    /// Who has dialed is connected. `None`: another stream was faster.
    pub(super) fn connected(self: &Arc<Self>, dialing: &Dialing) -> Option<Carrier> {
        let mut state = self.state();
        let is_ours =
            matches!(state.place, Place::Dialing { number, .. } if number == dialing.number);
        is_ours.then(|| self.taken(&mut state))
    }

    fn taken(self: &Arc<Self>, state: &mut State) -> Carrier {
        state.place = Place::Taken;
        state.retry = None;
        Carrier {
            peer: Arc::clone(self),
            since: Instant::now(),
        }
    }

    /// As [`Self::take_place`], once it is free.
    pub(super) async fn wait_for_place(self: &Arc<Self>) -> Carrier {
        loop {
            let changed = self.changed.notified();
            if let Some(carrier) = self.take_place() {
                return carrier;
            }
            changed.await;
        }
    }

    /// An attempt begins, or is over.
    pub(super) fn set_busy(&self, dialing: &Dialing, is: bool) {
        if let Place::Dialing { number, busy, .. } = &mut self.state().place
            && *number == dialing.number
        {
            *busy = is;
        }
        self.changed.notify_waiters();
    }

    /// They do not connect any more, unless a stream took the place.
    pub(super) fn stop_dialing(&self, dialing: &Dialing) {
        let mut state = self.state();
        if matches!(state.place, Place::Dialing { number, .. } if number == dialing.number) {
            state.place = Place::Free;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The other server has connected to us: there is no sense in waiting for the next attempt.
    pub(super) fn heard(&self) {
        self.state().retry = None;
        self.changed.notify_waiters();
    }

    /// Something is different.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// When the next attempt may be made.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.state().retry
    }

    /// An attempt has failed, or a stream has ended at once: what must not wait any longer.
    pub(super) fn failed(&self, failure: &Failure) -> Vec<Mail> {
        let mut state = self.state();
        state.report.tell(failure.text.clone());
        let delay = state.backoff.next_delay();
        state.retry = Some(Instant::now() + delay);
        if failure.is_temporary() {
            state.expired()
        } else {
            state.everything()
        }
    }

    /// Whether a stream takes what waits.
    pub(super) fn is_carried(&self) -> bool {
        matches!(self.state().place, Place::Taken)
    }

    /// All that waits: nobody will carry it.
    pub(super) fn everything(&self) -> Vec<Mail> {
        self.state().everything()
    }

    /// What has waited for too long.
    pub(super) fn expired(&self) -> Vec<Mail> {
        self.state().expired()
    }

    /// When the first of what waits has waited for too long; `None`: nothing waits.
    pub(super) fn expires(&self) -> Option<Instant> {
        let state = self.state();
        state.waiting.front().map(|first| first.since + PATIENCE)
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty()
            && matches!(state.place, Place::Free)
            && state.report.streams.is_empty()
            && state.retry.is_none_or(|retry| retry < Instant::now())
    }

    /// Completes when a ping of this id is answered.
    pub(super) fn expect(&self, id: String) -> oneshot::Receiver<()> {
        let (answered, answer) = oneshot::channel();
        self.state().ping = Some((id, answered));
        answer
    }

    /// The answer to a ping has come.
    pub(super) fn answered(&self, id: &str) {
        let mut state = self.state();
        if state
            .ping
            .as_ref()
            .is_some_and(|(expected, _)| expected == id)
            && let Some((_, answered)) = state.ping.take()
        {
            // Nobody waits for it any more.
            answered.send(()).ok();
        }
    }

    pub(super) fn tell(&self, error: String) {
        self.state().report.tell(error);
    }

    pub(super) fn count_received(&self) {
        let mut state = self.state();
        state.report.received = state.report.received.wrapping_add(1);
    }

    pub(super) fn count_returned(&self, count: usize) {
        let mut state = self.state();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        state.report.returned = state.report.returned.wrapping_add(count);
    }

    /// A stream between the two, until it is dropped.
    pub(super) fn open(self: &Arc<Self>, way: Way) -> Opened {
        self.state().report.streams.push(way.clone());
        Opened {
            peer: Arc::clone(self),
            way,
        }
    }

    /// What is to be seen, and how many wait.
    pub(super) fn report(&self) -> (Report, usize) {
        let state = self.state();
        (state.report.clone(), state.waiting.len())
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.state().report.last_error.clone()
    }
}

impl State {
    fn dial(&mut self) -> Dialing {
        let stop = Stop::new();
        self.dials = self.dials.wrapping_add(1);
        self.place = Place::Dialing {
            number: self.dials,
            stop: stop.clone(),
            busy: false,
        };
        Dialing {
            number: self.dials,
            stop,
        }
    }

    fn pop(&mut self) -> Option<Mail> {
        let waiting = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            self.waiting.shrink_to(16);
        }
        Some(waiting.mail)
    }

    fn expired(&mut self) -> Vec<Mail> {
        let now = Instant::now();
        let mut expired = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|first| first.since + PATIENCE <= now)
        {
            expired.extend(self.pop());
        }
        expired
    }

    fn everything(&mut self) -> Vec<Mail> {
        std::iter::from_fn(|| self.pop()).collect()
    }
}

impl Report {
    fn tell(&mut self, error: String) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.last_error = Some(error);
        self.last_error_at = now.ok().map(|now| now.as_secs());
    }
}

/// Takes what waits, alone, until it is dropped.
pub(super) struct Carrier {
    peer: Arc<Peer>,
    since: Instant,
}

impl Carrier {
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The next that waits. Losing the future loses nothing.
    pub(super) async fn take(&self) -> Mail {
        loop {
            let changed = self.peer.changed.notified();
            if let Some(mail) = self.take_now() {
                return mail;
            }
            changed.await;
        }
    }

    pub(super) fn take_now(&self) -> Option<Mail> {
        let mut state = self.peer.state();
        let mail = state.pop()?;
        state.report.sent = state.report.sent.wrapping_add(1);
        Some(mail)
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let mut state = self.peer.state();
        state.place = Place::Free;
        if self.since.elapsed() > SETTLED {
            state.backoff.reset();
        } else {
            // A server that lets us in and sends us away at once is not asked again and again.
            let delay = state.backoff.next_delay();
            state.retry = Some(Instant::now() + delay);
        }
        drop(state);
        self.peer.changed.notify_waiters();
    }
}

/// A stream as it is listed.
pub(super) struct Opened {
    peer: Arc<Peer>,
    way: Way,
}

impl Opened {
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut state = self.peer.state();
        let streams = &mut state.report.streams;
        if let Some(index) = streams.iter().position(|way| *way == self.way) {
            streams.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use minidom::Element;

    use super::super::failure::Obstacle;
    use super::*;
    use crate::xmpp::ns;

    fn peer() -> Arc<Peer> {
        between("here.example", "there.example")
    }

    fn between(local: &str, remote: &str) -> Arc<Peer> {
        let total = Arc::new(Semaphore::new(1 << 24));
        Arc::new(Peer::new(Pair::new(local, remote), total))
    }

    fn mail() -> Mail {
        Mail::new(Element::bare("message", ns::JABBER_CLIENT))
    }

    fn unreachable() -> Failure {
        Failure::unreachable("Nobody is there")
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_dials_and_the_others_wait() {
        let peer = peer();
        assert!(matches!(peer.offer(mail()), Offer::Dial(_)));
        assert!(matches!(peer.offer(mail()), Offer::Kept));
        let carrier = peer.take_place().unwrap();
        assert!(peer.take_place().is_none(), "one carries at a time");
        carrier.take().await;
        carrier.take().await;
        assert!(carrier.take_now().is_none());
        assert!(matches!(peer.offer(mail()), Offer::Kept));
        drop(carrier);
        assert!(peer.wants_dialing().is_some(), "something waits");
        assert!(peer.wants_dialing().is_none(), "somebody is at it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_there_takes_the_place_of_a_pause_between_attempts() {
        let peer = peer();
        let Offer::Dial(dialing) = peer.offer(mail()) else {
            panic!("nobody dials");
        };
        let carrier = peer.take_place().unwrap();
        assert!(dialing.stop.is_cancelled());
        assert!(peer.connected(&dialing).is_none());
        peer.stop_dialing(&dialing);
        assert!(peer.take_place().is_none(), "the place is still taken");
        let mut waits = std::pin::pin!(peer.wait_for_place());
        assert!(futures::poll!(waits.as_mut()).is_pending());
        drop(carrier);
        drop(waits.await);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_streams_that_begin_at_once_both_sides_choose_the_same() {
        for (local, remote, takes_what_comes) in [("a", "b", false), ("b", "a", true)] {
            let peer = between(local, remote);
            let Offer::Dial(dialing) = peer.offer(mail()) else {
                panic!("nobody dials");
            };
            peer.set_busy(&dialing, true);
            assert_eq!(peer.take_place().is_some(), takes_what_comes, "{local}");
            assert_eq!(
                peer.connected(&dialing).is_some(),
                !takes_what_comes,
                "{local}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_dialed_before_does_not_end_a_later_attempt() {
        let peer = peer();
        let Offer::Dial(first) = peer.offer(mail()) else {
            panic!("nobody dials");
        };
        peer.stop_dialing(&first);
        let second = peer.wants_dialing().unwrap();
        peer.stop_dialing(&first);
        assert!(peer.wants_dialing().is_none(), "somebody is at it");
        assert!(peer.connected(&second).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_still_arrive_waits_and_the_rest_comes_back() {
        let peer = peer();
        assert!(matches!(peer.offer(mail()), Offer::Dial(_)));
        assert!(peer.failed(&unreachable()).is_empty());
        tokio::time::advance(PATIENCE / 2).await;
        assert!(matches!(peer.offer(mail()), Offer::Kept));
        tokio::time::advance(PATIENCE / 2).await;
        assert_eq!(peer.failed(&unreachable()).len(), 1, "the older one");
        let gone = Failure::new(Obstacle::NotFound, "There is no such domain");
        assert_eq!(peer.failed(&gone).len(), 1, "there is no sense in waiting");
        assert!(peer.expires().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn after_many_failures_nothing_waits_in_vain() {
        let peer = peer();
        while peer
            .next_attempt()
            .is_none_or(|next| next <= Instant::now() + PATIENCE)
        {
            drop(peer.failed(&unreachable()));
        }
        let Offer::Refused(_, failure) = peer.offer(mail()) else {
            panic!("it waits");
        };
        assert_eq!(failure, unreachable());
        assert!(!peer.is_idle(), "the delay is remembered");
        tokio::time::advance(LONGEST_DELAY).await;
        assert!(peer.is_idle());
        assert!(matches!(peer.offer(mail()), Offer::Dial(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let peer = peer();
        for _ in 0..MOST {
            assert!(!matches!(peer.offer(mail()), Offer::Refused(..)));
        }
        assert!(matches!(peer.offer(mail()), Offer::Refused(..)));
        let gone = Failure::new(Obstacle::NotFound, "There is no such domain");
        assert_eq!(peer.failed(&gone).len(), MOST);
        let mut large = Element::bare("message", ns::JABBER_CLIENT);
        large.append_text("x".repeat(2 << 20));
        let large = Mail::new(large);
        let mut kept = 0;
        while !matches!(peer.offer(large.clone()), Offer::Refused(..)) {
            kept += 1;
        }
        assert!((1..8).contains(&kept), "{kept} of 2 MB each");
        // What all together may take.
        let full = Arc::new(Peer::new(peer.pair.clone(), Arc::new(Semaphore::new(10))));
        assert!(matches!(full.offer(mail()), Offer::Refused(..)));
    }
}
