//! A stream as it comes in, in whatever pieces: its header, its elements, its end.

use std::borrow::Cow;

use minidom::Element;
use minidom::rxml::Namespace;

use super::parser::{self, Head, NOTHING, Scope};
use super::scanner::{Place, Scanner, Unit};
use super::{Limits, not_well_formed, violation};
use crate::server::StreamError;
use crate::xmpp::ns;

/// What has come in.
#[derive(Debug, PartialEq)]
pub enum Event {
    Open(Header),
    /// A child of the stream.
    Element(Element),
    Close,
}

/// The stream header (RFC 6120, 4.7), or the `<open/>` of RFC 7395.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub to: Option<String>,
    pub from: Option<String>,
    pub id: Option<String>,
    pub version: Option<String>,
    pub lang: Option<String>,
    /// The content namespace: `jabber:client`, `jabber:server` or `jabber:component:accept`. Elements of it come in as
    /// those of `jabber:client`.
    pub namespace: &'static str,
}

impl Header {
    /// RFC 6120, 4.7.5: below 1.0 is what came before XMPP.
    pub fn is_supported(&self) -> bool {
        let major = self
            .version
            .as_deref()
            .and_then(|version| version.split_once('.'))
            .and_then(|(major, _)| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= 1)
    }

    fn new(element: &Element, namespace: &'static str) -> Self {
        let get = |name: &str| element.attr(name).map(str::to_owned);
        Self {
            to: get("to"),
            from: get("from"),
            id: get("id"),
            version: get("version"),
            lang: element.attr_ns(&Namespace::XML, "lang").map(str::to_owned),
            namespace,
        }
    }
}

/// Reads one stream.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    scanner: Scanner,
    scope: Scope,
    /// What was not consumed. Nothing is allocated while nothing is.
    buffer: Vec<u8>,
    /// Where the unit that is being read begins.
    start: usize,
    /// Up to where it was looked at.
    scanned: usize,
    /// How many bytes may still come until somebody is logged in.
    allowance: Option<usize>,
    closed: bool,
}

impl Reader {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            scanner: Scanner::new(Place::Start, Some(limits.preauth_elements)),
            scope: Scope::EMPTY,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            allowance: Some(limits.preauth_bytes),
            closed: false,
        }
    }

    /// Somebody is logged in: what they may send is no longer limited but by stanza.
    pub fn authenticated(&mut self) {
        self.allowance = None;
        self.scanner.lift();
    }

    /// A new header must come, after TLS has started or a login succeeded (RFC 6120, 4.3.3).
    pub fn reset(&mut self) {
        self.scanner.enter(Place::Start);
        self.scope = Scope::EMPTY;
        self.closed = false;
    }

    /// Whether everything that was pushed has been returned. What stands behind a `<starttls/>` was sent by somebody who
    /// hopes that it will pass for a part of the protected stream (CVE-2011-0411).
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event, `None` if more bytes are needed. After an error there is no sense in reading on.
    pub fn read(&mut self) -> Result<Option<Event>, StreamError> {
        while !self.closed {
            if self.scanner.is_between() {
                self.skip_white_space()?;
            }
            let Some(unit) = self.scan()? else {
                self.release();
                return Ok(None);
            };
            let raw = self
                .buffer
                .get(self.start..self.scanned)
                .unwrap_or_default();
            let event = take(unit, raw, &mut self.scope)?;
            if unit == Unit::Declaration {
                self.scanner.enter(Place::Declared);
            }
            self.start = self.scanned;
            match event {
                Some(Event::Open(_)) => self.scanner.enter(Place::Stream),
                Some(Event::Close) => self.closed = true,
                _ => {}
            }
            self.release();
            if event.is_some() {
                return Ok(event);
            }
        }
        self.buffer = Vec::new();
        self.start = 0;
        self.scanned = 0;
        Ok(None)
    }

    /// A message of RFC 7395: one whole element, `<open/>` and `<close/>` among them.
    pub fn message(&mut self, text: &str) -> Result<Event, StreamError> {
        self.spend(text.len())?;
        if text.len() > self.limits.stanza_bytes {
            return Err(violation("a stanza of too many bytes"));
        }
        if !text.starts_with('<') {
            return Err(not_well_formed("a message that is no element"));
        }
        self.scanner.enter(Place::Frame);
        let (count, unit) = self.scanner.scan(text.as_bytes(), &self.limits)?;
        if unit.is_none() || count != text.len() {
            return Err(not_well_formed("a message that is not one element"));
        }
        let element = parser::element(text, &NOTHING)?;
        Ok(if element.is("open", ns::WEBSOCKET) {
            Event::Open(Header::new(&element, ns::JABBER_CLIENT))
        } else if element.is("close", ns::WEBSOCKET) {
            Event::Close
        } else {
            Event::Element(element)
        })
    }

    /// White space keeps a connection alive (RFC 6120, 4.6.1); nothing else may stand between stanzas.
    fn skip_white_space(&mut self) -> Result<(), StreamError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let count = rest
            .iter()
            .position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        let text = count.is_some_and(|count| rest.get(count) != Some(&b'<'));
        let count = count.unwrap_or(rest.len());
        self.start += count;
        self.scanned = self.start;
        self.spend(count)?;
        if text {
            return Err(StreamError::new("bad-format").text("text between stanzas"));
        }
        Ok(())
    }

    fn scan(&mut self) -> Result<Option<Unit>, StreamError> {
        let rest = self.buffer.get(self.scanned..).unwrap_or_default();
        // One byte more than is allowed, so that the same is found wrong however the bytes arrive.
        let spare = self.limits.stanza_bytes - (self.scanned - self.start);
        let spare = self
            .allowance
            .map_or(spare, |allowance| allowance.min(spare));
        let bytes = rest.get(..=spare).unwrap_or(rest);
        let (count, unit) = self.scanner.scan(bytes, &self.limits)?;
        self.scanned += count;
        self.spend(count)?;
        if self.scanned - self.start > self.limits.stanza_bytes {
            return Err(violation("a stanza of too many bytes"));
        }
        Ok(unit)
    }

    fn spend(&mut self, count: usize) -> Result<(), StreamError> {
        if let Some(allowance) = &mut self.allowance {
            *allowance = allowance
                .checked_sub(count)
                .ok_or(violation("too many bytes before the login"))?;
        }
        Ok(())
    }

    /// Gives the memory back when there is nothing in it.
    fn release(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
            self.start = 0;
            self.scanned = 0;
        }
    }
}

/// Makes an event of a unit; of a declaration none.
fn take(unit: Unit, raw: &[u8], scope: &mut Scope) -> Result<Option<Event>, StreamError> {
    let Ok(text) = std::str::from_utf8(raw) else {
        // RFC 6120, 4.9.3.22 names violations of UTF-8.
        return Err(StreamError::new("unsupported-encoding").text("bytes that are not UTF-8"));
    };
    match unit {
        Unit::Declaration => {
            parser::declaration(text)?;
            Ok(None)
        }
        Unit::Header => {
            let (header, declared) = header(&parser::head(text)?)?;
            *scope = declared;
            Ok(Some(Event::Open(header)))
        }
        Unit::Element => Ok(Some(Event::Element(parser::element(text, scope)?))),
        // RFC 6120, 4.8.5: the prefix is always this one.
        Unit::Close if text.trim_end_matches('>').trim_end() == "</stream:stream" => {
            Ok(Some(Event::Close))
        }
        Unit::Close => Err(not_well_formed("an end tag that closes nothing")),
    }
}

/// RFC 6120, 4.8.
fn header(head: &Head<'_>) -> Result<(Header, Scope), StreamError> {
    let bound = |prefix: &str| {
        head.bindings
            .iter()
            .find(|(name, _)| *name == prefix)
            .map_or("", |(_, namespace)| namespace.as_str())
    };
    if !head.element.has_ns(ns::STREAM) {
        return Err(StreamError::new("invalid-namespace").text("not the namespace of streams"));
    }
    if head.element.name() != "stream" {
        return Err(StreamError::new("bad-format").text("not a stream"));
    }
    if head.prefix != "stream" {
        return Err(StreamError::new("bad-namespace-prefix"));
    }
    let Some(namespace) = [ns::JABBER_CLIENT, ns::JABBER_SERVER, ns::COMPONENT_ACCEPT]
        .into_iter()
        .find(|namespace| *namespace == bound(""))
    else {
        return Err(StreamError::new("invalid-namespace").text("not a content namespace"));
    };
    let scope = Scope {
        default: Cow::Borrowed(namespace),
        stream: true,
        others: head
            .bindings
            .iter()
            .filter(|(prefix, _)| !matches!(*prefix, "" | "stream" | "xml"))
            .map(|(prefix, namespace)| ((*prefix).to_owned(), namespace.clone()))
            .collect(),
    };
    Ok((Header::new(&head.element, namespace), scope))
}
