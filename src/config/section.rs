//! Takes the keys of one table by type, remembers what each came to, and at the end reports the keys that nobody took.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use secrecy::SecretString;

use super::errors::hint;
use super::given::{Given, split};
use super::interpolate::interpolate;
use super::reading::{Reading, readable};
use super::setting::{Setting, Shown, quoted, string, strings};
use super::tree::{Node, Origin, Table, Value};

/// A table of the configuration from which keys are taken. Ends with [`Section::finish`].
pub(super) struct Section<'a> {
    pub reading: &'a Reading,
    pub path: Vec<String>,
    pub origin: Origin,
    entries: Table,
    known: BTreeSet<String>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        reading: &'a Reading,
        path: Vec<String>,
        origin: Origin,
        entries: Table,
    ) -> Self {
        Self {
            reading,
            path,
            origin,
            entries,
            known: BTreeSet::new(),
        }
    }

    fn place(&self) -> String {
        if self.path.is_empty() {
            return String::new();
        }
        let keys: Vec<String> = self.path.iter().map(|key| quoted(key)).collect();
        format!(" in [{}]", keys.join("."))
    }

    /// Reports what is wrong with a key of this table.
    pub(super) fn fault(&self, key: &str, origin: &Origin, message: impl Display) {
        self.reading
            .problem(origin, format!("{key}{} {message}", self.place()));
    }

    /// Where the key is written, if it is; `""` is as good as unwritten.
    pub(super) fn written(&self, key: &str) -> Option<Origin> {
        let node = self.entries.get(key)?;
        let is_blank = matches!(&node.value, Value::String(text) if text.is_empty());
        (!is_blank).then(|| node.origin.clone())
    }

    fn take(&mut self, key: &str) -> Option<Node> {
        self.known.insert(key.to_owned());
        self.entries.remove(key)
    }

    pub(super) fn record(&self, key: &str, value: Shown, origin: Origin) {
        self.reading.record(Setting {
            table: self.path.clone(),
            key: key.to_owned(),
            value,
            origin,
        });
    }

    fn given(&self, node: Node) -> Result<Given, String> {
        let from_file = matches!(node.origin, Origin::File { .. });
        match node.value {
            Value::String(text) if from_file => Ok(Given {
                is_text: text.contains("${"),
                value: Value::String(interpolate(&text, &self.reading.environment)?),
            }),
            value => Ok(Given {
                value,
                is_text: !from_file,
            }),
        }
    }

    /// Takes a key and converts it; a failure is reported and counts as not written.
    fn read<T>(
        &mut self,
        key: &str,
        convert: impl FnOnce(Given) -> Result<T, String>,
    ) -> Option<(T, Origin)> {
        let node = self.take(key)?;
        let origin = node.origin.clone();
        match self.given(node).and_then(convert) {
            Ok(value) => Some((value, origin)),
            Err(message) => {
                self.fault(key, &origin, message);
                None
            }
        }
    }

    fn scalar<T>(
        &mut self,
        key: &str,
        default: T,
        shown: impl FnOnce(&T) -> Shown,
        convert: impl FnOnce(Given) -> Result<T, String>,
    ) -> T {
        let (value, origin) = self
            .read(key, convert)
            .unwrap_or((default, Origin::Default));
        self.record(key, shown(&value), origin);
        value
    }

    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let shown = |value: &bool| Shown::Toml(value.to_string());
        self.scalar(key, default, shown, |given| given.boolean())
    }

    pub(super) fn boolean_or_unset(&mut self, key: &str) -> Option<bool> {
        let shown = |value: &Option<bool>| {
            value.map_or(Shown::Unset, |value| Shown::Toml(value.to_string()))
        };
        self.scalar(key, None, shown, |given| given.boolean().map(Some))
    }

    pub(super) fn integer<T>(&mut self, key: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let shown = |value: &T| Shown::Toml(value.to_string());
        self.scalar(key, default, shown, |given| {
            let value = T::try_from(given.integer()?).ok();
            value
                .filter(|value| range.contains(value))
                .ok_or_else(|| format!("must be from {} to {}", range.start(), range.end()))
        })
    }

    pub(super) fn float(&mut self, key: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let shown = |value: &f64| Shown::Toml(format!("{value:?}"));
        self.scalar(key, default, shown, |given| given.float_in(&range))
    }

    pub(super) fn float_or_unset(&mut self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let shown = |value: &Option<f64>| {
            value.map_or(Shown::Unset, |value| Shown::Toml(format!("{value:?}")))
        };
        self.scalar(key, None, shown, |given| given.float_in(&range).map(Some))
    }

    pub(super) fn string(&mut self, key: &str, default: &str) -> String {
        self.checked(key, default, |_| Ok(()))
    }

    /// A string that is checked as it is taken.
    pub(super) fn checked(
        &mut self,
        key: &str,
        default: &str,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> String {
        let shown = |value: &String| Shown::Toml(string(value));
        self.scalar(key, default.to_owned(), shown, |given| {
            let text = given.string()?;
            check(&text).map(|()| text)
        })
    }

    /// A string that stands for something else; `""` is as good as unwritten.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let mut value = None;
        self.checked(key, "", |text| {
            if !text.is_empty() {
                value = Some(parse(text)?);
            }
            Ok(())
        });
        value
    }

    /// One of a few words; hyphens may stand for underscores.
    pub(super) fn word<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        default: T,
        words: &[(&'static str, T)],
    ) -> T {
        let shown = |value: &T| {
            let word = words.iter().find(|(_, of)| of == value);
            word.map_or(Shown::Unset, |(word, _)| Shown::Toml(string(word)))
        };
        self.scalar(key, default, shown, |given| {
            let text = given.string()?;
            let plain = text.replace('-', "_");
            let found = words.iter().find(|(word, _)| *word == plain);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let hint = hint(&text, &all);
                format!("must be one of {}, not {text:?}{hint}", all.join(", "))
            })
        })
    }

    /// A list of strings, each parsed. In the environment it is written `a, b` or as in TOML.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        default: &[&str],
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let node = self.take(key);
        let origin = node.as_ref().map(|node| node.origin.clone());
        let items = match node {
            None => default
                .iter()
                .map(|text| ((*text).to_owned(), Origin::Default))
                .collect(),
            Some(node) => self.items(key, node),
        };
        let shown = strings(&items);
        self.record(key, Shown::Toml(shown), origin.unwrap_or(Origin::Default));
        let mut values = Vec::with_capacity(items.len());
        for (text, origin) in items {
            match parse(&text) {
                Ok(value) => values.push(value),
                Err(message) => {
                    let message = format!("has {text:?}, which {message}");
                    self.fault(key, &origin, message);
                }
            }
        }
        values
    }

    /// As [`Self::list`], where an empty list means something else than none.
    pub(super) fn list_or_unset<T>(
        &mut self,
        key: &str,
        parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        if self.written(key).is_some() {
            return Some(self.list(key, &[], parse));
        }
        self.known.insert(key.to_owned());
        self.record(key, Shown::Unset, Origin::Default);
        None
    }

    fn items(&self, key: &str, node: Node) -> Vec<(String, Origin)> {
        let origin = node.origin.clone();
        let nodes = match node.value {
            Value::Array(nodes) => nodes,
            Value::String(text) if origin.layer() > 1 => match split(&text) {
                Ok(texts) => return texts.into_iter().map(|t| (t, origin.clone())).collect(),
                Err(message) => {
                    self.fault(key, &origin, message);
                    return Vec::new();
                }
            },
            other => {
                let message = format!("must be a list of strings, not {}", other.kind());
                self.fault(key, &origin, message);
                return Vec::new();
            }
        };
        let mut items = Vec::with_capacity(nodes.len());
        for node in nodes {
            let origin = node.origin.clone();
            match self.given(node).and_then(Given::string) {
                Ok(text) => items.push((text, origin)),
                Err(message) => self.fault(key, &origin, format!("has an item that {message}")),
            }
        }
        items
    }

    /// A file or directory, made whole. `""` is as good as unwritten.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let reading = self.reading;
        self.parsed(key, |text| {
            let path = reading.resolve(text)?;
            readable(&path).map(|()| path)
        })
    }

    /// A secret, written as `key` or in the file that `key_file` names; the higher layer counts.
    pub(super) fn secret(&mut self, key: &str) -> Option<SecretString> {
        let file_key = format!("{key}_file");
        let layer = |origin: Option<Origin>| origin.as_ref().map_or(0, Origin::layer);
        let (direct, by_file) = (self.written(key), self.written(&file_key));
        if let Some(origin) = &by_file
            && layer(direct.clone()) == origin.layer()
        {
            self.fault(
                &file_key,
                origin,
                format!("and {key} are both set; keep one"),
            );
        }
        let in_file = layer(by_file) > layer(direct);
        let direct = self.read(key, Given::string);
        let file = self.read(&file_key, Given::string);
        let (secret, origin) = if in_file {
            let (file, origin) = file?;
            match self.secret_file(&file) {
                Ok(secret) => (secret, origin),
                Err(message) => {
                    self.fault(&file_key, &origin, message);
                    return None;
                }
            }
        } else {
            direct.unwrap_or((String::new(), Origin::Default))
        };
        if secret.is_empty() {
            self.record(key, Shown::Unset, Origin::Default);
            return None;
        }
        let secret = SecretString::from(secret);
        self.record(key, Shown::Secret(secret.clone()), origin);
        Some(secret)
    }

    fn secret_file(&self, file: &str) -> Result<String, String> {
        let path = self.reading.resolve(file)?;
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("names {}: {error}", path.display()))?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(format!("names {}, which is empty", path.display()));
        }
        Ok(secret.to_owned())
    }

    /// A table of secrets with keys of the user's choice.
    pub(super) fn secrets(&mut self, key: &str) -> BTreeMap<String, SecretString> {
        let mut inner = self.section(key);
        let keys: Vec<String> = inner.entries.keys().cloned().collect();
        let mut secrets = BTreeMap::new();
        for key in keys {
            if let Some(secret) = inner.secret(&key) {
                secrets.insert(key, secret);
            }
        }
        inner.finish();
        secrets
    }

    /// The table under a key; empty where it is not written.
    pub(super) fn section(&mut self, key: &str) -> Self {
        let node = self.take(key);
        let mut path = self.path.clone();
        path.push(key.to_owned());
        let (entries, origin) = match node {
            None => (Table::new(), Origin::Default),
            Some(Node {
                value: Value::Table(table),
                origin,
            }) => (table, origin),
            Some(Node { value, origin }) => {
                self.fault(
                    key,
                    &origin,
                    format!("must be a table, not {}", value.kind()),
                );
                (Table::new(), origin)
            }
        };
        Section::new(self.reading, path, origin, entries)
    }

    /// The tables with names of the user's choice under a key, in the order of the file.
    pub(super) fn sections(&mut self, key: &str) -> Vec<(String, Self)> {
        let mut outer = self.section(key);
        let ids: Vec<String> = outer.entries.keys().cloned().collect();
        let mut sections: Vec<(String, Self)> = ids
            .into_iter()
            .map(|id| {
                let section = outer.section(&id);
                (id, section)
            })
            .collect();
        sections.sort_by(|(_, a), (_, b)| a.origin.cmp(&b.origin));
        sections
    }

    /// The tables of a list (`[[key]]`), with their numbers as names.
    pub(super) fn tables(&mut self, key: &str) -> Vec<Self> {
        let Some(node) = self.take(key) else {
            return Vec::new();
        };
        let Value::Array(nodes) = node.value else {
            let message = format!("must be a list of tables: [[{}]]", self.path_to(key));
            self.fault(key, &node.origin, message);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.into_iter().enumerate() {
            let mut path = self.path.clone();
            path.extend([key.to_owned(), (index + 1).to_string()]);
            match node.value {
                Value::Table(table) => {
                    tables.push(Section::new(self.reading, path, node.origin, table));
                }
                other => {
                    let message = format!("has {}, which must be a table", other.kind());
                    self.fault(key, &node.origin, message);
                }
            }
        }
        tables
    }

    fn path_to(&self, key: &str) -> String {
        let keys = self.path.iter().map(String::as_str).chain([key]);
        keys.map(quoted).collect::<Vec<_>>().join(".")
    }

    /// Reports keys that belong to the contract but are not built yet.
    pub(super) fn later(&mut self, keys: &[&str]) {
        for key in keys {
            if let Some(node) = self.entries.remove(*key) {
                let what = match (self.path.is_empty(), &node.value) {
                    (true, Value::Table(_) | Value::Array(_)) => format!("[{key}]"),
                    _ => format!("{key}{}", self.place()),
                };
                self.reading
                    .problem(&node.origin, format!("{what} is not in this version"));
            }
        }
    }

    /// Reports what was not taken.
    pub(super) fn finish(self) {
        let place = self.place();
        for (key, node) in &self.entries {
            let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
            let hint = hint(key, &known);
            let what = match (&node.value, self.path.is_empty()) {
                (Value::Table(_), true) => format!("unknown section [{}]", quoted(key)),
                _ => format!("unknown key {key:?}{place}"),
            };
            self.reading.problem(&node.origin, format!("{what}{hint}"));
        }
    }
}
