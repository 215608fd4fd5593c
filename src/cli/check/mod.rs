//! `moltis check`: proves each part, one line each: ok, warning, or problem with its remedy.

mod certs;
mod config;
mod dns;
mod llm;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Globals, say};
use crate::config::Config;
use crate::xmpp::dns::Resolver;

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
    /// Others find the server by its domain, and the bots theirs; prints the lines of the zone
    Dns,
    /// The certificate of the server, and what its ports show
    Certs,
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

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    part: &'static str,
    level: Level,
    message: String,
    /// Lines of the zone that belong there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    zone: Vec<String>,
}

impl Finding {
    fn new(part: &'static str, level: Level, message: impl Into<String>) -> Self {
        Self {
            part,
            level,
            message: message.into(),
            zone: Vec::new(),
        }
    }

    fn with_zone(mut self, lines: Vec<String>) -> Self {
        self.zone = lines;
        self
    }

    fn line(&self) -> String {
        format!("{:<8} {}", self.level.word(), self.message)
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
            let resolver = Resolver::system();
            if wanted(Part::Dns) {
                findings.extend(dns::check(&loaded.config, &resolver).await);
            }
            if wanted(Part::Certs) {
                findings.extend(certs::check(&loaded.config).await);
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
        say_zone(&findings);
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

/// The lines of the zone, each once, to be copied.
fn say_zone(findings: &[Finding]) {
    let mut said = BTreeSet::new();
    for line in findings.iter().flat_map(|finding| &finding.zone) {
        if said.is_empty() {
            say("\nThe lines of the zone (TLSA with DNSSEC only):");
        }
        if said.insert(line) {
            say(line);
        }
    }
}
