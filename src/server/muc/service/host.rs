//! The service on its host of the server: stanzas come in by the router, and go to sessions' mailboxes or back to it.

use futures::future::BoxFuture;
use jid::{BareJid, FullJid, Jid};
use minidom::Element;

use super::{Outbound, Posted, Service};
use crate::server::abuse::Refusal;
use crate::server::feature::{block_lists, blocking, push};
use crate::server::mail::Mail;
use crate::server::muc::event::Incoming;
use crate::server::session::{MAILBOX, Sender};
use crate::server::stanza::{Kind, Stanza};
use crate::server::{Host, Server, StanzaError};

/// A mailbox with less room than this makes speakers wait a little.
const TIGHT: usize = MAILBOX / 4;

/// The people of this server.
#[derive(Clone, Debug)]
pub struct People(pub Server);

impl Outbound for People {
    fn post(&self, to: &FullJid, mail: Mail) -> Posted {
        if !self.0.is_local(to.domain().as_str()) {
            return Posted::Elsewhere;
        }
        let Some(session) = self.0.session(to) else {
            return Posted::Gone;
        };
        if blocking::is_kept_from(session.account(), &mail) {
            return Posted::Done;
        }
        push::posted(&self.0, &session, &mail);
        if !session.try_send(mail) {
            return Posted::Gone;
        }
        if session.room() < TIGHT {
            Posted::Tight
        } else {
            Posted::Done
        }
    }

    fn post_all(&self, to: &FullJid, mails: &[Mail]) -> Posted {
        if !self.0.is_local(to.domain().as_str()) {
            return Posted::Elsewhere;
        }
        // Looked up once.
        let Some(session) = self.0.session(to) else {
            return Posted::Gone;
        };
        let wanted = |mail: &&Mail| !blocking::is_kept_from(session.account(), mail);
        if !mails
            .iter()
            .filter(wanted)
            .all(|mail| session.try_send(mail.addressed(to)))
        {
            return Posted::Gone;
        }
        if session.room() < TIGHT {
            Posted::Tight
        } else {
            Posted::Done
        }
    }

    fn said(
        &self,
        members: &mut dyn Iterator<Item = &BareJid>,
        author: &BareJid,
        stanza: &Element,
    ) {
        push::said(&self.0, members, author, stanza);
    }

    fn refused(&self, who: &BareJid) {
        self.0.abuse().refused(Refusal::Rooms, who);
    }

    fn route(&self, stanza: Element) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let address = |name: &str| stanza.attr(name).and_then(|jid| Jid::new(jid).ok());
            if let (Some(from), to) = (address("from"), address("to"))
                && let Some(stanza) = Stanza::new(from, to, stanza)
            {
                self.0.route(stanza, None).await;
            }
        })
    }
}

impl Host for Service {
    fn handle<'a>(
        &'a self,
        server: &'a Server,
        sender: Sender<'a>,
        stanza: Stanza,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some(to) = stanza.to().cloned() else {
                return;
            };
            let refusable = refusable(&stanza);
            if speaks(&stanza) && block_lists::is_listed(server, &stanza.from().to_bare()) {
                server.abuse().refused(Refusal::BlockList, stanza.from());
                let banned = StanzaError::forbidden().text("You are banned from this service");
                return server.refuse(&stanza, &banned).await;
            }
            let domain = stanza.from().domain().as_str();
            let shows = stanza.kind() == Kind::Presence && stanza.type_().is_empty();
            if shows && !server.is_local(domain) && !server.abuse().rooms.take(&domain.to_owned()) {
                server.abuse().refused(Refusal::RoomsOfADomain, &domain);
                let error = StanzaError::resource_constraint()
                    .text("Your server enters rooms here too often; try again later");
                return server.refuse(&stanza, &error).await;
            }
            let from = stanza.from().clone();
            let session = from.try_as_full().ok();
            let session = session.and_then(|session| server.session(session));
            let incoming = Incoming {
                is_own_bot: session.is_some_and(|session| session.origin.is_own_bot()),
                from,
                to,
                stanza: stanza.into_element(),
            };
            let written = self.receive(&People(server.clone()), incoming).await;
            if let Some(written) = written {
                sender.wait_for(written, refusable);
            }
        })
    }

    fn name(&self) -> &str {
        &self.policy.name
    }
}

/// Whether somebody enters, shows something or says something: the way out is open to all.
fn speaks(stanza: &Stanza) -> bool {
    match stanza.kind() {
        Kind::Presence => stanza.type_().is_empty(),
        Kind::Message => !stanza.is_error(),
        Kind::Iq => false,
    }
}

/// What an error needs to know of a message: everything but what it says.
fn refusable(stanza: &Stanza) -> Option<Stanza> {
    let mut empty = Element::bare(stanza.element().name(), stanza.element().ns());
    *empty.attrs_mut() = stanza.element().attrs().clone();
    Stanza::new(stanza.from().clone(), stanza.to().cloned(), empty)
}
