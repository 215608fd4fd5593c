//! Namespaces: those of xmpp-parsers, and those it lacks.

pub use xmpp_parsers::ns::*;

/// The content namespace between servers (RFC 6120, 4.8.3).
pub const JABBER_SERVER: &str = "jabber:server";
/// XEP-0220, and the feature that announces it.
pub const DIALBACK: &str = "jabber:server:dialback";
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// XEP-0288, and the feature that announces it.
pub const BIDI: &str = "urn:xmpp:bidi";
pub const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// RFC 3921, 3.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// XEP-0012.
pub const LAST: &str = "jabber:iq:last";
/// XEP-0050.
pub const COMMANDS: &str = "http://jabber.org/protocol/commands";
/// XEP-0249.
pub const CONFERENCE: &str = "jabber:x:conference";
/// XEP-0334.
pub const HINTS: &str = "urn:xmpp:hints";
/// XEP-0359 as it is announced and used.
pub const STANZA_ID: &str = "urn:xmpp:sid:0";
/// XEP-0372.
pub const REFERENCE: &str = "urn:xmpp:reference:0";
/// XEP-0393.
pub const STYLING: &str = "urn:xmpp:styling:0";
/// XEP-0422, in the older form of retractions and moderation.
pub const FASTEN: &str = "urn:xmpp:fasten:0";
/// XEP-0424, and its older version.
pub const RETRACT: &str = "urn:xmpp:message-retract:1";
pub const RETRACT_0: &str = "urn:xmpp:message-retract:0";
/// XEP-0425, and its older version.
pub const MODERATE: &str = "urn:xmpp:message-moderate:1";
pub const MODERATE_0: &str = "urn:xmpp:message-moderate:0";
/// XEP-0428.
pub const FALLBACK: &str = "urn:xmpp:fallback:0";
/// XEP-0446.
pub const FILE_METADATA: &str = "urn:xmpp:file:metadata:0";
/// XEP-0447.
pub const FILE_SHARING: &str = "urn:xmpp:sfs:0";
/// XEP-0103, as used by XEP-0447.
pub const URL_DATA: &str = "http://jabber.org/protocol/url-data";
/// XEP-0461.
pub const REPLY: &str = "urn:xmpp:reply:0";
/// OMEMO 0.8, XEP-0384.
pub const OMEMO: &str = "urn:xmpp:omemo:2";
/// XEP-0045, owners' use cases.
pub const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
/// XEP-0333.
pub const CHAT_MARKERS: &str = "urn:xmpp:chat-markers:0";
/// XEP-0482.
pub const CALL_INVITES: &str = "urn:xmpp:call-invites:0";
/// XEP-0313, with ids, pages that are flipped, and metadata.
pub const MAM_EXTENDED: &str = "urn:xmpp:mam:2#extended";
/// XEP-0313: the field `include-groupchat` is understood.
pub const MAM_GROUPCHAT_FIELD: &str = "urn:xmpp:mam:2#groupchat-field";
/// XEP-0411.
pub const BOOKMARKS_CONVERSION: &str = "urn:xmpp:bookmarks-conversion:0";
/// XEP-0292: the payload, and the node.
pub const VCARD4: &str = "urn:ietf:params:xml:ns:vcard-4.0";
pub const VCARD4_NODE: &str = "urn:xmpp:vcard4";
/// XEP-0398.
pub const VCARD_CONVERSION: &str = "urn:xmpp:pep-vcard-conversion:0";
/// XEP-0490, server assist.
pub const MDS_ASSIST: &str = "urn:xmpp:mds:server-assist:0";
/// XEP-0045, moderators' and admins' use cases.
pub const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
/// XEP-0045, 7.13: a visitor asks for voice.
pub const MUC_REQUEST: &str = "http://jabber.org/protocol/muc#request";
/// XEP-0045, 10.1.3: the form of an owner.
pub const MUC_ROOMCONFIG: &str = "http://jabber.org/protocol/muc#roomconfig";
/// XEP-0045, 7.10: somebody registers with a room.
pub const MUC_REGISTER: &str = "http://jabber.org/protocol/muc#register";
/// XEP-0045, 15.2: which namespaces a room lets through.
pub const MUC_TRAFFIC: &str = "http://jabber.org/protocol/muc#traffic";
/// XEP-0317, and what Prosody calls it.
pub const HATS: &str = "urn:xmpp:hats:0";
pub const HATS_PROSODY: &str = "xmpp:prosody.im/protocol/hats:1";
/// XEP-0424, 5: what is taken back is taken out of the archive.
pub const RETRACT_TOMBSTONE: &str = "urn:xmpp:message-retract:1#tombstone";
/// XEP-0045, 6.4: what a room tells of itself.
pub const MUC_ROOMINFO: &str = "http://jabber.org/protocol/muc#roominfo";
/// XEP-0045, 7.4: a reflected message keeps its id.
pub const MUC_STABLE_ID: &str = "http://jabber.org/protocol/muc#stable_id";
/// XEP-0410.
pub const MUC_SELF_PING: &str = "http://jabber.org/protocol/muc#self-ping-optimization";
/// XEP-0379, and XEP-0445: the token of an invitation.
pub const PREAUTH: &str = "urn:xmpp:pars:0";
/// XEP-0401: the commands that invite a contact, and to an account.
pub const INVITE_CONTACT: &str = "urn:xmpp:invite#invite";
pub const INVITE_ACCOUNT: &str = "urn:xmpp:invite#create-account";
/// XEP-0445: registration takes tokens.
pub const IBR_TOKEN: &str = "urn:xmpp:ibr-token:0";
/// XEP-0156: Discovering Alternative XMPP Connection Methods.
pub const ALT_WEBSOCKET: &str = "urn:xmpp:alt-connections:websocket";
/// XEP-0156's document: Extensible Resource Descriptor.
pub const XRD: &str = "http://docs.oasis-open.org/ns/xri/xrd-1.0";
/// XEP-0357: the summary of what waits.
pub const PUSH_SUMMARY: &str = "urn:xmpp:push:summary";
/// XEP-0060, 7.1.5: what is required of a node to publish to.
pub const PUBSUB_PUBLISH_OPTIONS: &str = "http://jabber.org/protocol/pubsub#publish-options";
/// XEP-0065.
pub const BYTESTREAMS: &str = "http://jabber.org/protocol/bytestreams";
