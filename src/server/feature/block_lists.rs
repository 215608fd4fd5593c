//! Real-time block lists: nodes of a pubsub service whose items name those who misuse the network, as Prosody's mod_muc_rtbl
//! and mod_anti_spam read them. They are read when the server starts and once a day, and followed in between.
//!
//! Who is on one enters no room and says nothing in one; and those who do not know them get neither messages nor requests.

mod entries;
mod list;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;
use tracing::{debug, info, warn};

use self::entries::Entries;
use self::list::{Answered, List};
use super::super::abuse::Refusal;
use super::super::router::{OnAnswer, Router};
use super::super::stanza::{Stanza, iq};
use super::super::{Server, StanzaError};
use crate::runtime::Stop;
use crate::xmpp::element::{child_text, element, text_element};
use crate::xmpp::ns;

/// How often it is looked whether there is something to ask.
const TICK: Duration = Duration::from_secs(15);
/// Items that are asked for at once, where the service has pages.
const PAGE: usize = 2_000;

pub(super) fn register(router: &mut Router, server: &Server) -> anyhow::Result<()> {
    let settings = server.settings();
    let lists = settings.block_lists.iter();
    let lists: Vec<_> = lists
        .map(|list| List::new(list.service.clone(), list.node.clone()))
        .collect();
    server.extensions().insert(Lists {
        lists,
        size: AtomicUsize::new(0),
    });
    router.answer(Arc::new(Answers));
    Ok(())
}

/// All lists of a server.
struct Lists {
    lists: Vec<List>,
    /// How many entries they have together: most servers have none to look through.
    size: AtomicUsize,
}

impl Lists {
    fn of(server: &Server) -> Option<Arc<Self>> {
        let lists = server.extensions().get::<Self>()?;
        (!lists.lists.is_empty()).then_some(lists)
    }

    fn changed(&self) {
        let size = self.lists.iter().map(|list| list.entries().len()).sum();
        self.size.store(size, Ordering::Release);
    }
}

/// Whether somebody, or their whole domain, is on a list.
pub fn is_listed(server: &Server, who: &BareJid) -> bool {
    let Some(lists) = Lists::of(server) else {
        return false;
    };
    if lists.size.load(Ordering::Acquire) == 0 || server.is_admin(who) {
        return false;
    }
    let (person, domain) = (
        entries::hash(who.as_str()),
        entries::hash(who.domain().as_str()),
    );
    lists.lists.iter().any(|list| {
        let entries = list.entries();
        entries.has(&person) || entries.has(&domain)
    })
}

/// Refuses who is on a list.
pub(in crate::server) fn check(server: &Server, who: &BareJid) -> Result<(), StanzaError> {
    if !is_listed(server, who) {
        return Ok(());
    }
    server.abuse().refused(Refusal::BlockList, who);
    // As mod_anti_spam says it.
    Err(StanzaError::new(
        crate::server::ErrorType::Cancel,
        crate::server::Condition::PolicyViolation,
    )
    .text("You or your server are on a list of known sources of spam"))
}

/// How many entries all lists have.
pub(in crate::server) fn size(server: &Server) -> usize {
    Lists::of(server).map_or(0, |lists| lists.size.load(Ordering::Acquire))
}

/// Subscribes and reads, again after failures and once a day, until `stop`.
pub async fn maintain(server: Server, stop: Stop) -> anyhow::Result<()> {
    let Some(lists) = Lists::of(&server) else {
        stop.cancelled().await;
        return Ok(());
    };
    loop {
        for list in &lists.lists {
            if let Some((subscribe, items)) = list.due() {
                ask(
                    &server,
                    list,
                    "set",
                    &subscribe,
                    subscription(&server, list),
                )
                .await;
                ask(&server, list, "get", &items, page(list, None)).await;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn ask(server: &Server, list: &List, kind: &str, id: &str, inner: Element) {
    let mut pubsub = Element::bare("pubsub", ns::PUBSUB);
    for part in parts(inner) {
        pubsub.append_child(part);
    }
    let Ok(domain) = Jid::new(server.domain()) else {
        return;
    };
    let to = Some(list.service.clone().into());
    if let Some(request) = Stanza::new(domain, to, iq(kind, id, pubsub)) {
        server.route(request, None).await;
    }
}

/// What stands in `<pubsub/>`: the request and, behind it, the page that is wanted.
fn parts(mut inner: Element) -> Vec<Element> {
    let set = inner.remove_child("set", ns::RSM);
    std::iter::once(inner).chain(set).collect()
}

fn subscription(server: &Server, list: &List) -> Element {
    let attributes = [("node", list.node.as_str()), ("jid", server.domain())];
    element("subscribe", ns::PUBSUB, &attributes)
}

/// Without a page at first: not every service has them, and those that want some say so.
fn page(list: &List, after: Option<&str>) -> Element {
    let mut items = element("items", ns::PUBSUB, &[("node", list.node.as_str())]);
    if let Some(after) = after {
        let mut set = Element::bare("set", ns::RSM);
        set.append_child(text_element("max", ns::RSM, &PAGE.to_string()));
        set.append_child(text_element("after", ns::RSM, after));
        items.append_child(set);
    }
    items
}

/// What the services answer.
struct Answers;

impl OnAnswer for Answers {
    fn on_answer<'a>(&'a self, server: &'a Server, answer: &'a Stanza) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (Some(lists), Some(id)) = (Lists::of(server), answer.id()) else {
                return;
            };
            let from = answer.from();
            let asked = lists
                .lists
                .iter()
                .filter(|list| from.as_str() == list.service.as_str())
                .find_map(|list| Some((list, list.answered(id)?)));
            let Some((list, asked)) = asked else {
                return;
            };
            if answer.is_error() {
                list.failed();
                warn!(service = %list.service, node = list.node, "A block list cannot be read; it is asked for again later");
                return;
            }
            if asked == Answered::Items {
                take_page(server, &lists, list, answer.element()).await;
            }
        })
    }
}

async fn take_page(server: &Server, lists: &Lists, list: &List, answer: &Element) {
    let Some(pubsub) = answer.get_child("pubsub", ns::PUBSUB) else {
        list.failed();
        return;
    };
    let items = pubsub.get_child("items", ns::PUBSUB);
    let ids: Vec<&str> = items.map(|items| ids(items, "item")).unwrap_or_default();
    let read = list.read(&ids);
    let next = pubsub
        .get_child("set", ns::RSM)
        .filter(|set| {
            let count = child_text(set, "count", ns::RSM).and_then(|count| count.parse().ok());
            !ids.is_empty() && count.is_none_or(|count: usize| read < count)
        })
        .and_then(|set| child_text(set, "last", ns::RSM));
    if let Some((after, id)) = next.and_then(|after| Some((after, list.next_page()?))) {
        ask(server, list, "get", &id, page(list, Some(&after))).await;
        return;
    }
    list.complete();
    lists.changed();
    info!(service = %list.service, node = list.node, entries = list.entries().len(), "A block list is in force");
}

fn ids<'a>(items: &'a Element, name: &'a str) -> Vec<&'a str> {
    let of_name = items.children().filter(|child| child.name() == name);
    of_name.filter_map(|item| item.attr("id")).collect()
}

/// A message for the domain itself. `false`: it is not a list's.
pub(in crate::server) fn take(server: &Server, message: &Stanza) -> bool {
    let Some(lists) = Lists::of(server) else {
        return false;
    };
    let Some(items) = message
        .child("event", ns::PUBSUB_EVENT)
        .and_then(|event| event.children().next())
    else {
        return false;
    };
    let node = items.attr("node").unwrap_or_default();
    let from = message.from();
    // From the service that was asked to tell, and from nobody else.
    let list = lists
        .lists
        .iter()
        .find(|list| list.node == node && from.as_str() == list.service.as_str());
    let Some(list) = list.filter(|_| !message.is_error()) else {
        return false;
    };
    match items.name() {
        "items" => list.change(&ids(items, "item"), &ids(items, "retract")),
        "purge" | "delete" => list.empty(),
        _ => {}
    }
    lists.changed();
    debug!(service = %list.service, node, entries = list.entries().len(), "A block list has changed");
    true
}
