//! What the driver drives: a client's stream, which tokio-xmpp resumes, or a component's, which ends with its
//! connection.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use jid::{BareJid, Jid};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_xmpp::stanzastream::{Connection, Event, StanzaStream};

use super::outbox::DEPTH;
use super::slot::Slot;
use super::{Mechanism, Settings};
use crate::xmpp::guard::Notes;
use crate::xmpp::{Error, component, connector, login};

/// What an attempt to connect came to.
pub(super) enum Attempted {
    Login(Box<login::Session>),
    Component(Box<component::Stream>),
}

pub(super) type Attempt = BoxFuture<'static, Result<Attempted, Error>>;

/// Connects and logs in, or shakes hands.
pub(super) fn attempt(settings: Arc<Settings>) -> Attempt {
    async move {
        if let Some(secret) = settings.component_secret.clone() {
            return connect_component(&settings, &secret).await;
        }
        let secured = Box::pin(connector::connect(&settings)).await?;
        let session = Box::pin(login::login(secured, &settings)).await?;
        Ok(Attempted::Login(Box::new(session)))
    }
    .boxed()
}

async fn connect_component(settings: &Settings, secret: &SecretString) -> Result<Attempted, Error> {
    let stream = component::connect(settings, secret).await?;
    Ok(Attempted::Component(Box::new(stream)))
}

/// A stream that survives its connections.
pub(super) struct Lasting {
    /// Declared before the slot, which must be dropped after it.
    pub(super) stream: StanzaStream,
    requests: mpsc::UnboundedReceiver<Slot>,
    slot: Option<Slot>,
    /// Of the connection in use.
    notes: Notes,
    /// The session has stream management: what was sent is acknowledged later.
    managed: bool,
    pub(super) mechanism: Option<Mechanism>,
}

/// What a lasting stream has to say.
pub(super) enum Said {
    Event(Box<Event>),
    /// It wants a connection.
    Wants,
    /// Its worker is gone, which it should never be.
    Ended,
}

impl Lasting {
    pub(super) fn new() -> Self {
        let (request, requests) = mpsc::unbounded_channel();
        let connector = Box::new(move |_location, sender| {
            // Where the receiver is gone, dropping the slot ends the worker.
            drop(request.send(Slot::new(sender)));
        });
        Self {
            stream: StanzaStream::new(connector, DEPTH),
            requests,
            slot: None,
            notes: Notes::default(),
            managed: false,
            mechanism: None,
        }
    }

    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Said {
        tokio::select! {
            biased;
            event = self.stream.next() => event.map_or(Said::Ended, |event| Said::Event(Box::new(event))),
            Some(slot) = self.requests.recv() => {
                self.slot = Some(slot);
                Said::Wants
            }
        }
    }

    /// Whether it waits for a connection.
    pub(super) const fn wants(&self) -> bool {
        self.slot.is_some()
    }

    pub(super) const fn is_managed(&self) -> bool {
        self.managed
    }

    /// The session began or goes on.
    pub(super) fn connected(&mut self) {
        self.managed = self.notes.is_managed();
    }

    /// Why the last connection ended, as far as the server said.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.notes.take_failure()
    }

    /// Gives the stream the connection that it wants.
    pub(super) fn connect(
        &mut self,
        session: login::Session,
        jid: &BareJid,
        resource: &str,
    ) -> Result<(), Error> {
        let identity = jid
            .with_resource_str(resource)
            .map_err(|err| Error::Settings(format!("\"{resource}\" is no resource: {err}")))?;
        self.notes = session.notes;
        self.mechanism = session.mechanism;
        let connection = Connection {
            stream: session.stream.box_stream(),
            features: session.features,
            identity: Jid::from(identity),
        };
        // Where the worker has ended, its events say so.
        if let Some(slot) = self.slot.take() {
            slot.fill(connection);
        }
        Ok(())
    }
}
