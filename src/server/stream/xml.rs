//! XML streams (RFC 6120, 4 and 11) without I/O: bytes in, elements out ([`Reader`]); elements in, bytes out ([`write`]).
//!
//! The scanner looks at every byte once, finds where the next element ends, and keeps the limits; only a whole element is
//! parsed, in one piece and without recursion. An idle stream therefore holds no parser and no buffer. `rxml` would do the
//! parsing as well, at 8 µs for a chat message where building the elements takes 1.5 µs, and it reserves the longest
//! allowed token for every stream; it serves as the oracle instead: what is accepted here it accepts (see the tests).

mod escape;
mod parser;
mod reader;
mod scanner;
#[cfg(test)]
mod tests;
mod writer;

pub use escape::write_attribute;
pub use reader::{Event, Header, Reader};
pub use writer::{Framing, Opening, write, write_close, write_header};

use minidom::Element;

use crate::server::StreamError;

/// How much of everything a stream may have. Beyond them a stream ends with `policy-violation` (RFC 6120, 4.9.3.14).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub stanza_bytes: usize,
    /// All bytes until somebody is logged in.
    pub preauth_bytes: usize,
    /// All elements until somebody is logged in, children too.
    pub preauth_elements: usize,
    /// Nested elements of a stanza.
    pub depth: usize,
    /// Attributes of one element.
    pub attributes: usize,
    /// Elements and attributes of a stanza: each takes some hundred bytes of memory, whatever it takes on the wire.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stanza_bytes: 262_144,
            preauth_bytes: 8_192,
            preauth_elements: 32,
            depth: 64,
            attributes: 128,
            nodes: 8_192,
        }
    }
}

/// Reads back what was stored as text. The limits were kept when it came; `Element`'s own `parse` has others, as of 8 KiB for
/// an attribute, and would lose what was accepted.
pub fn parse(text: &str) -> Option<Element> {
    parser::element(text, &parser::NOTHING).ok()
}

const fn not_well_formed(text: &'static str) -> StreamError {
    StreamError::new("not-well-formed").text(text)
}

/// RFC 6120, 11.1: what XML has and XMPP forbids.
const fn restricted(text: &'static str) -> StreamError {
    StreamError::new("restricted-xml").text(text)
}

const fn violation(text: &'static str) -> StreamError {
    StreamError::new("policy-violation").text(text)
}
