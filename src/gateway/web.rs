//! HTTP as the gateway uses it for files: no redirects that nobody looked at, no decompression, no waiting for ever.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Url};

use crate::config::Account;

/// What every client has. reqwest decompresses only with features that are off here, so that the size on the wire is the
/// size in memory.
pub fn builder() -> ClientBuilder {
    Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(20))
        .user_agent(concat!("moltis/", env!("CARGO_PKG_VERSION")))
}

/// For the account's own upload service: trusts what the account's connection trusts.
pub async fn own(account: &Account) -> Result<Client> {
    let mut builder = builder().tls_danger_accept_invalid_certs(!account.tls_verify);
    if let Some(path) = &account.tls_ca_file {
        let pem = tokio::fs::read(path)
            .await
            .with_context(|| format!("Failed to read {}", path.display()))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("{} holds no certificate", path.display()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().context("Failed to set up HTTP")
}

/// Whether credentials may be sent there: over TLS, or to this machine, as servers under test do.
pub fn is_private_enough(url: &Url) -> bool {
    let loopback = || match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback())
}

/// Installs the process's TLS provider, as `main` does, for tests that build clients.
#[cfg(test)]
pub(crate) fn install_provider() {
    // An error means that another test was first.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
}
