//! Lenient types for what real servers answer: chunks without an id, lists that are null, finish reasons nobody has heard
//! of, tool calls without an index, thoughts under several names.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Piece;
use crate::llm::refusal::classify_event;
use crate::llm::think::Think;
use crate::llm::{Error, Finish, Part, Usage};

/// Reads a value, or takes the default where it has another shape.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    source: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(source)?;
    Ok(T::deserialize(value).unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk {
    #[serde(deserialize_with = "lenient")]
    choices: Vec<Choice>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Spent>,
    /// An error after the stream began.
    error: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    /// Servers that do not stream say `message`.
    #[serde(alias = "message", deserialize_with = "lenient")]
    delta: Delta,
    #[serde(deserialize_with = "lenient")]
    finish_reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    /// A string, or Mistral's list of text and thinking.
    content: Value,
    /// DeepSeek, vLLM, xAI.
    #[serde(deserialize_with = "lenient")]
    reasoning_content: String,
    /// OpenRouter, Groq, Ollama.
    #[serde(deserialize_with = "lenient")]
    reasoning: String,
    #[serde(deserialize_with = "lenient")]
    refusal: String,
    #[serde(deserialize_with = "lenient")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolCall {
    #[serde(deserialize_with = "lenient")]
    function: Function,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    #[serde(deserialize_with = "lenient")]
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spent {
    #[serde(deserialize_with = "lenient")]
    prompt_tokens: u64,
    #[serde(deserialize_with = "lenient")]
    completion_tokens: u64,
    #[serde(deserialize_with = "lenient")]
    prompt_tokens_details: Details,
    /// DeepSeek's name for what is in the details elsewhere.
    #[serde(deserialize_with = "lenient")]
    prompt_cache_hit_tokens: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    #[serde(deserialize_with = "lenient")]
    cached_tokens: u64,
}

/// Makes parts of chunks.
#[derive(Debug, Default)]
pub(super) struct Reading {
    think: Think,
    refused: bool,
    finished: bool,
}

impl Reading {
    pub(super) fn chunk(&mut self, chunk: Chunk) -> Result<Vec<Piece>, Error> {
        if !chunk.error.is_null() {
            return Err(classify_event(&chunk.error));
        }
        let mut parts = Vec::new();
        // Only one was asked for.
        if let Some(choice) = chunk.choices.into_iter().next() {
            self.delta(choice.delta, &mut parts);
            self.finish(&choice.finish_reason, &mut parts);
        }
        if let Some(spent) = chunk.usage {
            parts.push(Part::Usage(spent.into()));
        }
        if parts.is_empty() {
            // A sign of life.
            parts.push(Part::Thinking(String::new()));
        }
        Ok(parts.into_iter().map(Ok).collect())
    }

    fn delta(&mut self, delta: Delta, parts: &mut Vec<Part>) {
        // Where a server sends both, they are the same.
        let reasoning = [delta.reasoning_content, delta.reasoning];
        let reasoning = reasoning.into_iter().find(|text| !text.is_empty());
        parts.extend(reasoning.map(Part::Thinking));
        match delta.content {
            Value::String(text) => parts.extend(self.think.push(&text)),
            Value::Array(list) => parts.extend(list.iter().filter_map(listed)),
            _ => {}
        }
        if !delta.refusal.is_empty() {
            self.refused = true;
            parts.push(Part::Text(delta.refusal));
        }
        for call in delta.tool_calls {
            // Its arguments come in further pieces without a name.
            if !call.function.name.is_empty() {
                parts.push(Part::ToolCall {
                    name: call.function.name,
                });
            }
        }
    }

    /// Some servers send an empty reason with every chunk; it is none.
    fn finish(&mut self, reason: &str, parts: &mut Vec<Part>) {
        if reason.is_empty() || self.finished {
            return;
        }
        self.finished = true;
        parts.extend(self.think.end());
        parts.push(Part::Finish(match reason {
            _ if self.refused => Finish::Refused,
            "stop" | "eos" | "end_turn" | "stop_sequence" => Finish::Complete,
            "length" | "max_tokens" | "model_length" => Finish::Length,
            "content_filter" | "refusal" | "safety" => Finish::Refused,
            "tool_calls" | "function_call" | "tool_use" => Finish::ToolCall,
            other => Finish::Other(other.into()),
        }));
    }

    /// The end of the stream, announced or not.
    pub(super) fn end(mut self, announced: bool) -> Vec<Piece> {
        if self.finished {
            return Vec::new();
        }
        if !announced {
            return vec![Err(Error::Network("the answer was cut off".into()))];
        }
        let mut parts = Vec::new();
        self.finish("stop", &mut parts);
        parts.into_iter().map(Ok).collect()
    }
}

/// An element of Mistral's content lists.
fn listed(element: &Value) -> Option<Part> {
    if let Some(thoughts) = element.get("thinking") {
        let texts = thoughts.as_array()?.iter();
        let texts = texts.filter_map(|thought| thought.get("text")?.as_str());
        return Some(Part::Thinking(texts.collect()));
    }
    Some(Part::Text(element.get("text")?.as_str()?.into()))
}

impl From<Spent> for Usage {
    fn from(spent: Spent) -> Self {
        let cached = spent
            .prompt_tokens_details
            .cached_tokens
            .max(spent.prompt_cache_hit_tokens);
        Self {
            input: spent.prompt_tokens.saturating_sub(cached),
            output: spent.completion_tokens,
            cache_read: cached,
            cache_write: 0,
        }
    }
}

/// Words in the names of models that do not chat.
const NO_CHAT: [&str; 14] = [
    "embed",
    "whisper",
    "tts",
    "dall-e",
    "moderation",
    "image",
    "audio",
    "realtime",
    "transcribe",
    "sora",
    "babbage",
    "davinci",
    "rerank",
    "ocr",
];

/// The names in a list of models: `{"data": [{"id"}]}`, Together's plain list, and names with Gemini's `models/`.
pub(super) fn model_names(list: &Value) -> Vec<String> {
    let entries = list
        .get("data")
        .or_else(|| list.get("models"))
        .unwrap_or(list);
    let mut names: Vec<String> = entries
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("id").or_else(|| entry.get("name"))?.as_str())
        .map(|name| name.strip_prefix("models/").unwrap_or(name).to_owned())
        .filter(|name| {
            !NO_CHAT
                .iter()
                .any(|word| name.to_lowercase().contains(word))
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
