//! What is shared while one configuration is read: where to look things up, and what was found and found wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::errors::{Errors, Problem};
use super::section::Section;
use super::setting::Setting;
use super::tree::{Origin, Table};

/// What is shared while one configuration is read.
pub(super) struct Reading {
    pub environment: BTreeMap<String, String>,
    /// To which relative paths are relative.
    pub directory: PathBuf,
    problems: RefCell<Vec<Problem>>,
    settings: RefCell<Vec<Setting>>,
}

impl Reading {
    pub(super) fn new(environment: BTreeMap<String, String>, directory: PathBuf) -> Self {
        Self {
            environment,
            directory,
            problems: RefCell::default(),
            settings: RefCell::default(),
        }
    }

    pub(super) fn root(&self, table: Table) -> Section<'_> {
        Section::new(self, Vec::new(), Origin::Default, table)
    }

    pub(super) fn problem(&self, origin: &Origin, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            origin: origin.clone(),
            message: message.into(),
        });
    }

    /// `~/` and relative paths made whole.
    pub(super) fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        match (path.strip_prefix("~/"), self.environment.get("HOME")) {
            (Some(rest), Some(home)) => Ok(PathBuf::from(home).join(rest)),
            (Some(_), None) => Err("begins with \"~\", but HOME is not set".to_owned()),
            (None, _) => Ok(self.directory.join(path)),
        }
    }

    pub(super) fn record(&self, setting: Setting) {
        self.settings.borrow_mut().push(setting);
    }

    /// The settings, if there was no problem.
    pub(super) fn finish(self) -> Result<Vec<Setting>, Errors> {
        let mut problems = self.problems.into_inner();
        if problems.is_empty() {
            return Ok(self.settings.into_inner());
        }
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        Err(Errors(problems))
    }
}

/// Whether a file or directory is there and can be read.
pub(super) fn readable(path: &Path) -> Result<(), String> {
    let result = if path.is_dir() {
        std::fs::read_dir(path).map(drop)
    } else {
        std::fs::File::open(path).map(drop)
    };
    result.map_err(|error| format!("names {}: {error}", path.display()))
}
