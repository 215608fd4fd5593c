//! Anthropic's Messages API: <https://docs.anthropic.com/en/api/messages-streaming>. System prompt and conversation are
//! marked for its cache, so that a long chat is not paid for anew with every turn.

mod wire;

use anyhow::Result;
use eventsource_stream::{EventStreamError, Eventsource};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use reqwest::header::{HeaderName, HeaderValue};

use self::wire::Reading;
use super::http::{Bound, Endpoint, network};
use super::{Error, Part, Parts, Provider, Request};
use crate::config;

/// Its versions are dates; all that we use is in this one.
const VERSION: &str = "2023-06-01";

#[derive(Clone, Debug)]
pub struct Anthropic(Endpoint);

type Piece = Result<Part, Error>;

impl Anthropic {
    /// `base_url` with or without its `/v1`.
    pub fn new(provider: &config::Provider) -> Result<Self> {
        let key = |key: &str| (HeaderName::from_static("x-api-key"), key.to_owned());
        let mut endpoint = Endpoint::new(provider, key)?;
        endpoint
            .headers
            .entry("anthropic-version")
            .or_insert(HeaderValue::from_static(VERSION));
        if !endpoint.base_url.ends_with("/v1") {
            endpoint.base_url.push_str("/v1");
        }
        Ok(Self(endpoint))
    }

    async fn open(self, model: String, request: Request) -> Result<Parts, Error> {
        let url = format!("{}/messages", self.0.base_url);
        let response = self
            .0
            .client
            .post(url)
            .headers(self.0.headers.clone())
            .json(&wire::request(&model, request))
            .send()
            .await;
        let response = self.0.check(response.map_err(network)?).await?;
        let mut bound = Bound::default();
        let bounded = response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(network)?;
            bound.take(&chunk)?;
            Ok(chunk)
        });
        let events = bounded.eventsource();
        let reading = Some(Reading::default());
        let parts = stream::unfold((events, reading), |(mut events, reading)| async move {
            let mut reading = reading?;
            match events.next().await {
                Some(Ok(event)) => match reading.event(&event.data) {
                    Ok(parts) => {
                        let reading = (!reading.is_over()).then_some(reading);
                        Some((parts, (events, reading)))
                    }
                    Err(err) => Some((vec![Err(err)], (events, None))),
                },
                Some(Err(err)) => Some((vec![Err(explain(err))], (events, None))),
                None => Some((
                    vec![Err(Error::Network("the answer was cut off".into()))],
                    (events, None),
                )),
            }
        });
        Ok(parts.flat_map(stream::iter).boxed())
    }
}

fn explain(err: EventStreamError<Error>) -> Error {
    match err {
        EventStreamError::Transport(err) => err,
        other => Error::Protocol(other.to_string()),
    }
}

impl Provider for Anthropic {
    fn stream(&self, model: &str, request: Request) -> BoxFuture<'static, Result<Parts, Error>> {
        Box::pin(self.clone().open(model.to_owned(), request))
    }

    fn models(&self) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        let endpoint = self.0.clone();
        Box::pin(async move {
            Ok(wire::model_names(
                &endpoint.get("/models?limit=1000").await?,
            ))
        })
    }
}

#[cfg(test)]
mod tests;
