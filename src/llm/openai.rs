//! Chat Completions, as OpenAI and the many servers after its model speak it, through async-openai's `byot` calls with
//! the lenient types of `wire`. Its own HTTP layer is replaced by [`Transport`]: that layer retries for seconds unseen,
//! and drops status, headers and any error body it does not expect, all of which failover needs.

mod request;
mod transport;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use async_openai::error::OpenAIError;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use secrecy::SecretString;
use tracing::debug;

use self::request::Dialect;
use self::transport::{Seen, Transport};
use self::wire::{Chunk, Reading};
use super::http::{Endpoint, network};
use super::{Error, Part, Parts, Provider, Request};
use crate::config;

/// A server that speaks Chat Completions.
#[derive(Clone)]
pub struct OpenAi(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    /// What was learnt of each model.
    dialects: Mutex<BTreeMap<String, Dialect>>,
}

impl OpenAi {
    pub fn new(provider: &config::Provider) -> Result<Self> {
        let endpoint = Endpoint::new(provider, |key| (AUTHORIZATION, format!("Bearer {key}")))?;
        Ok(Self(Arc::new(Inner {
            endpoint,
            dialects: Mutex::default(),
        })))
    }

    fn dialect(&self, model: &str) -> Dialect {
        let dialects = self
            .0
            .dialects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = dialects.get(model).copied();
        known.unwrap_or_else(|| Dialect::of_server(&self.0.endpoint.base_url))
    }

    fn learn(&self, model: &str, dialect: Dialect) {
        self.0
            .dialects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(model.to_owned(), dialect);
    }

    /// Sends the request; where the server refuses a parameter by name, once more without it.
    async fn open(&self, model: &str, request: Request) -> Result<Parts, Error> {
        let mut dialect = self.dialect(model);
        loop {
            let body = request::json(model, &request, dialect);
            match self.send(body).await {
                Ok(parts) => {
                    self.learn(model, dialect);
                    return Ok(parts);
                }
                // Each step gives up one parameter, so this ends.
                Err(Error::Invalid { status, message }) => match dialect.without(&message) {
                    Some(other) => {
                        debug!(
                            model,
                            "Asking again without what the server refused: {message}"
                        );
                        dialect = other;
                    }
                    None => return Err(Error::Invalid { status, message }),
                },
                Err(err) => return Err(err),
            }
        }
    }

    async fn send(&self, body: serde_json::Value) -> Result<Parts, Error> {
        let seen = Seen::default();
        let transport = Transport::new(self.0.endpoint.clone(), seen.clone());
        let client = async_openai::Client::build(
            self.0.endpoint.client.clone(),
            Server(self.0.endpoint.clone(), SecretString::default()),
        )
        .with_http_service(transport);
        let chunks = client
            .chat()
            .create_stream_byot::<_, Chunk>(body)
            .await
            .map_err(explain)?;
        let reading = Some(Reading::default());
        let parts = stream::unfold((chunks, reading), move |(mut chunks, reading)| {
            let seen = seen.clone();
            async move {
                let mut reading = reading?;
                match chunks.next().await {
                    Some(Ok(chunk)) => match reading.chunk(chunk) {
                        Ok(parts) => Some((parts, (chunks, Some(reading)))),
                        Err(err) => Some((vec![Err(err)], (chunks, None))),
                    },
                    Some(Err(err)) => {
                        let err = seen.error().unwrap_or_else(|| explain(err));
                        Some((vec![Err(err)], (chunks, None)))
                    }
                    None => Some((reading.end(seen.done()), (chunks, None))),
                }
            }
        });
        Ok(parts.flat_map(stream::iter).boxed())
    }
}

impl Provider for OpenAi {
    fn stream(&self, model: &str, request: Request) -> BoxFuture<'static, Result<Parts, Error>> {
        let (this, model) = (self.clone(), model.to_owned());
        Box::pin(async move { this.open(&model, request).await })
    }

    fn models(&self) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        let endpoint = self.0.endpoint.clone();
        Box::pin(async move { Ok(wire::model_names(&endpoint.get("/models").await?)) })
    }
}

/// Ours rather than async-openai's own, which would send a key from the environment to any server.
struct Server(Endpoint, SecretString);

impl async_openai::config::Config for Server {
    fn headers(&self) -> HeaderMap {
        self.0.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.base_url)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.0.base_url
    }

    /// Only its realtime API asks for it; the key is in the headers.
    fn api_key(&self) -> &SecretString {
        &self.1
    }
}

/// Our own error back from under async-openai's.
fn explain(err: OpenAIError) -> Error {
    match err {
        OpenAIError::Boxed(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::Protocol(other.to_string()),
        },
        OpenAIError::Reqwest(err) => network(err),
        OpenAIError::JSONDeserialize(err, _) => Error::Protocol(err.to_string()),
        other => Error::Protocol(other.to_string()),
    }
}

type Piece = Result<Part, Error>;

#[cfg(test)]
mod tests;
