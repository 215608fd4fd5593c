//! `chat.history_retention_days`.

use super::super::history::HISTORY;
use super::stage::{Stage, config};
use crate::gateway::now;
use crate::storage::{Batch, Query};

const DAY: i64 = 86_400_000;

/// How many of an old and a new line are left after an hour.
async fn left(days: u32) -> usize {
    let mut config = config();
    config.chat.history_retention_days = days;
    let stage = Stage::with(config);
    let lines = Batch::new()
        .append(HISTORY, "session", now() - 3 * DAY, b"old".to_vec())
        .append(HISTORY, "session", now() - DAY, b"new".to_vec());
    stage.storage.commit(lines).await.unwrap();
    stage.pass(3_700_000).await;
    let left = stage.storage.query(HISTORY, "session", Query::default());
    left.await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn lines_older_than_the_days_to_keep_are_removed() {
    assert_eq!(left(2).await, 1);
}

#[tokio::test(start_paused = true)]
async fn no_days_to_keep_is_for_ever() {
    assert_eq!(left(0).await, 2);
}
