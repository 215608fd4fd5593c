//! One file per subcommand; the only code that prints. A command returns what it has to say or an error, which is one
//! sentence with a remedy; exit codes are 0, 1 for a failure and 2 for wrong usage.

mod accounts;
mod backup;
mod chat;
mod check;
mod completions;
mod config;
mod control;
mod init;
mod invite;
mod register;
mod reload;
mod run;
mod s2s;
mod secret;
mod status;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::app::demo;
use crate::config::{Config, Loaded, Sources};
use crate::llm::{self, Provider};

/// An AI gateway for XMPP, and an XMPP server of one's own.
#[derive(Parser, Debug)]
#[command(
    name = "moltis",
    version,
    after_help = "Example:\n  moltis init     writes a moltis.toml\n  moltis          starts what it asks for"
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Args, Debug, Default)]
struct Globals {
    /// Read this file [default: $MOLTIS_CONFIG, ./moltis.toml, $XDG_CONFIG_HOME/moltis/moltis.toml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Override a key, as in --set chat.model=offline/offline; may be repeated
    #[arg(long, value_name = "KEY=VALUE", global = true, value_parser = override_of)]
    set: Vec<(String, String)>,
}

impl Globals {
    fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.set.clone())
    }

    fn load(&self) -> Result<Loaded> {
        let mut sources = self.sources();
        let loaded = Config::load(&sources)?;
        if !demo::is_wanted(&loaded) {
            return Ok(loaded);
        }
        // What talks to the running demo need not know its model.
        sources.built_in = Some(demo::text(None));
        Ok(Config::load(&sources)?)
    }
}

fn override_of(text: &str) -> Result<(String, String), String> {
    // A quoted part of a key may hold the sign, as no JID of a room or person does.
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as KEY=VALUE, as in chat.model=offline/offline".to_owned()),
    }
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Arguments),
    Chat(chat::Arguments),
    Check(check::Arguments),
    Config(config::Arguments),
    Init(init::Arguments),
    Register(register::Arguments),
    Adduser(accounts::Add),
    Deluser(accounts::Delete),
    Passwd(accounts::Password),
    Users(accounts::List),
    Invite(invite::Arguments),
    Reload(reload::Arguments),
    S2s(s2s::Arguments),
    Status(status::Arguments),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Completions(completions::Arguments),
}

/// Runs what the arguments of the process ask for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().ok(); // help for a pipe that has closed
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // Every crate with TLS is built without a provider of its own, so that there is this one.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok(); // it was installed before
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let globals = &cli.globals;
    let command = cli
        .command
        .unwrap_or(Command::Run(run::Arguments::default()));
    match command {
        Command::Run(arguments) => block_on(run::run(globals, &arguments))?,
        Command::Chat(arguments) => block_on(chat::run(globals, &arguments))?,
        Command::Check(arguments) => block_on(check::run(globals, &arguments))?,
        Command::Config(arguments) => config::run(globals, &arguments),
        Command::Init(arguments) => init::run(globals, arguments),
        Command::Register(arguments) => block_on(register::run(globals, &arguments))?,
        Command::Adduser(arguments) => block_on(accounts::add(globals, arguments))?,
        Command::Deluser(arguments) => block_on(accounts::delete(globals, arguments))?,
        Command::Passwd(arguments) => block_on(accounts::password(globals, arguments))?,
        Command::Users(arguments) => block_on(accounts::list(globals, &arguments))?,
        Command::Invite(arguments) => block_on(invite::run(globals, arguments))?,
        Command::Reload(arguments) => block_on(reload::run(globals, &arguments))?,
        Command::S2s(arguments) => block_on(s2s::run(globals, arguments))?,
        Command::Status(arguments) => block_on(status::run(globals, &arguments))?,
        Command::Backup(arguments) => backup::backup(globals, &arguments),
        Command::Restore(arguments) => backup::restore(globals, &arguments),
        Command::Completions(arguments) => completions::run(&arguments, Cli::command()),
    }
}

/// The models' providers, by name.
fn providers(config: &Config) -> Result<BTreeMap<String, Arc<dyn Provider>>> {
    let provider =
        |(name, provider): (&String, _)| Ok((name.clone(), llm::provider(name, provider)?));
    config.providers.iter().map(provider).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("Failed to start the runtime")?;
    Ok(runtime.block_on(future))
}

/// Prints a line of what was asked for.
fn say(line: &str) {
    // Whoever reads may have seen enough (`moltis config show | head`).
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

/// Prints a line for the person rather than for a pipe.
fn complain(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").ok(); // nobody is left to be told
}
