//! The process seen from outside: status, health and metrics over HTTP, and the control socket of the command line.

pub mod control;
mod metrics;
pub mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tracing::error;

use crate::runtime::Stop;
use status::Status;

/// Tells how things are, as often as asked.
pub type Look = Arc<dyn Fn() -> Status + Send + Sync>;

/// What the HTTP server shows.
#[derive(Clone)]
pub struct Shown {
    pub look: Look,
    /// `None`: `GET /metrics` is off.
    pub metrics: Option<PrometheusHandle>,
}

/// Binds the listener, so that a port in use is an error before anything starts.
pub async fn bind(address: &str, port: u16) -> Result<TcpListener> {
    TcpListener::bind((address, port)).await.with_context(|| {
        format!(
            "Failed to listen on {address}:{port}; set server.port to a free port, or to 0 for none"
        )
    })
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, shown: Shown, stop: Stop) -> Result<()> {
    let app = Router::new()
        .route("/", get(status_page))
        .route("/status", get(status_page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(shown)
        .into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("The HTTP server failed")
}

/// JSON or HTML by `Accept`.
async fn status_page(
    State(shown): State<Shown>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let mut status = (shown.look)();
    if !is_local(peer, &headers) {
        status.claims.clear();
    }
    let wants_html = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let mut response = match wants_html.then(|| status.html()) {
        None => Json(status).into_response(),
        Some(Ok(page)) => Html(page).into_response(),
        Some(Err(err)) => {
            error!("The status page cannot be shown: {err:#}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    harden(&mut response);
    response
}

/// A claim code is shown to the machine itself alone: by address, and by name, so that no page elsewhere reads it through
/// the browser (DNS rebinding).
fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let forwarded = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
    peer.ip().is_loopback() && !forwarded && matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
}

/// 200 once every account is online.
async fn ready(State(shown): State<Shown>) -> Response {
    let status = (shown.look)();
    match status.services.iter().find(|service| !service.status) {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(service) => {
            let line = format!("{} is not ready\n", service.name);
            (StatusCode::SERVICE_UNAVAILABLE, line).into_response()
        }
    }
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    match &shown.metrics {
        Some(handle) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, metrics::render(handle, &(shown.look)())).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_code_is_shown_to_the_machine_itself_alone() {
        let headers = |host: &str, forwarded: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if forwarded {
                headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
            }
            headers
        };
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let remote = SocketAddr::from(([192, 0, 2, 1], 1));
        assert!(is_local(local, &headers("localhost:8080", false)));
        assert!(is_local(local, &headers("127.0.0.1:8080", false)));
        assert!(!is_local(local, &headers("evil.example:8080", false)));
        assert!(!is_local(local, &headers("localhost:8080", true)));
        assert!(!is_local(remote, &headers("localhost:8080", false)));
    }
}
