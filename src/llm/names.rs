//! Finds the model that a person means by a name.

use super::ModelId;

/// What a name, as a person types it, may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    One(ModelId),
    /// Several fit as well.
    Many(Vec<ModelId>),
    /// None does; these are nearest.
    None(Vec<ModelId>),
}

/// Of the whole id and of the name alone, in lower case.
type Test<'a> = &'a dyn Fn(&str, &str) -> bool;

/// Which of `known` a name means. Exact names win over beginnings, and those over parts in any order.
pub(super) fn choose(name: &str, known: &[ModelId]) -> Match {
    let wanted = name.trim().to_lowercase();
    let words: Vec<&str> = wanted
        .split([' ', '/', ':', '-'])
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        return Match::None(Vec::new());
    }
    let tests: [Test<'_>; 5] = [
        &|id, _| id == wanted,
        &|_, model| model == wanted,
        &|id, model| model.starts_with(&wanted) || id.starts_with(&wanted),
        &|id, _| words.iter().all(|word| id.contains(word)),
        &|id, _| abbreviates(&wanted, id),
    ];
    for test in tests {
        let found: Vec<ModelId> = known
            .iter()
            .filter(|known| {
                let id = known.to_string().to_lowercase();
                test(&id, &known.model.to_lowercase())
            })
            .cloned()
            .collect();
        match found.as_slice() {
            [] => {}
            [one] => return Match::One(one.clone()),
            _ => return Match::Many(found),
        }
    }
    Match::None(nearest(&words, known))
}

/// Whether all letters of `short` are in `long`, in this order: a name typed in haste. At least four, or it says nothing.
fn abbreviates(short: &str, long: &str) -> bool {
    let mut letters = long.chars();
    short.chars().count() >= 4
        && short
            .chars()
            .all(|letter| letters.any(|other| other == letter))
}

/// Up to three models that share a word's beginning with what was asked for.
fn nearest(words: &[&str], known: &[ModelId]) -> Vec<ModelId> {
    let score = |model: &ModelId| {
        let id = model.to_string().to_lowercase();
        words
            .iter()
            .filter(|word| {
                let start: String = word.chars().take(3).collect();
                id.contains(&start)
            })
            .count()
    };
    let mut scored: Vec<(usize, &ModelId)> = known
        .iter()
        .map(|model| (score(model), model))
        .filter(|(score, _)| *score > 0)
        .collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored
        .into_iter()
        .take(3)
        .map(|(_, model)| model.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ModelId {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_finds_the_model_a_person_means() {
        let known: Vec<ModelId> = [
            "anthropic/claude-sonnet-4-5",
            "anthropic/claude-haiku-4-5",
            "openai/gpt-4o",
            "openai/gpt-4o-mini",
            "openrouter/openai/gpt-4o",
            "ollama/llama3.2:3b",
        ]
        .map(id)
        .to_vec();
        let table: [(&str, &str, &[&str]); 11] = [
            ("openai/gpt-4o", "one", &["openai/gpt-4o"]),
            ("GPT-4o", "one", &["openai/gpt-4o"]),
            ("gpt-4o-mini", "one", &["openai/gpt-4o-mini"]),
            ("haiku", "one", &["anthropic/claude-haiku-4-5"]),
            ("llama", "one", &["ollama/llama3.2:3b"]),
            ("openrouter 4o", "one", &["openrouter/openai/gpt-4o"]),
            (
                "claude",
                "many",
                &["anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-4-5"],
            ),
            ("claude-sonet", "one", &["anthropic/claude-sonnet-4-5"]),
            (
                "claude-sonett",
                "none",
                &["anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-4-5"],
            ),
            ("mistral", "none", &[]),
            ("  ", "none", &[]),
        ];
        for (name, kind, expected) in table {
            let expected: Vec<ModelId> = expected.iter().map(|model| id(model)).collect();
            let found = match choose(name, &known) {
                Match::One(model) => ("one", vec![model]),
                Match::Many(models) => ("many", models),
                Match::None(models) => ("none", models),
            };
            assert_eq!(found, (kind, expected), "{name:?}");
        }
    }
}
