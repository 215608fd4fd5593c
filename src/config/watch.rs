//! Notices that the file has changed.
//!
//! Editors write a new file and rename it over the old one, and orchestrators swap a symbolic link beside it, so the
//! directory is watched, and what counts is whether the content is another than before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{Stream, stream};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Several writes in a row count as one.
const SETTLE: Duration = Duration::from_millis(200);

struct Watch {
    file: PathBuf,
    events: mpsc::Receiver<()>,
    content: Option<Vec<u8>>,
    /// Ends the watch when it is dropped.
    _watcher: RecommendedWatcher,
}

/// Yields each time the file's content has changed, until it is dropped.
pub fn watch(file: &Path) -> Result<impl Stream<Item = ()> + Send + use<>> {
    // One place is enough: an event that finds it taken will be seen with the one before it.
    let (sender, events) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is an event too, ours included. An error, such as an overflow, may have cost us a change.
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        sender.try_send(()).ok(); // full: as above; closed: nobody watches any more
    })
    .context("Failed to watch for changes")?;
    let target = std::fs::canonicalize(file)
        .with_context(|| format!("Failed to watch {}", file.display()))?;
    let mut directories = vec![directory(file), directory(&target)];
    directories.dedup();
    for directory in directories {
        watcher
            .watch(&directory, RecursiveMode::NonRecursive)
            .with_context(|| format!("Failed to watch {}", directory.display()))?;
    }
    let watch = Watch {
        content: std::fs::read(file).ok(),
        file: file.to_owned(),
        events,
        _watcher: watcher,
    };
    Ok(stream::unfold(watch, |mut watch| async move {
        watch.changed().await.map(|()| ((), watch))
    }))
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    }
}

impl Watch {
    async fn changed(&mut self) -> Option<()> {
        loop {
            self.events.recv().await?;
            tokio::time::sleep(SETTLE).await;
            self.events.try_recv().ok(); // came while things settled
            // A file that is gone for a moment is being replaced; its return is another event.
            let Ok(content) = tokio::fs::read(&self.file).await else {
                continue;
            };
            if self.content.as_ref() != Some(&content) {
                self.content = Some(content);
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[tokio::test]
    async fn a_replaced_file_is_noticed_and_a_neighbour_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("moltis.toml");
        std::fs::write(&file, "a = 1").unwrap();
        let mut changes = Box::pin(watch(&file).unwrap());

        std::fs::write(directory.path().join("other"), "x").unwrap();
        let replaced = directory.path().join("moltis.toml.new");
        std::fs::write(&replaced, "a = 2").unwrap();
        std::fs::rename(&replaced, &file).unwrap();
        let wait = Duration::from_secs(10);
        let noticed = tokio::time::timeout(wait, changes.next()).await;
        assert_eq!(noticed.unwrap(), Some(()));

        std::fs::write(directory.path().join("other"), "y").unwrap();
        assert_eq!(changes.next().now_or_never(), None);
    }
}
