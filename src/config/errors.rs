//! What is wrong with a configuration: everything at once, each with its place.

use std::fmt;

use super::tree::Origin;

/// One fault. Never holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => f.write_str(&self.message),
            origin => write!(f, "{origin}: {}", self.message),
        }
    }
}

/// Every fault that was found, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl Errors {
    pub(super) fn one(origin: Origin, message: impl Into<String>) -> Self {
        Self(vec![Problem {
            origin,
            message: message.into(),
        }])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The word nearest to `wrong`, if one is near enough to be what was meant.
pub fn nearest<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    let limit = (wrong.chars().count() / 3).max(1);
    words
        .into_iter()
        .map(|word| {
            (
                distance(&wrong, &word.to_lowercase().replace('-', "_")),
                word,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, word)| word)
}

/// `; did you mean "…"?`, or nothing.
pub(super) fn hint(wrong: &str, words: &[&str]) -> String {
    nearest(wrong, words.iter().copied())
        .map_or_else(String::new, |word| format!("; did you mean {word:?}?"))
}

/// Levenshtein's distance in characters, where two that have changed places count once.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
    let mut row_before = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut from_before = None;
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        let mut to_before = None;
        for (j, to) in b.iter().copied().enumerate() {
            let replaced = at(&row, j) + usize::from(from != to);
            let added_or_removed = at(&row, j + 1).min(at(&next, j)) + 1;
            let mut least = replaced.min(added_or_removed);
            if from_before == Some(to) && to_before == Some(from) {
                // Both have a character before, so there is a column before.
                least = least.min(at(&row_before, j.saturating_sub(1)) + 1);
            }
            next.push(least);
            to_before = Some(to);
        }
        from_before = Some(from);
        row_before = std::mem::replace(&mut row, next);
    }
    at(&row, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_only_where_it_is_near() {
        let words = ["allowlist", "group_allowlist", "operators", "jid", "nick"];
        for (wrong, meant) in [
            ("alowlist", Some("allowlist")),
            ("group-allowlist", Some("group_allowlist")),
            ("operator", Some("operators")),
            ("jib", Some("jid")),
            ("nikc", Some("nick")),
            ("jdi", Some("jid")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, words), meant, "{wrong}");
        }
    }
}
