//! XEP-0054: vcard-temp, and XEP-0292: vCard4 in a personal node; what is set as one is seen as the other. The photo is the
//! avatar (`avatar.rs`).

mod convert;

use jid::BareJid;
use minidom::Element;

use super::super::pubsub::access::may_read;
use super::super::pubsub::request::Request as Asked;
use super::super::router::{IqType, Reply, Request, Router, Target};
use super::super::stream::xml;
use super::super::{Server, StanzaError};
use super::{avatar, pep};
use crate::storage::{Batch, KeyValue};
use crate::xmpp::ns;

/// By account; one key.
pub(super) const VCARD: KeyValue = KeyValue("vcard");
const KEY: &str = "vcard-temp";

/// The item of the node.
const CURRENT: &str = "current";

const MOST_BYTES: usize = 512 * 1_024;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Own, Target::Other], ns::VCARD);
    router.disco(&[Target::Own, Target::Other], ns::VCARD4);
    let targets = [Target::Own, Target::Other];
    router.iq(&targets, IqType::Get, "vCard", ns::VCARD, get)?;
    router.iq(&[Target::Own], IqType::Set, "vCard", ns::VCARD, set)
}

fn owner(account: &BareJid) -> &str {
    account.node().map_or("", |node| node.as_str())
}

/// The stored vcard-temp, empty where there is none.
pub(super) async fn read(server: &Server, account: &BareJid) -> Result<Element, StanzaError> {
    let stored = server.storage().get(VCARD, owner(account), KEY).await?;
    let stored = stored.and_then(|value| xml::parse(&String::from_utf8(value).ok()?));
    Ok(stored.unwrap_or_else(|| Element::bare("vCard", ns::VCARD)))
}

pub(super) async fn write(
    server: &Server,
    account: &BareJid,
    vcard: &Element,
) -> Result<(), StanzaError> {
    let value = String::from(vcard).into_bytes();
    let batch = Batch::new().put(VCARD, owner(account), KEY, value);
    server.storage().commit(batch).await?;
    Ok(())
}

async fn get(request: Request) -> Reply {
    let account = request.to.to_bare();
    let mut vcard = read(&request.server, &account).await?;
    if request.target == Target::Other {
        if !may_see_text(&request, &account).await? {
            let photo = vcard.get_child("PHOTO", ns::VCARD).cloned();
            vcard = Element::bare("vCard", ns::VCARD);
            if let Some(photo) = photo {
                vcard.append_child(photo);
            }
        }
        if vcard.children().next().is_none() {
            // As where there is nobody of that name (XEP-0054, 3.3).
            return Err(StanzaError::service_unavailable());
        }
    }
    Ok(Some(vcard))
}

/// vcard-temp has no access control: everybody sees it, unless the user has narrowed the access to the vCard4.
async fn may_see_text(request: &Request, account: &BareJid) -> Result<bool, StanzaError> {
    let engine = pep::engine(&request.server)?;
    let Some(record) = engine.record(account, ns::VCARD4_NODE).await? else {
        return Ok(true);
    };
    let asker = request.from.to_bare();
    let relation = pep::relation(&request.server, account, &asker).await?;
    Ok(may_read(&record, &relation, &asker).is_ok())
}

async fn set(request: Request) -> Reply {
    let account = request.account()?.jid();
    let vcard = &request.payload;
    if String::from(vcard).len() > MOST_BYTES {
        return Err(StanzaError::policy_violation().text("The vCard is too large"));
    }
    let server = &request.server;
    write(server, account, vcard).await?;
    let card = convert::to_four(vcard);
    let newest = pep::engine(server)?
        .newest(account, ns::VCARD4_NODE)
        .await?;
    let is_known = newest.and_then(|item| item.element()).as_ref() == Some(&card);
    if !is_known && card.children().next().is_some() {
        pep::publish_open(server, account, ns::VCARD4_NODE, CURRENT, card).await?;
    }
    avatar::from_vcard(server, account, vcard).await?;
    Ok(None)
}

/// A vCard4 was published: the vcard-temp says the same, and keeps its photo.
pub(super) async fn after(
    server: &Server,
    service: &BareJid,
    asked: &Asked,
) -> Result<(), StanzaError> {
    if asked.node() != Some(ns::VCARD4_NODE) || !matches!(asked, Asked::Publish { .. }) {
        return Ok(());
    }
    let newest = pep::engine(server)?
        .newest(service, ns::VCARD4_NODE)
        .await?;
    let card = newest.and_then(|item| item.element());
    let Some(card) = card.filter(|card| card.is("vcard", ns::VCARD4)) else {
        return Ok(());
    };
    let mut vcard = convert::to_temp(&card);
    let before = read(server, service).await?;
    if let Some(photo) = before.get_child("PHOTO", ns::VCARD) {
        vcard.append_child(photo.clone());
    }
    write(server, service, &vcard).await
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{client, server};

    const GET: &str = "<vCard xmlns='vcard-temp'/>";
    const GET_FOUR: &str = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:vcard4'/></pubsub>";

    #[tokio::test]
    async fn one_vcard_is_seen_as_both() {
        let server = server(&["juliet", "romeo"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let mut romeo = client(&server, "romeo/orchard").await;
        let nothing = romeo.ask("get", "juliet@example.org", GET).await;
        assert_eq!(nothing.attr("type"), Some("error"));
        assert_eq!(
            juliet.ask("get", "", GET).await.attr("type"),
            Some("result")
        );
        juliet
            .ask(
                "set",
                "",
                "<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>",
            )
            .await;
        for (ask, to) in [
            (GET, "juliet@example.org"),
            (GET_FOUR, "juliet@example.org"),
        ] {
            assert!(
                String::from(&romeo.ask("get", to, ask).await).contains("Juliet"),
                "{ask}"
            );
        }
        let four = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:vcard4'><item id='current'><vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'><fn><text>J. Capulet</text></fn></vcard></item></publish></pubsub>";
        juliet.ask("set", "", four).await;
        assert!(
            String::from(&romeo.ask("get", "juliet@example.org", GET).await).contains("J. Capulet")
        );
    }

    #[tokio::test]
    async fn a_vcard4_for_contacts_is_not_shown_to_strangers_as_a_vcard() {
        let server = server(&["juliet", "romeo"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let mut romeo = client(&server, "romeo/orchard").await;
        let four = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:vcard4'><item id='current'><vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'><fn><text>Juliet</text></fn></vcard></item></publish></pubsub>";
        juliet.ask("set", "", four).await;
        assert!(String::from(&juliet.ask("get", "", GET).await).contains("Juliet"));
        let answer = romeo.ask("get", "juliet@example.org", GET).await;
        assert_eq!(answer.attr("type"), Some("error"));
    }
}
