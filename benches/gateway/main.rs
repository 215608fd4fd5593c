//! What the gateway adds to a model's answer, measured on the real binary from outside: this process is its XMPP server
//! and its model, so that one clock times both ends. `cargo bench` prints a report, `-- --json` the same for machines,
//! `-- --quick` takes a few seconds. A missing or doubled answer is a failure; a missed aim is not, machines differ.
//! How to read the numbers: docs/performance.md.
#![expect(clippy::print_stdout, reason = "the report is what it is for")]

mod bot;
mod disk;
mod model;
mod phases;
mod report;
mod turns;
mod xmpp;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Measures latency, memory and CPU of the built binary on loopback.
#[derive(Parser)]
struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A few turns of everything, to see that it works
    #[arg(long)]
    quick: bool,
    /// Where the database lies: its disk is part of what is measured
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    data_dir: PathBuf,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // One thread: the load must leave the other core to what is measured.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let scale = if arguments.quick {
                phases::QUICK
            } else {
                phases::FULL
            };
            let report = tokio::select! {
                report = phases::run(&scale, &arguments.data_dir) => report?,
                // Dropping the phases ends the child.
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted.context("No signals here")?;
                    anyhow::bail!("Interrupted");
                }
            };
            if arguments.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{report}");
            }
            Ok(())
        })
}
