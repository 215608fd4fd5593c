//! `moltis check llm`: asks each configured model for one word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::{Finding, Level};
use crate::cli::providers;
use crate::config::{self, Config, ProviderKind, presets};
use crate::llm::{Content, Error, Finish, Message, Part, Provider, Request, Role};

const PART: &str = "llm";
/// Local models may have to be loaded first.
const PATIENCE: Duration = Duration::from_mins(1);

/// Every model the configuration names; for a provider without one, the one that would be used.
fn models(config: &Config) -> (BTreeSet<(String, String)>, Vec<String>) {
    let mut names: BTreeSet<String> = BTreeSet::from([config.chat.model.clone()]);
    names.extend(config.failover.fallback_models.iter().cloned());
    names.insert(config.chat.compaction.summary_model.clone());
    for account in config
        .channels
        .xmpp
        .values()
        .filter(|account| account.enabled)
    {
        names.extend(account.model_id());
        names.extend(
            account
                .muc_rooms
                .values()
                .filter_map(config::Room::model_id),
        );
        let people = account.user_overrides.values();
        names.extend(people.filter_map(config::UserOverride::model_id));
    }
    let mut models: BTreeSet<(String, String)> = names
        .iter()
        .filter_map(|name| name.split_once('/'))
        .map(|(provider, model)| (provider.to_owned(), model.to_owned()))
        .collect();
    let mut without = Vec::new();
    for (name, provider) in &config.providers {
        let named = models.iter().any(|(provider, _)| provider == name);
        if named || provider.kind == ProviderKind::Offline {
            continue;
        }
        let known = presets::preset(name).map(|preset| preset.model);
        let known = known.filter(|model| !model.is_empty());
        match provider.models.first().map(String::as_str).or(known) {
            Some(model) => {
                models.insert((name.clone(), model.to_owned()));
            }
            None => without.push(name.clone()),
        }
    }
    (models, without)
}

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    match providers(config) {
        Ok(providers) => ask_all(config, &providers).await,
        Err(error) => vec![Finding::new(PART, Level::Problem, format!("{error:#}"))],
    }
}

async fn ask_all(config: &Config, providers: &BTreeMap<String, Arc<dyn Provider>>) -> Vec<Finding> {
    let (models, without) = models(config);
    let mut findings = Vec::new();
    for (name, model) in models {
        let Some(provider) = providers.get(&name) else {
            continue;
        };
        let id = format!("{name}/{model}");
        let begun = Instant::now();
        findings.push(match probe(provider.as_ref(), &model).await {
            Ok(()) => {
                let seconds = begun.elapsed().as_secs_f64();
                Finding::new(PART, Level::Ok, format!("{id} answered in {seconds:.1} s"))
            }
            Err(error) => {
                let remedy = remedy(&error, &name);
                Finding::new(PART, Level::Problem, format!("{id}: {error}; {remedy}"))
            }
        });
    }
    for name in without {
        findings.push(Finding::new(
            PART,
            Level::Warning,
            format!("[providers.{name}] was not checked, as no key names a model of it"),
        ));
    }
    findings
}

/// One turn. A model that thinks first may end at the limit without a word; that is an answer too.
async fn probe(provider: &dyn Provider, model: &str) -> Result<(), Error> {
    let request = Request {
        messages: vec![Message {
            role: Role::User,
            content: vec![Content::Text("Answer with the word: ready".to_owned())],
        }],
        max_output_tokens: 64,
        ..Request::default()
    };
    let turn = async {
        let mut parts = provider.stream(model, request).await?;
        let mut answered = false;
        while let Some(part) = parts.next().await {
            answered |= match part? {
                Part::Text(text) => !text.is_empty(),
                Part::Finish(Finish::Refused) => return Err(Error::ContentRefused),
                Part::Finish(_) => true,
                Part::Thinking(_) | Part::ToolCall { .. } | Part::Usage(_) => false,
            };
        }
        if answered {
            Ok(())
        } else {
            Err(Error::Protocol("it ended without a word".to_owned()))
        }
    };
    tokio::time::timeout(PATIENCE, turn)
        .await
        .unwrap_or(Err(Error::TimedOut))
}

/// What to do about it, to follow a semicolon.
fn remedy(error: &Error, provider: &str) -> String {
    match error {
        Error::Unauthorized { .. } => format!("check api_key in [providers.{provider}]"),
        Error::NoSuchModel(_) => "write a model that the provider has".to_owned(),
        Error::Network(_) | Error::Protocol(_) => {
            format!("check base_url in [providers.{provider}] and that the server runs")
        }
        Error::NoCredit => "top up the account with the provider".to_owned(),
        Error::RateLimited { .. } | Error::Unavailable { .. } | Error::TimedOut => {
            "try again later, or add failover.fallback_models".to_owned()
        }
        Error::ContextTooLong | Error::ContentRefused | Error::Invalid { .. } => {
            "try another model".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use futures::{FutureExt, stream};

    use super::*;
    use crate::llm::Parts;

    /// Says the same to everybody.
    struct Script(Result<Vec<Result<Part, Error>>, Error>);

    impl Provider for Script {
        fn stream(&self, _: &str, _: Request) -> BoxFuture<'static, Result<Parts, Error>> {
            let parts = self.0.clone().map(|parts| stream::iter(parts).boxed());
            async move { parts }.boxed()
        }

        fn models(&self) -> BoxFuture<'static, Result<Vec<String>, Error>> {
            async { Ok(Vec::new()) }.boxed()
        }
    }

    #[tokio::test]
    async fn each_outcome_is_one_line() {
        struct Case {
            name: &'static str,
            script: Script,
            level: Level,
            message: &'static str,
        }
        for case in [
            Case {
                name: "text",
                script: Script(Ok(vec![
                    Ok(Part::Text("ready".into())),
                    Ok(Part::Finish(Finish::Complete)),
                ])),
                level: Level::Ok,
                message: "ollama/small answered in 0.0 s",
            },
            Case {
                name: "thinking up to the limit",
                script: Script(Ok(vec![
                    Ok(Part::Thinking("hm".into())),
                    Ok(Part::Finish(Finish::Length)),
                ])),
                level: Level::Ok,
                message: "ollama/small answered in 0.0 s",
            },
            Case {
                name: "wrong key",
                script: Script(Err(Error::Unauthorized { status: 401 })),
                level: Level::Problem,
                message: "ollama/small: The provider refused the key or its permission (HTTP 401); \
                    check api_key in [providers.ollama]",
            },
            Case {
                name: "broken off",
                script: Script(Ok(vec![Err(Error::Network("reset".into()))])),
                level: Level::Problem,
                message: "ollama/small: The model could not be reached: reset; check base_url in \
                    [providers.ollama] and that the server runs",
            },
            Case {
                name: "nothing",
                script: Script(Ok(vec![])),
                level: Level::Problem,
                message: "ollama/small: The model's answer could not be read: it ended without a word; \
                    check base_url in [providers.ollama] and that the server runs",
            },
        ] {
            let ollama = config::Provider::new(ProviderKind::OpenAi, "http://127.0.0.1:1/v1");
            let mut config = Config::default();
            config.chat.model = "ollama/small".to_owned();
            config.providers.insert("ollama".to_owned(), ollama);
            let provider: Arc<dyn Provider> = Arc::new(case.script);
            let providers = BTreeMap::from([("ollama".to_owned(), provider)]);
            let findings = ask_all(&config, &providers).await;
            let expected = Finding::new(PART, case.level, case.message);
            assert_eq!(findings, [expected], "{}", case.name);
        }
    }
}
