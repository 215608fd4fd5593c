//! Skills: pieces of instruction that a room or the whole bot is given, from `<name>/SKILL.md` under
//! `skills.search_paths`, or built in. A file's front matter names it and says when it is of use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tracing::warn;

use crate::config::Config;

const BUILT_IN: [(&str, &str); 4] = [
    (
        "code-review",
        include_str!("../../prompts/skills/code-review/SKILL.md"),
    ),
    (
        "explain",
        include_str!("../../prompts/skills/explain/SKILL.md"),
    ),
    (
        "summarize",
        include_str!("../../prompts/skills/summarize/SKILL.md"),
    ),
    (
        "translate",
        include_str!("../../prompts/skills/translate/SKILL.md"),
    ),
];

/// A skill larger than this would fill a model's context.
const LARGEST: u64 = 256 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skill {
    pub name: String,
    /// When it is of use.
    pub description: String,
    /// Markdown for the model.
    pub text: String,
    /// `None`: built in.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

/// All that were found, by name.
#[derive(Clone, Debug, Default)]
pub struct Skills {
    by_name: BTreeMap<String, Skill>,
    auto_load: Vec<String>,
    problems: Vec<String>,
}

impl Skills {
    /// Finds them. A file wins over a built-in skill of its name, and an earlier search path over a later one. What is
    /// wrong with a file or a name in the configuration is logged and kept as a problem; the others work all the same.
    pub fn discover(config: &Config) -> Self {
        let mut found = Self {
            auto_load: config.skills.auto_load.clone(),
            ..Self::default()
        };
        for (name, text) in BUILT_IN {
            found.add(Path::new(name), text, None);
        }
        for path in config.skills.search_paths.iter().rev() {
            found.read_directory(&config.directory.join(path));
        }
        let rooms = config
            .channels
            .xmpp
            .values()
            .flat_map(|account| account.muc_rooms.values());
        let wanted = rooms
            .flat_map(|room| &room.skills)
            .chain(&config.skills.auto_load);
        for name in wanted {
            if !found.by_name.contains_key(name) {
                found.problems.push(format!("There is no skill {name:?}"));
            }
        }
        found.problems.dedup();
        for problem in &found.problems {
            warn!("{problem}");
        }
        found
    }

    fn read_directory(&mut self, directory: &Path) {
        // No such directory: the search path's default need not exist.
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path().join("SKILL.md")))
            .filter(|path| path.is_file())
            .collect();
        paths.sort();
        for path in paths {
            match read(&path) {
                Ok(text) => self.add(&path, &text, Some(path.clone())),
                Err(err) => self.problems.push(format!("{}: {err}", path.display())),
            }
        }
    }

    fn add(&mut self, from: &Path, text: &str, path: Option<PathBuf>) {
        match parse(text) {
            Ok(skill) => {
                self.by_name
                    .insert(skill.name.clone(), Skill { path, ..skill });
            }
            Err(problem) => self.problems.push(format!("{}: {problem}", from.display())),
        }
    }

    /// Files and names that could not be used, one sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// All, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Skill> {
        self.by_name.values()
    }

    pub fn get(&self, name: &str) -> Option<&Skill> {
        self.by_name.get(name)
    }

    /// The skills of a conversation: those of `skills.auto_load`, then those named, none twice.
    pub fn select<'a>(&'a self, names: impl IntoIterator<Item = &'a String>) -> Vec<Skill> {
        let mut selected: Vec<Skill> = Vec::new();
        for name in self.auto_load.iter().chain(names) {
            if let Some(skill) = self.by_name.get(name)
                && !selected.contains(skill)
            {
                selected.push(skill.clone());
            }
        }
        selected
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    if path.metadata()?.len() > LARGEST {
        return Err(std::io::Error::other("It is larger than 256 KiB"));
    }
    std::fs::read_to_string(path)
}

/// A `SKILL.md`: front matter between lines of `---`, then the text.
fn parse(file: &str) -> Result<Skill, String> {
    let file = file.trim_start_matches('\u{FEFF}').replace("\r\n", "\n");
    let (matter, text) = file
        .strip_prefix("---\n")
        .and_then(|rest| {
            rest.split_once("\n---\n")
                .or_else(|| Some((rest.strip_suffix("\n---")?, "")))
        })
        .ok_or("It must begin with front matter between two lines of ---")?;
    let fields = front_matter(matter);
    let field = |key: &str| fields.get(key).filter(|value| !value.is_empty()).cloned();
    let name = field("name").ok_or("Its front matter lacks a name")?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() > 64 || !name.bytes().all(is_plain) {
        return Err(format!(
            "The name {name:?} may hold a-z, 0-9 and - only, 64 at most"
        ));
    }
    Ok(Skill {
        name,
        description: field("description").ok_or("Its front matter lacks a description")?,
        text: text.trim().to_owned(),
        path: None,
    })
}

/// As much of YAML as front matter uses: `key: value`, quotes, comments, and values that go on in indented lines.
fn front_matter(matter: &str) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = None;
    for line in matter.lines() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            if let Some(value) = last.as_ref().and_then(|key| fields.get_mut(key)) {
                if !value.is_empty() {
                    value.push(' ');
                }
                value.push_str(line.trim());
            }
            continue;
        }
        if let Some((key, value)) = line.split_once(':') {
            fields.insert(key.trim().into(), scalar(value.trim()));
            last = Some(key.trim().to_owned());
        }
    }
    fields
}

fn scalar(value: &str) -> String {
    // A block: its lines follow, and are joined either way.
    if matches!(value, ">" | "|" | ">-" | "|-") {
        return String::new();
    }
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    unquoted.unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn front_matter_is_read_or_refused_with_a_reason() {
        struct Row {
            name: &'static str,
            file: &'static str,
            expected: Result<(&'static str, &'static str, &'static str), &'static str>,
        }
        let table = [
            Row {
                name: "plain",
                file: "---\nname: x\ndescription: when x: y\n---\n\nDo it.\n---\nMore.\n",
                expected: Ok(("x", "when x: y", "Do it.\n---\nMore.")),
            },
            Row {
                name: "Windows, quotes, other keys",
                file: "\u{FEFF}---\r\nname: \"x-1\"\r\nlicense: MIT\r\nmetadata:\r\n  a: b\r\ndescription: 'd'\r\n---\r\nText",
                expected: Ok(("x-1", "d", "Text")),
            },
            Row {
                name: "folded",
                file: "---\ndescription: >\n  one\n  two\nname: x\n---",
                expected: Ok(("x", "one two", "")),
            },
            Row {
                name: "no front matter",
                file: "# A skill",
                expected: Err("It must begin with front matter between two lines of ---"),
            },
            Row {
                name: "never closed",
                file: "---\nname: x\n",
                expected: Err("It must begin with front matter between two lines of ---"),
            },
            Row {
                name: "no description",
                file: "---\nname: x\ndescription:\n---\n",
                expected: Err("Its front matter lacks a description"),
            },
            Row {
                name: "a path for a name",
                file: "---\nname: ../x\ndescription: d\n---\n",
                expected: Err("The name \"../x\" may hold a-z, 0-9 and - only, 64 at most"),
            },
        ];
        for row in table {
            let parsed = parse(row.file);
            let parsed = parsed.as_ref().map_err(String::as_str).map(|skill| {
                (
                    skill.name.as_str(),
                    skill.description.as_str(),
                    skill.text.as_str(),
                )
            });
            assert_eq!(parsed, row.expected, "{}", row.name);
        }
    }

    #[test]
    fn the_built_in_skills_bear_the_names_they_are_listed_under() {
        for (name, text) in BUILT_IN {
            let skill = parse(text).unwrap();
            assert_eq!(skill.name, name);
            assert!(skill.text.len() > 500, "{name} says little");
        }
    }

    #[test]
    fn a_file_wins_over_a_built_in_skill_and_an_earlier_path_over_a_later() {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in [
            (
                "a/explain",
                "---\nname: explain\ndescription: from a\n---\nA",
            ),
            (
                "b/explain",
                "---\nname: explain\ndescription: from b\n---\nB",
            ),
            ("b/own", "---\nname: own\ndescription: ours\n---\nOwn"),
            ("b/broken", "no front matter"),
        ] {
            std::fs::create_dir_all(directory.path().join(path)).unwrap();
            std::fs::write(directory.path().join(path).join("SKILL.md"), text).unwrap();
        }
        let config = Config {
            directory: directory.path().into(),
            skills: config::Skills {
                search_paths: vec!["a".into(), "b".into(), "absent".into()],
                auto_load: vec!["own".into(), "nobody".into()],
            },
            ..Config::default()
        };
        let skills = Skills::discover(&config);
        let names: Vec<&str> = skills.all().map(|skill| skill.name.as_str()).collect();
        assert_eq!(
            names,
            ["code-review", "explain", "own", "summarize", "translate"]
        );
        assert_eq!(skills.get("explain").unwrap().description, "from a");
        assert_eq!(skills.problems().len(), 2, "{:?}", skills.problems());
        assert!(skills.problems()[0].contains("broken"));
        assert_eq!(skills.problems()[1], "There is no skill \"nobody\"");
        let room = ["explain".to_owned(), "own".to_owned()];
        let selected: Vec<String> = skills
            .select(&room)
            .into_iter()
            .map(|skill| skill.text)
            .collect();
        assert_eq!(selected, ["Own", "A"]);
    }
}
