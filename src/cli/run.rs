//! `moltis run`: starts what moltis.toml asks for.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Globals, complain};
use crate::app::{App, demo};
use crate::config::Config;

/// Start what moltis.toml asks for; the same as no command at all
#[derive(Args, Debug, Default)]
#[command(after_help = "Example:\n  moltis run --config /etc/moltis/moltis.toml")]
pub(super) struct Arguments {
    /// Accept a weaker login mechanism than last time, once: for a server that was really changed
    #[arg(long)]
    accept_weaker_login: bool,
}

pub(super) async fn run(globals: &Globals, arguments: &Arguments) -> Result<ExitCode> {
    let mut sources = globals.sources();
    let mut loaded = Config::load(&sources)?;
    if demo::is_wanted(&loaded) {
        let found = demo::find(&sources.environment).await;
        sources.built_in = Some(demo::text(found.as_ref()));
        loaded = Config::load(&sources)?;
    }
    let mut terminate = signal(SignalKind::terminate()).context("Failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Failed to listen for SIGINT")?;
    let app = App::start(loaded, sources, arguments.accept_weaker_login).await?;
    for line in app.banner() {
        complain(line);
    }
    app.run(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}
