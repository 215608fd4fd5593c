//! Hostile clients against everything the server offers: two of them send what [`super::grammar`] makes, while juliet, who
//! sends nothing, has secrets. `PROPTEST_CASES` says how long.

use std::cell::Cell;
use std::sync::{Arc, Once};

use jid::Jid;
use minidom::Element;
use proptest::collection::vec;
use proptest::prelude::*;

use super::grammar;
use crate::server::archive::rooms::RoomArchives;
use crate::server::muc::service::{Policy, Service};
use crate::server::session::settle;
use crate::server::stream::xml;
use crate::server::testing::{self, Client, client, online};
use crate::server::{Host, Server};
use crate::xmpp::element::{child_text, set};
use crate::xmpp::ns;

/// In all that is juliet's alone.
const SECRET: &str = "SECRET";
/// In what she shares with romeo, who is her contact, and not with mercutio.
const SHARED: &str = "FRIENDS";
const JULIET: usize = 0;
const ROOMS: &str = "conference.example.org";

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Panics in handlers are contained; here they are noticed.
fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.set(true);
            before(info);
        }));
    });
    PANICKED.set(false);
}

/// juliet, romeo and mercutio; `None`: has ended.
struct World {
    clients: Vec<Option<Client>>,
}

impl World {
    async fn new() -> Self {
        let server = testing::server(&["juliet", "romeo", "mercutio"]).await;
        let rooms = Service::open(
            Policy {
                locks: false,
                ..Policy::new(ROOMS.parse().unwrap(), "example.org")
            },
            server.storage().clone(),
            Arc::new(RoomArchives::new(server.storage().clone())),
        );
        let rooms: Arc<dyn Host> = Arc::new(rooms.await.unwrap());
        server.set_hosts(vec![(ROOMS.to_owned(), rooms)]);
        let juliet = juliet(&server).await;
        let romeo = online(&server, "romeo/orchard").await;
        let mercutio = client(&server, "mercutio/street").await;
        mercutio
            .send("<presence><priority>1</priority></presence>")
            .await;
        befriend(&juliet, &romeo).await;
        let mut world = Self {
            clients: [juliet, romeo, mercutio].map(Some).into(),
        };
        for (client, nick) in world
            .clients
            .iter()
            .flatten()
            .zip(["juliet", "romeo", "mercutio"])
        {
            let join = format!(
                "<presence to='lobby@{ROOMS}/{nick}'><x xmlns='{}'/></presence>",
                ns::MUC
            );
            client.send(&join).await;
        }
        world.arrived().await;
        world
    }

    /// Everything that has come, by who got it; also what the others are told of those who have ended.
    async fn arrived(&mut self) -> Vec<(usize, Element)> {
        let mut arrived = self.collect().await;
        arrived.extend(self.collect().await);
        arrived
    }

    async fn collect(&mut self) -> Vec<(usize, Element)> {
        let mut arrived = Vec::new();
        for (number, slot) in self.clients.iter_mut().enumerate() {
            let Some(client) = slot else { continue };
            settle(client.session.take_pending()).await;
            while let Ok(mail) = client.mailbox.try_recv() {
                let mut text = Vec::new();
                mail.write(" xmlns='jabber:client'", &mut text);
                let text = String::from_utf8(text).unwrap();
                let written = xml::parse(&text).unwrap_or_else(|| panic!("not to be read: {text}"));
                arrived.push((number, written));
            }
            if client.session.is_ended()
                && let Some(client) = slot.take()
            {
                client.leave().await;
            }
        }
        arrived
    }
}

/// With everything that is nobody's business.
async fn juliet(server: &Server) -> Client {
    let mut juliet = online(server, "juliet/balcony").await;
    let form = |kind: &str, fields: &[(&str, &str)]| {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"))
            .collect();
        let fields = fields.concat();
        format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{kind}</value></field>{fields}</x>"
        )
    };
    let publish = |node: &str, access: &str, text: &str| {
        let options = form(
            "http://jabber.org/protocol/pubsub#publish-options",
            &[
                ("pubsub#access_model", access),
                ("pubsub#persist_items", "true"),
            ],
        );
        format!(
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{node}'><item id='1'><x xmlns='urn:x'>{text}</x></item></publish><publish-options>{options}</publish-options></pubsub>"
        )
    };
    for payload in [
        format!("<query xmlns='jabber:iq:private'><x xmlns='urn:x'>{SECRET}</x></query>"),
        format!(
            "<query xmlns='jabber:iq:roster'><item jid='friend@example.org' name='{SECRET}'/></query>"
        ),
        format!("<block xmlns='urn:xmpp:blocking'><item jid='{SECRET}@example.org'/></block>"),
        publish("secret", "whitelist", SECRET),
        publish("shared", "presence", SHARED),
    ] {
        let answer = juliet.ask("set", "", &payload).await;
        assert_eq!(answer.attr("type"), Some("result"), "{payload}");
    }
    let vault = format!("vault@{ROOMS}");
    juliet
        .send(&format!(
            "<presence to='{vault}/juliet'><x xmlns='{}'/></presence>",
            ns::MUC
        ))
        .await;
    let config = form(
        "http://jabber.org/protocol/muc#roomconfig",
        &[
            ("muc#roomconfig_membersonly", "1"),
            ("muc#roomconfig_passwordprotectedroom", "1"),
            ("muc#roomconfig_roomsecret", SECRET),
            ("muc#roomconfig_publicroom", "0"),
        ],
    );
    let owner = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{config}</query>");
    assert_eq!(
        juliet.ask("set", &vault, &owner).await.attr("type"),
        Some("result")
    );
    for to in [vault.as_str(), "juliet@example.org"] {
        let kind = if to == vault { "groupchat" } else { "chat" };
        juliet
            .send(&format!(
                "<message to='{to}' type='{kind}'><body>{SECRET}</body></message>"
            ))
            .await;
    }
    juliet
}

async fn befriend(juliet: &Client, romeo: &Client) {
    for (from, to) in [(juliet, romeo), (romeo, juliet)] {
        for (one, kind) in [(from, "subscribe"), (to, "subscribed")] {
            let other = if std::ptr::eq(one, from) { to } else { from };
            let jid = other.session.jid().to_bare();
            one.send(&format!("<presence to='{jid}' type='{kind}'/>"))
                .await;
        }
    }
}

/// A stanza on its way, and who has sent it.
struct Sent<'a> {
    by: usize,
    jid: Jid,
    id: Option<String>,
    stanza: &'a Element,
}

impl Sent<'_> {
    fn is_request(&self) -> bool {
        self.stanza.name() == "iq" && matches!(self.stanza.attr("type"), Some("get" | "set"))
    }

    fn judge(&self, arrived: &[(usize, Element)], owners: &[Jid]) -> Result<(), String> {
        for (who, element) in arrived {
            let text = String::from(element);
            let open =
                *who != JULIET && text.contains(SECRET) || *who == 2 && text.contains(SHARED);
            if open {
                return Err(format!("{} was told: {text}", owners[*who]));
            }
            if text.contains("internal-server-error") {
                return Err(format!("a fault of ours: {text}"));
            }
            self.judge_sender(*who, element, owners)
                .map_err(|why| format!("{why}: {text}"))?;
        }
        if PANICKED.get() {
            return Err("a handler panicked".to_owned());
        }
        self.judge_answers(arrived)
    }

    /// Exactly one answer, or the request itself at the client that has to answer it.
    fn judge_answers(&self, arrived: &[(usize, Element)]) -> Result<(), String> {
        let Some(id) = self.id.as_deref() else {
            return Ok(());
        };
        let kind = |element: &Element| element.attr("type").unwrap_or_default().to_owned();
        let is_error = |element: &Element| kind(element) == "error";
        let own = |element: &Element| element.attr("from") == Some(self.jid.as_str());
        let mine = arrived.iter().filter(|(who, element)| {
            *who == self.by && element.attr("id") == Some(id) && !own(element)
        });
        if !self.is_request() {
            // RFC 6120, 8.3.1: an error is not answered by an error.
            let silent = is_error(self.stanza)
                || self.stanza.attr("type") == Some("result") && self.stanza.name() == "iq";
            let errors = mine.filter(|(_, element)| is_error(element)).count();
            let most = usize::from(!silent);
            return (errors <= most)
                .then_some(())
                .ok_or_else(|| format!("{errors} errors in answer"));
        }
        let iq = |element: &Element, kinds: [&str; 2]| {
            element.name() == "iq" && kinds.contains(&kind(element).as_str())
        };
        // Who asks the own resource for something impossible is answered in its name.
        let answers = arrived
            .iter()
            .filter(|(who, element)| *who == self.by && element.attr("id") == Some(id))
            .filter(|(_, element)| iq(element, ["result", "error"]))
            .count();
        let passed_on = arrived.iter().filter(|(_, element)| {
            let by_room = element
                .attr("from")
                .is_some_and(|from| from.contains(ROOMS));
            iq(element, ["get", "set"]) && (element.attr("id") == Some(id) || by_room)
        });
        let passed_on = passed_on.count();
        (answers + passed_on == 1)
            .then_some(())
            .ok_or_else(|| format!("{answers} answers, and passed on {passed_on} times"))
    }

    /// Nobody speaks for another.
    fn judge_sender(&self, who: usize, element: &Element, owners: &[Jid]) -> Result<(), String> {
        let Some(from) = element.attr("from") else {
            // From the own account (RFC 6120, 8.1.2.1).
            return Ok(());
        };
        let from = Jid::new(from).map_err(|err| format!("from: {err}"))?;
        let service = from.domain().as_str() == ROOMS
            || from.node().is_none() && from.domain().as_str() == "example.org";
        let bare = from.to_bare();
        let says = element.name() == "message"
            && child_text(element, "body", ns::JABBER_CLIENT).is_some()
            && element.attr("type") != Some("error");
        if service {
            return Ok(());
        }
        if bare == self.jid.to_bare() {
            // What is relayed is from the full JID; what the account itself says, has no text.
            return (!says || from == self.jid)
                .then_some(())
                .ok_or_else(|| "a bare sender".to_owned());
        }
        if bare == owners[who].to_bare() || who == self.by {
            return (!says)
                .then_some(())
                .ok_or_else(|| "words in another's mouth".to_owned());
        }
        Err("it is from somebody who sent nothing".to_owned())
    }
}

async fn attack(steps: Vec<(bool, bool, Element)>) -> Result<(), TestCaseError> {
    notice_panics();
    let mut world = World::new().await;
    let owners: Vec<Jid> = world
        .clients
        .iter()
        .flatten()
        .map(|client| client.session.jid().clone().into())
        .collect();
    for (number, (second, with_id, mut stanza)) in steps.into_iter().enumerate() {
        let by = 1 + usize::from(second);
        let Some(sender) = &world.clients[by] else {
            continue;
        };
        let id = with_id.then(|| format!("step-{number}"));
        if let Some(id) = &id {
            set(&mut stanza, "id", id);
        }
        let received = sender.server.receive(&sender.session, stanza.clone()).await;
        let sent = Sent {
            by,
            jid: owners[by].clone(),
            id,
            stanza: &stanza,
        };
        let arrived = world.arrived().await;
        let verdict = received
            .map_err(|error| format!("the stream ended: {error:?}"))
            .and_then(|()| sent.judge(&arrived, &owners));
        prop_assert!(
            verdict.is_ok(),
            "{}\nfor {}",
            verdict.unwrap_err(),
            String::from(&stanza)
        );
    }
    Ok(())
}

fn cases() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(48),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_stanza_breaks_a_handler_goes_unanswered_forges_a_sender_or_opens_a_secret(
        steps in vec((any::<bool>(), prop::bool::weighted(0.9), grammar::stanza()), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(attack(steps))?;
    }
}

#[tokio::test]
async fn every_stanza_of_the_grammar_is_well_received_as_it_stands() {
    let steps = grammar::REQUESTS.iter().flat_map(|payload| {
        [
            "",
            "example.org",
            "juliet@example.org",
            "lobby@conference.example.org",
        ]
        .map(|to| {
            let mut stanza = testing::stanza(&format!("<iq type='set'>{payload}</iq>"));
            if !to.is_empty() {
                set(&mut stanza, "to", to);
            }
            (true, true, stanza)
        })
    });
    attack(steps.collect()).await.unwrap();
}
