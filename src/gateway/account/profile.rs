//! The bot's face: vCard (XEP-0054), avatar (XEP-0084 over PEP, XEP-0153 in presence). Published when it has changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;
use sha1::{Digest, Sha1};
use tracing::{info, warn};

use super::Account;
use super::handle::Handle;
use crate::gateway::{Request, Wire, WireError};
use crate::storage::{Batch, KeyValue, Storage};
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// Owner: the account; key: "published". The digest of what was published last.
const PROFILES: KeyValue = KeyValue("profiles");

/// What others see of the bot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    /// The presence's status: the model's name.
    pub status: String,
    pub avatar: Option<Avatar>,
}

/// An image, as read from `identity.avatar`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avatar {
    /// `image/png` and the like.
    pub media_type: String,
    pub bytes: bytes::Bytes,
}

impl Avatar {
    /// XEP-0084 and XEP-0153 name an image by its SHA-1.
    pub fn hash(&self) -> String {
        format!("{:x}", Sha1::digest(&self.bytes))
    }
}

/// XEP-0153: the avatar's hash, or that there is none.
pub(super) fn photo(profile: &Profile) -> Element {
    let hash = profile
        .avatar
        .as_ref()
        .map(Avatar::hash)
        .unwrap_or_default();
    let mut update = element("x", ns::VCARD_UPDATE, &[]);
    update.append_child(text_element("photo", ns::VCARD_UPDATE, &hash));
    update
}

fn vcard(profile: &Profile) -> Element {
    let mut card = element("vCard", ns::VCARD, &[]);
    card.append_child(text_element("FN", ns::VCARD, &profile.name));
    card.append_child(text_element("NICKNAME", ns::VCARD, &profile.name));
    if let Some(avatar) = &profile.avatar {
        let mut photo = element("PHOTO", ns::VCARD, &[]);
        photo.append_child(text_element("TYPE", ns::VCARD, &avatar.media_type));
        photo.append_child(text_element(
            "BINVAL",
            ns::VCARD,
            &STANDARD.encode(&avatar.bytes),
        ));
        card.append_child(photo);
    }
    card
}

/// A PEP item (XEP-0163, 3).
fn publish(node: &str, id: &str, payload: Element) -> Element {
    let mut item = element("item", ns::PUBSUB, &[("id", id)]);
    item.append_child(payload);
    let mut publish = element("publish", ns::PUBSUB, &[("node", node)]);
    publish.append_child(item);
    let mut pubsub = element("pubsub", ns::PUBSUB, &[]);
    pubsub.append_child(publish);
    pubsub
}

fn avatar_items(avatar: &Avatar) -> [Element; 2] {
    let hash = avatar.hash();
    let data = text_element("data", ns::AVATAR_DATA, &STANDARD.encode(&avatar.bytes));
    let length = avatar.bytes.len().to_string();
    let attributes = [
        ("id", hash.as_str()),
        ("bytes", &length),
        ("type", &avatar.media_type),
    ];
    let mut metadata = element("metadata", ns::AVATAR_METADATA, &[]);
    metadata.append_child(element("info", ns::AVATAR_METADATA, &attributes));
    [
        publish(ns::AVATAR_DATA, &hash, data),
        publish(ns::AVATAR_METADATA, &hash, metadata),
    ]
}

impl Account {
    /// Publishes the profile where it has changed since the last time, in a task of its own.
    pub(super) fn publish_profile(&mut self) {
        if self.component {
            return;
        }
        let handle = self.handle.clone();
        let storage = self.storage.clone();
        self.helpers.spawn(async move {
            if let Err(err) = publish_changed(&handle, &storage).await {
                info!("The profile was not published: {err}");
            }
        });
    }
}

async fn publish_changed(handle: &Handle, storage: &Storage) -> Result<(), WireError> {
    let profile = handle.profile();
    let card = vcard(&profile);
    // Of an account's address: another one has published nothing yet.
    let published = format!("{} {}", handle.jid().to_bare(), String::from(&card));
    let digest = Sha1::digest(published).to_vec();
    let known = storage
        .get(PROFILES, handle.id(), "published")
        .await
        .ok()
        .flatten();
    if known.as_ref() == Some(&digest) {
        return Ok(());
    }
    handle.query(None, Request::Set(card)).await?;
    if let Some(avatar) = &profile.avatar {
        for item in avatar_items(avatar) {
            handle.query(None, Request::Set(item)).await?;
        }
    }
    let batch = Batch::new().put(PROFILES, handle.id(), "published", digest);
    if let Err(err) = storage.commit(batch).await {
        warn!("Failed to remember the profile: {err:#}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_avatar_is_named_by_its_hash_everywhere() {
        let avatar = Avatar {
            media_type: "image/png".into(),
            bytes: bytes::Bytes::from_static(b"png"),
        };
        let hash = avatar.hash();
        assert_eq!(hash.len(), 40);
        let [data, metadata] = avatar_items(&avatar).map(|item| String::from(&item));
        assert!(data.contains(&hash) && metadata.contains(&hash));
        let profile = Profile {
            name: "M".into(),
            status: String::new(),
            avatar: Some(avatar),
        };
        assert!(String::from(&photo(&profile)).contains(&hash));
        assert!(String::from(&vcard(&profile)).contains("cG5n"));
    }
}
