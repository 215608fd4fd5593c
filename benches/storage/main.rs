//! How many chat messages a second the store takes, each in two archives and waited for until the disk has it, as the
//! embedded server waits before it acknowledges one. The disk is most of it: run it where the database will lie.
//!
//! `cargo bench --bench storage -- [--data-dir DIR] [--pairs N] [--under-way N] [--messages N]`
#![expect(clippy::print_stdout, reason = "the report is what it is for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use moltis::storage::{Archive, Batch, Storage};
use tokio::task::JoinSet;

const MESSAGES: Archive = Archive("messages");
/// A usual message with its ids and a chat state.
const LENGTH: usize = 370;

/// Measures commits of archived messages.
#[derive(Parser)]
struct Arguments {
    /// Where the database lies
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    data_dir: PathBuf,
    /// How many pairs talk to each other
    #[arg(long, value_name = "N", default_value_t = 50)]
    pairs: usize,
    /// How many messages of a pair wait for the disk at a time
    #[arg(long, value_name = "N", default_value_t = 10)]
    under_way: usize,
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    messages: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir_in(&arguments.data_dir)?;
    let storage = Storage::open(&directory.path().join("moltis.db"))?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?
        .block_on(run(&arguments, storage))
}

async fn run(arguments: &Arguments, storage: Storage) -> Result<()> {
    let left = Arc::new(AtomicUsize::new(arguments.messages));
    let begin = Instant::now();
    let mut talks = JoinSet::new();
    for pair in 0..arguments.pairs {
        for _ in 0..arguments.under_way {
            talks.spawn(talk(storage.clone(), pair, Arc::clone(&left)));
        }
    }
    let mut waits = Vec::with_capacity(arguments.messages);
    while let Some(talk) = talks.join_next().await {
        waits.extend(talk??);
    }
    let elapsed = begin.elapsed();
    storage.close().await?;
    waits.sort_unstable();
    let at = |part: usize| {
        waits
            .get(waits.len() * part / 100)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{} messages in {:.2} s: {:.0} a second; a message waits {:.1} ms (half), {:.1} ms (99 of 100)",
        waits.len(),
        elapsed.as_secs_f64(),
        f64::from(u32::try_from(waits.len())?) / elapsed.as_secs_f64(),
        at(50).as_secs_f64() * 1_000.0,
        at(99).as_secs_f64() * 1_000.0,
    );
    Ok(())
}

/// Says one thing after the other until everything is said; how long each took.
async fn talk(storage: Storage, pair: usize, left: Arc<AtomicUsize>) -> Result<Vec<Duration>> {
    let (one, other) = (format!("one{pair}"), format!("other{pair}"));
    let mut waits = Vec::new();
    let next = |left: usize| left.checked_sub(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        .is_ok()
    {
        let begin = Instant::now();
        let batch = Batch::new()
            .append(MESSAGES, &one, 0, vec![b'x'; LENGTH])
            .append(MESSAGES, &other, 0, vec![b'x'; LENGTH]);
        storage.commit(batch).await?;
        waits.push(begin.elapsed());
    }
    Ok(waits)
}
