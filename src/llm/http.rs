//! What providers share in talking HTTP: one client with time-outs and the environment's proxies, headers that no log
//! shows, and errors read from status and body.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};

use super::Error;
use super::refusal::classify;
use crate::config::{ExposeSecret, Provider, SecretString};

/// So much of an error's body is read.
const ERROR_BODY: usize = 64 * 1024;
/// So much of a list of models.
const LIST_BODY: usize = 8 * 1024 * 1024;
/// So much of an answer that is no stream.
pub(super) const ANSWER_BODY: usize = 8 * 1024 * 1024;
/// So much of a stream, far more than any model says, and of one of its lines, which is parsed anew with every chunk.
const STREAM: usize = 64 * 1024 * 1024;
const LINE: usize = 1024 * 1024;

/// Where a provider is, and with what it is asked. Proxies come from the environment.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) client: Client,
    pub(super) base_url: String,
    /// Their values do not appear in `Debug`.
    pub(super) headers: HeaderMap,
}

impl Endpoint {
    /// `key_header` makes the header of the API key; headers of the configuration win over it.
    pub(super) fn new(
        provider: &Provider,
        key_header: impl FnOnce(&str) -> (HeaderName, String),
    ) -> Result<Self> {
        let base_url = provider.base_url.trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&base_url).context("base_url is no URL")?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "base_url must begin with http:// or https://"
        );
        let mut headers = HeaderMap::new();
        if let Some(key) = provider.api_key.as_ref().map(SecretString::expose_secret)
            && !key.is_empty()
        {
            let (name, value) = key_header(key);
            headers.insert(name, secret(&value).context("api_key")?);
        }
        for (name, value) in &provider.headers {
            let header = HeaderName::try_from(name).with_context(|| format!("headers.{name}"))?;
            let value = secret(value.expose_secret()).with_context(|| format!("headers.{name}"))?;
            headers.insert(header, value);
        }
        Ok(Self {
            client: client()?,
            base_url,
            headers,
        })
    }

    /// The JSON that a path answers with.
    pub(super) async fn get(&self, path: &str) -> Result<serde_json::Value, Error> {
        let request = self.client.get(format!("{}{path}", self.base_url));
        let response = request.headers(self.headers.clone()).send().await;
        let response = self.check(response.map_err(network)?).await?;
        let body = read(response, LIST_BODY).await?;
        serde_json::from_slice(&body).map_err(|err| Error::Protocol(err.to_string()))
    }

    /// The response, if it is a success; else the error it means.
    pub(super) async fn check(&self, response: Response) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        // What could be read is enough, and without a body the status remains.
        let body = read(response, ERROR_BODY).await.unwrap_or_default();
        let body = self.without_secrets(&String::from_utf8_lossy(&body));
        Err(classify(status.as_u16(), &headers, &body))
    }

    /// Some providers say back what key they refuse.
    fn without_secrets(&self, text: &str) -> String {
        let secrets = self.headers.values().filter(|value| value.is_sensitive());
        let secrets = secrets.filter_map(|value| value.to_str().ok()?.split_whitespace().last());
        secrets
            .filter(|secret| secret.len() >= 8)
            .fold(text.to_owned(), |text, secret| text.replace(secret, "****"))
    }
}

fn secret(value: &str) -> Result<HeaderValue> {
    // Not the error's own text: it might show the value.
    let mut header = HeaderValue::try_from(value.trim())
        .ok()
        .context("holds characters that no header can carry")?;
    header.set_sensitive(true);
    Ok(header)
}

fn client() -> Result<Client> {
    // Already installed where `main` ran; a program that uses the library may have its own.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    Client::builder()
        .user_agent(concat!("moltis/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .tcp_keepalive(Duration::from_secs(30))
        // A redirect would carry keys in custom headers to another host, and turn a POST into a GET.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("Failed to set up HTTP")
}

/// At most so many bytes of a body.
pub(super) async fn read(response: Response, most: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(network)?);
        if body.len() >= most {
            body.truncate(most);
            break;
        }
    }
    Ok(body)
}

/// Refuses a stream, or a line of one, that does not end.
#[derive(Debug, Default)]
pub(super) struct Bound {
    total: usize,
    line: usize,
}

impl Bound {
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.total = self.total.saturating_add(chunk.len());
        let mut lines = chunk.rsplit(|byte| *byte == b'\n');
        let last = lines.next().map_or(0, <[u8]>::len);
        self.line = match lines.next() {
            Some(_) => last,
            None => self.line.saturating_add(last),
        };
        if self.total > STREAM || self.line > LINE {
            return Err(Error::Protocol("the answer does not end".into()));
        }
        Ok(())
    }
}

/// What reqwest failed at, to its cause, without the address, in which a user may have put a key.
pub(super) fn network(err: reqwest::Error) -> Error {
    if err.is_timeout() {
        return Error::TimedOut;
    }
    if err.is_decode() {
        return Error::Network("the answer was cut off".into());
    }
    let err = err.without_url();
    let mut cause: &dyn std::error::Error = &err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Error::Network(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_lines_without_an_end_are_refused() {
        let line = [vec![b'x'; LINE / 4], b"\n".to_vec()].concat();
        let mut bound = Bound::default();
        let lines = STREAM / line.len();
        assert!((0..lines).all(|_| bound.take(&line).is_ok()));
        assert!(bound.take(&line).is_err());
        let mut bound = Bound::default();
        let part = vec![b'x'; LINE / 4];
        assert!((0..4).all(|_| bound.take(&part).is_ok()));
        assert!(bound.take(b"x").is_err());
    }
}
