//! What the service itself answers (XEP-0045, 6.2 and 6.3): what it is, and which rooms there are, in pages (XEP-0059).

use minidom::Element;

use super::{Service, lock};
use crate::server::StanzaError;
use crate::server::muc::event::Incoming;
use crate::xmpp::element::{child_text, element, set, text_element};
use crate::xmpp::ns;

const FEATURES: [&str; 8] = [
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::MUC,
    ns::OID,
    ns::RSM,
    ns::PING,
    ns::VCARD,
    ns::HATS,
];

/// So many rooms are on a page at most.
const PAGE: usize = 250;

/// What a page of rooms is asked for by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    max: Option<usize>,
    after: Option<String>,
    /// Some, but empty: the last page.
    before: Option<String>,
}

impl Service {
    /// The answer to a stanza for the service itself. `None`: it is not answered.
    pub(super) fn answer(&self, incoming: &Incoming) -> Option<Element> {
        match (incoming.stanza.name(), incoming.kind()) {
            ("iq", "get" | "set") => {
                let outcome = self.request(incoming);
                outcome.map_or_else(
                    |error| incoming.error(&error),
                    |payload| Some(incoming.result(payload)),
                )
            }
            // Presence comes here from those who have the service in their roster.
            ("presence", _) => None,
            _ => incoming.error(&StanzaError::service_unavailable()),
        }
    }

    fn request(&self, incoming: &Incoming) -> Result<Option<Element>, StanzaError> {
        let query = incoming.stanza.children().next();
        let query = query.ok_or_else(StanzaError::bad_request)?;
        let has_node = query.attr("node").is_some_and(|node| !node.is_empty());
        match (incoming.kind(), query.name(), query.ns().as_str()) {
            ("get", "query", ns::DISCO_INFO | ns::DISCO_ITEMS) if has_node => {
                Err(StanzaError::item_not_found())
            }
            ("get", "query", ns::DISCO_INFO) => Ok(Some(self.info())),
            ("get", "query", ns::DISCO_ITEMS) => self.items(query).map(Some),
            ("get", "ping", ns::PING) => Ok(None),
            _ => Err(StanzaError::service_unavailable()),
        }
    }

    fn info(&self) -> Element {
        let mut query = Element::bare("query", ns::DISCO_INFO);
        let identity = [
            ("category", "conference"),
            ("type", "text"),
            ("name", self.policy.name.as_str()),
        ];
        query.append_child(element("identity", ns::DISCO_INFO, &identity));
        for feature in FEATURES {
            query.append_child(element("feature", ns::DISCO_INFO, &[("var", feature)]));
        }
        query
    }

    fn items(&self, query: &Element) -> Result<Element, StanzaError> {
        let page = Page::read(query)?;
        let rooms: Vec<(String, String)> = lock(&self.listings)
            .iter()
            .filter(|(_, listing)| listing.public)
            .map(|(node, listing)| (node.clone(), listing.name.clone()))
            .collect();
        let chosen = page.of(&rooms);
        let mut answer = Element::bare("query", ns::DISCO_ITEMS);
        for (node, name) in chosen {
            let jid = format!("{node}@{}", self.policy.host);
            let name = if name.is_empty() { node } else { name };
            let attributes = [("jid", jid.as_str()), ("name", name)];
            answer.append_child(element("item", ns::DISCO_ITEMS, &attributes));
        }
        if chosen.len() < rooms.len() || query.has_child("set", ns::RSM) {
            answer.append_child(set_of(&rooms, chosen));
        }
        Ok(answer)
    }
}

impl Page {
    fn read(query: &Element) -> Result<Self, StanzaError> {
        let Some(set) = query.get_child("set", ns::RSM) else {
            return Ok(Self::default());
        };
        let max = child_text(set, "max", ns::RSM)
            .map(|max| max.trim().parse::<usize>())
            .transpose()
            .map_err(|_no_number| StanzaError::bad_request())?;
        Ok(Self {
            max,
            after: child_text(set, "after", ns::RSM).filter(|after| !after.is_empty()),
            before: child_text(set, "before", ns::RSM),
        })
    }

    /// The part of the sorted rooms that is asked for.
    fn of<'a>(&self, rooms: &'a [(String, String)]) -> &'a [(String, String)] {
        let max = self.max.unwrap_or(PAGE).min(PAGE);
        let start = self
            .after
            .as_ref()
            .map_or(0, |after| rooms.partition_point(|(node, _)| node <= after));
        let end = match self.before.as_deref() {
            None | Some("") => rooms.len(),
            Some(before) => rooms.partition_point(|(node, _)| node.as_str() < before),
        };
        let all = rooms.get(start..end).unwrap_or_default();
        let range = if self.before.is_some() {
            all.len().saturating_sub(max)..all.len()
        } else {
            0..max.min(all.len())
        };
        all.get(range).unwrap_or_default()
    }
}

fn set_of(rooms: &[(String, String)], chosen: &[(String, String)]) -> Element {
    let mut page = Element::bare("set", ns::RSM);
    if let (Some((first, _)), Some((last, _))) = (chosen.first(), chosen.last()) {
        let index = rooms.partition_point(|(node, _)| node < first);
        let mut element = text_element("first", ns::RSM, first);
        set(&mut element, "index", &index.to_string());
        page.append_child(element);
        page.append_child(text_element("last", ns::RSM, last));
    }
    page.append_child(text_element("count", ns::RSM, &rooms.len().to_string()));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_come_in_pages() {
        let names = ["a", "b", "c", "d"];
        let rooms: Vec<_> = names
            .iter()
            .map(|name| ((*name).to_owned(), String::new()))
            .collect();
        let table: [(&str, &str, &str); 8] = [
            ("all", "", "abcd"),
            ("first", "<max>2</max>", "ab"),
            ("next", "<max>2</max><after>b</after>", "cd"),
            ("after one that is gone", "<after>bb</after>", "cd"),
            ("last", "<max>2</max><before/>", "cd"),
            ("before", "<max>1</max><before>c</before>", "b"),
            ("count", "<max>0</max>", ""),
            ("after the last", "<after>z</after>", ""),
        ];
        for (name, set, expected) in table {
            let xml = format!(
                "<query xmlns='{}'><set xmlns='{}'>{set}</set></query>",
                ns::DISCO_ITEMS,
                ns::RSM
            );
            let page = Page::read(&xml.parse().unwrap()).unwrap();
            let found: String = page
                .of(&rooms)
                .iter()
                .map(|(node, _)| node.as_str())
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
