//! The contract, and what is SQLite's own: the file, its log, its version, and a full disk.

use super::super::contract;
use super::statements::successor;
use super::*;

const NOTES: KeyValue = KeyValue("notes");
const LOG: Archive = Archive("log");

fn put(key: &str, value: Vec<u8>) -> Batch {
    Batch::new().put(NOTES, "me", key, value)
}

#[tokio::test]
async fn a_store_in_memory_keeps_the_contract() {
    contract::check(Storage::in_memory().unwrap()).await;
}

#[tokio::test]
async fn a_store_in_a_file_keeps_the_contract_and_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/moltis.db");
    contract::check(Storage::open(&path).unwrap()).await;
    assert!(!directory.path().join("new/moltis.db-wal").exists());
    let again = Storage::open(&path).unwrap();
    let last = again.get(KeyValue("places"), "last", "k").await.unwrap();
    assert_eq!(last.unwrap(), b"v");
}

#[tokio::test]
async fn what_was_committed_is_there_without_a_close() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moltis.db");
    let storage = Storage::open(&path).unwrap();
    storage.commit(put("k", b"v".to_vec())).await.unwrap();
    storage.note(put("n", b"w".to_vec())).await.unwrap();
    // What a kill -9 leaves: the file and its log as they are at this moment.
    let copy = directory.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(
        directory.path().join("moltis.db-wal"),
        directory.path().join("copy.db-wal"),
    )
    .unwrap();
    let copied = Storage::open(&copy).unwrap();
    assert_eq!(copied.get(NOTES, "me", "k").await.unwrap().unwrap(), b"v");
    assert_eq!(copied.get(NOTES, "me", "n").await.unwrap().unwrap(), b"w");
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_and_a_note_does_not() {
    const FULL: i64 = 2;
    const NORMAL: i64 = 1;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moltis.db");
    Storage::open(&path).unwrap().close().await.unwrap();
    let writer = start("writer", Connection::open(&path).unwrap()).unwrap();
    let ask = |durability| {
        let batch = put("k", Vec::new());
        let writer = writer.clone();
        async move {
            let commit = |reply| Command::Commit {
                batch,
                durability,
                reply,
            };
            ask(&writer, commit).await.unwrap();
            let level = |connection: &Connection| {
                connection.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))
            };
            run(&writer, level).await.unwrap()
        }
    };
    assert_eq!(ask(Durability::Power).await, FULL);
    assert_eq!(ask(Durability::Process).await, NORMAL);
    assert_eq!(ask(Durability::Power).await, FULL);
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moltis.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let storage = Storage::open(&path).unwrap();
    storage.commit(put("k", Vec::new())).await.unwrap();
    for name in ["moltis.db", "moltis.db-wal", "moltis.db-shm"] {
        let mode = std::fs::metadata(directory.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moltis.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let refused = Storage::open(&path).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "The database has schema 99, this moltis knows {}; use a newer moltis",
            MIGRATIONS.len()
        ),
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moltis.db");
    std::fs::write(
        &path,
        "This is not a database, but it is long enough to be looked at".repeat(20),
    )
    .unwrap();
    let refused = Storage::open(&path).unwrap_err();
    assert!(matches!(refused, Error::Backend(message) if message.contains("not a database")));
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_and_keeps_the_old() {
    let (backend, thread) = Sqlite::in_memory().unwrap();
    let storage = Storage::new(backend);
    storage.commit(put("old", b"old".to_vec())).await.unwrap();
    run(&thread, |connection| {
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        connection.query_row(
            &format!("PRAGMA max_page_count = {}", pages + 4),
            [],
            |row| row.get::<_, i64>(0),
        )
    })
    .await
    .unwrap();
    // Together in one transaction: the big one must not take the small ones with it.
    let (before, big, after) = tokio::join!(
        storage.commit(put("before", b"1".to_vec()).append(LOG, "me", 1, Vec::new())),
        storage.commit(put("big", vec![0; 1 << 20])),
        storage.commit(put("after", b"2".to_vec())),
    );
    before.unwrap();
    after.unwrap();
    assert!(matches!(big, Err(Error::Full)), "{big:?}");
    let kept = storage.list(NOTES, "me", "").await.unwrap();
    let keys: Vec<&str> = kept.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["after", "before", "old"]);
    storage
        .commit(Batch::new().delete(NOTES, "me", "old"))
        .await
        .unwrap();
}

#[test]
fn the_successor_of_a_prefix_is_the_next_string_that_does_not_start_with_it() {
    let table = [
        ("", None),
        ("a", Some("b")),
        ("a\u{10FFFF}", Some("b")),
        ("\u{10FFFF}\u{10FFFF}", None),
        ("\u{D7FF}", Some("\u{E000}")),
        ("a\u{7F}", Some("a\u{80}")),
        ("%", Some("&")),
    ];
    for (prefix, expected) in table {
        assert_eq!(successor(prefix).as_deref(), expected, "{prefix:?}");
    }
}
