//! Finds the file and lays the layers over each other: defaults < file < environment < command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Config;
use super::environment;
use super::errors::{Errors, Problem};
use super::read;
use super::reading::Reading;
use super::setting::Setting;
use super::tree::{self, Node, Origin, Table, Value};

/// Where a configuration is read from. Only [`Sources::of_process`] looks at the process, so that tests need not.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    pub environment: BTreeMap<String, String>,
    /// `--set`: dotted keys and their values.
    pub overrides: Vec<(String, String)>,
    /// Where `./moltis.toml` is looked for.
    pub working_directory: PathBuf,
    /// What is read where there is no file: the demo.
    pub built_in: Option<String>,
}

/// A configuration, and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Every key with its effective value, in the order in which they are documented.
    pub settings: Vec<Setting>,
    /// `None`: there was no file anywhere.
    pub file: Option<PathBuf>,
}

impl Sources {
    /// The arguments, the process's environment and its working directory. Variables that are not UTF-8 are left out.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        Self {
            file,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            overrides,
            working_directory: PathBuf::new(),
            built_in: None,
        }
    }

    /// The file that would be read: `--config`, `$MOLTIS_CONFIG`, `./moltis.toml`,
    /// `$XDG_CONFIG_HOME/moltis/moltis.toml`. The first two count even where there is no such file.
    pub fn find(&self) -> Option<PathBuf> {
        if let Some(file) = &self.file {
            return Some(file.clone());
        }
        let variable = |name: &str| self.environment.get(name).filter(|value| !value.is_empty());
        if let Some(file) = variable("MOLTIS_CONFIG") {
            return Some(PathBuf::from(file));
        }
        let user = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(home).join(".config")));
        let here = Some(self.working_directory.join("moltis.toml"));
        let candidates = [here, user.map(|user| user.join("moltis/moltis.toml"))];
        candidates.into_iter().flatten().find(|file| file.is_file())
    }

    /// Lays the environment and the command line over the file's tree.
    fn overlay(&self, root: &mut Table) -> Vec<Problem> {
        let mut problems = environment::overlay(root, &self.environment);
        for (key, value) in &self.overrides {
            let origin = Origin::CommandLine(key.clone());
            let node = Node {
                value: Value::String(value.clone()),
                origin: origin.clone(),
            };
            if let Err(message) = dotted(key).and_then(|path| tree::insert(root, &path, node)) {
                problems.push(Problem { origin, message });
            }
        }
        problems
    }
}

impl Config {
    /// Reads and checks everything; the errors are all there are.
    pub fn load(sources: &Sources) -> Result<Loaded, Errors> {
        let Some(file) = sources.find() else {
            let text = sources.built_in.as_deref().unwrap_or_default();
            let root = tree::parse("the demo's configuration", text)?;
            return assemble(None, root, sources);
        };
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let origin = Origin::File {
                name: file.display().to_string().into(),
                line: 0,
            };
            Errors::one(origin, format!("cannot be read: {error}"))
        })?;
        Self::load_text(&file, &text, sources)
    }

    /// As [`Config::load`], with `text` for the file's content.
    pub fn load_text(file: &Path, text: &str, sources: &Sources) -> Result<Loaded, Errors> {
        let root = tree::parse(&file.display().to_string(), text)?;
        assemble(Some(file), root, sources)
    }
}

fn assemble(file: Option<&Path>, mut root: Table, sources: &Sources) -> Result<Loaded, Errors> {
    let problems = sources.overlay(&mut root);
    let directory = file.and_then(Path::parent);
    let directory = directory.unwrap_or(&sources.working_directory);
    let reading = Reading::new(sources.environment.clone(), directory.to_owned());
    for problem in problems {
        reading.problem(&problem.origin, problem.message);
    }
    let config = read::config(&reading, root);
    Ok(Loaded {
        config,
        settings: reading.finish()?,
        file: file.map(Path::to_owned),
    })
}

/// The parts of a dotted key as TOML writes it, quotes included.
fn dotted(key: &str) -> Result<Vec<String>, String> {
    let wrong = || "is no key; write it like chat.model".to_owned();
    if key.contains(['\n', '=', '#']) {
        return Err(wrong());
    }
    let mut table: toml::Table = toml::from_str(&format!("{key} = 0"))
        .ok()
        .ok_or_else(wrong)?;
    let mut path = Vec::new();
    while let Some((key, value)) = std::mem::take(&mut table).into_iter().next() {
        path.push(key);
        if let toml::Value::Table(inner) = value {
            table = inner;
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_keys_are_read_as_toml_reads_them() {
        for (key, path) in [
            ("data_dir", Some(vec!["data_dir"])),
            (
                "chat.compaction.mode",
                Some(vec!["chat", "compaction", "mode"]),
            ),
            (
                "channels.xmpp.b.muc_rooms.\"r@h.example\".enabled",
                Some(vec![
                    "channels",
                    "xmpp",
                    "b",
                    "muc_rooms",
                    "r@h.example",
                    "enabled",
                ]),
            ),
            ("", None),
            ("a b", None),
            ("a = 1\nb", None),
        ] {
            let result = dotted(key).ok();
            let result = result
                .as_ref()
                .map(|path| path.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(result, path, "{key}");
        }
    }
}
