//! `moltis reload`: as SIGHUP, but with an answer.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::{Globals, control, say};
use crate::config::reload::Reloaded;

/// Make the running process read moltis.toml again
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis reload")]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The answer is `{"changes": ["channels.xmpp.my-bot.dm_policy: applied", …]}`; where nothing was new, `last` is what was.
pub(super) async fn run(globals: &Globals, arguments: &Arguments) -> Result<ExitCode> {
    let loaded = globals.load()?;
    let answer = control::ask(&loaded.config.data_dir, "reload").await?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let reloaded: Reloaded =
        serde_json::from_value(answer).context("The running moltis is of another version")?;
    for line in reloaded.heading().iter().chain(reloaded.lines()) {
        say(line);
    }
    Ok(ExitCode::SUCCESS)
}
