//! What is known of models by their name: `config/models.toml` and `config/prices.toml`, built in; a file
//! `config/prices.toml` beside `moltis.toml` overrides the prices. Names carry dates, and gateways put the maker's name
//! in front: see [`Catalog::info`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{ModelId, ModelInfo, Price, Usage};

const MODELS: &str = include_str!("../../config/models.toml");
const PRICES: &str = include_str!("../../config/prices.toml");

/// Words after a name that make no other model of it.
const EDITIONS: [&str; 5] = ["latest", "preview", "exp", "beta", "instruct"];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    context_window: u32,
    #[serde(default)]
    sees_images: bool,
}

/// A price as it is written: where a provider's cache costs nothing special, it costs what input does.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPrice {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

impl From<WrittenPrice> for Price {
    fn from(written: WrittenPrice) -> Self {
        Self {
            input: written.input,
            output: written.output,
            cache_read: written.cache_read.unwrap_or(written.input),
            cache_write: written.cache_write.unwrap_or(written.input),
        }
    }
}

/// By normalised name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    models: BTreeMap<String, Facts>,
    prices: BTreeMap<String, Price>,
}

impl Price {
    /// USD for what was used.
    pub fn of(&self, usage: &Usage) -> f64 {
        let million = |tokens: u64, price: f64| {
            #[expect(
                clippy::cast_precision_loss,
                reason = "exact far beyond any number of tokens"
            )]
            let tokens = tokens as f64;
            tokens * price / 1e6
        };
        million(usage.input, self.input)
            + million(usage.output, self.output)
            + million(usage.cache_read, self.cache_read)
            + million(usage.cache_write, self.cache_write)
    }
}

impl Catalog {
    pub fn built_in() -> Result<Self> {
        Ok(Self {
            models: read::<Facts, Facts>(MODELS).context("config/models.toml")?,
            prices: read::<WrittenPrice, Price>(PRICES).context("config/prices.toml")?,
        })
    }

    /// Prices of a file win over the built-in ones; no file is no error.
    pub fn read_prices(&mut self, path: &Path) -> Result<()> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(err) => {
                return Err(err).with_context(|| format!("Failed to read {}", path.display()));
            }
        };
        let prices = read::<WrittenPrice, Price>(&text)
            .with_context(|| format!("Failed to read {}", path.display()))?;
        self.prices.extend(prices);
        Ok(())
    }

    /// The longest known name that a model's name starts with, tried with the provider in front and then without each
    /// part before a slash. What only a family is known of has its window, but no price: a new member may cost more.
    pub fn info(&self, id: &ModelId) -> ModelInfo {
        let full = normalise(&id.to_string());
        let facts = lookup(&self.models, &full, covers);
        ModelInfo {
            context_window: facts.map_or(0, |facts| facts.context_window),
            sees_images: facts.is_some_and(|facts| facts.sees_images),
            price: lookup(&self.prices, &full, is_edition).copied(),
        }
    }
}

fn read<T: serde::de::DeserializeOwned + Into<U>, U>(text: &str) -> Result<BTreeMap<String, U>> {
    let table: BTreeMap<String, T> = toml::from_str(text)?;
    Ok(table
        .into_iter()
        .map(|(name, value)| (normalise(&name), value.into()))
        .collect())
}

/// Gateways write `claude-sonnet-4.5` for `claude-sonnet-4-5`.
fn normalise(name: &str) -> String {
    name.to_lowercase().replace(['.', '_'], "-")
}

fn lookup<'a, T>(
    table: &'a BTreeMap<String, T>,
    full: &str,
    fits: impl Fn(&str, &str) -> bool,
) -> Option<&'a T> {
    let mut name = full;
    loop {
        let best = table
            .iter()
            .filter(|(known, _)| {
                name.strip_prefix(known.as_str())
                    .is_some_and(|rest| fits(known, rest))
            })
            .max_by_key(|(known, _)| known.len());
        if let Some((_, found)) = best {
            return Some(found);
        }
        (_, name) = name.split_once('/')?;
    }
}

/// Whether a known name covers one with this rest: `gpt-4` does `gpt-4-turbo`, not `gpt-4o`; `ollama/` all of its.
fn covers(known: &str, rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['-', ':', '@']) || known.ends_with('/')
}

/// Whether the rest of a name is only a date, a revision or the like: `-20250514`, `-001`, `@20250514`, `-latest`.
fn is_edition(known: &str, rest: &str) -> bool {
    let mut words = rest.split(['-', '@']).skip(1);
    let Some(first) = words.next() else {
        return rest.is_empty();
    };
    let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    covers(known, rest)
        && ((number(first) && first.len() >= 3) || EDITIONS.contains(&first))
        && words.all(|word| number(word) || EDITIONS.contains(&word))
}

#[cfg(test)]
mod tests;
