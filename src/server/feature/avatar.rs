//! XEP-0084: avatars in personal nodes, XEP-0153: avatars in vCards, XEP-0398: each is the other; and the photo's hash in
//! every presence.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use jid::BareJid;
use minidom::Element;
use sha1::{Digest, Sha1};
use tracing::warn;

use super::super::pubsub::config::AccessModel;
use super::super::pubsub::request::Request as Asked;
use super::super::router::{OnPresence, Router, Target};
use super::super::session::Session;
use super::super::stanza::Stanza;
use super::super::{Server, StanzaError};
use super::{pep, vcard};
use crate::xmpp::element::{child_text, element, text_element};
use crate::xmpp::ns;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Own], ns::VCARD_CONVERSION);
    router.presence(Arc::new(PhotoHash));
    Ok(())
}

/// An image with its type.
struct Photo {
    kind: String,
    bytes: Vec<u8>,
}

impl Photo {
    fn hash(&self) -> String {
        use std::fmt::Write;
        let mut text = String::with_capacity(40);
        for byte in Sha1::digest(&self.bytes) {
            // Writing to a string does not fail.
            write!(text, "{byte:02x}").ok();
        }
        text
    }

    /// The photo of a vcard-temp.
    fn of_vcard(vcard: &Element) -> Option<Self> {
        let photo = vcard.get_child("PHOTO", ns::VCARD)?;
        let bytes = decode(&child_text(photo, "BINVAL", ns::VCARD)?)?;
        let kind = child_text(photo, "TYPE", ns::VCARD).filter(|kind| !kind.is_empty());
        Some(Self {
            kind: kind.unwrap_or_else(|| "image/png".to_owned()),
            bytes,
        })
    }

    fn to_vcard(&self) -> Element {
        let mut photo = Element::bare("PHOTO", ns::VCARD);
        photo.append_child(text_element("TYPE", ns::VCARD, &self.kind));
        let encoded = STANDARD.encode(&self.bytes);
        photo.append_child(text_element("BINVAL", ns::VCARD, &encoded));
        photo
    }

    /// `<metadata/>` with its one `<info/>` (XEP-0084, 4.2.2).
    fn metadata(&self) -> Element {
        let bytes = self.bytes.len().to_string();
        let attributes = [
            ("id", &*self.hash()),
            ("type", &self.kind),
            ("bytes", &bytes),
        ];
        let mut metadata = Element::bare("metadata", ns::AVATAR_METADATA);
        metadata.append_child(element("info", ns::AVATAR_METADATA, &attributes));
        metadata
    }
}

/// Base64 as people send it: broken into lines.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_whitespace().collect();
    STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty())
}

/// The id and type of the image that is in the data node: the one without an address (XEP-0398, 3.1).
fn described(metadata: &Element) -> Option<(&str, &str)> {
    let mut infos = metadata
        .children()
        .filter(|child| child.is("info", ns::AVATAR_METADATA));
    let info = infos.find(|info| info.attr("url").is_none())?;
    Some((info.attr("id")?, info.attr("type").unwrap_or("image/png")))
}

/// The avatar nodes have changed: the vCard's photo follows.
pub(super) async fn after(
    server: &Server,
    service: &BareJid,
    asked: &Asked,
) -> Result<(), StanzaError> {
    let changes = matches!(
        asked,
        Asked::Publish { .. }
            | Asked::Retract { .. }
            | Asked::Purge { .. }
            | Asked::Delete { .. }
            | Asked::Configure { .. }
    );
    if !changes || asked.node() != Some(ns::AVATAR_METADATA) {
        return Ok(());
    }
    let photo = published(server, service).await?;
    let mut card = vcard::read(server, service).await?;
    let new = photo.as_ref().map(Photo::hash);
    if new == Photo::of_vcard(&card).as_ref().map(Photo::hash) {
        return Ok(());
    }
    while card.remove_child("PHOTO", ns::VCARD).is_some() {}
    if let Some(photo) = photo {
        card.append_child(photo.to_vcard());
    }
    vcard::write(server, service, &card).await?;
    show(server, service, new).await;
    Ok(())
}

/// The avatar that is published and may be seen by all: what the user shows to a few is not put into the vCard.
async fn published(server: &Server, account: &BareJid) -> Result<Option<Photo>, StanzaError> {
    let engine = pep::engine(server)?;
    for node in [ns::AVATAR_METADATA, ns::AVATAR_DATA] {
        let record = engine.record(account, node).await?;
        let shown = record.is_some_and(|record| {
            matches!(
                record.config.access_model,
                AccessModel::Open | AccessModel::Presence
            )
        });
        if !shown {
            return Ok(None);
        }
    }
    let metadata = engine.newest(account, ns::AVATAR_METADATA).await?;
    let Some(metadata) = metadata.and_then(|item| item.element()) else {
        return Ok(None);
    };
    let Some((id, kind)) = described(&metadata) else {
        return Ok(None);
    };
    let items = engine.stored(account, ns::AVATAR_DATA).await?;
    let data = items.into_iter().find(|item| item.id == id);
    let bytes = data.and_then(|item| decode(&item.element()?.text()));
    let photo = bytes.map(|bytes| Photo {
        kind: kind.to_owned(),
        bytes,
    });
    // What is not what it says it is would be another's avatar in caches (XEP-0398, 3.1).
    Ok(photo.filter(|photo| photo.hash() == id))
}

/// A vcard-temp was set: its photo is the avatar (XEP-0398, 3.2), and none is none.
pub(super) async fn from_vcard(
    server: &Server,
    account: &BareJid,
    card: &Element,
) -> Result<(), StanzaError> {
    let photo = Photo::of_vcard(card);
    let newest = pep::engine(server)?
        .newest(account, ns::AVATAR_METADATA)
        .await?;
    let metadata = newest.and_then(|item| item.element());
    let before = metadata.as_ref().and_then(described).map(|(id, _)| id);
    let new = photo.as_ref().map(Photo::hash);
    match &photo {
        Some(photo) if before != new.as_deref() => {
            let id = photo.hash();
            let encoded = STANDARD.encode(&photo.bytes);
            let data = text_element("data", ns::AVATAR_DATA, &encoded);
            pep::publish_open(server, account, ns::AVATAR_DATA, &id, data).await?;
            let metadata = photo.metadata();
            pep::publish_open(server, account, ns::AVATAR_METADATA, &id, metadata).await?;
        }
        None if before.is_some() => {
            let none = Element::bare("metadata", ns::AVATAR_METADATA);
            let id = super::super::random_id();
            pep::publish_open(server, account, ns::AVATAR_METADATA, &id, none).await?;
        }
        _ => {}
    }
    show(server, account, new).await;
    Ok(())
}

/// The hash of an account's photo: what presences say.
#[derive(Default)]
struct Shown(Mutex<Hash>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Hash {
    /// Nobody has looked into the store yet.
    #[default]
    Unread,
    NoPhoto,
    Of(String),
}

impl From<Option<String>> for Hash {
    fn from(hash: Option<String>) -> Self {
        hash.map_or(Self::NoPhoto, Self::Of)
    }
}

impl Shown {
    fn get(&self) -> Hash {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }

    /// `false`: it was that already.
    fn set(&self, hash: Hash) -> bool {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *shown != hash;
        *shown = hash;
        differs
    }
}

/// Sends the presences of the account again, with the new hash.
async fn show(server: &Server, account: &BareJid, hash: Option<String>) {
    let Some(account) = server.account_in_memory(account) else {
        return;
    };
    let shown = account.extensions.get_or_default::<Shown>();
    if !shown.set(hash.into()) {
        return;
    }
    for session in account.available() {
        let Some(available) = session.available() else {
            continue;
        };
        let mut presence = available.presence.as_ref().clone();
        // Who has said that there is no photo to show has said so for good (XEP-0398, 4).
        if !is_declined(presence.element()) {
            presence.element_mut().remove_child("x", ns::VCARD_UPDATE);
        }
        if let Err(error) = server.presence_from_client(&session, presence).await {
            warn!(account = %account.jid(), ?error, "A presence was not sent again");
        }
    }
}

/// `<photo/>` without content: this session does not take part.
fn is_declined(presence: &Element) -> bool {
    let update = presence.get_child("x", ns::VCARD_UPDATE);
    let photo = update.and_then(|update| child_text(update, "photo", ns::VCARD_UPDATE));
    photo.is_some_and(|photo| photo.is_empty())
}

/// Puts the hash into a presence, unless it declines (XEP-0398, 4).
fn stamp(presence: &mut Element, hash: Option<&str>) {
    if is_declined(presence) {
        return;
    }
    let was_there = presence.remove_child("x", ns::VCARD_UPDATE).is_some();
    if hash.is_none() && !was_there {
        return;
    }
    let mut update = Element::bare("x", ns::VCARD_UPDATE);
    let hash = hash.unwrap_or_default();
    update.append_child(text_element("photo", ns::VCARD_UPDATE, hash));
    presence.append_child(update);
}

struct PhotoHash;

impl OnPresence for PhotoHash {
    fn outgoing<'a>(
        &'a self,
        server: &'a Server,
        session: &'a Arc<Session>,
        presence: &'a mut Stanza,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if !presence.type_().is_empty() {
                return;
            }
            let account = session.account();
            let shown = account.extensions.get_or_default::<Shown>();
            let mut hash = shown.get();
            if hash == Hash::Unread {
                match vcard::read(server, account.jid()).await {
                    Ok(card) => hash = Photo::of_vcard(&card).as_ref().map(Photo::hash).into(),
                    Err(error) => {
                        warn!(account = %account.jid(), ?error, "A vCard cannot be read");
                        return;
                    }
                }
                shown.set(hash.clone());
            }
            let hash = match hash {
                Hash::Of(hash) => Some(hash),
                Hash::Unread | Hash::NoPhoto => None,
            };
            stamp(presence.element_mut(), hash.as_deref());
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{client, online, server};
    use super::*;

    /// Of "image".
    const HASH: &str = "0e76292794888d4f1fa75fb3aff4ca27c58f56a6";
    const PHOTO: &str = "<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>aW1h\n Z2U=</BINVAL></PHOTO></vCard>";

    #[test]
    fn presences_are_stamped_unless_they_decline() {
        struct Case {
            name: &'static str,
            inner: &'static str,
            hash: Option<&'static str>,
            photo: Option<&'static str>,
        }
        #[rustfmt::skip]
        let cases = [
            Case { name: "nothing said", inner: "", hash: Some("h"), photo: Some("h") },
            Case { name: "no photo", inner: "", hash: None, photo: None },
            Case { name: "not known yet", inner: "<x xmlns='vcard-temp:x:update'/>", hash: Some("h"), photo: Some("h") },
            Case { name: "another one", inner: "<x xmlns='vcard-temp:x:update'><photo>o</photo></x>", hash: Some("h"), photo: Some("h") },
            Case { name: "one that is gone", inner: "<x xmlns='vcard-temp:x:update'><photo>o</photo></x>", hash: None, photo: Some("") },
            Case { name: "declined", inner: "<x xmlns='vcard-temp:x:update'><photo/></x>", hash: Some("h"), photo: Some("") },
        ];
        for case in cases {
            let presence = format!("<presence xmlns='jabber:client'>{}</presence>", case.inner);
            let mut presence: Element = presence.parse().unwrap();
            stamp(&mut presence, case.hash);
            let update = presence.get_child("x", ns::VCARD_UPDATE);
            let photo = update.and_then(|x| child_text(x, "photo", ns::VCARD_UPDATE));
            assert_eq!(photo.as_deref(), case.photo, "{}", case.name);
        }
    }

    #[test]
    fn the_image_in_the_node_is_the_one_without_an_address() {
        let metadata: Element = "<metadata xmlns='urn:xmpp:avatar:metadata'><info id='a' url='http://x' type='image/gif'/><info id='b' type='image/png'/></metadata>".parse().unwrap();
        assert_eq!(described(&metadata), Some(("b", "image/png")));
    }

    #[tokio::test]
    async fn a_photo_becomes_the_avatar_and_its_hash_is_told() {
        let server = server(&["juliet"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let mut other = online(&server, "juliet/chamber").await;
        juliet.ask("set", "", PHOTO).await;
        let account = BareJid::new("juliet@example.org").unwrap();
        let engine = pep::engine(&server).unwrap();
        for node in [ns::AVATAR_DATA, ns::AVATAR_METADATA] {
            assert_eq!(
                engine.newest(&account, node).await.unwrap().unwrap().id,
                HASH
            );
        }
        let told = other
            .drain()
            .into_iter()
            .any(|stanza| String::from(&stanza).contains(HASH));
        assert!(told, "the presence was not sent again");
        juliet.ask("set", "", "<vCard xmlns='vcard-temp'/>").await;
        let metadata = engine
            .newest(&account, ns::AVATAR_METADATA)
            .await
            .unwrap()
            .unwrap();
        assert!(described(&metadata.element().unwrap()).is_none());
    }

    #[tokio::test]
    async fn an_avatar_becomes_the_photo_if_it_is_what_it_says() {
        struct Case {
            name: &'static str,
            id: &'static str,
            access: &'static str,
            shown: bool,
        }
        let cases = [
            Case {
                name: "for contacts",
                id: HASH,
                access: "presence",
                shown: true,
            },
            Case {
                name: "for a few",
                id: HASH,
                access: "whitelist",
                shown: false,
            },
            Case {
                name: "with a wrong hash",
                id: "0000",
                access: "open",
                shown: false,
            },
        ];
        for case in cases {
            let server = server(&["juliet"]).await;
            let mut juliet = client(&server, "juliet/balcony").await;
            for (node, payload) in [
                (
                    ns::AVATAR_DATA,
                    format!("<data xmlns='{}'>aW1hZ2U=</data>", ns::AVATAR_DATA),
                ),
                (
                    ns::AVATAR_METADATA,
                    format!(
                        "<metadata xmlns='{}'><info id='{}' type='image/png' bytes='5'/></metadata>",
                        ns::AVATAR_METADATA,
                        case.id
                    ),
                ),
            ] {
                let publish = format!(
                    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{node}'><item id='{}'>{payload}</item></publish><publish-options><x xmlns='jabber:x:data'><field var='pubsub#access_model'><value>{}</value></field></x></publish-options></pubsub>",
                    case.id, case.access
                );
                let answer = juliet.ask("set", "", &publish).await;
                assert_eq!(answer.attr("type"), Some("result"), "{}", case.name);
            }
            let vcard = juliet.ask("get", "", "<vCard xmlns='vcard-temp'/>").await;
            assert_eq!(
                String::from(&vcard).contains("aW1hZ2U="),
                case.shown,
                "{}",
                case.name
            );
        }
    }
}
