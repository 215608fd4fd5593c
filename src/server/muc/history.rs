//! What was said before: how much of it somebody wants on entering (XEP-0045, 7.2.13 and 7.2.14), and where it is kept.

use std::collections::VecDeque;
use std::future::ready;

use futures::future::BoxFuture;
use jid::BareJid;
use minidom::Element;

use super::event::Incoming;
use crate::server::StanzaError;
use crate::storage::Answer;
use crate::xmpp::element::element;
use crate::xmpp::{datetime, ns};

/// How much a `<history/>` asks for; what it leaves out is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub characters: Option<usize>,
    pub stanzas: Option<usize>,
    /// Milliseconds since 1970: nothing older.
    pub since: Option<i64>,
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Milliseconds since 1970.
    pub at: i64,
    /// From the occupant, without `to`, with its stanza-id.
    pub stanza: Element,
}

impl Entry {
    /// The message with its id in this room (XEP-0359).
    pub fn numbered(room: &BareJid, at: i64, mut stanza: Element, id: &str) -> Self {
        let attributes = [("id", id), ("by", room.as_str())];
        stanza.append_child(element("stanza-id", ns::STANZA_ID, &attributes));
        Self { at, stanza }
    }
}

/// A message to keep.
#[derive(Clone, Debug, PartialEq)]
pub struct Spoken {
    pub at: i64,
    pub author: BareJid,
    pub stanza: Element,
}

/// A message that is kept: its stanza-id, and when the disk has it.
pub type Appended = (String, Answer<()>);

/// What an archive answers.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, StanzaError>>;

/// The archive of rooms, seen from here.
pub trait History: Send + Sync {
    /// Whether messages are kept for queries (XEP-0313), or only numbered.
    fn is_archive(&self) -> bool;
    /// Keeps a message. The next one of the room is not appended before this has answered.
    fn append<'a>(&'a self, room: &'a BareJid, spoken: Spoken) -> Reply<'a, Appended>;
    /// The newest so many, the oldest of them first.
    fn newest<'a>(&'a self, room: &'a BareJid, limit: usize) -> Reply<'a, Vec<Entry>>;
    /// Answers a query that the room has admitted: all stanzas to send, the IQ's result last. `reveal`: real JIDs may be
    /// told.
    fn query<'a>(
        &'a self,
        room: &'a BareJid,
        request: &'a Incoming,
        reveal: bool,
    ) -> Reply<'a, Vec<Element>>;
    /// Forgets what a destroyed room has said.
    fn forget<'a>(&'a self, room: &'a BareJid) -> Reply<'a, ()>;
}

/// Numbers messages and keeps none: for rooms on a server without an archive.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoArchive;

impl History for NoArchive {
    fn is_archive(&self) -> bool {
        false
    }

    fn append<'a>(&'a self, _: &'a BareJid, _: Spoken) -> Reply<'a, Appended> {
        let written: Answer<()> = Box::pin(ready(Ok(())));
        Box::pin(ready(Ok((crate::server::random_id(), written))))
    }

    fn newest<'a>(&'a self, _: &'a BareJid, _: usize) -> Reply<'a, Vec<Entry>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn query<'a>(&'a self, _: &'a BareJid, _: &'a Incoming, _: bool) -> Reply<'a, Vec<Element>> {
        Box::pin(ready(Err(StanzaError::feature_not_implemented())))
    }

    fn forget<'a>(&'a self, _: &'a BareJid) -> Reply<'a, ()> {
        Box::pin(ready(Ok(())))
    }
}

impl Request {
    /// Reads the `<x/>` of a presence that enters.
    pub fn read(x: Option<&Element>, now: i64) -> Self {
        let Some(history) = x.and_then(|x| x.get_child("history", ns::MUC)) else {
            return Self::default();
        };
        let number = |name: &str| {
            history
                .attr(name)
                .and_then(|text| text.trim().parse::<u32>().ok())
        };
        let size = |name: &str| number(name).and_then(|number| usize::try_from(number).ok());
        let seconds = number("seconds").map(|seconds| now - i64::from(seconds) * 1000);
        let since = history.attr("since").and_then(datetime::parse);
        Self {
            characters: size("maxchars"),
            stanzas: size("maxstanzas"),
            since: seconds.max(since),
        }
    }
}

/// The newest messages that meet all limits, oldest first, each with when it was said.
pub fn select(entries: &VecDeque<Entry>, request: &Request, room: &BareJid) -> Vec<Element> {
    let mut left = request.characters;
    let mut chosen = Vec::new();
    for entry in entries.iter().rev() {
        if request.stanzas.is_some_and(|limit| chosen.len() >= limit)
            || request.since.is_some_and(|since| entry.at < since)
        {
            break;
        }
        let stanza = delayed(entry, room);
        if let Some(left) = &mut left {
            let Some(rest) = left.checked_sub(String::from(&stanza).chars().count()) else {
                break;
            };
            *left = rest;
        }
        chosen.push(stanza);
    }
    chosen.reverse();
    chosen
}

/// The message with its delay (XEP-0203). From the room: a semi-anonymous one must not tell the author (7.2.13), and the
/// occupant's nick is in `from` already.
fn delayed(entry: &Entry, room: &BareJid) -> Element {
    let mut stanza = entry.stanza.clone();
    stanza.append_child(delay(entry.at, room));
    stanza
}

pub fn delay(at: i64, room: &BareJid) -> Element {
    element(
        "delay",
        ns::DELAY,
        &[("from", room.as_str()), ("stamp", &datetime::stamp(at))],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000;

    fn request(attributes: &str) -> Request {
        let x: Element = format!("<x xmlns='{}'><history {attributes}/></x>", ns::MUC)
            .parse()
            .unwrap();
        Request::read(Some(&x), NOW)
    }

    fn chosen(request: &Request) -> Vec<String> {
        let room = BareJid::new("cave@rooms.example").unwrap();
        let entries: VecDeque<Entry> = (0..5)
            .map(|number| {
                let stanza =
                    format!("<message xmlns='jabber:client'><body>{number}</body></message>");
                Entry {
                    at: NOW - 1000 * (5 - number),
                    stanza: stanza.parse().unwrap(),
                }
            })
            .collect();
        let found = select(&entries, request, &room);
        for stanza in &found {
            let delay = stanza.get_child("delay", ns::DELAY).unwrap();
            assert_eq!(delay.attr("from"), Some("cave@rooms.example"));
        }
        let bodies = found
            .iter()
            .map(|stanza| stanza.get_child("body", ns::JABBER_CLIENT).unwrap().text());
        bodies.collect()
    }

    #[test]
    fn the_smallest_history_that_meets_all_limits_is_sent() {
        let since = format!("since='{}'", datetime::stamp(NOW - 3000));
        let table: [(&str, &str, &[&str]); 10] = [
            ("all", "", &["0", "1", "2", "3", "4"]),
            ("stanzas", "maxstanzas='2'", &["3", "4"]),
            ("none", "maxstanzas='0'", &[]),
            ("no characters", "maxchars='0'", &[]),
            ("characters for one", "maxchars='200'", &["4"]),
            ("seconds", "seconds='3'", &["2", "3", "4"]),
            ("since", &since, &["2", "3", "4"]),
            ("both", "seconds='3' maxstanzas='1'", &["4"]),
            (
                "garbage",
                "maxstanzas='many' since='yesterday' seconds='-1'",
                &["0", "1", "2", "3", "4"],
            ),
            (
                "the beginning",
                "since='1970-01-01T00:00:00Z'",
                &["0", "1", "2", "3", "4"],
            ),
        ];
        for (name, attributes, expected) in table {
            assert_eq!(chosen(&request(attributes)), expected, "{name}");
        }
        assert_eq!(chosen(&Request::read(None, NOW)).len(), 5);
    }
}
