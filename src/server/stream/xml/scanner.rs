//! Where an element ends, found byte by byte as they arrive. It knows tags, quotes and CDATA sections, no more: whether
//! what lies between is XML, the parser decides.

use super::{Limits, not_well_formed, restricted, violation};
use crate::server::StreamError;

const CDATA: &[u8] = b"[CDATA[";

/// What has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The `<?xml … ?>` before a stream header.
    Declaration,
    /// The start tag that opens a stream.
    Header,
    /// A child of the stream.
    Element,
    /// The end tag of the stream.
    Close,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Text,
    /// Behind `<`.
    Open,
    /// Behind `<!` and so many bytes of [`CDATA`].
    Bang(usize),
    /// In a CDATA section, behind so many brackets.
    Section(u8),
    Tag,
    /// In a start tag behind `/`.
    Slash,
    Quoted(u8),
    EndTag,
    /// In `<? … ?>`; whether behind a question mark.
    Declaration(bool),
}

/// What encloses the unit that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing yet: a stream header is expected, and a declaration may come before it.
    Start,
    /// As [`Self::Start`], behind a declaration.
    Declared,
    /// The stream.
    Stream,
    /// Nothing, and the unit stands alone (RFC 7395).
    Frame,
}

#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    place: Place,
    /// Open elements of this unit.
    depth: usize,
    /// Attributes of this tag.
    attributes: usize,
    /// Elements and attributes of this unit.
    nodes: usize,
    /// How many elements may still come, until somebody is logged in.
    allowance: Option<usize>,
}

impl Scanner {
    pub(super) const fn new(place: Place, allowance: Option<usize>) -> Self {
        Self {
            state: State::Text,
            place,
            depth: 0,
            attributes: 0,
            nodes: 0,
            allowance,
        }
    }

    /// Whether nothing of a unit has been seen yet.
    pub(super) const fn is_between(&self) -> bool {
        self.depth == 0 && matches!(self.state, State::Text)
    }

    /// Any number of elements may come now.
    pub(super) const fn lift(&mut self) {
        self.allowance = None;
    }

    /// What comes next is in another place: a stream has begun, or begins anew.
    pub(super) const fn enter(&mut self, place: Place) {
        self.place = place;
    }

    /// Looks at bytes of a unit: how many it took, and what ended with the last of them.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Unit>), StreamError> {
        let mut rest = bytes;
        while let Some(dull) = self.dull(rest) {
            let Some((byte, tail)) = rest.get(dull..).and_then(<[u8]>::split_first) else {
                break;
            };
            rest = tail;
            if let Some(unit) = self.step(*byte, limits)? {
                self.nodes = 0;
                return Ok((bytes.len() - rest.len(), Some(unit)));
            }
        }
        Ok((bytes.len(), None))
    }

    /// How many bytes change nothing; `None` if all of them.
    fn dull(&self, bytes: &[u8]) -> Option<usize> {
        let mut bytes = bytes.iter();
        match self.state {
            State::Text => bytes.position(|byte| *byte == b'<'),
            State::Section(0) => bytes.position(|byte| *byte == b']'),
            State::Tag => {
                bytes.position(|byte| matches!(byte, b'>' | b'/' | b'\'' | b'"' | b'=' | b'<'))
            }
            State::Quoted(quote) => bytes.position(|byte| *byte == quote),
            State::EndTag => bytes.position(|byte| *byte == b'>'),
            _ => (!bytes.as_slice().is_empty()).then_some(0),
        }
    }

    fn step(&mut self, byte: u8, limits: &Limits) -> Result<Option<Unit>, StreamError> {
        let mut ended = None;
        self.state = match (self.state, byte) {
            (State::Text, _) => State::Open,
            (State::Open, b'/') if self.depth == 0 && self.place != Place::Stream => {
                return Err(not_well_formed("an end tag without its start"));
            }
            (State::Open, b'/') => State::EndTag,
            (State::Open, b'!') => State::Bang(0),
            (State::Open, b'?') if self.depth == 0 && self.place == Place::Start => {
                State::Declaration(false)
            }
            (State::Open, b'?') => return Err(restricted("a processing instruction")),
            (State::Open, _) => self.start_tag(limits)?,
            (State::Bang(seen), _) => self.bang(seen, byte)?,
            (State::Section(_), b']') => State::Section(self.brackets()),
            (State::Section(2), b'>') => State::Text,
            (State::Section(_), _) => State::Section(0),
            (State::Tag, b'/') => State::Slash,
            (State::Tag, b'\'' | b'"') => State::Quoted(byte),
            (State::Tag, b'=') => self.attribute(limits)?,
            (State::Tag, b'<') => return Err(not_well_formed("a tag in a tag")),
            (State::Tag, _) => {
                ended = self.open();
                State::Text
            }
            (State::Slash, b'>') => {
                ended = self.empty()?;
                State::Text
            }
            (State::Slash, _) => return Err(not_well_formed("a slash in a tag")),
            (State::Quoted(_), _) => State::Tag,
            (State::EndTag, _) => {
                ended = Some(self.close());
                State::Text
            }
            (State::Declaration(true), b'>') => {
                ended = Some(Unit::Declaration);
                State::Text
            }
            (State::Declaration(_), _) => State::Declaration(byte == b'?'),
        };
        Ok(ended.filter(|_| self.depth == 0))
    }

    fn start_tag(&mut self, limits: &Limits) -> Result<State, StreamError> {
        self.attributes = 0;
        if let Some(allowance) = &mut self.allowance {
            *allowance = allowance
                .checked_sub(1)
                .ok_or(violation("too many elements before the login"))?;
        }
        if self.depth >= limits.depth {
            return Err(violation("elements nested too deeply"));
        }
        self.node(limits)?;
        Ok(State::Tag)
    }

    fn attribute(&mut self, limits: &Limits) -> Result<State, StreamError> {
        self.attributes += 1;
        if self.attributes > limits.attributes {
            return Err(violation("an element with too many attributes"));
        }
        self.node(limits)?;
        Ok(State::Tag)
    }

    const fn node(&mut self, limits: &Limits) -> Result<(), StreamError> {
        self.nodes += 1;
        if self.nodes > limits.nodes {
            return Err(violation("a stanza of too many elements and attributes"));
        }
        Ok(())
    }

    /// RFC 6120, 11.1 forbids comments and declarations anywhere.
    fn bang(&self, seen: usize, byte: u8) -> Result<State, StreamError> {
        if CDATA.get(seen) != Some(&byte) {
            return Err(restricted("a comment or a DTD"));
        }
        if self.depth == 0 {
            return Err(not_well_formed("character data outside a stanza"));
        }
        Ok(if seen + 1 == CDATA.len() {
            State::Section(0)
        } else {
            State::Bang(seen + 1)
        })
    }

    /// Two brackets close a section as well as three.
    fn brackets(&self) -> u8 {
        match self.state {
            State::Section(0) => 1,
            _ => 2,
        }
    }

    /// The end of a start tag.
    fn open(&mut self) -> Option<Unit> {
        if matches!(self.place, Place::Start | Place::Declared) {
            return Some(Unit::Header);
        }
        self.depth += 1;
        None
    }

    /// The end of a tag of an element without content.
    fn empty(&self) -> Result<Option<Unit>, StreamError> {
        match self.place {
            Place::Start | Place::Declared => {
                Err(StreamError::new("bad-format").text("a stream that ends with its header"))
            }
            Place::Stream | Place::Frame => Ok(Some(Unit::Element)),
        }
    }

    /// The end of an end tag.
    fn close(&mut self) -> Unit {
        match self.depth.checked_sub(1) {
            Some(depth) => {
                self.depth = depth;
                Unit::Element
            }
            None => Unit::Close,
        }
    }
}
