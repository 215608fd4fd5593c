//! Notifications on their way to app servers (XEP-0357, 7), and what those answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::device::{Device, Registration};
use super::rules::Summary;
use super::{Devices, Event, Push, is_from, remove};
use crate::config::PushSummary;
use crate::runtime::{Stop, contain};
use crate::server::abuse::Refusal;
use crate::server::account::Account;
use crate::server::router::OnAnswer;
use crate::server::session::Session;
use crate::server::stanza::{Stanza, iq};
use crate::server::{Server, random_id};
use crate::storage;
use crate::xmpp::element::element;
use crate::xmpp::form::{Field, Form};
use crate::xmpp::ns;

/// Notifications that are being handed over at the same time, and how long one may take: an app server may be a client that
/// does not read.
const AT_ONCE: usize = 64;
/// Of one app server, and how many more may wait for it: what it does not take delays nobody else's.
const AT_ONCE_EACH: usize = 8;
const WAITING_EACH: usize = 100;
/// For all of them.
const WAITING: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers that are waited for, and how long.
const PENDING: usize = 10_000;
const ANSWERED: Duration = Duration::from_mins(10);

/// What was sent and not answered yet, by id.
#[derive(Default)]
pub(super) struct Notices(Mutex<HashMap<String, Pending>>);

struct Pending {
    account: BareJid,
    registration: Registration,
    since: Instant,
}

impl Notices {
    fn add(&self, id: String, pending: Pending) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PENDING {
            all.retain(|_, pending| pending.since.elapsed() < ANSWERED);
        }
        // What is not waited for does no harm: its failure is not counted.
        if all.len() < PENDING {
            all.insert(id, pending);
        }
    }

    /// Only what was asked of this service, for this account.
    fn take(&self, id: &str, from: &Jid, to: &BareJid) -> Option<Pending> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = all.get(id)?;
        let is_answer = is_from(&pending.registration.service, from) && pending.account == *to;
        is_answer.then(|| all.remove(id)).flatten()
    }
}

/// Thinks about what happens, and wakes devices, until `stop`.
pub async fn maintain(server: Server, stop: Stop) -> anyhow::Result<()> {
    let Some(push) = Push::of(&server) else {
        return Ok(());
    };
    let waiting = push
        .waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(mut events) = waiting else {
        return Ok(());
    };
    if let Err(err) = push.learn(server.storage()).await {
        warn!("Who wants to be woken is looked up for each message: {err}");
    }
    let mut outbox = Outbox::default();
    loop {
        let event = tokio::select! {
            event = events.recv(), if outbox.has_room() => event,
            Some(()) = outbox.next() => continue,
            () = stop.cancelled() => None,
        };
        let Some(event) = event else {
            return Ok(());
        };
        let notices = match notices(&server, event).await {
            Ok(notices) => notices,
            Err(err) => {
                warn!("Who wants to be woken cannot be read: {err}");
                continue;
            }
        };
        for notice in notices {
            if let Err(service) = outbox.add(&server, notice) {
                server.abuse().refused(Refusal::Push, &service);
            }
        }
    }
}

/// Notifications that are being handed over, and those that wait for others of the same app server.
#[derive(Default)]
struct Outbox {
    under_way: JoinSet<(Server, Jid)>,
    services: HashMap<Jid, Lane>,
    waiting: usize,
}

#[derive(Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<Stanza>,
}

impl Outbox {
    fn has_room(&self) -> bool {
        self.under_way.len() < AT_ONCE
    }

    /// Hands a notification over, or lets it wait. `Err`: its app server does not keep up.
    fn add(&mut self, server: &Server, notice: Stanza) -> Result<(), Jid> {
        let Some(service) = notice.to().cloned() else {
            return Ok(());
        };
        let lane = self.services.entry(service.clone()).or_default();
        if lane.under_way < AT_ONCE_EACH {
            lane.under_way += 1;
            self.hand_over(server.clone(), service, notice);
            return Ok(());
        }
        if lane.waiting.len() >= WAITING_EACH || self.waiting >= WAITING {
            return Err(service);
        }
        lane.waiting.push_back(notice);
        self.waiting += 1;
        Ok(())
    }

    fn hand_over(&mut self, server: Server, service: Jid, notice: Stanza) {
        self.under_way.spawn(async move {
            let handed = contain("A notification", server.route(notice, None));
            if timeout(PATIENCE, handed).await.is_err() {
                debug!("An app server does not take a notification");
            }
            (server, service)
        });
    }

    /// Waits until one was handed over, and goes on with the next of its app server. `None`: there is nothing to wait for.
    async fn next(&mut self) -> Option<()> {
        let (server, service) = self.under_way.join_next().await?.ok()?;
        let lane = self.services.get_mut(&service)?;
        if let Some(notice) = lane.waiting.pop_front() {
            self.waiting = self.waiting.saturating_sub(1);
            self.hand_over(server, service, notice);
            return Some(());
        }
        lane.under_way = lane.under_way.saturating_sub(1);
        if lane.under_way == 0 {
            self.services.remove(&service);
        }
        Some(())
    }
}

/// What is to be sent for what happened.
async fn notices(server: &Server, event: Event) -> storage::Result<Vec<Stanza>> {
    let mut notices = Vec::new();
    match event {
        Event::Arrived {
            account,
            summary,
            again,
        } => {
            let due = |device: &mut Device| device.wake(&account, &summary.conversation, again);
            wake(server, &account, &summary, due, &mut notices).await?;
        }
        Event::Missed { session, summary } => {
            missed(server, &session, &summary, &mut notices).await?;
        }
        Event::Said { members, summary } => {
            for member in members {
                let Ok(Some(account)) = server.account(&member).await else {
                    continue;
                };
                let due = |device: &mut Device| device.wake(&account, &summary.conversation, false);
                wake(server, &account, &summary, due, &mut notices).await?;
            }
        }
        Event::Read {
            account,
            conversation,
        } => {
            let devices = account.extensions.get_or_default::<Devices>();
            let mut devices = devices.get(server.storage(), account.owner()).await?;
            for device in devices.iter_mut() {
                device.read(&conversation);
            }
        }
    }
    Ok(notices)
}

async fn missed(
    server: &Server,
    session: &Arc<Session>,
    summary: &Summary,
    notices: &mut Vec<Stanza>,
) -> storage::Result<()> {
    let account = session.account();
    let due = |device: &mut Device| {
        let is_its = device.is_of(session);
        is_its
            .then(|| device.wake(account, &summary.conversation, true))
            .flatten()
    };
    wake(server, account, summary, due, notices).await
}

/// Asks each device of an account whether it is to be woken, and for how many messages.
async fn wake(
    server: &Server,
    account: &Account,
    summary: &Summary,
    mut due: impl FnMut(&mut Device) -> Option<u64>,
    notices: &mut Vec<Stanza>,
) -> storage::Result<()> {
    let Some(push) = Push::of(server) else {
        return Ok(());
    };
    let told = server.settings().push_summary;
    let devices = account.extensions.get_or_default::<Devices>();
    let mut devices = devices.get(server.storage(), account.owner()).await?;
    for device in devices.iter_mut() {
        let Some(count) = due(device) else {
            continue;
        };
        let (id, registration) = (random_id(), device.registration.clone());
        let publish = publish(&registration, summary, count, told);
        let from = Jid::from(account.jid().clone());
        let to = Some(registration.service.clone());
        notices.extend(Stanza::new(from, to, iq("set", &id, publish)));
        let pending = Pending {
            account: account.jid().clone(),
            registration,
            since: Instant::now(),
        };
        push.notices.add(id, pending);
    }
    Ok(())
}

/// XEP-0357, 7.
fn publish(
    registration: &Registration,
    summary: &Summary,
    count: u64,
    told: PushSummary,
) -> Element {
    let mut form = Form::new("submit", ns::PUSH_SUMMARY)
        .field(Field::new("text-single", "message-count").value(count.to_string()));
    if let Some(sender) = summary.sender(told) {
        form = form.field(Field::new("jid-single", "last-message-sender").value(sender));
    }
    form = form.field(Field::new("text-single", "last-message-body").value(summary.body(told)));
    let mut notification = Element::bare("notification", ns::PUSH);
    notification.append_child(form.build());
    let mut item = Element::bare("item", ns::PUBSUB);
    item.append_child(notification);
    let mut publish = match registration.node.as_str() {
        "" => Element::bare("publish", ns::PUBSUB),
        node => element("publish", ns::PUBSUB, &[("node", node)]),
    };
    publish.append_child(item);
    let mut pubsub = Element::bare("pubsub", ns::PUBSUB);
    pubsub.append_child(publish);
    if let Some(form) = registration.options() {
        let mut options = Element::bare("publish-options", ns::PUBSUB);
        options.append_child(form);
        pubsub.append_child(options);
    }
    pubsub
}

/// What app servers answer.
pub(super) struct Answers;

impl OnAnswer for Answers {
    fn on_answer<'a>(&'a self, server: &'a Server, answer: &'a Stanza) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (Some(push), Some(id), Some(to)) = (Push::of(server), answer.id(), answer.to())
            else {
                return;
            };
            let account = to.to_bare();
            if let Some(pending) = push.notices.take(id, answer.from(), &account)
                && let Err(err) = answered(server, answer, pending).await
            {
                warn!(%account, "The answer of an app server has no effect: {err}");
            }
        })
    }
}

async fn answered(server: &Server, answer: &Stanza, pending: Pending) -> storage::Result<()> {
    let Some(account) = server.account_in_memory(&pending.account) else {
        return Ok(());
    };
    let key = pending.registration.key();
    let is_gone = {
        let devices = account.extensions.get_or_default::<Devices>();
        let mut devices = devices.get(server.storage(), account.owner()).await?;
        let mut devices = devices.iter_mut();
        let Some(device) = devices.find(|device| device.registration.key() == key) else {
            return Ok(());
        };
        match failure(answer.element()) {
            None => {
                device.succeeded();
                false
            }
            Some(Failure::Lasting) => true,
            Some(Failure::Passing) => device.failed(),
        }
    };
    if is_gone {
        info!(account = %pending.account, service = %pending.registration.service, "A registration for pushes ends: its app server refuses");
        // Not one that was made anew meanwhile, with other options.
        let wanted = pending.registration;
        remove(server.storage(), &account, |registration| {
            *registration == wanted
        })
        .await?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The service is busy, or cannot be reached.
    Passing,
    /// It does not want to hear of this device any more.
    Lasting,
}

/// What kind of error an answer is (XEP-0357, 7.1).
fn failure(answer: &Element) -> Option<Failure> {
    if answer.attr("type") != Some("error") {
        return None;
    }
    let error = answer.get_child("error", ns::JABBER_CLIENT);
    let passes = error.is_some_and(|error| {
        error.attr("type") == Some("wait")
            || [
                "remote-server-not-found",
                "remote-server-timeout",
                "recipient-unavailable",
                "internal-server-error",
            ]
            .iter()
            .any(|condition| error.has_child(*condition, ns::XMPP_STANZAS))
    });
    Some(if passes {
        Failure::Passing
    } else {
        Failure::Lasting
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An app server that takes what it gets, or nothing at all.
    struct App {
        takes: bool,
        taken: std::sync::atomic::AtomicUsize,
    }

    impl App {
        fn new(takes: bool) -> Arc<Self> {
            let taken = std::sync::atomic::AtomicUsize::new(0);
            Arc::new(Self { takes, taken })
        }
    }

    impl crate::server::Host for App {
        fn handle<'a>(
            &'a self,
            _: &'a Server,
            _: crate::server::session::Sender<'a>,
            _: Stanza,
        ) -> BoxFuture<'a, ()> {
            Box::pin(async move {
                if !self.takes {
                    std::future::pending::<()>().await;
                }
                self.taken
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            })
        }

        fn name(&self) -> &'static str {
            "App server"
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_server_that_takes_nothing_delays_no_other() {
        let server = crate::server::testing::server(&["romeo"]).await;
        let (slow, fast) = (App::new(false), App::new(true));
        server.set_hosts(vec![
            ("slow.example.org".to_owned(), slow),
            ("fast.example.org".to_owned(), Arc::clone(&fast) as _),
        ]);
        let notice = |to: &str| {
            let from = Jid::new("romeo@example.org").unwrap();
            let notice = iq("set", "1", Element::bare("pubsub", ns::PUBSUB));
            Stanza::new(from, Some(Jid::new(to).unwrap()), notice).unwrap()
        };
        let mut outbox = Outbox::default();
        let refused = (0..AT_ONCE_EACH + WAITING_EACH + 10)
            .filter(|_| outbox.add(&server, notice("slow.example.org")).is_err())
            .count();
        assert_eq!(refused, 10);
        assert!(outbox.has_room());
        let begun = Instant::now();
        for _ in 0..20 {
            outbox.add(&server, notice("fast.example.org")).unwrap();
        }
        for _ in 0..20 {
            outbox.next().await.unwrap();
        }
        assert_eq!(fast.taken.load(std::sync::atomic::Ordering::Relaxed), 20);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        while outbox.next().await.is_some() {}
        assert_eq!((outbox.waiting, outbox.services.len()), (0, 0));
    }

    #[test]
    fn an_error_lasts_unless_it_says_that_it_passes() {
        for (answer, expected) in [
            ("type='result'/>", None),
            (
                "type='error'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
                Some(Failure::Lasting),
            ),
            (
                "type='error'><error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
                Some(Failure::Lasting),
            ),
            (
                "type='error'><error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
                Some(Failure::Passing),
            ),
            (
                "type='error'><error type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
                Some(Failure::Passing),
            ),
            ("type='error'/>", Some(Failure::Lasting)),
        ] {
            let answer: Element = format!("<iq xmlns='jabber:client' id='1' {answer}")
                .parse()
                .unwrap();
            assert_eq!(failure(&answer), expected);
        }
    }
}
