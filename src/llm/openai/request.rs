//! A request as JSON, and which parameters a server takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::llm::{Content, Message, Request, Role, turns};

/// Which parameters a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// `max_completion_tokens` in the place of `max_tokens`: OpenAI's reasoning models refuse the old name, its other
    /// models take both, and most servers after its model know the old one only.
    completion_tokens: bool,
    /// `stream_options`, by which usage is asked for; Mistral refuses it, and sends usage unasked.
    stream_options: bool,
    /// Reasoning models refuse any but the default.
    temperature: bool,
}

impl Dialect {
    pub(super) fn of_server(base_url: &str) -> Self {
        let host = reqwest::Url::parse(base_url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        Self {
            completion_tokens: host == "api.openai.com" || host.ends_with(".openai.azure.com"),
            stream_options: host != "api.mistral.ai",
            temperature: true,
        }
    }

    /// What to try after a refusal that names a parameter; `None`: it names none that we could leave out.
    pub(super) fn without(self, message: &str) -> Option<Self> {
        if self.stream_options && message.contains("stream_options") {
            return Some(Self {
                stream_options: false,
                ..self
            });
        }
        if self.temperature && message.contains("temperature") {
            return Some(Self {
                temperature: false,
                ..self
            });
        }
        // One way only: there is no end if a server refuses both.
        if !self.completion_tokens && message.contains("max_completion_tokens") {
            return Some(Self {
                completion_tokens: true,
                ..self
            });
        }
        None
    }
}

pub(super) fn json(model: &str, request: &Request, dialect: Dialect) -> Value {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    messages.extend(turns(request.messages.clone()).iter().map(message));
    let mut body = json!({ "model": model, "messages": messages, "stream": true });
    let mut set = |key: &str, value: Value| {
        if let Some(object) = body.as_object_mut() {
            object.insert(key.into(), value);
        }
    };
    if request.max_output_tokens > 0 {
        let key = if dialect.completion_tokens {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        set(key, request.max_output_tokens.into());
    }
    if dialect.stream_options {
        set("stream_options", json!({ "include_usage": true }));
    }
    if let Some(temperature) = request.temperature.filter(|_| dialect.temperature) {
        set("temperature", temperature.into());
    }
    body
}

/// Text alone goes as a string, which every server takes; a list only where there is an image.
fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let has_image = message
        .content
        .iter()
        .any(|content| matches!(content, Content::Image(_)));
    if has_image && message.role == Role::User {
        let content: Vec<Value> = message.content.iter().map(part).collect();
        return json!({ "role": role, "content": content });
    }
    let texts: Vec<&str> = message
        .content
        .iter()
        .filter_map(|content| match content {
            Content::Text(text) => Some(text.as_str()),
            Content::Image(_) => None,
        })
        .collect();
    json!({ "role": role, "content": texts.join("\n\n") })
}

fn part(content: &Content) -> Value {
    match content {
        Content::Text(text) => json!({ "type": "text", "text": text }),
        Content::Image(image) => {
            let url = format!(
                "data:{};base64,{}",
                image.media_type,
                STANDARD.encode(&image.bytes)
            );
            json!({ "type": "image_url", "image_url": { "url": url } })
        }
    }
}

#[cfg(test)]
mod tests;
