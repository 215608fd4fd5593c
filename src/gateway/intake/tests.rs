//! What an account tells is taken in by an intake whose conversations speak into a recorded wire.

use bytes::Bytes;
use futures::future::BoxFuture;

use super::strangers::MOST_STRANGERS;
use super::*;
use crate::config::reload::Reloaded;
use crate::config::{Account, AutoJoin, Channels, Policy};
use crate::gateway::account::room::Room;
use crate::gateway::account::{self, Account as Task, Options, Profile};
use crate::gateway::command::{AccountStatus, Control, Services};
use crate::gateway::inbound::Invite;
use crate::gateway::pairing::Claimed;
use crate::gateway::reply::upload;
use crate::gateway::session::testing::{FakeWire, body, memory, room_text, text};
use crate::gateway::{Kind, testing};
use crate::llm::Models;
use crate::runtime::Supervisor;
use crate::storage::KeyValue;
use crate::xmpp::Settings;

/// A process that does nothing.
struct Nothing;

impl Control for Nothing {
    fn join<'a>(
        &'a self,
        _: &'a str,
        _: &'a BareJid,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn leave<'a>(&'a self, _: &'a str, _: &'a BareJid) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn let_in<'a>(&'a self, _: &'a str, _: &'a BareJid) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn accounts(&self) -> Vec<AccountStatus> {
        Vec::new()
    }
    fn reload(&self) -> BoxFuture<'_, anyhow::Result<Reloaded>> {
        Box::pin(async { Ok(Reloaded::default()) })
    }
    fn log(&self, _: usize) -> Vec<String> {
        Vec::new()
    }
    fn share<'a>(
        &'a self,
        _: &'a str,
        _: &'a Place,
        _: &'a str,
        _: Bytes,
    ) -> BoxFuture<'a, Result<(), upload::Error>> {
        Box::pin(async { Err(upload::Error::NoService) })
    }
    fn claim(&self, _: &str, _: &str) -> Claimed {
        Claimed::Closed
    }
}

struct Stage {
    intake: Intake,
    wire: Arc<FakeWire>,
    storage: Storage,
    supervisor: Supervisor,
    _task: Task,
    _live: watch::Sender<Arc<Config>>,
    _models: watch::Sender<Models>,
}

async fn stage(account: Account) -> Stage {
    let storage = memory();
    let own = account.jid.clone();
    let config = Config {
        channels: Channels {
            xmpp: BTreeMap::from([("bot".to_owned(), account)]),
        },
        ..Config::default()
    };
    let supervisor = Supervisor::new();
    let models = Models::from_config(&config).unwrap();
    let (live_sender, live) = watch::channel(Arc::new(config));
    let (models_sender, models) = watch::channel(models);
    let conversations = Conversations::new(
        storage.clone(),
        supervisor.clone(),
        live.clone(),
        models.clone(),
    );
    let wire = Arc::<FakeWire>::default();
    conversations.register(Arc::clone(&wire) as Arc<_>);
    let access = Arc::new(Access::load(storage.clone()).await.unwrap());
    let commands = Commands::new(Services {
        live: live.clone(),
        models,
        conversations: conversations.clone(),
        storage: storage.clone(),
        access: Arc::clone(&access),
        control: Arc::new(Nothing),
        house: None,
    });
    let options = Options {
        known_archives: std::collections::BTreeSet::from([None]),
        id: "bot".into(),
        connection: Settings::new(own.clone(), "p".into()),
        nick: "bot".into(),
        profile: Arc::new(Profile::default()),
        rooms: Vec::new(),
    };
    let (task, handle, _) = account::open(options, storage.clone());
    let intake = Intake {
        account: "bot".into(),
        own,
        live,
        handle,
        conversations,
        access,
        claim: Arc::new(Claim::closed()),
        commands,
        storage: storage.clone(),
        positions: BTreeMap::new(),
        background: JoinSet::new(),
        strangers: Vec::new(),
    };
    Stage {
        intake,
        wire,
        storage,
        supervisor,
        _task: task,
        _live: live_sender,
        _models: models_sender,
    }
}

fn open_account() -> Account {
    Account {
        dm_policy: Policy::Open,
        ..testing::account()
    }
}

fn said(inbound: Inbound) -> Happening {
    Happening::Message {
        inbound: Box::new(inbound),
        moves: true,
    }
}

impl Stage {
    async fn count(&self, store: &'static str) -> usize {
        let stored = self.storage.list(KeyValue(store), "bot", "").await;
        stored.unwrap().len()
    }

    /// To whom, and what.
    async fn texts(&self) -> Vec<(String, String)> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let texts = self.wire.texts();
        let text = |message: &xmpp_parsers::message::Message| {
            let to = message.to.as_ref().unwrap().to_string();
            (to, body(message).unwrap().to_owned())
        };
        texts.iter().map(text).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_without_number_do_not_flood_the_operators() {
    let mut stage = stage(Account {
        operators: vec!["op@example.com".into()],
        ..testing::account()
    })
    .await;
    for number in 0..50 {
        let stranger = format!("eve{number}@evil.org/x");
        stage.intake.take(said(text(&stranger, "1", "hi"))).await;
        stage.intake.take(said(text(&stranger, "2", "hi"))).await;
    }
    let texts = stage.texts().await;
    let requests = texts.iter().filter(|(to, _)| to == "op@example.com");
    assert_eq!(requests.count(), MOST_STRANGERS);
    assert_eq!(
        texts.len(),
        2 * MOST_STRANGERS,
        "each of them is told to wait"
    );
    // An id and an origin-id of each first message.
    assert_eq!(stage.count("seen").await, 2 * MOST_STRANGERS);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_not_for_the_bot_is_not_written() {
    let mut stage = stage(open_account()).await;
    for _ in 0..2 {
        let line = room_text("romeo", "1", "good morning");
        stage.intake.take(said(line)).await;
    }
    assert_eq!(stage.count("seen").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_room_is_not_believed_who_invites_into_it() {
    struct Case {
        name: &'static str,
        room: &'static str,
        mediated: bool,
        joins: bool,
    }
    for case in [
        Case {
            name: "a strange service says that Alice invites",
            room: "trap@rooms.evil.org",
            mediated: true,
            joins: false,
        },
        Case {
            name: "a name that only ends like hers",
            room: "trap@evilwonderland.lit",
            mediated: true,
            joins: false,
        },
        Case {
            name: "her own server's rooms",
            room: "tea@rooms.wonderland.lit",
            mediated: true,
            joins: true,
        },
        Case {
            name: "our own server's rooms",
            room: "tea@rooms.example.com",
            mediated: true,
            joins: true,
        },
        Case {
            name: "Alice herself",
            room: "tea@rooms.elsewhere.org",
            mediated: false,
            joins: true,
        },
    ] {
        let mut stage = stage(Account {
            auto_join_invites: AutoJoin::Allowlist,
            allowlist: vec!["alice@wonderland.lit".into()],
            ..testing::account()
        })
        .await;
        let invite = Invite {
            room: BareJid::new(case.room).unwrap(),
            from: "alice@wonderland.lit/x".parse().unwrap(),
            password: None,
            mediated: case.mediated,
        };
        stage.intake.take(Happening::Invite(invite)).await;
        let joined = rooms::remembered(&stage.storage, "bot").await;
        assert_eq!(!joined.is_empty(), case.joins, "{}", case.name);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_come_in_when_the_process_ends_is_stored() {
    let stage = stage(open_account()).await;
    let (sender, happenings) = mpsc::channel(8);
    for id in ["1", "2", "3"] {
        let line = text("alice@example.org/x", id, "hi");
        sender.send(said(line)).await.unwrap();
    }
    let (storage, supervisor) = (stage.storage.clone(), stage.supervisor.clone());
    let stop = supervisor.stop_token(crate::runtime::Phase::Conversations);
    stop.cancel();
    Box::pin(stage.intake.run(happenings, stop.cancelled())).await;
    let stored = storage.list(KeyValue("inbox"), "bot", "").await.unwrap();
    assert_eq!(stored.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_command_with_a_slip_of_the_pen_is_run_when_it_is_corrected() {
    let mut stage = stage(open_account()).await;
    let alice = "alice@example.org/x";
    stage.intake.take(said(text(alice, "1", "/pnig"))).await;
    let mut corrected = text(alice, "2", "/ping");
    corrected.kind = Kind::Correction {
        replaces: "1".into(),
    };
    stage.intake.take(said(corrected)).await;
    let texts = stage.texts().await;
    let texts: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].contains("/ping") && !texts[1].contains("/pnig"),
        "{texts:?}"
    );
    assert_eq!(stage.count("history").await, 0, "the model was not asked");
}

#[tokio::test(start_paused = true)]
async fn nobody_claims_an_account_that_has_got_operators() {
    for (operators, becomes) in [(vec![], true), (vec!["op@example.com".to_owned()], false)] {
        let mut stage = stage(Account {
            operators,
            ..testing::account()
        })
        .await;
        stage.intake.claim = Arc::new(Claim::new().unwrap());
        let claim = format!("/claim {}", stage.intake.claim.code().unwrap());
        stage
            .intake
            .take(said(text("eve@evil.org/x", "1", &claim)))
            .await;
        let granted = stage.intake.access.list("bot").await.unwrap();
        assert_eq!(!granted.is_empty(), becomes);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rounds_of_bots_end_although_the_archive_repeats_them() {
    let stage = stage(open_account()).await;
    let account = Account {
        max_bot_rounds: 2,
        ..open_account()
    };
    let line = |nick: &str, id: &str, catch_up: bool| {
        let mut line = room_text(nick, id, "and you?");
        line.catch_up = catch_up;
        // The archive does not tell it.
        line.sender.bot = nick == "other" && !catch_up;
        line
    };
    let room = line("alice", "1", false).place.room().unwrap();
    let state = Room::new(room.clone(), "bot", None, Instant::now());
    stage.intake.handle.state().rooms.insert(room, state);
    for (inbound, too_many) in [
        (line("alice", "1", false), false),
        (line("other", "2", false), false),
        (line("alice", "1", true), false),
        (line("other", "2", true), false),
        (line("other", "3", false), false),
        (line("other", "3", true), false),
        (line("other", "4", false), true),
        (line("alice", "5", false), false),
        (line("other", "6", false), false),
    ] {
        assert_eq!(
            stage.intake.is_one_bot_round_too_many(&account, &inbound),
            too_many,
            "{inbound:?}"
        );
    }
}
