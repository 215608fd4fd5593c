//! Names, lists and costs; and the whole way over HTTP, through a proxy too.

use std::path::Path;

use super::*;
use crate::config::ProviderKind;
use crate::llm::contract::{configured, question};
use crate::llm::testing::{End, ModelServer, Reply};
use crate::llm::{Event, Part};
use futures::StreamExt;

fn id(text: &str) -> ModelId {
    text.parse().unwrap()
}

fn config(providers: &[(&str, config::Provider)], model: &str) -> Config {
    let mut config = Config {
        directory: Path::new("/nonexistent").into(),
        ..Config::default()
    };
    config.chat.model = model.into();
    config.providers = providers
        .iter()
        .map(|(name, provider)| ((*name).to_owned(), provider.clone()))
        .collect();
    config
}

async fn text(models: &Models) -> String {
    let events = models.ask(models.default_model(), question());
    let events: Vec<_> = events.collect().await;
    let texts = events.into_iter().filter_map(|event| match event.unwrap() {
        Event::Part(Part::Text(text)) => Some(text),
        _ => None,
    });
    texts.collect()
}

const ANSWER: &str =
    "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";

#[tokio::test]
async fn without_a_model_there_is_an_answer_that_says_how_to_get_one() {
    let models = Models::from_config(&config(&[], "")).unwrap();
    let text = text(&models).await;
    assert!(text.starts_with("I am no language model"), "{text}");
    assert!(text.contains("You wrote: “One Two”."), "{text}");
    assert!(text.contains("[providers.anthropic]"), "{text}");
    let usage = Usage {
        output: 1_000_000,
        ..Usage::default()
    };
    assert_eq!(models.cost(models.default_model(), &usage), Some(0.0));
}

#[tokio::test]
async fn over_http_a_busy_model_hands_over_to_the_next() {
    let busy = ModelServer::start(vec![Reply::plain(529, "{}")]);
    let ready = ModelServer::start(vec![Reply::events(ANSWER, 7, End::Whole)]);
    let mut config = config(
        &[
            (
                "anthropic",
                configured(ProviderKind::Anthropic, &busy.base_url),
            ),
            ("openai", configured(ProviderKind::OpenAi, &ready.base_url)),
        ],
        "anthropic/claude-sonnet-4-5",
    );
    config.failover.fallback_models = vec!["openai/gpt-4o".into()];
    let models = Models::from_config(&config).unwrap();
    assert_eq!(text(&models).await, "hi");
    assert_eq!((busy.count(), ready.count()), (1, 1));
}

#[tokio::test]
async fn dropping_an_answer_closes_its_connection() {
    let server = ModelServer::start(vec![Reply::events(ANSWER, 7, End::Hang)]);
    let provider = configured(ProviderKind::OpenAi, &server.base_url);
    let models = Models::from_config(&config(&[("x", provider)], "x/m")).unwrap();
    let mut answer = models.ask(models.default_model(), question());
    answer.next().await.unwrap().unwrap();
    drop(answer);
    assert!(server.client_closed().await);
}

#[test]
fn prices_beside_the_configuration_count() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("config")).unwrap();
    let prices = "\"x/m\" = { input = 2, output = 4 }";
    std::fs::write(directory.path().join("config/prices.toml"), prices).unwrap();
    let provider = configured(ProviderKind::OpenAi, "http://127.0.0.1:9");
    let mut config = config(&[("x", provider)], "x/m");
    config.directory = directory.path().into();
    let models = Models::from_config(&config).unwrap();
    let usage = Usage {
        input: 500_000,
        output: 250_000,
        ..Usage::default()
    };
    assert_eq!(models.cost(&id("x/m"), &usage), Some(2.0));
}

#[test]
fn a_model_whose_provider_is_missing_is_an_error() {
    let mut config = config(&[], "anthropic/claude-sonnet-4-5");
    let message = Models::from_config(&config).unwrap_err().to_string();
    assert_eq!(
        message,
        "The model anthropic/claude-sonnet-4-5 needs a table [providers.anthropic]"
    );
    config.chat.model = "claude".into();
    let message = Models::from_config(&config).unwrap_err().to_string();
    assert!(
        message.starts_with("chat.model: \"claude\" is not of the form"),
        "{message}"
    );
}

#[tokio::test]
async fn lists_are_the_configured_ones_or_asked_for_once() {
    let server = ModelServer::start(vec![Reply::plain(
        200,
        "{\"data\":[{\"id\":\"m1\"},{\"id\":\"m2\"}]}",
    )]);
    let mut named = configured(ProviderKind::Anthropic, "http://127.0.0.1:9");
    named.models = vec!["claude-opus-4-5".into()];
    let config = config(
        &[
            ("anthropic", named),
            (
                "down",
                configured(ProviderKind::OpenAi, "http://127.0.0.1:9"),
            ),
            ("ollama", configured(ProviderKind::OpenAi, &server.base_url)),
        ],
        "ollama/m1",
    );
    let models = Models::from_config(&config).unwrap();
    let expected = ["anthropic/claude-opus-4-5", "ollama/m1", "ollama/m2"].map(id);
    assert_eq!(models.list().await, expected);
    assert_eq!(models.list().await, expected);
    assert_eq!(server.count(), 1);
    assert_eq!(models.resolve("m2").await, Match::One(id("ollama/m2")));
    assert_eq!(
        models.resolve("ollama/m3").await,
        Match::None(vec![id("ollama/m1"), id("ollama/m2")])
    );
    // Nobody knows what that one has.
    assert_eq!(models.resolve("down/x").await, Match::One(id("down/x")));
    let usage = Usage {
        input: 1_000_000,
        ..Usage::default()
    };
    assert_eq!(models.cost(&id("ollama/m1"), &usage), Some(0.0));
    assert_eq!(
        models.cost(&id("anthropic/claude-opus-4-5"), &usage),
        Some(5.0)
    );
    assert_eq!(models.cost(&id("down/x"), &usage), None);
}
