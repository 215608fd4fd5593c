//! Makes what was written into what is wanted, or says in words that follow the key why it is not.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::tree::Value;

/// A scalar as given. What comes from the environment, or has variables in it, is text that becomes what is wanted.
pub(super) struct Given {
    pub value: Value,
    pub is_text: bool,
}

impl Given {
    fn wrong(&self, wanted: &str) -> String {
        if self.is_text {
            format!("must be {wanted}")
        } else {
            format!("must be {wanted}, not {}", self.value.kind())
        }
    }

    fn parsed<T: FromStr>(&self, wanted: &str) -> Result<T, String> {
        match &self.value {
            Value::String(text) if self.is_text => {
                text.trim().parse().ok().ok_or_else(|| self.wrong(wanted))
            }
            _ => Err(self.wrong(wanted)),
        }
    }

    pub(super) fn string(self) -> Result<String, String> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong("a string")),
        }
    }

    pub(super) fn integer(&self) -> Result<i64, String> {
        match self.value {
            Value::Integer(integer) => Ok(integer),
            _ => self.parsed("an integer"),
        }
    }

    fn float(&self) -> Result<f64, String> {
        match self.value {
            Value::Float(float) => Ok(float),
            #[expect(clippy::cast_precision_loss, reason = "amounts and ratios are small")]
            Value::Integer(integer) => Ok(integer as f64),
            _ => self.parsed("a number"),
        }
    }

    pub(super) fn float_in(&self, range: &RangeInclusive<f64>) -> Result<f64, String> {
        let value = self.float()?;
        if range.contains(&value) {
            return Ok(value);
        }
        if range.end().is_infinite() {
            Err(format!("must be {:?} or more", range.start()))
        } else {
            Err(format!(
                "must be from {:?} to {:?}",
                range.start(),
                range.end()
            ))
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, String> {
        match self.value {
            Value::Boolean(boolean) => Ok(boolean),
            _ => self.parsed("true or false"),
        }
    }
}

/// The items of a list that is one text, as in the environment: `a, b` or as in TOML.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    if text.trim_start().starts_with('[') {
        #[derive(serde::Deserialize)]
        struct List {
            list: Vec<String>,
        }
        let list: Option<List> = toml::from_str(&format!("list = {text}")).ok();
        return list
            .map(|list| list.list)
            .ok_or_else(|| "must be a list of strings, as in [\"a\", \"b\"]".to_owned());
    }
    let items = text.split(',').map(str::trim);
    Ok(items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect())
}
