//! `moltis reload`: as SIGHUP, but with an answer.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{Globals, control, say};

/// Make the running process read moltis.toml again
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis reload")]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The answer is `{"changes": ["channels.xmpp.my-bot.dm_policy: applied", …]}`.
pub(super) async fn run(globals: &Globals, arguments: &Arguments) -> Result<ExitCode> {
    let loaded = globals.load()?;
    let answer = control::ask(&loaded.config.data_dir, "reload").await?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let changes = answer.get("changes").and_then(Value::as_array);
    let changes: Vec<&str> = changes
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if changes.is_empty() {
        say("Nothing has changed.");
    }
    for change in changes {
        say(change);
    }
    Ok(ExitCode::SUCCESS)
}
