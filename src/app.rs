//! Builds every part and hands it to the supervisor; the only code that knows them all.

mod control;
pub mod demo;
mod home;
mod house;
pub mod logging;
mod reload;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::{Config, Loaded, Sources};
use crate::gateway::access::Access;
use crate::gateway::account::forget_mechanism;
use crate::gateway::accounts::{Accounts, Parts};
use crate::gateway::command::{Commands, House, Services};
use crate::gateway::prompt::Prompts;
use crate::gateway::session::Conversations;
use crate::http::control::Control;
use crate::http::status::{self, Status};
use crate::http::{self, Look, Shown};
use crate::llm::Models;
use crate::runtime::{Phase, Supervisor};
use crate::storage::Storage;
use control::AppControl;
use home::Home;
use house::AppHouse;
use reload::Reloader;

/// The database's file in the data directory.
pub const DATABASE: &str = "moltis.db";

/// How long the store may take to close.
const CLOSING: Duration = Duration::from_millis(400);

/// A running process.
pub struct App {
    supervisor: Supervisor,
    storage: Storage,
    banner: Vec<String>,
}

impl App {
    /// Starts everything that the configuration asks for. `sources`: where a reload reads it again.
    /// `accept_weaker_login`: forget with which mechanisms the accounts logged in last.
    pub async fn start(
        loaded: Loaded,
        sources: Sources,
        accept_weaker_login: bool,
    ) -> Result<Self> {
        let config = Arc::new(loaded.config.clone());
        let logging = logging::start(&config.log)?;
        prepare(&config.data_dir)?;
        let supervisor = Supervisor::new();
        let control = Control::bind(&config.data_dir).await?;
        let listener = match config.server.port {
            0 => None,
            port => Some(http::bind(&config.server.bind, port).await?),
        };
        let database = config.data_dir.join(DATABASE);
        let storage = Storage::open(&database)
            .with_context(|| format!("Failed to open {}", database.display()))?;
        let is_demo = loaded.file.is_none() && sources.built_in.is_some();
        let home = home::prepare(&config, &storage, is_demo).await?;
        let home = home.map(|prepared| prepared.serve(&supervisor));
        if accept_weaker_login {
            for account in config.channels.xmpp.values() {
                forget_mechanism(&storage, &account.jid)
                    .await
                    .context("Failed to forget a login mechanism")?;
            }
        }
        let access = Arc::new(
            Access::load(storage.clone())
                .await
                .context("Failed to read the approvals")?,
        );
        Prompts::load(&config)?;
        let (models_sender, models) = watch::channel(Models::from_config(&config)?);
        let (live_sender, live) = watch::channel(Arc::clone(&config));
        let running = Arc::new(OnceLock::new());
        if let Some(home) = &home {
            home.promote(Arc::clone(&access), Arc::clone(&running), live.clone());
        }
        let first = match &home {
            Some(home) if !is_demo => home.first_invitation().await,
            _ => None,
        };
        let first = home.as_ref().zip(first).map(|(home, made)| {
            let page = config
                .web_url()
                .and_then(|pages| pages.join(&format!("invite/{}", made.token)).ok());
            page.map_or_else(
                || made.invitation.uri(home.server.domain(), &made.token),
                String::from,
            )
        });
        let conversations = Conversations::new(
            storage.clone(),
            supervisor.clone(),
            live.clone(),
            models.clone(),
        );
        let reloader = Reloader::new(
            supervisor.clone(),
            loaded,
            sources,
            live_sender,
            models_sender,
            logging.clone(),
        );
        let commands = Commands::new(Services {
            live: live.clone(),
            models: models.clone(),
            conversations: conversations.clone(),
            storage: storage.clone(),
            access: Arc::clone(&access),
            control: Arc::new(AppControl {
                accounts: Arc::clone(&running),
                storage: storage.clone(),
                reloader: reloader.clone(),
                logging,
                conversations: conversations.clone(),
            }),
            house: home
                .as_ref()
                .map(|home| Arc::new(AppHouse(home.server.clone())) as Arc<dyn House>),
        });
        let accounts = Accounts::new(Parts {
            supervisor: supervisor.clone(),
            storage: storage.clone(),
            live: live.clone(),
            conversations: conversations.clone(),
            access,
            commands,
            home: home.as_ref().map(Home::pipes),
        });
        reloader.serve(accounts.clone(), home.clone());
        running.set(accounts.clone()).ok(); // It is set once, here.
        let look = look(
            &accounts,
            &conversations,
            &live,
            &models,
            &reloader,
            home.as_ref(),
        );
        serve(
            &supervisor,
            control,
            listener,
            &live,
            &look,
            &reloader,
            home.as_ref(),
        )?;
        reload::watch(&supervisor, &reloader)?;
        accounts.start_all().await;
        let banner = banner(
            &config,
            &models.borrow().default_model().to_string(),
            is_demo,
            first.as_deref(),
        );
        Ok(Self {
            supervisor,
            storage,
            banner,
        })
    }

    /// What listens where, which accounts and models there are, and what to do next; at most fifteen lines.
    pub fn banner(&self) -> &[String] {
        &self.banner
    }

    /// Waits for the signal or a failure, then ends everything in order, within five seconds.
    pub async fn run(self, signal: impl Future<Output = ()>) -> Result<()> {
        let outcome = tokio::select! {
            () = signal => Ok(()),
            failure = self.supervisor.failed() => Err(failure),
        };
        info!("Stopping");
        self.supervisor.shut_down().await;
        // What is committed is safe; a slow disk must not keep the process, which is to end within five seconds.
        match tokio::time::timeout(CLOSING, self.storage.close()).await {
            Ok(closed) => closed.context("Failed to close the store")?,
            Err(_elapsed) => {
                warn!("The store did not close in time; the next start takes up its log");
            }
        }
        outcome
    }
}

/// The data directory, for nobody else.
pub fn prepare(data_dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .with_context(|| format!("Failed to create data_dir {}", data_dir.display()))
}

/// What the status page, `moltis status` and `/readyz` show.
fn look(
    accounts: &Accounts,
    conversations: &Conversations,
    live: &watch::Receiver<Arc<Config>>,
    models: &watch::Receiver<Models>,
    reloader: &Reloader,
    home: Option<&Home>,
) -> Look {
    let (accounts, conversations) = (accounts.clone(), conversations.clone());
    let (live, models, reloader) = (live.clone(), models.clone(), reloader.clone());
    let home = home.cloned();
    Arc::new(move || {
        let accounts_status = accounts.status();
        let services = accounts_status.iter().map(|account| {
            let joined = account
                .rooms
                .iter()
                .filter(|room| room.condition == "joined")
                .count();
            status::Service {
                name: format!("XMPP account {}", account.id),
                status: account.online,
                details: format!("{}: {}, rooms: {joined}", account.jid, account.condition),
            }
        });
        let load = conversations.load();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            services: home.iter().map(Home::service).chain(services).collect(),
            conversations: status::Conversations {
                open: load.open,
                waiting: load.waiting,
                running: load.running,
            },
            models: status::Models {
                default: models.borrow().default_model().to_string(),
                providers: live.borrow().providers.keys().cloned().collect(),
                resting: models
                    .borrow()
                    .resting()
                    .into_iter()
                    .map(|(model, left)| format!("{model} for {} s", left.as_secs()))
                    .collect(),
            },
            federation: home.as_ref().map(Home::peers).unwrap_or_default(),
            configuration_error: reloader.error(),
            claims: accounts
                .claims()
                .into_iter()
                .map(|(account, code)| status::Claim { account, code })
                .collect(),
            accounts: accounts_status,
        }
    })
}

/// Starts what listens.
fn serve(
    supervisor: &Supervisor,
    control: Control,
    listener: Option<tokio::net::TcpListener>,
    live: &watch::Receiver<Arc<Config>>,
    look: &Look,
    reloader: &Reloader,
    home: Option<&Home>,
) -> Result<()> {
    let on_reload = reloader.clone();
    let reload: http::control::Reload = Arc::new(move || {
        let reloader = on_reload.clone();
        Box::pin(async move { reloader.reload().await })
    });
    let control_look = Arc::clone(look);
    let orders = home.map(|home| home.server.clone());
    supervisor.spawn(Phase::Listeners, "control", |stop| {
        control.serve(control_look, reload, orders, stop)
    });
    let Some(listener) = listener else {
        return Ok(());
    };
    let metrics = live
        .borrow()
        .metrics
        .prometheus_endpoint
        .then(|| {
            // What is no longer set, as of an account that a reload has removed, is no longer shown.
            let builder = PrometheusBuilder::new();
            let idle = Some(Duration::from_mins(5));
            builder
                .idle_timeout(MetricKindMask::GAUGE, idle)
                .install_recorder()
        })
        .transpose()
        .context("Failed to start the metrics")?;
    let shown = Shown {
        look: Arc::clone(look),
        metrics,
        config: live.clone(),
        server: home.map(|home| home.web(&live.borrow(), supervisor)),
    };
    supervisor.spawn(Phase::Listeners, "http", |stop| {
        http::serve(listener, shown, stop)
    });
    Ok(())
}

/// `first`: the invitation that makes an operator.
fn banner(config: &Config, model: &str, is_demo: bool, first: Option<&str>) -> Vec<String> {
    let mut lines = vec![format!("moltis {}", env!("CARGO_PKG_VERSION"))];
    let xmpp = &config.xmpp_server;
    if xmpp.enabled {
        lines.push(format!(
            "  XMPP server {}, ports {} (STARTTLS) and {} (TLS), rooms at {}",
            xmpp.domain, xmpp.c2s_port, xmpp.c2s_tls_port, xmpp.muc_host
        ));
    }
    let accounts: Vec<_> = config
        .channels
        .xmpp
        .iter()
        .filter(|(_, account)| account.enabled)
        .collect();
    for (id, account) in accounts.iter().take(6) {
        lines.push(format!(
            "  account {id}: {}, rooms: {}",
            account.jid,
            account.rooms.len()
        ));
    }
    if accounts.len() > 6 {
        lines.push(format!("  and {} more accounts", accounts.len() - 6));
    }
    lines.push(format!("  model {model}"));
    if config.server.port != 0 {
        let server = &config.server;
        let host = match server.bind.as_str() {
            "127.0.0.1" | "::1" => "localhost",
            bind => bind,
        };
        let page = format!("http://{host}:{}/", server.port);
        lines.push(if xmpp.enabled {
            format!("  web chat {page}, status page {page}status")
        } else {
            format!("  status page {page}")
        });
    }
    lines.push(format!("  data in {}", config.data_dir.display()));
    if is_demo {
        lines.extend(demo_lines(config));
        return lines;
    }
    if let Some(first) = first {
        lines.push(
            "Nobody has an account yet. This invites you: admin, and operator of the bots (`moltis invite` shows a QR code)."
                .into(),
        );
        lines.push(format!("  {first}"));
    }
    match accounts.first() {
        Some((_, account)) => lines.push(format!(
            "Write to {} from any XMPP client. Ctrl-C stops.",
            account.jid
        )),
        None => lines.push(
            "No account is enabled; add one to moltis.toml, which is read again when it changes."
                .into(),
        ),
    }
    lines
}

/// What to do with the demo.
fn demo_lines(config: &Config) -> Vec<String> {
    let mut lines = vec![format!(
        "This is the demo: {} is here for you, {} to talk to.",
        demo::PERSON,
        demo::BOT
    )];
    if config.server.port != 0 {
        lines.push(format!(
            "Open http://localhost:{}/ in a browser, or run `moltis chat` in a second terminal.",
            config.server.port
        ));
    }
    lines.push(
        "Make it your own: `moltis init --from-demo` writes its moltis.toml. Ctrl-C stops.".into(),
    );
    lines
}
