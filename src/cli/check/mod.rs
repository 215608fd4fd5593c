//! `moltis check`: proves each part, one line each: ok, warning, or problem with its remedy.

mod config;
mod llm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Globals, say};
use crate::config::Config;

/// Read moltis.toml and prove each part of it; all parts without a word
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis check llm --json")]
pub(super) struct Arguments {
    /// What to check
    part: Option<Part>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// moltis.toml, its files and ports
    Config,
    /// Each configured model answers
    Llm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Problem,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    part: &'static str,
    level: Level,
    message: String,
}

impl Finding {
    fn new(part: &'static str, level: Level, message: impl Into<String>) -> Self {
        Self {
            part,
            level,
            message: message.into(),
        }
    }

    fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        format!("{level:<8} {}", self.message)
    }
}

pub(super) async fn run(globals: &Globals, arguments: &Arguments) -> Result<ExitCode> {
    let wanted = |part| arguments.part.is_none_or(|only| only == part);
    let mut findings = Vec::new();
    match Config::load(&globals.sources()) {
        // Without a configuration there is nothing else to check.
        Err(errors) => findings.extend(config::errors(&errors)),
        Ok(loaded) => {
            if wanted(Part::Config) {
                findings.extend(config::check(&loaded));
            }
            if wanted(Part::Llm) {
                findings.extend(llm::check(&loaded.config).await);
            }
        }
    }
    if arguments.json {
        say(&serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            say(&finding.line());
        }
    }
    let failed = findings
        .iter()
        .any(|finding| finding.level == Level::Problem);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
