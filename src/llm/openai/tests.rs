//! The provider contract in the words of Chat Completions, and what is this API's own.

use super::*;
use crate::config::ProviderKind;
use crate::llm::contract::{self, Api, ask};
use crate::llm::testing::{End, Reply};

const ANSWER: &str = concat!(
    ": a comment, as OpenRouter sends them\n\n",
    "data: {\"created\":1.5,\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"\"}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"Hm\"},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"Grü\"}}],\"usage\":null}\n\n",
    "data: {\"id\":7,\"choices\":[{\"delta\":{\"content\":\"ße 👋\\nAlice\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n",
    "data: [DONE]\n\n",
);

const API: Api = Api {
    build: |provider| Arc::new(OpenAi::new(provider).unwrap()),
    kind: ProviderKind::OpenAi,
    answer: ANSWER,
    unfinished: "data: {\"choices\":[{\"delta\":{\"content\":\"Grüße 👋\\nAlice\"}}]}\n\n",
    overloaded: concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"Gr\"}}]}\n\n",
        "data: {\"error\":{\"message\":\"Busy\",\"code\":529}}\n\n",
    ),
    cut_short: "data: {\"choices\":[{\"delta\":{\"content\":\"Gr\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n",
    tool_call: concat!(
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"search\",\"arguments\":\"\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{}\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n",
    ),
    refused: "data: {\"choices\":[{\"delta\":{\"content\":\"Gr\"},\"finish_reason\":\"content_filter\"}]}\n\ndata: [DONE]\n\n",
    models: "{\"data\":[{\"id\":\"b\"},{\"id\":\"models/a\"},{\"id\":\"text-embedding-3\"}]}",
};

#[tokio::test]
async fn chat_completions_keep_the_contract() {
    contract::check(&API).await;
}

async fn answer(body: &str) -> String {
    let (_server, provider) = API.serve(vec![Reply::events(body, 11, End::Whole)]);
    match ask(&*provider).await {
        Ok(sum) => format!(
            "{}|{}|{:?}|{:?}",
            sum.thoughts, sum.text, sum.finish, sum.error
        ),
        Err(err) => format!("{err:?}"),
    }
}

#[tokio::test]
async fn what_real_servers_send_is_understood() {
    let table = [
        (
            "done without a reason",
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata:[DONE]\n\n",
            "|a|Some(Complete)|None",
        ),
        (
            "a reason without done",
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n",
            "|a|Some(Complete)|None",
        ),
        (
            "an unknown reason",
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"bored\"}]}\n\n",
            "|a|Some(Other(\"bored\"))|None",
        ),
        (
            "thoughts in tags",
            "data: {\"choices\":[{\"delta\":{\"content\":\"<thi\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"nk>b</think>\\n\\na\"}}]}\n\ndata: [DONE]\n\n",
            "b|a|Some(Complete)|None",
        ),
        (
            "Mistral's lists",
            "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"b\"}]},{\"type\":\"text\",\"text\":\"a\"}]}}]}\n\ndata: [DONE]\n\n",
            "b|a|Some(Complete)|None",
        ),
        (
            "an error as text",
            "data: {\"error\":\"model runner has unexpectedly stopped\"}\n\n",
            "||None|Some(\"Unavailable { status: 500, retry_after: None }\")",
        ),
        (
            "no JSON",
            "data: oops\n\n",
            "||None|Some(\"Protocol(\\\"expected value at line 1 column 1\\\")\")",
        ),
        (
            "text that speaks of the end",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\ndata: [DONE]\"}}]}\n\n",
            "|\ndata: [DONE]|None|Some(\"Network(\\\"the answer was cut off\\\")\")",
        ),
    ];
    for (name, body, expected) in table {
        assert_eq!(answer(body).await, expected, "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_taken_whole() {
    let body = "{\"choices\":[{\"message\":{\"content\":\"a\\nb\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3}}";
    let (_server, provider) = API.serve(vec![Reply::plain(200, body)]);
    let sum = ask(&*provider).await.unwrap();
    assert_eq!((sum.text.as_str(), sum.usage.input), ("a\nb", 3));
    assert_eq!(sum.finish, Some(crate::llm::Finish::Complete));
    let (_server, provider) = API.serve(vec![Reply::plain(200, "{\"error\":{\"code\":\"429\"}}")]);
    let refused = ask(&*provider).await.unwrap_err();
    assert!(matches!(refused, Error::RateLimited { .. }), "{refused:?}");
    let page = Reply::Plain {
        status: 200,
        headers: "Content-Type: text/html\r\n",
        body: "<p>Log in".into(),
    };
    let (_server, provider) = API.serve(vec![page]);
    let refused = ask(&*provider).await.unwrap_err();
    assert!(matches!(refused, Error::Protocol(_)), "{refused:?}");
}

#[tokio::test]
async fn a_parameter_that_is_refused_is_left_out_from_then_on() {
    let refused =
        |message: &str| Reply::plain(400, &format!("{{\"error\":{{\"message\":\"{message}\"}}}}"));
    let (server, provider) = API.serve(vec![
        refused("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        refused("Unsupported value: 'temperature' does not support 0.5"),
        Reply::events(ANSWER, 1000, End::Whole),
    ]);
    for _ in 0..2 {
        ask(&*provider).await.unwrap();
    }
    assert_eq!(server.count(), 4);
    let body = server.last().body;
    assert_eq!(body["max_completion_tokens"], 100);
    assert_eq!(body.get("max_tokens"), None);
    assert_eq!(body.get("temperature"), None);
}

#[tokio::test]
async fn a_failure_is_not_tried_again_unseen() {
    for status in [429, 500, 503] {
        let (server, provider) = API.serve(vec![Reply::plain(status, "{}")]);
        ask(&*provider).await.unwrap_err();
        assert_eq!(server.count(), 1, "{status}");
    }
}
