//! `moltis register JID`: creates an account on a server by XEP-0077.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use jid::BareJid;

use super::{Globals, say};
use crate::config::host_and_port;
use crate::xmpp::Settings;
use crate::xmpp::register::{Options, register};
use crate::xmpp::secrets::Secrets;

/// Create an account on a server that allows it; the password is generated and saved in secrets.toml
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  moltis register bot@example.com --server xmpp.example.com:5222"
)]
pub(super) struct Arguments {
    /// The account to create
    jid: BareJid,
    /// Connect to this host instead of what DNS says
    #[arg(long, value_name = "HOST[:PORT]")]
    server: Option<String>,
    /// Trust this root certificate too (PEM)
    #[arg(long, value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,
    /// The invitation's token (XEP-0445)
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

pub(super) async fn run(globals: &Globals, arguments: &Arguments) -> Result<ExitCode> {
    let config = globals.load()?.config;
    let mut settings = Settings::new(arguments.jid.clone(), String::new().into());
    settings.server = arguments
        .server
        .as_deref()
        .map(|server| host_and_port(server).map_err(|err| anyhow!("--server {err}")))
        .transpose()?;
    settings.tls_ca_file.clone_from(&arguments.tls_ca_file);
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("Failed to create data_dir {}", config.data_dir.display()))?;
    let secrets = Secrets::in_directory(&config.data_dir);
    let options = Options {
        settings,
        token: arguments.token.clone().map(Into::into),
        data_dir: config.data_dir,
    };
    register(&options).await?;
    say(&format!(
        "{} is registered; its password is in {}, where `moltis run` finds it",
        arguments.jid,
        secrets.path().display()
    ));
    Ok(ExitCode::SUCCESS)
}
