//! The archive as rooms use it: they decide who may ask and what is kept.

use std::future::ready;

use jid::BareJid;
use minidom::Element;

use super::{Answer, Archives, Asked, ROOMS, request};
use crate::server::StanzaError;
use crate::server::muc::event::Incoming;
use crate::server::muc::history::{Appended, Entry, History, Reply, Spoken};
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
        reveal: bool,
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
        reveal: bool,
    ) -> Result<Vec<Element>, StanzaError> {
        let asked = Asked::read(query)?;
        // XEP-0313, 4.1.1: who may not know the authors may not search for them either.
        let author = asked
            .with
            .as_ref()
            .is_some_and(|with| with.to_bare() != *room);
        if author && !reveal {
            return Err(
                StanzaError::forbidden().text("This room does not tell who its occupants are")
            );
        }
        let Answer { mut results, fin } = self.0.query(room, room.as_str(), &asked).await?;
        for result in &mut results {
            set(result, "to", request.from.as_str());
            if !reveal {
                conceal(result);
            }
        }
        results.push(request.result(Some(fin)));
        Ok(results)
    }
}

/// Takes the author's address out of a result.
fn conceal(result: &mut Element) {
    let message = result
        .get_child_mut("result", ns::MAM)
        .and_then(|result| result.get_child_mut("forwarded", ns::FORWARD))
        .and_then(|forwarded| forwarded.get_child_mut("message", ns::JABBER_CLIENT));
    if let Some(message) = message {
        message.remove_child("x", ns::MUC_USER);
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
        reveal: bool,
    ) -> Reply<'a, Vec<Element>> {
        // A room without a name has no archive.
        if room.node().is_none() {
            return Box::pin(ready(Err(StanzaError::item_not_found())));
        }
        Box::pin(self.answer(room, request, reveal))
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
        let archives = RoomArchives::new(memory());
        let stanza = "<message xmlns='jabber:client' type='groupchat' from='coven@rooms.shakespeare.lit/first'>
            <body>Thrice</body>
            <x xmlns='http://jabber.org/protocol/muc#user'><item jid='hag@shakespeare.lit/broom'/></x></message>";
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
        for reveal in [true, false] {
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
            assert_eq!(xml.contains("hag@shakespeare.lit"), reveal, "{xml}");
            assert!(answers[1].has_child("fin", ns::MAM));
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
            ("hag@shakespeare.lit", true, Some(1)),
            ("hag@shakespeare.lit", false, None),
            ("coven@rooms.shakespeare.lit/first", false, Some(1)),
            ("coven@rooms.shakespeare.lit/second", false, Some(0)),
        ] {
            let answers = archives
                .query(&room(), &asks("set", &with(jid)), reveal)
                .await;
            let results = answers.ok().map(|answers| answers.len() - 1);
            assert_eq!(results, found, "{jid} {reveal}");
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
        archives.forget(&room()).await.unwrap();
        assert!(archives.newest(&room(), 5).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn every_question_has_an_answer() {
        let (archives, _) = said().await;
        let form = archives
            .query(&room(), &asks("get", QUERY), false)
            .await
            .unwrap();
        assert!(form[0].has_child("query", ns::MAM));
        let metadata = "<metadata xmlns='urn:xmpp:mam:2'/>";
        let ends = archives
            .query(&room(), &asks("get", metadata), false)
            .await
            .unwrap();
        assert!(ends[0].has_child("metadata", ns::MAM));
        assert!(
            archives
                .query(&room(), &asks("set", metadata), false)
                .await
                .is_err()
        );
        assert!(
            archives
                .query(&room(), &asks("get", ""), false)
                .await
                .is_err()
        );
    }
}
