//! `MOLTIS_<SECTION>__<KEY>`: variables that override the file.
//!
//! `__` stands for the dot. Names of the user's choice (accounts, providers, headers) are matched with every character
//! that is neither letter nor digit as `_`; one that the file does not have is made, in lower case with hyphens:
//! `MOLTIS_CHANNELS__XMPP__MY_BOT__PASSWORD` is `password` of `[channels.xmpp.my-bot]`. Rooms and people cannot be made,
//! as their JIDs cannot be told from such a name; only those of the file match.

use std::collections::BTreeMap;

use super::errors::Problem;
use super::tree::{self, Node, Origin, Table, Value};

const PREFIX: &str = "MOLTIS_";
/// As embedded servers elsewhere are configured; our own names beat them.
const SERVER_ALIASES: [(&str, &str); 3] = [
    ("XMPP_ENABLED", "XMPP_SERVER__ENABLED"),
    ("XMPP_DOMAIN", "XMPP_SERVER__DOMAIN"),
    ("XMPP_PORT", "XMPP_SERVER__C2S_PORT"),
];

/// Lays the variables over the tree. A name without `__` is a key only if it is one of the top's: orchestrators set
/// `MOLTIS_PORT` and the like for a service called moltis.
pub(super) fn overlay(root: &mut Table, environment: &BTreeMap<String, String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, value) in environment {
        let origin = Origin::Environment(name.clone());
        let alias = SERVER_ALIASES.iter().find(|(alias, _)| alias == name);
        let key = match alias {
            Some((_, key)) if environment.contains_key(&format!("{PREFIX}{key}")) => continue,
            Some((_, key)) => Some(*key),
            None => name.strip_prefix(PREFIX),
        };
        let Some(key) = key else {
            continue;
        };
        if !key.contains("__") && key != "DATA_DIR" {
            continue;
        }
        let node = Node {
            value: Value::String(value.clone()),
            origin: origin.clone(),
        };
        if let Err(message) = path(root, key).and_then(|path| tree::insert(root, &path, node)) {
            problems.push(Problem { origin, message });
        }
    }
    problems
}

/// How a part of a name becomes a key.
#[derive(Clone, Copy)]
enum Part {
    Key,
    /// A name of the user's choice.
    Id,
    /// A JID.
    Jid,
}

/// What the part after `before` is.
fn part(before: &[String]) -> Part {
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    match before.as_slice() {
        ["providers"]
        | ["providers", _, "headers"]
        | ["channels", "xmpp"]
        | ["xmpp_server", "bots"] => Part::Id,
        [
            "channels" | "xmpp_server",
            "xmpp" | "bots",
            _,
            "muc_rooms" | "user_overrides",
        ] => Part::Jid,
        _ => Part::Key,
    }
}

fn path(root: &Table, name: &str) -> Result<Vec<String>, String> {
    let mut path = Vec::new();
    let mut table = Some(root);
    for word in name.split("__") {
        let existing = |table: Option<&Table>| {
            let found = table.and_then(|table| table.keys().find(|key| shape(key) == shape(word)));
            found.cloned()
        };
        let key = match part(&path) {
            Part::Key => word.to_ascii_lowercase(),
            Part::Id => {
                existing(table).unwrap_or_else(|| word.to_ascii_lowercase().replace('_', "-"))
            }
            Part::Jid => existing(table)
                .ok_or_else(|| format!("matches no table of the file under {}", path.join(".")))?,
        };
        table = table.and_then(|table| match table.get(&key).map(|node| &node.value) {
            Some(Value::Table(inner)) => Some(inner),
            _ => None,
        });
        path.push(key);
    }
    Ok(path)
}

/// What remains of a name in a variable's.
fn shape(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        let root = tree::parse(
            "moltis.toml",
            "[channels.xmpp.\"My.Bot\".muc_rooms.\"team@rooms.example\"]\nenabled = true\n",
        )
        .unwrap();
        for (name, expected) in [
            ("DATA_DIR", Some("data_dir")),
            ("CHAT__MAX_OUTPUT_TOKENS", Some("chat|max_output_tokens")),
            ("CHAT__COMPACTION__MODE", Some("chat|compaction|mode")),
            (
                "CHANNELS__XMPP__MY_BOT__JID",
                Some("channels|xmpp|My.Bot|jid"),
            ),
            (
                "CHANNELS__XMPP__OTHER_ONE__JID",
                Some("channels|xmpp|other-one|jid"),
            ),
            (
                "PROVIDERS__LOCAL_VLLM__BASE_URL",
                Some("providers|local-vllm|base_url"),
            ),
            (
                "PROVIDERS__X__HEADERS__X_TITLE",
                Some("providers|x|headers|x-title"),
            ),
            (
                "CHANNELS__XMPP__MY_BOT__MUC_ROOMS__TEAM_ROOMS_EXAMPLE__ENABLED",
                Some("channels|xmpp|My.Bot|muc_rooms|team@rooms.example|enabled"),
            ),
            ("CHANNELS__XMPP__MY_BOT__MUC_ROOMS__OTHER__ENABLED", None),
        ] {
            let result = path(&root, name).ok().map(|path| path.join("|"));
            assert_eq!(result.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_an_orchestrator_sets_for_a_service_is_no_key() {
        let mut root = Table::new();
        let environment = [("MOLTIS_PORT", "tcp://10.0.0.1:80"), ("MOLTIS_CONFIG", "x")];
        let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(overlay(&mut root, &BTreeMap::from(environment)), []);
        assert!(root.is_empty());
    }
}
