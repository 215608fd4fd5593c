//! A certificate from an authority (RFC 8555).

mod client;
mod explain;
mod order;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{Account, AccountCredentials, NewAccount};
use serde_json::Value;
use time::OffsetDateTime;
use tracing::{info, warn};

use super::chain::{Chain, Error, Files, Pem, prove};
use super::challenge::{Challenge, Challenges};
use super::facts::Origin;
use super::store::Store;
use client::Client;
use order::Refused;

const ACCOUNT: &str = "account.json";

/// From whom certificates come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The authority's directory.
    pub directory: String,
    /// A further root for the HTTPS of the directory: authorities of one's own have their own.
    pub ca_file: Option<PathBuf>,
    /// Which proofs the listeners of the server can give, the best first.
    pub challenges: Vec<Challenge>,
}

/// Why there is no new certificate.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    /// The authority asks for so much patience.
    pub(super) wait: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        Self {
            message: err.to_string(),
            wait: None,
        }
    }
}

/// The certificate of an earlier order, if it can still be served.
pub(super) fn kept(
    store: &Store,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Option<Chain>, Error> {
    let Some(file) = file(names) else {
        return Ok(None);
    };
    let Some(pem) = store.read(&file)? else {
        return Ok(None);
    };
    match read(store, &file, pem, names, now) {
        Ok(chain) => Ok(Some(chain)),
        Err(err) => {
            warn!("{err}; a new certificate is ordered");
            Ok(None)
        }
    }
}

fn file(names: &[String]) -> Option<String> {
    names.first().map(|domain| format!("{domain}.pem"))
}

fn read(
    store: &Store,
    file: &str,
    pem: Vec<u8>,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Chain, Error> {
    let both = Pem {
        certificate: pem.clone(),
        key: pem,
    };
    prove(
        &Files::both(store.file(file)),
        &both,
        Origin::Acme,
        names,
        now,
    )
}

/// An order under way.
pub(super) struct Ordering<'a> {
    pub(super) acme: &'a Acme,
    pub(super) store: &'a Store,
    /// All that the certificate should be for, the domain first.
    pub(super) names: &'a [String],
    /// What the present one lacks: an order for less than it has would be for nothing.
    pub(super) covered: &'a [String],
    pub(super) challenges: &'a Arc<Challenges>,
}

impl Ordering<'_> {
    /// Orders a certificate, keeps it and proves it.
    pub(super) async fn run(&self) -> Result<Chain, Failure> {
        let client = Client::new(self.acme.ca_file.as_deref())?;
        let pem = self.obtain(&client).await.map_err(|message| Failure {
            message,
            wait: client.take_wait(),
        })?;
        let file = file(self.names).ok_or_else(|| Error::Name(String::new()))?;
        let now = OffsetDateTime::now_utc();
        // Proven first: what cannot be served must not replace what can.
        let chain = read(self.store, &file, pem.clone().into_bytes(), self.names, now)?;
        self.store.write(&file, pem.as_bytes())?;
        Ok(chain)
    }

    async fn obtain(&self, client: &Client) -> Result<String, String> {
        let mut account = self.account(client).await?;
        let mut messages = Vec::new();
        for challenge in &self.acme.challenges {
            let mut outcome = self.narrowing(&account, *challenge).await;
            if matches!(&outcome, Err(Refused::Failed(err)) if explain::forgot_us(err)) {
                account = self.register(client).await?;
                outcome = self.narrowing(&account, *challenge).await;
            }
            match outcome {
                Ok(pem) => return Ok(pem),
                Err(refused) => {
                    let message = refused.message(*challenge, &self.acme.directory);
                    if !messages.contains(&message) {
                        messages.push(message);
                    }
                }
            }
        }
        if messages.is_empty() {
            return Err("no listener can answer the authority: it looks at port 443 (TLS) and port 80 (HTTP)".to_owned());
        }
        Err(messages.join("; and "))
    }

    /// For all names, else for those that the authority can prove: rooms that other servers cannot reach are better
    /// than a domain that nobody can.
    async fn narrowing(&self, account: &Account, challenge: Challenge) -> Result<String, Refused> {
        let mut names = self.names.to_vec();
        loop {
            let refused = match order::obtain(account, &names, challenge, self.challenges).await {
                Ok(pem) => return Ok(pem),
                Err(refused) => refused,
            };
            let without = refused.without(&names);
            let gains = without.iter().any(|name| !self.covered.contains(name));
            if without.len() == names.len() || without.first() != self.names.first() || !gains {
                return Err(refused);
            }
            let message = refused.message(challenge, &self.acme.directory);
            warn!("{message}; a certificate without these names is ordered");
            names = without;
        }
    }

    /// The kept account, else a new one.
    async fn account(&self, client: &Client) -> Result<Account, String> {
        let kept = self.store.read(ACCOUNT).map_err(|err| err.to_string())?;
        let Some(kept) = kept.and_then(|kept| credentials(&kept, &self.acme.directory)) else {
            return self.register(client).await;
        };
        Account::builder_with_http(Box::new(client.clone()))
            .from_credentials(kept)
            .await
            .map_err(|err| explain::failed(&err, &self.acme.directory))
    }

    async fn register(&self, client: &Client) -> Result<Account, String> {
        let account = NewAccount {
            contact: &[],
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = Account::builder_with_http(Box::new(client.clone()))
            .create(&account, self.acme.directory.clone(), None)
            .await
            .map_err(|err| explain::failed(&err, &self.acme.directory))?;
        info!(directory = %self.acme.directory, "An account with the certificate authority was made");
        let text = serde_json::to_vec_pretty(&credentials).map_err(|err| err.to_string())?;
        self.store
            .write(ACCOUNT, &text)
            .map_err(|err| err.to_string())?;
        Ok(account)
    }
}

/// An account that was made with this very directory.
fn credentials(kept: &[u8], directory: &str) -> Option<AccountCredentials> {
    let value: Value = serde_json::from_slice(kept).ok()?;
    if value.get("directory")?.as_str()? != directory {
        return None;
    }
    serde_json::from_value(value)
        .inspect_err(|err| warn!("{ACCOUNT} is damaged: {err}; a new account is made"))
        .ok()
}
