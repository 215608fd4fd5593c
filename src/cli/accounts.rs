//! `moltis adduser`, `deluser`, `passwd`, `users`: the accounts of the embedded server, through the running process, or
//! directly on the store where none runs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use jid::{BareJid, DomainPart};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Globals, complain, control, say, secret};
use crate::app;
use crate::config::Config;
use crate::http::control::lock;
use crate::server::Server;
use crate::server::accounts::Accounts;
use crate::server::order::Order;
use crate::storage::Storage;
use crate::xmpp::secrets::generate_password;

/// Letters and digits of a password that is made up.
const GENERATED: usize = 16;

/// Add an account to the embedded server
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  moltis adduser alice@example.org\n  moltis adduser alice@example.org --password-file alice.txt"
)]
pub(super) struct Add {
    /// The account's address, of the server's own domain
    jid: BareJid,
    /// The file with its password; - takes the first line of standard input [default: a prompt, which can also make one up]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Delete an account of the embedded server, with all it has stored; its name is not given again
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis deluser alice@example.org")]
pub(super) struct Delete {
    /// The account's address
    jid: BareJid,
}

/// Change the password of an account of the embedded server; its devices must log in again
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  moltis passwd alice@example.org\n  echo \"$SECRET\" | moltis passwd alice@example.org --password-file -"
)]
pub(super) struct Password {
    /// The account's address
    jid: BareJid,
    /// The file with the new password; - takes the first line of standard input [default: a prompt]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// List the accounts of the embedded server
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis users --json")]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn add(globals: &Globals, arguments: Add) -> Result<ExitCode> {
    let config = config(globals)?;
    let Some((password, made_up)) = ask(arguments.password_file.as_deref(), true)? else {
        return Ok(no_terminal());
    };
    let jid = arguments.jid;
    let order = Order::Add {
        jid: jid.clone(),
        password: password.expose_secret().to_owned(),
    };
    carry_out(&config, order).await?;
    if made_up {
        say(&format!(
            "{jid} has been added; its password is {}",
            password.expose_secret()
        ));
    } else {
        say(&format!("{jid} has been added"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn delete(globals: &Globals, arguments: Delete) -> Result<ExitCode> {
    let jid = arguments.jid;
    let order = Order::Delete { jid: jid.clone() };
    carry_out(&config(globals)?, order).await?;
    say(&format!("{jid} has been deleted"));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn password(globals: &Globals, arguments: Password) -> Result<ExitCode> {
    let config = config(globals)?;
    let Some((password, _)) = ask(arguments.password_file.as_deref(), false)? else {
        return Ok(no_terminal());
    };
    let jid = arguments.jid;
    let order = Order::Password {
        jid: jid.clone(),
        password: password.expose_secret().to_owned(),
    };
    carry_out(&config, order).await?;
    say(&format!("The password of {jid} has been changed"));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(globals: &Globals, arguments: &List) -> Result<ExitCode> {
    let answer = carry_out(&config(globals)?, Order::List).await?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let domain = text(&answer, "domain");
    let users = answer.get("users").and_then(Value::as_array);
    let users = users.map_or(&[][..], Vec::as_slice);
    if users.is_empty() {
        complain(&format!(
            "There are no accounts yet; `moltis invite` invites people, `moltis adduser alice@{domain}` adds one"
        ));
    }
    for user in users {
        say(&line(user, domain));
    }
    Ok(ExitCode::SUCCESS)
}

/// An account for a person: address, last login, and whether it is disabled.
fn line(user: &Value, domain: &str) -> String {
    let at = |field: &str| user.get(field).and_then(Value::as_i64);
    let name = text(user, "name");
    let login = match at("last_login") {
        Some(at) => format!("last login {}", date(at)),
        None => "never logged in".to_owned(),
    };
    let created = at("created").map(date).unwrap_or_default();
    let disabled = if at("disabled").is_some() {
        ", disabled"
    } else {
        ""
    };
    let admin = match user.get("admin").and_then(Value::as_bool) {
        Some(true) => ", admin",
        _ => "",
    };
    format!("{name}@{domain}  created {created}, {login}{admin}{disabled}")
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(format_description!("[year]-[month]-[day]")).ok())
        .unwrap_or_default()
}

/// The configuration, which must have an embedded server.
pub(super) fn config(globals: &Globals) -> Result<Config> {
    let config = globals.load()?.config;
    if !config.xmpp_server.enabled {
        bail!(
            "moltis.toml has no embedded server; set enabled = true and domain = \"example.org\" in [xmpp_server]"
        );
    }
    Ok(config)
}

/// Standard input is no terminal: nothing may be asked.
fn no_terminal() -> ExitCode {
    complain(
        "Standard input is no terminal, so nothing can be asked; give --password-file FILE, or - for standard input.",
    );
    ExitCode::from(2)
}

/// The password, and whether it was made up here; `None` where nobody can be asked.
fn ask(file: Option<&Path>, make_up: bool) -> Result<Option<(SecretString, bool)>> {
    if let Some(file) = file {
        return Ok(Some((secret::from_file(file)?, false)));
    }
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let question = if make_up {
        "Password (empty: make one up)"
    } else {
        "New password"
    };
    let Some(password) = secret::prompt(question)? else {
        if make_up {
            return Ok(Some((generate_password(GENERATED)?, true)));
        }
        bail!("No password was given; nothing was changed");
    };
    let again = secret::prompt("The same again")?;
    if again.is_none_or(|again| again.expose_secret() != password.expose_secret()) {
        bail!("The passwords differ; nothing was changed");
    }
    Ok(Some((password, false)))
}

/// Asks the running process, else does it here.
pub(super) async fn carry_out(config: &Config, order: Order) -> Result<Value> {
    let line = serde_json::to_string(&order)?;
    if let Some(answer) = control::ask_if_running(&config.data_dir, &line).await? {
        return Ok(answer);
    }
    app::prepare(&config.data_dir)?;
    let _alone = lock(&config.data_dir)?;
    let storage =
        Storage::open(&config.data_dir.join(app::DATABASE)).context("Failed to open the store")?;
    let domain = DomainPart::new(&config.xmpp_server.domain).context("The domain is no domain")?;
    let accounts = Accounts::open(storage.clone(), &domain)
        .await
        .context("Failed to read the accounts")?;
    let settings = config.xmpp_server.clone().into();
    let server = Server::new(settings, storage.clone(), accounts)?;
    let done = server.carry_out(order).await;
    storage.close().await.context("Failed to close the store")?;
    done.map_err(|err| anyhow!(err))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_reads_when_somebody_was_last_here() {
        for (user, expected) in [
            (
                json!({"name": "a", "created": 0, "last_login": 86_400, "disabled": null}),
                "a@b  created 1970-01-01, last login 1970-01-02",
            ),
            (
                json!({"name": "a", "created": 0, "last_login": null, "disabled": 5}),
                "a@b  created 1970-01-01, never logged in, disabled",
            ),
        ] {
            assert_eq!(line(&user, "b"), expected);
        }
    }
}
