//! A stream between two servers on which it is known who is who: reads, routes and writes at the same time until its end.
//!
//! What was written is remembered until the other server is known to have it: by XEP-0198, or where it has none, by the
//! answer to a ping (XEP-0199) that was sent behind it. What is not known to have arrived when the stream breaks goes back
//! to its senders; nothing is lost without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{FuturesOrdered, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use jid::Jid;
use minidom::Element;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::connect::Link;
use super::dialback::{self, Verdict};
use super::failure::Failure;
use super::lanes::Lanes;
use super::peer::{Carrier, Opened, Way};
use super::trust::Chain;
use super::{Federation, Pair, accept, give_back};
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
const PRESUMED: Duration = Duration::from_mins(2);
/// How long an acknowledgement may take.
const LATE: Duration = Duration::from_mins(1);
/// A stream on which nothing goes either way is closed.
const IDLE: Duration = Duration::from_mins(10);
/// When the process ends, so long is waited for what is under way.
const FAREWELL: Duration = Duration::from_millis(300);
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

struct Traffic<'a> {
    federation: &'a Federation,
    server: &'a Server,
    output: Output,
    known: BTreeMap<Pair, Known>,
    /// Of a stream that came to us.
    visitor: Option<Visitor>,
    sending: Option<Sending>,
    /// To a ping that is under way: it comes by whichever stream leads here.
    answer: Option<oneshot::Receiver<()>>,
    lanes: Lanes,
    commits: Arc<Commits>,
    /// Stanzas that were routed, since XEP-0198 is on.
    handled: Option<u32>,
    /// An acknowledgement waits until everything before it has arrived.
    owed: bool,
    settling: FuturesOrdered<BoxFuture<'static, (Vec<Stanza>, u32)>>,
    calls: FuturesUnordered<Called>,
    called: BTreeSet<Pair>,
    active: Instant,
}

/// What we send over it.
struct Sending {
    carrier: Carrier,
    unconfirmed: sm::Queue,
    sent: u32,
    /// XEP-0198 is on; else pings tell.
    managed: bool,
    asked: Option<Asked>,
}

/// A question that was sent behind so many stanzas.
struct Asked {
    sent: u32,
    at: Instant,
}

impl Sending {
    fn new(carrier: Carrier, managed: bool) -> Self {
        Self {
            carrier,
            unconfirmed: sm::Queue::default(),
            sent: 0,
            managed,
            asked: None,
        }
    }

    /// What stood before the question has arrived.
    fn confirm(&mut self) {
        if let Some(asked) = self.asked.take() {
            // Never more than was sent.
            self.unconfirmed.acknowledge(asked.sent).ok();
        }
    }
}

async fn next_mail(sending: Option<&Sending>) -> Mail {
    match sending {
        Some(sending) => sending.carrier.take().await,
        None => pending().await,
    }
}

/// A stream that we have opened.
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
    traffic.sending = carrier.map(|carrier| Sending::new(carrier, managed));
    Box::pin(traffic.run(input, stop)).await;
}

/// A stream that came to us.
pub(super) async fn receive(
    federation: &Federation,
    server: &Server,
    input: Input,
    output: Output,
    mut visitor: Visitor,
    stop: &Stop,
) {
    let mut traffic = Traffic::new(federation, server, output);
    let (known, first) = (visitor.known.take(), visitor.first.take());
    traffic.visitor = Some(visitor);
    if let Some(pair) = known {
        traffic.admit(pair, "certificate");
    }
    let mut input = input;
    if !traffic.known.is_empty() {
        input.reader.authenticated();
    }
    if let Some(first) = first
        && let Err(end) = traffic.element(first, &mut input)
    {
        traffic.end(end).await;
        return;
    }
    Box::pin(traffic.run(input, stop)).await;
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
            sending: None,
            answer: None,
            lanes: Lanes::new(server.clone(), Arc::clone(&commits)),
            commits,
            handled: None,
            owed: false,
            settling: FuturesOrdered::new(),
            calls: FuturesUnordered::new(),
            called: BTreeSet::new(),
            active: Instant::now(),
        }
    }

    async fn run(mut self, mut input: Input, stop: &Stop) {
        let end = self.exchange(&mut input, stop).await;
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
            let reads = pause.is_none()
                && !self.owed
                && !self.lanes.is_full()
                && self.output.waiting() < ENOUGH;
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
                }
                () = self.lanes.next(), if !self.lanes.is_empty() => {}
                Some((refusals, handled)) = self.settling.next(), if !self.settling.is_empty() => {
                    self.output.element(&sm::acknowledgement(handled));
                    for refusal in refusals {
                        self.server.route(refusal, None).await;
                    }
                }
                Some((pair, verdict)) = self.calls.next(), if !self.calls.is_empty() => {
                    self.decided(pair, &verdict);
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
                    if let Some(end) = self.look(now, begun) {
                        return end;
                    }
                    if now.duration_since(kept_alive) >= KEEP_ALIVE && self.output.is_flushed() {
                        kept_alive = now;
                        self.output.white_space();
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
            self.acknowledge();
            self.ask();
        }
    }

    /// Whether everything has arrived, either way.
    fn is_done(&self) -> bool {
        let sent = self.sending.as_ref().is_none_or(|sending| {
            sending.unconfirmed.is_empty() && sending.carrier.peer().expires().is_none()
        });
        sent && self.output.is_flushed() && self.lanes.is_empty() && self.settling.is_empty()
    }

    /// The stream has ended: what is not known to have arrived goes back, what waits goes another way.
    async fn end(mut self, end: End) {
        let reason = match &end {
            End::Closed => "closed the connection",
            End::Lost | End::Resumed => "broke off",
            End::Error(..) => "was sent away",
        };
        let address = self.visitor.as_ref().map(|visitor| visitor.address);
        note(self.server, &end, address);
        finish(&mut self.output, end).await;
        if let Some(sending) = self.sending.take() {
            let Sending {
                carrier,
                mut unconfirmed,
                ..
            } = sending;
            let peer = Arc::clone(carrier.peer());
            let left = unconfirmed.take();
            if !left.is_empty() {
                let text = format!(
                    "The server of {} {reason} before it confirmed this; it may have arrived",
                    peer.pair.remote
                );
                warn!(count = left.len(), "{text}");
                peer.tell(text.clone());
                give_back(self.server, &peer, left, &Failure::unreachable(text)).await;
            }
            drop(carrier);
            self.federation.resume(&peer);
        }
        while !self.lanes.is_empty() {
            self.lanes.next().await;
        }
        debug!("A stream with another server has ended");
    }

    /// The place of a carrier, for a stream that may send and has none.
    fn wanted(&self) -> BoxFuture<'static, Carrier> {
        let free = self.visitor.as_ref().is_some_and(|visitor| visitor.bidi);
        match self.known.values().next() {
            Some(known) if free && self.sending.is_none() => {
                let peer = Arc::clone(known.opened.peer());
                Box::pin(async move { peer.wait_for_place().await })
            }
            _ => Box::pin(pending()),
        }
    }

    fn carry(&mut self, carrier: Carrier) {
        debug!(remote = %carrier.peer().pair.remote, "A stream that came to us carries what waits");
        // Nothing was sent before, so that both count from here.
        self.sending = Some(Sending::new(carrier, self.handled.is_some()));
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
            if let Some(kind) = mail.kind() {
                let meters = &self.server.abuse().meters;
                meters.stanza(Direction::ToPeers, kind);
            }
            self.output.mail(&mail);
            sending.unconfirmed.push(mail);
            sending.sent = sending.sent.wrapping_add(1);
            let room = self.output.waiting() < ENOUGH && sending.unconfirmed.len() < UNCONFIRMED;
            next = room.then(|| sending.carrier.take_now()).flatten();
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
            let peer = sending.carrier.peer();
            let mut ping = iq("get", &id, Element::bare("ping", ns::PING));
            set(&mut ping, "from", &peer.pair.local);
            set(&mut ping, "to", &peer.pair.remote);
            self.output.element(&ping);
            self.answer = Some(peer.expect(id));
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
        // Behind a failed login, or before the first key.
        if element.is("bidi", ns::BIDI) && self.known.is_empty() {
            if let Some(visitor) = &mut self.visitor {
                visitor.bidi = true;
            }
            return Ok(());
        }
        Err(StreamError::new("unsupported-stanza-type").into())
    }

    /// Why the other server ends the stream.
    fn told(&self, error: &Element) {
        let condition = error.children().next().map_or("", Element::name);
        let text = error.get_child("text", ns::XMPP_STREAMS).map(Element::text);
        info!(condition, text, "Another server ends the stream");
        if let Some(sending) = &self.sending {
            let peer = sending.carrier.peer();
            peer.tell(format!(
                "The server of {} ended the stream ({condition})",
                peer.pair.remote
            ));
        }
    }

    /// RFC 6120, 8.1.1.2 and 8.1.2.2: both addresses, and only for domains that are known to be theirs.
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
        let mut pairs = self.known.keys();
        if !pairs.any(|pair| pair.remote == remote) {
            return Err(StreamError::new("invalid-from").into());
        }
        let Ok(to) = to else {
            self.count_handled();
            self.malformed(from, element);
            return Ok(());
        };
        let pair = Pair::new(to.domain().as_str(), remote);
        let Some(known) = self.known.get(&pair) else {
            // RFC 6120, 4.9.3.6; the domain is ours or it is not, but nobody has asked for it here.
            return Err(StreamError::new("host-unknown").into());
        };
        known.opened.peer().count_received();
        if self.answers_ping(&element, &to) {
            self.count_handled();
            return Ok(());
        }
        self.count_handled();
        let recipient = to.to_bare();
        if let Some(stanza) = Stanza::new(from, Some(to), element) {
            self.lanes.push(recipient, stanza);
        }
        Ok(())
    }

    /// To nobody who can be: answered in the name of the domain that the other server wrote to.
    fn malformed(&mut self, from: Jid, element: Element) {
        let remote = from.domain().as_str();
        let pair = self.known.keys().find(|pair| pair.remote == remote);
        let local = pair.and_then(|pair| Jid::new(&pair.local).ok());
        if let Some(stanza) = Stanza::new(from, local, element)
            && let Some(refusal) = stanza.error(&StanzaError::jid_malformed())
        {
            self.lanes.push(stanza.from().to_bare(), refusal);
        }
    }

    fn count_handled(&mut self) {
        if let Some(handled) = &mut self.handled {
            *handled = handled.wrapping_add(1);
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
                if self.handled.is_some() {
                    self.output.element(&sm::failed("unexpected-request"));
                } else {
                    self.handled = Some(0);
                    self.output.element(&sm::enabled(None));
                    if let Some(sending) = &mut self.sending {
                        sending.managed |= sending.sent == 0;
                    }
                }
            }
            "enable" => self.output.element(&sm::failed("unexpected-request")),
            "resume" => self.output.element(&sm::failed("item-not-found")),
            "r" if self.handled.is_some() => self.owed = true,
            "a" => {
                let handled = sm::handled(element)
                    .ok_or(StreamError::new("policy-violation").text("<a/> has a number in h"))?;
                if let Some(sending) = self.sending.as_mut().filter(|sending| sending.managed) {
                    sending.unconfirmed.acknowledge(handled)?;
                    sending.asked = None;
                }
            }
            // Both sides count what follows.
            "enabled" if self.visitor.is_none() && self.handled.is_none() => self.handled = Some(0),
            "failed" => {
                if let Some(sending) = &mut self.sending {
                    sending.managed = false;
                    sending.asked = None;
                }
            }
            "enabled" | "r" => {}
            _ => return Err(StreamError::new("unsupported-stanza-type").into()),
        }
        Ok(())
    }

    /// An `<r/>` is answered when everything before it has been routed and is on the disk.
    fn acknowledge(&mut self) {
        if let (true, true, Some(handled)) = (self.owed, self.lanes.is_empty(), self.handled) {
            self.owed = false;
            let pending = self.commits.take();
            self.settling
                .push_back(Box::pin(async move { (settle(pending).await, handled) }));
        }
    }

    /// XEP-0220.
    fn dialback(&mut self, element: &Element) -> Result<(), End> {
        let Some(visitor) = &self.visitor else {
            // We ask on streams that we open; nobody asks us there, and what was answered was read before.
            return Ok(());
        };
        if element.attr("type").is_some() {
            // We have asked nothing here (CVE-2012-3525).
            debug!("An answer to a question that was not asked is ignored");
            return Ok(());
        }
        let address = |name| element.attr(name).and_then(super::domain);
        let (Some(remote), Some(local)) = (address("from"), address("to")) else {
            return Err(StreamError::new("improper-addressing").into());
        };
        let pair = Pair::new(local, remote);
        match element.name() {
            "verify" => {
                let id = element.attr("id").unwrap_or_default();
                let verdict = self.vouch(&pair, id, element.text().trim());
                let answer = dialback::answer("verify", &pair, Some(id), &verdict);
                self.output.element(&answer);
                Ok(())
            }
            "result" => {
                let (id, key) = (visitor.id.clone(), element.text().trim().to_owned());
                self.asked_to_believe(pair, id, key);
                Ok(())
            }
            _ => Err(StreamError::new("unsupported-stanza-type").into()),
        }
    }

    /// XEP-0220, 2.3: whether a key that came to another server is ours.
    fn vouch(&self, pair: &Pair, id: &str, key: &str) -> Verdict {
        if !self.server.serves(&pair.local) {
            return Verdict::Error(StanzaError::item_not_found());
        }
        let secret = &self.federation.0.secret;
        if secret.knows(&pair.remote, &pair.local, id, key) {
            Verdict::Valid
        } else {
            warn!(local = %pair.local, remote = %pair.remote, "Somebody shows a key that is not ours");
            Verdict::Invalid
        }
    }

    /// XEP-0220, 2.2: a server asks to be believed that it is `pair.remote`.
    fn asked_to_believe(&mut self, pair: Pair, id: String, key: String) {
        let Some(visitor) = &self.visitor else {
            return;
        };
        if let Some(verdict) = accept::reject(self.server, &pair) {
            self.decided(pair, &verdict);
            return;
        }
        let chain = visitor.chain.clone();
        // Mostly it is known at once, without a question to anybody.
        let believed = accept::believe(self.federation, self.server, &pair, &chain);
        if let Some(Some(verdict)) = believed.now_or_never() {
            self.decided(pair, &verdict);
            return;
        }
        if self.calls.len() >= MOST_CALLS || self.known.len() >= MOST_PAIRS {
            let error = StanzaError::resource_constraint();
            self.decided(pair, &Verdict::Error(error));
            return;
        }
        if !self.called.insert(pair.clone()) {
            // One is under way for the same.
            return;
        }
        let (federation, server) = (self.federation.clone(), self.server.clone());
        self.calls.push(Box::pin(async move {
            let verdict = match accept::believe(&federation, &server, &pair, &chain).await {
                Some(verdict) => verdict,
                None => accept::call_back(&federation, &server, &pair, &id, &key).await,
            };
            (pair, verdict)
        }));
    }

    fn decided(&mut self, pair: Pair, verdict: &Verdict) {
        self.called.remove(&pair);
        self.output
            .element(&dialback::answer("result", &pair, None, verdict));
        match verdict {
            Verdict::Valid => self.admit(pair, "dialback"),
            Verdict::Invalid => {
                warn!(remote = %pair.remote, "Somebody is not the server they say they are");
            }
            Verdict::Error(error) => {
                let text = error.text.as_deref().unwrap_or_default();
                info!(remote = %pair.remote, condition = ?error.condition, text, "A server is not believed");
            }
        }
    }

    /// From now on the other server may send for this pair.
    fn admit(&mut self, pair: Pair, authentication: &'static str) {
        let Some(visitor) = &self.visitor else {
            return;
        };
        if self.known.contains_key(&pair) {
            return;
        }
        let Some(peer) = self.federation.peer(&pair) else {
            return;
        };
        info!(local = %pair.local, remote = %pair.remote, authentication, tls = visitor.tls, address = %visitor.address, "Another server has connected");
        let way = Way {
            direction: if visitor.bidi { "in, both ways" } else { "in" },
            authentication,
            tls: visitor.tls.clone(),
        };
        let opened = peer.open(way);
        self.known.insert(pair, Known { opened });
    }

    /// What time does.
    fn look(&mut self, now: Instant, begun: Instant) -> Option<End> {
        if self.visitor.is_some() && self.known.is_empty() && now.duration_since(begun) > UNKNOWN {
            return Some(StreamError::new("connection-timeout").into());
        }
        if let Some(sending) = &mut self.sending
            && let Some(asked) = &sending.asked
        {
            let waited = now.duration_since(asked.at);
            if sending.managed && waited > LATE {
                return Some(
                    StreamError::new("connection-timeout")
                        .text("You do not answer")
                        .into(),
                );
            }
            if !sending.managed && waited > PRESUMED {
                sending.confirm();
            }
        }
        let waits = self
            .sending
            .as_ref()
            .is_some_and(|sending| !sending.unconfirmed.is_empty());
        let is_idle = now.duration_since(self.active) > IDLE && !waits && self.lanes.is_empty();
        is_idle.then_some(End::Closed)
    }
}
