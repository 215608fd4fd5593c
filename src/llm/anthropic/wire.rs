//! The Messages API as JSON: what we send, and what its events mean.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Piece;
use crate::llm::refusal::classify_event;
use crate::llm::{Content, Error, Finish, Message, Part, Request, Role, Usage, turns};

/// The API refuses a conversation that the assistant opens, as one does whose beginning was left out.
const OPENING: &str = "(The beginning of this conversation is left out.)";

pub(super) fn request(model: &str, request: Request) -> Value {
    let mut turns = turns(request.messages);
    if turns
        .first()
        .is_none_or(|first| first.role == Role::Assistant)
    {
        let opening = Message {
            role: Role::User,
            content: vec![Content::Text(OPENING.into())],
        };
        turns.insert(0, opening);
    }
    let mut body = json!({
        "model": model,
        "max_tokens": request.max_output_tokens.max(1),
        "stream": true,
        "messages": messages(&turns),
    });
    let Some(object) = body.as_object_mut() else {
        return body;
    };
    if !request.system.trim().is_empty() {
        let mut block = json!({ "type": "text", "text": request.system });
        mark(&mut block);
        object.insert("system".into(), json!([block]));
    }
    if let Some(temperature) = request.temperature {
        // Other APIs go up to 2.
        object.insert("temperature".into(), temperature.clamp(0.0, 1.0).into());
    }
    body
}

/// The last two of the person's turns are marked for the cache: the last, for the next request to read, and the one
/// before, which this request reads. With the system prompt these are three marks; four are allowed.
fn messages(turns: &[Message]) -> Vec<Value> {
    let mut marks = 2_u8;
    let mut messages: Vec<Value> = turns
        .iter()
        .rev()
        .map(|turn| {
            let mut blocks: Vec<Value> = turn.content.iter().map(block).collect();
            let role = match turn.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            if turn.role == Role::User && marks > 0 {
                marks -= 1;
                blocks.last_mut().into_iter().for_each(mark);
            }
            json!({ "role": role, "content": blocks })
        })
        .collect();
    messages.reverse();
    messages
}

fn mark(block: &mut Value) {
    if let Some(object) = block.as_object_mut() {
        object.insert("cache_control".into(), json!({ "type": "ephemeral" }));
    }
}

fn block(content: &Content) -> Value {
    match content {
        // White space at the end of the last text is refused.
        Content::Text(text) => json!({ "type": "text", "text": text.trim_end() }),
        Content::Image(image) => json!({
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": image.media_type,
                "data": STANDARD.encode(&image.bytes),
            },
        }),
    }
}

/// Makes parts of events.
#[derive(Debug, Default)]
pub(super) struct Reading {
    usage: Usage,
    finished: bool,
    over: bool,
}

impl Reading {
    /// Whether `message_stop` has come.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn event(&mut self, data: &str) -> Result<Vec<Piece>, Error> {
        let event: Value =
            serde_json::from_str(data).map_err(|err| Error::Protocol(err.to_string()))?;
        let text = |pointer: &str| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let mut parts = Vec::new();
        match text("/type") {
            "message_start" => {
                self.spent(event.pointer("/message/usage"));
                parts.push(Part::Usage(self.usage));
            }
            "content_block_start" => match text("/content_block/type") {
                "text" => parts.push(Part::Text(text("/content_block/text").into())),
                "tool_use" => parts.push(Part::ToolCall {
                    name: text("/content_block/name").into(),
                }),
                _ => {}
            },
            "content_block_delta" => match text("/delta/type") {
                "text_delta" => parts.push(Part::Text(text("/delta/text").into())),
                "thinking_delta" => parts.push(Part::Thinking(text("/delta/thinking").into())),
                // Signatures, and the arguments of tools that were never offered.
                _ => {}
            },
            "message_delta" => {
                self.spent(event.pointer("/usage"));
                parts.push(Part::Usage(self.usage));
                parts.extend(self.finish(text("/delta/stop_reason")));
            }
            "message_stop" => {
                self.over = true;
                // Never without a reason before it, but then the message is whole all the same.
                parts.extend(self.finish("end_turn"));
            }
            "error" => return Err(classify_event(event.get("error").unwrap_or(&event))),
            // `ping`, `content_block_stop`, and kinds to come, which a client is told to pass over.
            _ => {}
        }
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        if parts.is_empty() {
            // A sign of life.
            parts.push(Part::Thinking(String::new()));
        }
        Ok(parts.into_iter().map(Ok).collect())
    }

    fn finish(&mut self, reason: &str) -> Option<Part> {
        if reason.is_empty() || self.finished {
            return None;
        }
        self.finished = true;
        Some(Part::Finish(match reason {
            "end_turn" | "stop_sequence" | "pause_turn" => Finish::Complete,
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "refusal" => Finish::Refused,
            "tool_use" => Finish::ToolCall,
            other => Finish::Other(other.into()),
        }))
    }

    /// Counts are totals; what an event leaves out stays.
    fn spent(&mut self, usage: Option<&Value>) {
        let count = |key: &str, before: u64| {
            let count = usage.and_then(|usage| usage.get(key)?.as_u64());
            count.unwrap_or(before)
        };
        self.usage = Usage {
            input: count("input_tokens", self.usage.input),
            output: count("output_tokens", self.usage.output),
            cache_read: count("cache_read_input_tokens", self.usage.cache_read),
            cache_write: count("cache_creation_input_tokens", self.usage.cache_write),
        };
    }
}

pub(super) fn model_names(list: &Value) -> Vec<String> {
    let entries = list.get("data").and_then(Value::as_array);
    let names = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("id")?.as_str());
    names.map(str::to_owned).collect()
}
