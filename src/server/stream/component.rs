//! A component's stream (XEP-0114): a header, a handshake, and then stanzas in both directions. There is neither TLS nor
//! stream management; it is a matter between two programs of one owner.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use jid::Jid;
use minidom::Element;
use tokio::time::{interval, timeout};
use tracing::{debug, info, warn};

use super::wire::{self, End, Input, Output};
use super::xml::{Event, Header, Opening};
use super::{Streams, finish, negotiation};
use crate::runtime::Stop;
use crate::server::component::{Attached, Component, find};
use crate::server::mail::Mail;
use crate::server::stanza::{Kind, Stanza};
use crate::server::{Server, StanzaError, StreamError, random_id};
use crate::xmpp::connector::Pipe;
use crate::xmpp::ns;

/// No more is taken from the mailbox while so many bytes wait to be written.
const ENOUGH: usize = 64 * 1024;
/// White space after so long without traffic shows whether the connection is alive.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

impl Streams {
    /// Serves a component until its end.
    pub(super) async fn serve_component(&self, io: Box<dyn Pipe>, address: IpAddr, stop: Stop) {
        let (mut input, mut output) = wire::bytes(io, self.limits());
        let opening = timeout(
            negotiation::DEADLINE,
            self.open(&mut input, &mut output, address),
        );
        let opened = tokio::select! {
            opened = opening => opened.unwrap_or_else(|_late| {
                Err(StreamError::new("connection-timeout").into())
            }),
            () = stop.cancelled() => Err(StreamError::new("system-shutdown").into()),
        };
        let mut attached = match opened {
            Ok(attached) => attached,
            Err(end) => {
                self.note(&end, Some(address));
                finish(&mut output, end).await;
                return;
            }
        };
        let domain = attached.component().domain().to_owned();
        info!(%domain, "A component is connected");
        let server = self.server().clone();
        let end = exchange(&server, &mut attached, input, &mut output, &stop).await;
        info!(%domain, "A component is gone");
        attached.detach(&server).await;
        finish(&mut output, end).await;
    }

    /// The header and the handshake (XEP-0114, 3).
    async fn open(
        &self,
        input: &mut Input,
        output: &mut Output,
        address: IpAddr,
    ) -> Result<Attached, End> {
        let header = match input.next().await {
            Ok(Event::Open(header)) => header,
            Ok(Event::Close) => return Err(End::Closed),
            Ok(Event::Element(_)) => return Err(refused(output, StreamError::new("bad-format"))),
            Err(End::Error(error, _)) => return Err(refused(output, error)),
            Err(end) => return Err(end),
        };
        let id = random_id();
        let component = self.asked_for(&header);
        output.open(&Opening {
            id: Some(&id),
            from: component.as_ref().ok().map(|component| component.domain()),
            namespace: Some(ns::COMPONENT),
            ..Opening::default()
        });
        let component = component?;
        output.flush().await?;
        let (abuse, limit) = (
            self.server().abuse(),
            self.server().settings().limits.login_failures_per_ip,
        );
        if abuse.is_refused(address, limit).await {
            return Err(StreamError::new("not-authorized")
                .text("Too many wrong handshakes")
                .into());
        }
        let handshake = match input.next().await? {
            Event::Element(element) if element.is("handshake", ns::JABBER_CLIENT) => element,
            Event::Close => return Err(End::Closed),
            _ => return Err(StreamError::new("not-authorized").into()),
        };
        if !component.knows(&id, &handshake.text()) {
            warn!(domain = %component.domain(), %address, "A component does not know its secret");
            abuse.failed(address, limit).await;
            return Err(StreamError::new("not-authorized")
                .text("The handshake is not that of the secret")
                .into());
        }
        let attached = component.attach();
        let attached = attached
            .ok_or(StreamError::new("conflict").text("The component is connected already"))?;
        input.reader.authenticated();
        output.element(&Element::bare("handshake", ns::JABBER_CLIENT));
        Ok(attached)
    }

    fn asked_for(&self, header: &Header) -> Result<Arc<Component>, StreamError> {
        if header.namespace != ns::COMPONENT {
            return Err(StreamError::new("invalid-namespace"));
        }
        let to = header.to.as_deref();
        let to = to.ok_or(StreamError::new("improper-addressing"))?;
        let to = Jid::new(to).map_err(|_malformed| StreamError::new("host-unknown"))?;
        let component = find(self.server(), to.domain().as_str());
        component
            .filter(|_| to.node().is_none() && to.resource().is_none())
            .ok_or(StreamError::new("host-unknown"))
    }
}

/// An error stands in a stream (RFC 6120, 4.9.1.2).
fn refused(output: &mut Output, error: StreamError) -> End {
    let id = random_id();
    output.open(&Opening {
        id: Some(&id),
        namespace: Some(ns::COMPONENT),
        ..Opening::default()
    });
    error.into()
}

type Routing = BoxFuture<'static, ()>;

/// The traffic, until its end. One stanza of the component is routed at a time, and the stream goes on writing meanwhile.
async fn exchange(
    server: &Server,
    attached: &mut Attached,
    mut input: Input,
    output: &mut Output,
    stop: &Stop,
) -> End {
    let component = Arc::clone(attached.component());
    let mut routing: Option<Routing> = None;
    let mut idle = interval(KEEP_ALIVE);
    idle.reset();
    let end = loop {
        let writes = output.waiting() < ENOUGH;
        tokio::select! {
            _ = OptionFuture::from(routing.as_mut()), if routing.is_some() => routing = None,
            event = input.next(), if routing.is_none() && writes => {
                let taken = event.and_then(|event| take(&component, event));
                match taken {
                    Ok(Taken::Route(stanza)) => routing = Some(route(server.clone(), stanza)),
                    Ok(Taken::Answer(mail)) => output.mail(&mail),
                    Ok(Taken::Nothing) => {}
                    Err(end) => break end,
                }
            }
            mail = attached.mailbox.recv(), if writes => {
                if let Some(mail) = mail {
                    output.mail(&mail);
                    idle.reset();
                }
            }
            outcome = output.flush(), if !output.is_flushed() => {
                if outcome.is_err() {
                    break End::Lost;
                }
            }
            _ = idle.tick() => output.white_space(),
            () = attached.end.cancelled() => {
                break StreamError::new("resource-constraint").text("You do not read").into();
            }
            () = stop.cancelled() => break StreamError::new("system-shutdown").into(),
        }
    };
    if let Some(routing) = routing {
        // What it has sent before its end arrives.
        routing.await;
    }
    end
}

fn route(server: Server, stanza: Stanza) -> Routing {
    Box::pin(async move { server.route(stanza, None).await })
}

/// What becomes of what the component has sent.
enum Taken {
    Route(Stanza),
    Answer(Mail),
    Nothing,
}

/// The sender is of the component's domain, the domain itself where none is named (as Prosody has it).
fn take(component: &Component, event: Event) -> Result<Taken, End> {
    let element = match event {
        Event::Element(element) => element,
        Event::Close => return Err(End::Closed),
        Event::Open(_) => return Err(StreamError::new("bad-format").into()),
    };
    if Kind::of(&element).is_none() {
        return Err(StreamError::new("unsupported-stanza-type").into());
    }
    let from = element.attr("from").unwrap_or(component.domain());
    let from = Jid::new(from)
        .ok()
        .filter(|from| component.speaks_for(from));
    let Some(from) = from else {
        debug!(
            domain = component.domain(),
            "A component speaks for another domain"
        );
        return Err(StreamError::new("invalid-from").into());
    };
    let to = element.attr("to").filter(|to| !to.is_empty());
    let (to, error) = match to.map(Jid::new) {
        Some(Ok(to)) => (Some(to), None),
        Some(Err(_)) => (None, Some(StanzaError::jid_malformed())),
        None => (
            None,
            Some(StanzaError::bad_request().text("To whom is this?")),
        ),
    };
    let Some(stanza) = Stanza::new(from, to, element) else {
        return Err(StreamError::new("unsupported-stanza-type").into());
    };
    Ok(match error {
        None => Taken::Route(stanza),
        Some(error) => match stanza.error(&error) {
            Some(refusal) => Taken::Answer(refusal.into()),
            None => Taken::Nothing,
        },
    })
}
