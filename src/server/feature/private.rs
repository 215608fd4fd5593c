//! XEP-0049: Private XML Storage. Bookmarks in it are those of XEP-0402: one list, whichever way a client looks at it.

use minidom::Element;

use super::super::router::{IqType, Reply, Request, Router, Target};
use super::super::stream::xml;
use super::super::{Server, StanzaError};
use super::bookmarks;
use crate::storage::{Batch, KeyValue};
use crate::xmpp::ns;

/// By account; the key is the namespace and the name of the element.
pub(super) const PRIVATE: KeyValue = KeyValue("private");

const MOST_ELEMENTS: usize = 200;
const MOST_BYTES: usize = 128 * 1_024;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Own, Target::Domain], ns::PRIVATE);
    router.iq(&[Target::Own], IqType::Get, "query", ns::PRIVATE, get)?;
    router.iq(&[Target::Own], IqType::Set, "query", ns::PRIVATE, set)
}

/// No namespace has a line feed that a client could have written as one.
fn key(element: &Element) -> String {
    format!("{}\n{}", element.ns(), element.name())
}

/// What may be stored (XEP-0049, 3): one element or several, of namespaces that are not the server's own.
fn check(element: &Element) -> Result<(), StanzaError> {
    let namespace = element.ns();
    if namespace == ns::PRIVATE || namespace == ns::JABBER_CLIENT || namespace.is_empty() {
        return Err(StanzaError::not_acceptable().text("The element has no namespace of its own"));
    }
    if String::from(element).len() > MOST_BYTES {
        return Err(StanzaError::policy_violation().text("The element is too large"));
    }
    Ok(())
}

async fn get(request: Request) -> Reply {
    let account = request.account()?;
    let mut wanted = request.payload.children();
    let (Some(wanted), None) = (wanted.next(), wanted.next()) else {
        return Err(StanzaError::bad_request().text("One element is asked for at a time"));
    };
    let mut stored = read(&request.server, account.owner(), wanted).await?;
    if wanted.is("storage", ns::BOOKMARKS) {
        bookmarks::collect(&request.server, account.jid(), &mut stored).await?;
    }
    let mut answer = Element::bare("query", ns::PRIVATE);
    answer.append_child(stored);
    Ok(Some(answer))
}

/// What is stored, or an empty element of that name.
async fn read(server: &Server, owner: &str, wanted: &Element) -> Result<Element, StanzaError> {
    let stored = server.storage().get(PRIVATE, owner, &key(wanted)).await?;
    let stored = stored.and_then(|value| xml::parse(&String::from_utf8(value).ok()?));
    Ok(stored.unwrap_or_else(|| Element::bare(wanted.name(), wanted.ns())))
}

async fn set(request: Request) -> Reply {
    let account = request.account()?;
    let elements: Vec<&Element> = request.payload.children().collect();
    if elements.is_empty() {
        return Err(StanzaError::not_acceptable().text("There is nothing to store"));
    }
    let server = &request.server;
    let stored = server.storage().list(PRIVATE, account.owner(), "").await?;
    if stored.len().saturating_add(elements.len()) > MOST_ELEMENTS
        && !elements
            .iter()
            .all(|element| stored.iter().any(|(known, _)| *known == key(element)))
    {
        return Err(StanzaError::policy_violation().text("There are too many elements"));
    }
    let mut batch = Batch::new();
    for element in elements {
        check(element)?;
        let mut kept = element.clone();
        if element.is("storage", ns::BOOKMARKS) {
            bookmarks::replace(server, account.jid(), element).await?;
            kept = bookmarks::remainder(element);
        }
        let value = String::from(&kept).into_bytes();
        batch = batch.put(PRIVATE, account.owner(), &key(element), value);
    }
    server.storage().commit(batch).await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{client, server};
    use super::*;

    #[tokio::test]
    async fn what_is_stored_comes_back() {
        let server = server(&["juliet"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let ask = |inner: &str| format!("<query xmlns='jabber:iq:private'>{inner}</query>");
        let empty = juliet
            .ask("get", "", &ask("<exodus xmlns='exodus:prefs'/>"))
            .await;
        assert_eq!(
            empty
                .children()
                .next()
                .unwrap()
                .children()
                .next()
                .unwrap()
                .name(),
            "exodus"
        );
        let prefs = "<exodus xmlns='exodus:prefs'><nick>Juliet</nick></exodus>";
        let answer = juliet.ask("set", "", &ask(prefs)).await;
        assert_eq!(answer.attr("type"), Some("result"));
        let full = juliet
            .ask("get", "", &ask("<exodus xmlns='exodus:prefs'/>"))
            .await;
        assert!(String::from(&full).contains("Juliet"));
    }

    #[tokio::test]
    async fn what_may_not_be_stored_is_refused() {
        struct Case {
            name: &'static str,
            kind: &'static str,
            inner: String,
        }
        let server = server(&["juliet"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let cases = [
            Case {
                name: "nothing",
                kind: "set",
                inner: String::new(),
            },
            Case {
                name: "no namespace of its own",
                kind: "set",
                inner: "<x/>".to_owned(),
            },
            Case {
                name: "too much",
                kind: "set",
                inner: format!("<x xmlns='urn:x'>{}</x>", "x".repeat(MOST_BYTES)),
            },
            Case {
                name: "two at a time",
                kind: "get",
                inner: "<x xmlns='urn:x'/><y xmlns='urn:x'/>".to_owned(),
            },
        ];
        for case in cases {
            let payload = format!("<query xmlns='jabber:iq:private'>{}</query>", case.inner);
            let answer = juliet.ask(case.kind, "", &payload).await;
            assert_eq!(answer.attr("type"), Some("error"), "{}", case.name);
        }
    }
}
