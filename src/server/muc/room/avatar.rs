//! XEP-0486: the picture of a room, which its owners set as a vcard-temp, and whose hash everybody may ask for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::Room;
use crate::server::StanzaError;
use crate::server::muc::event::{Effect, Incoming};
use crate::xmpp::element::{child_text, text_element};
use crate::xmpp::ns;

/// The same picture in several formats (XEP-0486, 5.1): so many, and so many bytes together.
const MOST: usize = 4;
const LARGEST: usize = 131_072;

/// The pictures; none: the room has no avatar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Avatar(Vec<Photo>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Photo {
    kind: String,
    /// In base64, as it was given but for white space.
    data: String,
    hash: String,
}

impl Room {
    /// An empty vCard takes the avatar away.
    pub(super) fn set_avatar(
        &mut self,
        incoming: &Incoming,
        vcard: &Element,
        out: &mut Vec<Effect>,
    ) -> Result<(), StanzaError> {
        self.must_own(incoming)?;
        let avatar = Avatar::read(vcard)?;
        if avatar != self.avatar {
            self.avatar = avatar;
            self.persist_avatar(out);
            self.notify(&[104], out);
        }
        Ok(())
    }
}

impl Avatar {
    /// Of a vCard nothing but its pictures is kept.
    fn read(vcard: &Element) -> Result<Self, StanzaError> {
        let photos = vcard
            .children()
            .filter(|child| child.is("PHOTO", ns::VCARD));
        let photos: Vec<Photo> = photos.map(Photo::read).collect::<Result<_, _>>()?;
        let bytes = photos.iter().map(|photo| photo.data.len());
        if photos.len() > MOST || bytes.sum::<usize>() > LARGEST {
            return Err(StanzaError::not_acceptable().text("The picture is too large"));
        }
        Ok(Self(photos))
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// What `muc#roominfo_avatarhash` says.
    pub(super) fn hashes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|photo| photo.hash.as_str())
    }

    pub(super) fn to_vcard(&self) -> Result<Element, StanzaError> {
        if self.is_none() {
            return Err(StanzaError::item_not_found());
        }
        let mut vcard = Element::bare("vCard", ns::VCARD);
        for Photo { kind, data, .. } in &self.0 {
            let mut photo = Element::bare("PHOTO", ns::VCARD);
            photo.append_child(text_element("TYPE", ns::VCARD, kind));
            photo.append_child(text_element("BINVAL", ns::VCARD, data));
            vcard.append_child(photo);
        }
        Ok(vcard)
    }
}

impl Photo {
    fn read(photo: &Element) -> Result<Self, StanzaError> {
        let kind = child_text(photo, "TYPE", ns::VCARD).filter(|kind| !kind.is_empty());
        let kind = kind.unwrap_or_else(|| "image/png".to_owned());
        if !kind.starts_with("image/") || kind.len() > 100 {
            return Err(StanzaError::not_acceptable().text("An avatar is an image"));
        }
        let data = child_text(photo, "BINVAL", ns::VCARD).unwrap_or_default();
        let data: String = data.split_whitespace().collect();
        let bytes = STANDARD.decode(&data);
        let bytes = bytes.ok().filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or_else(StanzaError::bad_request)?;
        Ok(Self {
            kind,
            data,
            hash: hash(&bytes),
        })
    }
}

/// As XEP-0153 has it.
fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(40);
    for byte in Sha1::digest(bytes) {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(photos: &str) -> Result<Avatar, StanzaError> {
        let vcard = format!("<vCard xmlns='vcard-temp'>{photos}</vCard>");
        Avatar::read(&vcard.parse().unwrap())
    }

    #[test]
    fn pictures_are_read_or_refused() {
        let one = "<PHOTO><TYPE>image/png</TYPE><BINVAL>aGVs\nbG8=</BINVAL></PHOTO>";
        let large = "AAAA".repeat(40_000);
        let table = [
            ("none", String::new(), Ok(0)),
            ("one", one.to_owned(), Ok(1)),
            ("two formats", one.repeat(2), Ok(2)),
            ("many", one.repeat(5), Err(StanzaError::not_acceptable())),
            (
                "a large one",
                format!("<PHOTO><BINVAL>{large}</BINVAL></PHOTO>"),
                Err(StanzaError::not_acceptable()),
            ),
            (
                "no image",
                "<PHOTO><TYPE>text/html</TYPE><BINVAL>aGVsbG8=</BINVAL></PHOTO>".to_owned(),
                Err(StanzaError::not_acceptable()),
            ),
            (
                "no base64",
                "<PHOTO><TYPE>image/png</TYPE><BINVAL>?</BINVAL></PHOTO>".to_owned(),
                Err(StanzaError::bad_request()),
            ),
            (
                "nothing in it",
                "<PHOTO><TYPE>image/png</TYPE></PHOTO>".to_owned(),
                Err(StanzaError::bad_request()),
            ),
        ];
        for (name, photos, expected) in table {
            let found = read(&photos).map(|avatar| avatar.0.len());
            let found = found.map_err(|error| error.condition);
            let expected = expected.map_err(|error| error.condition);
            assert_eq!(found, expected, "{name}");
        }
        let avatar = read(one).unwrap();
        let hashes: Vec<&str> = avatar.hashes().collect();
        assert_eq!(hashes, ["aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"]);
    }
}
