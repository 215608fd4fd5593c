//! A room in memory, and its effects made real. All of it runs under the room's lock.

use std::sync::Arc;

use futures::future::BoxFuture;
use jid::{BareJid, FullJid};
use minidom::Element;
use tracing::{debug, error};

use super::tombstones::TOMBSTONE;
use super::{Cell, LOCKED, MOST_LIVING, Outbound, Posted, ROOMS, Service, lock};
use crate::server::StanzaError;
use crate::server::mail::Mail;
use crate::server::muc::event::{
    Change, Effect, Event, Incoming, Retraction, Reveal, Speech, Tombstone,
};
use crate::server::muc::history::{Entry, HIDDEN, Past, Request, Spoken};
use crate::server::muc::room::{Listing, Room};
use crate::storage::{Answer, Batch, Durability};
use crate::xmpp::ns;

pub(super) struct Living {
    room: Room,
    /// What those who enter get to read.
    past: Past,
    /// Since when it is in memory.
    since: i64,
    /// Not to be used any more: found in the map a moment ago, gone from it now.
    pub(super) closed: bool,
}

/// What is left to do when the room's lock is free.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) reply: Option<Element>,
    pub(super) later: Vec<Element>,
    pub(super) queries: Vec<(Incoming, Reveal)>,
    /// Before the reply goes out.
    pub(super) persisted: Vec<Answer<()>>,
    /// When the archive has what was said.
    pub(super) said: Option<Answer<()>>,
    /// What was wanted could not be done: goes out in place of the reply.
    pub(super) failed: Option<StanzaError>,
    /// Somebody's mailbox is nearly full.
    pub(super) tight: bool,
    /// Sessions that could not be reached.
    lost: Vec<FullJid>,
}

impl Living {
    pub(super) fn cell(room: Room, past: Past, since: i64) -> Cell {
        Arc::new(tokio::sync::Mutex::new(Self {
            room,
            past,
            since,
            closed: false,
        }))
    }

    /// Lets something happen, and what follows from who cannot be reached.
    pub(super) async fn happen(
        &mut self,
        service: &Service,
        outbound: &dyn Outbound,
        now: i64,
        event: Event,
    ) -> Outcome {
        let (before, mut outcome) = (self.room.listing(), Outcome::default());
        if self.room.is_locked() && now.saturating_sub(self.since) > LOCKED {
            self.room.unlock();
        }
        let mut effects = self.room.handle(now, event);
        loop {
            for effect in effects {
                self.perform(service, outbound, now, effect, &mut outcome)
                    .await;
            }
            let Some(lost) = outcome.lost.pop() else {
                break;
            };
            debug!(room = %self.room.address(), %lost, "An occupant cannot be reached");
            effects = self.room.handle(now, Event::Gone(lost));
        }
        self.settle(service, &before);
        outcome
    }

    /// The list of rooms follows the room; one that nobody is in may leave the memory.
    fn settle(&mut self, service: &Service, before: &Listing) {
        let Some(node) = self.room.address().node() else {
            return;
        };
        let listing = self.room.listing();
        if !self.closed && listing != *before {
            service.list(node.as_str(), listing);
        }
        let idle = self.room.occupants() == 0 && self.room.config().persistent;
        if !self.closed && idle && lock(&service.living).len() > MOST_LIVING {
            self.closed = true;
            service.forget(node.as_str(), false);
        }
    }

    fn perform<'a>(
        &'a mut self,
        service: &'a Service,
        outbound: &'a dyn Outbound,
        now: i64,
        effect: Effect,
        outcome: &'a mut Outcome,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            match effect {
                Effect::Reply(stanza) if stanza.name() == "iq" => outcome.reply = Some(stanza),
                Effect::Reply(stanza) | Effect::Send(stanza) => {
                    send(outbound, stanza, outcome);
                }
                Effect::Broadcast { to, stanza } => broadcast(outbound, &to, &stanza, outcome),
                Effect::Deliver { to, stanzas } => deliver(outbound, &to, &stanzas, outcome),
                Effect::Speak(speech) => {
                    self.speak(service, outbound, now, *speech, outcome).await;
                }
                Effect::Retract(retraction) => {
                    self.retract(service, outbound, now, *retraction, outcome)
                        .await;
                }
                Effect::History { to, request } => {
                    self.tell(service, outbound, &to, request, outcome);
                }
                Effect::Query { request, reveal } => outcome.queries.push((request, reveal)),
                Effect::Persist(changes) => {
                    let batch = batch(self.room.address(), changes);
                    let submitted = service.storage.submit(batch, Durability::Power);
                    outcome.persisted.push(submitted.written);
                }
                Effect::Destroyed(tombstone) => self.destroy(service, tombstone).await,
            }
        })
    }

    /// Numbers and keeps what is said, then tells everybody. What cannot be kept is not said.
    async fn speak(
        &mut self,
        service: &Service,
        outbound: &dyn Outbound,
        now: i64,
        speech: Speech,
        outcome: &mut Outcome,
    ) {
        let (mut stanza, author) = (speech.stanza, speech.author.clone());
        if speech.historic {
            let id = if speech.archived {
                let spoken = Spoken {
                    at: now,
                    author: speech.author,
                    stanza: with_author(&stanza, speech.item, speech.is_open),
                };
                match service.history.append(self.room.address(), spoken).await {
                    Ok((id, written)) => {
                        outcome.said = Some(written);
                        id
                    }
                    Err(error) => {
                        outcome.failed = Some(error);
                        return;
                    }
                }
            } else {
                crate::server::random_id()
            };
            stanza = Entry::numbered(self.room.address(), now, stanza, &id).stanza;
        }
        let mail = Mail::for_many(stanza);
        if speech.historic {
            self.past.push(now, mail.clone());
            outbound.said(&mut self.room.members(), &author, mail.shared());
        }
        broadcast(outbound, &speech.to, &mail, outcome);
    }

    /// Takes back what was said, in memory and in the archive, then tells all. What is not there a moderator cannot take
    /// back; an author's word is passed on all the same, as others may still have the message.
    async fn retract(
        &mut self,
        service: &Service,
        outbound: &dyn Outbound,
        now: i64,
        retraction: Retraction,
        outcome: &mut Outcome,
    ) {
        let Retraction {
            id,
            author,
            remains,
            speech,
        } = retraction;
        let author = author.as_deref();
        let here = self.past.retract(&id, author, &remains);
        let room = self.room.address();
        let kept = service.history.retract(room, &id, author, &remains).await;
        match kept {
            Ok(false) if !here && author.is_none() => {
                outcome.failed = Some(StanzaError::item_not_found());
            }
            Ok(_) => self.speak(service, outbound, now, speech, outcome).await,
            Err(error) => outcome.failed = Some(error),
        }
    }

    fn tell(
        &self,
        service: &Service,
        outbound: &dyn Outbound,
        to: &FullJid,
        mut request: Request,
        outcome: &mut Outcome,
    ) {
        let most = service.policy.history;
        request.stanzas = Some(request.stanzas.unwrap_or(most).min(most));
        let past = self.past.select(&request, self.room.address());
        deliver(outbound, to, &past, outcome);
    }

    /// Nothing of it stays but its tombstone. What the store does not delete now is there after a restart, and is said so.
    async fn destroy(&mut self, service: &Service, tombstone: Option<Tombstone>) {
        if self.closed {
            return;
        }
        self.closed = true;
        let address = self.room.address().clone();
        if let Some(node) = address.node() {
            service.forget(node.as_str(), true);
            if let Some(tombstone) = &tombstone {
                service.bury(node.as_str(), tombstone.clone());
            }
        }
        if let Err(failure) = delete(service, &address, tombstone).await {
            error!(room = %address, "A destroyed room was not deleted from the store: {failure}");
        }
        if let Err(failure) = service.history.forget(&address).await {
            error!(room = %address, ?failure, "The archive of a destroyed room was not deleted");
        }
    }
}

async fn delete(
    service: &Service,
    address: &BareJid,
    tombstone: Option<Tombstone>,
) -> crate::storage::Result<()> {
    let owner = address.as_str();
    let stored = service.storage.list(ROOMS, owner, "").await?;
    if stored.is_empty() && tombstone.is_none() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for (key, _) in stored {
        batch = batch.delete(ROOMS, owner, &key);
    }
    if let Some(value) = tombstone.and_then(|left| serde_json::to_vec(&left).ok()) {
        batch = batch.put(ROOMS, owner, TOMBSTONE, value);
    }
    service.storage.commit(batch).await?;
    Ok(())
}

fn batch(address: &BareJid, changes: Vec<Change>) -> Batch {
    let mut batch = Batch::new();
    for Change { key, value } in changes {
        batch = match value {
            Some(value) => batch.put(ROOMS, address.as_str(), &key, value),
            None => batch.delete(ROOMS, address.as_str(), &key),
        };
    }
    batch
}

/// The archive tells who spoke (XEP-0313, 7.1); where the room hid it at the time, to those alone who may know it then too.
fn with_author(stanza: &Element, item: Option<Element>, is_open: bool) -> Element {
    let mut stanza = stanza.clone();
    if let Some(item) = item {
        let namespace = if is_open { ns::MUC_USER } else { HIDDEN };
        let mut x = Element::bare("x", namespace);
        x.append_child(item);
        stanza.append_child(x);
    }
    stanza
}

/// Presence and what was said go straight to the session, in the room's order; the rest may wait.
fn send(outbound: &dyn Outbound, stanza: Element, outcome: &mut Outcome) {
    let ordered = stanza.name() == "presence" || stanza.attr("type") == Some("groupchat");
    let to = stanza.attr("to").and_then(|to| FullJid::new(to).ok());
    match to {
        Some(to) if ordered => {
            if outbound.post(&to, Mail::new(stanza.clone())) == Posted::Elsewhere {
                outcome.later.push(stanza);
            }
        }
        _ => outcome.later.push(stanza),
    }
}

fn deliver(outbound: &dyn Outbound, to: &FullJid, mails: &[Mail], outcome: &mut Outcome) {
    match outbound.post_all(to, mails) {
        Posted::Done => {}
        Posted::Tight => outcome.tight = true,
        Posted::Gone => outcome.lost.push(to.clone()),
        Posted::Elsewhere => {
            let stanzas = mails.iter().map(|mail| mail.addressed(to).element());
            outcome.later.extend(stanzas);
        }
    }
}

fn broadcast(outbound: &dyn Outbound, to: &[FullJid], mail: &Mail, outcome: &mut Outcome) {
    for session in to {
        let addressed = mail.addressed(session);
        match outbound.post(session, addressed) {
            Posted::Done => {}
            Posted::Tight => outcome.tight = true,
            Posted::Gone => outcome.lost.push(session.clone()),
            Posted::Elsewhere => outcome.later.push(mail.addressed(session).element()),
        }
    }
}
