//! The provider contract in the words of the Messages API, and its requests.

use std::sync::Arc;

use super::*;
use crate::config::ProviderKind;
use crate::llm::contract::{self, Api, ask, picture, question};
use crate::llm::testing::{End, Reply};
use serde_json::json;

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":6,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n";

const API: Api = Api {
    build: |provider| Arc::new(Anthropic::new(provider).unwrap()),
    kind: ProviderKind::Anthropic,
    answer: concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":6,\"cache_read_input_tokens\":4,\"cache_creation_input_tokens\":0,\"output_tokens\":1}}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"Hm\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"x\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grü\"}}\n\n",
        "event: something_new\ndata: {\"type\":\"something_new\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"ße 👋\\nAlice\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    unfinished: "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße 👋\\nAlice\"}}\n\n",
    overloaded: concat!(
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Gr\"}}\n\n",
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
    ),
    cut_short: concat!(
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Gr\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    tool_call: concat!(
        "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"name\":\"search\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    refused: concat!(
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Gr\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"refusal\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    models: "{\"data\":[{\"id\":\"a\",\"type\":\"model\"},{\"id\":\"b\"}],\"has_more\":false}",
};

#[tokio::test]
async fn the_messages_api_keeps_the_contract() {
    contract::check(&API).await;
}

#[tokio::test]
async fn a_request_names_version_and_key_and_marks_what_is_to_be_cached() {
    let (server, provider) = API.serve(vec![Reply::events(API.answer, 100, End::Whole)]);
    ask(&*provider).await.unwrap();
    let request = server.last();
    assert!(
        request.head.starts_with("post /v1/messages "),
        "{}",
        request.head
    );
    assert!(request.head.contains("x-api-key: secret-key"));
    assert!(request.head.contains("anthropic-version: 2023-06-01"));
    let cache = json!({ "type": "ephemeral" });
    let expected = json!({
        "model": "model-1",
        "max_tokens": 100,
        "stream": true,
        "temperature": 0.5,
        "system": [{ "type": "text", "text": "Be brief.", "cache_control": cache }],
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "Hello", "cache_control": cache }] },
            { "role": "assistant", "content": [{ "type": "text", "text": "Yes?" }] },
            { "role": "user", "content": [
                { "type": "text", "text": "One" },
                { "type": "text", "text": "Two", "cache_control": cache },
            ] },
        ],
    });
    assert_eq!(request.body, expected);
}

#[test]
fn images_go_as_base64_and_a_conversation_begins_with_the_person() {
    let body = wire::request("m", picture());
    let image = &body["messages"][2]["content"][2];
    assert_eq!(
        image["source"],
        json!({ "type": "base64", "media_type": "image/png", "data": "iVBORw==" })
    );
    let mut begun = question();
    begun.messages.remove(0);
    begun.temperature = Some(1.7);
    let body = wire::request("m", begun);
    assert_eq!(body["messages"][0]["role"], "user");
    assert_eq!(body["messages"][1]["content"][0]["text"], "Yes?");
    assert_eq!(body["temperature"], 1.0);
}

#[tokio::test]
async fn nothing_is_awaited_behind_the_end() {
    let body = format!("{START}data: {{\"type\":\"message_stop\"}}\n\n");
    let (_server, provider) = API.serve(vec![Reply::events(&body, 1000, End::Hang)]);
    let sum = ask(&*provider).await.unwrap();
    assert_eq!(sum.finish, Some(crate::llm::Finish::Complete));
    assert_eq!(
        (sum.usage.input, sum.usage.cache_read, sum.usage.output),
        (6, 4, 1)
    );
}

#[tokio::test]
async fn a_low_credit_balance_is_told_as_such() {
    let body = "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance is too low\"}}";
    let (_server, provider) = API.serve(vec![Reply::plain(400, body)]);
    assert!(matches!(ask(&*provider).await, Err(Error::NoCredit)));
}
