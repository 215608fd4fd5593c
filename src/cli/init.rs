//! `moltis init`: asks a few questions, or takes flags, and writes a moltis.toml that `moltis check config` accepts.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::{Globals, complain, say, secret};
use crate::app::demo;
use crate::config::presets::{PRESETS, preset};
use crate::config::{Config, Sources};

/// Write a moltis.toml: asks a few questions on a terminal, or takes these flags
#[derive(Args, Debug, Default)]
#[command(
    after_help = "Example:\n  moltis init --jid bot@example.com --password-file bot.password \\\n      --provider anthropic --operator alice@example.com --room team@conference.example.com"
)]
pub(super) struct Arguments {
    /// The bot's account
    #[arg(long)]
    jid: Option<String>,
    /// The file with the account's password, which moltis.toml will name; - writes the line from standard input into
    /// moltis.toml. Without a password the account is registered at the first start
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Connect to this host and port instead of what DNS says
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// The language model's provider [default: the first whose key is in the environment, else offline]
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The provider's model
    #[arg(long)]
    model: Option<String>,
    /// The environment variable that holds the provider's key
    #[arg(long, value_name = "VARIABLE")]
    api_key_env: Option<String>,
    /// Who may command the bot; may be repeated
    #[arg(long, value_name = "JID")]
    operator: Vec<String>,
    /// A room to join; may be repeated
    #[arg(long, value_name = "JID")]
    room: Vec<String>,
    /// Where the database goes
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Write down the demo, with its data: what runs where there is no moltis.toml
    #[arg(long, conflicts_with_all = ["jid", "password_file", "server", "provider", "model", "api_key_env", "operator", "room", "data_dir"])]
    from_demo: bool,
    /// Overwrite a file that exists
    #[arg(long)]
    force: bool,
}

/// The account's password, and where it will be.
enum Password {
    Unknown,
    InFile(PathBuf),
    Written(SecretString),
}

pub(super) fn run(globals: &Globals, mut arguments: Arguments) -> Result<ExitCode> {
    let file = globals.config.clone();
    let file = file.unwrap_or_else(|| PathBuf::from("moltis.toml"));
    if file.exists() && !arguments.force {
        bail!(
            "{} exists; name another file with --config, or overwrite it with --force",
            file.display()
        );
    }
    if arguments.from_demo {
        return from_demo(&file);
    }
    let mut password = match arguments.password_file.take() {
        None => Password::Unknown,
        Some(path) if path == Path::new("-") => Password::Written(secret::from_file(&path)?),
        // The file names it from where it lies itself.
        Some(path) => Password::InFile(std::path::absolute(path)?),
    };
    let environment = Sources::of_process(None, Vec::new()).environment;
    let has_key = |variable: &str| environment.get(variable).is_some_and(|key| !key.is_empty());
    let found = PRESETS
        .iter()
        .find(|preset| !preset.key_variable.is_empty() && has_key(preset.key_variable));
    let suggestion = found.map_or("offline", |preset| preset.name);
    if arguments.jid.is_none() {
        if !std::io::stdin().is_terminal() {
            complain(
                "Standard input is no terminal, so nothing can be asked; give at least --jid.",
            );
            return Ok(ExitCode::from(2));
        }
        ask(&mut arguments, &mut password, suggestion)?;
    }
    let jid = arguments.jid.take().unwrap_or_default();
    let provider = arguments.provider.take();
    let provider = provider.unwrap_or_else(|| suggestion.to_owned());
    let variable = arguments.api_key_env.take().or_else(|| {
        let variable = preset(&provider)?.key_variable;
        (!variable.is_empty()).then(|| variable.to_owned())
    });
    let text = compose(&arguments, &jid, &password, &provider, variable.as_deref());
    validate(&file, &text, environment.clone(), variable.as_deref())?;
    write_private(&file, &text)?;
    say(&format!("Wrote {}.", file.display()));
    if let Some(variable) = variable.filter(|variable| !has_key(variable)) {
        say(&format!(
            "Set {variable} to the key of {provider} before the start."
        ));
    }
    if matches!(password, Password::Unknown) {
        say(&format!("{jid} will be registered at the first start."));
    }
    say("Next: `moltis check`, then `moltis`.");
    Ok(ExitCode::SUCCESS)
}

/// The demo as a file, for whoever wants to go on from it.
fn from_demo(file: &Path) -> Result<ExitCode> {
    let environment = Sources::of_process(None, Vec::new()).environment;
    let found = super::block_on(demo::find(&environment))?;
    let text = demo::text(found.as_ref());
    validate(file, &text, environment, None)?;
    write_private(file, &text)?;
    say(&format!(
        "Wrote {}. `moltis` runs what the demo ran.",
        file.display()
    ));
    say("Next: set your own domain in it; its first start prints an invitation for you.");
    Ok(ExitCode::SUCCESS)
}

fn ask(arguments: &mut Arguments, password: &mut Password, suggestion: &str) -> Result<()> {
    let mut jid = String::new();
    while jid.is_empty() {
        jid = question("The bot's account, as bot@example.com", "")?;
    }
    arguments.jid = Some(jid);
    if matches!(password, Password::Unknown)
        && let Some(secret) = secret::prompt("Its password (empty: register a new account)")?
    {
        *password = Password::Written(secret);
    }
    if arguments.provider.is_none() {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        let text = format!("Language model's provider ({})", names.join(", "));
        arguments.provider = Some(question(&text, suggestion)?);
    }
    let provider = arguments.provider.as_deref().unwrap_or(suggestion);
    let known = preset(provider).map_or("", |preset| preset.model);
    if arguments.model.is_none() && provider != "offline" {
        let mut model = String::new();
        while model.is_empty() {
            model = question("Model", known)?;
        }
        arguments.model = Some(model);
    }
    if arguments.operator.is_empty() {
        let operator = question(
            "Your own address, which may command the bot (empty: later)",
            "",
        )?;
        arguments
            .operator
            .extend(Some(operator).filter(|jid| !jid.is_empty()));
    }
    if arguments.room.is_empty() {
        let room = question("A room to join (empty: none)", "")?;
        arguments
            .room
            .extend(Some(room).filter(|jid| !jid.is_empty()));
    }
    Ok(())
}

fn question(text: &str, default: &str) -> Result<String> {
    let mut stderr = std::io::stderr().lock();
    if default.is_empty() {
        write!(stderr, "{text}: ")?;
    } else {
        write!(stderr, "{text} [{default}]: ")?;
    }
    stderr.flush()?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        bail!("The input ended; nothing was written");
    }
    let line = line.trim();
    Ok(if line.is_empty() { default } else { line }.to_owned())
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn compose(
    arguments: &Arguments,
    jid: &str,
    password: &Password,
    provider: &str,
    variable: Option<&str>,
) -> String {
    let mut lines = vec!["# Every key: moltis.toml.example and docs/configuration.md".to_owned()];
    if let Some(directory) = &arguments.data_dir {
        lines.push(format!(
            "data_dir = {}",
            quoted(&directory.to_string_lossy())
        ));
    }
    if let Some(model) = &arguments.model {
        lines.extend([String::new(), "[chat]".to_owned()]);
        lines.push(format!(
            "model = {}",
            quoted(&format!("{provider}/{model}"))
        ));
    }
    lines.push(format!("\n[providers.{}]", key(provider)));
    if let Some(variable) = variable {
        lines.push(format!("api_key = \"${{{variable}}}\""));
    }
    lines.push("\n[channels.xmpp.my-bot]".to_owned());
    lines.push(format!("jid = {}", quoted(jid)));
    lines.push(match password {
        Password::Unknown => "auto_register = true".to_owned(),
        Password::InFile(path) => format!("password_file = {}", quoted(&path.to_string_lossy())),
        Password::Written(secret) => {
            // A variable's sign in a password is no variable.
            let secret = secret.expose_secret().replace("${", "$${");
            format!("password = {}", quoted(&secret))
        }
    });
    if let Some(server) = &arguments.server {
        lines.push(format!("server = {}", quoted(server)));
    }
    if !arguments.operator.is_empty() {
        let operators = list(&arguments.operator);
        lines.push(format!("allowlist = {operators}"));
        lines.push(format!("operators = {operators}"));
    }
    if !arguments.room.is_empty() {
        lines.push(format!("rooms = {}", list(&arguments.room)));
    }
    lines.join("\n") + "\n"
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.chars().all(bare) && !name.is_empty() {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// Reads the text as it will be read, but with the provider's key as if it were set.
fn validate(
    file: &Path,
    text: &str,
    mut environment: std::collections::BTreeMap<String, String>,
    variable: Option<&str>,
) -> Result<()> {
    if let Some(variable) = variable {
        environment.insert(variable.to_owned(), "set-later".to_owned());
    }
    let sources = Sources {
        environment,
        ..Sources::default()
    };
    let result = Config::load_text(file, text, &sources);
    // Lines of a file that is not there help nobody.
    result.map(drop).map_err(|errors| {
        let messages: Vec<&str> = errors
            .0
            .iter()
            .map(|problem| problem.message.as_str())
            .collect();
        anyhow::anyhow!("{}; nothing was written", messages.join("; "))
    })
}

/// It may hold the password.
fn write_private(file: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(file)
        .and_then(|mut open| {
            // One that is overwritten keeps its mode otherwise.
            #[cfg(unix)]
            open.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            open.write_all(text.as_bytes())
        })
        .with_context(|| format!("Failed to write {}", file.display()))
}
