//! The process seen from outside: web chat, pages of invitations, WebSocket, status, health and metrics over HTTP, and the
//! control socket of the command line.

mod connection;
pub mod control;
mod host_meta;
mod invitation;
mod metered;
mod metrics;
pub mod qr;
pub mod status;
mod upload;
mod visit;
pub mod web_chat;
pub mod websocket;

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;

use crate::config::Config;
use crate::runtime::Stop;
use crate::server::Server;
use crate::server::upload::Uploads;
pub use connection::PROTOCOLS;
use connection::{Connections, Limit};
use host_meta::Format;
use status::Status;
pub use visit::Peer;
use visit::Visit;
use web_chat::WebChat;

/// Tells how things are, as often as asked.
pub type Look = Arc<dyn Fn() -> Status + Send + Sync>;

/// What the HTTP server shows.
#[derive(Clone)]
pub struct Shown {
    pub look: Look,
    /// `None`: `GET /metrics` is off.
    pub metrics: Option<PrometheusHandle>,
    /// Read with each request: which proxies are trusted may change.
    pub config: watch::Receiver<Arc<Config>>,
    /// `None`: there is no embedded server.
    pub server: Option<EmbeddedServer>,
}

/// The embedded server, as HTTP sees it.
#[derive(Clone)]
pub struct EmbeddedServer {
    pub web_chat: WebChat,
    pub websocket: websocket::Service,
    pub challenge: Challenge,
    pub uploads: Uploads,
    /// With the certificate of the domain, for [`PROTOCOLS`].
    pub tls: Arc<ServerConfig>,
    /// What the pages of invitations are of.
    pub server: Server,
}

/// Answers a certificate authority's token (RFC 8555, 8.3).
pub type Challenge = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Binds the listener, so that a port in use is an error before anything starts.
pub async fn bind(address: &str, port: u16) -> Result<TcpListener> {
    TcpListener::bind((address, port)).await.with_context(|| {
        format!(
            "Failed to listen on {address}:{port}; set server.port to a free port, or to 0 for none"
        )
    })
}

/// Serves until `stop`: HTTP, and on the same port HTTPS where there is an embedded server, with its certificate.
pub async fn serve(listener: TcpListener, shown: Shown, stop: Stop) -> Result<()> {
    let mut app = Router::new()
        .route("/status", get(status_page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics));
    app = match &shown.server {
        Some(server) => app.merge(server_routes(server)),
        None => app.route("/", get(status_page)),
    };
    let connections = Connections {
        tls: shown.server.as_ref().map(|server| Arc::clone(&server.tls)),
        limit: limit(shown.config.clone()),
        server: shown.server.as_ref().map(|server| server.server.clone()),
        app: app.with_state(shown),
    };
    connections.serve(listener, stop).await
}

/// Behind a proxy that is trusted, or on this machine, are many people.
fn limit(config: watch::Receiver<Arc<Config>>) -> Limit {
    Arc::new(move |address: IpAddr| {
        let config = config.borrow();
        let mut proxies = config.server.trusted_proxies.iter();
        let many = address.is_loopback() || proxies.any(|proxy| proxy.contains(address));
        (!many).then_some(config.xmpp_server.limits.connections_per_ip)
    })
}

/// What there is with an embedded server.
fn server_routes(server: &EmbeddedServer) -> Router<Shown> {
    let service = server.websocket.clone();
    let upgrade = move |State(shown): State<Shown>, visit: Visit, upgrade: WebSocketUpgrade| {
        let service = service.clone();
        async move {
            let config = Arc::clone(&shown.config.borrow());
            websocket::accept(upgrade, &visit, &config, service)
        }
    };
    let challenge = Arc::clone(&server.challenge);
    let uploads = server.uploads.clone();
    web_chat::router(server.web_chat.clone(), Arc::new(move || uploads.base()))
        .merge(upload::router(server.uploads.clone()))
        .merge(invitation::router(server.server.clone()))
        .route(websocket::PATH, get(upgrade))
        .route(
            "/.well-known/acme-challenge/{token}",
            get(async move |Path(token): Path<String>| prove(&challenge, &token)),
        )
        .route(
            "/.well-known/host-meta",
            get(|shown, visit| host_meta(shown, visit, Format::Xml)),
        )
        .route(
            "/.well-known/host-meta.json",
            get(|shown, visit| host_meta(shown, visit, Format::Json)),
        )
}

/// RFC 8555, 8.3: the authority asks without encryption, and need not be somebody.
fn prove(challenge: &Challenge, token: &str) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    match challenge(token) {
        Some(proof) => (kind, proof).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn host_meta(State(shown): State<Shown>, visit: Visit, format: Format) -> Response {
    let config = Arc::clone(&shown.config.borrow());
    let domain = shown
        .server
        .as_ref()
        .map(|server| server.web_chat.domain.as_str());
    let names: Vec<&str> = domain.into_iter().collect();
    host_meta::answer(visit.origin(&config.server, &names), format)
}

/// JSON or HTML by `Accept`.
async fn status_page(State(shown): State<Shown>, visit: Visit, headers: HeaderMap) -> Response {
    let mut status = (shown.look)();
    // A claim code is shown to the machine itself alone.
    // Behind a proxy everybody may look like this machine.
    let behind = shown.config.borrow().server.external_url.is_some();
    if behind || !visit.is_local() {
        status.claims.clear();
        status.federation.clear();
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
            if let Some(server) = &shown.server {
                server.server.publish_metrics();
            }
            (kind, metrics::render(handle, &(shown.look)())).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
