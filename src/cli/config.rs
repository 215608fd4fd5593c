//! `moltis config show`: the effective configuration, secrets masked, with where each value came from.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Globals, say};
use crate::config::{Loaded, Origin, Setting, Shown};

/// What a secret looks like.
const MASK: &str = "\"****\"";

/// Look at the configuration
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis config show")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Print the effective configuration, secrets masked, with where each value came from
    #[command(after_help = "Example:\n  moltis config show --json")]
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(globals: &Globals, arguments: &Arguments) -> Result<ExitCode> {
    let Command::Show { json } = arguments.command;
    let loaded = globals.load()?;
    if json {
        let settings: Vec<_> = loaded.settings.iter().map(as_json).collect();
        say(&serde_json::to_string_pretty(&settings)?);
    } else {
        say(as_toml(&loaded).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(setting: &Setting) -> serde_json::Value {
    let value = match &setting.value {
        Shown::Unset => serde_json::Value::Null,
        Shown::Secret(_) => json!("****"),
        Shown::Toml(text) => toml::from_str::<serde_json::Value>(&format!("value = {text}"))
            .ok()
            .and_then(|mut table| table.get_mut("value").map(serde_json::Value::take))
            .unwrap_or_default(),
    };
    json!({ "key": setting.path(), "value": value, "from": setting.origin.to_string() })
}

fn as_toml(loaded: &Loaded) -> String {
    let mut tables: BTreeMap<&[String], Vec<&Setting>> = BTreeMap::new();
    let mut order: Vec<&[String]> = Vec::new();
    for setting in &loaded.settings {
        let table = setting.table.as_slice();
        let rows = tables.entry(table).or_default();
        if rows.is_empty() {
            order.push(table);
        }
        rows.push(setting);
    }
    let mut out = match &loaded.file {
        Some(file) => format!("# {}\n", file.display()),
        None => "# There is no moltis.toml.\n".to_owned(),
    };
    for table in order {
        let first = tables.get(table).and_then(|rows| rows.first());
        if let Some(first) = first.filter(|row| !row.table.is_empty()) {
            writeln!(out, "\n{}", first.heading()).ok(); // a String takes everything
        }
        for setting in tables.get(table).into_iter().flatten() {
            row(&mut out, setting);
        }
    }
    out
}

fn row(out: &mut String, setting: &Setting) {
    let value = match &setting.value {
        // TOML has no word for nothing.
        Shown::Unset => {
            writeln!(out, "# {} is not set", setting.key).ok(); // likewise
            return;
        }
        Shown::Secret(_) => MASK,
        Shown::Toml(text) => text,
    };
    let assignment = format!("{} = {value}", setting.name());
    let origin = match &setting.origin {
        Origin::Default => "default".to_owned(),
        origin => origin.to_string(),
    };
    writeln!(out, "{assignment:<40} # {origin}").ok(); // likewise
}
