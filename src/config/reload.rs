//! What a new configuration changes, key by key, so that a running process does no more than it must and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::setting::{Setting, Shown, quoted};
use super::sources::Loaded;

/// Keys of an account's connection; the rest of an account applies at once.
const CONNECTION: &[&str] = &[
    "jid",
    "password",
    "resource",
    "server",
    "direct_tls",
    "tls_verify",
    "tls_ca_file",
    "component_secret",
];
/// What is set up once.
const RESTART: &[(&str, &str)] = &[
    ("", "data_dir"),
    ("log", "format"),
    ("server", "bind"),
    ("server", "port"),
    ("xmpp_server.federation", "enabled"),
];

/// Keys of the embedded server that apply at once, as its limits do; the others are set up once.
pub const SERVER_AT_ONCE: &[&str] = &["admins", "archive_days", "push_summary", "registration"];

/// How a change takes effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    Applied,
    /// The account connects again.
    Reconnect,
    /// The table is new; an account's also where it is enabled again.
    Added,
    /// The table is gone; an account's also where it is disabled.
    Removed,
    /// Only after a restart; the old value stays in force.
    Restart,
}

/// One line for the log; never a value, so never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As in `channels.xmpp.my-bot.dm_policy`, or a table.
    pub key: String,
    pub effect: Effect,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Applied => "applied",
            Effect::Reconnect => "applied, the account reconnects",
            Effect::Added => "added",
            Effect::Removed => "removed",
            Effect::Restart => "needs a restart",
        };
        write!(f, "{}: {effect}", self.key)
    }
}

/// Everything that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub list: Vec<Change>,
    /// Ids of accounts whose connection keys changed.
    pub reconnect: BTreeSet<String>,
    pub added: BTreeSet<String>,
    pub removed: BTreeSet<String>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn push(&mut self, key: String, effect: Effect) {
        self.list.push(Change { key, effect });
    }
}

/// Compares two configurations. Files that a key names (prompts, certificates) are not looked into.
pub fn compare(old: &Loaded, new: &Loaded) -> Changes {
    let mut changes = Changes::default();
    let (before, after) = (accounts(old), accounts(new));
    for id in after.difference(&before) {
        changes.push(header(new, id), Effect::Added);
    }
    for id in before.difference(&after) {
        changes.push(header(old, id), Effect::Removed);
    }
    changes.added = after.difference(&before).cloned().collect();
    changes.removed = before.difference(&after).cloned().collect();
    let (old_values, new_values) = (values(old), values(new));
    let (old_tables, new_tables) = (tables(old), tables(new));
    for setting in old.settings.iter().chain(&new.settings) {
        let name = (setting.table.as_slice(), setting.key.as_str());
        let (was, is) = (old_values.get(&name), new_values.get(&name));
        // A key of both is met twice; the second time is passed over.
        let second = is.is_some_and(|is| std::ptr::eq(*is, setting)) && was.is_some();
        if second || was.map(|was| &was.value) == is.map(|is| &is.value) {
            continue;
        }
        let unset = |setting: Option<&&Setting>| {
            setting.is_none_or(|setting| setting.value == Shown::Unset)
        };
        if unset(was) && unset(is) {
            continue;
        }
        let account = account(setting);
        if let Some(id) = account
            && !(before.contains(id) && after.contains(id))
        {
            continue;
        }
        // A table that came or went is one line, not one for each of its defaults.
        let table = setting.header();
        let effect = if setting.list().is_some() {
            Effect::Restart
        } else if !old_tables.contains(&table) {
            Effect::Added
        } else if !new_tables.contains(&table) {
            Effect::Removed
        } else {
            effect(setting, account)
        };
        if matches!(effect, Effect::Added | Effect::Removed) {
            if !changes.list.iter().any(|change| change.key == table) {
                changes.push(table, effect);
            }
            continue;
        }
        if let (Some(id), Effect::Reconnect) = (account, &effect) {
            changes.reconnect.insert(id.to_owned());
        }
        changes.push(setting.path(), effect);
    }
    changes
}

/// What became of a reload, for whoever asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// What was applied and how, a line for each key.
    pub changes: Vec<String>,
    /// Where that is nothing: what was applied last. The file's watch is often faster than whoever saved the file and asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Applied>,
}

/// A reload that changed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// As in `2026-11-20 13:01:22 UTC`.
    pub at: String,
    pub changes: Vec<String>,
}

impl Reloaded {
    /// Where nothing was new: since when, with what was applied then below it.
    pub fn heading(&self) -> Option<String> {
        if !self.changes.is_empty() {
            return None;
        }
        Some(match &self.last {
            Some(last) => format!(
                "Nothing has changed since {}, when this was applied:",
                last.at
            ),
            None => "Nothing has changed since the start.".to_owned(),
        })
    }

    /// A line for each key: what was applied now, else what was applied last.
    pub fn lines(&self) -> &[String] {
        match &self.last {
            Some(last) if self.changes.is_empty() => &last.changes,
            _ => &self.changes,
        }
    }
}

type Name<'a> = (&'a [String], &'a str);

fn values(loaded: &Loaded) -> BTreeMap<Name<'_>, &Setting> {
    let settings = loaded.settings.iter();
    settings
        .map(|setting| ((setting.table.as_slice(), setting.key.as_str()), setting))
        .collect()
}

fn tables(loaded: &Loaded) -> BTreeSet<String> {
    loaded.settings.iter().map(Setting::header).collect()
}

fn accounts(loaded: &Loaded) -> BTreeSet<String> {
    let accounts = loaded.config.channels.xmpp.iter();
    accounts
        .filter(|(_, account)| account.enabled)
        .map(|(id, _)| id.clone())
        .collect()
}

/// The table of an account.
fn header(loaded: &Loaded, id: &str) -> String {
    let bot = |setting: &Setting| matches!(setting.table.as_slice(), [server, _, name, ..] if server == "xmpp_server" && name == id);
    if loaded.settings.iter().any(bot) {
        format!("xmpp_server.bots.{}", quoted(id))
    } else {
        format!("channels.xmpp.{}", quoted(id))
    }
}

fn account(setting: &Setting) -> Option<&str> {
    match setting.table.as_slice() {
        [channels, xmpp, id, ..] if channels == "channels" && xmpp == "xmpp" => Some(id),
        [server, bots, id, ..] if server == "xmpp_server" && bots == "bots" => Some(id),
        _ => None,
    }
}

fn effect(setting: &Setting, account: Option<&str>) -> Effect {
    let key = setting.key.as_str();
    if account.is_some() {
        // Deeper tables are rooms and people.
        let own = setting.table.len() == 3;
        return if own && CONNECTION.contains(&key) {
            Effect::Reconnect
        } else {
            Effect::Applied
        };
    }
    let table = setting.table.join(".");
    if table == "xmpp_server" && !SERVER_AT_ONCE.contains(&key)
        || RESTART.contains(&(table.as_str(), key))
    {
        Effect::Restart
    } else {
        Effect::Applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    const BASE: &str = r#"
[channels.xmpp.my-bot]
jid = "bot@example.com"
password = "first-secret"
"#;

    fn load(text: &str) -> Loaded {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("moltis.toml");
        std::fs::write(&file, text).unwrap();
        let environment = [("HOME".to_owned(), "/nonexistent".to_owned())];
        Config::load(&Sources {
            file: Some(file),
            environment: environment.into(),
            ..Sources::default()
        })
        .unwrap()
    }

    #[test]
    fn each_key_is_applied_in_its_way() {
        struct Case {
            name: &'static str,
            text: &'static str,
            lines: &'static [&'static str],
            reconnect: &'static [&'static str],
        }
        for case in [
            Case {
                name: "nothing",
                text: BASE,
                lines: &[],
                reconnect: &[],
            },
            Case {
                name: "a policy and a limit",
                text: "[budget]\nusd_per_day = 2\n[channels.xmpp.my-bot]\njid = 'bot@example.com'\n\
                    password = 'first-secret'\ndm_policy = 'open'\n",
                lines: &[
                    "budget.usd_per_day: applied",
                    "channels.xmpp.my-bot.dm_policy: applied",
                ],
                reconnect: &[],
            },
            Case {
                name: "a password",
                text: "[channels.xmpp.my-bot]\njid = 'bot@example.com'\npassword = 'second-secret'\n",
                lines: &["channels.xmpp.my-bot.password: applied, the account reconnects"],
                reconnect: &["my-bot"],
            },
            Case {
                name: "a password of a room reconnects nobody",
                text: "[channels.xmpp.my-bot]\njid = 'bot@example.com'\npassword = 'first-secret'\n\
                    [channels.xmpp.my-bot.muc_rooms.'r@rooms.example']\npassword = 'x'\n",
                lines: &["channels.xmpp.my-bot.muc_rooms.\"r@rooms.example\": added"],
                reconnect: &[],
            },
            Case {
                name: "a provider",
                text: "[providers.ollama]\nmodels = ['m']\n[channels.xmpp.my-bot]\n\
                    jid = 'bot@example.com'\npassword = 'first-secret'\n",
                lines: &["chat.model: applied", "providers.ollama: added"],
                reconnect: &[],
            },
            Case {
                name: "what is set up once",
                text: "data_dir = '/tmp/elsewhere'\n[log]\nlevel = 'debug'\nformat = 'json'\n\
                    [server]\nport = 0\n[channels.xmpp.my-bot]\njid = 'bot@example.com'\n\
                    password = 'first-secret'\n",
                lines: &[
                    "data_dir: needs a restart",
                    "log.level: applied",
                    "log.format: needs a restart",
                    "server.port: needs a restart",
                ],
                reconnect: &[],
            },
            Case {
                name: "one account for another",
                text: "[channels.xmpp.other]\njid = 'other@example.com'\n",
                lines: &[
                    "channels.xmpp.other: added",
                    "channels.xmpp.my-bot: removed",
                ],
                reconnect: &[],
            },
            Case {
                name: "a disabled account is as good as removed",
                text: "[channels.xmpp.my-bot]\nenabled = false\njid = 'bot@example.com'\n",
                lines: &["channels.xmpp.my-bot: removed"],
                reconnect: &[],
            },
        ] {
            let changes = compare(&load(BASE), &load(case.text));
            let lines: Vec<String> = changes.list.iter().map(ToString::to_string).collect();
            assert_eq!(lines, case.lines, "{}", case.name);
            let reconnect: Vec<&str> = changes.reconnect.iter().map(String::as_str).collect();
            assert_eq!(reconnect, case.reconnect, "{}", case.name);
            assert!(!format!("{changes:?}").contains("secret"), "{}", case.name);
        }
    }
}
