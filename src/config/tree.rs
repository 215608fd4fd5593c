//! The values of all layers as one tree, each with where it came from. Not `Debug`: it holds secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::errors::{Errors, Problem};

/// Where a value came from; a later one overrides an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    File { name: Arc<str>, line: usize },
    Environment(String),
    CommandLine(String),
}

impl Origin {
    /// Of two layers, the higher one counts.
    pub(super) fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::CommandLine(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line: 0 } => f.write_str(name),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::CommandLine(key) => write!(f, "--set {key}"),
        }
    }
}

pub(super) type Table = BTreeMap<String, Node>;

#[derive(Clone)]
pub(super) struct Node {
    pub value: Value,
    pub origin: Origin,
}

#[derive(Clone)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date, which no key takes.
    Date,
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    /// With its article, for "must be a string, not …".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::Date => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads a file's text; all syntax errors at once.
pub(super) fn parse(name: &str, text: &str) -> Result<Table, Errors> {
    let file = File {
        name: name.into(),
        text,
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(file.table(table.get_ref()));
    }
    let problem = |error: &toml::de::Error| Problem {
        origin: file.origin(error.span().unwrap_or_default().start),
        message: format!("not TOML: {}", error.message().replace('\n', ", ")),
    };
    let mut problems: Vec<Problem> = errors.iter().map(problem).collect();
    // The parser goes on behind a fault and may trip over it again.
    problems.sort_by(|a, b| a.origin.cmp(&b.origin));
    problems.dedup_by(|a, b| a.origin == b.origin);
    Err(Errors(problems))
}

struct File<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.bytes().take(offset);
        Origin::File {
            name: Arc::clone(&self.name),
            line: 1 + before.filter(|byte| *byte == b'\n').count(),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                let node = Node {
                    value: self.value(value.get_ref()),
                    origin: self.origin(key.span().start),
                };
                (key.get_ref().to_string(), node)
            })
            .collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::String(text.to_string()),
            // What does not fit is out of every range, so the end of the scale says the same.
            DeValue::Integer(integer) => Value::Integer(
                i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i64::MAX),
            ),
            DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| Node {
                        value: self.value(item.get_ref()),
                        origin: self.origin(item.span().start),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

/// Puts a value of a higher layer at `path`, making the tables on the way.
pub(super) fn insert(table: &mut Table, path: &[String], node: Node) -> Result<(), String> {
    match path {
        [] => Err("names no key".to_owned()),
        [key] => {
            table.insert(key.clone(), node);
            Ok(())
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Node {
                value: Value::Table(Table::new()),
                origin: node.origin.clone(),
            });
            match &mut inner.value {
                Value::Table(inner) => insert(inner, rest, node),
                other => Err(format!("{key} is {}, not a table", other.kind())),
            }
        }
    }
}
