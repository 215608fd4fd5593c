//! The element that the scanner holds back: what is known of its head, and what is put in its place.

use std::ops::Range;

use xmpp_parsers::ns;

use super::{Finding, Kind, Limits, Poison, Violation};

/// RFC 6121, 5.2.2: an unknown type is treated as `normal`, which the typed parser does not know.
const MESSAGE_TYPES: [&[u8]; 5] = [b"normal", b"chat", b"groupchat", b"headline", b"error"];

/// What remains of a top-level element when its bytes had to be dropped.
#[derive(Debug, Default)]
struct Head {
    name: Vec<u8>,
    attributes: Vec<Attribute>,
}

/// An attribute of a top-level element, as written.
#[derive(Debug, Default)]
struct Attribute {
    name: Vec<u8>,
    value: Vec<u8>,
    quote: u8,
    /// Where `name="value"` stands among the bytes.
    place: Range<usize>,
    /// The value was longer than is kept.
    cut: bool,
}

/// The longest name or value that is kept beside the bytes: a full JID (RFC 7622, 3.1).
const KEPT: usize = 3_071;

#[derive(Debug, Default)]
pub(super) struct Stanza {
    bytes: Vec<u8>,
    /// Bytes seen, those that were dropped included.
    seen: usize,
    /// Elements and attributes.
    nodes: usize,
    /// Attributes of the tag under way.
    attributes: usize,
    /// Length of the name or value under way.
    token: usize,
    poison: Option<Poison>,
    head: Head,
    /// The tag under way is a top-level one.
    top: bool,
    attribute: Attribute,
}

impl Stanza {
    pub(super) fn extend(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), Violation> {
        self.seen = self.seen.saturating_add(bytes.len());
        if self.seen > limits.skipped_bytes {
            return Err(Violation::Endless);
        }
        if self.seen > limits.stanza_bytes {
            self.poison(Poison::Size);
        }
        if self.poison.is_none() {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// From here on the bytes are dropped; only the head is still read.
    pub(super) fn poison(&mut self, poison: Poison) {
        if self.poison.is_none() {
            self.poison = Some(poison);
            self.bytes = Vec::new();
        }
    }

    pub(super) fn open(&mut self, byte: u8, depth: usize) {
        self.nodes += 1;
        self.attributes = 0;
        self.token = 1;
        self.top = depth <= 1;
        if self.top {
            self.head = Head::default();
            self.head.name.push(byte);
        }
    }

    pub(super) fn name(&mut self, byte: u8, limits: &Limits) {
        self.count_token(1, limits);
        if self.top && self.head.name.len() < KEPT {
            self.head.name.push(byte);
        }
    }

    pub(super) fn attribute(&mut self, byte: u8, limits: &Limits) {
        self.nodes += 1;
        self.attributes += 1;
        self.token = 1;
        if self.attributes > limits.attributes {
            self.poison(Poison::Attributes);
        }
        if self.nodes > limits.nodes {
            self.poison(Poison::Nodes);
        }
        if self.top {
            let start = self.bytes.len().saturating_sub(1);
            self.attribute = Attribute {
                name: vec![byte],
                place: start..start,
                ..Attribute::default()
            };
        }
    }

    pub(super) fn attribute_name(&mut self, byte: u8, limits: &Limits) {
        self.count_token(1, limits);
        if self.top && self.attribute.name.len() < KEPT {
            self.attribute.name.push(byte);
        }
    }

    pub(super) fn begin_value(&mut self) {
        self.token = 0;
    }

    pub(super) fn value(&mut self, bytes: &[u8], limits: &Limits) {
        self.count_token(bytes.len(), limits);
        if !self.top {
            return;
        }
        if self.attribute.value.len() + bytes.len() > KEPT {
            self.attribute.cut = true;
        } else {
            self.attribute.value.extend_from_slice(bytes);
        }
    }

    pub(super) fn end_attribute(&mut self, quote: u8) {
        if !self.top {
            return;
        }
        let mut attribute = std::mem::take(&mut self.attribute);
        attribute.quote = quote;
        attribute.place.end = self.bytes.len();
        let wanted: [&[u8]; 6] = [b"from", b"h", b"id", b"type", b"version", b"xmlns"];
        if !attribute.cut && wanted.contains(&attribute.name.as_slice()) {
            self.head.attributes.push(attribute);
        }
    }

    pub(super) fn end_name(&mut self, limits: &Limits) {
        if self.nodes > limits.nodes {
            self.poison(Poison::Nodes);
        }
    }

    fn count_token(&mut self, length: usize, limits: &Limits) {
        self.token = self.token.saturating_add(length);
        if self.token > limits.token_bytes {
            self.poison(Poison::Token);
        }
    }

    /// An XML declaration is short.
    pub(super) const fn declaration(&self, limits: &Limits) -> Result<(), Violation> {
        if self.bytes.len() > limits.token_bytes {
            Err(Violation::NotWellFormed)
        } else {
            Ok(())
        }
    }

    pub(super) fn is_stream_header(&self) -> bool {
        self.head.name == b"stream:stream"
    }

    /// Lets pass what is held: a declaration or the stream's end tag.
    pub(super) fn pass(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.poison.is_some() || std::str::from_utf8(&self.bytes).is_err() {
            return Err(Violation::NotWellFormed);
        }
        out.extend_from_slice(&self.bytes);
        *self = Self::default();
        Ok(())
    }

    /// Lets a stream header pass. Component servers leave the version out (XEP-0114, 3), which our parser insists on.
    pub(super) fn pass_header(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.head.attribute(b"version").is_none() && self.bytes.pop().is_some() {
            self.bytes.extend_from_slice(b" version='1.0'>");
        }
        self.pass(out)
    }

    /// The element is complete: it passes, or a harmless one takes its place.
    pub(super) fn finish(
        &mut self,
        out: &mut Vec<u8>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Violation> {
        let mut this = std::mem::take(self);
        if let Some(poison) = this.poison {
            let kind = this.head.kind().ok_or(Violation::TooMuch(poison))?;
            this.head.replacement(kind, out);
            findings.push(Finding::Replaced {
                kind,
                poison,
                from: this.head.text(b"from"),
            });
            return Ok(());
        }
        if std::str::from_utf8(&this.bytes).is_err() {
            return Err(Violation::InvalidUtf8);
        }
        match this.head.local_name() {
            b"error" => {
                let text = String::from_utf8_lossy(&this.bytes).into_owned();
                findings.push(Finding::StreamError(text));
            }
            b"enabled" | b"resumed" => findings.push(Finding::Managed),
            b"failed" => this.complete_failed(),
            _ => {}
        }
        this.blank_what_the_parser_refuses();
        out.extend_from_slice(&this.bytes);
        // The buffer is kept for the next stanza unless it has grown.
        if this.bytes.capacity() <= 64 * 1024 {
            this.bytes.clear();
            self.bytes = this.bytes;
        }
        Ok(())
    }

    /// XEP-0198, 5: `h` is optional where a stream cannot be resumed. Our parser insists on it and would try to resume
    /// the lost session for ever. That nothing was handled is always true enough: what was acknowledged stays so.
    fn complete_failed(&mut self) {
        let end = self.head.name.len() + 1;
        if self.head.attribute(b"h").is_none() && end <= self.bytes.len() {
            self.bytes.splice(end..end, *b" h='0'");
        }
    }

    /// Writes spaces over an unknown type of a message, and over a component's own namespace, which the stream's
    /// header has already replaced by the client's.
    fn blank_what_the_parser_refuses(&mut self) {
        let Some(kind) = self.head.kind() else {
            return;
        };
        for attribute in &self.head.attributes {
            let value = attribute.value.as_slice();
            let refused = match attribute.name.as_slice() {
                b"type" => kind == Kind::Message && !MESSAGE_TYPES.contains(&value),
                b"xmlns" => value == ns::COMPONENT.as_bytes(),
                _ => false,
            };
            if refused && let Some(bytes) = self.bytes.get_mut(attribute.place.clone()) {
                bytes.fill(b' ');
            }
        }
    }
}

impl Head {
    fn local_name(&self) -> &[u8] {
        self.name.rsplit(|byte| *byte == b':').next().unwrap_or(&[])
    }

    fn kind(&self) -> Option<Kind> {
        match self.local_name() {
            b"message" => Some(Kind::Message),
            b"presence" => Some(Kind::Presence),
            b"iq" => Some(Kind::Iq),
            _ => None,
        }
    }

    fn attribute(&self, name: &[u8]) -> Option<&Attribute> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name == name)
    }

    fn text(&self, name: &[u8]) -> Option<String> {
        self.attribute(name)
            .map(|attribute| String::from_utf8_lossy(&attribute.value).into_owned())
    }

    /// An element of the same kind without content, so that the counters of XEP-0198 go on. None of them asks for
    /// anything, except a request, which is still answered like any that nobody understands, and an answer, which
    /// still ends the waiting for it.
    fn replacement(&self, kind: Kind, out: &mut Vec<u8>) {
        let (name, attributes, inside): (_, &[u8], &[u8]) = match kind {
            Kind::Message => ("message", b" type='headline'/>", b""),
            Kind::Presence => ("presence", b" type='error'/>", b""),
            Kind::Iq => match self.attribute(b"type").map(|kind| kind.value.as_slice()) {
                Some(b"get") => ("iq", b" type='get'>", UNREADABLE),
                Some(b"set") => ("iq", b" type='set'>", UNREADABLE),
                _ => ("iq", b" type='error'>", REFUSED),
            },
        };
        out.push(b'<');
        out.extend_from_slice(name.as_bytes());
        if kind == Kind::Iq {
            self.copy(b"from", out);
            if !self.copy(b"id", out) {
                out.extend_from_slice(b" id=''");
            }
        }
        out.extend_from_slice(attributes);
        out.extend_from_slice(inside);
    }

    /// Copies an attribute as it was written, if it can be.
    fn copy(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let attribute = self.attribute(name).filter(|attribute| {
            !attribute.value.contains(&b'<') && std::str::from_utf8(&attribute.value).is_ok()
        });
        let Some(attribute) = attribute else {
            return false;
        };
        out.push(b' ');
        out.extend_from_slice(&attribute.name);
        out.extend_from_slice(&[b'=', attribute.quote]);
        out.extend_from_slice(&attribute.value);
        out.push(attribute.quote);
        true
    }
}

const UNREADABLE: &[u8] = b"<unreadable xmlns='urn:moltis:guard'/></iq>";
const REFUSED: &[u8] = b"<error type='cancel'><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
