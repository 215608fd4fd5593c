//! Before a session: headers, features, and what a client asks of them (RFC 6120, 4.3).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jid::BareJid;
use minidom::Element;
use tracing::trace;

use super::sm::Parcel;
use super::wire::{End, Input, Output};
use super::xml::{Event, Header, Opening};
use super::{Line, Streams, bind, limits, register, sasl, sasl2, sm, starttls};
use crate::runtime::Stop;
use crate::server::accounts::Credentials;
use crate::server::invitations::Shown;
use crate::server::sasl::ChannelBinding;
use crate::server::session::Origin;
use crate::server::{StreamError, random_id};
use crate::xmpp::ns;

/// How long a client may take until it has a session.
pub(super) const DEADLINE: Duration = Duration::from_mins(1);

/// What is known of a stream: bits that a feature needs or forbids.
pub(super) mod state {
    /// It runs over bytes, so that TLS can be put below it.
    pub(in crate::server::stream) const BYTES: u8 = 1;
    pub(in crate::server::stream) const ENCRYPTED: u8 = 2;
    /// A login is accepted on it: encrypted, or on loopback with `allow_plaintext`.
    pub(in crate::server::stream) const TRUSTED: u8 = 4;
    pub(in crate::server::stream) const AUTHENTICATED: u8 = 8;
    pub(in crate::server::stream) const BOUND: u8 = 16;
    /// The client is in this process, and who it is was settled when it was let in.
    pub(in crate::server::stream) const LOCAL: u8 = 32;
}

/// A stream feature: when it is offered, how it is listed, what asks for it.
pub(super) struct Feature {
    pub(super) name: &'static str,
    /// Bits of [`state`].
    pub(super) needs: u8,
    pub(super) forbids: u8,
    /// What stands in `<stream:features/>`.
    pub(super) list: fn(&Negotiation) -> Vec<Element>,
    /// The elements that ask for it: name and namespace.
    pub(super) takes: &'static [(&'static str, &'static str)],
    pub(super) negotiate: for<'a> fn(&'a mut Negotiation, Element) -> Answer<'a>,
}

pub(super) type Answer<'a> = BoxFuture<'a, Result<Next, End>>;

/// In the order in which they are listed.
pub(super) const STREAM_FEATURES: &[Feature] = &[
    starttls::FEATURE,
    sasl::FEATURE,
    sasl2::FEATURE,
    register::FEATURE,
    bind::FEATURE,
    sm::FEATURE,
    limits::FEATURE,
];

/// What comes after an element.
pub(super) enum Next {
    Element,
    /// A new header (RFC 6120, 4.3.3).
    Restart,
    /// The session.
    Bound(Box<Parcel>),
}

/// A stream that has no session yet.
pub(super) struct Negotiation {
    pub(super) streams: Streams,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) state: u8,
    pub(super) origin: Origin,
    pub(super) bindings: Vec<ChannelBinding>,
    /// A client in this process, which is this account.
    pub(super) local: Option<BareJid>,
    /// Who has logged in.
    pub(super) account: Option<BareJid>,
    /// With what: a login is worth nothing once the password has been changed.
    pub(super) credentials: Option<Arc<Credentials>>,
    /// The default language of what the client sends.
    pub(super) lang: Option<String>,
    /// The invitation that was shown (XEP-0445).
    pub(super) invitation: Option<Shown>,
    /// What is below a WebSocket.
    pub(super) line: Line,
    /// Logins that failed.
    pub(super) failures: u32,
    /// Our header of this stream has been written.
    opened: bool,
}

/// A session and its stream.
pub(super) struct Bound {
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) parcel: Parcel,
    pub(super) lang: Option<String>,
}

impl Negotiation {
    pub(super) fn new(streams: Streams, input: Input, output: Output, origin: Origin) -> Self {
        Self {
            streams,
            input,
            output,
            state: 0,
            origin,
            bindings: Vec::new(),
            local: None,
            account: None,
            credentials: None,
            lang: None,
            invitation: None,
            line: Line::default(),
            failures: 0,
            opened: false,
        }
    }

    /// Who has logged in, unless the account was disabled or deleted since, or its password changed.
    pub(super) fn still_account(&self) -> Option<&BareJid> {
        let account = self.account.as_ref()?;
        let (accounts, name) = (self.streams.server().accounts(), account.node()?);
        let current = accounts.keys(name)?;
        let same = self
            .credentials
            .as_ref()
            .is_some_and(|credentials| Arc::ptr_eq(credentials, &current));
        (same && !accounts.is_disabled(name)).then_some(account)
    }

    pub(super) fn with(mut self, bits: u8) -> Self {
        self.state |= bits;
        self
    }

    pub(super) fn is(&self, bits: u8) -> bool {
        self.state & bits == bits
    }

    /// Goes on until there is a session; or says why not.
    pub(super) async fn run(
        mut self,
        stop: &Stop,
    ) -> Result<Box<Bound>, Box<(Output, End, Option<IpAddr>)>> {
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(DEADLINE, self.negotiate()) => outcome.unwrap_or_else(|_| {
                Err(StreamError::new("connection-timeout").into())
            }),
            () = stop.cancelled() => Err(StreamError::new("system-shutdown").into()),
        };
        match outcome {
            Ok(parcel) => Ok(Box::new(Bound {
                input: self.input,
                output: self.output,
                parcel: *parcel,
                lang: self.lang,
            })),
            Err(end) => {
                // RFC 6120, 4.9.1.2: an error stands in a stream.
                if !self.opened && matches!(end, End::Error(..)) {
                    self.write_header(None);
                }
                Err(Box::new((self.output, end, self.origin.address)))
            }
        }
    }

    async fn negotiate(&mut self) -> Result<Box<Parcel>, End> {
        self.open().await?;
        loop {
            self.output.flush().await?;
            let element = match self.input.next().await? {
                Event::Element(element) => element,
                Event::Close => return Err(End::Closed),
                Event::Open(_) => return Err(StreamError::new("bad-format").into()),
            };
            match self.answer(element).await? {
                Next::Element => {}
                Next::Restart => self.open().await?,
                Next::Bound(parcel) => return Ok(parcel),
            }
        }
    }

    /// Reads the client's header, answers it, and says what it may ask for.
    async fn open(&mut self) -> Result<(), End> {
        self.opened = false;
        self.output.flush().await?;
        let header = match self.input.next().await? {
            Event::Open(header) => header,
            Event::Close => return Err(End::Closed),
            Event::Element(_) => return Err(StreamError::new("bad-format").into()),
        };
        self.write_header(header.from.as_deref());
        self.check(&header)?;
        self.lang = header.lang;
        self.write_features();
        Ok(())
    }

    fn write_header(&mut self, to: Option<&str>) {
        let id = random_id();
        let domain = self.streams.server().domain().to_owned();
        // It is echoed as it came or not at all.
        let to = to.filter(|to| BareJid::new(to).is_ok());
        self.output.open(&Opening {
            id: Some(&id),
            from: Some(&domain),
            to,
            lang: Some("en"),
            namespace: None,
        });
        self.opened = true;
    }

    /// RFC 6120, 4.7 and 4.9.3.6. After a restart too: nobody logs in here to arrive elsewhere (CVE-2018-10847).
    fn check(&self, header: &Header) -> Result<(), StreamError> {
        if header.namespace != ns::JABBER_CLIENT {
            return Err(StreamError::new("invalid-namespace"));
        }
        if !header.is_supported() {
            return Err(StreamError::new("unsupported-version"));
        }
        let to = header.to.as_deref().and_then(|to| BareJid::new(to).ok());
        let ours = to.is_some_and(|to| {
            to.node().is_none() && self.streams.server().is_local(to.domain().as_str())
        });
        if !ours {
            return Err(StreamError::new("host-unknown"));
        }
        if let (Some(from), Some(account)) = (&header.from, &self.account)
            && !BareJid::new(from).is_ok_and(|from| from == *account)
        {
            return Err(StreamError::new("invalid-from"));
        }
        Ok(())
    }

    pub(super) fn write_features(&mut self) {
        let mut features = Element::bare("features", ns::STREAM);
        for feature in STREAM_FEATURES
            .iter()
            .filter(|feature| self.offers(feature))
        {
            for listed in (feature.list)(self) {
                features.append_child(listed);
            }
        }
        self.output.element(&features);
    }

    fn offers(&self, feature: &Feature) -> bool {
        self.is(feature.needs) && self.state & feature.forbids == 0
    }

    /// Hands the element to the feature that it asks for, if that is on offer.
    async fn answer(&mut self, element: Element) -> Result<Next, End> {
        let asked = STREAM_FEATURES.iter().find(|feature| {
            let mut takes = feature.takes.iter();
            self.offers(feature) && takes.any(|(name, namespace)| element.is(name, *namespace))
        });
        match asked {
            Some(feature) => {
                trace!(feature = feature.name, "A client asks for a feature");
                (feature.negotiate)(self, element).await
            }
            // RFC 6120, 4.9.3.12: not before the login.
            _ if !self.is(state::AUTHENTICATED) => Err(StreamError::new("not-authorized").into()),
            _ => Err(StreamError::new("unsupported-stanza-type").into()),
        }
    }
}
