//! Replaces the certificate in time: files that have changed, self-signed ones and those of an authority before they
//! expire.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::acme::{Failure, Ordering};
use super::chain::{Chain, Error, Files, Pem, prove};
use super::facts::Origin;
use super::{Certificates, Plan, Settings, self_signed};
use crate::runtime::{Backoff, Stop};

/// How often files and expiry are looked at.
const LOOK: Duration = Duration::from_mins(1);
/// How long to wait after a failed order. An authority refuses who fails five times an hour.
const FIRST_RETRY: Duration = Duration::from_mins(30);
const LAST_RETRY: Duration = Duration::from_hours(12);

/// What the task remembers between two looks.
struct Keeper {
    settings: Arc<Settings>,
    /// The files at the last look.
    seen: Option<Pem>,
    backoff: Backoff,
    /// No order before.
    patience: Option<Instant>,
    /// What was said already.
    warned: Vec<String>,
}

pub(super) async fn run(certificates: &Certificates, stop: &Stop) {
    let mut keeper = Keeper::new(certificates);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = certificates.0.changed.notified() => keeper = Keeper::new(certificates),
            pause = keeper.look(certificates) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = certificates.0.changed.notified() => keeper = Keeper::new(certificates),
                    () = sleep(pause) => {}
                }
            }
        }
    }
}

impl Keeper {
    fn new(certificates: &Certificates) -> Self {
        let settings = Arc::clone(&certificates.state().settings);
        Self {
            settings,
            seen: None,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
            patience: None,
            warned: certificates.status().warnings,
        }
    }

    /// Looks once, and says when to look again.
    async fn look(&mut self, certificates: &Certificates) -> Duration {
        let pause = match self.settings.plan() {
            Plan::Files(files) => self.files(certificates, files).await,
            Plan::SelfSigned => self.self_signed(certificates).await,
            Plan::Acme => self.acme(certificates).await,
        };
        for warning in certificates.status().warnings {
            if !self.warned.contains(&warning) {
                warn!("{warning}");
                self.warned.push(warning);
            }
        }
        pause
    }

    async fn files(&mut self, certificates: &Certificates, files: Files) -> Duration {
        let (settings, seen) = (Arc::clone(&self.settings), self.seen.clone());
        let outcome = blocking(move || changed(&settings, &files, seen.as_ref())).await;
        match outcome {
            Ok(None) => {}
            Ok(Some((pem, outcome))) => {
                self.seen = Some(pem);
                match outcome {
                    Ok(chain) => replaced(certificates, chain),
                    Err(err) => kept(certificates, &err.to_string()),
                }
            }
            // Gone for a moment while it is replaced, or for good.
            Err(err) => kept(certificates, &err.to_string()),
        }
        LOOK
    }

    async fn self_signed(&mut self, certificates: &Certificates) -> Duration {
        let settings = Arc::clone(&self.settings);
        let outcome = blocking(move || {
            self_signed::ensure(
                &settings.self_signed(),
                &settings.names(),
                OffsetDateTime::now_utc(),
            )
        });
        match outcome.await {
            Ok(chain) => replaced(certificates, chain),
            Err(err) => kept(certificates, &err.to_string()),
        }
        LOOK
    }

    async fn acme(&mut self, certificates: &Certificates) -> Duration {
        let facts = certificates.0.resolver.served().facts;
        if self.patience.is_some_and(|until| Instant::now() < until) {
            return LOOK;
        }
        let now = OffsetDateTime::now_utc();
        let due = facts.renewal();
        if facts.origin == Origin::Acme && facts.missing.is_empty() && now < due {
            return Duration::try_from(due - now).map_or(LOOK, |wait| wait.min(LOOK));
        }
        let names = self.settings.names();
        // Near its end a certificate for less is better than none.
        let covered: Vec<_> = if facts.origin == Origin::Acme && now < due {
            names
                .iter()
                .filter(|name| !facts.missing.contains(name))
                .cloned()
                .collect()
        } else {
            Vec::new()
        };
        let store = self.settings.authority();
        let ordering = Ordering {
            acme: &self.settings.acme,
            store: &store,
            names: &names,
            covered: &covered,
            challenges: &certificates.0.resolver.challenges,
        };
        info!(names = names.join(", "), "A certificate is ordered");
        match ordering.run().await {
            Ok(chain) => self.issued(certificates, chain),
            Err(failure) => self.failed(certificates, &failure),
        }
        Duration::ZERO
    }

    fn issued(&mut self, certificates: &Certificates, chain: Chain) {
        // With a clock that is days ahead a new certificate is due at once: no order may follow on its heels.
        let due = chain.facts.renewal() <= OffsetDateTime::now_utc();
        if due {
            warn!("The new certificate is near its end already; check the clock of this machine");
        } else {
            self.backoff.reset();
        }
        self.patience = if due {
            Some(Instant::now() + self.backoff.next_delay())
        } else if chain.facts.missing.is_empty() {
            None
        } else {
            // The names that could not be proven are tried again, but not soon.
            Some(Instant::now() + LAST_RETRY)
        };
        replaced(certificates, chain);
    }

    fn failed(&mut self, certificates: &Certificates, failure: &Failure) {
        let wait = failure
            .wait
            .unwrap_or_default()
            .max(self.backoff.next_delay());
        self.patience = Some(Instant::now() + wait);
        let minutes = wait.as_secs().div_ceil(60);
        kept(
            certificates,
            &format!(
                "No certificate for {}: {}; next try in {minutes} min",
                self.settings.domain, failure.message
            ),
        );
    }
}

fn replaced(certificates: &Certificates, chain: Chain) {
    certificates.state().problem = None;
    certificates.install(chain);
}

/// The old one is served on; why is said once.
fn kept(certificates: &Certificates, problem: &str) {
    let before = certificates.state().problem.replace(problem.to_owned());
    if before.as_deref() != Some(problem) {
        error!("{problem}");
    }
}

type Changed = Option<(Pem, Result<Chain, Error>)>;

/// The files, where they are others than before.
fn changed(settings: &Settings, files: &Files, seen: Option<&Pem>) -> Result<Changed, Error> {
    let pem = files.read()?;
    if seen == Some(&pem) {
        return Ok(None);
    }
    let now = OffsetDateTime::now_utc();
    let outcome = prove(files, &pem, Origin::File, &settings.names(), now);
    Ok(Some((pem, outcome)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|err| {
            Err(Error::Settings(format!(
                "Failed to look at the certificate: {err}"
            )))
        })
}
