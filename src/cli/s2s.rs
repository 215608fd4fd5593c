//! `moltis s2s test`: the way to another server, step by step. The running process goes it, with the code that carries
//! stanzas: the other server may want to call it back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::{Globals, control, say};
use crate::server::order::Order;

/// A little more than the process allows itself.
const PATIENCE: Duration = Duration::from_secs(105);

/// Look at the connections with other servers
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis s2s test example.net")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Test(Test),
}

/// Walk the way to another server (DNS, TCP, TLS, certificate, who we are) and tell each step
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis s2s test example.net --from conference.example.org")]
struct Test {
    /// The other server's domain
    domain: String,
    /// As which domain of this server [default: its own]
    #[arg(long, value_name = "DOMAIN")]
    from: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the process tells.
#[derive(Debug, Serialize, Deserialize)]
struct Walk {
    from: String,
    to: String,
    ok: bool,
    steps: Vec<Step>,
    failure: Option<Failure>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Step {
    name: String,
    ok: bool,
    text: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    obstacle: String,
    text: String,
}

pub(super) async fn run(globals: &Globals, arguments: Arguments) -> Result<ExitCode> {
    let Command::Test(test) = arguments.command;
    let loaded = globals.load()?;
    let order = Order::Walk {
        to: test.domain,
        from: test.from,
    };
    let order = serde_json::to_string(&order)?;
    let answer = control::ask_for(&loaded.config.data_dir, &order, PATIENCE).await?;
    let mut walk: Walk =
        serde_json::from_value(answer).context("The running moltis is of another version")?;
    for step in walk.steps.iter_mut().filter(|step| !step.ok) {
        step.remedy = remedy(&step.name).map(ToOwned::to_owned);
    }
    if test.json {
        say(&serde_json::to_string_pretty(&walk)?);
    } else {
        say(&lines(&walk).join("\n"));
    }
    Ok(if walk.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A line for each step, and one for the whole.
fn lines(walk: &Walk) -> Vec<String> {
    let line = |level: &str, name: &str, text: &str| format!("{level:<8} {name:<12} {text}");
    let mut lines: Vec<String> = walk
        .steps
        .iter()
        .map(|step| {
            let level = match (step.ok, walk.ok) {
                (true, _) => "ok",
                // Another way was found.
                (false, true) => "warning",
                (false, false) => "problem",
            };
            match &step.remedy {
                Some(remedy) => line(level, &step.name, &format!("{}; {remedy}", step.text)),
                None => line(level, &step.name, &step.text),
            }
        })
        .collect();
    let Walk { from, to, .. } = walk;
    lines.push(match &walk.failure {
        None => format!("{from} can talk to {to}"),
        Some(failure) => format!("{from} cannot talk to {to}: {}", failure.text),
    });
    lines
}

/// What to do, to follow a semicolon.
fn remedy(step: &str) -> Option<&'static str> {
    Some(match step {
        "dns" => "check how the domain is written, and ask its operator for its DNS",
        "host" => {
            "check that this machine may connect to that port, and ask its operator whether it runs"
        }
        "certificate" => {
            "its operator has to replace it; federation.authentication = \"dialback\" does without it"
        }
        "external" => {
            "the other server does not trust our certificate; `moltis check certs` looks at it"
        }
        "dialback" => {
            "the other server has to reach ours; `moltis check dns` says whether it can find it"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, ok: bool, text: &str) -> Step {
        Step {
            name: name.to_owned(),
            ok,
            text: text.to_owned(),
            remedy: (!ok).then(|| remedy(name)).flatten().map(ToOwned::to_owned),
        }
    }

    #[test]
    fn each_step_is_a_line_and_what_another_way_made_good_is_a_warning() {
        let mut walk = Walk {
            from: "a.example".to_owned(),
            to: "b.example".to_owned(),
            ok: true,
            steps: vec![
                step("tcp", true, "b.example:5269"),
                step("external", false, "not-authorized"),
                step("dialback", true, "we are known as a.example"),
            ],
            failure: None,
        };
        assert_eq!(
            lines(&walk),
            [
                "ok       tcp          b.example:5269",
                "warning  external     not-authorized; the other server does not trust our certificate; `moltis check certs` looks at it",
                "ok       dialback     we are known as a.example",
                "a.example can talk to b.example",
            ]
        );
        walk.ok = false;
        walk.failure = Some(Failure {
            obstacle: "refused".to_owned(),
            text: "b.example does not believe that we are a.example".to_owned(),
        });
        let lines = lines(&walk);
        assert!(lines[1].starts_with("problem "), "{}", lines[1]);
        assert_eq!(
            lines[3],
            "a.example cannot talk to b.example: b.example does not believe that we are a.example"
        );
    }
}
