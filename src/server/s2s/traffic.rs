//! A stream between two servers on which it is known who is who: reads, routes and writes at the same time until its end.
//!
//! What was written is remembered until the other server is known to have it: by XEP-0198, or where it has none, by the
//! answer to a ping (XEP-0199) that was sent behind it. What is not known to have arrived when the stream breaks goes back
//! to its senders; nothing is lost without a word. Likewise an answer of ours says that everything before it has arrived.

mod belief;
mod sending;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{FuturesOrdered, FuturesUnordered};
use jid::Jid;
use minidom::Element;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use self::sending::{Asked, Sending, next_mail};
use super::connect::Link;
use super::dialback::Verdict;
use super::failure::{Failure, Obstacle};
use super::lanes::Lanes;
use super::peer::{Carrier, Opened};
use super::trust::Chain;
use super::{Federation, Pair, policy};
use crate::runtime::Stop;
use crate::server::abuse::Direction;
use crate::server::mail::Mail;
use crate::server::session::{Commits, settle};
use crate::server::stanza::{Kind, Stanza, iq};
use crate::server::stream::rate::Rate;
use crate::server::stream::sm;
use crate::server::stream::wire::{End, Input, Output};
use crate::server::stream::xml::Event;
use crate::server::stream::{finish, note};
use crate::server::{Server, StanzaError, StreamError, random_id};
use crate::xmpp::element::set;
use crate::xmpp::ns;

/// How many bytes may wait to be written before no more is taken.
const ENOUGH: usize = 64 * 1024;
/// How many stanzas may be unconfirmed before no more is written.
const UNCONFIRMED: usize = 1_024;
/// How long an answer to a ping is waited for. The kernel notices a dead connection before; behind a living one is a server
/// that does not reach us, and what it was sent has arrived.
const PRESUMED: Duration = Duration::from_secs(40);
/// How long nothing new may be acknowledged: somebody there may be slow to read.
const LATE: Duration = Duration::from_mins(5);
/// So much may wait for the store before it is asked what became of it.
const UNSETTLED: usize = 64;
/// How long the other server may go on when we have closed a stream.
const CLOSING: Duration = Duration::from_secs(5);
/// The largest stanza for a server that has not said what it takes, in bytes.
const LARGEST: usize = 512 * 1_024;
/// A stream on which nothing goes either way is closed.
const IDLE: Duration = Duration::from_mins(10);
/// When the process ends, so long is waited for what is under way.
const FAREWELL: Duration = Duration::from_millis(150);
/// White space after so long shows whether somebody is there.
const KEEP_ALIVE: Duration = Duration::from_mins(1);
/// How long somebody who connects to us may take until a domain is known to be theirs.
const UNKNOWN: Duration = Duration::from_mins(1);
/// How many domains a stream may have.
const MOST_PAIRS: usize = 64;
/// How many call-backs a stream may wait for.
const MOST_CALLS: usize = 8;
/// The ids of our pings begin with this, so that their answers are known among others.
const PING: &str = "moltis-s2s-";
/// How much of what another server says about itself is kept.
const TOLD: usize = 200;

/// Who has connected to us.
pub(super) struct Visitor {
    pub(super) address: IpAddr,
    /// Of our header, to which keys belong.
    pub(super) id: String,
    /// What they have shown.
    pub(super) chain: Chain,
    pub(super) tls: String,
    /// They know XEP-0288 and want it.
    pub(super) bidi: bool,
    /// Who they were found to be already, by SASL.
    pub(super) known: Option<Pair>,
    /// What they have sent after that.
    pub(super) first: Option<Element>,
}

/// A pair for which the other server may send.
struct Known {
    opened: Opened,
}

type Called = BoxFuture<'static, (Pair, Verdict)>;

/// What the store has finished: refusals of what it could not keep, and what may be told now.
struct Settled {
    refusals: Vec<Stanza>,
    then: Then,
}

enum Then {
    Nothing,
    /// So many stanzas are safe (XEP-0198).
    Acknowledge(u32),
    /// What stood before a ping is safe.
    Answer(Stanza),
}

struct Traffic<'a> {
    federation: &'a Federation,
    server: &'a Server,
    output: Output,
    known: BTreeMap<Pair, Known>,
    /// Of a stream that came to us.
    visitor: Option<Visitor>,
    /// XEP-0288.
    bidi: bool,
    sending: Option<Sending>,
    /// To a ping that is under way: it comes by whichever stream leads here.
    answer: Option<oneshot::Receiver<()>>,
    lanes: Lanes,
    commits: Arc<Commits>,
    /// XEP-0198 is on: how many stanzas had come before.
    uncounted: Option<u64>,
    /// What is said when everything before this number has arrived.
    owed: VecDeque<(u64, Then)>,
    /// What was acknowledged last.
    acknowledged: u32,
    settling: FuturesOrdered<BoxFuture<'static, Settled>>,
    calls: FuturesUnordered<Called>,
    called: BTreeSet<Pair>,
    /// How many bytes wait to be written that answer what was read.
    answers: usize,
    active: Instant,
    /// We have closed the stream, and wait for the other side until then.
    closing: Option<Instant>,
}

/// A stream that we have opened. `None`: another one carries what waits, and this one may take its place later.
pub(super) async fn run(
    federation: &Federation,
    server: &Server,
    link: Link,
    carrier: Option<Carrier>,
    stop: &Stop,
) {
    let Link {
        pair,
        input,
        output,
        way,
        managed,
        bidi,
        most,
    } = link;
    let mut traffic = Traffic::new(federation, server, output);
    let Some(peer) = federation.peer(&pair) else {
        return;
    };
    // What the other server may send, if it may, is for the same two domains.
    let opened = peer.open(way);
    let _listed = if bidi {
        traffic.known.insert(pair, Known { opened });
        None
    } else {
        Some(opened)
    };
    traffic.bidi = bidi;
    traffic.sending = carrier.map(|carrier| Sending::new(federation, carrier, managed, most));
    if traffic.sending.is_none() && !bidi {
        traffic.close();
    }
    traffic.run(input, None, stop).await;
}

/// A stream that came to us.
pub(super) async fn receive(
    federation: &Federation,
    server: &Server,
    mut input: Input,
    output: Output,
    mut visitor: Visitor,
    stop: &Stop,
) {
    let mut traffic = Traffic::new(federation, server, output);
    let (known, first) = (visitor.known.take(), visitor.first.take());
    traffic.bidi = visitor.bidi;
    traffic.visitor = Some(visitor);
    if let Some(pair) = known {
        traffic.admit(pair, "certificate");
    }
    if !traffic.known.is_empty() {
        input.reader.authenticated();
    }
    Box::pin(traffic.run(input, first, stop)).await;
}

impl<'a> Traffic<'a> {
    fn new(federation: &'a Federation, server: &'a Server, output: Output) -> Self {
        let commits = Arc::new(Commits::default());
        Self {
            federation,
            server,
            output,
            known: BTreeMap::new(),
            visitor: None,
            bidi: false,
            sending: None,
            answer: None,
            lanes: Lanes::new(server.clone(), Arc::clone(&commits)),
            commits,
            uncounted: None,
            owed: VecDeque::new(),
            acknowledged: 0,
            settling: FuturesOrdered::new(),
            calls: FuturesUnordered::new(),
            called: BTreeSet::new(),
            answers: 0,
            active: Instant::now(),
            closing: None,
        }
    }

    async fn run(mut self, mut input: Input, first: Option<Element>, stop: &Stop) {
        let begun = match first {
            Some(first) => self.element(first, &mut input),
            None => Ok(()),
        };
        let end = match begun {
            Ok(()) => self.exchange(&mut input, stop).await,
            Err(end) => end,
        };
        self.end(end).await;
    }

    async fn exchange(&mut self, input: &mut Input, stop: &Stop) -> End {
        let limit = self.server.settings().limits.s2s_bytes_per_second;
        let mut rate = Rate::new(limit);
        let mut pause: Option<Instant> = None;
        let begun = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        tick.reset();
        let mut kept_alive = begun;
        let mut leaving: Option<Instant> = None;
        loop {
            // Only what answers them holds up who writes to us: two servers that are busy writing to each other go on reading.
            let reads = pause.is_none() && !self.lanes.is_full() && self.answers < ENOUGH;
            let wanted = self.wanted();
            tokio::select! {
                event = input.more(), if reads => {
                    pause = rate.count(input.take_read());
                    if pause.is_some() {
                        self.server.abuse().meters.paused();
                    }
                    let taken = match event {
                        Ok(Some(event)) => self.event(event, input),
                        Ok(None) => Ok(()),
                        Err(end) => Err(end),
                    };
                    if let Err(end) = taken {
                        return end;
                    }
                }
                mail = next_mail(self.sending.as_ref()), if self.writes() => self.deliver(mail),
                carrier = wanted => self.carry(carrier),
                outcome = self.output.flush(), if !self.output.is_flushed() => {
                    if outcome.is_err() {
                        return End::Lost;
                    }
                    self.answers = 0;
                }
                () = self.lanes.next(), if !self.lanes.is_empty() => {}
                Some(settled) = self.settling.next(), if !self.settling.is_empty() => {
                    self.settled(settled);
                }
                Some((pair, verdict)) = self.calls.next(), if !self.calls.is_empty() => {
                    self.decided(&pair, &verdict);
                    if !self.known.is_empty() {
                        input.reader.authenticated();
                    }
                }
                Some(answered) = OptionFuture::from(self.answer.as_mut()) => {
                    self.answer = None;
                    // Else another carrier asks in its place, and time decides.
                    if let (Ok(()), Some(sending)) = (answered, &mut self.sending) {
                        sending.confirm();
                    }
                }
                () = sleep_until(pause.unwrap_or(begun)), if pause.is_some() => pause = None,
                now = tick.tick() => {
                    if let Err(end) = self.look(now, begun) {
                        return end;
                    }
                    if now.duration_since(kept_alive) >= KEEP_ALIVE && self.output.is_flushed() {
                        kept_alive = now;
                        self.white_space();
                    }
                }
                () = stop.cancelled(), if leaving.is_none() => leaving = Some(Instant::now() + FAREWELL),
                () = sleep_until(leaving.unwrap_or(begun)), if leaving.is_some() => {
                    return StreamError::new("system-shutdown").into();
                }
            }
            if leaving.is_some() && self.is_done() {
                return StreamError::new("system-shutdown").into();
            }
            self.pay();
            self.ask();
        }
    }

    /// Writes something of our own, which is no stanza that was routed.
    fn say(&mut self, element: &Element) {
        if self.closing.is_some() {
            return;
        }
        let before = self.output.waiting();
        self.output.element(element);
        let written = self.output.waiting().saturating_sub(before);
        self.answers = self.answers.saturating_add(written);
    }

    fn white_space(&mut self) {
        if self.closing.is_none() {
            self.output.white_space();
        }
    }

    /// Says that we send nothing more (RFC 6120, 4.4); what the other server has sent meanwhile still arrives.
    fn close(&mut self) {
        // What comes from now on goes over another stream.
        self.sending = None;
        self.output.close();
        self.closing = Some(Instant::now() + CLOSING);
    }

    /// Whether everything has arrived, either way.
    fn is_done(&self) -> bool {
        let sent = self.sending.as_ref().is_none_or(|sending| {
            sending.unconfirmed.is_empty() && sending.peer.expires().is_none()
        });
        sent && self.output.is_flushed()
            && self.lanes.is_empty()
            && self.owed.is_empty()
            && self.settling.is_empty()
    }

    /// The stream has ended: what is under way here arrives, or its senders are told.
    async fn end(mut self, end: End) {
        let address = self.visitor.as_ref().map(|visitor| visitor.address);
        note(self.server, &end, address);
        if self.closing.is_some() {
            self.output.shut_down().await.ok(); // It was closed already.
        } else {
            if !matches!(end, End::Lost) {
                timeout(FAREWELL, self.last_words()).await.ok(); // Then they must ask again.
            }
            finish(&mut self.output, end).await;
        }
        drop(self.sending.take());
        while !self.lanes.is_empty() {
            self.lanes.next().await;
        }
        self.settle(Then::Nothing);
        while let Some(settled) = self.settling.next().await {
            for refusal in settled.refusals {
                self.server.route(refusal, None).await;
            }
        }
        debug!("A stream with another server has ended");
    }

    /// What has arrived, so that nobody has to send it once more, or believes it lost.
    async fn last_words(&mut self) {
        while !self.lanes.is_empty() {
            self.lanes.next().await;
        }
        self.settle(Then::Nothing);
        while let Some(settled) = self.settling.next().await {
            self.settled(settled);
        }
        if let Some(handled) = self.handled(self.lanes.arrived()) {
            self.output.element(&sm::acknowledgement(handled));
        }
    }

    /// The place of a carrier, for a stream that may send and has none.
    fn wanted(&self) -> BoxFuture<'static, Carrier> {
        match self.known.values().next() {
            Some(known) if self.bidi && self.sending.is_none() && self.closing.is_none() => {
                let peer = Arc::clone(known.opened.peer());
                Box::pin(async move { peer.wait_for_place().await })
            }
            _ => Box::pin(pending()),
        }
    }

    fn carry(&mut self, carrier: Carrier) {
        debug!(remote = %carrier.peer().pair.remote, "A stream for both ways carries what waits");
        // Nothing was sent before, so that both count from here.
        let managed = self.uncounted.is_some();
        self.sending = Some(Sending::new(self.federation, carrier, managed, LARGEST));
    }

    fn writes(&self) -> bool {
        self.output.waiting() < ENOUGH
            && self
                .sending
                .as_ref()
                .is_some_and(|sending| sending.unconfirmed.len() < UNCONFIRMED)
    }

    fn deliver(&mut self, mail: Mail) {
        self.active = Instant::now();
        let Some(sending) = &mut self.sending else {
            return;
        };
        let mut next = Some(mail);
        while let Some(mail) = next {
            if mail.size() > sending.most {
                // It would end the stream, and take others along.
                let text = format!("{} takes no stanza of this size", sending.peer.pair.remote);
                let failure = Failure::new(Obstacle::TooLarge, text);
                self.federation
                    .give_back(&sending.peer, vec![mail], &failure);
            } else {
                if let Some(kind) = mail.kind() {
                    let meters = &self.server.abuse().meters;
                    meters.stanza(Direction::ToPeers, kind);
                }
                self.output.mail(&mail);
                sending.push(mail);
            }
            let room = self.output.waiting() < ENOUGH && sending.unconfirmed.len() < UNCONFIRMED;
            next = room.then(|| sending.take_now()).flatten();
        }
    }

    /// Asks whether everything has arrived, once at a time.
    fn ask(&mut self) {
        let Some(sending) = &mut self.sending else {
            return;
        };
        if sending.unconfirmed.is_empty() || sending.asked.is_some() {
            return;
        }
        if sending.managed {
            self.output.element(&sm::request());
        } else {
            let id = format!("{PING}{}", random_id());
            let pair = &sending.peer.pair;
            let mut ping = iq("get", &id, Element::bare("ping", ns::PING));
            set(&mut ping, "from", &pair.local);
            set(&mut ping, "to", &pair.remote);
            self.output.element(&ping);
            self.answer = Some(sending.peer.expect(id));
        }
        sending.asked = Some(Asked {
            sent: sending.sent,
            at: Instant::now(),
        });
    }

    fn event(&mut self, event: Event, input: &mut Input) -> Result<(), End> {
        match event {
            Event::Element(element) => self.element(element, input),
            Event::Close => Err(End::Closed),
            Event::Open(_) => Err(StreamError::new("bad-format").into()),
        }
    }

    fn element(&mut self, element: Element, input: &mut Input) -> Result<(), End> {
        if let Some(kind) = Kind::of(&element) {
            let meters = &self.server.abuse().meters;
            meters.stanza(Direction::FromPeers, kind);
            return self.stanza(element);
        }
        if element.has_ns(ns::DIALBACK) {
            let outcome = self.dialback(&element);
            if !self.known.is_empty() {
                input.reader.authenticated();
            }
            return outcome;
        }
        if element.has_ns(ns::SM) {
            return self.management(&element);
        }
        if element.is("error", ns::STREAM) {
            self.told(&element);
            return Err(End::Closed);
        }
        // Behind a failed login, or before the first key; some write it in the namespace of the feature.
        if element.is("bidi", ns::BIDI) || element.is("bidi", ns::BIDI_FEATURE) {
            self.bidi |= self.known.is_empty();
            return Ok(());
        }
        // Some tell them once more, after dialback.
        if element.is("features", ns::STREAM) && self.visitor.is_none() {
            return Ok(());
        }
        Err(StreamError::new("unsupported-stanza-type").into())
    }

    /// Why the other server ends the stream.
    fn told(&self, error: &Element) {
        let short = |text: &str| -> String { text.chars().take(TOLD).collect() };
        let mut conditions = error
            .children()
            .filter(|child| child.has_ns(ns::XMPP_STREAMS));
        let condition = conditions.find(|child| child.name() != "text");
        let condition = short(condition.map_or("", Element::name));
        let text = error.get_child("text", ns::XMPP_STREAMS).map(Element::text);
        let text = text.as_deref().map(short);
        info!(condition, text, "Another server ends the stream");
        if let Some(sending) = &self.sending {
            sending.peer.tell(format!(
                "The server of {} ended the stream ({condition})",
                sending.peer.pair.remote
            ));
        }
    }

    /// RFC 6120, 8.1.1.2 and 8.1.2.2: both addresses, and only from domains that are known to be theirs.
    fn stanza(&mut self, element: Element) -> Result<(), End> {
        self.active = Instant::now();
        if self.known.is_empty() {
            return Err(StreamError::new("not-authorized").into());
        }
        let address = |name| match element.attr(name) {
            None | Some("") => Err(StreamError::new("improper-addressing")),
            Some(jid) => Ok(Jid::new(jid)),
        };
        let (from, to) = (address("from")?, address("to")?);
        let Ok(from) = from else {
            return Err(StreamError::new("invalid-from").into());
        };
        let remote = from.domain().as_str();
        let Some(known) = self.known.iter().find(|(pair, _)| pair.remote == remote) else {
            return Err(StreamError::new("invalid-from").into());
        };
        let Ok(to) = to else {
            self.refuse(from, element, &StanzaError::jid_malformed());
            return Ok(());
        };
        let local = to.domain().as_str();
        let exact = self.known.get(&Pair::new(local, remote));
        exact.unwrap_or(known.1).opened.peer().count_received();
        if !self.server.serves(local) {
            // Who asks for a domain that was here yesterday is no reason to end what others have under way.
            let from = from.clone();
            self.refuse_to(from, to, element, &StanzaError::item_not_found());
            return Ok(());
        }
        if self.answers_ping(&element, &to) {
            self.lanes.skip();
            return Ok(());
        }
        let recipient = to.to_bare();
        if let Some(stanza) = Stanza::new(from, Some(to), element) {
            if is_ping(&stanza) {
                self.pinged(&stanza);
            } else {
                self.lanes.push(recipient, stanza);
            }
        }
        if self.commits.len() >= UNSETTLED {
            self.settle(Then::Nothing);
        }
        Ok(())
    }

    /// A server asks behind what it has sent: the answer says that all of it has arrived.
    fn pinged(&mut self, stanza: &Stanza) {
        self.lanes.skip();
        if let Some(answer) = stanza.result(None) {
            self.owe(Then::Answer(answer));
        }
    }

    /// Who asks again and again is answered less often.
    fn owe(&mut self, then: Then) {
        if self.owed.len() < UNSETTLED {
            self.owed.push_back((self.lanes.begun(), then));
        }
    }

    /// Says what may be said by now.
    fn pay(&mut self) {
        let arrived = self.lanes.arrived();
        while let Some((_, then)) = self.owed.pop_front_if(|(number, _)| *number <= arrived) {
            self.settle(then);
        }
    }

    /// Waits until what has arrived is on the disk.
    fn settle(&mut self, then: Then) {
        let pending = self.commits.take();
        self.settling.push_back(Box::pin(async move {
            let refusals = settle(pending).await;
            Settled { refusals, then }
        }));
    }

    fn settled(&mut self, settled: Settled) {
        for refusal in settled.refusals {
            if let Some(to) = refusal.to().map(Jid::to_bare) {
                self.lanes.aside(to, refusal);
            }
        }
        match settled.then {
            Then::Nothing => {}
            Then::Acknowledge(handled) => {
                self.acknowledged = handled;
                self.say(&sm::acknowledgement(handled));
            }
            Then::Answer(answer) => {
                if let Some(to) = answer.to().map(Jid::to_bare) {
                    self.lanes.aside(to, answer);
                }
            }
        }
    }

    /// How many of the stanzas that have arrived came since XEP-0198 is on, modulo 2^32.
    fn handled(&self, arrived: u64) -> Option<u32> {
        let handled = arrived.saturating_sub(self.uncounted?);
        u32::try_from(handled & u64::from(u32::MAX)).ok()
    }

    /// To nobody who can be: answered in the name of a domain that the other server writes to.
    fn refuse(&mut self, from: Jid, element: Element, error: &StanzaError) {
        let remote = from.domain().as_str();
        let pair = self.known.keys().find(|pair| pair.remote == remote);
        let local = pair.and_then(|pair| Jid::new(&pair.local).ok());
        if let Some(local) = local {
            self.refuse_to(from, local, element, error);
        }
    }

    fn refuse_to(&mut self, from: Jid, to: Jid, element: Element, error: &StanzaError) {
        self.lanes.skip();
        let Some(stanza) = Stanza::new(from, Some(to), element) else {
            return;
        };
        if let Some(refusal) = stanza.error(error) {
            self.lanes.aside(stanza.from().to_bare(), refusal);
        }
    }

    /// The answer to a ping of this or of another stream of ours.
    fn answers_ping(&self, element: &Element, to: &Jid) -> bool {
        let id = element.attr("id").unwrap_or_default();
        let is_answer = matches!(element.attr("type"), Some("result" | "error"));
        let is_ping = is_answer && id.starts_with(PING) && to.node().is_none();
        if is_ping {
            let remote = element.attr("from").and_then(|from| Jid::new(from).ok());
            if let Some(remote) = remote {
                let pair = Pair::new(to.domain().as_str(), remote.domain().as_str());
                self.federation.answered(&pair, id);
            }
        }
        is_ping
    }

    fn management(&mut self, element: &Element) -> Result<(), End> {
        match element.name() {
            "enable" if self.visitor.is_some() && !self.known.is_empty() => {
                if self.uncounted.is_some() {
                    self.say(&sm::failed("unexpected-request"));
                } else {
                    self.uncounted = Some(self.lanes.begun());
                    self.say(&sm::enabled(None));
                    if let Some(sending) = &mut self.sending {
                        sending.managed |= sending.sent == 0;
                    }
                }
            }
            "enable" => self.say(&sm::failed("unexpected-request")),
            "resume" => self.say(&sm::failed("item-not-found")),
            "r" => {
                if let Some(handled) = self.handled(self.lanes.begun()) {
                    self.owe(Then::Acknowledge(handled));
                }
            }
            "a" => {
                let handled = sm::handled(element)
                    .ok_or(StreamError::new("policy-violation").text("<a/> has a number in h"))?;
                if let Some(sending) = self.sending.as_mut().filter(|sending| sending.managed) {
                    sending.acknowledge(handled)?;
                }
            }
            // Both sides count what follows.
            "enabled" if self.visitor.is_none() && self.uncounted.is_none() => {
                self.uncounted = Some(self.lanes.begun());
            }
            "failed" => {
                if let Some(sending) = &mut self.sending {
                    sending.managed = false;
                    sending.asked = None;
                }
            }
            "enabled" => {}
            _ => return Err(StreamError::new("unsupported-stanza-type").into()),
        }
        Ok(())
    }

    /// What time does.
    fn look(&mut self, now: Instant, begun: Instant) -> Result<(), End> {
        if self.closing.is_some_and(|until| until <= now) {
            return Err(End::Lost);
        }
        if self.visitor.is_some() && self.known.is_empty() && now.duration_since(begun) > UNKNOWN {
            return Err(StreamError::new("connection-timeout").into());
        }
        // What a reload forbids ends.
        let settings = self.server.settings();
        let mut remotes = self.known.keys().map(|pair| pair.remote.as_str());
        if remotes.any(|remote| policy::reason_against(&settings.federation, remote).is_some()) {
            return Err(StreamError::new("policy-violation")
                .text("This server does not talk to yours")
                .into());
        }
        self.patience(now)?;
        // While somebody is slow to read, what came before is told.
        let handled = self.handled(self.lanes.arrived());
        match handled.filter(|handled| *handled != self.acknowledged) {
            Some(handled) if !self.owed.is_empty() => self.settle(Then::Acknowledge(handled)),
            _ if self.commits.is_empty() => {}
            _ => self.settle(Then::Nothing),
        }
        let waits = self
            .sending
            .as_ref()
            .is_some_and(|sending| !sending.unconfirmed.is_empty());
        let is_idle = now.duration_since(self.active) > IDLE && !waits && self.is_done();
        if is_idle && self.closing.is_none() {
            self.close();
        }
        Ok(())
    }

    /// What is not confirmed in time.
    fn patience(&mut self, now: Instant) -> Result<(), End> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        let Some(asked) = &sending.asked else {
            return Ok(());
        };
        if !sending.managed {
            if now.duration_since(asked.at) > PRESUMED {
                sending.confirm();
            }
        } else if now.duration_since(sending.progress) > LATE {
            return Err(StreamError::new("connection-timeout")
                .text("You do not acknowledge what you get")
                .into());
        } else {
            // It was answered, with nothing new: another question.
            sending.asked = None;
        }
        Ok(())
    }
}

/// Whether a server asks another: from domain to domain (XEP-0199).
fn is_ping(stanza: &Stanza) -> bool {
    let is_domain = |jid: &Jid| jid.node().is_none() && jid.resource().is_none();
    stanza.kind() == Kind::Iq
        && stanza.type_() == "get"
        && stanza.has("ping", ns::PING)
        && is_domain(stanza.from())
        && stanza.to().is_some_and(is_domain)
        && stanza.id().is_some_and(|id| !id.is_empty())
}
