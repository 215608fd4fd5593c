//! Each command as a person writes it, with real conversations, a model without a network, and a wire that records.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::super::*;
use crate::config::reload::Reloaded;
use crate::config::{Channels, Config};
use crate::gateway::access::Access;
use crate::gateway::admission::Grant;
use crate::gateway::pairing::Claimed;
use crate::gateway::reply::upload;
use crate::gateway::session::Conversations;
use crate::gateway::session::testing::{FakeWire, body, memory, room_text, text};
use crate::gateway::testing;
use crate::llm::{Models, offline};
use crate::runtime::Supervisor;

const PERSON: Standing = Standing {
    operator: false,
    guest: false,
};
const OPERATOR: Standing = Standing {
    operator: true,
    guest: false,
};

/// Writes down what it is told to do.
#[derive(Default)]
struct Recorder {
    done: Mutex<Vec<String>>,
    upload_fails: bool,
}

impl Recorder {
    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }
}

impl Control for Recorder {
    fn join<'a>(
        &'a self,
        account: &'a str,
        room: &'a BareJid,
        nick: Option<&'a str>,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        self.note(format!("{account} joins {room} as {nick:?}"));
        Box::pin(async { Ok(()) })
    }

    fn leave<'a>(
        &'a self,
        account: &'a str,
        room: &'a BareJid,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        self.note(format!("{account} leaves {room}"));
        Box::pin(async { Ok(()) })
    }

    fn let_in<'a>(&'a self, account: &'a str, jid: &'a BareJid) -> BoxFuture<'a, ()> {
        self.note(format!("{account} lets {jid} in"));
        Box::pin(async {})
    }

    fn accounts(&self) -> Vec<AccountStatus> {
        vec![AccountStatus {
            id: "bot".into(),
            jid: "bot@example.com/moltis".into(),
            condition: "online".into(),
            rooms: vec![RoomStatus {
                room: BareJid::new("room@c.example.com").unwrap(),
                nick: "Moltis".into(),
                condition: "joined".into(),
            }],
        }]
    }

    fn reload(&self) -> BoxFuture<'_, anyhow::Result<Reloaded>> {
        Box::pin(async { Err(anyhow::anyhow!("moltis.toml:3: unknown key \"alowlist\"")) })
    }

    fn log(&self, lines: usize) -> Vec<String> {
        vec![format!("the last {lines}")]
    }

    fn share<'a>(
        &'a self,
        account: &'a str,
        place: &'a Place,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), upload::Error>> {
        let size = bytes.len();
        self.note(format!(
            "{account} shares {name}, {size}, with {}",
            place.address()
        ));
        let fails = self.upload_fails;
        Box::pin(async move {
            if fails {
                Err(upload::Error::NoService)
            } else {
                Ok(())
            }
        })
    }

    fn claim(&self, _: &str, code: &str) -> Claimed {
        if code == "right" {
            Claimed::Yes
        } else {
            Claimed::Wrong { left: 4 }
        }
    }
}

/// A server that knows bob.
struct Embedded;

impl House for Embedded {
    fn add<'a>(&'a self, who: &'a str) -> BoxFuture<'a, Result<Added, String>> {
        Box::pin(async move {
            if who == "bob" {
                return Err("bob exists already".to_owned());
            }
            Ok(Added {
                jid: BareJid::new(&format!("{who}@example.com")).unwrap(),
                password: "secret".to_owned(),
            })
        })
    }

    fn delete<'a>(&'a self, who: &'a str) -> BoxFuture<'a, Result<BareJid, String>> {
        Box::pin(async move { Ok(BareJid::new(&format!("{who}@example.com")).unwrap()) })
    }

    fn invite<'a>(
        &'a self,
        by: &'a BareJid,
        name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Invited, String>> {
        Box::pin(async move {
            Ok(Invited {
                uri: format!("xmpp:{}@example.com by {by}", name.unwrap_or("anybody")),
                page: Some("https://example.com/invite/x".to_owned()),
                until: "tomorrow".to_owned(),
            })
        })
    }

    fn announce<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<usize, String>> {
        Box::pin(async move { Ok(text.len()) })
    }
}

struct Stage {
    commands: Commands,
    access: Arc<Access>,
    control: Arc<Recorder>,
    wire: Arc<FakeWire>,
    _live: watch::Sender<Arc<Config>>,
    _models: watch::Sender<Models>,
}

impl Stage {
    async fn new(control: Recorder) -> Self {
        Self::at(control, None, false).await
    }

    /// With a server in the process, where the bot lives or not.
    async fn at(control: Recorder, house: Option<Arc<dyn House>>, is_home: bool) -> Self {
        let account = Account {
            local: is_home,
            ..testing::account()
        };
        let mut config = Config {
            channels: Channels {
                xmpp: BTreeMap::from([("bot".to_owned(), account)]),
            },
            ..Config::default()
        };
        config.chat.max_concurrent_turns = 8;
        config.chat.turn_timeout_secs = 60;
        let offline = BTreeMap::from([("offline".to_owned(), offline::served())]);
        let default = "offline/offline".parse().unwrap();
        let models = Models::new(offline, default, Vec::new(), Duration::from_secs(1)).unwrap();
        let (config, live) = watch::channel(Arc::new(config));
        let (sender, models) = watch::channel(models);
        let storage = memory();
        let conversations = Conversations::new(
            storage.clone(),
            Supervisor::new(),
            live.clone(),
            models.clone(),
        );
        let wire = Arc::<FakeWire>::default();
        conversations.register(Arc::clone(&wire) as Arc<_>);
        let access = Arc::new(Access::load(storage.clone()).await.unwrap());
        let control = Arc::new(control);
        let commands = Commands::new(Services {
            live,
            models,
            conversations,
            storage,
            access: Arc::clone(&access),
            control: Arc::clone(&control) as Arc<_>,
            house,
        });
        Self {
            commands,
            access,
            control,
            wire,
            _live: config,
            _models: sender,
        }
    }

    /// The answer to a command.
    async fn answer(&self, inbound: Inbound, standing: Standing) -> String {
        let before = self.wire.texts().len();
        let line = parse(&inbound.body).unwrap();
        self.commands
            .run(&testing::account(), inbound, standing, line)
            .await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let texts = self.wire.texts();
        let texts: Vec<&str> = texts.iter().skip(before).filter_map(body).collect();
        texts.join("\n")
    }

    async fn alice(&self, body: &str) -> String {
        let id = format!("{:016x}", rand::random::<u64>());
        self.answer(text("alice@example.com/desk", &id, body), OPERATOR)
            .await
    }
}

#[tokio::test(start_paused = true)]
async fn every_command_answers() {
    let stage = Stage::new(Recorder::default()).await;
    let rows = [
        ("/help", "`/join room [nick]`"),
        ("/help say", "send a message as me"),
        ("/help sya", "did you mean `/say`?"),
        ("/title", "no title yet"),
        ("/title Tea & *cake*", "called `Tea & *cake*` now"),
        ("/title", "called `Tea & *cake*`"),
        ("/new Second", "A new session: `Second`"),
        ("/sessions", "`Second` (this one)"),
        ("/sessions 2", "with session 2, `Tea & *cake*`"),
        ("/sessions 9", "no session 9"),
        ("/sessions x", "Which one?"),
        ("/fork", "in a copy, `Tea & *cake*`"),
        ("/clear", "nothing to forget"),
        ("/stop", "Nothing is running."),
        ("/retry", "no question"),
        ("/undo", "nothing to take back"),
        ("/compact", "nothing to compact"),
        ("/context", "Model: `offline/offline`"),
        ("/model", "`offline/offline` (free), the usual one."),
        ("/model nonsense", "I know no model `nonsense`"),
        ("/models", "`offline/"),
        ("/models nonsense", "There is none."),
        ("/system", "no instructions of its own"),
        (
            "/system Answer in rhymes.\nAlways.",
            "are this chat's instructions now",
        ),
        ("/system", "> Answer in rhymes.\n> Always."),
        ("/system reset", "are gone"),
        ("/skills", "`code-review`:"),
        ("/skill explain", "uses the skill `explain` now"),
        ("/skill explain", "already"),
        ("/skills", "`explain` (in use)"),
        ("/skill juggle", "no skill `juggle`"),
        ("/usage", "nothing yet"),
        ("/usage 0", "From 1 to 366"),
        ("/status", "Connection: online"),
        ("/whoami", "one of my operators"),
        ("/ping", "Pong."),
        ("/claim wrong", "4 attempts are left"),
        ("/claim right", "You are my operator now."),
        (
            "/allow bob@example.com",
            "`bob@example.com`: may talk to me.",
        ),
        (
            "/guest xmpp:Carol@Example.com/x 2h",
            "`carol@example.com`: is a guest for 120 minutes.",
        ),
        ("/guest carol@example.com soon", "How long?"),
        ("/block @@", "That is no address."),
        ("/access", "`alice@example.com`: is an operator"),
        (
            "/access bob@example.com",
            "`bob@example.com`: may talk to me (by `alice@example.com`)",
        ),
        ("/access bob@example.com reset", "taken back"),
        (
            "/join room2@c.example.com Two Words",
            "I enter `room2@c.example.com`",
        ),
        ("/join example.com", "no room's address"),
        (
            "/leave room@c.example.com?join",
            "I leave `room@c.example.com`",
        ),
        ("/leave other@c.example.com", "I am not in"),
        ("/rooms", "`room@c.example.com` as `Moltis`: joined"),
        ("/say @@ x", "That is no address."),
        ("/budget", "All: no limit"),
        (
            "/budget bob@example.com 1.5",
            "`bob@example.com`: $1.50 a day",
        ),
        ("/budget bob@example.com -1", "How many dollars"),
        ("/budget", "`bob@example.com`: $1.50 a day"),
        (
            "/budget bob@example.com reset",
            "`bob@example.com`: no limit",
        ),
        ("/reload", "unknown key \"alowlist\""),
        (
            "/accounts",
            "bot, `bot@example.com/moltis`: online, rooms: 1",
        ),
        ("/log", "the last 20"),
        ("/log 9999", "From 1 to 200"),
        ("/adduser bob", "no embedded server"),
        ("/deluser bob", "no embedded server"),
        ("/invite", "no embedded server"),
        ("/announce Tea", "no embedded server"),
        ("/nonsense", "There is no `/nonsense`"),
    ];
    for (command, expected) in rows {
        let answer = stage.alice(command).await;
        assert!(answer.contains(expected), "{command}: {answer}");
    }
    let approvals = stage.access.approvals("bot");
    let alice = BareJid::new("alice@example.com").unwrap();
    assert_eq!(approvals.get(&alice), Some(Grant::Operator));
    assert_eq!(
        *stage.control.done.lock().unwrap(),
        [
            "bot lets bob@example.com in",
            "bot lets carol@example.com in",
            "bot joins room2@c.example.com as Some(\"Two Words\")",
            "bot leaves room@c.example.com"
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn privileged_commands_in_a_room_do_nothing_and_say_where() {
    let stage = Stage::new(Recorder::default()).await;
    for command in COMMANDS
        .iter()
        .filter(|command| command.who == Who::Operator)
    {
        let body = format!("/{} a@b.c x", command.name);
        let answer = stage
            .answer(room_text("alice", command.name, &body), PERSON)
            .await;
        assert!(
            answer.contains("only in a direct chat with me"),
            "{command:?}: {answer}"
        );
    }
    assert!(stage.control.done.lock().unwrap().is_empty());
    assert_eq!(stage.access.list("bot").await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_administered_in_a_chat_with_a_bot_that_lives_there() {
    let home = Stage::at(Recorder::default(), Some(Arc::new(Embedded)), true).await;
    for (command, expected) in [
        (
            "/adduser carol",
            "`carol@example.com` has an account now. Its password, which I tell this once: `secret`",
        ),
        ("/adduser bob", "bob exists already."),
        ("/adduser", "Please write `/adduser JID`"),
        ("/deluser bob", "`bob@example.com` has been deleted."),
        (
            "/invite",
            "until tomorrow:\nhttps://example.com/invite/x\nxmpp:anybody@example.com by alice@example.com",
        ),
        ("/invite carol", "xmpp:carol@example.com"),
        ("/announce Tea at five", "Told to 11 sessions."),
    ] {
        let answer = home.alice(command).await;
        assert!(answer.contains(expected), "{command}: {answer}");
    }
    // Another server could say that anybody is an operator.
    let away = Stage::at(Recorder::default(), Some(Arc::new(Embedded)), false).await;
    let answer = away.alice("/deluser bob").await;
    assert!(
        answer.contains("a bot that lives on the server itself"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rooms_instructions_are_for_moderators() {
    let stage = Stage::new(Recorder::default()).await;
    let mut inbound = room_text("alice", "1", "/system Be rude.");
    let refused = stage.answer(inbound.clone(), PERSON).await;
    assert!(refused.contains("for moderators"), "{refused}");
    inbound.sender.moderator = true;
    let taken = stage.answer(inbound, PERSON).await;
    assert!(taken.contains("instructions now"), "{taken}");
}

#[tokio::test(start_paused = true)]
async fn an_export_is_a_file_or_else_a_text() {
    let stage = Stage::new(Recorder::default()).await;
    assert_eq!(stage.alice("/export").await, "");
    let done = stage.control.done.lock().unwrap().join("");
    assert!(done.starts_with("bot shares conversation-2"), "{done}");
    assert!(done.ends_with("with alice@example.com"), "{done}");
    let stage = Stage::new(Recorder {
        upload_fails: true,
        ..Recorder::default()
    })
    .await;
    let answer = stage.alice("/export").await;
    assert!(
        answer.starts_with("As a file it did not work, since this server offers no file upload."),
        "{answer}"
    );
    assert!(answer.contains("Conversation"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn say_speaks_to_others() {
    let stage = Stage::new(Recorder::default()).await;
    stage.alice("/say room@c.example.com Hello, all!").await;
    stage.alice("/say bob@example.com Hello, Bob!").await;
    let to = |name: &str| {
        let texts = stage.wire.texts();
        let to = texts
            .iter()
            .filter(|message| message.to.as_ref().is_some_and(|to| to.as_str() == name));
        to.filter_map(|message| body(message).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(to("room@c.example.com"), ["Hello, all!"]);
    assert_eq!(to("bob@example.com"), ["Hello, Bob!"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_by_a_form() {
    let stage = Stage::new(Recorder::default()).await;
    let request = |xml: &str| xml.parse::<Element>().unwrap();
    let ask = async |standing, xml: String| {
        let inbound = text("alice@example.com/desk", "x", "");
        let (place, sender) = (inbound.place, inbound.sender);
        stage
            .commands
            .request("bot", place, sender, standing, &request(&xml))
            .await
    };
    let namespace = "http://jabber.org/protocol/commands";
    let form = ask(
        OPERATOR,
        format!("<command xmlns='{namespace}' node='allow'/>"),
    )
    .await
    .unwrap();
    let session = form.attr("sessionid").unwrap();
    let filled = format!(
        "<command xmlns='{namespace}' node='allow' sessionid='{session}'><x xmlns='jabber:x:data' type='submit'>\
         <field var='JID'><value>bob@example.com</value></field></x></command>"
    );
    let result = ask(OPERATOR, filled).await.unwrap();
    assert_eq!(result.attr("status"), Some("completed"));
    let note = result.get_child("note", namespace).unwrap().text();
    assert!(note.contains("may talk to me"), "{note}");
    let bob = BareJid::new("bob@example.com").unwrap();
    assert_eq!(stage.access.approvals("bot").get(&bob), Some(Grant::Allow));
    let refused = ask(
        PERSON,
        format!("<command xmlns='{namespace}' node='allow'/>"),
    )
    .await;
    assert!(refused.is_err());
}
