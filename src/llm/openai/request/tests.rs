//! The request as JSON.

use serde_json::json;

use super::{Dialect, Request};
use crate::llm::contract::{picture, question};

#[test]
fn a_request_is_in_turns_with_what_the_server_takes() {
    let body = super::json("m", &question(), Dialect::of_server("http://127.0.0.1/v1"));
    let expected = json!({
        "model": "m",
        "stream": true,
        "stream_options": { "include_usage": true },
        "max_tokens": 100,
        "temperature": 0.5,
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "Hello" },
            { "role": "assistant", "content": "Yes?" },
            { "role": "user", "content": "One\n\nTwo" },
        ],
    });
    assert_eq!(body, expected);
}

#[test]
fn servers_differ_in_what_they_take() {
    let table = [
        ("https://api.openai.com/v1", "max_completion_tokens", true),
        (
            "https://me.openai.azure.com/openai/v1",
            "max_completion_tokens",
            true,
        ),
        ("https://api.mistral.ai/v1", "max_tokens", false),
        ("http://localhost:11434/v1", "max_tokens", true),
    ];
    for (base_url, key, options) in table {
        let body = super::json("m", &question(), Dialect::of_server(base_url));
        assert_eq!(body[key], 100, "{base_url}");
        assert_eq!(body.get("stream_options").is_some(), options, "{base_url}");
    }
    let plain = Request {
        temperature: None,
        max_output_tokens: 0,
        ..Request::default()
    };
    let body = super::json("m", &plain, Dialect::of_server("http://x"));
    assert_eq!(
        body.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["messages", "model", "stream", "stream_options"]
    );
}

#[test]
fn an_image_goes_as_a_data_url() {
    let body = super::json("m", &picture(), Dialect::of_server("http://x"));
    let expected = json!([
        { "type": "text", "text": "One" },
        { "type": "text", "text": "Two" },
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw==" } },
    ]);
    assert_eq!(body["messages"][3]["content"], expected);
}
