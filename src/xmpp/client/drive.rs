//! The driver: what to do when a connection comes, breaks, is refused or taken over.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_xmpp::Stanza;
use tokio_xmpp::stanzastream;
use tracing::{debug, error};

use super::outbox::Outbox;
use super::session::{Attempt, Attempted, Lasting, Said, attempt};
use super::{Acknowledged, Event, Settings};
use crate::runtime::Backoff;
use crate::xmpp::{Error, component, network, secrets};

/// The delay between attempts: its first and its greatest ceiling.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// After so long online the next trouble is a new one.
const STABLE: Duration = Duration::from_mins(1);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How much of it is for what was sent to be acknowledged.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How tokio-xmpp's own pings are known again.
const PROBE: &str = "xmpp-rs-stanzastream-liveness-probe";

/// One account's connection. Poll [`Client::next`] in a loop; [`Client::send`] in between.
pub struct Client {
    settings: Arc<Settings>,
    link: Link,
    outbox: Outbox,
    events: VecDeque<Event>,
    backoff: Backoff,
    attempt: Option<Attempt>,
    /// When to make the next attempt, at the latest.
    again: Option<Instant>,
    /// Ends that wait when the network is back.
    pub(super) network: network::Watch,
    /// Since when the session is usable.
    online: Option<Instant>,
    /// What the server asked us to be: changes when somebody else claims it.
    resource: String,
    /// Logins that ended before the session began.
    unbound: u32,
}

enum Link {
    /// Nothing was begun, or everything has ended and is begun anew at the next attempt.
    None,
    Lasting(Box<Lasting>),
    Component(Box<component::Stream>),
    /// After `Failed`.
    Over,
}

/// What woke the driver up.
enum Woken {
    Said(Said),
    Stanza(Box<Result<Stanza, Error>>),
    Attempted(Box<Result<Attempted, Error>>),
    Again,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("jid", &self.settings.jid)
            .field("online", &self.online)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Begins nothing: the first `next` does.
    pub fn new(settings: Settings) -> Self {
        let resource = settings.resource.clone();
        Self {
            settings: Arc::new(settings),
            link: Link::None,
            outbox: Outbox::default(),
            events: VecDeque::new(),
            backoff: Backoff::new(DELAYS.0, DELAYS.1),
            attempt: None,
            again: Some(Instant::now()),
            network: network::Watch::new(network::local_addresses),
            online: None,
            resource,
            unbound: 0,
        }
    }

    /// The next event; `None` after `Failed`. Cancel safe: nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if matches!(self.link, Link::Over) {
                return None;
            }
            match self.wake().await {
                Woken::Said(said) => self.on_said(said),
                Woken::Stanza(outcome) => match *outcome {
                    Ok(stanza) => return Some(Event::Stanza(Box::new(stanza))),
                    Err(err) => {
                        self.link = Link::None;
                        self.suspend(&err);
                    }
                },
                Woken::Attempted(outcome) => self.on_attempted(*outcome),
                Woken::Again => self.begin(),
            }
        }
    }

    /// Queues a stanza and returns at once; it leaves while `next` is polled. While there is no connection it waits,
    /// and leaves with the next one, be it a resumed or a new session. See [`Client::has_room`] for when to stop.
    pub async fn send(&mut self, stanza: Stanza) -> Acknowledged {
        let acknowledged = self.outbox.push(stanza);
        self.flush();
        acknowledged
    }

    /// Whether another stanza should be queued now: false while many wait for the connection.
    pub fn has_room(&self) -> bool {
        self.outbox.has_room()
    }

    /// Sends what is queued and `</stream:stream>`, and waits for the server's, a second at most.
    pub async fn close(mut self) {
        let link = std::mem::replace(&mut self.link, Link::Over);
        let outbox = &mut self.outbox;
        let goodbye = async {
            match link {
                Link::Lasting(mut lasting) if self.online.is_some() => {
                    if timeout(LAST_WORDS, settle(&mut lasting, outbox))
                        .await
                        .is_err()
                    {
                        debug!("Not all that was sent is acknowledged");
                    }
                    lasting.stream.close().await;
                }
                Link::Component(stream) => stream.close(std::iter::from_fn(|| outbox.pop())).await,
                Link::Lasting(_) | Link::None | Link::Over => {}
            }
        };
        if timeout(GOODBYE, goodbye).await.is_err() {
            debug!("The server did not answer the goodbye in time");
        }
    }

    fn flush(&mut self) {
        if let Link::Lasting(lasting) = &self.link
            && self.online.is_some()
        {
            self.outbox.flush(&lasting.stream);
        }
    }

    /// Waits for something to happen. Cancel safe.
    async fn wake(&mut self) -> Woken {
        loop {
            self.flush();
            let Self {
                link,
                outbox,
                attempt,
                again,
                network,
                ..
            } = self;
            return tokio::select! {
                outcome = async { match attempt {
                    Some(attempt) => attempt.await,
                    None => std::future::pending().await,
                } } => {
                    *attempt = None;
                    Woken::Attempted(Box::new(outcome))
                }
                () = async { match again {
                    Some(again) => network.wait_until(*again).await,
                    None => std::future::pending().await,
                } } => Woken::Again,
                woken = async { match link {
                    Link::Lasting(lasting) => {
                        let managed = lasting.is_managed();
                        tokio::select! {
                            said = lasting.next() => Some(Woken::Said(said)),
                            () = outbox.progress(managed) => None,
                        }
                    }
                    Link::Component(stream) => Some(Woken::Stanza(Box::new(stream.next(|| outbox.pop()).await))),
                    Link::None | Link::Over => std::future::pending().await,
                } } => match woken {
                    Some(woken) => woken,
                    None => continue,
                },
            };
        }
    }

    fn on_said(&mut self, said: Said) {
        match said {
            Said::Event(event) => self.on_event(*event),
            // The attempt waits for its time, which `suspend` has set.
            Said::Wants => self.again = Some(self.again.unwrap_or_else(Instant::now)),
            Said::Ended => {
                error!("The stream ended by itself; a new one is begun");
                self.link = Link::None;
                self.outbox.restart();
                self.suspend(&Error::Closed);
            }
        }
    }

    fn on_event(&mut self, event: stanzastream::Event) {
        use stanzastream::{Event as Stream, StreamEvent};
        match event {
            Stream::Stanza(stanza) => {
                if !is_probe(&stanza) {
                    self.events.push_back(Event::Stanza(Box::new(stanza)));
                }
            }
            Stream::Stream(StreamEvent::Reset {
                bound_jid,
                features,
            }) => {
                self.connected();
                self.events.push_back(Event::Online {
                    jid: bound_jid,
                    mechanism: match &self.link {
                        Link::Lasting(lasting) => lasting.mechanism,
                        _ => None,
                    },
                    features: Some(Box::new(features)),
                });
            }
            Stream::Stream(StreamEvent::Resumed) => {
                self.connected();
                self.events.push_back(Event::Resumed);
            }
            Stream::Stream(StreamEvent::Suspended) => {
                let failure = match &self.link {
                    Link::Lasting(lasting) => lasting.take_failure(),
                    _ => None,
                };
                self.suspend(&failure.unwrap_or(Error::Closed));
            }
        }
    }

    fn connected(&mut self) {
        self.online = Some(Instant::now());
        self.unbound = 0;
        if let Link::Lasting(lasting) = &mut self.link {
            lasting.connected();
            // The next login of this run must not be weaker either.
            if let Some(mechanism) = lasting.mechanism {
                Arc::make_mut(&mut self.settings).minimum_mechanism = Some(mechanism);
            }
        }
    }

    /// The connection broke: says so and sets when to try again.
    fn suspend(&mut self, reason: &Error) {
        let was_online = self.online.take();
        if was_online.is_some_and(|since| since.elapsed() >= STABLE) {
            self.backoff.reset();
        }
        if was_online.is_none() {
            self.unbound += 1;
        }
        let taken = matches!(reason, Error::Stream { condition, .. } if condition == "conflict");
        // RFC 6120, 4.9.3.3: somebody else has our full JID. Claiming it back would throw each other out for ever. A
        // server may also refuse the resource itself.
        if taken || self.unbound >= 2 {
            self.unbound = 0;
            self.change_resource();
        }
        let after = self.backoff.next_delay();
        self.again = Some(Instant::now() + after);
        let reason = reason.to_string();
        self.events.push_back(if was_online.is_some() {
            Event::Suspended { reason }
        } else {
            Event::Retrying { reason, after }
        });
    }

    fn change_resource(&mut self) {
        match secrets::random_text(4) {
            Ok(suffix) => {
                self.resource = format!("{}-{}", self.settings.resource, suffix.to_lowercase());
                debug!(resource = self.resource, "Another resource from here on");
            }
            Err(err) => error!(%err, "The resource stays"),
        }
    }

    /// Begins an attempt where a connection is wanted. A lasting stream says so itself, right after it was begun or
    /// has lost one.
    fn begin(&mut self) {
        self.again = None;
        let wanted = match &self.link {
            Link::None if self.settings.component_secret.is_some() => true,
            Link::None => {
                self.link = Link::Lasting(Box::new(Lasting::new()));
                false
            }
            Link::Lasting(lasting) => lasting.wants(),
            Link::Component(_) | Link::Over => false,
        };
        if wanted && self.attempt.is_none() {
            self.attempt = Some(attempt(Arc::clone(&self.settings)));
        }
    }

    fn on_attempted(&mut self, outcome: Result<Attempted, Error>) {
        let outcome = match outcome {
            Ok(Attempted::Component(stream)) => {
                self.link = Link::Component(stream);
                self.connected();
                self.events.push_back(Event::Online {
                    jid: self.settings.jid.clone().into(),
                    mechanism: None,
                    features: None,
                });
                Ok(())
            }
            Ok(Attempted::Login(session)) => match &mut self.link {
                Link::Lasting(lasting) => {
                    lasting.connect(*session, &self.settings.jid, &self.resource)
                }
                _ => Ok(()),
            },
            Err(err) => Err(err),
        };
        match outcome {
            Ok(()) => {}
            Err(err) if err.is_fatal() => {
                self.link = Link::Over;
                self.outbox = Outbox::default();
                self.events.push_back(Event::Failed(err));
            }
            Err(err) => {
                let after = self.backoff.next_delay();
                self.again = Some(Instant::now() + after);
                self.events.push_back(Event::Retrying {
                    reason: err.to_string(),
                    after,
                });
            }
        }
    }
}

/// Sends what waits and takes the acknowledgements, which a stream that is closing no longer does.
async fn settle(lasting: &mut Lasting, outbox: &mut Outbox) {
    let managed = lasting.is_managed();
    outbox.flush(&lasting.stream);
    while !outbox.is_settled() {
        tokio::select! {
            // The stream goes on only while its events are taken.
            said = lasting.next() => if matches!(said, Said::Ended | Said::Wants) { return; },
            () = outbox.progress(managed) => outbox.flush(&lasting.stream),
        }
    }
}

/// An answer to a ping of tokio-xmpp's own, of which nobody else knows.
fn is_probe(stanza: &Stanza) -> bool {
    matches!(stanza, Stanza::Iq(iq) if iq.id().starts_with(PROBE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_stable_minute_the_delays_begin_anew_and_before_it_they_go_on() {
        let settings = Settings::new("bot@example.org".parse().unwrap(), String::new().into());
        let mut client = Client::new(settings);
        let mut delay = |online: Duration| {
            client.online = Some(Instant::now().checked_sub(online).unwrap());
            client.suspend(&Error::Closed);
            client.again.unwrap() - Instant::now()
        };
        tokio::time::advance(STABLE).await;
        let short: Vec<_> = (0..20).map(|_| delay(STABLE / 2)).collect();
        assert!(
            short.iter().any(|delay| *delay > DELAYS.0 * 10),
            "{short:?}"
        );
        assert!((0..20).all(|_| delay(STABLE) <= DELAYS.0));
    }
}
