//! What every provider that speaks HTTP must do, against a server that misbehaves: its tests call [`check`] with their
//! API's words for the same answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::testing::{End, ModelServer, Reply};
use super::{Content, Error, Finish, Image, Message, Part, Provider, Request, Role, Usage};
use crate::config::{self, ProviderKind};

/// One API in its own words.
pub struct Api {
    pub build: fn(&config::Provider) -> Arc<dyn Provider>,
    pub kind: ProviderKind,
    /// An event stream: thinks "Hm", answers "Grüße 👋\nAlice", has read 6 tokens and 4 more from its cache, wrote 5.
    pub answer: &'static str,
    /// What of it comes before the end is announced, in whole events: it lacks the reason and the end.
    pub unfinished: &'static str,
    /// Answers "Gr", then reports that it is overloaded.
    pub overloaded: &'static str,
    /// Answers "Gr" and stops for length.
    pub cut_short: &'static str,
    /// Calls the tool "search".
    pub tool_call: &'static str,
    /// Answers "Gr" and is stopped by a filter.
    pub refused: &'static str,
    /// A list of models "a" and "b".
    pub models: &'static str,
}

pub fn configured(kind: ProviderKind, base_url: &str) -> config::Provider {
    config::Provider {
        kind,
        api_key: Some("secret-key".into()),
        base_url: base_url.into(),
        models: Vec::new(),
        idle_timeout_secs: 5,
        headers: BTreeMap::from([("X-Team".to_owned(), "blue".into())]),
    }
}

pub fn question() -> Request {
    let text = |role, text: &str| Message {
        role,
        content: vec![Content::Text(text.into())],
    };
    Request {
        system: "Be brief.".into(),
        messages: vec![
            text(Role::User, "Hello"),
            text(Role::Assistant, "Yes?"),
            text(Role::User, "One"),
            text(Role::User, "Two"),
            text(Role::User, " \n"),
        ],
        max_output_tokens: 100,
        temperature: Some(0.5),
    }
}

pub fn picture() -> Request {
    let mut request = question();
    request.messages.push(Message {
        role: Role::User,
        content: vec![Content::Image(Image {
            media_type: "image/png".into(),
            bytes: bytes::Bytes::from_static(b"\x89PNG"),
        })],
    });
    request
}

/// What an answer adds up to.
#[derive(Debug, Default, PartialEq)]
pub struct Sum {
    pub text: String,
    pub thoughts: String,
    pub tools: Vec<String>,
    pub usage: Usage,
    pub finish: Option<Finish>,
    pub error: Option<String>,
}

pub async fn ask(provider: &dyn Provider) -> Result<Sum, Error> {
    let mut parts = provider.stream("model-1", question()).await?;
    let mut sum = Sum::default();
    while let Some(part) = parts.next().await {
        match part {
            Ok(Part::Text(text)) => sum.text.push_str(&text),
            Ok(Part::Thinking(text)) => sum.thoughts.push_str(&text),
            Ok(Part::ToolCall { name }) => sum.tools.push(name),
            Ok(Part::Usage(usage)) => sum.usage = usage,
            Ok(Part::Finish(finish)) => {
                assert_eq!(sum.finish.replace(finish), None, "It finished twice");
            }
            Err(err) => {
                sum.error = Some(format!("{err:?}"));
                assert!(parts.next().await.is_none(), "Something follows the error");
                break;
            }
        }
    }
    Ok(sum)
}

impl Api {
    pub fn serve(&self, replies: Vec<Reply>) -> (ModelServer, Arc<dyn Provider>) {
        let server = ModelServer::start(replies);
        let provider = (self.build)(&configured(self.kind, &server.base_url));
        (server, provider)
    }

    async fn reply(&self, reply: Reply) -> Result<Sum, Error> {
        let (_server, provider) = self.serve(vec![reply]);
        ask(&*provider).await
    }
}

/// Checks the whole contract.
pub async fn check(api: &Api) {
    chunks_may_be_cut_anywhere(api).await;
    an_answer_that_is_cut_off_is_an_error(api).await;
    every_way_to_end_is_told(api).await;
    a_line_without_an_end_is_refused(api).await;
    refusals_are_typed(api).await;
    dropping_closes_the_connection(api).await;
    a_server_that_is_not_there_is_a_network_error(api).await;
    models_are_listed(api).await;
    the_key_appears_nowhere_but_in_its_header(api).await;
}

async fn chunks_may_be_cut_anywhere(api: &Api) {
    for size in [1, 2, 3, 7, 64, 100_000] {
        let sum = api.reply(Reply::events(api.answer, size, End::Whole)).await;
        let expected = Sum {
            text: "Grüße 👋\nAlice".into(),
            thoughts: "Hm".into(),
            usage: Usage {
                input: 6,
                output: 5,
                cache_read: 4,
                cache_write: 0,
            },
            finish: Some(Finish::Complete),
            ..Sum::default()
        };
        assert_eq!(sum.unwrap(), expected, "in pieces of {size} bytes");
    }
    let windows = api.answer.replace('\n', "\r\n");
    let sum = api
        .reply(Reply::events(&windows, 5, End::Whole))
        .await
        .unwrap();
    assert_eq!(sum.text, "Grüße 👋\nAlice");
}

async fn an_answer_that_is_cut_off_is_an_error(api: &Api) {
    for end in [End::Whole, End::Cut] {
        let sum = api
            .reply(Reply::events(api.unfinished, 50, end))
            .await
            .unwrap();
        assert_eq!(sum.text, "Grüße 👋\nAlice", "{end:?}");
        assert_eq!(sum.finish, None, "{end:?}");
        let error = sum.error.unwrap_or_default();
        assert!(error.starts_with("Network("), "{end:?}: {error}");
    }
}

async fn every_way_to_end_is_told(api: &Api) {
    let table = [
        (api.cut_short, Finish::Length),
        (api.tool_call, Finish::ToolCall),
        (api.refused, Finish::Refused),
    ];
    for (body, finish) in table {
        let sum = api.reply(Reply::events(body, 9, End::Whole)).await.unwrap();
        assert_eq!(sum.error, None, "{finish:?}");
        let tools: &[&str] = if finish == Finish::ToolCall {
            &["search"]
        } else {
            &[]
        };
        assert_eq!(sum.tools, tools);
        assert_eq!(sum.finish, Some(finish));
    }
    let sum = api
        .reply(Reply::events(api.overloaded, 9, End::Whole))
        .await
        .unwrap();
    assert_eq!(sum.text, "Gr");
    let error = sum.error.unwrap_or_default();
    assert!(error.starts_with("Unavailable { status: 529"), "{error}");
}

async fn a_line_without_an_end_is_refused(api: &Api) {
    let line = format!("data: {}", "x".repeat(2 * 1024 * 1024));
    let sum = api
        .reply(Reply::events(&line, 256 * 1024, End::Hang))
        .await
        .unwrap();
    let error = sum.error.unwrap_or_default();
    assert!(error.contains("does not end"), "{error}");
}

async fn refusals_are_typed(api: &Api) {
    let html = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    let plain = |status, headers, body: &str| Reply::Plain {
        status,
        headers,
        body: body.into(),
    };
    let table = [
        (
            plain(429, "Retry-After: 7\r\n", "{}"),
            "RateLimited { retry_after: Some(7s) }",
        ),
        (
            plain(429, "retry-after-ms: 1500\r\n", ""),
            "RateLimited { retry_after: Some(1.5s) }",
        ),
        (
            plain(500, "", "{\"detail\":\"no\"}"),
            "Unavailable { status: 500, retry_after: None }",
        ),
        (
            plain(502, "Content-Type: text/html\r\n", html),
            "Unavailable { status: 502, retry_after: None }",
        ),
        (
            plain(529, "Retry-After: 2\r\n", "{}"),
            "Unavailable { status: 529, retry_after: Some(2s) }",
        ),
        (
            plain(401, "", "{\"error\":{\"message\":\"bad key secret-key\"}}"),
            "Unauthorized { status: 401 }",
        ),
        (plain(402, "", "{}"), "NoCredit"),
        (
            plain(404, "", "{\"error\":{\"message\":\"no such thing\"}}"),
            "NoSuchModel(\"no such thing\")",
        ),
        (
            plain(302, "Location: http://127.0.0.1:1/\r\n", ""),
            "Invalid { status: 302, message: \"it redirects elsewhere; check base_url\" }",
        ),
        (
            plain(
                400,
                "",
                "{\"error\":{\"message\":\"prompt is too long: 5 > 4\"}}",
            ),
            "ContextTooLong",
        ),
    ];
    for (reply, expected) in table {
        let refused = api.reply(reply.clone()).await;
        assert_eq!(format!("{:?}", refused.unwrap_err()), expected, "{reply:?}");
    }
}

async fn dropping_closes_the_connection(api: &Api) {
    let (server, provider) = api.serve(vec![Reply::Silence]);
    let opening = provider.stream("model-1", question());
    let waited = tokio::time::timeout(Duration::from_millis(100), opening).await;
    assert!(waited.is_err());
    assert!(server.client_closed().await, "before the head");
    let (server, provider) = api.serve(vec![Reply::events(api.unfinished, 40, End::Hang)]);
    let mut parts = provider.stream("model-1", question()).await.unwrap();
    parts.next().await.unwrap().unwrap();
    drop(parts);
    assert!(server.client_closed().await, "within the answer");
}

async fn a_server_that_is_not_there_is_a_network_error(api: &Api) {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let provider = (api.build)(&configured(api.kind, &format!("http://{port}")));
    let error = ask(&*provider).await.unwrap_err();
    assert!(
        matches!(&error, Error::Network(why) if why.contains("refused")),
        "{error:?}"
    );
}

async fn models_are_listed(api: &Api) {
    let (_server, provider) = api.serve(vec![Reply::plain(200, api.models)]);
    assert_eq!(provider.models().await.unwrap(), ["a", "b"]);
}

async fn the_key_appears_nowhere_but_in_its_header(api: &Api) {
    let body = "{\"error\":{\"message\":\"Why secret-key?\"}}";
    let (server, provider) = api.serve(vec![Reply::plain(418, body)]);
    let error = format!("{:?}", ask(&*provider).await.unwrap_err());
    assert!(!error.contains("secret-key"), "{error}");
    let request = server.last();
    assert_eq!(request.head.matches("secret-key").count(), 1);
    assert!(request.head.contains("x-team: blue"));
    assert!(!request.body.to_string().contains("secret-key"));
}
