//! A bookmark as XEP-0402 has it, and as XEP-0048 had it.

use jid::Jid;
use minidom::Element;

use super::super::super::pubsub::config::boolean;
use crate::xmpp::element::{child_text, set, text_element};
use crate::xmpp::ns;

/// A room, by its JID.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bookmark {
    pub(super) jid: String,
    /// `<conference/>` of XEP-0402.
    pub(super) conference: Element,
}

/// What both forms have.
fn copy(from: &Element, to: &mut Element) {
    if let Some(name) = from.attr("name") {
        set(to, "name", name);
    }
    if let Some(autojoin) = from.attr("autojoin").and_then(boolean) {
        set(to, "autojoin", if autojoin { "true" } else { "false" });
    }
    let (from_namespace, to_namespace) = (from.ns(), to.ns());
    for name in ["nick", "password"] {
        if let Some(text) = child_text(from, name, &from_namespace) {
            to.append_child(text_element(name, &to_namespace, &text));
        }
    }
}

/// The old form, which has the JID inside.
pub(super) fn to_old(bookmark: &Bookmark) -> Element {
    let mut conference = Element::bare("conference", ns::BOOKMARKS);
    set(&mut conference, "jid", &bookmark.jid);
    copy(&bookmark.conference, &mut conference);
    conference
}

/// The rooms of an old `<storage/>`, each once. The extensions that only the new form has are kept from before.
pub(super) fn from_old(storage: &Element, before: &[Bookmark]) -> Vec<Bookmark> {
    let mut bookmarks: Vec<Bookmark> = Vec::new();
    for old in storage
        .children()
        .filter(|child| child.is("conference", ns::BOOKMARKS))
    {
        let Some(jid) = old.attr("jid").and_then(|jid| Jid::new(jid).ok()) else {
            continue;
        };
        let jid = jid.into_bare().to_string();
        if bookmarks.iter().any(|known| known.jid == jid) {
            continue;
        }
        let mut conference = Element::bare("conference", ns::BOOKMARKS2);
        copy(old, &mut conference);
        let known = before.iter().find(|known| known.jid == jid);
        let extensions =
            known.and_then(|known| known.conference.get_child("extensions", ns::BOOKMARKS2));
        if let Some(extensions) = extensions {
            conference.append_child(extensions.clone());
        }
        bookmarks.push(Bookmark { jid, conference });
    }
    bookmarks
}

/// What makes one list another.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) published: Vec<Bookmark>,
    pub(super) retracted: Vec<String>,
}

pub(super) fn changes(before: &[Bookmark], wanted: Vec<Bookmark>) -> Changes {
    let retracted = before
        .iter()
        .map(|known| known.jid.clone())
        .filter(|jid| wanted.iter().all(|bookmark| bookmark.jid != *jid))
        .collect();
    let is_known = |bookmark: &Bookmark| before.iter().any(|known| same(known, bookmark));
    Changes {
        published: wanted.into_iter().filter(|one| !is_known(one)).collect(),
        retracted,
    }
}

/// Whether two say the same, however they write it.
fn same(one: &Bookmark, other: &Bookmark) -> bool {
    let autojoin = |bookmark: &Bookmark| {
        let autojoin = bookmark.conference.attr("autojoin").and_then(boolean);
        autojoin.unwrap_or(false)
    };
    let text = |bookmark: &Bookmark, name| child_text(&bookmark.conference, name, ns::BOOKMARKS2);
    one.jid == other.jid
        && autojoin(one) == autojoin(other)
        && one.conference.attr("name") == other.conference.attr("name")
        && text(one, "nick") == text(other, "nick")
        && text(one, "password") == text(other, "password")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(jid: &str, xml: &str) -> Bookmark {
        Bookmark {
            jid: jid.to_owned(),
            conference: format!("<conference xmlns='urn:xmpp:bookmarks:1' {xml}")
                .parse()
                .unwrap(),
        }
    }

    fn storage(inner: &str) -> Element {
        format!("<storage xmlns='storage:bookmarks'>{inner}</storage>")
            .parse()
            .unwrap()
    }

    #[test]
    fn a_bookmark_is_the_same_there_and_back() {
        struct Case {
            name: &'static str,
            bookmark: Bookmark,
            old: &'static str,
        }
        let cases = [
            Case {
                name: "all of it",
                bookmark: new(
                    "a@muc.example",
                    "name='A' autojoin='1'><nick>n</nick><password>p</password></conference>",
                ),
                old: "<conference jid='a@muc.example' name='A' autojoin='true'><nick>n</nick><password>p</password></conference>",
            },
            Case {
                name: "as little as there may be",
                bookmark: new("a@muc.example", "/>"),
                old: "<conference jid='a@muc.example'/>",
            },
            Case {
                name: "an autojoin that is none",
                bookmark: new("a@muc.example", "autojoin='perhaps'/>"),
                old: "<conference jid='a@muc.example'/>",
            },
        ];
        for case in cases {
            let old = to_old(&case.bookmark);
            let expected = storage(case.old);
            assert_eq!(Some(&old), expected.children().next(), "{}", case.name);
            let back = from_old(&expected, &[]);
            assert!(same(&back[0], &case.bookmark), "{}", case.name);
        }
    }

    #[test]
    fn only_what_changes_is_published() {
        let before = [
            new("a@muc.example", "name='A' autojoin='1'/>"),
            new(
                "b@muc.example",
                "name='B'><extensions><x xmlns='urn:x'/></extensions></conference>",
            ),
            new("c@muc.example", "/>"),
        ];
        let wanted = storage(
            "<conference jid='a@muc.example' name='A' autojoin='true'/>\
             <conference jid='B@muc.example/nick' name='Bee'/><conference jid='b@muc.example'/>\
             <conference jid='d@muc.example'/><conference/><conference jid='@'/><url url='http://x'/>",
        );
        let changes = changes(&before, from_old(&wanted, &before));
        let published: Vec<&str> = changes
            .published
            .iter()
            .map(|one| one.jid.as_str())
            .collect();
        assert_eq!(published, ["b@muc.example", "d@muc.example"]);
        assert_eq!(changes.retracted, ["c@muc.example"]);
        // What the old form cannot say is not lost.
        assert!(
            changes.published[0]
                .conference
                .has_child("extensions", ns::BOOKMARKS2)
        );
    }
}
