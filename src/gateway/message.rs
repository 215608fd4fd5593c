//! A message that came in, as every stage after reading sees it.

use serde::{Deserialize, Serialize};

use super::{Place, Sender, now};

/// A message that came in, typed and checked, before admission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// The account's id, as in `[channels.xmpp.<id>]`.
    pub account: String,
    pub place: Place,
    pub sender: Sender,
    pub ids: Ids,
    pub kind: Kind,
    /// Without fallback quotes; in rooms still with the mention.
    pub body: String,
    /// XEP-0201.
    pub thread: Option<String>,
    pub reply: Option<ReplyTo>,
    /// JIDs (`xmpp:` URIs without the scheme) of XEP-0372 mentions.
    pub mentions: Vec<String>,
    pub attachments: Vec<Attachment>,
    /// XEP-0203, milliseconds since 1970: when it was sent, for what was not live.
    pub delayed: Option<i64>,
    /// From the archive or offline storage: taken in, but joined with others of its kind to one turn.
    pub catch_up: bool,
    /// XEP-0184 `<request/>`.
    pub wants_receipt: bool,
    /// XEP-0333 `<markable/>`.
    pub markable: bool,
    /// End-to-end encrypted; such a message cannot be read in this version.
    pub encrypted: bool,
    /// When it came in, milliseconds since 1970.
    pub at: i64,
}

impl Inbound {
    /// A live text without anything special: what a caller has more of, it sets.
    pub fn text(account: &str, place: Place, sender: Sender, body: &str) -> Self {
        Self {
            account: account.to_owned(),
            place,
            sender,
            ids: Ids::default(),
            kind: Kind::Text,
            body: body.to_owned(),
            thread: None,
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            delayed: None,
            catch_up: false,
            wants_receipt: false,
            markable: false,
            encrypted: false,
            at: now(),
        }
    }
}

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Text,
    /// XEP-0308: the text replaces that of the sender's message with this id.
    Correction {
        replaces: String,
    },
    /// XEP-0424, by the sender; XEP-0425 by the room where `moderated`.
    Retraction {
        of: String,
        moderated: bool,
    },
    /// XEP-0444, the whole set.
    Reactions {
        to: String,
        emojis: Vec<String>,
    },
}

/// A file that came with a message: by XEP-0066 OOB, XEP-0447 or an `aesgcm:` link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub url: String,
    pub name: Option<String>,
    /// As the sender says; the content decides.
    pub media_type: Option<String>,
}

/// XEP-0461 `<reply/>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    pub id: String,
    /// Whose message it was, as the sender says.
    pub to: Option<String>,
    /// What of the body is the quoted fallback (XEP-0428), already removed from `body`.
    pub quoted: Option<String>,
}

/// The ids by which a message is known again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ids {
    /// The stanza's `id`.
    pub id: Option<String>,
    /// XEP-0359 `<origin-id/>`.
    pub origin_id: Option<String>,
    /// XEP-0359 `<stanza-id/>` assigned by our server (direct) or the room: the only ones trusted.
    pub stanza_id: Option<String>,
}

impl Ids {
    /// What XEP-0461 replies and XEP-0444 reactions refer to: the room's stanza-id in rooms, and nothing where it gives none
    /// (XEP-0461, 4.1); else origin-id or id.
    pub fn reference(&self, in_room: bool) -> Option<&str> {
        if in_room {
            return self.stanza_id.as_deref();
        }
        self.origin_id.as_deref().or(self.id.as_deref())
    }

    /// Whether `id` is one of these.
    pub fn has(&self, id: &str) -> bool {
        [&self.id, &self.origin_id, &self.stanza_id]
            .into_iter()
            .any(|own| own.as_deref() == Some(id))
    }
}
