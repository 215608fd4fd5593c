//! A phone, an app server, and somebody who writes.

use std::time::Duration;

use jid::NodePart;
use tokio::task::JoinSet;

use super::*;
use crate::config::PushSummary;
use crate::runtime::Stop;
use crate::server::archive::rooms::RoomArchives;
use crate::server::muc::service::{Policy, Service};
use crate::server::testing::{self, Client, client, online};
use crate::server::{Host, Settings};

/// The app server is a client: where it is does not matter.
const APP: &str = "app@example.org/server";

struct Scene {
    server: Server,
    app: Client,
    romeo: Client,
    _task: JoinSet<anyhow::Result<()>>,
}

async fn scene(told: PushSummary) -> Scene {
    let mut settings = Settings::new("example.org");
    settings.push_summary = told;
    let server = testing::with(settings, &["juliet", "romeo", "app"]).await;
    let mut task = JoinSet::new();
    task.spawn(maintain(server.clone(), Stop::new()));
    Scene {
        app: online(&server, "app/server").await,
        romeo: online(&server, "romeo/orchard").await,
        server,
        _task: task,
    }
}

/// As long as a conversation is quiet. Time stands still for no store, which is on threads of its own.
async fn later() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(5)).await;
    tokio::time::resume();
}

/// What an app server is told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    node: String,
    count: String,
    sender: Option<String>,
    body: String,
    secret: Option<String>,
}

impl Scene {
    /// A phone that has enabled its node.
    async fn phone(&self, node: &str) -> Client {
        let mut phone = online(&self.server, "juliet/phone").await;
        let options = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>\
            http://jabber.org/protocol/pubsub#publish-options</value></field>\
            <field var='secret'><value>s3cret</value></field></x>";
        let enable =
            format!("<enable xmlns='urn:xmpp:push:0' jid='{APP}' node='{node}'>{options}</enable>");
        let answer = phone.ask("set", "", &enable).await;
        assert_eq!(
            answer.attr("type"),
            Some("result"),
            "{}",
            String::from(&answer)
        );
        phone
    }

    async fn say(&self, text: &str) {
        let message =
            format!("<message to='juliet@example.org' type='chat'><body>{text}</body></message>");
        self.romeo.send(&message).await;
    }

    /// The next notification, which is answered so.
    async fn told(&mut self, answer: &str) -> Told {
        let iq = self.app.next().await;
        assert_eq!(iq.attr("from"), Some("juliet@example.org"));
        let id = iq.attr("id").unwrap();
        let reply = format!("<iq to='juliet@example.org' id='{id}' {answer}");
        self.app.send(&reply).await;
        let pubsub = iq.get_child("pubsub", ns::PUBSUB).unwrap();
        let publish = pubsub.get_child("publish", ns::PUBSUB).unwrap();
        let notification = publish
            .children()
            .next()
            .unwrap()
            .children()
            .next()
            .unwrap();
        let filled = |element: &Element| {
            let form = crate::xmpp::form::find(element).unwrap();
            crate::xmpp::form::Filled::read(form).unwrap()
        };
        let form = filled(notification);
        assert_eq!(form.form_type(), Some(ns::PUSH_SUMMARY));
        let value = |name| form.value(name).map(str::to_owned);
        let options = pubsub.get_child("publish-options", ns::PUBSUB);
        Told {
            node: publish.attr("node").unwrap_or_default().to_owned(),
            count: value("message-count").unwrap(),
            sender: value("last-message-sender"),
            body: value("last-message-body").unwrap(),
            secret: options.and_then(|options| filled(options).value("secret").map(str::to_owned)),
        }
    }

    async fn count(&mut self) -> String {
        self.told("type='result'/>").await.count
    }

    /// Nothing comes, however long the task has.
    async fn nothing(&mut self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let came = self.app.drain();
        assert!(came.is_empty(), "{came:?}");
    }
}

#[tokio::test]
async fn a_device_that_has_gone_is_woken_once_until_it_comes() {
    let mut scene = scene(PushSummary::None).await;
    let phone = scene.phone("n").await;
    scene.say("You are here").await;
    scene.nothing().await;
    phone.leave().await;
    scene.say("Are you there?").await;
    let told = scene.told("type='result'/>").await;
    let expected = Told {
        node: "n".into(),
        count: "1".into(),
        sender: None,
        body: "New message".into(),
        secret: Some("s3cret".into()),
    };
    assert_eq!(told, expected);
    scene.say("Hello?").await;
    scene.nothing().await;
    scene.phone("n").await.leave().await;
    scene.say("There you are").await;
    assert_eq!(scene.count().await, "1");
}

#[tokio::test]
async fn a_session_that_waits_or_that_nobody_looks_at_is_woken_too() {
    let mut scene = scene(PushSummary::None).await;
    let phone = scene.phone("n").await;
    for away in [Session::set_parked, Session::set_inactive] {
        away(&phone.session, true);
        scene.say("One").await;
        assert_eq!(scene.count().await, "1");
        scene.say("Two").await;
        scene.nothing().await;
        away(&phone.session, false);
        scene.say("Here").await;
        scene.nothing().await;
    }
}

#[tokio::test]
async fn a_computer_that_is_there_does_not_keep_the_phone_asleep() {
    let mut scene = scene(PushSummary::None).await;
    let phone = scene.phone("n").await;
    let computer = online(&scene.server, "juliet/computer").await;
    phone.leave().await;
    scene.say("One").await;
    assert_eq!(scene.count().await, "1");
    // Read there, it is done with.
    computer
        .send("<message to='romeo@example.org' type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='1'/></message>")
        .await;
    scene.say("Two").await;
    assert_eq!(scene.count().await, "2");
    computer
        .send("<message to='romeo@example.org' type='chat'><body>Hi</body></message>")
        .await;
    scene.say("Three").await;
    assert_eq!(scene.count().await, "3");
}

#[tokio::test]
async fn corrections_and_states_wake_nobody() {
    let mut scene = scene(PushSummary::Body).await;
    scene.phone("n").await.leave().await;
    for content in [
        "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
        "<received xmlns='urn:xmpp:receipts' id='1'/>",
        "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
        "<body>It grows</body><replace xmlns='urn:xmpp:message-correct:0' id='1'/>",
    ] {
        let message = format!("<message to='juliet@example.org' type='chat'>{content}</message>");
        scene.romeo.send(&message).await;
    }
    scene.say("New").await;
    let told = scene.told("type='result'/>").await;
    assert_eq!((told.count.as_str(), told.body.as_str()), ("1", "New"));
    assert_eq!(told.sender.as_deref(), Some("romeo@example.org/orchard"));
}

#[tokio::test]
async fn a_notification_that_was_lost_is_made_up_for_in_minutes() {
    let mut scene = scene(PushSummary::None).await;
    scene.phone("n").await.leave().await;
    scene.say("One").await;
    assert_eq!(scene.count().await, "1");
    later().await;
    scene.say("Two").await;
    assert_eq!(scene.count().await, "2");
}

#[tokio::test]
async fn a_service_that_refuses_is_not_asked_again_and_one_that_is_busy_is() {
    let busy = "type='error'><error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
    let gone = "type='error'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
    let mut scene = scene(PushSummary::None).await;
    scene.phone("n").await.leave().await;
    for round in 0..device::FAILURES {
        scene.say("Hello?").await;
        assert_eq!(scene.told(busy).await.node, "n", "{round}");
        later().await;
    }
    scene.say("Hello?").await;
    scene.nothing().await;
    scene.phone("m").await.leave().await;
    scene.say("Hello?").await;
    assert_eq!(scene.told(gone).await.node, "m");
    later().await;
    scene.say("Hello?").await;
    scene.nothing().await;
    let stored = scene
        .server
        .storage()
        .list(PUSH, "juliet", "")
        .await
        .unwrap();
    assert!(stored.is_empty(), "{stored:?}");
}

#[tokio::test]
async fn nobody_else_ends_a_registration() {
    let mut scene = scene(PushSummary::None).await;
    scene.phone("n").await.leave().await;
    scene.say("One").await;
    let iq = scene.app.next().await;
    let refusal = format!(
        "<iq to='juliet@example.org' id='{}' type='error'/>",
        iq.attr("id").unwrap()
    );
    scene.romeo.send(&refusal).await;
    let stored = scene
        .server
        .storage()
        .list(PUSH, "juliet", "")
        .await
        .unwrap();
    assert_eq!(stored.len(), 1);
}

#[tokio::test]
async fn registrations_are_kept_until_they_are_ended_or_their_account_is() {
    let mut scene = scene(PushSummary::None).await;
    let mut phone = scene.phone("n").await;
    for node in ["m", "o"] {
        let enable = format!("<enable xmlns='urn:xmpp:push:0' jid='{APP}' node='{node}'/>");
        phone.ask("set", "juliet@example.org", &enable).await;
    }
    let nodes = async |scene: &Scene| -> Vec<String> {
        let stored = scene
            .server
            .storage()
            .list(PUSH, "juliet", "")
            .await
            .unwrap();
        stored
            .into_iter()
            .map(|(key, _)| key.rsplit(' ').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(nodes(&scene).await, ["m", "n", "o"]);
    let disable = format!("<disable xmlns='urn:xmpp:push:0' jid='{APP}' node='m'/>");
    phone.ask("set", "", &disable).await;
    assert_eq!(nodes(&scene).await, ["n", "o"]);
    phone.leave().await;
    // As after a restart.
    let juliet = BareJid::new("juliet@example.org").unwrap();
    scene
        .server
        .evict(&juliet, &crate::server::StreamError::new("reset"))
        .await;
    scene.say("One").await;
    let mut woken = [
        scene.told("type='result'/>").await.node,
        scene.told("type='result'/>").await.node,
    ];
    woken.sort();
    assert_eq!(woken, ["n", "o"]);
    let mut phone = client(&scene.server, "juliet/phone").await;
    let disable = format!("<disable xmlns='urn:xmpp:push:0' jid='{APP}'/>");
    phone.ask("set", "", &disable).await;
    assert!(nodes(&scene).await.is_empty());
    scene.phone("n").await;
    let name = NodePart::new("juliet").unwrap();
    scene.server.accounts().delete(&name).await.unwrap();
    assert!(nodes(&scene).await.is_empty());
}

#[tokio::test]
async fn what_is_no_registration_is_refused() {
    let scene = scene(PushSummary::None).await;
    let mut phone = online(&scene.server, "juliet/phone").await;
    for (name, to, enable) in [
        ("nowhere", "", "<enable xmlns='urn:xmpp:push:0' node='n'/>"),
        (
            "no address",
            "",
            "<enable xmlns='urn:xmpp:push:0' jid='@' node='n'/>",
        ),
        (
            "one's own nodes",
            "",
            "<enable xmlns='urn:xmpp:push:0' jid='juliet@example.org' node='n'/>",
        ),
        (
            "for another",
            "romeo@example.org",
            "<enable xmlns='urn:xmpp:push:0' jid='app@example.org/server' node='n'/>",
        ),
        ("ending nothing", "", "<disable xmlns='urn:xmpp:push:0'/>"),
    ] {
        let answer = phone.ask("set", to, enable).await;
        assert_eq!(answer.attr("type"), Some("error"), "{name}");
    }
}

#[tokio::test]
async fn members_of_a_room_are_woken_while_they_are_not_in_it() {
    let mut scene = scene(PushSummary::Body).await;
    let storage = scene.server.storage().clone();
    let host = "conference.example.org";
    let policy = Policy {
        locks: false,
        ..Policy::new(host.parse().unwrap(), "example.org")
    };
    let archives = Arc::new(RoomArchives::new(storage.clone()));
    let rooms = Service::open(policy, storage, archives).await.unwrap();
    let rooms: Arc<dyn Host> = Arc::new(rooms);
    scene.server.set_hosts(vec![(host.to_owned(), rooms)]);
    let room = "cave@conference.example.org";
    let enter = |nick: &str| {
        format!(
            "<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        )
    };
    let mut phone = scene.phone("n").await;
    phone.send(&enter("Juliet")).await;
    let lasting = "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>\
        <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>\
        <field var='muc#roomconfig_persistentroom'><value>1</value></field></x></query>";
    assert_eq!(
        phone.ask("set", room, lasting).await.attr("type"),
        Some("result")
    );
    scene.romeo.send(&enter("Romeo")).await;
    let speak =
        |text: &str| format!("<message to='{room}' type='groupchat'><body>{text}</body></message>");
    scene.romeo.send(&speak("You are here")).await;
    scene.nothing().await;
    // In the room, and not looked at.
    phone.session.set_inactive(true);
    scene.romeo.send(&speak("Awake?")).await;
    assert_eq!(scene.count().await, "1");
    phone.session.set_inactive(false);
    phone.leave().await;
    scene.romeo.send(&speak("Are you gone?")).await;
    let told = scene.told("type='result'/>").await;
    assert_eq!(
        told.sender.as_deref(),
        Some("cave@conference.example.org/Romeo")
    );
    assert_eq!(
        (told.count.as_str(), told.body.as_str()),
        ("1", "Are you gone?")
    );
    scene.romeo.send(&speak("Still?")).await;
    scene.nothing().await;
}
