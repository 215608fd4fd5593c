//! The contract, and what is SQLite's own: the file, its log, its version, and a full disk.

use super::super::contract;
use super::ids::LEASE;
use super::queries::successor;
use super::schema::MIGRATIONS;
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
    let mut connection = Connection::open(&path).unwrap();
    prepare(&mut connection).unwrap();
    let queue = queue("writer", connection).unwrap();
    let ask = async |durability| {
        let batch = put("k", Vec::new());
        queue.submit(batch, durability).written.await.unwrap();
        let level = |connection: &Connection| {
            Ok(connection.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))?)
        };
        run(queue.thread(), level).await.unwrap()
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

/// A store that may grow by so many pages only, and the thread that writes it.
async fn limited(pages: i64) -> (Storage, Sender<Command>) {
    let backend = Sqlite::in_memory().unwrap();
    let thread = backend.queue.thread().clone();
    let storage = Storage::new(Arc::new(backend));
    storage.commit(put("old", b"old".to_vec())).await.unwrap();
    limit(&thread, pages).await;
    (storage, thread)
}

async fn limit(thread: &Sender<Command>, more: i64) {
    run(thread, move |connection| {
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let sql = format!("PRAGMA max_page_count = {}", pages + more);
        Ok(connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_and_keeps_the_old() {
    let (storage, _) = limited(4).await;
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

#[tokio::test]
async fn after_a_full_disk_everything_that_was_answered_is_there_and_room_is_used() {
    let (storage, thread) = limited(20).await;
    let message = || Batch::new().append(LOG, "me", 1, vec![7; 900]);
    let submitted: Vec<Submitted> = (0..300)
        .map(|_| storage.submit(message(), Durability::Power))
        .collect();
    let mut kept = Vec::new();
    let mut refused = 0;
    for submitted in submitted {
        match submitted.written.await {
            Ok(()) => kept.extend(submitted.ids),
            Err(Error::Full) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0 && !kept.is_empty());
    let found = storage.query(LOG, "me", Query::default()).await.unwrap();
    assert_eq!(found.iter().map(|entry| entry.id).collect::<Vec<_>>(), kept);
    limit(&thread, 1_000).await;
    for _ in 0..refused {
        storage.commit(message()).await.unwrap();
    }
    let found = storage.query(LOG, "me", Query::default()).await.unwrap();
    assert_eq!(found.len(), 300);
}

/// What is asked of a database without a store.
fn ask_file(path: &Path, sql: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn ids_rise_over_a_crash_a_deletion_and_a_clock_that_stepped_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moltis.db");
    let append = |storage: Storage| async move {
        let batch = Batch::new().append(LOG, "me", 1, Vec::new());
        storage.commit(batch).await.unwrap()[0]
    };
    // As if the clock had been far ahead when the entry was written, and has been set right since.
    let future = ids::microseconds() + 400 * LEASE;
    Storage::open(&path).unwrap().close().await.unwrap();
    let set = format!("UPDATE counter SET value = {future} RETURNING 0");
    ask_file(&path, &set);
    let storage = Storage::open(&path).unwrap();
    let last = append(storage.clone()).await;
    assert_eq!(last, future + 1);
    let delete = Batch::new().clear(LOG, "me");
    storage.commit(delete).await.unwrap();
    // A crash: what is there at this moment, without a close.
    let crashed = directory.path().join("crashed.db");
    std::fs::copy(&path, &crashed).unwrap();
    std::fs::copy(
        path.with_extension("db-wal"),
        crashed.with_extension("db-wal"),
    )
    .unwrap();
    assert!(append(Storage::open(&crashed).unwrap()).await > last + LEASE / 2);
    // An orderly end wastes none.
    storage.close().await.unwrap();
    let again = Storage::open(&path).unwrap();
    assert_eq!(append(again).await, last + 1);
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moltis.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(MIGRATIONS[0]).unwrap();
    connection
        .execute_batch(
            "PRAGMA user_version = 1;
             INSERT INTO key_value VALUES ('notes', 'me', 'k', x'01', 5);
             INSERT INTO archive (archive, owner, at, value) VALUES
                 ('log', 'me', 11, x'11'), ('log', 'you', 12, x'12'), ('other', 'me', 13, x'13'),
                 ('log', 'me', 14, x'14'), ('log', 'me', 15, x'15');
             DELETE FROM archive WHERE at = 15;",
        )
        .unwrap();
    drop(connection);
    let storage = Storage::open(&path).unwrap();
    let entry = |id, at, value| Entry {
        id,
        at,
        value: vec![value],
    };
    let found = storage.query(LOG, "me", Query::default()).await.unwrap();
    assert_eq!(found, [entry(1, 11, 0x11), entry(4, 14, 0x14)]);
    assert_eq!(storage.archived(LOG).await.unwrap(), ["me", "you"]);
    assert_eq!(
        storage.get(NOTES, "me", "k").await.unwrap().unwrap(),
        [0x01]
    );
    let new = Batch::new().append(LOG, "me", 16, Vec::new());
    assert!(storage.commit(new).await.unwrap()[0] > 5);
}

#[tokio::test]
async fn a_backup_is_everything_as_of_one_moment_and_can_be_restored() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("moltis.db");
    let storage = Storage::open(&database).unwrap();
    let append = || Batch::new().append(LOG, "me", 1, vec![7; 500]);
    for _ in 0..50 {
        storage.submit(append(), Durability::Process);
    }
    storage.settled().await.unwrap();
    let path = directory.path().join("copy.backup");
    let files = [("certificates/a.pem".to_owned(), b"pem".to_vec())];
    let copying = {
        let (database, path, files) = (database.clone(), path.clone(), files.clone());
        tokio::task::spawn_blocking(move || backup(&database, &path, &files))
    };
    let (copied, written) = tokio::join!(copying, storage.commit(append()));
    copied.unwrap().unwrap();
    written.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!directory.path().join("copy.backup.partial").exists());
    let again = backup(&database, &path, &files).unwrap_err();
    assert!(
        matches!(&again, Error::Backend(message) if message.ends_with("already")),
        "{again}"
    );
    let nowhere = backup(&database, &directory.path().join("no/copy"), &[]);
    assert!(matches!(nowhere, Err(Error::Backend(_))));
    storage.commit(Batch::new().clear(LOG, "me")).await.unwrap();
    storage.close().await.unwrap();
    assert_eq!(restore(&path, &database).unwrap(), files);
    let restored = Storage::open(&database).unwrap();
    let count = restored.count(LOG, "me", Query::default()).await.unwrap();
    assert!((50..=51).contains(&count), "{count}");
    std::fs::write(&path, "no database").unwrap();
    let other = directory.path().join("other.db");
    assert!(restore(&path, &other).is_err());
    assert!(!other.exists());
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
