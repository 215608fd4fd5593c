//! Who sent a message, where it belongs, and whether it is our own.

use jid::{BareJid, FullJid, Jid};
use minidom::Element;
use xmpp_parsers::message::Message;

use super::ids::delay;
use super::{Context, RoomView, Skip, Source};
use crate::gateway::{Place, Sender};
use crate::xmpp::element::find;
use crate::xmpp::ns;

/// Who sent it and where it belongs; the flag tells that the room itself moderates (XEP-0425).
pub(super) fn identify(
    message: &Message,
    from: &Jid,
    groupchat: bool,
    context: &Context<'_>,
) -> Result<(Place, Sender, bool), Skip> {
    let bare = from.to_bare();
    let Some(room) = context.room else {
        // A direct message; groupchat from where we are in no room is somebody's mistake or worse. So is a private message of an
        // occupant (XEP-0045, 7.5): taken for a chat with the room's address, its answer would go to the room.
        if groupchat || find(&message.payloads, "x", ns::MUC_USER).is_some() {
            return Err(Skip::UnknownRoom);
        }
        if bare == *context.own {
            return Err(Skip::Own);
        }
        let sender = Sender {
            real: Some(bare.clone()),
            ..Sender::unknown(from.clone())
        };
        return Ok((Place::Direct(bare), sender, false));
    };
    let Ok(occupant_jid) = FullJid::try_from(from.clone()) else {
        let moderates = groupchat && is_moderation(&message.payloads);
        if !moderates {
            return Err(Skip::Room);
        }
        let sender = Sender {
            moderator: true,
            ..Sender::unknown(from.clone())
        };
        return Ok((Place::Room(bare), sender, true));
    };
    let nick = occupant_jid.resource().as_str().to_owned();
    let known = room.occupant(&nick).unwrap_or_default();
    // Anybody may write a `<delay/>`: only one that the room may have stamped makes a live message history.
    let stored = !matches!(context.source, Source::Live);
    let archived = stored || delay(&message.payloads, from, context).is_some();
    let occupant_id = find(&message.payloads, "occupant-id", ns::OID)
        .and_then(|element| element.attr("id"))
        .filter(|_| room.has_occupant_ids())
        .map(ToOwned::to_owned);
    if is_own(
        message,
        &nick,
        occupant_id.as_deref(),
        archived,
        room,
        context,
    ) {
        return Err(Skip::Own);
    }
    // In the archive the nick may meanwhile be somebody else's: only what the archive added counts. A live stanza's own
    // `<item jid=…/>` is its sender's word (XEP-0045 has the room add none to messages) and proves nothing.
    let (real, moderator, bot) = if archived {
        let real = archived_real(&message.payloads).filter(|_| groupchat && stored);
        (real, false, false)
    } else {
        (known.real, known.moderator, known.bot)
    };
    let occupant_id = occupant_id.or_else(|| known.occupant_id.filter(|_| !archived));
    let sender = Sender {
        from: from.clone(),
        real,
        nick: Some(nick),
        occupant_id,
        moderator,
        bot,
    };
    let place = if groupchat {
        Place::Room(bare)
    } else {
        Place::RoomPrivate(occupant_jid)
    };
    Ok((place, sender, false))
}

/// The real JID that a room's archive shows to those who may see it (XEP-0313, 5.1.2 of the MUC archive).
fn archived_real(payloads: &[Element]) -> Option<BareJid> {
    let item = find(payloads, "x", ns::MUC_USER)?.get_child("item", ns::MUC_USER)?;
    Some(Jid::new(item.attr("jid")?).ok()?.to_bare())
}

/// Whether a room's message is our own: by occupant-id where there is one, never by the nick of something old.
fn is_own(
    message: &Message,
    nick: &str,
    occupant_id: Option<&str>,
    archived: bool,
    room: &dyn RoomView,
    context: &Context<'_>,
) -> bool {
    if let (Some(theirs), Some(ours)) = (occupant_id, room.own_occupant_id()) {
        return theirs == ours;
    }
    if message.id.as_ref().is_some_and(|id| room.has_sent(&id.0)) && nick == room.nick() {
        return true;
    }
    if archived {
        return archived_real(&message.payloads).as_ref() == Some(context.own);
    }
    // Live, a nick is ours alone for as long as we hold it.
    nick == room.nick()
}

fn is_moderation(payloads: &[Element]) -> bool {
    let newer = find(payloads, "retract", ns::RETRACT)
        .is_some_and(|retract| retract.get_child("moderated", ns::MODERATE).is_some());
    let older = find(payloads, "apply-to", ns::FASTEN)
        .is_some_and(|apply| apply.get_child("moderated", ns::MODERATE_0).is_some());
    newer || older
}
