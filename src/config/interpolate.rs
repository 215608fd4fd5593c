//! `${VAR}`, `${VAR:-default}` and `$${` in strings of the file.

use std::collections::BTreeMap;

/// The text with its variables filled in; the error says what is wrong, without the text. An unset variable is one
/// that the environment does not have; for `:-` an empty one counts as unset too, as in a shell.
pub(super) fn interpolate(
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        // `$${` stands for `${` itself.
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            return Err(
                "has a \"${\" without its \"}\"; write \"$${\" for the characters".to_owned(),
            );
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(format!("names the variable {name:?}, which cannot be one"));
        }
        match (environment.get(name), default) {
            (Some(value), None) => out.push_str(value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!(
                    "needs the environment variable {name}, which is not set"
                ));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_and_faults_named() {
        struct Case {
            name: &'static str,
            text: &'static str,
            result: Result<&'static str, &'static str>,
        }
        let environment = BTreeMap::from([
            ("KEY".to_owned(), "k-${HOME}".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ]);
        for case in [
            Case {
                name: "plain",
                text: "a $5 {b}",
                result: Ok("a $5 {b}"),
            },
            Case {
                name: "set, and not expanded twice",
                text: "<${KEY}>",
                result: Ok("<k-${HOME}>"),
            },
            Case {
                name: "default",
                text: "${NONE:-http://x:1}",
                result: Ok("http://x:1"),
            },
            Case {
                name: "set beats default",
                text: "${KEY:-d}",
                result: Ok("k-${HOME}"),
            },
            Case {
                name: "empty takes the default",
                text: "${EMPTY:-d}",
                result: Ok("d"),
            },
            Case {
                name: "empty without default",
                text: "[${EMPTY}]",
                result: Ok("[]"),
            },
            Case {
                name: "escape",
                text: "$${KEY}",
                result: Ok("${KEY}"),
            },
            Case {
                name: "unset",
                text: "x${NONE}",
                result: Err("needs the environment variable NONE, which is not set"),
            },
            Case {
                name: "open",
                text: "${KEY",
                result: Err("has a \"${\" without its \"}\"; write \"$${\" for the characters"),
            },
            Case {
                name: "not a name",
                text: "${A B}",
                result: Err("names the variable \"A B\", which cannot be one"),
            },
        ] {
            let result = interpolate(case.text, &environment);
            assert_eq!(
                result.as_deref().map_err(String::as_str),
                case.result,
                "{}",
                case.name
            );
        }
    }
}
