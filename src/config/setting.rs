//! What `moltis config show` lists and a reload compares: every key with its effective value and where that came from.

use secrecy::{ExposeSecret, SecretString};

use super::tree::Origin;

/// Lists of tables.
const LISTS: &[&[&str]] = &[
    &["xmpp_server", "components"],
    &["xmpp_server", "shared_groups"],
    &["xmpp_server", "external_services"],
];

/// One key with its effective value.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Of the table it stands in; empty at the top.
    pub table: Vec<String>,
    pub key: String,
    pub value: Shown,
    pub origin: Origin,
}

impl Setting {
    /// The table as its header has it; empty at the top.
    pub fn header(&self) -> String {
        let keys: Vec<String> = self.table.iter().map(|key| quoted(key)).collect();
        keys.join(".")
    }

    /// The line above the table: `[a.b]`, or `[[a.b]]` where it is one of a list.
    pub fn heading(&self) -> String {
        match self.list() {
            Some(list) => format!("[[{}]]", list.join(".")),
            None => format!("[{}]", self.header()),
        }
    }

    /// The list that its table is in, with a number for a name.
    pub(super) fn list(&self) -> Option<&[String]> {
        let (_, list) = self.table.split_last()?;
        let is_list = LISTS.iter().any(|known| list.iter().eq(known.iter()));
        is_list.then_some(list)
    }

    /// The key as TOML has it.
    pub fn name(&self) -> String {
        quoted(&self.key)
    }

    /// As in `channels.xmpp.my-bot.dm_policy`.
    pub fn path(&self) -> String {
        let keys = self.table.iter().chain(std::iter::once(&self.key));
        keys.map(|key| quoted(key)).collect::<Vec<_>>().join(".")
    }
}

/// A value for people: TOML, or a secret, which is compared but never printed.
#[derive(Clone, Debug)]
pub enum Shown {
    Unset,
    Toml(String),
    Secret(SecretString),
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unset, Self::Unset) => true,
            (Self::Toml(a), Self::Toml(b)) => a == b,
            (Self::Secret(a), Self::Secret(b)) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }
}

/// A key as TOML writes it.
pub(super) fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        string(key)
    }
}

/// A string as TOML writes it.
pub(super) fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn strings(texts: &[(String, Origin)]) -> String {
    let texts: Vec<String> = texts.iter().map(|(text, _)| string(text)).collect();
    format!("[{}]", texts.join(", "))
}
