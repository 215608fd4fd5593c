//! From a text to a command and its arguments. Pure.

use std::collections::BTreeMap;

use super::{Argument, all};
use crate::gateway::Standing;

/// `/name rest`, whether there is such a command or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// In lower case.
    pub name: String,
    /// As written.
    pub rest: String,
}

/// The command that a text is. `//` escapes; `/me` is an action (XEP-0245), and a path such as `/etc/passwd` is text.
pub fn parse(body: &str) -> Option<Line> {
    let line = body.trim().strip_prefix('/')?;
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(letters);
    let name = name.to_ascii_lowercase();
    (is_name && name != "me").then(|| Line {
        name,
        rest: rest.trim().to_owned(),
    })
}

/// The text behind an escape: `//x` means `/x`.
pub fn unescape(body: String) -> String {
    match body.trim_start().strip_prefix("//") {
        Some(rest) => format!("/{rest}"),
        None => body,
    }
}

/// Values by the arguments' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(BTreeMap<&'static str, String>);

impl Arguments {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// By position. `None` where one is missing, or there is more than the command takes.
    pub fn read(specification: &[Argument], text: &str) -> Option<Self> {
        let mut text = text.trim();
        let mut values = BTreeMap::new();
        for argument in specification {
            let (value, after) = if argument.rest {
                (text, "")
            } else {
                text.split_once(char::is_whitespace).unwrap_or((text, ""))
            };
            if !value.is_empty() {
                values.insert(argument.name, value.to_owned());
            } else if argument.required {
                return None;
            }
            text = after.trim();
        }
        text.is_empty().then_some(Self(values))
    }

    /// By name, from a form.
    pub fn from_fields(
        specification: &[Argument],
        field: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let mut values = BTreeMap::new();
        for argument in specification {
            match field(argument.name).map(|value| value.trim().to_owned()) {
                Some(value) if !value.is_empty() => {
                    values.insert(argument.name, value);
                }
                _ if argument.required => return None,
                _ => {}
            }
        }
        Some(Self(values))
    }
}

/// The answer to a command that does not exist.
pub(super) fn unknown(name: &str, standing: Standing) -> String {
    let nearest = all()
        .filter(|command| command.is_for(standing))
        .map(|command| (distance(name, command.name), command.name))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    let hint = match nearest {
        Some((_, nearest)) => format!("did you mean `/{nearest}`?"),
        None => "`/help` lists what there is.".to_owned(),
    };
    // A name is short; what is not is no name worth repeating.
    let name: String = name.chars().take(30).collect();
    format!("There is no `/{name}`; {hint} To send a text that begins with a slash, write two.")
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (diagonal, to) in row.iter().zip(b.chars()) {
            let left = next.last().copied().unwrap_or_default();
            let above = row.get(next.len()).copied().unwrap_or_default();
            let replaced = diagonal + usize::from(from != to);
            next.push(replaced.min(left + 1).min(above + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// Data within Markdown: shown as it is, whatever it holds.
pub(super) fn code(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ").replace('`', "ˋ");
    if line.trim().is_empty() {
        String::new()
    } else {
        format!("`{line}`")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{optional, required, rest};
    use super::*;

    #[test]
    fn a_command_is_a_slash_and_a_name() {
        let rows = [
            ("/help", Some(("help", ""))),
            ("  /help  new ", Some(("help", "new"))),
            ("/HELP New", Some(("help", "New"))),
            (
                "/title Über  Alles\nline two",
                Some(("title", "Über  Alles\nline two")),
            ),
            ("/title\nline", Some(("title", "line"))),
            ("/no-such_thing1 x", Some(("no-such_thing1", "x"))),
            ("help", None),
            ("", None),
            ("/", None),
            ("/ help", None),
            ("//help", None),
            ("/etc/passwd", None),
            ("/2 is a half", None),
            ("/me waves", None),
            ("/héllo", None),
            ("say /help", None),
        ];
        for (body, expected) in rows {
            let line = parse(body);
            let parts = line
                .as_ref()
                .map(|line| (line.name.as_str(), line.rest.as_str()));
            assert_eq!(parts, expected, "{body:?}");
        }
    }

    #[test]
    fn two_slashes_are_one() {
        for (body, expected) in [
            ("//help", "/help"),
            (" //x", "/x"),
            ("///x", "//x"),
            ("a//b", "a//b"),
        ] {
            assert_eq!(unescape(body.into()), expected);
        }
    }

    #[test]
    fn arguments_are_read_by_position() {
        type Row<'a> = (&'a [Argument], &'a str, Option<&'a [(&'a str, &'a str)]>);
        let join = [required("room", ""), rest(optional("nick", ""))];
        let say = [required("JID", ""), rest(required("text", ""))];
        let none = [];
        let rows: [Row<'_>; 8] = [
            (&join, "r@x", Some(&[("room", "r@x")])),
            (
                &join,
                "r@x Two  Words",
                Some(&[("room", "r@x"), ("nick", "Two  Words")]),
            ),
            (&join, "", None),
            (
                &say,
                "a@b Hello\nWorld",
                Some(&[("JID", "a@b"), ("text", "Hello\nWorld")]),
            ),
            (&say, "a@b", None),
            (&none, "", Some(&[])),
            (&none, "x", None),
            (&[optional("n", "")], "1 2", None),
        ];
        for (specification, text, expected) in rows {
            let read = Arguments::read(specification, text);
            let read = read.map(|Arguments(values)| values);
            let expected = expected.map(|pairs| {
                let pairs = pairs
                    .iter()
                    .map(|(name, value)| (*name, (*value).to_owned()));
                pairs.collect::<BTreeMap<_, _>>()
            });
            assert_eq!(read, expected, "{text:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let person = Standing::default();
        let operator = Standing {
            operator: true,
            guest: false,
        };
        let rows = [
            ("hepl", person, "`/help`"),
            ("modle", person, "`/model`"),
            ("sesions", person, "`/sessions`"),
            ("alow", operator, "`/allow`"),
            ("reloaded", person, "`/help` lists"),
            ("xyzzyxyzzy", person, "`/help` lists"),
        ];
        for (name, standing, expected) in rows {
            assert!(unknown(name, standing).contains(expected), "{name}");
        }
    }

    #[test]
    fn data_does_not_end_its_code_span() {
        assert_eq!(code("a`b\n*c*"), "`aˋb *c*`");
        assert_eq!(code(" "), "");
    }
}
