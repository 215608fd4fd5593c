//! What may come in: a filter on the bytes below the XML parser. The parser of our library overflows its stack on deep
//! nesting, refuses long attributes in a way that brings the same stanza back for ever, and takes stanzas without end;
//! so each stanza is held back until its end has come within all limits. One that breaks a limit is replaced by an
//! empty one of its kind, because a stranger sent it and the server counts it (XEP-0198); what only a broken or
//! hostile server would send (RFC 6120, 11.1) ends the stream.

mod scanner;
mod stanza;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use minidom::Element;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tracing::warn;
use xmpp_parsers::ns;

use self::scanner::Scanner;
use super::Error;

/// How much of everything a stanza may have.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Nested elements.
    pub depth: usize,
    /// Bytes of a name or an attribute's value. Our parser refuses 8 KiB, of which escapes make fewer.
    pub token_bytes: usize,
    /// Attributes of one element.
    pub attributes: usize,
    /// Elements and attributes together: each costs some hundred bytes once parsed.
    pub nodes: usize,
    pub stanza_bytes: usize,
    /// How much of a stanza that is being dropped is read before the stream is given up.
    pub skipped_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 64,
            token_bytes: 8_000,
            attributes: 128,
            nodes: 65_536,
            stanza_bytes: 1024 * 1024,
            skipped_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Why a stanza was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    Depth,
    Token,
    Attributes,
    Nodes,
    Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Message,
    Presence,
    Iq,
}

/// Why the stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a DOCTYPE or an entity declaration")]
    Doctype,
    #[error("a comment")]
    Comment,
    #[error("a processing instruction")]
    ProcessingInstruction,
    #[error("text between stanzas")]
    TextBetweenStanzas,
    #[error("bytes that are no UTF-8")]
    InvalidUtf8,
    #[error("XML that is not well-formed")]
    NotWellFormed,
    #[error("a stanza without an end")]
    Endless,
    #[error("a stream element beyond the limits ({0:?})")]
    TooMuch(Poison),
}

/// What the scanner came across.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Replaced {
        kind: Kind,
        poison: Poison,
        from: Option<String>,
    },
    StreamError(String),
    /// XEP-0198 is on.
    Managed,
}

/// What the guard of a stream tells those above the parser, who only learn that the stream ended.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    restart: bool,
    managed: bool,
    failure: Option<Error>,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream header may come: call it after SASL's success, before sending ours.
    pub fn expect_restart(&self) {
        self.lock().restart = true;
    }

    /// Whether the server has enabled or resumed stream management.
    pub fn is_managed(&self) -> bool {
        self.lock().managed
    }

    /// Why the stream ended: a stream error of the server's or a violation; `None` if the connection broke.
    pub fn take_failure(&self) -> Option<Error> {
        self.lock().failure.take()
    }
}

/// Reads a server's stream through the scanner; writing passes through.
#[derive(Debug)]
pub struct Guard<Io> {
    io: Io,
    scanner: Scanner,
    notes: Notes,
    input: Box<[u8]>,
    /// What may pass, from `position` on.
    output: Vec<u8>,
    position: usize,
    end: Option<End>,
    /// What is written up to the end of our next stream header goes nowhere: see [`Guard::resume_with`]. The last byte
    /// of it so far.
    mute: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Violated(Violation),
}

impl<Io> Guard<Io> {
    pub fn new(io: Io, limits: Limits) -> Self {
        Self {
            io,
            scanner: Scanner::new(limits),
            notes: Notes::default(),
            input: vec![0; 8 * 1024].into_boxed_slice(),
            output: Vec::new(),
            position: 0,
            end: None,
            mute: None,
        }
    }

    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    pub const fn get_ref(&self) -> &Io {
        &self.io
    }

    /// The connection below; `None` if anything had already been read beyond what the parser took. After
    /// `<proceed/>` that is an injection into the part which TLS protects (CVE-2011-0411).
    pub fn into_inner(self) -> Option<Io> {
        let clean = self.unread().is_empty() && self.scanner.ends_with_stanza();
        clean.then_some(self.io)
    }

    /// Gives a new parser this stream header to begin with and swallows the one that it sends, both in the middle of a
    /// stream that goes on: so a component's stream is read as a client's.
    #[must_use]
    pub fn resume_with(mut self, header: &str) -> Self {
        let rest = self.unread().to_vec();
        self.output = header.as_bytes().to_vec();
        self.output.extend_from_slice(&rest);
        self.position = 0;
        self.mute = Some(0);
        self
    }

    fn unread(&self) -> &[u8] {
        self.output.get(self.position..).unwrap_or(&[])
    }

    fn take_in(&mut self, count: usize) {
        if self.notes.lock().restart {
            self.notes.lock().restart = false;
            self.scanner.expect_restart();
        }
        let mut findings = Vec::new();
        let bytes = self.input.get(..count).unwrap_or(&[]);
        let outcome = self.scanner.feed(bytes, &mut self.output, &mut findings);
        for finding in findings {
            match finding {
                Finding::Replaced { kind, poison, from } => {
                    warn!(
                        ?kind,
                        ?poison,
                        from,
                        "A stanza beyond the limits was emptied"
                    );
                }
                Finding::Managed => self.notes.lock().managed = true,
                Finding::StreamError(text) => self.notes.lock().failure = Some(stream_error(&text)),
            }
        }
        if let Err(violation) = outcome {
            self.end = Some(End::Violated(violation));
            self.notes
                .lock()
                .failure
                .get_or_insert(Error::Protocol(violation.to_string()));
        }
    }
}

/// Reads a `<stream:error/>` as it was written (RFC 6120, 4.9.2).
fn stream_error(text: &str) -> Error {
    let framed = format!(
        "<stream:stream xmlns:stream='{}'>{text}</stream:stream>",
        ns::STREAM
    );
    let root = framed.parse::<Element>().ok();
    let error = root.as_ref().and_then(|root| root.children().next());
    let child = |text: bool| {
        error
            .into_iter()
            .flat_map(Element::children)
            .find(move |child| child.ns() == ns::XMPP_STREAMS && (child.name() == "text") == text)
    };
    Error::Stream {
        condition: child(false)
            .map_or("undefined-condition", Element::name)
            .to_owned(),
        text: child(true)
            .map(Element::text)
            .filter(|text| !text.is_empty()),
    }
}

impl<Io: AsyncRead + Unpin> AsyncBufRead for Guard<Io> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.position >= this.output.len() {
            match this.end {
                Some(End::Closed) => return Poll::Ready(Ok(&[])),
                Some(End::Violated(violation)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
                }
                None => {}
            }
            this.position = 0;
            if this.output.capacity() > 64 * 1024 {
                this.output = Vec::new();
            }
            this.output.clear();
            let mut buffer = ReadBuf::new(&mut this.input);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer))?;
            match buffer.filled().len() {
                0 => this.end = Some(End::Closed),
                count => this.take_in(count),
            }
        }
        Poll::Ready(Ok(this.output.get(this.position..).unwrap_or(&[])))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        this.position = this.position.saturating_add(amount).min(this.output.len());
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Guard<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let available = ready!(self.as_mut().poll_fill_buf(cx))?;
        let count = available.len().min(buffer.remaining());
        buffer.put_slice(available.get(..count).unwrap_or(&[]));
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Guard<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(mut before) = this.mute else {
            return Pin::new(&mut this.io).poll_write(cx, bytes);
        };
        // The header is `<?xml …?>` and one tag: it ends at the first `>` without a `?` before it.
        let end = bytes.iter().position(|byte| {
            let ends = *byte == b'>' && before != b'?';
            before = *byte;
            ends
        });
        this.mute = end.is_none().then_some(before);
        Poll::Ready(Ok(end.map_or(bytes.len(), |end| end + 1)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
