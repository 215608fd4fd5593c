//! The server's certificate: PEM files, self-signed, or ACME (RFC 8555).
//!
//! [`Certificates::open`] finds one to serve at once, [`Certificates::maintain`] replaces it in time, and the
//! [`ServerConfig`]s it gives out serve whichever is the present one: nobody is disconnected.

mod acme;
mod chain;
mod challenge;
mod facts;
mod keeper;
mod names;
mod peers;
mod resolver;
mod schedule;
mod self_signed;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tracing::{info, warn};

pub use acme::Acme;
pub use chain::Error;
pub use challenge::Challenge;
pub use facts::{Facts, Origin, date};

use crate::config::{Certificate, XmppServer};
use crate::runtime::Stop;
use crate::server::s2s;
use crate::xmpp::tls;
use chain::{Chain, Files};
use challenge::ACME_TLS;
use resolver::Resolver;
use store::Store;

/// XEP-0368, 4.
const XMPP_CLIENT: &[u8] = b"xmpp-client";

/// For whom, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub domain: String,
    /// The hosts of the services: `conference.<domain>` and the like.
    pub services: Vec<String>,
    pub source: Certificate,
    pub data_dir: PathBuf,
    pub acme: Acme,
}

/// What the settings come to.
enum Plan {
    Files(Files),
    SelfSigned,
    Acme,
}

impl Settings {
    pub fn new(server: &XmppServer, data_dir: &Path) -> Self {
        let mut challenges = vec![Challenge::TlsAlpn, Challenge::Http];
        // Nobody answers TLS at once then.
        challenges.retain(|challenge| *challenge == Challenge::Http || server.c2s_tls_port != 0);
        Self {
            domain: server.domain.clone(),
            services: vec![server.muc_host.clone(), server.pubsub_host.clone()],
            source: server.certificate.clone(),
            data_dir: data_dir.to_owned(),
            acme: Acme {
                directory: server.acme_directory.clone(),
                ca_file: server.acme_ca_file.clone(),
                challenges,
            },
        }
    }

    /// What would be served, for `moltis check`: nothing is made, ordered or kept. `None`: there is none yet. Blocks
    /// while it reads files.
    pub fn inspect(&self) -> Result<Option<Facts>, Error> {
        Ok(self.find()?.map(|chain| Facts::clone(&chain.facts)))
    }

    fn find(&self) -> Result<Option<Chain>, Error> {
        let (names, now) = (self.names(), OffsetDateTime::now_utc());
        match self.plan() {
            Plan::Files(files) => {
                chain::prove(&files, &files.read()?, Origin::File, &names, now).map(Some)
            }
            Plan::SelfSigned => self_signed::kept(&self.self_signed(), &names, now),
            Plan::Acme => acme::kept(&self.authority(), &names, now),
        }
    }

    /// As [`Settings::inspect`], the certificates themselves.
    pub fn chain(&self) -> Result<Option<Vec<CertificateDer<'static>>>, Error> {
        Ok(self.find()?.map(|chain| chain.key.cert.clone()))
    }

    /// The names for which an authority is asked; none where it is not.
    pub fn ordered(&self) -> Vec<String> {
        match self.plan() {
            Plan::Acme => self.names(),
            Plan::Files(_) | Plan::SelfSigned => Vec::new(),
        }
    }

    fn names(&self) -> Vec<String> {
        names::certified(&self.domain, &self.services)
    }

    fn plan(&self) -> Plan {
        match &self.source {
            Certificate::Files { certificate, key } => Plan::Files(Files {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            Certificate::Auto
                if self
                    .names()
                    .first()
                    .is_some_and(|name| names::is_public(name)) =>
            {
                Plan::Acme
            }
            Certificate::Auto => Plan::SelfSigned,
        }
    }

    fn self_signed(&self) -> Store {
        Store::new(&self.data_dir, "self-signed")
    }

    fn authority(&self) -> Store {
        Store::new(&self.data_dir, &self.acme.directory)
    }

    /// What can be served now. Blocks while it reads and writes files.
    fn load(&self, now: OffsetDateTime) -> Result<Chain, Error> {
        let names = self.names();
        if names.is_empty() {
            return Err(Error::Name(self.domain.clone()));
        }
        match self.plan() {
            Plan::Files(files) => chain::prove(&files, &files.read()?, Origin::File, &names, now),
            Plan::SelfSigned => self_signed::ensure(&self.self_signed(), &names, now),
            Plan::Acme => match acme::kept(&self.authority(), &names, now)? {
                Some(chain) => Ok(chain),
                None => self_signed::ensure(&self.self_signed(), &names, now),
            },
        }
    }
}

/// What `moltis check certs` and the status page show.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub facts: Arc<Facts>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Why the certificate could not be replaced of late.
    pub problem: Option<String>,
}

/// The certificate of the server. A handle: clones share it.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    resolver: Arc<Resolver>,
    starttls: Arc<ServerConfig>,
    direct_tls: Arc<ServerConfig>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    settings: Arc<Settings>,
    problem: Option<String>,
}

impl Certificates {
    /// Finds a certificate to serve: that of the files, a kept one, or a self-signed one until an authority has issued
    /// one. Blocks while it reads and writes files.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let resolver = Arc::new(Resolver::new(settings.load(OffsetDateTime::now_utc())?));
        let starttls = Arc::new(config(&resolver, &[])?);
        let direct_tls = Arc::new(config(&resolver, &[XMPP_CLIENT, ACME_TLS])?);
        let state = State {
            settings: Arc::new(settings),
            problem: None,
        };
        let certificates = Self(Arc::new(Inner {
            resolver,
            starttls,
            direct_tls,
            state: Mutex::new(state),
            changed: Notify::new(),
        }));
        certificates.tell();
        Ok(certificates)
    }

    /// For TLS after STARTTLS: no protocol is negotiated.
    pub fn starttls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.starttls)
    }

    /// For TLS from the first byte (XEP-0368). An authority may look here too: see [`is_validation`].
    pub fn direct_tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.direct_tls)
    }

    /// For HTTPS, with the protocols that are spoken behind it. An authority may look here as well.
    pub fn https(&self, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
        let protocols: Vec<&[u8]> = protocols.iter().copied().chain([ACME_TLS]).collect();
        config(&self.0.resolver, &protocols).map(Arc::new)
    }

    /// For connections with other servers: both sides show their certificate, and are believed by what it is for, which is
    /// known after the handshake.
    pub fn peers(&self) -> Result<s2s::Tls, Error> {
        let accept = |protocols: &[&[u8]]| peers::accept(&self.0.resolver, protocols);
        let connect = |protocols: &[&[u8]]| peers::connect(&self.0.resolver, protocols);
        Ok(s2s::Tls {
            accept_starttls: accept(&[])?,
            accept_direct: accept(&[peers::XMPP_SERVER])?,
            connect_starttls: connect(&[])?,
            connect_direct: connect(&[peers::XMPP_SERVER])?,
        })
    }

    /// What is to be answered to `GET /.well-known/acme-challenge/<token>` (RFC 8555, 8.3), as
    /// `application/octet-stream`. `None`: 404.
    pub fn http_challenge(&self, token: &str) -> Option<String> {
        self.0.resolver.challenges.authorization(token)
    }

    pub fn status(&self) -> Status {
        let facts = self.0.resolver.served().facts;
        Status {
            warnings: facts.warnings(OffsetDateTime::now_utc()),
            facts,
            problem: self.state().problem.clone(),
        }
    }

    /// Applies other settings, and reads changed files at once. On an error everything stays as it was. Blocks while
    /// it reads and writes files.
    pub fn reload(&self, settings: Settings) -> Result<(), Error> {
        let chain = settings.load(OffsetDateTime::now_utc())?;
        {
            let mut state = self.state();
            state.settings = Arc::new(settings);
            state.problem = None;
        }
        self.install(chain);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Keeps the certificate valid until `stop`.
    pub async fn maintain(self, stop: Stop) -> anyhow::Result<()> {
        keeper::run(&self, &stop).await;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a chain from the next handshake on.
    fn install(&self, chain: Chain) {
        if chain.facts == self.0.resolver.served().facts {
            return;
        }
        self.0.resolver.serve(chain);
        self.tell();
    }

    fn tell(&self) {
        let facts = self.0.resolver.served().facts;
        info!(
            names = facts.names.join(", "),
            issuer = facts.issuer,
            until = date(facts.not_after),
            "The certificate of the server"
        );
        for warning in facts.warnings(OffsetDateTime::now_utc()) {
            warn!("{warning}");
        }
    }
}

/// TLS 1.2 and 1.3 over the present certificate, with resumption.
fn config(resolver: &Arc<Resolver>, protocols: &[&[u8]]) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(resolver) as _);
    config.ticketer = ring::Ticketer::new()?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// Whether the handshake was an authority's look: there is nothing to serve, the connection is to be closed.
pub fn is_validation(connection: &ServerConnection) -> bool {
    connection.alpn_protocol() == Some(ACME_TLS)
}

/// RFC 9266: what binds a login to this TLS connection.
pub fn tls_exporter(connection: &ServerConnection) -> Option<Vec<u8>> {
    tls::exporter(connection)
}
