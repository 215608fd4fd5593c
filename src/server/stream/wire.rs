//! What carries a stream: bytes in both directions (TCP, TLS, an in-process pipe), or the messages of a WebSocket. Input
//! and output are apart, so that neither waits for the other.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{SplitSink, SplitStream};
use futures::{Sink, Stream, StreamExt};
use minidom::Element;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};

use super::xml::{Event, Framing, Limits, Opening, Reader, write, write_close, write_header};
use crate::server::StreamError;
use crate::server::mail::Mail;
use crate::xmpp::connector::Pipe;

/// How much is read at once. It lies on the stack while it is read: an idle stream has no buffer.
const CHUNK: usize = 8 * 1024;
/// An output buffer that has grown beyond this is given back when it is empty.
const KEEP: usize = 4 * 1024;

/// A WebSocket's text messages.
pub trait Socket:
    Stream<Item = io::Result<String>> + Sink<String, Error = io::Error> + Send + Unpin
{
}
impl<T: Stream<Item = io::Result<String>> + Sink<String, Error = io::Error> + Send + Unpin> Socket
    for T
{
}

/// Why a stream ends.
#[derive(Debug)]
pub(in crate::server) enum End {
    /// The peer has closed it.
    Closed,
    /// The connection broke, with an error or without.
    Lost,
    /// We close it, with this error and an application's own condition beside it.
    Error(StreamError, Option<Box<Element>>),
    /// Another connection has taken the session over (XEP-0198, 5).
    Resumed,
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Error(error, None)
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

enum Source {
    Bytes(ReadHalf<Box<dyn Pipe>>),
    Messages(SplitStream<Box<dyn Socket>>),
}

enum Drain {
    Bytes(WriteHalf<Box<dyn Pipe>>),
    Messages(SplitSink<Box<dyn Socket>, String>),
}

/// What comes in.
pub(in crate::server) struct Input {
    source: Source,
    pub(in crate::server) reader: Reader,
    /// How many bytes have come since somebody asked.
    read: usize,
}

/// What goes out.
pub(in crate::server) struct Output {
    drain: Drain,
    framing: Framing,
    /// Where messages end in `buffer`, for a WebSocket.
    ends: Vec<usize>,
    buffer: Vec<u8>,
    /// How much of it has been written.
    written: usize,
    /// Everything was handed over; it may still lie in a buffer of TLS.
    unflushed: bool,
}

pub(in crate::server) fn bytes(io: Box<dyn Pipe>, limits: Limits) -> (Input, Output) {
    let (source, drain) = tokio::io::split(io);
    pair(
        Source::Bytes(source),
        Drain::Bytes(drain),
        Framing::Stream,
        Reader::new(limits),
    )
}

pub(in crate::server) fn messages(socket: Box<dyn Socket>, limits: Limits) -> (Input, Output) {
    let (drain, source) = socket.split();
    pair(
        Source::Messages(source),
        Drain::Messages(drain),
        Framing::Message,
        Reader::new(limits),
    )
}

fn pair(source: Source, drain: Drain, framing: Framing, reader: Reader) -> (Input, Output) {
    let input = Input {
        source,
        reader,
        read: 0,
    };
    let output = Output {
        drain,
        framing,
        ends: Vec::new(),
        buffer: Vec::new(),
        written: 0,
        unflushed: false,
    };
    (input, output)
}

/// The connection below, with the reader, for TLS to be put in between. `None`: it is a WebSocket.
pub(in crate::server) fn unsplit(input: Input, output: Output) -> Option<(Box<dyn Pipe>, Reader)> {
    match (input.source, output.drain) {
        (Source::Bytes(source), Drain::Bytes(drain)) => Some((source.unsplit(drain), input.reader)),
        _ => None,
    }
}

/// The reverse.
pub(in crate::server) fn resplit(io: Box<dyn Pipe>, reader: Reader) -> (Input, Output) {
    let (source, drain) = tokio::io::split(io);
    pair(
        Source::Bytes(source),
        Drain::Bytes(drain),
        Framing::Stream,
        reader,
    )
}

impl Input {
    /// The next event. Losing the future loses nothing.
    pub(in crate::server) async fn next(&mut self) -> Result<Event, End> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What the next bytes complete: `None` if nothing, so that they are counted as they come. Losing the future loses
    /// nothing.
    pub(in crate::server) async fn more(&mut self) -> Result<Option<Event>, End> {
        poll_fn(|cx| self.poll_more(cx)).await
    }

    /// An event that has been read already.
    pub(in crate::server) fn buffered(&mut self) -> Result<Option<Event>, StreamError> {
        match self.source {
            Source::Bytes(_) => self.reader.read(),
            Source::Messages(_) => Ok(None),
        }
    }

    /// How many bytes have come since the last call.
    pub(in crate::server) fn take_read(&mut self) -> usize {
        std::mem::take(&mut self.read)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, End>> {
        loop {
            if let Some(event) = ready!(self.poll_more(cx))? {
                return Poll::Ready(Ok(event));
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, End>> {
        match &mut self.source {
            Source::Bytes(source) => {
                if let Some(event) = self.reader.read()? {
                    return Poll::Ready(Ok(Some(event)));
                }
                let mut space = [const { MaybeUninit::uninit() }; CHUNK];
                let mut buffer = ReadBuf::uninit(&mut space);
                ready!(Pin::new(&mut *source).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Err(End::Lost));
                }
                self.read = self.read.saturating_add(buffer.filled().len());
                self.reader.push(buffer.filled());
                Poll::Ready(Ok(self.reader.read()?))
            }
            Source::Messages(source) => match ready!(source.poll_next_unpin(cx)) {
                Some(Ok(message)) => {
                    self.read = self.read.saturating_add(message.len());
                    Poll::Ready(Ok(Some(self.reader.message(&message)?)))
                }
                Some(Err(_)) | None => Poll::Ready(Err(End::Lost)),
            },
        }
    }
}

impl Output {
    pub(in crate::server) fn open(&mut self, opening: &Opening<'_>) {
        write_header(opening, self.framing, &mut self.buffer);
        self.end_message();
    }

    pub(in crate::server) fn close(&mut self) {
        write_close(self.framing, &mut self.buffer);
        self.end_message();
    }

    pub(in crate::server) fn element(&mut self, element: &Element) {
        write(element, self.framing, &mut self.buffer);
        self.end_message();
    }

    pub(in crate::server) fn mail(&mut self, mail: &Mail) {
        let extra = match self.framing {
            Framing::Stream => "",
            Framing::Message => " xmlns='jabber:client'",
        };
        mail.write(extra, &mut self.buffer);
        self.end_message();
    }

    /// Keeps the connection alive (RFC 6120, 4.6.1). A WebSocket has pings of its own.
    pub(in crate::server) fn white_space(&mut self) {
        if self.framing == Framing::Stream {
            self.buffer.push(b' ');
        }
    }

    fn end_message(&mut self) {
        if self.framing == Framing::Message {
            self.ends.push(self.buffer.len());
        }
    }

    /// How many bytes wait.
    pub(in crate::server) fn waiting(&self) -> usize {
        self.buffer.len().saturating_sub(self.written)
    }

    pub(in crate::server) fn is_flushed(&self) -> bool {
        self.waiting() == 0 && !self.unflushed
    }

    /// Writes all that waits. Losing the future loses nothing.
    pub(in crate::server) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.drain {
            Drain::Bytes(drain) => {
                while let Some(rest) = self
                    .buffer
                    .get(self.written..)
                    .filter(|rest| !rest.is_empty())
                {
                    let count = ready!(Pin::new(&mut *drain).poll_write(cx, rest))?;
                    if count == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.written = self.written.saturating_add(count);
                    self.unflushed = true;
                }
                ready!(Pin::new(drain).poll_flush(cx))?;
            }
            Drain::Messages(drain) => {
                while let Some(end) = self.ends.first().copied() {
                    ready!(Pin::new(&mut *drain).poll_ready(cx))?;
                    let message = self.buffer.get(self.written..end).unwrap_or_default();
                    let message = String::from_utf8_lossy(message).into_owned();
                    Pin::new(&mut *drain).start_send(message)?;
                    self.ends.remove(0);
                    self.written = end;
                    self.unflushed = true;
                }
                ready!(Pin::new(drain).poll_flush(cx))?;
            }
        }
        self.unflushed = false;
        self.written = 0;
        self.buffer.clear();
        if self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will come: a FIN, a `close_notify`, a close frame.
    pub(in crate::server) async fn shut_down(&mut self) -> io::Result<()> {
        match &mut self.drain {
            Drain::Bytes(drain) => poll_fn(|cx| Pin::new(&mut *drain).poll_shutdown(cx)).await,
            Drain::Messages(drain) => poll_fn(|cx| Pin::new(&mut *drain).poll_close(cx)).await,
        }
    }
}
