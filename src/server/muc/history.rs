//! What was said before: how much of it somebody wants on entering (XEP-0045, 7.2.13 and 7.2.14), and where it is kept.

use std::collections::{BTreeSet, VecDeque};
use std::future::ready;
use std::sync::OnceLock;

use futures::future::BoxFuture;
use jid::BareJid;
use minidom::Element;

use super::event::{Incoming, Reveal};
use crate::server::StanzaError;
use crate::server::mail::Mail;
use crate::storage::Answer;
use crate::xmpp::element::element;
use crate::xmpp::{datetime, ns};

/// The `<x/>` of XEP-0045 in the archive, of an author whom the room did not tell when they spoke. Never on the wire.
pub const HIDDEN: &str = "urn:moltis:hidden-author";

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
    /// Answers a query that the room has admitted: all stanzas to send, the IQ's result last.
    fn query<'a>(
        &'a self,
        room: &'a BareJid,
        request: &'a Incoming,
        reveal: Reveal,
    ) -> Reply<'a, Vec<Element>>;
    /// Puts `remains` in the place of a message; `author`: only of this occupant's (XEP-0421). `false`: there is no such
    /// message.
    fn retract<'a>(
        &'a self,
        room: &'a BareJid,
        id: &'a str,
        author: Option<&'a str>,
        remains: &'a Element,
    ) -> Reply<'a, bool>;
    /// Forgets rooms of this host that are not among these: a process that was killed has not done so itself.
    fn retain<'a>(&'a self, host: &'a BareJid, rooms: &'a BTreeSet<String>) -> Reply<'a, ()>;
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

    fn query<'a>(&'a self, _: &'a BareJid, _: &'a Incoming, _: Reveal) -> Reply<'a, Vec<Element>> {
        Box::pin(ready(Err(StanzaError::feature_not_implemented())))
    }

    fn retract<'a>(
        &'a self,
        _: &'a BareJid,
        _: &'a str,
        _: Option<&'a str>,
        _: &'a Element,
    ) -> Reply<'a, bool> {
        Box::pin(ready(Ok(false)))
    }

    fn retain<'a>(&'a self, _: &'a BareJid, _: &'a BTreeSet<String>) -> Reply<'a, ()> {
        Box::pin(ready(Ok(())))
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

    /// No more messages than a room shows.
    #[must_use]
    pub fn within(mut self, most: Option<usize>) -> Self {
        if let Some(most) = most {
            self.stanzas = Some(self.stanzas.unwrap_or(most).min(most));
        }
        self
    }
}

/// What is left of a message that was taken back: who said it, when, and that it is gone (XEP-0424, 5.1). `None`: there is
/// nothing to take back of it, as it is nobody's or not theirs.
pub fn tombstone(stanza: &Element, author: Option<&str>, remains: &Element) -> Option<Element> {
    let id = stanza.get_child("occupant-id", ns::OID)?.attr("id")?;
    if author.is_some_and(|author| author != id) {
        return None;
    }
    if stanza.has_child("retracted", ns::RETRACT) {
        // It was taken back before.
        return Some(stanza.clone());
    }
    let mut left = Element::bare(stanza.name(), stanza.ns());
    *left.attrs_mut() = stanza.attrs().clone();
    for child in stanza.children().filter(|child| stays(child)) {
        left.append_child(child.clone());
    }
    left.append_child(remains.clone());
    Some(left)
}

fn stays(child: &Element) -> bool {
    child.is("occupant-id", ns::OID)
        || child.is("stanza-id", ns::STANZA_ID)
        || child.is("x", ns::MUC_USER)
        || child.is("x", HIDDEN)
}

/// What those who enter get to read: the newest messages, as many as the service allows and as the memory has room for.
#[derive(Debug, Default)]
pub struct Past {
    said: VecDeque<Said>,
    /// Bytes in memory, roughly.
    weight: usize,
    most: usize,
}

#[derive(Debug)]
struct Said {
    at: i64,
    weight: usize,
    /// As it was told to all.
    live: Mail,
    /// As it is told to those who enter, made for the first of them.
    later: OnceLock<Mail>,
}

impl Past {
    /// What weighs more than all that a room may keep is in the archive alone.
    const HEAVIEST: usize = 1_048_576;

    pub fn new(most: usize, entries: Vec<Entry>) -> Self {
        let mut past = Self {
            most,
            ..Self::default()
        };
        for entry in entries {
            past.push(entry.at, Mail::for_many(entry.stanza));
        }
        past
    }

    pub fn push(&mut self, at: i64, live: Mail) {
        let weight = weight(&live);
        if weight > Self::HEAVIEST {
            return;
        }
        self.weight = self.weight.saturating_add(weight);
        self.said.push_back(Said {
            at,
            weight,
            live,
            later: OnceLock::new(),
        });
        while self.said.len() > self.most || self.weight > Self::HEAVIEST {
            let Some(oldest) = self.said.pop_front() else {
                break;
            };
            self.weight = self.weight.saturating_sub(oldest.weight);
        }
    }

    /// Puts a tombstone in the place of a message. `false`: it is not here, or not theirs.
    pub fn retract(&mut self, id: &str, author: Option<&str>, remains: &Element) -> bool {
        let is_it = |said: &&mut Said| {
            let numbered = said.live.shared().get_child("stanza-id", ns::STANZA_ID);
            numbered.is_some_and(|number| number.attr("id") == Some(id))
        };
        let Some(said) = self.said.iter_mut().find(is_it) else {
            return false;
        };
        let Some(left) = tombstone(said.live.shared(), author, remains) else {
            return false;
        };
        // It was heavier before: what it weighs more in the count than in the memory goes with it.
        said.live = Mail::for_many(left);
        said.later = OnceLock::new();
        true
    }

    /// The newest messages that meet all limits, oldest first, each with when it was said.
    pub fn select(&self, request: &Request, room: &BareJid) -> Vec<Mail> {
        let mut left = request.characters;
        let mut chosen = Vec::new();
        for said in self.said.iter().rev() {
            if request.stanzas.is_some_and(|limit| chosen.len() >= limit)
                || request.since.is_some_and(|since| said.at < since)
            {
                break;
            }
            let mail = said.later(room);
            if let Some(left) = &mut left {
                let characters = String::from(mail.shared()).chars().count();
                let Some(rest) = left.checked_sub(characters) else {
                    break;
                };
                *left = rest;
            }
            chosen.push(mail);
        }
        chosen.reverse();
        chosen
    }
}

/// An empty element has few bytes as text, and some hundred as an element of a tree.
fn weight(mail: &Mail) -> usize {
    fn elements(element: &Element) -> usize {
        let below = element.children().map(elements);
        below.fold(1, usize::saturating_add)
    }
    let tree = elements(mail.shared()).saturating_mul(256);
    mail.size().saturating_add(tree)
}

impl Said {
    /// The message with its delay (XEP-0203). From the room: a semi-anonymous one must not tell the author (7.2.13), and the
    /// occupant's nick is in `from` already.
    fn later(&self, room: &BareJid) -> Mail {
        let make = || {
            let mut stanza = self.live.shared().clone();
            stanza.append_child(delay(self.at, room));
            Mail::for_many(stanza)
        };
        self.later.get_or_init(make).clone()
    }
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
        let entries: Vec<Entry> = (0..5)
            .map(|number| {
                let stanza =
                    format!("<message xmlns='jabber:client'><body>{number}</body></message>");
                Entry {
                    at: NOW - 1000 * (5 - number),
                    stanza: stanza.parse().unwrap(),
                }
            })
            .collect();
        let found = Past::new(50, entries).select(request, &room);
        let body = |mail: &Mail| {
            let stanza = mail.shared();
            let delay = stanza.get_child("delay", ns::DELAY).unwrap();
            assert_eq!(delay.attr("from"), Some("cave@rooms.example"));
            stanza.get_child("body", ns::JABBER_CLIENT).unwrap().text()
        };
        found.iter().map(body).collect()
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

    fn numbered(number: usize, text: &str) -> Mail {
        let stanza = format!(
            "<message xmlns='jabber:client'><body>{text}</body>
             <occupant-id xmlns='urn:xmpp:occupant-id:0' id='hag'/></message>"
        );
        let room = BareJid::new("cave@rooms.example").unwrap();
        let entry = Entry::numbered(&room, NOW, stanza.parse().unwrap(), &number.to_string());
        Mail::for_many(entry.stanza)
    }

    #[test]
    fn what_is_kept_in_memory_weighs_so_much_at_most() {
        let mut past = Past::new(50, Vec::new());
        for number in 0..100 {
            past.push(NOW, numbered(number, "x"));
        }
        assert_eq!(past.said.len(), 50);
        for number in 100..200 {
            past.push(NOW, numbered(number, &"x".repeat(99_000)));
        }
        assert_eq!(past.said.len(), 10);
        let weights = past.said.iter().map(|said| said.weight);
        assert_eq!(past.weight, weights.sum::<usize>());
        let many = "<a/>".repeat(5_000);
        past.push(NOW, numbered(200, &many));
        assert_eq!(past.said.len(), 10, "it alone is heavier than all");
    }

    #[test]
    fn a_tombstone_has_nothing_of_what_was_said() {
        let room = BareJid::new("cave@rooms.example").unwrap();
        let remains = Element::bare("retracted", ns::RETRACT);
        let table = [
            ("another id", "8", None, false),
            ("another author", "7", Some("crone"), false),
            ("the author", "7", Some("hag"), true),
            ("a moderator", "7", None, true),
        ];
        for (name, id, author, expected) in table {
            let mut past = Past::new(50, Vec::new());
            past.push(NOW, numbered(7, "secret"));
            assert_eq!(past.retract(id, author, &remains), expected, "{name}");
            let told = past.select(&Request::default(), &room);
            let told = String::from(told[0].shared());
            assert_eq!(told.contains("secret"), !expected, "{name}");
            assert_eq!(told.contains("retracted"), expected, "{name}");
            assert!(
                told.contains("id='7'") || told.contains("id=\"7\""),
                "{name}"
            );
        }
    }
}
