//! From a domain to a stream that may carry a password: TCP, then TLS from the first byte (XEP-0368) or by STARTTLS
//! (RFC 6120, 5), which we require. Each step has its deadline.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use minidom::Element;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_xmpp::xmlstream::{
    InitiatingStream, PendingFeaturesRecv, ReadError, RecvFeaturesError, StreamHeader, Timeouts,
    XmlStream, initiate_stream,
};
use tracing::{debug, warn};
use xmpp_parsers::ns;
use xmpp_parsers::stream_features::StreamFeatures;
use xso::FromXml;

use super::client::{Settings, Transport};
use super::dns::{Service, Target};
use super::guard::{Guard, Limits, Notes};
use super::{Error, tls};

/// How long one step of setting up a stream may take.
pub(super) const STEP: Duration = Duration::from_secs(20);

/// Whatever carries bytes both ways.
pub trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Pipe for T {}

/// A connection that nobody else can read.
pub struct Secured {
    pub io: Box<dyn Pipe>,
    /// RFC 9266: the value that binds a login to this connection.
    pub binding: Option<Vec<u8>>,
}

/// A stream on which XML elements are read one by one, before it carries stanzas.
pub(super) type Negotiation<Io> = XmlStream<Guard<Io>, Element>;

/// Ends a step that takes too long.
pub(super) fn within<'a, T: Send + 'a>(
    step: &'static str,
    work: impl Future<Output = Result<T, Error>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Error>> {
    let late = Error::TimedOut { step, after: STEP };
    // Boxed, because parsers are large and the steps nest.
    Box::pin(timeout(STEP, work).map(|outcome| outcome.unwrap_or(Err(late))))
}

/// How quickly a dead link is noticed: asked after a minute of silence, given up 15 s later.
pub(super) fn timeouts() -> Timeouts {
    Timeouts::tight()
}

/// Connects to the first target that takes us.
pub async fn connect(settings: &Settings) -> Result<Secured, Error> {
    if let Transport::Local(dial) = &settings.transport {
        let io = within("Connecting", async { Ok(dial().await?) }).await?;
        return Ok(Secured {
            io: Box::new(io),
            binding: None,
        });
    }
    let mut failure = None;
    for target in targets(settings).await? {
        match Box::pin(attempt(settings, &target)).await {
            Ok(secured) => return Ok(secured),
            Err(err) => {
                debug!(?target, %err, "This host did not work");
                // The first failure is that of the host which the domain prefers.
                failure.get_or_insert(err);
            }
        }
    }
    Err(failure.unwrap_or(Error::Closed))
}

async fn targets(settings: &Settings) -> Result<Vec<Target>, Error> {
    if let Some((host, port)) = &settings.server {
        return Ok(vec![Target::configured(host, *port, settings.direct_tls)]);
    }
    let domain = settings.jid.domain().as_str();
    Ok(settings.resolver.targets(domain, Service::Client).await?)
}

async fn attempt(settings: &Settings, target: &Target) -> Result<Secured, Error> {
    let domain = settings.jid.domain().as_str();
    let tcp = dial(settings, target).await?;
    if let Err(err) = tcp.set_nodelay(true) {
        debug!(%err, "Small packets may be delayed");
    }
    let config = {
        let (verify, ca_file) = (settings.tls_verify, settings.tls_ca_file.clone());
        let direct_tls = target.direct_tls;
        tokio::task::spawn_blocking(move || {
            tls::client_config(verify, ca_file.as_deref(), direct_tls)
        })
        .await
        .map_err(|err| Error::Network(err.to_string()))??
    };
    if !settings.tls_verify {
        warn!(domain, "tls_verify is off: whoever answers is trusted");
    }
    let tcp = if target.direct_tls {
        tcp
    } else {
        within("STARTTLS", start_tls(tcp, domain)).await?
    };
    let stream = within(
        "The TLS handshake",
        tls::handshake(tcp, domain, Arc::clone(&config)),
    )
    .await?;
    let binding = tls::channel_binding(&stream);
    Ok(Secured {
        io: Box::new(stream),
        binding,
    })
}

/// Opens the connection to a target.
pub(super) async fn dial(settings: &Settings, target: &Target) -> Result<TcpStream, Error> {
    let connecting = async { Ok(settings.resolver.connect(target).await?) };
    let (tcp, address) = within("Connecting", connecting).await?;
    debug!(%target, %address, "Connected");
    Ok(tcp)
}

/// RFC 6120, 5.4. Until TLS begins we send nothing but a header and the request.
pub async fn start_tls(tcp: TcpStream, domain: &str) -> Result<TcpStream, Error> {
    let (mut stream, features, _) = open(tcp, domain).await?;
    if !features.can_starttls() {
        return Err(Error::NoTls);
    }
    stream.send(&Element::bare("starttls", ns::TLS)).await?;
    let answer = next(&mut stream).await?;
    if !answer.is("proceed", ns::TLS) {
        return Err(Error::Tls(format!(
            "The server of {domain} refused to start TLS; its log says why"
        )));
    }
    stream.into_inner().into_inner().ok_or_else(|| {
        Error::Protocol(
            "data behind <proceed/>, which somebody in between may have put there".to_owned(),
        )
    })
}

/// Opens a stream and reads its features.
pub(super) async fn open<Io: Pipe, T: FromXml + Debug>(
    io: Io,
    domain: &str,
) -> Result<(XmlStream<Guard<Io>, T>, StreamFeatures, Notes), Error> {
    let guard = Guard::new(io, Limits::default());
    let notes = guard.notes();
    let pending = initiate_stream(guard, ns::JABBER_CLIENT, header(domain), timeouts()).await;
    let (features, stream) = match pending {
        Ok(pending) => features(pending).await,
        Err(err) => Err(err.into()),
    }
    .map_err(|err| notes.take_failure().unwrap_or(err))?;
    Ok((stream, features, notes))
}

/// The stream begins anew after SASL (RFC 6120, 6.4.6).
pub(super) async fn reopen<Io: Pipe, T: FromXml + Debug>(
    stream: InitiatingStream<Guard<Io>>,
    domain: &str,
    notes: &Notes,
) -> Result<(StreamFeatures, XmlStream<Guard<Io>, T>), Error> {
    notes.expect_restart();
    match stream.send_header(header(domain)).await {
        Ok(pending) => features(pending).await,
        Err(err) => Err(err.into()),
    }
    .map_err(|err| notes.take_failure().unwrap_or(err))
}

fn header(domain: &str) -> StreamHeader<'_> {
    StreamHeader {
        to: Some(domain.into()),
        ..StreamHeader::default()
    }
}

async fn features<Io: Pipe, T: FromXml>(
    pending: PendingFeaturesRecv<Guard<Io>>,
) -> Result<(StreamFeatures, XmlStream<Guard<Io>, T>), Error> {
    pending.recv_features().await.map_err(|err| match err {
        RecvFeaturesError::Io(err) => err.into(),
        RecvFeaturesError::StreamError(err) => Error::Network(err.to_string()),
    })
}

/// The next element of a stream under negotiation.
pub(super) async fn next<Io: Pipe>(stream: &mut Negotiation<Io>) -> Result<Element, Error> {
    loop {
        return match stream.next().await {
            Some(Ok(element)) => Ok(element),
            Some(Err(ReadError::SoftTimeout)) => continue,
            Some(Err(ReadError::HardError(err))) => Err(err.into()),
            Some(Err(ReadError::ParseError(err))) => Err(Error::Protocol(err.to_string())),
            Some(Err(ReadError::StreamFooterReceived)) | None => Err(Error::Closed),
        };
    }
}
