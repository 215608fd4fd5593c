//! `moltis backup` and `moltis restore`: everything in one file, while the process runs; and back again.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{Globals, say};
use crate::app::DATABASE;
use crate::http::control::lock;
use crate::storage::{self, Beside};

/// What belongs to the database: generated passwords, keys and certificates.
const FILES: &[&str] = &["secrets.toml", "certificates"];

/// Write everything to one file, while moltis runs or not: messages, accounts, rooms, keys and certificates
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis backup moltis-2026-11-20.backup")]
pub(super) struct Backup {
    /// The file; whoever has it has the keys
    file: PathBuf,
    /// Overwrite a file that exists
    #[arg(long)]
    force: bool,
}

/// Put back what a backup holds; moltis must not be running
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  moltis restore moltis-2026-11-20.backup")]
pub(super) struct Restore {
    /// The file that `moltis backup` has written
    file: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
}

pub(super) fn backup(globals: &Globals, arguments: &Backup) -> Result<ExitCode> {
    let data_dir = globals.load()?.config.data_dir;
    let mut files = Vec::new();
    for name in FILES {
        collect(&data_dir, Path::new(name), &mut files)?;
    }
    let file = &arguments.file;
    if !arguments.force || !file.exists() {
        storage::backup(&data_dir.join(DATABASE), file, &files)?;
    } else {
        // The old one stays until the new one is whole.
        let mut new = file.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        storage::backup(&data_dir.join(DATABASE), &new, &files)?;
        fs::rename(&new, file).with_context(|| format!("Failed to replace {}", file.display()))?;
    }
    say(&format!(
        "Wrote {}. It holds passwords and keys: keep it safe.",
        file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Reads a file or a directory of the data directory; what is not there is left out.
fn collect(data_dir: &Path, name: &Path, files: &mut Vec<Beside>) -> Result<()> {
    let path = data_dir.join(name);
    let failed = || format!("Failed to read {}", path.display());
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(&path)
            .and_then(Iterator::collect)
            .with_context(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            collect(data_dir, &name.join(entry.file_name()), files)?;
        }
    } else if path.is_file() {
        let content = fs::read(&path).with_context(failed)?;
        let name = name.to_str().with_context(failed)?;
        files.push((name.to_owned(), content));
    }
    Ok(())
}

pub(super) fn restore(globals: &Globals, arguments: &Restore) -> Result<ExitCode> {
    let data_dir = globals.load()?.config.data_dir;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir)
        .with_context(|| format!("Failed to create {}", data_dir.display()))?;
    let _alone = lock(&data_dir)?;
    let database = data_dir.join(DATABASE);
    if database.exists() && !arguments.force {
        bail!(
            "There is data in {} already; overwrite it with --force",
            data_dir.display()
        );
    }
    let files = storage::restore(&arguments.file, &database)?;
    for (name, content) in &files {
        put(&data_dir, Path::new(name), content)?;
    }
    say(&format!(
        "Restored {} and {} files to {}.",
        DATABASE,
        files.len(),
        data_dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Writes a file for its owner alone. A backup that somebody has tampered with stays in the data directory.
fn put(data_dir: &Path, name: &Path, content: &[u8]) -> Result<()> {
    let ours = FILES.iter().any(|ours| name.starts_with(ours));
    let plain = name
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !ours || !plain {
        bail!(
            "The backup holds a file {}, which is none of moltis; it was left out",
            name.display()
        );
    }
    let path = data_dir.join(name);
    let written = (|| {
        if let Some(directory) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(directory)?;
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(content)?;
        file.sync_all()
    })();
    written.with_context(|| format!("Failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_backup_stays_in_the_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/passwd", "certificates/../../x", "moltis.sock"] {
            assert!(
                put(directory.path(), Path::new(name), b"x").is_err(),
                "{name}"
            );
        }
        put(directory.path(), Path::new("certificates/a/b.pem"), b"x").unwrap();
        let mut files = Vec::new();
        collect(directory.path(), Path::new("certificates"), &mut files).unwrap();
        assert_eq!(files, [("certificates/a/b.pem".to_owned(), b"x".to_vec())]);
    }
}
