//! XEP-0280: Message Carbons. Copies a message to the account's other sessions that asked for it.

use std::sync::Arc;

use futures::future::BoxFuture;
use jid::Jid;
use minidom::Element;

use super::super::archive::rules;
use super::super::mail::Mail;
use super::super::passage::{Passage, Side};
use super::super::router::{IqType, OnMessage, Request, Router, Stage, Target, Verdict};
use super::super::session::Session;
use super::super::stanza::{MessageType, Stanza};
use super::super::{Server, StanzaError};
use crate::xmpp::element::{element, set};
use crate::xmpp::ns;

/// What this feature remembers of a session.
struct Enabled(bool);

/// Turns the copies on or off, as by an IQ; also for what negotiates it with the stream (XEP-0386).
pub fn enable(session: &Session, enabled: bool) {
    session.extensions.insert(Enabled(enabled));
}

fn is_enabled(session: &Session) -> bool {
    session
        .extensions
        .get::<Enabled>()
        .is_some_and(|enabled| enabled.0)
}

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Domain, Target::Own], ns::CARBONS);
    for (name, enabled) in [("enable", true), ("disable", false)] {
        router.iq(
            &[Target::Own, Target::Domain],
            IqType::Set,
            name,
            ns::CARBONS,
            move |request: Request| async move {
                // XEP-0280, 4.1: not for those of other servers.
                let session = request.session.ok_or_else(StanzaError::not_allowed)?;
                enable(&session, enabled);
                Ok(None)
            },
        )?;
    }
    router.message(Stage::Filter, Arc::new(NoCopiesOfCopies));
    router.message(Stage::Rewrite, Arc::new(Private));
    router.message(Stage::Observe, Arc::new(Carbons));
    Ok(())
}

/// A copy that its session has not taken is not sent on: the other sessions have their own.
struct NoCopiesOfCopies;

impl OnMessage for NoCopiesOfCopies {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        let own = passage.stanza.from().as_str() == passage.account.jid().as_str();
        let drop = passage.again && own && is_copy(passage.stanza);
        let verdict = if drop {
            Verdict::Drop
        } else {
            Verdict::Continue
        };
        Box::pin(std::future::ready(Ok(verdict)))
    }
}

fn is_copy(message: &Stanza) -> bool {
    message.has("sent", ns::CARBONS) || message.has("received", ns::CARBONS)
}

/// XEP-0280, 9: the wish for no copies ends with the recipient's server.
struct Private;

impl OnMessage for Private {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        passage.private =
            passage.stanza.has("private", ns::CARBONS) || rules::hint(passage.stanza, "no-copy");
        if passage.side == Side::Incoming {
            while passage
                .stanza
                .element_mut()
                .remove_child("private", ns::CARBONS)
                .is_some()
            {}
        }
        Box::pin(std::future::ready(Ok(Verdict::Continue)))
    }
}

struct Carbons;

impl OnMessage for Carbons {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        if reason_to_skip(passage).is_none() {
            copy(passage);
        }
        Box::pin(std::future::ready(Ok(Verdict::Continue)))
    }
}

/// Why a message is not copied; `None` if it is (XEP-0280, 6).
fn reason_to_skip(passage: &Passage<'_>) -> Option<&'static str> {
    if passage.private {
        return Some("its sender wants no copies");
    }
    match passage.side {
        _ if passage.again => return Some("copied when it first came"),
        // What goes to oneself is copied when it arrives.
        Side::Outgoing if to_self(passage) => return Some("copied when it arrives"),
        Side::Incoming if passage.delivered.is_empty() && !passage.stored => {
            return Some("the sender is told that nobody was there");
        }
        Side::Outgoing | Side::Incoming => {}
    }
    reason_by_content(passage.stanza, passage.side)
}

fn to_self(passage: &Passage<'_>) -> bool {
    let to = passage.stanza.to().map(Jid::to_bare);
    to.is_none_or(|to| to == *passage.account.jid())
}

fn reason_by_content(message: &Stanza, side: Side) -> Option<&'static str> {
    if is_copy(message) {
        return Some("a copy");
    }
    // A room sends its private messages to every session that is in it.
    if side == Side::Incoming && rules::is_from_occupant(message) {
        return Some("from an occupant of a room");
    }
    match message.message_type() {
        MessageType::Chat => None,
        MessageType::Normal if rules::has_content(message) => None,
        MessageType::Normal => Some("without content"),
        MessageType::Groupchat => Some("said in a room"),
        MessageType::Headline => Some("a headline"),
        MessageType::Error => Some("an error"),
    }
}

/// To those that asked for copies and neither sent nor got it.
fn copy(passage: &Passage<'_>) {
    let sessions = passage.account.sessions();
    let mut wanting = sessions
        .iter()
        .filter(|session| is_enabled(session))
        .filter(|session| {
            let is = |other: &Arc<Session>| Arc::ptr_eq(session, other);
            !passage.sender.session().is_some_and(is) && !passage.delivered.iter().any(is)
        })
        .peekable();
    if wanting.peek().is_none() {
        return;
    }
    let mail = Mail::for_many(wrap(passage));
    for session in wanting {
        // A full mailbox: the session finds the message in the archive.
        session.try_send(mail.addressed(&Jid::from(session.jid().clone())));
    }
}

/// XEP-0280, 7 and 8.
fn wrap(passage: &Passage<'_>) -> Element {
    let own = passage.account.jid().as_str();
    let mut message = passage.stanza.element().clone();
    let name = match passage.side {
        Side::Incoming => "received",
        Side::Outgoing => {
            // The own devices may know where it is in the own archive; the recipient may not (XEP-0313, 3.4).
            if let Some(archived) = &passage.archived {
                let attributes = [("by", own), ("id", archived.id.as_str())];
                message.append_child(element("stanza-id", ns::STANZA_ID, &attributes));
            }
            "sent"
        }
    };
    let mut forwarded = Element::bare("forwarded", ns::FORWARD);
    forwarded.append_child(message);
    let mut carbon = Element::bare(name, ns::CARBONS);
    carbon.append_child(forwarded);
    let mut wrapping = element("message", ns::JABBER_CLIENT, &[("from", own)]);
    if let Some(kind) = passage.stanza.element().attr("type") {
        set(&mut wrapping, "type", kind);
    }
    wrapping.append_child(carbon);
    wrapping
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::{Client, client, online, server};

    async fn enabled(server: &Server, jid: &str) -> Client {
        let mut client = online(server, jid).await;
        let answer = client
            .ask("set", "", "<enable xmlns='urn:xmpp:carbons:2'/>")
            .await;
        assert_eq!(answer.attr("type"), Some("result"));
        client
    }

    /// `sent` or `received`, and the message in it.
    fn unwrap<'a>(copy: &'a Element, own: &str) -> (&'a str, &'a Element) {
        assert_eq!(copy.attr("from"), Some(own));
        let carbon = copy.children().next().unwrap();
        assert!(carbon.has_ns(ns::CARBONS));
        let forwarded = carbon.get_child("forwarded", ns::FORWARD).unwrap();
        (carbon.name(), forwarded.children().next().unwrap())
    }

    #[test]
    fn what_is_copied_follows_the_rules_of_xep_0280() {
        const MUC: &str = "<x xmlns='http://jabber.org/protocol/muc#user'/>";
        const INVITE: &str =
            "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>";
        struct Row {
            name: &'static str,
            kind: &'static str,
            payload: String,
            sent: bool,
            received: bool,
        }
        let row = |name, kind, payload: &str, sent, received| Row {
            name,
            kind,
            payload: payload.to_owned(),
            sent,
            received,
        };
        let table = [
            row("chat", "chat", "<body>x</body>", true, true),
            row(
                "a chat state",
                "chat",
                "<active xmlns='http://jabber.org/protocol/chatstates'/>",
                true,
                true,
            ),
            row("normal with a body", "normal", "<body>x</body>", true, true),
            row("no type", "", "<body>x</body>", true, true),
            row(
                "normal without a body",
                "normal",
                "<x xmlns='urn:x'/>",
                false,
                false,
            ),
            row(
                "a marker",
                "normal",
                "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
                true,
                true,
            ),
            row("a headline", "headline", "<body>x</body>", false, false),
            row("an error", "error", "<body>x</body>", false, false),
            row("in a room", "groupchat", "<body>x</body>", false, false),
            row(
                "with an occupant",
                "chat",
                &format!("<body>x</body>{MUC}"),
                true,
                false,
            ),
            row(
                "an invitation",
                "normal",
                &format!("<body>x</body>{INVITE}"),
                true,
                true,
            ),
            row(
                "a copy",
                "chat",
                "<received xmlns='urn:xmpp:carbons:2'/>",
                false,
                false,
            ),
        ];
        for row in table {
            let xml = format!(
                "<message xmlns='jabber:client' type='{}'>{}</message>",
                row.kind, row.payload
            );
            let from = Jid::new("romeo@example.org/orchard").unwrap();
            let message = Stanza::new(from, None, xml.parse().unwrap()).unwrap();
            for (side, copied) in [(Side::Outgoing, row.sent), (Side::Incoming, row.received)] {
                let reason = reason_by_content(&message, side);
                assert_eq!(
                    reason.is_none(),
                    copied,
                    "{} {side:?}: {reason:?}",
                    row.name
                );
            }
        }
    }

    #[tokio::test]
    async fn the_other_sessions_of_both_get_copies() {
        let server = server(&["romeo", "juliet"]).await;
        let mut orchard = enabled(&server, "romeo/orchard").await;
        let mut home = enabled(&server, "romeo/home").await;
        let mut plain = online(&server, "romeo/plain").await;
        let mut balcony = enabled(&server, "juliet/balcony").await;
        let mut chamber = enabled(&server, "juliet/chamber").await;
        for client in [
            &mut orchard,
            &mut home,
            &mut plain,
            &mut balcony,
            &mut chamber,
        ] {
            client.drain();
        }
        orchard
            .send("<message to='juliet@example.org/balcony' type='chat' id='1'><body>hi</body></message>")
            .await;
        assert!(orchard.drain().is_empty());
        assert!(plain.drain().is_empty());
        let copy = home.next().await;
        assert_eq!(copy.attr("to"), Some("romeo@example.org/home"));
        assert_eq!(copy.attr("type"), Some("chat"));
        let (kind, sent) = unwrap(&copy, "romeo@example.org");
        assert_eq!((kind, sent.attr("id")), ("sent", Some("1")));
        let stanza_id = sent.get_child("stanza-id", ns::STANZA_ID).unwrap();
        assert_eq!(stanza_id.attr("by"), Some("romeo@example.org"));
        let original = balcony.next().await;
        assert_eq!(original.attr("from"), Some("romeo@example.org/orchard"));
        let copy = chamber.next().await;
        let (kind, received) = unwrap(&copy, "juliet@example.org");
        assert_eq!(kind, "received");
        assert_eq!(*received, original);
        assert!(balcony.drain().is_empty() && chamber.drain().is_empty());
    }

    #[tokio::test]
    async fn a_private_message_is_not_copied_and_the_wish_is_not_passed_on() {
        let server = server(&["romeo", "juliet"]).await;
        let orchard = enabled(&server, "romeo/orchard").await;
        let mut home = enabled(&server, "romeo/home").await;
        let mut balcony = enabled(&server, "juliet/balcony").await;
        let mut chamber = enabled(&server, "juliet/chamber").await;
        for wish in [
            "<private xmlns='urn:xmpp:carbons:2'/>",
            "<no-copy xmlns='urn:xmpp:hints'/>",
        ] {
            for client in [&mut home, &mut balcony, &mut chamber] {
                client.drain();
            }
            orchard
                .send(&format!(
                    "<message to='juliet@example.org/balcony' type='chat'><body>hi</body>{wish}</message>"
                ))
                .await;
            let original = balcony.next().await;
            assert!(!original.has_child("private", ns::CARBONS));
            assert!(
                home.drain().is_empty() && chamber.drain().is_empty(),
                "{wish}"
            );
        }
    }

    #[tokio::test]
    async fn a_message_to_oneself_comes_once_to_each() {
        let server = server(&["romeo"]).await;
        let orchard = enabled(&server, "romeo/orchard").await;
        let mut home = enabled(&server, "romeo/home").await;
        let mut garden = enabled(&server, "romeo/garden").await;
        home.drain();
        garden.drain();
        orchard
            .send("<message to='romeo@example.org/home' type='chat'><body>note</body></message>")
            .await;
        assert_eq!(home.drain().len(), 1);
        assert_eq!(garden.drain().len(), 1);
    }

    #[tokio::test]
    async fn copies_end_when_they_are_no_longer_wanted() {
        let server = server(&["romeo", "juliet"]).await;
        let orchard = client(&server, "romeo/orchard").await;
        let mut home = enabled(&server, "romeo/home").await;
        for _ in 0..2 {
            let answer = home
                .ask("set", "", "<disable xmlns='urn:xmpp:carbons:2'/>")
                .await;
            assert_eq!(answer.attr("type"), Some("result"));
        }
        orchard
            .send("<message to='juliet@example.org' type='chat'><body>hi</body></message>")
            .await;
        assert!(home.drain().is_empty());
    }

    #[tokio::test]
    async fn a_copy_that_was_not_taken_is_not_sent_on() {
        let server = server(&["romeo", "juliet"]).await;
        let orchard = online(&server, "romeo/orchard").await;
        let mut home = enabled(&server, "romeo/home").await;
        let mut garden = online(&server, "romeo/garden").await;
        home.drain();
        orchard
            .send("<message to='juliet@example.org' type='chat'><body>hi</body></message>")
            .await;
        garden.drain();
        home.leave().await;
        let messages = garden
            .drain()
            .into_iter()
            .filter(|stanza| stanza.name() == "message");
        assert_eq!(messages.count(), 0);
    }
}
