//! Names every key once. The order is that of `moltis.toml.example`.

mod account;
mod chat;
mod provider;
mod room;
mod xmpp_server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::errors::hint;
use super::network::Network;
use super::reading::{Reading, readable};
use super::section::Section;
use super::setting::quoted;
use super::tree::{Origin, Table};
use super::{Channels, Config, Identity, Log, LogFormat, Metrics, Server, Skills};

/// What the contract has and this version does not build.
const LATER: &[&str] = &["tools", "mcp", "voice"];

/// Reads the whole tree; faults are left in `reading`.
pub(super) fn config(reading: &Reading, root: Table) -> Config {
    let mut root = reading.root(root);
    let data_dir = data_dir(&mut root);
    let log = log(&mut root);
    let server = server(&mut root);
    let metrics = metrics(&mut root);
    let identity = identity(&mut root);
    // Read before what names a model, shown after it.
    let provider::Providers {
        by_name: providers,
        first_model,
        origin,
    } = provider::providers(&mut root);
    let names = providers.keys().cloned().collect();
    let chat = chat::chat(&mut root, &names, &first_model, &origin);
    let failover = chat::failover(&mut root, &names);
    let budget = chat::budget(&mut root);
    let (mut xmpp_server, bots) = xmpp_server::xmpp_server(&mut root, &names, &identity.name);
    let mut xmpp = channels(&mut root, &names, &identity.name);
    xmpp_server::settle(reading, &mut xmpp_server, &mut xmpp, bots);
    let skills = skills(&mut root);
    root.later(LATER);
    root.finish();
    let mut config = Config {
        data_dir,
        log,
        server,
        metrics,
        identity,
        chat,
        failover,
        budget,
        providers,
        channels: Channels { xmpp },
        skills,
        xmpp_server,
        directory: reading.directory.clone(),
    };
    let seen = !config.is_web_local();
    config.xmpp_server.pages = seen.then(|| config.web_url()).flatten();
    config
}

fn data_dir(root: &mut Section<'_>) -> PathBuf {
    let reading = root.reading;
    let default = Config::default().data_dir;
    let origin = root.written("data_dir").unwrap_or(Origin::Default);
    let text = root.string("data_dir", &default.to_string_lossy());
    match reading.resolve(&text) {
        Ok(directory) => {
            if let Err(message) = private(&directory.join("secrets.toml")) {
                reading.problem(&origin, message);
            }
            directory
        }
        Err(message) => {
            root.fault("data_dir", &origin, message);
            default
        }
    }
}

/// Generated passwords are for the owner only; a file that others read has been read.
fn private(secrets: &Path) -> Result<(), String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if let Ok(metadata) = std::fs::metadata(secrets)
            && metadata.permissions().mode() & 0o077 != 0
        {
            return Err(format!(
                "{0} can be read by others; run: chmod 600 {0}",
                secrets.display()
            ));
        }
    }
    Ok(())
}

fn log(root: &mut Section<'_>) -> Log {
    let default = Log::default();
    let mut section = root.section("log");
    let log = Log {
        level: section.checked("level", &default.level, filter),
        format: section.word(
            "format",
            default.format,
            &[
                ("pretty", LogFormat::Pretty),
                ("compact", LogFormat::Compact),
                ("json", LogFormat::Json),
            ],
        ),
    };
    section.finish();
    log
}

/// A tracing filter. To tracing a bare word that is no level is a target with everything on, so a slip in a level's
/// name would flood the log; targets are asked for with their level.
fn filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',').map(str::trim) {
        let is_level = LEVELS.contains(&directive.to_ascii_lowercase().as_str());
        if !is_level && !directive.contains(['=', '[']) {
            return Err(format!(
                "must be a filter like info or info,moltis::gateway=debug, not {text:?}{}",
                hint(directive, &LEVELS)
            ));
        }
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is no filter: {error}")),
    }
}

fn server(root: &mut Section<'_>) -> Server {
    let default = Server::default();
    let mut section = root.section("server");
    let server = Server {
        bind: section.checked("bind", &default.bind, |bind| match bind.parse::<IpAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("must be an IP address, as 127.0.0.1".to_owned()),
        }),
        port: section.integer("port", default.port, 0..=u16::MAX),
        external_url: section.parsed("external_url", external_url),
        trusted_proxies: section.list("trusted_proxies", &[], Network::parse),
    };
    section.later(&["admin_token", "admin_token_file"]);
    section.finish();
    server
}

/// What is served has its places at the root, so an address with a path is none of ours.
fn external_url(text: &str) -> Result<url::Url, String> {
    let fault = || format!("must be like https://chat.example.org, not {text:?}");
    let url = url::Url::parse(text).map_err(|_err| fault())?;
    let is_origin = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if is_origin { Ok(url) } else { Err(fault()) }
}

fn metrics(root: &mut Section<'_>) -> Metrics {
    let mut section = root.section("metrics");
    let prometheus_endpoint = section.boolean(
        "prometheus_endpoint",
        Metrics::default().prometheus_endpoint,
    );
    section.finish();
    Metrics {
        prometheus_endpoint,
    }
}

fn identity(root: &mut Section<'_>) -> Identity {
    let mut section = root.section("identity");
    let identity = Identity {
        name: section.checked("name", &Identity::default().name, |name| {
            if name.trim().is_empty() {
                return Err("must not be empty".to_owned());
            }
            Ok(())
        }),
        avatar: section.path("avatar"),
    };
    section.finish();
    identity
}

fn channels(
    root: &mut Section<'_>,
    names: &BTreeSet<String>,
    identity: &str,
) -> BTreeMap<String, super::Account> {
    let mut section = root.section("channels");
    let accounts = account::accounts(&mut section, names, identity);
    section.finish();
    accounts
}

fn skills(root: &mut Section<'_>) -> Skills {
    let reading = root.reading;
    let default = Skills::default().search_paths;
    let default: Vec<String> = default
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let texts: Vec<&str> = default.iter().map(String::as_str).collect();
    let mut section = root.section("skills");
    let skills = Skills {
        search_paths: section.list("search_paths", &texts, |text| {
            let path = reading.resolve(text)?;
            // The usual place may be missing: the skills in it are optional.
            if texts.contains(&text) {
                return Ok(path);
            }
            readable(&path).map(|()| path)
        }),
        auto_load: section.list("auto_load", &[], |text| Ok(text.to_owned())),
    };
    section.finish();
    skills
}

/// A file that may be missing in its usual place, because there is a built-in copy.
fn built_in_or_file(section: &mut Section<'_>, key: &str, usual: &Path) -> PathBuf {
    let reading = section.reading;
    let usual = usual.to_string_lossy();
    let mut path = PathBuf::new();
    section.checked(key, &usual, |text| {
        path = reading.resolve(text)?;
        if text == usual {
            return Ok(());
        }
        readable(&path)
    });
    if path.as_os_str().is_empty() {
        path = reading.directory.join(usual.as_ref());
    }
    path
}

/// `<provider>/<model>` with a provider that there is.
fn known_model(text: &str, names: &BTreeSet<String>) -> Result<(), String> {
    match text.split_once('/') {
        Some((provider, model)) if !model.is_empty() && names.contains(provider) => Ok(()),
        Some((provider, model)) if !provider.is_empty() && !model.is_empty() => Err(format!(
            "names the provider {provider:?}, for which there is no table [providers.{}]{}",
            quoted(provider),
            hint(
                provider,
                &names.iter().map(String::as_str).collect::<Vec<_>>()
            )
        )),
        _ => Err(format!("must be \"<provider>/<model>\", not {text:?}")),
    }
}
