//! Language models: one [`Provider`] per API, typed parts and errors, and [`Models`], which chooses among them with
//! failover, cooldown and time-outs. Dropping a stream closes its HTTP request.

pub mod anthropic;
pub mod catalog;
#[cfg(test)]
pub mod contract;
pub mod failover;
mod health;
mod http;
pub mod models;
pub mod names;
pub mod offline;
pub mod openai;
mod refusal;
#[cfg(test)]
pub mod testing;
mod think;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub use failover::{Answer, Event, Failure};
pub use models::{Models, Served, provider};
pub use names::Match;

/// `<provider>/<model>`, as in `chat.model`. The model's name may contain slashes itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModelId {
    pub provider: String,
    pub model: String,
}

impl FromStr for ModelId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => Ok(Self {
                provider: provider.into(),
                model: model.into(),
            }),
            _ => Err(format!(
                "{text:?} is not of the form \"<provider>/<model>\""
            )),
        }
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Assistant,
}

/// An image for models that see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `image/png` and the like.
    pub media_type: String,
    pub bytes: bytes::Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    Image(Image),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: Vec<Content>,
}

/// What a model is asked. Consecutive messages of one role are allowed; a provider joins them where its API wants turns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub system: String,
    pub messages: Vec<Message>,
    /// Tokens.
    pub max_output_tokens: u32,
    /// Left out of the request where `None`.
    pub temperature: Option<f64>,
}

impl Request {
    /// Roughly what the request takes of the model's context window, images included.
    pub fn estimate_tokens(&self) -> u32 {
        /// Of an image, as providers count one of about a megapixel.
        const IMAGE: u32 = 1_500;
        /// Of the envelope of a message.
        const MESSAGE: u32 = 4;
        let contents = self.messages.iter().flat_map(|message| &message.content);
        let tokens = contents.map(|content| match content {
            Content::Text(text) => estimate_tokens(text),
            Content::Image(_) => IMAGE,
        });
        let envelopes = u32::try_from(self.messages.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(MESSAGE);
        tokens
            .chain([estimate_tokens(&self.system), envelopes])
            .fold(0, u32::saturating_add)
    }
}

/// Messages as turns: neighbours of one role joined, empty content left out.
fn turns(messages: Vec<Message>) -> Vec<Message> {
    let mut turns: Vec<Message> = Vec::new();
    for mut message in messages {
        message.content.retain(|content| match content {
            Content::Text(text) => !text.trim().is_empty(),
            Content::Image(image) => !image.bytes.is_empty(),
        });
        match turns.last_mut() {
            _ if message.content.is_empty() => {}
            Some(last) if last.role == message.role => last.content.append(&mut message.content),
            _ => turns.push(message),
        }
    }
    turns
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input that was neither read from nor written to the provider's cache.
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
}

/// Why a model ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    Complete,
    /// `max_output_tokens` was reached.
    Length,
    /// The model or its provider declined.
    Refused,
    /// It asked for a tool, though none was offered.
    ToolCall,
    Other(String),
}

/// What comes out of a model. Only `Text` is for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Thinking(String),
    /// No tools are offered in this version, so this is told to the log only.
    ToolCall {
        name: String,
    },
    /// Totals so far; the last one counts.
    Usage(Usage),
    Finish(Finish),
}

/// Why a request failed; the caller branches on it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("The model is rate limited")]
    RateLimited { retry_after: Option<Duration> },
    #[error("The model is overloaded or its server failed (HTTP {status})")]
    Unavailable {
        status: u16,
        retry_after: Option<Duration>,
    },
    #[error("The model did not answer in time")]
    TimedOut,
    #[error("The model could not be reached: {0}")]
    Network(String),
    #[error("The provider refused the key or its permission (HTTP {status})")]
    Unauthorized { status: u16 },
    #[error("The model does not exist: {0}")]
    NoSuchModel(String),
    #[error("The conversation is too long for the model")]
    ContextTooLong,
    #[error("The provider declined the content")]
    ContentRefused,
    #[error("The account with the provider has no credit left")]
    NoCredit,
    /// What the request did wrong, in the provider's words, without secrets.
    #[error("The provider refused the request (HTTP {status}): {message}")]
    Invalid { status: u16, message: String },
    #[error("The model's answer could not be read: {0}")]
    Protocol(String),
}

impl Error {
    /// Whether the same request may succeed at another model or later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::Unavailable { .. }
                | Self::TimedOut
                | Self::Network(_)
                | Self::Protocol(_)
        )
    }

    /// How long the provider asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

pub type Parts = BoxStream<'static, Result<Part, Error>>;

/// One API of one provider. `stream` resolves when the response's head is there; its stream ends with a `Finish`
/// (usage may follow) or an error, and dropping it closes the connection. An empty `Thinking` is a sign of life.
pub trait Provider: Send + Sync {
    fn stream(&self, model: &str, request: Request) -> BoxFuture<'static, Result<Parts, Error>>;
    /// Names of the models the provider lists.
    fn models(&self) -> BoxFuture<'static, Result<Vec<String>, Error>>;
}

/// What is known of a model, from `config/models.toml` and `config/prices.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInfo {
    /// Tokens; 0: unknown.
    pub context_window: u32,
    pub sees_images: bool,
    /// USD per million tokens; `None`: unknown.
    pub price: Option<Price>,
}

/// USD per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Price {
    pub input: f64,
    pub output: f64,
    pub cache_read: f64,
    pub cache_write: f64,
}

/// Roughly how many tokens a text takes: four bytes each, and one for each character of the scripts (Chinese, Japanese,
/// Korean, emoji) that tokenizers do not join. Errs on the high side.
pub fn estimate_tokens(text: &str) -> u32 {
    let (narrow, wide) = text
        .chars()
        .fold((0_usize, 0_usize), |(narrow, wide), character| {
            if is_wide(character) {
                (narrow, wide.saturating_add(1))
            } else {
                (narrow.saturating_add(character.len_utf8()), wide)
            }
        });
    u32::try_from(narrow.div_ceil(4).saturating_add(wide)).unwrap_or(u32::MAX)
}

fn is_wide(character: char) -> bool {
    matches!(u32::from(character), 0x1100..=0x11FF | 0x2E80..=0xD7FF | 0xF900..=0xFAFF | 0xFE30..=0xFE4F
        | 0xFF00..=0xFFEF | 0x1F000..=0x3FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_id_is_split_at_the_first_slash() {
        let table = [
            (
                "anthropic/claude-sonnet-4",
                Some(("anthropic", "claude-sonnet-4")),
            ),
            (
                "openrouter/meta/llama-3",
                Some(("openrouter", "meta/llama-3")),
            ),
            (" ollama/llama3.2:3b ", Some(("ollama", "llama3.2:3b"))),
            ("gpt-4o", None),
            ("/x", None),
            ("x/", None),
            ("", None),
        ];
        for (text, expected) in table {
            let parsed = text.parse::<ModelId>().ok();
            let parts = parsed
                .as_ref()
                .map(|id| (id.provider.as_str(), id.model.as_str()));
            assert_eq!(parts, expected, "{text:?}");
        }
    }

    #[test]
    fn tokens_are_estimated_by_script() {
        let table = [
            ("", 0),
            ("hi", 1),
            ("four", 1),
            ("fives", 2),
            ("你好吗", 3),
            ("ä", 1),
            ("👍", 1),
            ("ok 你好", 3),
        ];
        for (text, expected) in table {
            assert_eq!(estimate_tokens(text), expected, "{text:?}");
        }
    }
}
