//! What the disk alone costs: an accepted message is on it before anything is done about it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// A file that grows as the database's log does.
pub(super) struct Disk(File);

impl Disk {
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        Ok(Self(options.open(dir.join("sync"))?))
    }

    /// The time of appending a database page and syncing it.
    pub(super) fn sync(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.0.write_all(&[0x5A; 4096])?;
        self.0.sync_data()?;
        Ok(began.elapsed())
    }
}
