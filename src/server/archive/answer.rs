//! What a query is answered (XEP-0313, 4.2 and 4.3): messages in their order, and where the page ends.

use jid::{BareJid, Jid};
use minidom::Element;
use tracing::warn;

use super::ids::Cipher;
use super::{Archives, Asked};
use crate::server::StanzaError;
use crate::server::stream::xml;
use crate::storage::{Entry, Query};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::{datetime, ns};

/// How many messages a page has where the client names no number, and how many at most.
const USUAL: usize = 100;
const MOST: usize = 250;

/// A page ends when it has so many bytes, and not before it has a message; so many messages are read at once.
const MOST_BYTES: usize = 1_024 * 1_024;
const AT_ONCE: usize = 50;

/// Up to so many messages are counted for `<count/>`; clients do not depend on it (XEP-0313, 4.3.2).
const COUNTED: usize = 10_000;

/// How many messages are looked at for an address with a resource, which the store does not know.
const SCANNED: usize = 10_000;

/// A page.
#[derive(Debug)]
pub struct Answer {
    /// Messages to send before the answer, without `to`.
    pub results: Vec<Element>,
    pub fin: Element,
}

impl Archives {
    /// Answers a query that has been admitted. `archive`: its address. `owner`: its name in the store.
    pub async fn query(
        &self,
        archive: &BareJid,
        owner: &str,
        asked: &Asked,
    ) -> Result<Answer, StanzaError> {
        let cipher = self.cipher().await?;
        // What was delivered a moment ago is asked for now.
        self.0.storage.settled().await?;
        let query = self.translate(archive, owner, asked).await?;
        let max = asked.page.max.unwrap_or(USUAL).min(MOST);
        let occupant = asked.with.as_ref().filter(|with| with.resource().is_some());
        let page = self.page(owner, &query, occupant, max).await?;
        let count = match occupant {
            None => self.count(owner, &query, asked, cipher).await?,
            Some(_) => None,
        };
        let mut results: Vec<Element> = page
            .entries
            .iter()
            .filter_map(|entry| result(archive, asked, &cipher.encode(entry.id), entry))
            .collect();
        if asked.flip {
            results.reverse();
        }
        Ok(Answer {
            results,
            fin: fin(&page, cipher, count),
        })
    }

    /// In terms of the store. All ids that are named must be there (XEP-0313, 4.1.3 and 4.3.2).
    async fn translate(
        &self,
        archive: &BareJid,
        owner: &str,
        asked: &Asked,
    ) -> Result<Query, StanzaError> {
        let position = async |id: &Option<String>| match id {
            Some(id) => self.position(id).await.map(Some),
            None => Ok(None),
        };
        let (after, before) = (
            position(&asked.page.after).await?,
            position(&asked.page.before).await?,
        );
        let (after_id, before_id) = (
            position(&asked.after_id).await?,
            position(&asked.before_id).await?,
        );
        let mut ids = None;
        for id in asked.ids.iter().flatten() {
            let position = self.position(id).await?;
            ids.get_or_insert_with(Vec::new).push(position);
        }
        let mut named: Vec<u64> = ids.iter().flatten().copied().collect();
        named.extend([after, before, after_id, before_id].into_iter().flatten());
        self.require(owner, named).await?;
        // Positions are never less than their time.
        let since = asked
            .start
            .and_then(|start| u64::try_from(start).ok())
            .map(|start| start.saturating_mul(1_000).saturating_sub(1));
        Ok(Query {
            after: [after, after_id, since].into_iter().flatten().max(),
            before: [before, before_id].into_iter().flatten().min(),
            since: asked.start,
            until: asked.end,
            // In a room, an occupant's address says nothing of the author's.
            tag: asked
                .with
                .as_ref()
                .map(Jid::to_bare)
                .filter(|with| with != archive || self.0.archive == super::MESSAGES)
                .map(|with| with.as_str().to_owned()),
            ids: if asked.ids.is_some() {
                Some(ids.unwrap_or_default())
            } else {
                None
            },
            newest: asked.page.backwards,
            limit: 0,
        })
    }

    async fn require(&self, owner: &str, mut named: Vec<u64>) -> Result<(), StanzaError> {
        named.sort_unstable();
        named.dedup();
        if named.is_empty() {
            return Ok(());
        }
        let wanted = u64::try_from(named.len()).unwrap_or(u64::MAX);
        let query = Query {
            ids: Some(named),
            ..Query::default()
        };
        let found = self.0.storage.count(self.0.archive, owner, query).await?;
        if found == wanted {
            Ok(())
        } else {
            Err(StanzaError::item_not_found())
        }
    }

    /// The messages of a page, and whether there are more behind it. `full`: only to or from this address.
    async fn page(
        &self,
        owner: &str,
        query: &Query,
        full: Option<&Jid>,
        max: usize,
    ) -> Result<Found, StanzaError> {
        let one_more = max.saturating_add(1);
        let mut query = Query {
            limit: one_more.min(AT_ONCE),
            ..query.clone()
        };
        let mut entries: Vec<Entry> = Vec::new();
        let (mut scanned, mut bytes, mut is_full) = (0_usize, 0_usize, false);
        loop {
            let mut found = self
                .0
                .storage
                .query(self.0.archive, owner, query.clone())
                .await?;
            let last = found.len() < query.limit;
            scanned = scanned.saturating_add(found.len());
            // From here on, in the direction of the page.
            if query.newest {
                found.reverse();
                query.before = found.last().map(|entry| entry.id).or(query.before);
            } else {
                query.after = found.last().map(|entry| entry.id).or(query.after);
            }
            let mut wanted = found
                .into_iter()
                .filter(|entry| full.is_none_or(|full| is_with(entry, full)));
            for entry in wanted.by_ref() {
                bytes = bytes.saturating_add(entry.value.len());
                is_full = bytes > MOST_BYTES && !entries.is_empty();
                if is_full {
                    break;
                }
                entries.push(entry);
            }
            if is_full || last || entries.len() >= one_more {
                break;
            }
            if scanned > SCANNED {
                return Err(StanzaError::policy_violation()
                    .text("Too much to look through; ask for a time, or without the resource"));
            }
        }
        let complete = !is_full && entries.len() < one_more;
        entries.truncate(max);
        if query.newest {
            entries.reverse();
        }
        Ok(Found { entries, complete })
    }

    /// How many match the form, wherever the page is; `None`: too many to count.
    async fn count(
        &self,
        owner: &str,
        query: &Query,
        asked: &Asked,
        cipher: &Cipher,
    ) -> Result<Option<u64>, StanzaError> {
        let decode = |id: &Option<String>| id.as_ref().and_then(|id| cipher.decode(id));
        let query = Query {
            after: decode(&asked.after_id),
            before: decode(&asked.before_id),
            limit: COUNTED.saturating_add(1),
            ..query.clone()
        };
        let count = self.0.storage.count(self.0.archive, owner, query).await?;
        Ok(usize::try_from(count)
            .is_ok_and(|count| count <= COUNTED)
            .then_some(count))
    }
}

struct Found {
    /// The oldest first.
    entries: Vec<Entry>,
    complete: bool,
}

/// The message of an entry.
pub(super) fn message(entry: &Entry) -> Option<Element> {
    let text = std::str::from_utf8(&entry.value).ok();
    let message = text.and_then(xml::parse);
    if message.is_none() {
        warn!(
            id = entry.id,
            "A message in the archive cannot be read; it is left out"
        );
    }
    message
}

fn is_with(entry: &Entry, full: &Jid) -> bool {
    message(entry).is_some_and(|message| {
        ["from", "to"]
            .iter()
            .any(|name| message.attr(*name) == Some(full.as_str()))
    })
}

fn result(archive: &BareJid, asked: &Asked, id: &str, entry: &Entry) -> Option<Element> {
    let mut forwarded = Element::bare("forwarded", ns::FORWARD);
    let stamp = datetime::stamp(entry.at);
    forwarded.append_child(element("delay", ns::DELAY, &[("stamp", &stamp)]));
    forwarded.append_child(message(entry)?);
    let mut result = element("result", ns::MAM, &[("id", id)]);
    if let Some(query_id) = &asked.query_id {
        set(&mut result, "queryid", query_id);
    }
    result.append_child(forwarded);
    let attributes = [
        ("from", archive.as_str()),
        ("id", &crate::server::random_id()),
    ];
    let mut message = element("message", ns::JABBER_CLIENT, &attributes);
    message.append_child(result);
    Some(message)
}

fn fin(page: &Found, cipher: &Cipher, count: Option<u64>) -> Element {
    let mut rsm = Element::bare("set", ns::RSM);
    for (name, entry) in [
        ("first", page.entries.first()),
        ("last", page.entries.last()),
    ] {
        if let Some(entry) = entry {
            rsm.append_child(text_element(name, ns::RSM, &cipher.encode(entry.id)));
        }
    }
    if let Some(count) = count {
        rsm.append_child(text_element("count", ns::RSM, &count.to_string()));
    }
    let mut fin = Element::bare("fin", ns::MAM);
    if page.complete {
        set(&mut fin, "complete", "true");
    }
    fin.append_child(rsm);
    fin
}
