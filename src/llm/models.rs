//! All models of the configuration behind one handle: asking with failover, what they cost, and finding one by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::anthropic::Anthropic;
use super::catalog::Catalog;
use super::failover::{self, Answer, Directory};
use super::health::Health;
use super::names::{Match, choose};
use super::openai::OpenAi;
use super::{ModelId, ModelInfo, Provider, Request, Usage, offline};
use crate::config::{self, Config, ProviderKind};

/// How long the providers' lists are taken for current, and how long their absence is.
const LIST_FRESH: Duration = Duration::from_mins(10);
const LIST_RETRY: Duration = Duration::from_secs(30);
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// A provider as it is configured.
pub struct Served {
    pub provider: Arc<dyn Provider>,
    pub idle_timeout: Duration,
    /// Models to offer; empty: the provider's own list.
    pub models: Vec<String>,
    /// Runs on a machine of the user's and costs nothing.
    pub free: bool,
}

/// A handle; clones share the models and how they have been doing.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

struct Inner {
    providers: BTreeMap<String, Served>,
    default: ModelId,
    fallbacks: Vec<ModelId>,
    cooldown: Duration,
    catalog: Catalog,
    health: Health,
    lists: Mutex<Lists>,
}

/// What each provider listed, and when it was asked; `None`: it did not answer.
type Lists = BTreeMap<String, (Instant, Option<Vec<String>>)>;

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Models")
            .field(&self.0.providers.keys())
            .finish()
    }
}

impl Directory for Inner {
    fn served(&self, provider: &str) -> Option<&Served> {
        self.providers.get(provider)
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn cooldown(&self) -> Duration {
        self.cooldown
    }
}

impl Models {
    /// The providers of a configuration; `offline` is there where no model was chosen.
    pub fn from_config(config: &Config) -> Result<Self> {
        let mut providers = BTreeMap::new();
        for (name, provider) in &config.providers {
            let served = serve(name, provider)
                .with_context(|| format!("Failed to set up [providers.{name}]"))?;
            providers.insert(name.clone(), served);
        }
        if config.chat.model.is_empty() {
            providers
                .entry("offline".into())
                .or_insert_with(offline::served);
        }
        let default = match config.chat.model.as_str() {
            "" => "offline/offline",
            model => model,
        };
        let parse = |key: &str, model: &str| {
            model
                .parse::<ModelId>()
                .map_err(|err| anyhow!("{key}: {err}"))
        };
        let fallbacks = config.failover.fallback_models.iter();
        let fallbacks = fallbacks.map(|model| parse("failover.fallback_models", model));
        let mut catalog = Catalog::built_in()?;
        catalog.read_prices(&config.directory.join("config/prices.toml"))?;
        Self::build(
            providers,
            parse("chat.model", default)?,
            fallbacks.collect::<Result<_>>()?,
            Duration::from_secs(config.failover.cooldown_secs),
            catalog,
        )
    }

    /// Of providers made by hand, for programs and tests.
    pub fn new(
        providers: BTreeMap<String, Served>,
        default: ModelId,
        fallbacks: Vec<ModelId>,
        cooldown: Duration,
    ) -> Result<Self> {
        Self::build(
            providers,
            default,
            fallbacks,
            cooldown,
            Catalog::built_in()?,
        )
    }

    fn build(
        providers: BTreeMap<String, Served>,
        default: ModelId,
        fallbacks: Vec<ModelId>,
        cooldown: Duration,
        catalog: Catalog,
    ) -> Result<Self> {
        for model in std::iter::once(&default).chain(&fallbacks) {
            if !providers.contains_key(&model.provider) {
                return Err(anyhow!(
                    "The model {model} needs a table [providers.{}]",
                    model.provider
                ));
            }
        }
        Ok(Self(Arc::new(Inner {
            providers,
            default,
            fallbacks,
            cooldown,
            catalog,
            health: Health::default(),
            lists: Mutex::default(),
        })))
    }

    /// `chat.model`.
    pub fn default_model(&self) -> &ModelId {
        &self.0.default
    }

    /// The models that are not asked for now, and for how long still.
    pub fn resting(&self) -> Vec<(ModelId, Duration)> {
        self.0.health.all_resting(Instant::now())
    }

    /// Whether the provider of a model is configured.
    pub fn serves(&self, model: &ModelId) -> bool {
        self.0.providers.contains_key(&model.provider)
    }

    /// Asks a model, and those of `failover.fallback_models` where it fails. Nothing happens before the stream is polled.
    pub fn ask(&self, model: &ModelId, request: Request) -> Answer {
        let mut candidates = vec![model.clone()];
        for fallback in &self.0.fallbacks {
            if !candidates.contains(fallback) {
                candidates.push(fallback.clone());
            }
        }
        failover::ask(Arc::clone(&self.0), candidates, request)
    }

    /// What is known of a model.
    pub fn info(&self, model: &ModelId) -> ModelInfo {
        let mut info = self.0.catalog.info(model);
        if self
            .0
            .providers
            .get(&model.provider)
            .is_some_and(|served| served.free)
        {
            info.price = Some(super::Price::default());
        }
        info
    }

    /// USD; `None`: the model's price is not known.
    pub fn cost(&self, model: &ModelId, usage: &Usage) -> Option<f64> {
        self.info(model).price.map(|price| price.of(usage))
    }

    /// All models on offer: the configured ones, else what the provider lists, asked at most every ten minutes. A provider
    /// that does not answer offers none for now.
    pub async fn list(&self) -> Vec<ModelId> {
        let lists = self.0.providers.iter().map(|(name, served)| async move {
            let models = self.list_of(name, served).await.unwrap_or_default();
            models.into_iter().map(|model| ModelId {
                provider: name.clone(),
                model,
            })
        });
        futures::future::join_all(lists)
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    async fn list_of(&self, name: &str, served: &Served) -> Option<Vec<String>> {
        if !served.models.is_empty() {
            return Some(served.models.clone());
        }
        let now = Instant::now();
        if let Some((at, list)) = self.lists().get(name) {
            let fresh = if list.is_some() {
                LIST_FRESH
            } else {
                LIST_RETRY
            };
            if now.duration_since(*at) < fresh {
                return list.clone();
            }
        }
        let list = match timeout(LIST_TIMEOUT, served.provider.models()).await {
            Ok(Ok(list)) => Some(list),
            Ok(Err(err)) => {
                debug!(provider = name, "No list of models: {err}");
                None
            }
            Err(_elapsed) => None,
        };
        self.lists().insert(name.into(), (now, list.clone()));
        list
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the model a person means by `name`: all of its id, its name without the provider, or parts of it.
    pub async fn resolve(&self, name: &str) -> Match {
        let mut known = self.list().await;
        for model in std::iter::once(&self.0.default).chain(&self.0.fallbacks) {
            if !known.contains(model) {
                known.push(model.clone());
            }
        }
        // A provider without a list is taken at the person's word.
        if let Ok(exact) = name.parse::<ModelId>()
            && let Some(served) = self.0.providers.get(&exact.provider)
            && self.list_of(&exact.provider, served).await.is_none()
        {
            return Match::One(exact);
        }
        choose(name, &known)
    }
}

/// One provider as it is configured, to be asked directly.
pub fn provider(name: &str, provider: &config::Provider) -> Result<Arc<dyn Provider>> {
    let served =
        serve(name, provider).with_context(|| format!("Failed to set up [providers.{name}]"))?;
    Ok(served.provider)
}

fn serve(name: &str, provider: &config::Provider) -> Result<Served> {
    let api: Arc<dyn Provider> = match provider.kind {
        ProviderKind::Offline => Arc::new(offline::Offline),
        ProviderKind::OpenAi => Arc::new(OpenAi::new(provider)?),
        ProviderKind::Anthropic => Arc::new(Anthropic::new(provider)?),
    };
    Ok(Served {
        provider: api,
        idle_timeout: Duration::from_secs(provider.idle_timeout_secs.max(1)),
        models: provider.models.clone(),
        free: provider.kind == ProviderKind::Offline || matches!(name, "ollama" | "lmstudio"),
    })
}

#[cfg(test)]
mod tests;
