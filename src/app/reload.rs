//! Reading the configuration again: by the file's watch, SIGHUP, `moltis reload` and `/reload`. What does not validate
//! changes nothing and says why; what does is compared key by key.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use futures::StreamExt;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::home::Home;
use super::logging::Logging;
use crate::config::reload::{Applied, Changes, Reloaded, compare};
use crate::config::{self, Config, Loaded, Sources, XmppServer};
use crate::gateway::accounts::Accounts;
use crate::gateway::prompt::Prompts;
use crate::llm::Models;
use crate::runtime::{Phase, Supervisor};

/// A handle; clones share what is in force.
#[derive(Clone)]
pub(super) struct Reloader(Arc<Inner>);

struct Inner {
    supervisor: Supervisor,
    sources: Sources,
    /// What is in force; locked while a reload is under way, so that two do not mix.
    loaded: tokio::sync::Mutex<InForce>,
    live: watch::Sender<Arc<Config>>,
    models: watch::Sender<Models>,
    logging: Logging,
    accounts: OnceLock<Accounts>,
    home: OnceLock<Home>,
    error: Mutex<String>,
    file: Option<std::path::PathBuf>,
}

struct InForce {
    loaded: Loaded,
    /// What changed last, since the start.
    last: Option<Applied>,
}

impl Reloader {
    pub(super) fn new(
        supervisor: Supervisor,
        loaded: Loaded,
        sources: Sources,
        live: watch::Sender<Arc<Config>>,
        models: watch::Sender<Models>,
        logging: Logging,
    ) -> Self {
        Self(Arc::new(Inner {
            supervisor,
            sources,
            file: loaded.file.clone(),
            loaded: tokio::sync::Mutex::new(InForce { loaded, last: None }),
            live,
            models,
            logging,
            accounts: OnceLock::new(),
            home: OnceLock::new(),
            error: Mutex::default(),
        }))
    }

    /// From here on a reload reaches the accounts.
    pub(super) fn serve(&self, accounts: Accounts, home: Option<Home>) {
        // It is called once.
        self.0.accounts.set(accounts).ok();
        if let Some(home) = home {
            self.0.home.set(home).ok();
        }
    }

    /// Why the configuration on disk is not in force; empty where it is.
    pub(super) fn error(&self) -> String {
        self.0
            .error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads and applies: what was applied, or why nothing was changed. In a task of its own: whoever asks may
    /// be ended by what the reload does, as is `/reload` in a chat when its account reconnects, and must not take it along.
    pub(super) async fn reload(&self) -> Result<Reloaded, String> {
        let (reply, outcome) = oneshot::channel();
        let reloader = self.clone();
        self.0
            .supervisor
            .spawn(Phase::Listeners, "reload", |stop| async move {
                let reloading = std::pin::pin!(reloader.reload_here());
                if let Some(outcome) = stop.run_until_cancelled(reloading).await {
                    reply.send(outcome).ok(); // Nobody waits for it any more.
                }
                Ok(())
            });
        let stopping = || Err("The process is stopping".to_owned());
        outcome.await.unwrap_or_else(|_dropped| stopping())
    }

    async fn reload_here(&self) -> Result<Reloaded, String> {
        let outcome = self.try_reload().await.map_err(|err| format!("{err:#}"));
        let mut error = self.0.error.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(reloaded) => {
                error.clear();
                for change in &reloaded.changes {
                    info!("Configuration: {change}");
                }
            }
            Err(reason) => {
                warn!("The configuration was not changed: {reason}");
                error.clone_from(reason);
            }
        }
        outcome
    }

    async fn try_reload(&self) -> Result<Reloaded> {
        let inner = &self.0;
        let mut in_force = inner.loaded.lock().await;
        let InForce { loaded, last } = &mut *in_force;
        let sources = inner.sources.clone();
        let mut new = tokio::task::spawn_blocking(move || Config::load(&sources))
            .await
            .context("Reading the configuration failed")??;
        let changes = compare(loaded, &new);
        keep_until_restart(&loaded.config, &mut new.config);
        // Prompts are read again even where no key has changed.
        Prompts::load(&new.config)?;
        let models = concerns_models(&changes)
            .then(|| Models::from_config(&new.config))
            .transpose()?;
        inner.logging.set_level(&new.config.log.level)?;
        if let Some(models) = models {
            inner.models.send_replace(models);
        }
        inner.live.send_replace(Arc::new(new.config.clone()));
        if let Some(home) = inner.home.get() {
            home.apply(&new.config).await;
        }
        if let Some(accounts) = inner.accounts.get() {
            accounts
                .apply(&loaded.config, &new.config, &changes.reconnect)
                .await;
        }
        *loaded = new;
        let changes: Vec<String> = changes.list.iter().map(ToString::to_string).collect();
        if changes.is_empty() {
            let last = last.clone();
            return Ok(Reloaded { changes, last });
        }
        *last = Some(Applied {
            at: date(OffsetDateTime::now_utc()),
            changes: changes.clone(),
        });
        Ok(Reloaded {
            changes,
            last: None,
        })
    }
}

/// `2026-11-20 13:01:22 UTC`.
fn date(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    at.format(format).unwrap_or_else(|_| "now".to_owned())
}

/// What is set up once stays as it was.
fn keep_until_restart(old: &Config, new: &mut Config) {
    new.data_dir.clone_from(&old.data_dir);
    new.log.format = old.log.format;
    new.server.bind.clone_from(&old.server.bind);
    new.server.port = old.server.port;
    let server = XmppServer {
        admins: new.xmpp_server.admins.clone(),
        archive_days: new.xmpp_server.archive_days,
        registration: new.xmpp_server.registration,
        limits: new.xmpp_server.limits.clone(),
        contact: new.xmpp_server.contact.clone(),
        push_summary: new.xmpp_server.push_summary,
        upload: new.xmpp_server.upload.clone(),
        external_services: new.xmpp_server.external_services.clone(),
        ..old.xmpp_server.clone()
    };
    new.xmpp_server = server;
}

/// Whether the models are other ones; their cooldowns then start anew.
fn concerns_models(changes: &Changes) -> bool {
    changes.list.iter().any(|change| {
        change.key.starts_with("providers.")
            || change.key.starts_with("failover.")
            || change.key == "chat.model"
    })
}

/// Watches the file and SIGHUP.
pub(super) fn watch(supervisor: &Supervisor, reloader: &Reloader) -> Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("Failed to listen for SIGHUP")?;
    let on_hangup = reloader.clone();
    supervisor.spawn(Phase::Listeners, "reload/SIGHUP", |stop| async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = hangups.recv() => drop(on_hangup.reload().await), // It is in the log.
            }
        }
    });
    let Some(file) = &reloader.0.file else {
        return Ok(());
    };
    let changed = match config::watch::watch(file) {
        Ok(changed) => changed,
        Err(err) => {
            // Some file systems cannot be watched; SIGHUP and `moltis reload` still work.
            warn!("The configuration is not watched: {err:#}");
            return Ok(());
        }
    };
    let on_change = reloader.clone();
    supervisor.spawn(Phase::Listeners, "reload/watch", |stop| async move {
        let mut changed = std::pin::pin!(changed);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                change = changed.next() => match change {
                    Some(()) => drop(on_change.reload().await), // It is in the log.
                    None => return Ok(()),
                },
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file, and what reads it again.
    struct Stage {
        directory: tempfile::TempDir,
        supervisor: Supervisor,
        reloader: Reloader,
        seen: watch::Receiver<Arc<Config>>,
    }

    impl Stage {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            write(&directory, 1);
            let sources = Sources {
                file: Some(directory.path().join("moltis.toml")),
                environment: [("HOME".to_owned(), "/nonexistent".to_owned())].into(),
                ..Sources::default()
            };
            let loaded = Config::load(&sources).unwrap();
            let (live, seen) = watch::channel(Arc::new(loaded.config.clone()));
            let (models, _) = watch::channel(Models::from_config(&loaded.config).unwrap());
            let logging = Logging::silent();
            let supervisor = Supervisor::new();
            let reloader =
                Reloader::new(supervisor.clone(), loaded, sources, live, models, logging);
            Self {
                directory,
                supervisor,
                reloader,
                seen,
            }
        }
    }

    fn write(directory: &tempfile::TempDir, seconds: u32) {
        let text = format!("[chat]\nturn_timeout_secs = {seconds}\n");
        std::fs::write(directory.path().join("moltis.toml"), text).unwrap();
    }

    #[tokio::test]
    async fn a_reload_goes_on_when_whoever_asked_for_it_is_ended_by_it() {
        let mut stage = Stage::new();
        write(&stage.directory, 2);
        let mut asking = Box::pin(stage.reloader.reload());
        assert!(futures::poll!(&mut asking).is_pending());
        drop(asking);
        stage
            .seen
            .wait_for(|config| config.chat.turn_timeout_secs == 2)
            .await
            .unwrap();
        stage.supervisor.shut_down().await;
    }

    #[tokio::test]
    async fn who_asks_after_the_watch_was_faster_is_told_what_it_applied() {
        let stage = Stage::new();
        let untouched = stage.reloader.reload().await.unwrap();
        assert_eq!(untouched, Reloaded::default());
        write(&stage.directory, 2);
        let first = stage.reloader.reload().await.unwrap();
        assert_eq!(first.changes, ["chat.turn_timeout_secs: applied"]);
        assert_eq!(first.last, None);
        for _ in 0..2 {
            let second = stage.reloader.reload().await.unwrap();
            assert!(second.changes.is_empty());
            assert_eq!(second.last.unwrap().changes, first.changes);
        }
        stage.supervisor.shut_down().await;
    }

    #[test]
    fn a_time_is_told_to_the_second() {
        let at = OffsetDateTime::from_unix_timestamp(1_795_179_682).unwrap();
        assert_eq!(date(at), "2026-11-20 13:01:22 UTC");
    }
}
