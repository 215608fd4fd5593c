//! By what a message is known again, and when it was sent: only as those say who may (XEP-0359, XEP-0203).

use jid::Jid;
use minidom::Element;
use xmpp_parsers::message::Message;

use super::{Context, RoomView, Source};
use crate::gateway::{Ids, Place};
use crate::xmpp::element::find;
use crate::xmpp::{datetime, ns};

/// Only ids that were assigned by our own server, or by the room in a room, are believed (XEP-0359, security).
pub(super) fn read(message: &Message, place: &Place, context: &Context<'_>) -> Ids {
    let by = match place {
        Place::Room(room) => room.clone(),
        Place::Direct(_) | Place::RoomPrivate(_) => context.own.clone(),
    };
    let trusted = !place.is_room() || context.room.is_some_and(RoomView::has_stanza_ids);
    // The server appends its own; Prosody 0.12 leaves a forged one before it in place.
    let assigned = message.payloads.iter().rfind(|p| {
        trusted
            && p.is("stanza-id", ns::STANZA_ID)
            && p.attr("by").and_then(|jid| Jid::new(jid).ok()) == Some(by.clone().into())
    });
    let stanza_id = match &context.source {
        Source::Archive { id, .. } => Some(id.clone()),
        Source::Live => assigned.and_then(|p| p.attr("id")).map(Into::into),
    };
    Ids {
        id: message
            .id
            .as_ref()
            .map(|id| id.0.clone())
            .filter(|id| is_kept(id)),
        origin_id: find(&message.payloads, "origin-id", ns::STANZA_ID)
            .and_then(|p| p.attr("id"))
            .filter(|id| is_kept(id))
            .map(Into::into),
        stanza_id,
    }
}

/// Ids of messages and threads are stored for weeks; nobody's client needs one that is a text of its own.
pub(super) fn is_kept(id: &str) -> bool {
    id.len() <= 512
}

/// XEP-0203, if stamped by our server, the room, or the archive.
pub(super) fn delay(payloads: &[Element], from: &Jid, context: &Context<'_>) -> Option<i64> {
    if let Source::Archive { at, .. } = context.source {
        return Some(at);
    }
    let delay = payloads.iter().find(|p| {
        p.is("delay", ns::DELAY)
            && p.attr("from").is_none_or(|by| {
                Jid::new(by).is_ok_and(|by| {
                    by.to_bare() == from.to_bare() && context.room.is_some()
                        || by.to_bare() == *context.own
                        || by.as_str() == context.own.domain().as_str()
                })
            })
    })?;
    datetime::parse(delay.attr("stamp")?)
}
