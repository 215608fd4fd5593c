//! A bound session: reads and routes what the client sends, and writes what is sent to it, at the same time; neither waits
//! for the other. What was not acknowledged outlives the connection (XEP-0198).

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture, ready};
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use minidom::Element;
use minidom::rxml::{Namespace, xml_ncname};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::csi::Held;
use super::negotiation::Bound;
use super::rate::Rate;
use super::sm::{self, Parcel, Queue, Takeover};
use super::wire::{End, Input, Output};
use super::xml::Event;
use super::{Streams, bind, finish};
use crate::runtime::Stop;
use crate::server::abuse::Direction;
use crate::server::feature::push;
use crate::server::mail::Mail;
use crate::server::session::{Session, settle};
use crate::server::stanza::{Kind, Stanza};
use crate::server::{Server, StreamError, random_id};
use crate::xmpp::ns;

/// How many bytes may wait to be written before the mailbox is no longer read.
const ENOUGH: usize = 64 * 1024;
/// How many acknowledgements may wait for the store before no more is read.
const UNSETTLED: usize = 64;
/// How much is read beyond a stanza that waits for the client's own acknowledgements.
const AHEAD: usize = 64;
/// How long a silent client is left alone.
const SILENCE: Duration = Duration::from_secs(150);
/// How long it may take to answer, or to take a byte.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the store has finished.
enum Settled {
    /// Stanzas that could not be kept, as errors for the client.
    Stanzas(Vec<Stanza>),
    /// Everything up to this count is durable: it may be acknowledged.
    Acknowledged(u32),
}

struct Running<'a> {
    streams: &'a Streams,
    output: Output,
    session: Arc<Session>,
    mailbox: mpsc::Receiver<Mail>,
    queue: Queue,
    held: Held,
    handled: u32,
    /// XEP-0198 is on.
    managed: bool,
    /// An `<r/>` of ours was not answered yet.
    requested: bool,
    id: Option<String>,
    takeover: Option<mpsc::Receiver<Takeover>>,
    settling: FuturesOrdered<BoxFuture<'static, Settled>>,
    /// What was read while another stanza was being routed.
    ahead: VecDeque<Event>,
    lang: Option<String>,
}

type Routing = BoxFuture<'static, Result<(), StreamError>>;

/// Runs a session to its end, its parking included.
pub(super) async fn run(streams: &Streams, bound: Box<Bound>, stop: &Stop) {
    let Bound {
        input,
        output,
        parcel,
        lang,
    } = *bound;
    let mut running = Running {
        streams,
        output,
        managed: parcel.managed,
        session: parcel.session,
        mailbox: parcel.mailbox,
        queue: parcel.queue,
        held: Held::default(),
        handled: parcel.handled,
        requested: false,
        takeover: None,
        id: parcel.id,
        settling: FuturesOrdered::new(),
        ahead: VecDeque::new(),
        lang,
    };
    if parcel.inactive {
        running.held.inactive();
    }
    running.take_up(parcel.held);
    let (end, routing, takeover) = running.exchange(input, stop).await;
    // Larger than all the traffic: an idle session does not hold the room for its end.
    Box::pin(running.end(end, routing, takeover, stop)).await;
}

impl Running<'_> {
    /// Sends again what the last connection lost, and what came meanwhile.
    fn take_up(&mut self, held: Vec<Mail>) {
        self.session.set_parked(false);
        self.takeover = self.id.clone().map(|id| self.register(id));
        for mail in self.queue.iter() {
            self.output.mail(mail);
        }
        for mail in held {
            self.write(mail);
        }
    }

    fn register(&self, id: String) -> mpsc::Receiver<Takeover> {
        let account = self.session.account().jid().clone();
        self.streams.0.resumable.insert(id, account)
    }

    /// The traffic of a session: why it ended, what was being routed, and who wants to go on with it.
    async fn exchange(
        &mut self,
        mut input: Input,
        stop: &Stop,
    ) -> (End, Option<Routing>, Option<Takeover>) {
        let session = Arc::clone(&self.session);
        let mut ended = std::pin::pin!(session.ended());
        let mut stopped = std::pin::pin!(stop.cancelled());
        let mut rate = Rate::new(match self.session.origin.address {
            Some(_) => self.streams.server().settings().limits.c2s_bytes_per_second,
            None => 0,
        });
        let mut pause: Option<Instant> = None;
        let mut routing: Option<Routing> = None;
        let mut watch = Watch::new();
        let mut tick = std::pin::pin!(sleep_until(watch.next));
        loop {
            // Most stanzas are routed without waiting: nothing else is looked at in between. What does wait is polled again
            // below, to be woken.
            if let Some(outcome) = routing.as_mut().and_then(FutureExt::now_or_never) {
                routing = None;
                if let Err(error) = outcome {
                    return (error.into(), None, None);
                }
                self.routed();
            }
            let reads = pause.is_none() && self.reads(routing.is_some());
            if reads {
                let waits = routing
                    .is_none()
                    .then(|| self.ahead.pop_front())
                    .flatten()
                    .map_or_else(|| input.buffered(), |event| Ok(Some(event)));
                match waits {
                    Ok(None) => {}
                    Ok(Some(event)) => match self.take(event, &mut routing) {
                        Ok(()) => continue,
                        Err(end) => return (end, routing, None),
                    },
                    Err(error) => return (error.into(), routing, None),
                }
            }
            let writes = self.output.waiting() < ENOUGH && self.queue.len() < sm::QUEUE;
            tokio::select! {
                outcome = OptionFuture::from(routing.as_mut()), if routing.is_some() => {
                    routing = None;
                    if let Some(Err(error)) = outcome {
                        return (error.into(), None, None);
                    }
                    self.routed();
                }
                event = input.more(), if reads => {
                    pause = rate.count(input.take_read());
                    if pause.is_some() {
                        self.streams.server().abuse().meters.paused();
                    }
                    watch.heard();
                    let taken = match event {
                        Ok(Some(event)) => self.take(event, &mut routing),
                        Ok(None) => Ok(()),
                        Err(end) => Err(end),
                    };
                    if let Err(end) = taken {
                        return (end, routing, None);
                    }
                }
                mail = self.mailbox.recv(), if writes => {
                    // It stays open while there is a session.
                    if let Some(mail) = mail {
                        self.deliver(mail);
                        self.drain();
                    }
                }
                outcome = self.output.flush(), if !self.output.is_flushed() => {
                    if outcome.is_err() {
                        return (End::Lost, routing, None);
                    }
                    watch.flushed();
                    if !self.managed {
                        self.queue.forget();
                    }
                }
                Some(settled) = self.settling.next(), if !self.settling.is_empty() => {
                    self.settled(settled).await;
                }
                takeover = receive(&mut self.takeover) => {
                    return (End::Resumed, routing, takeover);
                }
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => pause = None,
                () = &mut tick => {
                    match watch.check(self.managed, self.output.is_flushed()) {
                        Check::Fine => {}
                        Check::Ask if self.managed => self.request(),
                        Check::Ask => self.output.white_space(),
                        Check::Dead => return (End::Lost, routing, None),
                    }
                    tick.as_mut().reset(watch.next);
                }
                error = &mut ended => {
                    // What led to the end was sent before it: the answer to the request that removed the account.
                    self.drain();
                    return (error.into(), routing, None);
                }
                () = &mut stopped => {
                    return (StreamError::new("system-shutdown").into(), routing, None);
                }
            }
        }
    }

    /// Whether to read on. While a stanza is routed only where that may wait for the client: it is sent more than it has
    /// acknowledged room for, as with the messages of a long absence, and its acknowledgements are what comes next.
    fn reads(&self, routing: bool) -> bool {
        let is_full = self.queue.len() >= sm::QUEUE || self.session.is_tight();
        let may_wait = is_full && self.ahead.len() < AHEAD;
        self.settling.len() < UNSETTLED && (!routing || may_wait)
    }

    /// One after the other; acknowledgements overtake the rest.
    fn take(&mut self, event: Event, routing: &mut Option<Routing>) -> Result<(), End> {
        let acknowledges = matches!(&event, Event::Element(element) if element.is("a", ns::SM));
        if routing.is_some() && !acknowledges {
            self.ahead.push_back(event);
            return Ok(());
        }
        if let Some(started) = self.event(event)? {
            *routing = Some(started);
        }
        Ok(())
    }

    /// What the client has sent; a stanza begins to be routed.
    fn event(&mut self, event: Event) -> Result<Option<Routing>, End> {
        let mut element = match event {
            Event::Element(element) => element,
            Event::Close => return Err(End::Closed),
            Event::Open(_) => return Err(StreamError::new("bad-format").into()),
        };
        if Kind::of(&element).is_some() {
            if let Some(answer) = bind::session(&element) {
                self.handled = self.handled.wrapping_add(1);
                self.answer(answer);
                return Ok(None);
            }
            self.speak(&mut element);
            let (server, session) = (self.streams.server().clone(), Arc::clone(&self.session));
            return Ok(Some(Box::pin(async move {
                Server::receive(&server, &session, element).await
            })));
        }
        if element.has_ns(ns::SM) {
            self.manage(&element)?;
        } else if element.is("inactive", ns::CSI) {
            self.held.inactive();
            self.session.set_inactive(true);
        } else if element.is("active", ns::CSI) {
            self.session.set_inactive(false);
            for mail in self.held.active() {
                self.write(mail);
            }
        } else {
            return Err(StreamError::new("unsupported-stanza-type").into());
        }
        Ok(None)
    }

    /// RFC 6120, 8.1.5: what has no language is in that of the stream.
    fn speak(&self, element: &mut Element) {
        if let Some(lang) = &self.lang
            && element.attr_ns(&Namespace::XML, "lang").is_none()
        {
            let name = xml_ncname!("lang").to_owned();
            element.set_attr(Namespace::XML, name, lang.as_str());
        }
    }

    fn manage(&mut self, element: &Element) -> Result<(), End> {
        match element.name() {
            "r" if self.managed => {
                let handled = self.handled;
                if self.settling.is_empty() {
                    self.output.element(&sm::acknowledgement(handled));
                } else {
                    let settled = ready(Settled::Acknowledged(handled)).boxed();
                    self.settling.push_back(settled);
                }
            }
            "a" if self.managed => {
                let handled = sm::handled(element)
                    .ok_or(StreamError::new("undefined-condition").text("an <a/> without h"))?;
                self.queue.acknowledge(handled)?;
                self.requested = false;
            }
            "enable" if !self.managed => self.enable(element),
            _ => self.output.element(&sm::failed("unexpected-request")),
        }
        Ok(())
    }

    fn enable(&mut self, request: &Element) {
        let resume = matches!(request.attr("resume"), Some("true" | "1"));
        self.managed = true;
        self.handled = 0;
        self.queue.forget();
        if resume {
            let id = random_id();
            self.takeover = Some(self.register(id.clone()));
            self.id = Some(id);
        }
        self.output.element(&sm::enabled(self.id.as_deref()));
    }

    /// A stanza was handled. If something of it must still become durable, its acknowledgement waits for that.
    fn routed(&mut self) {
        self.handled = self.handled.wrapping_add(1);
        let pending = self.session.take_pending();
        if !pending.is_empty() {
            self.settling
                .push_back(settle(pending).map(Settled::Stanzas).boxed());
        }
    }

    async fn settled(&mut self, settled: Settled) {
        match settled {
            Settled::Acknowledged(handled) => {
                self.output.element(&sm::acknowledgement(handled));
            }
            Settled::Stanzas(refusals) => {
                for refusal in refusals {
                    self.answer(refusal.into_element());
                }
            }
        }
    }

    /// All that is in the mailbox, as long as there is room.
    fn drain(&mut self) {
        while self.output.waiting() < ENOUGH && self.queue.len() < sm::QUEUE {
            let Ok(mail) = self.mailbox.try_recv() else {
                break;
            };
            self.deliver(mail);
        }
        if self.managed && !self.requested && !self.queue.is_empty() {
            self.request();
        }
    }

    fn deliver(&mut self, mail: Mail) {
        if let Err(mail) = self.held.hold(mail) {
            for held in self.held.take() {
                self.write(held);
            }
            self.write(mail);
        }
    }

    fn write(&mut self, mail: Mail) {
        if let Some(kind) = mail.kind() {
            let meters = &self.streams.server().abuse().meters;
            meters.stanza(Direction::Out, kind);
        }
        self.output.mail(&mail);
        self.queue.push(mail);
    }

    /// A stanza of the stream itself, which counts as any other.
    fn answer(&mut self, element: Element) {
        self.write(Mail::new(element));
    }

    fn request(&mut self) {
        self.output.element(&sm::request());
        self.requested = true;
    }

    /// The connection is over; the session may not be.
    async fn end(
        mut self,
        end: End,
        routing: Option<Routing>,
        takeover: Option<Takeover>,
        stop: &Stop,
    ) {
        debug!(jid = %self.session.jid(), ?end, "A stream has ended");
        self.streams.note(&end, self.session.origin.address);
        if let Some(routing) = routing {
            // It was read, so it is routed; an error of it has nobody to be told to.
            routing.await.ok();
            self.routed();
        }
        if let Some(takeover) = takeover {
            return self.hand_over(takeover, end).await;
        }
        let parks = matches!(end, End::Lost) && self.id.is_some();
        if finish(&mut self.output, end).await && !self.managed {
            self.queue.forget();
        }
        if parks && let Some(takeover) = self.park(stop).await {
            return self.hand_over(takeover, End::Lost).await;
        }
        self.leave().await;
    }

    /// Waits for the client to come back.
    async fn park(&mut self, stop: &Stop) -> Option<Takeover> {
        self.session.set_parked(true);
        let session = Arc::clone(&self.session);
        push::parked(self.streams.server(), &session, &mut self.queue.iter());
        tokio::select! {
            takeover = receive(&mut self.takeover) => takeover,
            () = tokio::time::sleep(sm::RESUMPTION) => None,
            _ = session.ended() => None,
            () = stop.cancelled() => None,
        }
    }

    /// Gives the session to another connection of the same client.
    async fn hand_over(mut self, takeover: Takeover, end: End) {
        while let Some(settled) = self.settling.next().await {
            self.settled(settled).await;
        }
        self.session.set_parked(true);
        let parcel = Parcel {
            session: self.session,
            mailbox: self.mailbox,
            queue: self.queue,
            inactive: self.held.is_inactive(),
            held: self.held.take(),
            handled: self.handled,
            id: self.id,
            managed: self.managed,
        };
        if let Err(parcel) = takeover.send(parcel) {
            // Whoever asked has gone meanwhile.
            let Parcel {
                session,
                mailbox,
                mut queue,
                held,
                ..
            } = parcel;
            let mut left = queue.take();
            left.extend(held);
            self.streams.server().unbind(&session, mailbox, left).await;
        }
        finish(&mut self.output, end).await;
    }

    async fn leave(mut self) {
        if let Some(id) = &self.id {
            self.streams.0.resumable.remove(id);
        }
        let mut left = self.queue.take();
        left.extend(self.held.take());
        self.streams
            .server()
            .unbind(&self.session, self.mailbox, left)
            .await;
    }
}

/// The next request for the session; never, where it cannot be resumed.
async fn receive(requests: &mut Option<mpsc::Receiver<Takeover>>) -> Option<Takeover> {
    match requests {
        Some(requests) => match requests.recv().await {
            Some(takeover) => Some(takeover),
            None => pending().await,
        },
        None => pending().await,
    }
}

/// Whether the client is still there.
struct Watch {
    heard: Instant,
    asked: bool,
    /// When nothing waited to be written.
    flushed: Instant,
    next: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Check {
    Fine,
    Ask,
    Dead,
}

impl Watch {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            heard: now,
            asked: false,
            flushed: now,
            next: now + PATIENCE,
        }
    }

    fn heard(&mut self) {
        self.heard = Instant::now();
        self.asked = false;
    }

    fn flushed(&mut self) {
        self.flushed = Instant::now();
    }

    /// Once a minute. A client without stream management need not answer: writing to it shows whether it is there.
    fn check(&mut self, answers: bool, flushed: bool) -> Check {
        let now = Instant::now();
        self.next = now + PATIENCE;
        if flushed {
            self.flushed = now;
        }
        if now - self.flushed > PATIENCE || (answers && self.asked) {
            return Check::Dead;
        }
        if now - self.heard >= SILENCE {
            self.asked = answers;
            if !answers {
                self.heard = now;
            }
            return Check::Ask;
        }
        Check::Fine
    }
}
