//! Signs of life: displayed marker (XEP-0333), receipt (XEP-0184) and reaction (XEP-0444) on acceptance, and `composing`
//! (XEP-0085), which is taken back on every way out, a panic included, because that is done by a `Drop`.

use minidom::Element;
use xmpp_parsers::message::{Id, Message};

use super::outbox::Outbox;
use super::{bare, thread};
use crate::config::Account;
use crate::gateway::{Inbound, Place};
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// What the sender of a message is told at once.
pub fn acceptance(inbound: &Inbound, account: &Account) -> Vec<Message> {
    let in_room = inbound.place.is_room();
    let mut messages = Vec::new();
    if account.chat_markers
        && inbound.markable
        && let Some(id) = reference(inbound)
    {
        let displayed = element("displayed", ns::DISPLAYED_MARKERS, &[("id", id)]);
        messages.push(sign(inbound, displayed, "store"));
    }
    // XEP-0184, 5.3: not in rooms. It answers the stanza's own id, to the client that sent it.
    if account.chat_markers
        && inbound.wants_receipt
        && !in_room
        && let Some(id) = &inbound.ids.id
    {
        let received = element("received", ns::RECEIPTS, &[("id", id)]);
        let mut receipt = sign(inbound, received, "store");
        receipt.to = Some(inbound.sender.from.clone());
        messages.push(receipt);
    }
    if !account.ack_reaction.is_empty()
        && let Some(id) = inbound.ids.reference(in_room)
    {
        let emoji = account.ack_reaction.as_str();
        let mut reactions = element("reactions", ns::REACTIONS, &[("id", id)]);
        reactions.append_child(text_element("reaction", ns::REACTIONS, emoji));
        messages.push(sign(inbound, reactions, "store"));
    }
    messages
}

/// XEP-0333, 4: the room's stanza-id in rooms, else the message's own id.
fn reference(inbound: &Inbound) -> Option<&str> {
    let ids = &inbound.ids;
    if inbound.place.is_room() {
        ids.stanza_id.as_deref().or(ids.id.as_deref())
    } else {
        ids.id.as_deref()
    }
}

fn sign(inbound: &Inbound, payload: Element, hint: &str) -> Message {
    let mut message = bare(&inbound.place);
    message.id = Some(Id(crate::gateway::session::random_id()));
    message.thread = thread(inbound.thread.as_deref());
    message
        .payloads
        .extend([payload, element(hint, ns::HINTS, &[])]);
    message
}

/// Shows `composing` while it lives.
#[derive(Debug)]
pub struct Typing {
    outbox: Outbox,
    place: Place,
    thread: Option<String>,
    on: bool,
}

impl Typing {
    /// `on`: `chat_states`.
    pub fn start(outbox: Outbox, place: Place, thread: Option<String>, on: bool) -> Self {
        let typing = Self {
            outbox,
            place,
            thread,
            on,
        };
        typing.show("composing");
        typing
    }

    /// The answer's last message has said `active` itself (XEP-0085, 5.1).
    pub fn answered(mut self) {
        self.on = false;
    }

    fn show(&self, state: &str) {
        if !self.on {
            return;
        }
        let mut message = bare(&self.place);
        message.id = Some(Id(crate::gateway::session::random_id()));
        message.thread = thread(self.thread.as_deref());
        message.payloads.extend([
            element(state, ns::CHATSTATES, &[]),
            element("no-store", ns::HINTS, &[]),
        ]);
        self.outbox.now(self.place.clone(), message, None);
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.show("active");
    }
}
