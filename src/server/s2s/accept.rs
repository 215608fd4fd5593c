//! Inwards: who connects, and how they show that a domain is theirs (RFC 6120, 4 to 6; XEP-0178, XEP-0220, XEP-0288).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use super::dialback::Verdict;
use super::failure::{Failure, Obstacle};
use super::traffic::{self, Visitor};
use super::trust::{Chain, Doubt};
use super::{Federation, Pair, connect, limits, policy};
use crate::config::PeerAuthentication;
use crate::runtime::Stop;
use crate::server::stream::wire::{self, End, Input, Output};
use crate::server::stream::xml::{Event, Header, Opening};
use crate::server::stream::{finish, note};
use crate::server::{Server, StanzaError, StreamError, random_id};
use crate::xmpp::connector::Pipe;
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// How long somebody may take until a stream is encrypted and they have said who they are.
const DEADLINE: Duration = Duration::from_mins(1);
/// How often somebody may try SASL on a stream.
const TRIES: u32 = 3;

struct Negotiation<'a> {
    federation: &'a Federation,
    server: &'a Server,
    input: Input,
    output: Output,
    address: IpAddr,
    encrypted: bool,
    tls: String,
    chain: Chain,
    /// Of our present header.
    id: String,
    opened: bool,
    /// Whom the header names: ours, theirs.
    to: Option<String>,
    from: Option<String>,
    bidi: bool,
    known: Option<Pair>,
    tries: u32,
}

impl Federation {
    /// Serves a connection from outside until its end. `direct_tls`: TLS from the first byte (XEP-0368).
    pub(in crate::server) async fn accept(
        &self,
        server: &Server,
        io: Box<dyn Pipe>,
        address: IpAddr,
        direct_tls: bool,
        stop: Stop,
    ) {
        let (mut io, mut tls, mut chain) = (io, String::new(), Chain::new());
        if direct_tls {
            let config = &self.0.tls.accept_direct;
            let accepted = timeout(DEADLINE, Box::pin(handshake(config, io))).await;
            let Ok(Ok(secured)) = accepted else {
                debug!(%address, "A TLS handshake failed");
                return;
            };
            (io, tls, chain) = secured;
        }
        let (input, output) = wire::bytes(io, limits(server));
        let mut negotiation = Box::new(Negotiation {
            federation: self,
            server,
            input,
            output,
            address,
            encrypted: direct_tls,
            tls,
            chain,
            id: String::new(),
            opened: false,
            to: None,
            from: None,
            bidi: false,
            known: None,
            tries: 0,
        });
        let outcome = tokio::select! {
            outcome = timeout(DEADLINE, Box::pin(negotiation.run())) => outcome.unwrap_or_else(|_late| {
                Err(StreamError::new("connection-timeout").into())
            }),
            () = stop.cancelled() => Err(StreamError::new("system-shutdown").into()),
        };
        let first = match outcome {
            Ok(first) => first,
            Err(end) => {
                negotiation.leave(end).await;
                return;
            }
        };
        let Negotiation {
            input,
            output,
            tls,
            chain,
            id,
            bidi,
            known,
            ..
        } = *negotiation;
        let visitor = Visitor {
            address,
            id,
            chain,
            tls,
            bidi,
            known,
            first,
        };
        traffic::receive(self, server, input, output, visitor, &stop).await;
    }
}

async fn handshake(
    config: &Arc<rustls::ServerConfig>,
    io: Box<dyn Pipe>,
) -> std::io::Result<(Box<dyn Pipe>, String, Chain)> {
    let stream = TlsAcceptor::from(Arc::clone(config)).accept(io).await?;
    let (_, connection) = stream.get_ref();
    let version = connection.protocol_version();
    let version = version
        .map(|version| format!("{version:?}"))
        .unwrap_or_default();
    let chain = connection.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
    Ok((Box::new(stream), version, chain))
}

/// Why a server is not believed, whatever it shows.
pub(super) fn reject(server: &Server, pair: &Pair) -> Option<Verdict> {
    let settings = server.settings();
    if let Some(failure) = policy::reason_against(&settings.federation, &pair.remote) {
        let error = StanzaError::policy_violation().text(failure.text);
        return Some(Verdict::Error(error));
    }
    if !server.serves(&pair.local) {
        return Some(Verdict::Error(StanzaError::item_not_found()));
    }
    if server.serves(&pair.remote) {
        // Nobody else is one of ours.
        return Some(Verdict::Invalid);
    }
    None
}

/// Whether a server is believed by its certificate; `None`: it has to be called back.
pub(super) async fn believe(
    federation: &Federation,
    server: &Server,
    pair: &Pair,
    chain: &Chain,
) -> Option<Verdict> {
    // XEP-0344, 2.3: a certificate says as much as a call-back, and sooner.
    let Err(doubt) = federation.certify(chain, &pair.remote, None).await else {
        return Some(Verdict::Valid);
    };
    let wanted = server.settings().federation.authentication;
    if wanted == PeerAuthentication::Dialback && matches!(doubt, Doubt::Unproven(_)) {
        return None;
    }
    let text = format!("The certificate of {} {}", pair.remote, doubt.reason());
    Some(Verdict::Error(StanzaError::not_authorized().text(text)))
}

/// Asks the server that the DNS names (XEP-0220, 2.3).
pub(super) async fn call_back(
    federation: &Federation,
    server: &Server,
    pair: &Pair,
    id: &str,
    key: &str,
) -> Verdict {
    let _place = federation.0.calls.take(&pair.remote).await;
    let called = connect::call_back(federation, server, pair, id, key, limits(server));
    called.await.unwrap_or_else(|failure: Failure| {
        let error = match failure.obstacle {
            Obstacle::NotFound => StanzaError::remote_server_not_found(),
            _ => StanzaError::remote_server_timeout(),
        };
        // Whoever asks does not learn from us who answers where.
        debug!(remote = %pair.remote, "A call-back failed: {failure}");
        Verdict::Error(error)
    })
}

impl Negotiation<'_> {
    /// Until it is known who they are, or they begin with dialback: then what they said.
    async fn run(&mut self) -> Result<Option<Element>, End> {
        self.open().await?;
        loop {
            self.output.flush().await?;
            let element = match self.input.next().await? {
                Event::Element(element) => element,
                Event::Close => return Err(End::Closed),
                Event::Open(_) => return Err(StreamError::new("bad-format").into()),
            };
            if element.is("starttls", ns::TLS) && !self.encrypted {
                self.starttls().await?;
                self.open().await?;
            } else if element.is("bidi", ns::BIDI) && self.is_safe() {
                self.bidi = true;
            } else if element.is("auth", ns::SASL) && self.encrypted && self.known.is_none() {
                if self.external(&element).await? {
                    self.open().await?;
                    self.output.flush().await?;
                    return Ok(None);
                }
            } else if element.has_ns(ns::DIALBACK) && self.is_safe() {
                return Ok(Some(element));
            } else {
                // RFC 6120, 4.9.3.12.
                return Err(StreamError::new("not-authorized").into());
            }
        }
    }

    /// Encrypted, or nobody asks for that.
    fn is_safe(&self) -> bool {
        self.encrypted || !self.server.settings().federation.require_encryption
    }

    /// Reads their header, answers it, and says what they may ask for.
    async fn open(&mut self) -> Result<(), End> {
        self.opened = false;
        self.output.flush().await?;
        let header = match self.input.next().await? {
            Event::Open(header) => header,
            Event::Close => return Err(End::Closed),
            Event::Element(_) => return Err(StreamError::new("bad-format").into()),
        };
        self.answer(&header);
        self.check(&header)?;
        self.features().await;
        Ok(())
    }

    fn answer(&mut self, header: &Header) {
        self.id = random_id();
        let address = |jid: &Option<String>| jid.as_deref().and_then(super::domain);
        let to = address(&header.to).filter(|to| self.server.serves(to));
        let from = address(&header.from);
        self.output.open(&Opening {
            id: Some(&self.id),
            from: Some(to.as_deref().unwrap_or(self.server.domain())),
            to: from.as_deref(),
            lang: Some("en"),
            namespace: Some(ns::JABBER_SERVER),
        });
        self.opened = true;
    }

    /// RFC 6120, 4.7 and 4.9.3. After a restart too: who was found to be one domain arrives as no other (CVE-2018-10847).
    fn check(&mut self, header: &Header) -> Result<(), StreamError> {
        if header.namespace != ns::JABBER_SERVER {
            return Err(StreamError::new("invalid-namespace"));
        }
        if !header.is_supported() {
            return Err(StreamError::new("unsupported-version"));
        }
        let to = header.to.as_deref().and_then(super::domain);
        let to = to.filter(|to| self.server.serves(to));
        let to = to.ok_or(StreamError::new("host-unknown"))?;
        let from = match header.from.as_deref() {
            None => None,
            Some(from) => Some(super::domain(from).ok_or(StreamError::new("invalid-from"))?),
        };
        if let Some(known) = &self.known
            && (known.local != to || from.as_ref().is_some_and(|from| *from != known.remote))
        {
            return Err(StreamError::new("invalid-from"));
        }
        if let Some(from) = &from {
            if self.server.serves(from) {
                return Err(StreamError::new("invalid-from"));
            }
            let settings = self.server.settings();
            if let Some(failure) = policy::reason_against(&settings.federation, from) {
                info!(remote = %from, address = %self.address, "A server is sent away: {failure}");
                return Err(
                    StreamError::new("policy-violation").text("This server does not talk to yours")
                );
            }
        }
        (self.to, self.from) = (Some(to), from);
        Ok(())
    }

    /// Whom their certificate is for, of those they might want to be.
    async fn is_certified(&mut self, domain: &str) -> Result<(), Doubt> {
        let certified = self.federation.certify(&self.chain, domain, None).await;
        certified.map(drop).inspect_err(|doubt| {
            let reason = doubt.reason();
            info!(remote = %domain, address = %self.address, "The certificate of a server {reason}");
        })
    }

    async fn features(&mut self) {
        let mut features = Element::bare("features", ns::STREAM);
        if !self.encrypted {
            let mut starttls = Element::bare("starttls", ns::TLS);
            if !self.is_safe() {
                starttls.append_child(Element::bare("required", ns::TLS));
            }
            features.append_child(starttls);
        }
        if self.is_safe() {
            // After dialback there are no others.
            features.append_child(Element::bare("sm", ns::SM));
        }
        if self.known.is_none() && self.encrypted && self.offers_external().await {
            let mut mechanisms = Element::bare("mechanisms", ns::SASL);
            mechanisms.append_child(text_element("mechanism", ns::SASL, "EXTERNAL"));
            features.append_child(mechanisms);
        }
        if self.is_safe() {
            let mut dialback = Element::bare("dialback", ns::DIALBACK_FEATURE);
            dialback.append_child(Element::bare("errors", ns::DIALBACK_FEATURE));
            features.append_child(dialback);
            if self.known.is_none() {
                features.append_child(Element::bare("bidi", ns::BIDI_FEATURE));
            }
        }
        features.append_child(self.limits());
        self.output.element(&features);
    }

    /// Where it would succeed (XEP-0178, 3, step 8); who has not said yet who they are may try.
    async fn offers_external(&mut self) -> bool {
        match self.from.clone() {
            Some(from) => self.is_certified(&from).await.is_ok(),
            None => !self.chain.is_empty(),
        }
    }

    /// XEP-0478.
    fn limits(&self) -> Element {
        let most = self.server.settings().limits.s2s_stanza_bytes.to_string();
        let mut limits = Element::bare("limits", ns::STREAM_LIMITS);
        limits.append_child(text_element("max-bytes", ns::STREAM_LIMITS, &most));
        limits
    }

    async fn starttls(&mut self) -> Result<(), End> {
        // What stands behind the request was not protected (CVE-2011-0411).
        if !self.input.reader.is_empty() {
            return Err(StreamError::new("policy-violation")
                .text("nothing may follow <starttls/>")
                .into());
        }
        self.output.element(&Element::bare("proceed", ns::TLS));
        self.output.flush().await?;
        // Something must stand in their place while the handshake lasts.
        let (input, output) = wire::bytes(Box::new(tokio::io::empty()), limits(self.server));
        let input = std::mem::replace(&mut self.input, input);
        let output = std::mem::replace(&mut self.output, output);
        let (io, mut reader) = wire::unsplit(input, output).ok_or(End::Lost)?;
        let config = &self.federation.0.tls.accept_starttls;
        let (io, tls, chain) = Box::pin(handshake(config, io)).await?;
        reader.reset();
        (self.input, self.output) = wire::resplit(io, reader);
        (self.encrypted, self.tls, self.chain) = (true, tls, chain);
        Ok(())
    }

    /// SASL EXTERNAL (XEP-0178, 3). Whether it succeeded.
    async fn external(&mut self, auth: &Element) -> Result<bool, End> {
        self.tries += 1;
        if self.tries > TRIES {
            return Err(StreamError::new("policy-violation")
                .text("too many attempts")
                .into());
        }
        let condition = match self.identity(auth).await {
            Ok(pair) => {
                // What stands behind it was not sent on the stream that begins now.
                if !self.input.reader.is_empty() {
                    return Err(StreamError::new("policy-violation")
                        .text("nothing may follow <auth/>")
                        .into());
                }
                self.known = Some(pair);
                self.output.element(&Element::bare("success", ns::SASL));
                self.input.reader.reset();
                self.input.reader.authenticated();
                return Ok(true);
            }
            Err(condition) => condition,
        };
        let mut failure = element("failure", ns::SASL, &[]);
        failure.append_child(Element::bare(condition, ns::SASL));
        self.output.element(&failure);
        Ok(false)
    }

    /// Who they may be: whom the header names and their certificate is for.
    async fn identity(&mut self, auth: &Element) -> Result<Pair, &'static str> {
        if auth.attr("mechanism") != Some("EXTERNAL") {
            return Err("invalid-mechanism");
        }
        let text = auth.text();
        let claimed = match text.trim() {
            // RFC 6120, 6.4.2: an empty response.
            "" | "=" => None,
            text => {
                let bytes = STANDARD
                    .decode(text)
                    .map_err(|_malformed| "incorrect-encoding")?;
                let text = String::from_utf8(bytes).map_err(|_malformed| "incorrect-encoding")?;
                Some(super::domain(&text).ok_or("invalid-authzid")?)
            }
        };
        let remote = match (claimed, &self.from) {
            (Some(claimed), Some(from)) if claimed != *from => return Err("invalid-authzid"),
            (Some(claimed), _) => claimed,
            (None, Some(from)) => from.clone(),
            (None, None) => return Err("invalid-authzid"),
        };
        let local = self.to.clone().ok_or("not-authorized")?;
        if self.server.serves(&remote) {
            return Err("invalid-authzid");
        }
        let settings = self.server.settings();
        if policy::reason_against(&settings.federation, &remote).is_some() {
            return Err("not-authorized");
        }
        let certified = self.is_certified(&remote).await;
        certified.map_err(|_doubt| "not-authorized")?;
        Ok(Pair::new(local, remote))
    }

    /// Says why, and closes. An error stands in a stream (RFC 6120, 4.9.1.2).
    async fn leave(&mut self, end: End) {
        if !self.opened && matches!(end, End::Error(..)) {
            self.answer(&Header::default());
        }
        note(self.server, &end, Some(self.address));
        finish(&mut self.output, end).await;
    }
}
