//! A TLS listener whose certificate looks after itself: from an ACME authority where the domain is public, else
//! self-signed; renewed while it runs. Port 443 must reach the first address, or port 80 the second.
//! `cargo run --example certificate -- DOMAIN[,SERVICE…] DATA_DIR TLS_ADDRESS HTTP_ADDRESS [ACME_DIRECTORY [CA_FILE]]`.

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use moltis::config::XmppServer;
use moltis::runtime::Stop;
use moltis::server::certificate::{Certificates, Settings, is_validation};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_ansi(false).init();
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("Say {what}"));
    let names = next("which domain")?;
    let (domain, services) = names.split_once(',').unwrap_or((&names, ""));
    let data_dir = next("where to keep the certificate")?;
    let tls = TcpListener::bind(next("where to listen for TLS")?).await?;
    let http = TcpListener::bind(next("where to listen for HTTP")?).await?;
    let mut settings = Settings::new(&XmppServer::new(domain), data_dir.as_ref());
    settings.services = services.split(',').map(str::to_owned).collect();
    if let Some(directory) = arguments.next() {
        settings.acme.directory = directory;
        settings.acme.ca_file = arguments.next().map(Into::into);
    }

    let certificates = Certificates::open(settings)?;
    let router = Router::new()
        .route("/.well-known/acme-challenge/{token}", get(challenge))
        .with_state(certificates.clone());
    tokio::select! {
        result = axum::serve(http, router) => result?,
        result = certificates.clone().maintain(Stop::new()) => result?,
        result = greet(certificates, tls) => result?,
    }
    Ok(())
}

/// HTTP-01.
async fn challenge(
    State(certificates): State<Certificates>,
    Path(token): Path<String>,
) -> Result<String, StatusCode> {
    certificates
        .http_challenge(&token)
        .ok_or(StatusCode::NOT_FOUND)
}

/// TLS-ALPN-01, and a word for everyone else.
async fn greet(certificates: Certificates, listener: TcpListener) -> Result<()> {
    let acceptor = TlsAcceptor::from(certificates.direct_tls());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(hello(acceptor.clone(), accepted?.0));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn hello(acceptor: TlsAcceptor, stream: TcpStream) {
    match acceptor.accept(stream).await {
        Ok(stream) if is_validation(stream.get_ref().1) => debug!("An authority has looked"),
        Ok(mut stream) => {
            // Whoever hangs up does not want it.
            stream.write_all(b"Hello\n").await.ok();
            stream.shutdown().await.ok();
        }
        Err(err) => debug!(%err, "No TLS"),
    }
}
