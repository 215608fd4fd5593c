//! `moltis completions SHELL`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  moltis completions bash > ~/.local/share/bash-completion/completions/moltis"
)]
pub(super) struct Arguments {
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, mut command: clap::Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "moltis", &mut script);
    std::io::stdout().lock().write_all(&script).ok(); // as in `say`
    Ok(ExitCode::SUCCESS)
}
