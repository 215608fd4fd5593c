//! Items and nodes are looked at (XEP-0060, 5 and 6.5).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use jid::{BareJid, Jid};
use minidom::Element;

use super::super::access::{self, Relation};
use super::super::config::SendLast;
use super::super::event::{Notification, Recipients};
use super::super::form::{META_DATA, field, form};
use super::super::node::Record;
use super::super::page::Paging;
use super::super::store::{self, StoredItem};
use super::live::Held;
use super::publish::{item_element, published};
use super::{Actor, Engine, Outcome, common};
use crate::server::StanzaError;
use crate::xmpp::element::{element, set};
use crate::xmpp::{datetime, ns};

/// So many bytes of items are in one answer, or one item that has more.
const ANSWER_BYTES: usize = 1_024 * 1_024;

/// As much of a page as one answer holds, of its end or of its beginning.
fn fitting(page: Range<usize>, from_the_end: bool, size: impl Fn(usize) -> usize) -> Range<usize> {
    let mut bytes = 0_usize;
    let mut fits = |at: &usize| {
        let is_first = bytes == 0;
        bytes = bytes.saturating_add(size(*at).max(1));
        is_first || bytes <= ANSWER_BYTES
    };
    if from_the_end {
        let count = page.clone().rev().take_while(&mut fits).count();
        page.end.saturating_sub(count)..page.end
    } else {
        let count = page.clone().take_while(&mut fits).count();
        page.start..page.start.saturating_add(count)
    }
}

/// So many nodes or items are on a page of disco#items at most.
const DISCO_PAGE: usize = 250;

impl Engine {
    pub(super) async fn items(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        ids: &[String],
        max: Option<usize>,
        paging: &Paging,
    ) -> Result<Outcome, StanzaError> {
        let mut held = self.existing(service, node).await?;
        let relation = actor.relation_to(service, &held.record).await;
        access::may_read(&held.record, &relation, &actor.jid.to_bare())?;
        let entries = self.entries(service, node, &mut held).await?;
        let sizes = self.sizes(service, node, &mut held).await?;
        let size = |entry: &(u64, String)| sizes.get(&entry.0).copied().unwrap_or_default();
        let (mut outer, mut inner) = common("items", Some(node));
        let chosen: Vec<&(u64, String)> = if ids.is_empty() {
            let newest = entries.len().saturating_sub(max.unwrap_or(usize::MAX));
            let entries = entries.get(newest..).unwrap_or_default();
            let known: Vec<&str> = entries.iter().map(|(_, id)| id.as_str()).collect();
            let page = paging.of(&known)?;
            // From the end where the end is asked for, and where nothing is said of a page: the newest are wanted.
            let from_the_end = paging.before.is_some() || !paging.wanted;
            let fits = fitting(page.clone(), from_the_end, |at| {
                entries.get(at).map_or(0, size)
            });
            let chosen = entries.get(fits.clone()).unwrap_or_default();
            // 6.5.4: who gets less than they asked for is told so.
            if paging.wanted || fits != page {
                outer.append_child(Paging::answer(&known, &fits));
            }
            chosen.iter().collect()
        } else {
            let asked: Vec<_> = entries.iter().filter(|(_, id)| ids.contains(id)).collect();
            let fits = fitting(0..asked.len(), false, |at| {
                asked.get(at).map_or(0, |one| size(one))
            });
            asked.get(fits).unwrap_or_default().to_vec()
        };
        for item in self.fetch(service, node, &held, &chosen).await? {
            inner.append_child(item_element(ns::PUBSUB, &item.id, item.element()));
        }
        // `<items/>` comes before the `<set/>` of its page.
        let mut answer = Element::bare("pubsub", ns::PUBSUB);
        answer.append_child(inner);
        for set in outer.children() {
            answer.append_child(set.clone());
        }
        Ok(Outcome::answer(answer))
    }

    /// The places and ids of the items that have not expired. The one of a node that keeps none has no place of its own.
    async fn entries(
        &self,
        service: &BareJid,
        node: &str,
        held: &mut Held,
    ) -> Result<Vec<(u64, String)>, StanzaError> {
        if let Some(item) = &held.transient {
            return Ok(vec![(0, item.id.clone())]);
        }
        let now = (self.0.clock)();
        let record = Arc::clone(&held.record);
        let index = held.index(&self.0.storage, service, node).await?;
        Ok(index
            .iter()
            .filter(|entry| !entry.is_expired(&record.config, now))
            .map(|entry| (entry.sequence, entry.id.clone()))
            .collect())
    }

    /// How many bytes each item has, by its place.
    async fn sizes(
        &self,
        service: &BareJid,
        node: &str,
        held: &mut Held,
    ) -> Result<BTreeMap<u64, usize>, StanzaError> {
        let index = held.index(&self.0.storage, service, node).await?;
        Ok(index
            .iter()
            .map(|entry| (entry.sequence, entry.bytes))
            .collect())
    }

    /// The items themselves, in the order of publication.
    async fn fetch(
        &self,
        service: &BareJid,
        node: &str,
        held: &Held,
        chosen: &[&(u64, String)],
    ) -> Result<Vec<StoredItem>, StanzaError> {
        if let Some(item) = &held.transient {
            return Ok(chosen.iter().map(|_| item.clone()).collect());
        }
        // A few are asked for one by one, many are read in one go.
        if chosen.len() <= 4 {
            let mut items = Vec::with_capacity(chosen.len());
            for (sequence, _) in chosen {
                items.extend(store::item(&self.0.storage, service, node, *sequence).await?);
            }
            return Ok(items);
        }
        let all = store::items(&self.0.storage, service, node).await?;
        let mut all: BTreeMap<u64, StoredItem> = all.into_iter().collect();
        Ok(chosen
            .iter()
            .filter_map(|(sequence, _)| all.remove(sequence))
            .collect())
    }

    /// All items of a node, for who converts them; none where there is no node. Nobody's rights are asked.
    pub async fn stored(
        &self,
        service: &BareJid,
        node: &str,
    ) -> Result<Vec<StoredItem>, StanzaError> {
        let Some(mut held) = self.find(service, node).await? else {
            return Ok(Vec::new());
        };
        let entries = self.entries(service, node, &mut held).await?;
        let chosen: Vec<_> = entries.iter().collect();
        self.fetch(service, node, &held, &chosen).await
    }

    /// A node's configuration, affiliations and subscriptions.
    pub async fn record(
        &self,
        service: &BareJid,
        node: &str,
    ) -> Result<Option<Arc<Record>>, StanzaError> {
        let held = self.find(service, node).await?;
        Ok(held.map(|held| Arc::clone(&held.record)))
    }

    /// The last item of a node, whatever anybody may.
    pub async fn newest(
        &self,
        service: &BareJid,
        node: &str,
    ) -> Result<Option<StoredItem>, StanzaError> {
        match self.find(service, node).await? {
            Some(mut held) => self.last(service, node, &mut held).await,
            None => Ok(None),
        }
    }

    pub(super) async fn last(
        &self,
        service: &BareJid,
        node: &str,
        held: &mut Held,
    ) -> Result<Option<StoredItem>, StanzaError> {
        let entries = self.entries(service, node, held).await?;
        let last: Vec<_> = entries.last().into_iter().collect();
        Ok(self.fetch(service, node, held, &last).await?.pop())
    }

    /// The event that tells one entity of the last item, which may be long ago.
    pub(super) async fn last_event(
        &self,
        service: &BareJid,
        node: &str,
        held: &mut Held,
        to: &Jid,
    ) -> Result<Option<Notification>, StanzaError> {
        if !held.record.config.deliver_notifications {
            return Ok(None);
        }
        let item = self.last(service, node, held).await?;
        Ok(item.map(|item| Notification {
            recipients: Recipients::These(vec![to.clone()]),
            delayed: Some(item.at),
            ..published(node, Some(&item), held)
        }))
    }

    /// What a resource that has just come is told (XEP-0163, 4.3.4): the last item of every node that it wants and may see.
    pub async fn on_presence(
        &self,
        service: &BareJid,
        to: &Jid,
        relation: &Relation,
        wants: impl Fn(&str) -> bool,
    ) -> Result<Vec<Notification>, StanzaError> {
        let bare = to.to_bare();
        let mut notifications = Vec::new();
        for name in self.names(service).await? {
            if !wants(&name) {
                continue;
            }
            let Some(mut held) = self.find(service, &name).await? else {
                continue;
            };
            let record = Arc::clone(&held.record);
            let sends = SendLast::OnSubscriptionAndPresence;
            if record.config.send_last_published_item != sends
                || access::may_read(&record, relation, &bare).is_err()
            {
                continue;
            }
            notifications.extend(self.last_event(service, &name, &mut held, to).await?);
        }
        Ok(notifications)
    }

    /// The names of a service's nodes, in order.
    pub async fn names(&self, service: &BareJid) -> Result<Vec<String>, StanzaError> {
        let slot = self.service(service).await?;
        Ok(match slot.get() {
            Some(service) => service.nodes.read().await.keys().cloned().collect(),
            None => Vec::new(),
        })
    }

    /// The children of disco#items on the service: the nodes that the entity may see (XEP-0060, 5.2), a page of them.
    pub async fn disco_nodes(
        &self,
        service: &BareJid,
        actor: &Actor,
        paging: &Paging,
    ) -> Result<Vec<Element>, StanzaError> {
        let bare = actor.jid.to_bare();
        let mut visible = Vec::new();
        for (name, record) in self.records(service, None).await? {
            let relation = actor.relation_to(service, &record).await;
            if access::may_read(&record, &relation, &bare).is_ok() {
                visible.push((name, record));
            }
        }
        let names: Vec<&str> = visible.iter().map(|(name, _)| name.as_str()).collect();
        let (page, set_of_page) = paging.bounded(&names, DISCO_PAGE)?;
        let chosen = visible.get(page).unwrap_or_default();
        let mut items = Vec::with_capacity(chosen.len());
        for (name, record) in chosen {
            let attributes = [("jid", service.as_str()), ("node", name)];
            let mut item = element("item", ns::DISCO_ITEMS, &attributes);
            if !record.config.title.is_empty() {
                set(&mut item, "name", &record.config.title);
            }
            items.push(item);
        }
        items.extend(set_of_page);
        Ok(items)
    }

    /// The children of disco#items on a node: its items (XEP-0060, 5.5), a page of them.
    pub async fn disco_items(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
        paging: &Paging,
    ) -> Result<Vec<Element>, StanzaError> {
        let mut held = self.existing(service, node).await?;
        let relation = actor.relation_to(service, &held.record).await;
        access::may_read(&held.record, &relation, &actor.jid.to_bare())?;
        let entries = self.entries(service, node, &mut held).await?;
        let ids: Vec<&str> = entries.iter().map(|(_, id)| id.as_str()).collect();
        let (page, set_of_page) = paging.bounded(&ids, DISCO_PAGE)?;
        let chosen = ids.get(page).unwrap_or_default();
        let items = chosen.iter().map(|id| {
            let attributes = [("jid", service.as_str()), ("name", id)];
            element("item", ns::DISCO_ITEMS, &attributes)
        });
        Ok(items.chain(set_of_page).collect())
    }

    /// The identity, features and meta-data of disco#info on a node (XEP-0060, 5.3 and 5.4).
    pub async fn disco_info(
        &self,
        service: &BareJid,
        actor: &Actor,
        node: &str,
    ) -> Result<Vec<Element>, StanzaError> {
        let held = self.existing(service, node).await?;
        let record = &held.record;
        let relation = actor.relation_to(service, record).await;
        access::may_read(record, &relation, &actor.jid.to_bare())?;
        let identity = [("category", "pubsub"), ("type", "leaf")];
        let created = datetime::stamp(record.created);
        let config = &record.config;
        let text = |var, value: &str| field(var, "text-single", &[value]);
        let owners: Vec<&str> = record.owners().map(|jid| jid.as_str()).collect();
        let meta_data = [
            text("pubsub#type", &config.payload_type),
            text("pubsub#title", &config.title),
            text("pubsub#description", &config.description),
            text("pubsub#access_model", config.access_model.name()),
            text("pubsub#publish_model", config.publish_model.name()),
            text("pubsub#creation_date", &created),
            text(
                "pubsub#num_subscribers",
                &record.subscriptions.len().to_string(),
            ),
            field("pubsub#owner", "jid-multi", &owners),
        ];
        Ok(vec![
            element("identity", ns::DISCO_INFO, &identity),
            element("feature", ns::DISCO_INFO, &[("var", ns::PUBSUB)]),
            form("result", META_DATA, meta_data),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_so_many_bytes() {
        struct Case {
            name: &'static str,
            sizes: &'static [usize],
            from_the_end: bool,
            fits: Range<usize>,
        }
        const HALF: usize = ANSWER_BYTES / 2;
        #[rustfmt::skip]
        let cases = [
            Case { name: "nothing", sizes: &[], from_the_end: false, fits: 0..0 },
            Case { name: "all", sizes: &[1, 2, 3], from_the_end: false, fits: 0..3 },
            Case { name: "exactly", sizes: &[HALF, HALF, 1], from_the_end: false, fits: 0..2 },
            Case { name: "the end", sizes: &[1, HALF, HALF], from_the_end: true, fits: 1..3 },
            Case { name: "one that is larger", sizes: &[1, 3 * HALF], from_the_end: true, fits: 1..2 },
            Case { name: "before a larger one", sizes: &[1, 3 * HALF], from_the_end: false, fits: 0..1 },
            Case { name: "empty ones", sizes: &[0, 0], from_the_end: true, fits: 0..2 },
        ];
        for case in cases {
            let size = |at: usize| case.sizes[at];
            let fits = fitting(0..case.sizes.len(), case.from_the_end, size);
            assert_eq!(fits, case.fits, "{}", case.name);
        }
    }
}
