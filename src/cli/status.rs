//! `moltis status`: what the running process is doing.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{Globals, control, say};

/// Show what the running process is doing: accounts, rooms, conversations, models
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis status --json")]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(globals: &Globals, arguments: &Arguments) -> Result<ExitCode> {
    let loaded = globals.load()?;
    let answer = control::ask(&loaded.config.data_dir, "status").await?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&answer)?);
    } else {
        let mut lines = Vec::new();
        outline(&answer, 0, &mut lines);
        say(&lines.join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A document as indented lines, so that what the process adds is shown without a change here.
fn outline(value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('_', " ");
                if is_leaf(value) {
                    lines.push(format!("{indent}{name}: {}", leaf(value)));
                } else {
                    lines.push(format!("{indent}{name}"));
                    outline(value, depth + 1, lines);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(fields) if fields.values().all(is_leaf) => {
                        let fields: Vec<String> = fields
                            .iter()
                            .map(|(name, value)| {
                                format!("{} {}", name.replace('_', " "), leaf(value))
                            })
                            .collect();
                        lines.push(format!("{indent}{}", fields.join(", ")));
                    }
                    item if is_leaf(item) => lines.push(format!("{indent}{}", leaf(item))),
                    item => outline(item, depth, lines),
                }
            }
        }
        value => lines.push(format!("{indent}{}", leaf(value))),
    }
}

fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::Null | Value::Object(_) | Value::Array(_) => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_outlined() {
        let status = json!({
            "version": "0.1.0",
            "accounts": [
                { "id": "my-bot", "online": true, "last_error": null },
                { "id": "two", "rooms": ["a@b", "c@d"] },
            ],
            "models": {},
            "queue": { "waiting": 3 },
        });
        let mut lines = Vec::new();
        outline(&status, 0, &mut lines);
        assert_eq!(
            lines,
            [
                "accounts",
                "  id my-bot, last error none, online yes",
                "  id: two",
                "  rooms",
                "    a@b",
                "    c@d",
                "models: none",
                "queue",
                "  waiting: 3",
                "version: 0.1.0",
            ]
        );
    }
}
