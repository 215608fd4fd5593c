//! `moltis check config`: what is read from moltis.toml, and what is odd about it.

use std::net::{IpAddr, TcpListener};

use super::{Finding, Level};
use crate::config::{Account, AutoJoin, Config, Errors, Loaded, Policy, ProviderKind};

const PART: &str = "config";

pub(super) fn errors(errors: &Errors) -> Vec<Finding> {
    let problems = errors.0.iter();
    problems
        .map(|problem| Finding::new(PART, Level::Problem, problem.to_string()))
        .collect()
}

pub(super) fn check(loaded: &Loaded) -> Vec<Finding> {
    let config = &loaded.config;
    let mut findings = vec![summary(loaded)];
    let warnings = config
        .channels
        .xmpp
        .iter()
        .filter(|(_, account)| account.enabled);
    let warnings = warnings.flat_map(|(id, account)| odd(config, id, account));
    findings.extend(
        warnings
            .chain(models(config))
            .chain(port(config))
            .chain(web(config))
            .map(|message| Finding::new(PART, Level::Warning, message)),
    );
    findings
}

fn summary(loaded: &Loaded) -> Finding {
    let Some(file) = &loaded.file else {
        return Finding::new(
            PART,
            Level::Problem,
            "There is no moltis.toml; write one with `moltis init`, or name one with --config FILE",
        );
    };
    let accounts = &loaded.config.channels.xmpp;
    let enabled = accounts.values().filter(|account| account.enabled).count();
    let server = &loaded.config.xmpp_server;
    if enabled == 0 && server.enabled {
        let message = format!("{}: server {}, no bot", file.display(), server.domain);
        return Finding::new(PART, Level::Ok, message);
    }
    if enabled == 0 {
        let message = format!(
            "{}: no account is enabled; add a table [channels.xmpp.<name>] with a jid",
            file.display()
        );
        return Finding::new(PART, Level::Warning, message);
    }
    let message = format!(
        "{}: accounts {}, model {}",
        file.display(),
        accounts
            .values()
            .filter(|account| account.enabled)
            .map(|account| account.jid.to_string())
            .collect::<Vec<_>>()
            .join(", "),
        loaded.config.chat.model
    );
    Finding::new(PART, Level::Ok, message)
}

/// Files, invitations and the web chat are served over HTTP, which by default only this machine reaches.
fn web(config: &Config) -> Option<String> {
    let server = &config.xmpp_server;
    let elsewhere = server.domain != "localhost" && server.bind.iter().any(|ip| !ip.is_loopback());
    let unseen = server.enabled && elsewhere && config.is_web_local();
    unseen.then(|| {
        format!(
            "Only this machine reaches the web chat and the files of {}; set server.bind = \"::\" and server.port = 443 (HTTPS with the server's certificate), or server.external_url where a proxy stands in front",
            server.domain
        )
    })
}

/// What is allowed but seldom meant.
fn odd(config: &Config, id: &str, account: &Account) -> Vec<String> {
    let mut odd = Vec::new();
    let bot = account.local && account.jid.node().is_some_and(|name| name.as_str() == id);
    let table = if bot {
        "xmpp_server.bots"
    } else {
        "channels.xmpp"
    };
    let mut say = |message: &str| odd.push(format!("[{table}.{id}]: {message}"));
    let has_way_in = account.local
        || account.password.is_some()
        || account.component_secret.is_some()
        || account.auto_register
        || config.data_dir.join("secrets.toml").exists();
    if !has_way_in {
        say(
            "it has no password; set password, or auto_register, or run `moltis register` with its jid",
        );
    }
    if !account.tls_verify {
        say(
            "tls_verify is off, so anyone on the way can read the password; set tls_ca_file instead",
        );
    }
    if account.dm_policy == Policy::Allowlist && account.allowlist.is_empty() && !account.pairing {
        say(
            "dm_policy is allowlist, the allowlist is empty and pairing is off: nobody can write to it",
        );
    }
    if account.group_policy == Policy::Allowlist && account.group_allowlist.is_empty() {
        say("group_policy is allowlist and group_allowlist is empty: it answers in no room");
    }
    if account.dm_policy == Policy::Open && account.operators.is_empty() {
        say("dm_policy is open and there are no operators: anybody may spend your tokens");
    }
    if account.auto_join_invites == AutoJoin::Always && account.group_policy == Policy::Open {
        say("auto_join_invites is always and group_policy is open: anybody may take it anywhere");
    }
    odd
}

fn models(config: &Config) -> Option<String> {
    let (provider, _) = config.chat.model.split_once('/')?;
    let provider = config.providers.get(provider)?;
    (provider.kind == ProviderKind::Offline).then(|| {
        "chat.model is offline: the answers are canned; add a table [providers.<name>]".to_owned()
    })
}

/// A port that cannot be bound; a running moltis is a good reason.
fn port(config: &Config) -> Option<String> {
    let address: IpAddr = config.server.bind.parse().ok()?;
    if config.server.port == 0 {
        return None;
    }
    let error = TcpListener::bind((address, config.server.port)).err()?;
    Some(format!(
        "server: port {} of {address} cannot be bound ({error}); choose another unless moltis is running",
        config.server.port
    ))
}
