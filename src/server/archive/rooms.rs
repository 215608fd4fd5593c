//! The archive as rooms use it: they decide who may ask and what is kept.

use std::collections::BTreeSet;
use std::future::ready;

use jid::BareJid;
use minidom::Element;

use super::{Answer, Archives, Asked, ROOMS, request};
use crate::server::StanzaError;
use crate::server::muc::event::{Incoming, Reveal};
use crate::server::muc::history::{Appended, Entry, HIDDEN, History, Reply, Spoken, tombstone};
use crate::storage::Storage;
use crate::xmpp::element::{element, set};
use crate::xmpp::ns;

/// The archives of all rooms.
pub struct RoomArchives(Archives);

impl RoomArchives {
    pub fn new(storage: Storage) -> Self {
        Self(Archives::new(storage, ROOMS))
    }

    async fn answer(
        &self,
        room: &BareJid,
        request: &Incoming,
        reveal: Reveal,
    ) -> Result<Vec<Element>, StanzaError> {
        let payload = request
            .stanza
            .children()
            .next()
            .ok_or_else(StanzaError::bad_request)?;
        let payload = match (request.kind(), payload.name()) {
            ("get", "query") => request::form(),
            ("get", "metadata") => self.0.metadata(room.as_str()).await?,
            ("set", "query") => return self.page(room, request, payload, reveal).await,
            _ => return Err(StanzaError::bad_request()),
        };
        Ok(vec![request.result(Some(payload))])
    }

    async fn page(
        &self,
        room: &BareJid,
        request: &Incoming,
        query: &Element,
        reveal: Reveal,
    ) -> Result<Vec<Element>, StanzaError> {
        let asked = Asked::read(query)?;
        // XEP-0313, 4.1.1: who may not know the authors may not search for them either.
        let author = asked
            .with
            .as_ref()
            .is_some_and(|with| with.to_bare() != *room);
        if author && reveal != Reveal::Everybody {
            return Err(
                StanzaError::forbidden().text("This room does not tell who its occupants are")
            );
        }
        let Answer { mut results, fin } = self.0.query(room, room.as_str(), &asked).await?;
        for result in &mut results {
            set(result, "to", request.from.as_str());
            tell_author(result, reveal);
        }
        results.push(request.result(Some(fin)));
        Ok(results)
    }
}

/// Leaves the author's address in a result for those alone who may know it.
fn tell_author(result: &mut Element, reveal: Reveal) {
    let message = result
        .get_child_mut("result", ns::MAM)
        .and_then(|result| result.get_child_mut("forwarded", ns::FORWARD))
        .and_then(|forwarded| forwarded.get_child_mut("message", ns::JABBER_CLIENT));
    let Some(message) = message else { return };
    if reveal == Reveal::Nobody {
        message.remove_child("x", ns::MUC_USER);
    }
    let hidden = message.remove_child("x", HIDDEN);
    if let Some(hidden) = hidden.filter(|_| reveal == Reveal::Everybody) {
        let mut x = Element::bare("x", ns::MUC_USER);
        for item in hidden.children() {
            x.append_child(item.clone());
        }
        message.append_child(x);
    }
}

impl History for RoomArchives {
    fn is_archive(&self) -> bool {
        true
    }

    fn append<'a>(&'a self, room: &'a BareJid, spoken: Spoken) -> Reply<'a, Appended> {
        Box::pin(async move {
            let kept = self
                .0
                .keep(room.as_str(), &spoken.author, spoken.at, &spoken.stanza)
                .await?;
            Ok((kept.id, kept.written))
        })
    }

    fn newest<'a>(&'a self, room: &'a BareJid, limit: usize) -> Reply<'a, Vec<Entry>> {
        Box::pin(async move {
            let newest = self.0.newest(room.as_str(), limit).await?;
            let entry = |(id, at, mut stanza): (String, i64, Element)| {
                // For everybody who enters, whoever may know the authors.
                stanza.remove_child("x", ns::MUC_USER);
                stanza.remove_child("x", HIDDEN);
                let attributes = [("id", id.as_str()), ("by", room.as_str())];
                stanza.append_child(element("stanza-id", ns::STANZA_ID, &attributes));
                Entry { at, stanza }
            };
            Ok(newest.into_iter().map(entry).collect())
        })
    }

    fn query<'a>(
        &'a self,
        room: &'a BareJid,
        request: &'a Incoming,
        reveal: Reveal,
    ) -> Reply<'a, Vec<Element>> {
        // A room without a name has no archive.
        if room.node().is_none() {
            return Box::pin(ready(Err(StanzaError::item_not_found())));
        }
        Box::pin(self.answer(room, request, reveal))
    }

    fn retract<'a>(
        &'a self,
        room: &'a BareJid,
        id: &'a str,
        author: Option<&'a str>,
        remains: &'a Element,
    ) -> Reply<'a, bool> {
        Box::pin(async move {
            let stanza = self.0.get(room.as_str(), id).await?;
            let left = stanza.and_then(|stanza| tombstone(&stanza, author, remains));
            let Some(left) = left else {
                return Ok(false);
            };
            self.0.replace(room.as_str(), id, &left).await?;
            Ok(true)
        })
    }

    fn retain<'a>(&'a self, host: &'a BareJid, rooms: &'a BTreeSet<String>) -> Reply<'a, ()> {
        Box::pin(async move {
            for owner in self.0.owners().await? {
                let room = BareJid::new(&owner).ok();
                let node = room
                    .as_ref()
                    .filter(|room| room.domain() == host.domain())
                    .and_then(|room| room.node());
                if node.is_some_and(|node| !rooms.contains(node.as_str())) {
                    self.0.forget(&owner).await?;
                }
            }
            Ok(())
        })
    }

    fn forget<'a>(&'a self, room: &'a BareJid) -> Reply<'a, ()> {
        Box::pin(async move { Ok(self.0.forget(room.as_str()).await?) })
    }
}

#[cfg(test)]
mod tests {
    use jid::Jid;

    use super::*;
    use crate::storage::memory::memory;

    fn room() -> BareJid {
        BareJid::new("coven@rooms.shakespeare.lit").unwrap()
    }

    async fn said() -> (RoomArchives, String) {
        said_where(ns::MUC_USER).await
    }

    /// In a room that tells who people are, or hides it.
    async fn said_where(namespace: &str) -> (RoomArchives, String) {
        let archives = RoomArchives::new(memory());
        let stanza = format!(
            "<message xmlns='jabber:client' type='groupchat' from='coven@rooms.shakespeare.lit/first'>
             <body>Thrice</body><occupant-id xmlns='urn:xmpp:occupant-id:0' id='o1'/>
             <x xmlns='{namespace}'><item xmlns='http://jabber.org/protocol/muc#user' jid='hag@shakespeare.lit/broom'/></x></message>"
        );
        let spoken = Spoken {
            at: 1_000,
            author: BareJid::new("hag@shakespeare.lit").unwrap(),
            stanza: stanza.parse().unwrap(),
        };
        let (id, written) = archives.append(&room(), spoken).await.unwrap();
        written.await.unwrap();
        (archives, id)
    }

    fn asks(kind: &str, payload: &str) -> Incoming {
        let xml = format!(
            "<iq xmlns='jabber:client' type='{kind}' id='1' from='crone@shakespeare.lit/cave' to='{}'>{payload}</iq>",
            room()
        );
        Incoming::read(xml.parse().unwrap()).unwrap()
    }

    const QUERY: &str = "<query xmlns='urn:xmpp:mam:2'/>";

    #[tokio::test]
    async fn the_author_is_told_to_those_alone_who_may_know() {
        let (archives, id) = said().await;
        for reveal in [Reveal::Open, Reveal::Everybody, Reveal::Nobody] {
            let answers = archives
                .query(&room(), &asks("set", QUERY), reveal)
                .await
                .unwrap();
            assert_eq!(answers.len(), 2);
            for answer in &answers {
                assert_eq!(answer.attr("to"), Some("crone@shakespeare.lit/cave"));
                assert_eq!(answer.attr("from"), Some(room().as_str()));
            }
            let result = answers[0].get_child("result", ns::MAM).unwrap();
            assert_eq!(result.attr("id"), Some(id.as_str()));
            let xml = String::from(&answers[0]);
            let told = reveal != Reveal::Nobody;
            assert_eq!(xml.contains("hag@shakespeare.lit"), told, "{xml}");
            assert!(answers[1].has_child("fin", ns::MAM));
        }
    }

    #[tokio::test]
    async fn whom_the_room_hid_is_told_to_moderators_alone() {
        let (archives, _) = said_where(HIDDEN).await;
        for (reveal, told) in [
            (Reveal::Nobody, false),
            (Reveal::Open, false),
            (Reveal::Everybody, true),
        ] {
            let answers = archives.query(&room(), &asks("set", QUERY), reveal).await;
            let xml = String::from(&answers.unwrap()[0]);
            assert_eq!(xml.contains("hag@shakespeare.lit"), told, "{xml}");
            assert_eq!(xml.contains("item"), told, "{xml}");
            assert!(!xml.contains(HIDDEN), "{xml}");
        }
        let newest = archives.newest(&room(), 5).await.unwrap();
        assert!(!String::from(&newest[0].stanza).contains("hag@"));
    }

    #[tokio::test]
    async fn what_is_taken_back_leaves_a_tombstone_in_the_archive() {
        let remains = Element::bare("retracted", ns::RETRACT);
        for (name, author, expected) in [
            ("another author", Some("o2"), false),
            ("the author", Some("o1"), true),
            ("a moderator", None, true),
        ] {
            let (archives, id) = said().await;
            let room = room();
            let done = archives.retract(&room, &id, author, &remains).await;
            assert_eq!(done.unwrap(), expected, "{name}");
            let other = archives.retract(&room, "x", author, &remains).await;
            assert!(!other.unwrap(), "{name}: there is no such message");
            let query = asks("set", QUERY);
            let answers = archives.query(&room, &query, Reveal::Nobody).await.unwrap();
            let xml = String::from(&answers[0]);
            assert_eq!(xml.contains("Thrice"), !expected, "{name}");
            assert_eq!(xml.contains("retracted"), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn authors_are_searched_for_by_those_alone_who_may_know() {
        let (archives, _) = said().await;
        let with = |jid: &str| {
            format!(
                "<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>
                 <field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>
                 <field var='with'><value>{jid}</value></field></x></query>"
            )
        };
        for (jid, reveal, found) in [
            ("hag@shakespeare.lit", Reveal::Everybody, Some(1)),
            ("hag@shakespeare.lit", Reveal::Open, None),
            ("hag@shakespeare.lit", Reveal::Nobody, None),
            ("coven@rooms.shakespeare.lit/first", Reveal::Nobody, Some(1)),
            (
                "coven@rooms.shakespeare.lit/second",
                Reveal::Nobody,
                Some(0),
            ),
        ] {
            let answers = archives
                .query(&room(), &asks("set", &with(jid)), reveal)
                .await;
            let results = answers.ok().map(|answers| answers.len() - 1);
            assert_eq!(results, found, "{jid} {reveal:?}");
        }
    }

    #[tokio::test]
    async fn who_enters_is_told_what_was_said_with_its_id() {
        let (archives, id) = said().await;
        let newest = archives.newest(&room(), 5).await.unwrap();
        assert_eq!(newest.len(), 1);
        assert_eq!(newest[0].at, 1_000);
        let stanza = &newest[0].stanza;
        let from = Jid::new(stanza.attr("from").unwrap()).unwrap();
        assert_eq!(from.resource().unwrap().as_str(), "first");
        assert!(!stanza.has_child("x", ns::MUC_USER));
        let told = stanza.get_child("stanza-id", ns::STANZA_ID).unwrap();
        assert_eq!(told.attr("id"), Some(id.as_str()));
        let host = BareJid::new(room().domain().as_str()).unwrap();
        let others = BareJid::new("rooms.elsewhere.lit").unwrap();
        for (host, rooms, kept) in [
            (&host, BTreeSet::from(["coven".to_owned()]), true),
            (&others, BTreeSet::new(), true),
            (&host, BTreeSet::from(["heath".to_owned()]), false),
        ] {
            archives.retain(host, &rooms).await.unwrap();
            let newest = archives.newest(&room(), 5).await.unwrap();
            assert_eq!(!newest.is_empty(), kept, "{host} {rooms:?}");
        }
    }

    #[tokio::test]
    async fn every_question_has_an_answer() {
        let (archives, _) = said().await;
        let form = archives
            .query(&room(), &asks("get", QUERY), Reveal::Nobody)
            .await
            .unwrap();
        assert!(form[0].has_child("query", ns::MAM));
        let metadata = "<metadata xmlns='urn:xmpp:mam:2'/>";
        let ends = archives
            .query(&room(), &asks("get", metadata), Reveal::Nobody)
            .await
            .unwrap();
        assert!(ends[0].has_child("metadata", ns::MAM));
        assert!(
            archives
                .query(&room(), &asks("set", metadata), Reveal::Nobody)
                .await
                .is_err()
        );
        assert!(
            archives
                .query(&room(), &asks("get", ""), Reveal::Nobody)
                .await
                .is_err()
        );
    }
}
