//! Finds where stanzas begin and end in a stream of bytes, without building anything, and holds each back until it is
//! known to be harmless. Knows just enough XML for that: tags, quotes and CDATA; the parser behind it judges the rest.

use super::stanza::Stanza;
use super::{Finding, Limits, Poison, Violation};

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Text, or white space between stanzas.
    Text,
    /// After `<`.
    Open,
    /// In the name of a start tag.
    Name,
    /// In a start tag, between attributes.
    Inside,
    AttributeName,
    /// After an attribute's name.
    Equals,
    /// After `=`.
    Quote,
    /// In an attribute's value, up to this quote.
    Value(u8),
    /// After the `/` of an empty element.
    Empty,
    /// In an end tag.
    End,
    /// After `<!`: so many bytes of `[CDATA[` have come.
    Bang(usize),
    /// In CDATA: so many `]` have just come, two at most.
    Cdata(u8),
    /// In the XML declaration: whether `?` has just come.
    Declaration(bool),
    /// After the stream's end tag.
    Over,
}

const CDATA: &[u8] = b"[CDATA[";

/// The scanner of one stream, restarts included.
#[derive(Debug)]
pub(super) struct Scanner {
    limits: Limits,
    state: State,
    /// Open elements, the stream's root included.
    depth: usize,
    stanza: Stanza,
    /// A new stream header may come: after SASL.
    restart: bool,
    /// White space was dropped since the last stanza.
    space: bool,
}

impl Scanner {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Text,
            depth: 0,
            stanza: Stanza::default(),
            restart: false,
            space: false,
        }
    }

    /// The next thing that the server opens may be a stream (RFC 6120, 6.4.6).
    pub(super) const fn expect_restart(&mut self) {
        self.restart = true;
    }

    /// Whether the bytes so far end with a stanza, with nothing behind it, not even white space.
    pub(super) fn ends_with_stanza(&self) -> bool {
        self.state == State::Text && self.depth <= 1 && !self.space
    }

    /// Scans bytes; what may pass is appended to `out`, what is worth knowing to `findings`.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Violation> {
        while !bytes.is_empty() {
            let (run, rest) = bytes
                .split_at_checked(self.run(bytes))
                .unwrap_or((bytes, &[]));
            if !run.is_empty() {
                self.stanza.extend(run, &self.limits)?;
                if matches!(self.state, State::Value(_)) {
                    self.stanza.value(run, &self.limits);
                }
            }
            let Some((byte, rest)) = rest.split_first() else {
                break;
            };
            self.step(*byte, out, findings)?;
            bytes = rest;
        }
        Ok(())
    }

    /// How many bytes at the front change nothing: the inside of text, values and CDATA.
    fn run(&self, bytes: &[u8]) -> usize {
        let end = |stops: fn(u8, u8) -> bool, quote: u8| {
            bytes
                .iter()
                .position(|byte| stops(*byte, quote))
                .unwrap_or(bytes.len())
        };
        match self.state {
            State::Text if self.depth > 1 => end(|byte, _| byte == b'<', 0),
            State::Value(quote) => end(|byte, quote| byte == quote, quote),
            State::Cdata(0) => end(|byte, _| byte == b']', 0),
            _ => 0,
        }
    }

    fn step(
        &mut self,
        byte: u8,
        out: &mut Vec<u8>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Violation> {
        if self.state == State::Text && byte != b'<' {
            // Between stanzas only white space may stand (RFC 6120, 4.4); it is dropped, so that a restarted parser
            // does not find it before the XML declaration. Inside an element `run` has taken all text.
            return if byte.is_ascii_whitespace() {
                self.space = true;
                Ok(())
            } else {
                Err(Violation::TextBetweenStanzas)
            };
        }
        self.stanza.extend(&[byte], &self.limits)?;
        self.state = match (self.state, byte) {
            (State::Text, _) => {
                self.space = false;
                State::Open
            }
            (State::Open, b'/') => State::End,
            (State::Open, b'!') => State::Bang(0),
            (State::Open, b'?') => self.declaration()?,
            (State::Open, _) => {
                self.stanza.open(byte, self.depth);
                State::Name
            }
            (State::Name | State::Inside, b'>') => return self.opened(out),
            (State::Name | State::Inside, b'/') => State::Empty,
            (State::Name | State::Inside, _) if byte.is_ascii_whitespace() => State::Inside,
            (State::Name, _) => {
                self.stanza.name(byte, &self.limits);
                State::Name
            }
            (State::Inside, _) => {
                self.stanza.attribute(byte, &self.limits);
                State::AttributeName
            }
            (State::AttributeName | State::Equals, b'=') => State::Quote,
            (State::AttributeName | State::Equals, _) if byte.is_ascii_whitespace() => {
                State::Equals
            }
            (State::AttributeName, b'<' | b'>') | (State::End, b'<') => {
                return Err(Violation::NotWellFormed);
            }
            (State::AttributeName, _) => {
                self.stanza.attribute_name(byte, &self.limits);
                State::AttributeName
            }
            (State::Quote, b'"' | b'\'') => {
                self.stanza.begin_value();
                State::Value(byte)
            }
            (State::Quote, _) if byte.is_ascii_whitespace() => State::Quote,
            (State::Value(quote), _) => {
                self.stanza.end_attribute(quote);
                State::Inside
            }
            (State::Empty, b'>') => {
                self.stanza.end_name(&self.limits);
                self.depth += 1;
                return self.closed(out, findings);
            }
            (State::End, b'>') => return self.closed(out, findings),
            (State::End, _) => State::End,
            (State::Bang(seen), _) => self.bang(seen, byte)?,
            (State::Cdata(2), b'>') => State::Text,
            (State::Cdata(seen), b']') => State::Cdata((seen + 1).min(2)),
            (State::Cdata(_), _) => State::Cdata(0),
            (State::Declaration(true), b'>') => {
                self.stanza.pass(out)?;
                State::Text
            }
            (State::Declaration(_), _) => {
                self.stanza.declaration(&self.limits)?;
                State::Declaration(byte == b'?')
            }
            (State::Over, _) if byte.is_ascii_whitespace() => State::Over,
            (State::Empty | State::Equals | State::Quote | State::Over, _) => {
                return Err(Violation::NotWellFormed);
            }
        };
        Ok(())
    }

    /// Only the XML declaration before a stream header may look like a processing instruction (RFC 6120, 11.1).
    fn declaration(&mut self) -> Result<State, Violation> {
        if self.depth == 1 && self.restart {
            self.restart = false;
            self.depth = 0;
        }
        if self.depth == 0 {
            Ok(State::Declaration(false))
        } else {
            Err(Violation::ProcessingInstruction)
        }
    }

    /// Only CDATA may follow `<!`, and only inside a stanza.
    fn bang(&self, seen: usize, byte: u8) -> Result<State, Violation> {
        if CDATA.get(seen) != Some(&byte) || self.depth < 2 {
            return Err(match byte {
                b'-' => Violation::Comment,
                _ => Violation::Doctype,
            });
        }
        Ok(if seen + 1 == CDATA.len() {
            State::Cdata(0)
        } else {
            State::Bang(seen + 1)
        })
    }

    /// A start tag is complete.
    fn opened(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        self.state = State::Text;
        if self.depth == 1 && self.restart && self.stanza.is_stream_header() {
            self.restart = false;
            self.depth = 0;
        }
        self.depth += 1;
        if self.depth == 1 {
            return self.stanza.pass_header(out);
        }
        // The root does not count: what is limited is the depth of a stanza.
        if self.depth - 1 > self.limits.depth {
            self.stanza.poison(Poison::Depth);
        }
        self.stanza.end_name(&self.limits);
        Ok(())
    }

    /// An element is complete.
    fn closed(&mut self, out: &mut Vec<u8>, findings: &mut Vec<Finding>) -> Result<(), Violation> {
        self.state = State::Text;
        self.depth = self.depth.checked_sub(1).ok_or(Violation::NotWellFormed)?;
        match self.depth {
            0 => {
                self.state = State::Over;
                self.stanza.pass(out)
            }
            1 => self.stanza.finish(out, findings),
            _ => Ok(()),
        }
    }
}
