//! A message stanza to a typed [`Inbound`], or the reason why it is none. Pure: what is known of rooms comes in as
//! [`RoomView`]. Nothing that a sender writes about somebody else is believed: ids count only `by` our server or a room
//! that announces the feature, occupant-ids only from such rooms, delays only from those who may stamp them.

mod attachments;
mod content;
mod ids;
mod sender;
#[cfg(test)]
mod tests;

use jid::{BareJid, Jid};
use xmpp_parsers::message::{Message, MessageType};

use super::rooms::Password;
use super::{Inbound, Kind, Place};
use crate::xmpp::element::{child_text, find};
use crate::xmpp::ns;

/// What is known of an occupant of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupant {
    pub real: Option<BareJid>,
    pub occupant_id: Option<String>,
    pub moderator: bool,
    pub bot: bool,
}

/// What is known of a room that we are in.
pub trait RoomView {
    /// Our present nick.
    fn nick(&self) -> &str;
    /// Our occupant-id, where the room gives one.
    fn own_occupant_id(&self) -> Option<&str>;
    /// Whether the room announces XEP-0421, so that its occupant-ids can be trusted.
    fn has_occupant_ids(&self) -> bool;
    /// Whether the room announces XEP-0359 or an archive, so that its stanza-ids can be trusted.
    fn has_stanza_ids(&self) -> bool;
    fn occupant(&self, nick: &str) -> Option<Occupant>;
    /// Whether we have sent a message of this id to the room.
    fn has_sent(&self, id: &str) -> bool;
}

/// Where a stanza was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Live,
    /// XEP-0313: its id in the archive and when it was archived, milliseconds since 1970.
    Archive {
        id: String,
        at: i64,
    },
}

/// What reading a message depends on.
pub struct Context<'a> {
    pub account: &'a str,
    /// Our bare JID.
    pub own: &'a BareJid,
    pub room: Option<&'a dyn RoomView>,
    pub source: Source,
    /// Milliseconds since 1970.
    pub now: i64,
}

/// Why a message is nothing for the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    NoSender,
    /// `type="error"`: never answered.
    Error,
    Headline,
    /// A copy of what another client of ours sent or received (XEP-0280): never answered.
    Carbon,
    /// An archive result nobody asked for.
    ArchiveResult,
    /// Our own, reflected by a room or sent by another client of the account.
    Own,
    /// From a room we are not in.
    UnknownRoom,
    /// The room itself speaks: subjects, configuration changes.
    Room,
    /// Chat states, markers and the like.
    NoContent,
}

impl Skip {
    /// For the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoSender => "it has no sender",
            Self::Error => "it is an error",
            Self::Headline => "it is a headline",
            Self::Carbon => "it is a carbon copy",
            Self::ArchiveResult => "it is an archive result that was not asked for",
            Self::Own => "it is our own",
            Self::UnknownRoom => "it is from a room we are not in",
            Self::Room => "the room itself speaks",
            Self::NoContent => "it has no content",
        }
    }
}

/// An invitation to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    pub room: BareJid,
    /// Who invites: a real JID where the room or the inviter's server says so.
    pub from: Jid,
    pub password: Option<Password>,
    /// By the room (XEP-0045, 7.8.2); else direct (XEP-0249).
    pub mediated: bool,
}

/// Reads an invitation, mediated or direct. `None` if the message carries none.
pub fn invite(message: &Message) -> Option<Invite> {
    let from = message.from.as_ref()?;
    if matches!(message.type_, MessageType::Error | MessageType::Groupchat) {
        return None;
    }
    if let Some(user) = find(&message.payloads, "x", ns::MUC_USER)
        && let Some(invite) = user.get_child("invite", ns::MUC_USER)
        && from.resource().is_none()
    {
        return Some(Invite {
            room: from.to_bare(),
            from: Jid::new(invite.attr("from")?).ok()?,
            password: child_text(user, "password", ns::MUC_USER).map(|text| text.as_str().into()),
            mediated: true,
        });
    }
    let direct = find(&message.payloads, "x", ns::CONFERENCE)?;
    Some(Invite {
        room: Jid::new(direct.attr("jid")?).ok()?.to_bare(),
        from: from.clone(),
        password: direct.attr("password").map(Into::into),
        mediated: false,
    })
}

/// Reads a message that is for a conversation.
pub fn read(message: &Message, context: &Context<'_>) -> Result<Inbound, Skip> {
    let from = message.from.as_ref().ok_or(Skip::NoSender)?;
    let payloads = &message.payloads;
    match message.type_ {
        MessageType::Error => return Err(Skip::Error),
        MessageType::Headline => return Err(Skip::Headline),
        _ => {}
    }
    if ["sent", "received"]
        .iter()
        .any(|name| find(payloads, name, ns::CARBONS).is_some())
    {
        return Err(Skip::Carbon);
    }
    if find(payloads, "result", ns::MAM).is_some() {
        return Err(Skip::ArchiveResult);
    }
    let groupchat = message.type_ == MessageType::Groupchat;
    let (place, sender, moderation) = sender::identify(message, from, groupchat, context)?;
    let delayed = ids::delay(payloads, from, context);
    let ids = ids::read(message, &place, context);
    let encrypted = content::is_encrypted(payloads);
    let raw = content::body(message);
    let (kind, body, reply) = content::read(payloads, &raw, moderation);
    let (body, attachments) = attachments::read(payloads, &body);
    let has_content =
        !body.trim().is_empty() || !attachments.is_empty() || encrypted || acts_without_text(&kind);
    if !has_content {
        return Err(Skip::NoContent);
    }
    // A room's history is context, not a request; what waited in our own offline storage is one.
    let catch_up = match context.source {
        Source::Archive { .. } => true,
        Source::Live => delayed.is_some() && !groupchat,
    };
    Ok(Inbound {
        account: context.account.into(),
        // Receipts go to people, never to a whole room (XEP-0184, 5.3).
        wants_receipt: !groupchat && find(payloads, "request", ns::RECEIPTS).is_some(),
        markable: find(payloads, "markable", ns::DISPLAYED_MARKERS).is_some(),
        mentions: content::mentions(payloads),
        thread: message
            .thread
            .as_ref()
            .map(|thread| thread.id.clone())
            .filter(|id| ids::is_kept(id)),
        place,
        sender,
        ids,
        kind,
        body,
        reply,
        attachments,
        delayed,
        catch_up,
        encrypted,
        at: context.now,
    })
}

/// Our own message as a room reflects it: the id we gave it, and the room's. `None` where the room gives none.
pub fn echo(message: &Message, room: &BareJid, context: &Context<'_>) -> Option<(String, String)> {
    let ids = ids::read(message, &Place::Room(room.clone()), context);
    Some((ids.origin_id.or(ids.id)?, ids.stanza_id?))
}

/// Kinds that have an effect without text.
fn acts_without_text(kind: &Kind) -> bool {
    matches!(kind, Kind::Retraction { .. } | Kind::Reactions { .. })
}
