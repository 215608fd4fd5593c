//! XEP-0402: PEP Native Bookmarks, converted to and from XEP-0048. There is one list, the items of `urn:xmpp:bookmarks:1`;
//! the old forms, in private storage and in the node `storage:bookmarks`, are views of it.

mod convert;

use jid::{BareJid, Jid};
use minidom::Element;

use self::convert::{Bookmark, changes, from_old, to_old};
use super::super::pubsub::config::NotificationType;
use super::super::pubsub::event::Recipients;
use super::super::pubsub::request::Request as Asked;
use super::super::pubsub::{Actor, Notification};
use super::super::router::{Router, Target};
use super::super::{Server, StanzaError};
use super::pep;
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// The one item of the old node (XEP-0048, 3).
const CURRENT: &str = "current";

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Own], ns::BOOKMARKS2_COMPAT);
    router.disco(&[Target::Own], ns::BOOKMARKS2_COMPAT_PEP);
    router.disco(&[Target::Own], ns::BOOKMARKS_CONVERSION);
    Ok(())
}

async fn bookmarks(server: &Server, account: &BareJid) -> Result<Vec<Bookmark>, StanzaError> {
    let items = pep::engine(server)?.stored(account, ns::BOOKMARKS2).await?;
    let items = items.into_iter().filter_map(|item| {
        let conference = item.element()?;
        conference
            .is("conference", ns::BOOKMARKS2)
            .then_some(Bookmark {
                jid: item.id,
                conference,
            })
    });
    Ok(items.collect())
}

/// Adds the rooms to an old `<storage/>`.
pub(super) async fn collect(
    server: &Server,
    account: &BareJid,
    storage: &mut Element,
) -> Result<(), StanzaError> {
    for bookmark in bookmarks(server, account).await? {
        storage.append_child(to_old(&bookmark));
    }
    Ok(())
}

/// What XEP-0402 has no place for: bookmarks of pages. It stays where it was stored.
pub(super) fn remainder(storage: &Element) -> Element {
    let mut rest = Element::bare("storage", ns::BOOKMARKS);
    for child in storage
        .children()
        .filter(|child| child.name() != "conference")
    {
        rest.append_child(child.clone());
    }
    rest
}

/// Makes the list what an old `<storage/>` says it is; nobody is told of what stays as it is (XEP-0402, 5.2).
pub(super) async fn replace(
    server: &Server,
    account: &BareJid,
    storage: &Element,
) -> Result<(), StanzaError> {
    let before = bookmarks(server, account).await?;
    let changes = changes(&before, from_old(storage, &before));
    if changes.published.is_empty() && changes.retracted.is_empty() {
        return Ok(());
    }
    for bookmark in changes.published {
        let Bookmark { jid, conference } = bookmark;
        pep::publish(server, account, ns::BOOKMARKS2, &jid, conference).await?;
    }
    for jid in changes.retracted {
        pep::retract(server, account, ns::BOOKMARKS2, &jid).await?;
    }
    changed(server, account).await
}

/// Adds a room.
pub(super) async fn add(
    server: &Server,
    account: &BareJid,
    room: &BareJid,
    conference: Element,
) -> Result<(), StanzaError> {
    pep::publish(server, account, ns::BOOKMARKS2, room.as_str(), conference).await?;
    changed(server, account).await
}

/// Tells those of the account's sessions that follow the old node.
async fn changed(server: &Server, account: &BareJid) -> Result<(), StanzaError> {
    let mut followers = server.followers(account, ns::BOOKMARKS).await;
    followers.retain(|jid: &Jid| jid.to_bare() == *account);
    if followers.is_empty() {
        return Ok(());
    }
    let items = old_items(server, account, ns::PUBSUB_EVENT).await?;
    let mut event = Element::bare("event", ns::PUBSUB_EVENT);
    event.append_child(items);
    let notification = Notification {
        node: ns::BOOKMARKS.to_owned(),
        recipients: Recipients::These(followers),
        payload: event,
        kind: NotificationType::Headline,
        delayed: None,
    };
    pep::tell(server, account, &[notification]).await;
    Ok(())
}

/// `<items/>` of the old node.
async fn old_items(
    server: &Server,
    account: &BareJid,
    namespace: &str,
) -> Result<Element, StanzaError> {
    let mut storage = Element::bare("storage", ns::BOOKMARKS);
    collect(server, account, &mut storage).await?;
    let mut item = element("item", namespace, &[("id", CURRENT)]);
    item.append_child(storage);
    let mut items = element("items", namespace, &[("node", ns::BOOKMARKS)]);
    items.append_child(item);
    Ok(items)
}

/// Answers for the old node. `None`: the request is not about it, or nobody's business but the engine's.
pub(super) async fn instead(
    server: &Server,
    service: &BareJid,
    actor: &Actor,
    asked: &Asked,
) -> Result<Option<Option<Element>>, StanzaError> {
    if !actor.relation.owner || asked.node() != Some(ns::BOOKMARKS) {
        return Ok(None);
    }
    let inner = match asked {
        Asked::Items { .. } => old_items(server, service, ns::PUBSUB).await?,
        Asked::Publish { item, .. } => {
            let payload = item.as_ref().and_then(|item| item.payload.as_ref());
            let storage = payload.filter(|payload| payload.is("storage", ns::BOOKMARKS));
            let storage = storage.ok_or_else(StanzaError::bad_request)?;
            replace(server, service, storage).await?;
            let mut publish = element("publish", ns::PUBSUB, &[("node", ns::BOOKMARKS)]);
            publish.append_child(element("item", ns::PUBSUB, &[("id", CURRENT)]));
            publish
        }
        _ => return Ok(None),
    };
    let mut answer = Element::bare("pubsub", ns::PUBSUB);
    answer.append_child(inner);
    Ok(Some(Some(answer)))
}

/// Follows changes of the list.
pub(super) async fn after(
    server: &Server,
    service: &BareJid,
    asked: &Asked,
) -> Result<(), StanzaError> {
    if asked.node() == Some(ns::BOOKMARKS2)
        && matches!(
            asked,
            Asked::Publish { .. }
                | Asked::Retract { .. }
                | Asked::Purge { .. }
                | Asked::Delete { .. }
        )
    {
        changed(server, service).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
