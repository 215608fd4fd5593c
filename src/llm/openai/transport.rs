//! Carries async-openai's requests: sends each once, reads errors by status and body, takes an answer that is no event
//! stream for one, bounds its length, and notes whether the end was announced.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use futures::StreamExt;
use futures::future::BoxFuture;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Response};
use serde_json::Value;

use crate::llm::Error;
use crate::llm::http::{ANSWER_BODY, Bound, Endpoint, network, read};
use crate::llm::refusal::classify_event;

const DONE: &[u8] = b"[DONE]";

/// What async-openai does not hand on: whether `data: [DONE]` was seen, which it takes for any other end, and the error
/// that broke the stream, of which it keeps a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    done: bool,
    error: Option<Error>,
}

impl Seen {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn done(&self) -> bool {
        self.notes().done
    }

    pub(super) fn error(&self) -> Option<Error> {
        self.notes().error.take()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Transport {
    endpoint: Endpoint,
    seen: Seen,
}

impl Transport {
    pub(super) fn new(endpoint: Endpoint, seen: Seen) -> Self {
        Self { endpoint, seen }
    }

    async fn send(self, request: HttpRequestFactory) -> Result<Response, OpenAIError> {
        let request = request.build().await?;
        let response = self.endpoint.client.execute(request).await;
        self.receive(response)
            .await
            .map_err(|err| OpenAIError::Boxed(Box::new(err)))
    }

    async fn receive(self, response: reqwest::Result<Response>) -> Result<Response, Error> {
        let response = self.endpoint.check(response.map_err(network)?).await?;
        let media_type = response.headers().get(CONTENT_TYPE);
        let media_type = media_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if media_type.starts_with("application/json") {
            // Some servers do not stream, or answer an error with status 200.
            let body = read(response, ANSWER_BODY).await?;
            let value: Value =
                serde_json::from_slice(&body).map_err(|err| Error::Protocol(err.to_string()))?;
            if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
                return Err(classify_event(error));
            }
            self.seen.notes().done = true;
            return Ok(http::Response::new(Body::from(format!("data: {value}\n\n"))).into());
        }
        if media_type.starts_with("text/html") {
            return Err(Error::Protocol(
                "it answered with a web page; check base_url".into(),
            ));
        }
        Ok(self.watch(response))
    }

    fn watch(self, response: Response) -> Response {
        let (head, body) = http::Response::<Body>::from(response).into_parts();
        let mut bound = Bound::default();
        let mut tail = Vec::new();
        let seen = self.seen.clone();
        let chunks = Response::from(http::Response::new(body)).bytes_stream();
        let chunks = chunks.map(move |chunk| {
            let chunk = chunk.map_err(network).and_then(|chunk| {
                bound.take(&chunk)?;
                self.note_end(&mut tail, &chunk);
                Ok(chunk)
            });
            chunk.map_err(|err| {
                let text = err.to_string();
                seen.notes().error = Some(err);
                std::io::Error::other(text)
            })
        });
        http::Response::from_parts(head, Body::wrap_stream(chunks)).into()
    }

    /// Looks for a line `data: [DONE]`. JSON has no raw line breaks, so that a text that speaks of it is none.
    fn note_end(&self, tail: &mut Vec<u8>, chunk: &[u8]) {
        tail.extend_from_slice(chunk);
        let found = tail
            .split(|byte| matches!(byte, b'\n' | b'\r'))
            .any(|line| {
                let data = line.strip_prefix(b"data:").unwrap_or_default();
                data.trim_ascii() == DONE
            });
        if found {
            self.seen.notes().done = true;
        }
        // The line that is not whole yet, if it can become the one.
        let last = tail
            .rsplit(|byte| matches!(byte, b'\n' | b'\r'))
            .next()
            .unwrap_or_default();
        let rest = last.get(..last.len().min(32)).unwrap_or_default().to_vec();
        *tail = rest;
    }
}

impl tower_service::Service<HttpRequestFactory> for Transport {
    type Response = Response;
    type Error = OpenAIError;
    type Future = BoxFuture<'static, Result<Response, OpenAIError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequestFactory) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
