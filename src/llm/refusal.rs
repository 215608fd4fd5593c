//! What a provider's refusal means: from its status, its headers and a body that may be any of the shapes that real
//! servers and the proxies before them send.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::Error;

/// So many characters of a provider's words are kept.
const MESSAGE: usize = 300;

/// Phrases by which providers say it where their code does not, in lower case.
const TOO_LONG: [&str; 9] = [
    "context_length_exceeded",
    "context length",
    "context window",
    "prompt is too long",
    "input is too long",
    "too many tokens",
    "maximum context",
    "request_too_large",
    "input token count",
];
const NO_CREDIT: [&str; 6] = [
    "insufficient_quota",
    "credit balance",
    "insufficient balance",
    "insufficient credit",
    "billing_hard_limit",
    "billing_not_active",
];
const REFUSED: [&str; 5] = [
    "content_filter",
    "content_policy",
    "content management policy",
    "data_inspection_failed",
    "flagged by",
];
const NO_MODEL: [&str; 5] = [
    "model_not_found",
    "unknown model",
    "invalid model",
    "model not found",
    "not a valid model",
];

/// The error that an answer with this status and body is.
pub(super) fn classify(status: u16, headers: &HeaderMap, body: &str) -> Error {
    let said = Said::read(body);
    let retry_after = retry_after(headers, OffsetDateTime::now_utc()).or(said.retry_after);
    let all = format!("{} {} {}", said.code, said.kind, said.message).to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| all.contains(phrase));
    match status {
        402 => Error::NoCredit,
        400..=499 if says(&NO_CREDIT) => Error::NoCredit,
        429 => Error::RateLimited { retry_after },
        408 => Error::TimedOut,
        400 | 403 | 422 if says(&REFUSED) => Error::ContentRefused,
        401 | 403 => Error::Unauthorized { status },
        413 => Error::ContextTooLong,
        // 500 is what llama.cpp's server says.
        _ if (400..=500).contains(&status) && says(&TOO_LONG) => Error::ContextTooLong,
        404 => Error::NoSuchModel(said.message),
        400..=499 if says(&NO_MODEL) => Error::NoSuchModel(said.message),
        409 | 425 | 500.. => Error::Unavailable {
            status,
            retry_after,
        },
        300..=399 => Error::Invalid {
            status,
            message: "it redirects elsewhere; check base_url".into(),
        },
        _ => Error::Invalid {
            status,
            message: said.message,
        },
    }
}

/// The error that an object inside a stream is, which began with status 200.
pub(super) fn classify_event(error: &Value) -> Error {
    let said = Said::of(error);
    let by_code = said
        .code
        .parse()
        .ok()
        .filter(|code| (400..600).contains(code));
    let kind = format!("{} {}", said.kind, said.code).to_lowercase();
    let status = by_code.unwrap_or_else(|| {
        let table = [
            ("rate_limit", 429),
            ("overloaded", 529),
            ("authentication", 401),
            ("permission", 403),
            ("not_found", 404),
            ("billing", 402),
            ("insufficient_quota", 402),
            ("timeout", 408),
            ("invalid_request", 400),
            ("context_length", 400),
            ("content_filter", 400),
        ];
        let found = table.iter().find(|(word, _)| kind.contains(word));
        found.map_or(500, |(_, status)| *status)
    });
    let body = serde_json::json!({ "error": error }).to_string();
    classify(status, &HeaderMap::new(), &body)
}

/// What a body says, whatever its shape.
#[derive(Debug, Default, PartialEq)]
struct Said {
    code: String,
    kind: String,
    message: String,
    retry_after: Option<Duration>,
}

impl Said {
    fn read(body: &str) -> Self {
        if let Ok(value) = serde_json::from_str::<Value>(body) {
            return Self::of(&value);
        }
        let message = if body.trim_start().starts_with('<') {
            // A proxy's page; its markup is of no use to anybody.
            "it answered with a web page".into()
        } else {
            shorten(body)
        };
        Self {
            message,
            ..Self::default()
        }
    }

    /// OpenAI's `{"error": {"message", "type", "code"}}`, Gemini's the same in a list, Ollama's `{"error": "…"}`, FastAPI's
    /// `{"detail": …}`, and objects with `message` alone.
    fn of(value: &Value) -> Self {
        if let Some(first) = value.get(0) {
            return Self::of(first);
        }
        for inner in ["error", "detail"] {
            match value.get(inner) {
                Some(Value::String(message)) => {
                    return Self {
                        message: shorten(message),
                        ..Self::default()
                    };
                }
                Some(object @ (Value::Object(_) | Value::Array(_))) => return Self::of(object),
                _ => {}
            }
        }
        let text = |key: &str| match value.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let message = [text("message"), text("msg"), text("error_msg")];
        Self {
            code: text("code"),
            kind: text("type"),
            message: message
                .iter()
                .find(|text| !text.is_empty())
                .map(|text| shorten(text))
                .unwrap_or_default(),
            retry_after: retry_delay(value),
        }
    }
}

/// Gemini's `RetryInfo`: `"details": [{"retryDelay": "34s"}]`.
fn retry_delay(value: &Value) -> Option<Duration> {
    let details = value.get("details")?.as_array()?;
    let delay = details
        .iter()
        .find_map(|detail| detail.get("retryDelay")?.as_str())?;
    seconds(delay.strip_suffix('s')?)
}

/// One line without control characters, not too long.
fn shorten(text: &str) -> String {
    let clean = text.split(|character: char| character.is_whitespace() || character.is_control());
    let line = clean
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// How long to wait: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(wait) = header("retry-after-ms").and_then(seconds) {
        return Some(wait / 1000);
    }
    let value = header(RETRY_AFTER.as_str())?;
    seconds(value).or_else(|| {
        let format = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let at = PrimitiveDateTime::parse(value, format).ok()?.assume_utc();
        // A date that has passed: at once.
        Some(Duration::try_from(at - now).unwrap_or_default())
    })
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

#[cfg(test)]
mod tests;
