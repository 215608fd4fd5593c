//! The HTTPS client of ACME: time-outs, bounded answers, and how long the authority asks to wait.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::RETRY_AFTER;
use instant_acme::{BodyWrapper, BytesResponse, Error as AcmeError, HttpClient};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::server::certificate::chain::Error;

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_mins(1);
/// Certificate chains are a few kilobytes.
const LARGEST: usize = 1024 * 1024;
/// The longest wait that is believed.
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 7);

/// Clones share the connection and the wait.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    wait: Arc<Mutex<Option<Duration>>>,
}

impl Client {
    /// Blocks while it reads the roots from the disk.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(true)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()
            .map_err(|err| Error::Settings(format!("Failed to set up HTTPS: {err}")))?;
        Ok(Self {
            http,
            wait: Arc::default(),
        })
    }

    /// How long the authority asked to wait when it last refused, once.
    pub(super) fn take_wait(&self) -> Option<Duration> {
        self.wait
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    async fn send(
        self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, AcmeError> {
        let request =
            reqwest::Request::try_from(request.map(reqwest::Body::wrap)).map_err(other)?;
        let response = self.http.execute(request).await.map_err(other)?;
        if response.status() == StatusCode::TOO_MANY_REQUESTS
            && let Some(wait) = response.headers().get(RETRY_AFTER)
        {
            // Seconds; the other form, a date, is met by our own back-off.
            let wait = wait.to_str().ok().and_then(|wait| wait.parse().ok());
            *self.wait.lock().unwrap_or_else(PoisonError::into_inner) =
                wait.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        }
        read(response).await
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, AcmeError>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

async fn read(mut response: reqwest::Response) -> Result<BytesResponse, AcmeError> {
    let mut parts = http::Response::new(());
    *parts.status_mut() = response.status();
    *parts.headers_mut() = response.headers().clone();
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(other)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(AcmeError::Str("an answer that is not endless"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(BytesResponse {
        parts: parts.into_parts().0,
        body: Box::new(body.freeze()),
    })
}

fn other(err: reqwest::Error) -> AcmeError {
    AcmeError::Other(Box::new(err))
}

/// The system's roots, and those of `acme_ca_file`.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let problem =
            |what: String| Error::Settings(format!("acme_ca_file {}: {what}", path.display()));
        let own = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|err| problem(err.to_string()))?;
        let (added, _) = roots.add_parsable_certificates(own);
        if added == 0 {
            return Err(problem("there is no PEM certificate in it".to_owned()));
        }
    }
    if roots.is_empty() {
        return Err(Error::Settings(
            "This system has no root certificates, so that no authority can be trusted; install its ca-certificates package".to_owned(),
        ));
    }
    Ok(roots)
}
