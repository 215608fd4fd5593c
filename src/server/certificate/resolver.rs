//! Which certificate a handshake gets: the one of the moment, or the answer to a challenge of an authority.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::chain::Chain;
use super::challenge::{ACME_TLS, Challenges};

/// Every `ServerConfig` of the server asks this one, so that a new certificate needs no new configuration: sessions,
/// tickets and listeners stay.
#[derive(Debug)]
pub(super) struct Resolver {
    served: RwLock<Chain>,
    pub(super) challenges: Arc<Challenges>,
}

impl Resolver {
    pub(super) fn new(chain: Chain) -> Self {
        Self {
            served: RwLock::new(chain),
            challenges: Arc::default(),
        }
    }

    pub(super) fn served(&self) -> Chain {
        self.served
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn serve(&self, chain: Chain) {
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = chain;
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737, 3: an authority offers this protocol and no other. Without a challenge under way the handshake
        // fails, so that nobody else learns more than that.
        let validation = hello.alpn().is_some_and(|mut offered| {
            offered.next() == Some(ACME_TLS) && offered.next().is_none()
        });
        if validation {
            return self.challenges.certificate(hello.server_name()?);
        }
        Some(self.served().key)
    }
}
