//! XEP-0114: a component instead of an account. Its stream is read as a client's, in the client's namespace, so that
//! the same typed stanzas serve: after the handshake the parser is given a client's stream header to go on from.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Sink, SinkExt, Stream as _};
use minidom::Element;
use secrecy::{ExposeSecret, SecretString};
use sha1::{Digest, Sha1};
use tokio::sync::oneshot;
use tokio_xmpp::Stanza;
use tokio_xmpp::xmlstream::{
    FallibleStreamElement, ReadError, StreamElementError, StreamHeader, XmlStream,
    XmppStreamElement, initiate_stream,
};
use tracing::warn;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::ns;

use super::client::{Settings, Transport};
use super::connector::{self, Pipe, within};
use super::dns::Target;
use super::guard::{Guard, Limits, Notes};
use super::{Error, tls};

/// The port that servers have agreed on.
const PORT: u16 = 5347;
/// The id of what we send to ourselves to see whether the link is alive.
const PROBE: &str = "moltis-liveness";

/// A component's stream after the handshake.
pub(super) struct Stream {
    inner: XmlStream<Guard<Box<dyn Pipe>>, FallibleStreamElement>,
    notes: Notes,
    jid: jid::Jid,
    /// Written, but not flushed.
    unflushed: Vec<oneshot::Sender<()>>,
}

/// Connects and proves that we know the secret.
pub(super) async fn connect(settings: &Settings, secret: &SecretString) -> Result<Stream, Error> {
    let io = carrier(settings).await?;
    let guard = Guard::new(io, Limits::default());
    let notes = guard.notes();
    within("The component's handshake", handshake(guard, settings, secret))
        .await
        .map_err(|err| match notes.take_failure() {
            Some(Error::Stream { condition, text }) if condition == "not-authorized" => {
                Error::Login(format!(
                    "The server does not accept the secret of the component {}; correct component_secret{}",
                    settings.jid,
                    text.map(|text| format!(" (the server says: {text})")).unwrap_or_default()
                ))
            }
            Some(failure) => failure,
            None => err,
        })
        .map(|inner| Stream {
            inner,
            notes: notes.clone(),
            jid: settings.jid.clone().into(),
            unflushed: Vec::new(),
        })
}

/// Components have no STARTTLS: the link is a local one, or `direct_tls` secures it.
async fn carrier(settings: &Settings) -> Result<Box<dyn Pipe>, Error> {
    if let Transport::Local(dial) = &settings.transport {
        return Ok(Box::new(dial().await?));
    }
    let domain = settings.jid.domain().as_str();
    let (host, port) = settings
        .server
        .clone()
        .unwrap_or_else(|| ("localhost".to_owned(), PORT));
    let target = Target::configured(&host, port, settings.direct_tls);
    let tcp = connector::dial(settings, &target).await?;
    if settings.direct_tls {
        let (verify, ca_file) = (settings.tls_verify, settings.tls_ca_file.clone());
        let config = tokio::task::spawn_blocking(move || {
            tls::client_config(verify, ca_file.as_deref(), true)
        })
        .await
        .map_err(|err| Error::Network(err.to_string()))??;
        let stream = within(
            "The TLS handshake",
            tls::handshake(tcp, domain, Arc::clone(&config)),
        )
        .await?;
        return Ok(Box::new(stream));
    }
    if tcp
        .peer_addr()
        .is_ok_and(|address| !address.ip().is_loopback())
    {
        warn!(
            host,
            "The component's link leaves this machine without TLS; set direct_tls = true where the server can"
        );
    }
    Ok(Box::new(tcp))
}

async fn handshake(
    guard: Guard<Box<dyn Pipe>>,
    settings: &Settings,
    secret: &SecretString,
) -> Result<XmlStream<Guard<Box<dyn Pipe>>, FallibleStreamElement>, Error> {
    let to = || StreamHeader {
        to: Some(settings.jid.domain().as_str().into()),
        ..StreamHeader::default()
    };
    let mut pending = initiate_stream(guard, ns::COMPONENT, to(), connector::timeouts()).await?;
    let id = pending.take_header().id.unwrap_or_default();
    let mut stream = pending.skip_features::<Element>();
    let digest = Sha1::digest(format!("{id}{}", secret.expose_secret()));
    let proof = digest
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let element = Element::builder("handshake", ns::COMPONENT)
        .append(proof)
        .build();
    stream.send(&element).await?;
    let answer = connector::next(&mut stream).await?;
    if !answer.is("handshake", ns::COMPONENT) {
        return Err(Error::Protocol(format!(
            "<{}/> instead of a handshake",
            answer.name()
        )));
    }
    let header = format!(
        "<stream:stream xmlns='{}' xmlns:stream='{}' version='1.0'>",
        ns::JABBER_CLIENT,
        ns::STREAM
    );
    let guard = stream.into_inner().resume_with(&header);
    let pending = initiate_stream(guard, ns::JABBER_CLIENT, to(), connector::timeouts()).await?;
    Ok(pending.skip_features())
}

impl Stream {
    /// The next stanza; sends what `outgoing` gives in between. Cancel safe.
    pub(super) async fn next(
        &mut self,
        mut outgoing: impl FnMut() -> Option<(Stanza, oneshot::Sender<()>)>,
    ) -> Result<Stanza, Error> {
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(Err(err)) = self.poll_write(cx, &mut outgoing) {
                return Poll::Ready(Err(err));
            }
            self.poll_read(cx)
        })
        .await;
        outcome.map_err(|err| self.notes.take_failure().unwrap_or(err))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut impl FnMut() -> Option<(Stanza, oneshot::Sender<()>)>,
    ) -> Poll<Result<(), Error>> {
        loop {
            let mut stream = Pin::new(&mut self.inner);
            std::task::ready!(Sink::<&Stanza>::poll_ready(stream.as_mut(), cx))?;
            let Some((stanza, written)) = outgoing() else {
                break;
            };
            // What cannot be serialised is lost, and the dropped sender says so.
            if stream.start_send(&stanza).is_ok() {
                self.unflushed.push(written);
            }
        }
        std::task::ready!(Sink::<&Stanza>::poll_flush(Pin::new(&mut self.inner), cx))?;
        for written in self.unflushed.drain(..) {
            // Who sent it may not want to know.
            written.send(()).ok();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stanza, Error>> {
        loop {
            let item = std::task::ready!(Pin::new(&mut self.inner).poll_next(cx));
            match item {
                Some(Ok(FallibleStreamElement::Ok(XmppStreamElement::Stanza(Stanza::Iq(iq)))))
                    if iq.id() == PROBE => {}
                Some(Ok(FallibleStreamElement::Ok(XmppStreamElement::Stanza(stanza)))) => {
                    return Poll::Ready(Ok(stanza));
                }
                Some(Ok(FallibleStreamElement::Err(
                    err @ StreamElementError::InvalidStanza { .. },
                ))) => {
                    warn!(%err, "A stanza that makes no sense was dropped");
                }
                Some(Err(ReadError::SoftTimeout)) => self.probe(cx)?,
                Some(Ok(_) | Err(ReadError::ParseError(_) | ReadError::StreamFooterReceived))
                | None => {
                    return Poll::Ready(Err(Error::Closed));
                }
                Some(Err(ReadError::HardError(err))) => return Poll::Ready(Err(err.into())),
            }
        }
    }

    /// Sends something to ourselves: that it comes back shows that the link is alive.
    fn probe(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let probe =
            Stanza::Iq(Iq::empty_result(self.jid.clone(), PROBE).with_from(self.jid.clone()));
        let mut stream = Pin::new(&mut self.inner);
        if let Poll::Ready(ready) = Sink::<&Stanza>::poll_ready(stream.as_mut(), cx) {
            ready?;
            stream.as_mut().start_send(&probe)?;
            if let Poll::Ready(flushed) = Sink::<&Stanza>::poll_flush(stream, cx) {
                flushed?;
            }
        }
        Ok(())
    }

    /// Sends the rest and ends the stream.
    pub(super) async fn close(mut self, rest: impl Iterator<Item = (Stanza, oneshot::Sender<()>)>) {
        for (stanza, written) in rest {
            if self.inner.send(&stanza).await.is_err() {
                return;
            }
            written.send(()).ok();
        }
        // Whether the server hears it or not: we are gone.
        self.inner.shutdown().await.ok();
    }
}
