//! The stage on which the tests play: one account, one model with a script, and what the person sees in the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use tokio::sync::watch;
use xmpp_parsers::message::Message;

use super::super::testing::{FakeWire, body, replaces};
use super::super::{Accepted, Conversations};
use crate::config::{Channels, Config, QueueMode};
use crate::gateway::testing::account;
use crate::gateway::{Inbound, Standing};
use crate::llm::models::Served;
use crate::llm::{Content, Error, Finish, Models, Part, Parts, Provider, Request, Usage};
use crate::runtime::Supervisor;
use crate::storage::Storage;

/// What the model does next.
#[derive(Clone, Debug)]
pub(super) enum Cue {
    Say(&'static str),
    Wait(u64),
    Fail(Error),
    /// Ends with this, where nothing else was said.
    Finish(Finish),
    Panic,
    /// Never goes on.
    Hang,
}

/// A model that plays one script a question, and says "ok" when it has none left.
#[derive(Default)]
pub(super) struct Actor {
    scripts: Mutex<VecDeque<Vec<Cue>>>,
    asked: Mutex<Vec<Request>>,
}

impl Provider for Actor {
    fn stream(&self, _: &str, request: Request) -> BoxFuture<'static, Result<Parts, Error>> {
        self.asked.lock().unwrap().push(request);
        let script = self.scripts.lock().unwrap().pop_front();
        let script = script.unwrap_or_else(|| vec![Cue::Say("ok")]);
        let ends = script.iter().any(|cue| matches!(cue, Cue::Finish(_)));
        let mut cues = script.into_iter().peekable();
        let first = match cues.next_if(|cue| matches!(cue, Cue::Fail(_))) {
            Some(Cue::Fail(error)) => Err(error),
            _ => Ok(()),
        };
        let parts = futures::stream::iter(cues).then(|cue| async move {
            Ok(match cue {
                Cue::Say(text) => Part::Text(text.into()),
                Cue::Wait(millis) => {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    Part::Thinking("…".into())
                }
                Cue::Fail(error) => return Err(error),
                Cue::Finish(finish) => Part::Finish(finish),
                Cue::Panic => panic!("as the script says"),
                Cue::Hang => std::future::pending().await,
            })
        });
        let usage = Part::Usage(Usage {
            input: 10,
            output: 5,
            ..Usage::default()
        });
        let finish = (!ends).then_some(Ok(Part::Finish(Finish::Complete)));
        let parts = parts.chain(futures::stream::iter([Ok(usage)].into_iter().chain(finish)));
        std::future::ready(first.map(|()| parts.boxed())).boxed()
    }

    fn models(&self) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        std::future::ready(Ok(vec!["model".into()])).boxed()
    }
}

/// One life of the process. The store and the model outlive it.
pub(super) struct Stage {
    pub(super) storage: Storage,
    pub(super) wire: Arc<FakeWire>,
    pub(super) model: Arc<Actor>,
    pub(super) conversations: Conversations,
    pub(super) supervisor: Supervisor,
    _config: watch::Sender<Arc<Config>>,
    _models: watch::Sender<Models>,
}

pub(super) fn config() -> Config {
    let mut account = account();
    account.stream_min_initial_chars = 1;
    account.edit_throttle_ms = 100;
    let mut config = Config {
        channels: Channels {
            xmpp: BTreeMap::from([("bot".to_owned(), account)]),
        },
        ..Config::default()
    };
    config.chat.max_concurrent_turns = 8;
    config.chat.turn_timeout_secs = 60;
    config.chat.max_output_tokens = 100;
    config.chat.compaction.threshold_percent = 0.9;
    config.chat.compaction.protect_tail_min = 2;
    config.chat.message_queue_mode = QueueMode::Followup;
    config
}

/// The account of a configuration.
pub(super) fn bot(config: &mut Config) -> &mut crate::config::Account {
    config.channels.xmpp.get_mut("bot").unwrap()
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: Config) -> Self {
        Self::live(config, super::super::testing::memory(), Arc::default())
    }

    fn live(config: Config, storage: Storage, model: Arc<Actor>) -> Self {
        let supervisor = Supervisor::new();
        let served = Served {
            provider: Arc::clone(&model) as Arc<dyn Provider>,
            idle_timeout: Duration::from_secs(1000),
            models: vec!["model".into()],
            free: true,
        };
        let models = Models::new(
            BTreeMap::from([("fake".to_owned(), served)]),
            "fake/model".parse().unwrap(),
            Vec::new(),
            Duration::from_secs(1),
        )
        .unwrap();
        let (config, live) = watch::channel(Arc::new(config));
        let (models, answering) = watch::channel(models);
        let conversations =
            Conversations::new(storage.clone(), supervisor.clone(), live, answering);
        let wire = Arc::<FakeWire>::default();
        conversations.register(Arc::clone(&wire) as Arc<_>);
        Self {
            storage,
            wire,
            model,
            conversations,
            supervisor,
            _config: config,
            _models: models,
        }
    }

    /// What the model does, one list a question.
    pub(super) fn script(&self, cues: &[Cue]) {
        self.model.scripts.lock().unwrap().push_back(cues.to_vec());
    }

    pub(super) fn asked(&self) -> Vec<Request> {
        self.model.asked.lock().unwrap().clone()
    }

    /// The texts of the last request's last message.
    pub(super) fn last_question(&self) -> String {
        let asked = self.asked();
        let last = asked
            .last()
            .and_then(|request| request.messages.last())
            .unwrap();
        last.content
            .iter()
            .map(|content| match content {
                Content::Text(text) => text.as_str(),
                Content::Image(_) => "[image]",
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub(super) async fn send(&self, inbound: Inbound) -> Accepted {
        self.conversations
            .accept(inbound, Standing::default())
            .await
            .unwrap()
    }

    /// Lets everything happen that happens within this time.
    pub(super) async fn pass(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// As kill -9: no task says another word. The next life has what was stored and what the wire had taken.
    pub(super) async fn kill(self) -> Self {
        self.kill_into(config()).await
    }

    pub(super) async fn kill_into(self, config: Config) -> Self {
        let Self {
            storage,
            model,
            conversations,
            supervisor,
            wire,
            ..
        } = self;
        wire.set_offline(true);
        abort(&supervisor).await;
        drop(conversations);
        let next = Self::live(config, storage, model);
        next.wire.inherit(&wire);
        next.conversations.resume("bot").await.unwrap();
        next
    }

    /// What the person's client shows: each message once, corrections applied.
    pub(super) fn screen(&self) -> Vec<String> {
        screen(&self.wire.texts())
    }
}

async fn abort(supervisor: &Supervisor) {
    supervisor.abort().await;
}

/// What a client shows after these messages.
pub(super) fn screen(messages: &[Message]) -> Vec<String> {
    let mut shown: Vec<(String, String)> = Vec::new();
    for message in messages {
        let text = body(message).unwrap().to_owned();
        let id = message.id.clone().unwrap().0;
        match replaces(message) {
            Some(first) => match shown.iter_mut().find(|(known, _)| known == first) {
                Some((_, old)) => *old = text,
                // XEP-0308: the first was never seen, so the correction is what is shown.
                None => shown.push((first.to_owned(), text)),
            },
            None => shown.push((id, text)),
        }
    }
    shown.into_iter().map(|(_, text)| text).collect()
}
