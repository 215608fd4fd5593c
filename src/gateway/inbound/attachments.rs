//! The files that come with a message (XEP-0447, XEP-0066, `aesgcm:`).

use minidom::Element;

use crate::gateway::Attachment;
use crate::xmpp::element::child_text;
use crate::xmpp::ns;

/// At most so many files of one message are looked at.
const MAX_ATTACHMENTS: usize = 10;

/// Files by XEP-0447, XEP-0066 and `aesgcm:`; the body loses what only repeats their links.
pub(super) fn read(payloads: &[Element], body: &str) -> (String, Vec<Attachment>) {
    let mut found: Vec<Attachment> = Vec::new();
    for sharing in payloads
        .iter()
        .filter(|p| p.is("file-sharing", ns::FILE_SHARING))
    {
        let file = sharing.get_child("file", ns::FILE_METADATA);
        let url = sharing
            .get_child("sources", ns::FILE_SHARING)
            .and_then(|sources| sources.get_child("url-data", ns::URL_DATA))
            .and_then(|data| data.attr("target"));
        if let Some(url) = url {
            found.push(Attachment {
                url: url.into(),
                name: file.and_then(|file| child_text(file, "name", ns::FILE_METADATA)),
                media_type: file.and_then(|file| child_text(file, "media-type", ns::FILE_METADATA)),
            });
        }
    }
    let mut add = |url: &str| {
        let url = url.trim();
        if !url.is_empty() && !found.iter().any(|attachment| attachment.url == url) {
            found.push(Attachment {
                url: url.into(),
                name: None,
                media_type: None,
            });
        }
    };
    for oob in payloads.iter().filter(|p| p.is("x", ns::OOB)) {
        if let Some(url) = child_text(oob, "url", ns::OOB) {
            add(&url);
        }
    }
    for line in body
        .lines()
        .filter(|line| line.trim().starts_with("aesgcm://"))
    {
        add(line);
    }
    found.truncate(MAX_ATTACHMENTS);
    let rest = body
        .lines()
        .filter(|line| !found.iter().any(|attachment| attachment.url == line.trim()))
        .collect::<Vec<_>>()
        .join("\n");
    (rest, found)
}
