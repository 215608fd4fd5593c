//! What every backend must do: its tests call [`check`] with an empty store.

use super::{Archive, Batch, Durability, Entry, Error, KeyValue, Query, Storage};

const PEOPLE: KeyValue = KeyValue("people");
const PLACES: KeyValue = KeyValue("places");
const LOG_NOTES: KeyValue = KeyValue("log");
const LOG: Archive = Archive("log");
const OTHER: Archive = Archive("other");

/// Checks the whole contract; the store is closed after it.
pub async fn check(storage: Storage) {
    keys_are_kept_per_store_and_owner(&storage).await;
    a_prefix_is_taken_literally(&storage).await;
    a_batch_is_all_or_nothing(&storage).await;
    concurrent_batches_fail_alone(&storage).await;
    an_owner_goes_with_all_its_keys(&storage).await;
    old_keys_expire(&storage).await;
    archives_answer_ranges(&storage).await;
    archive_ids_are_never_given_twice(&storage).await;
    archives_are_pruned(&storage).await;
    ids_are_known_before_the_disk_has_them(&storage).await;
    archives_answer_what_is_asked(&storage).await;
    an_entry_is_replaced_in_its_place(&storage).await;
    an_archive_is_cleared_for_one_owner(&storage).await;
    closing_keeps_what_was_sent_before(&storage).await;
}

async fn put(storage: &Storage, store: KeyValue, owner: &str, key: &str, value: &[u8]) {
    let batch = Batch::new().put(store, owner, key, value.to_vec());
    assert_eq!(storage.commit(batch).await.unwrap(), Vec::<u64>::new());
}

async fn keys(storage: &Storage, owner: &str, prefix: &str) -> Vec<String> {
    let found = storage.list(PEOPLE, owner, prefix).await.unwrap();
    found.into_iter().map(|(key, _)| key).collect()
}

async fn keys_are_kept_per_store_and_owner(storage: &Storage) {
    assert_eq!(storage.get(PEOPLE, "a", "name").await.unwrap(), None);
    put(storage, PEOPLE, "a", "name", b"Alice").await;
    put(storage, PEOPLE, "b", "name", b"Bob").await;
    put(storage, PLACES, "a", "name", b"").await;
    put(storage, PEOPLE, "a", "name", b"Alice\0\xff").await;
    let get = |store, owner: &'static str| async move {
        storage.get(store, owner, "name").await.unwrap()
    };
    assert_eq!(get(PEOPLE, "a").await.unwrap(), b"Alice\0\xff");
    assert_eq!(get(PEOPLE, "b").await.unwrap(), b"Bob");
    assert_eq!(get(PLACES, "a").await.unwrap(), b"");
    assert_eq!(storage.owners(PEOPLE).await.unwrap(), ["a", "b"]);
    let delete = Batch::new()
        .delete(PEOPLE, "a", "name")
        .delete(PEOPLE, "a", "absent");
    storage.commit(delete).await.unwrap();
    assert_eq!(get(PEOPLE, "a").await, None);
    assert_eq!(get(PLACES, "a").await.unwrap(), b"");
    assert_eq!(storage.owners(PEOPLE).await.unwrap(), ["b"]);
}

async fn a_prefix_is_taken_literally(storage: &Storage) {
    let all = [
        "",
        "%",
        "%a",
        "_",
        "_b",
        "a",
        "aa",
        "a\u{D7FF}",
        "a\u{D7FF}z",
        "a\u{E000}",
        "a\u{10FFFF}",
        "a\u{10FFFF}b",
        "b",
        "ä",
        "\u{10FFFF}",
        "\u{10FFFF}x",
        "\u{10FFFF}\u{10FFFF}",
    ];
    for key in all {
        put(storage, PEOPLE, "prefix", key, b"").await;
    }
    for prefix in all.iter().chain(&["A", "zz", "x'; --"]) {
        let mut expected: Vec<&str> = all
            .into_iter()
            .filter(|key| key.starts_with(prefix))
            .collect();
        expected.sort_unstable();
        assert_eq!(
            keys(storage, "prefix", prefix).await,
            expected,
            "{prefix:?}"
        );
    }
    assert!(keys(storage, "prefi", "").await.is_empty());
}

async fn a_batch_is_all_or_nothing(storage: &Storage) {
    let first = Batch::new().put_new(PEOPLE, "new", "k", b"1".to_vec());
    storage.commit(first).await.unwrap();
    let second = Batch::new()
        .put(PEOPLE, "new", "other", b"2".to_vec())
        .append(LOG, "new", 1, b"2".to_vec())
        .and(Batch::new().put_new(PEOPLE, "new", "k", b"2".to_vec()));
    let refused = storage.commit(second).await;
    assert!(matches!(refused, Err(Error::Taken { key }) if key == "k"));
    assert_eq!(keys(storage, "new", "").await, ["k"]);
    assert_eq!(
        storage.get(PEOPLE, "new", "k").await.unwrap().unwrap(),
        b"1"
    );
    assert!(
        storage
            .query(LOG, "new", Query::default())
            .await
            .unwrap()
            .is_empty()
    );
}

async fn concurrent_batches_fail_alone(storage: &Storage) {
    let commits = (0..40_u8).map(|number| {
        let key = format!("k{:02}", number / 2);
        storage.commit(
            Batch::new()
                .append(LOG, "crowd", i64::from(number), vec![number])
                .put_new(PEOPLE, "crowd", &key, vec![number]),
        )
    });
    let results = futures::future::join_all(commits).await;
    let mut ids: Vec<u64> = Vec::new();
    for result in results {
        match result {
            Ok(appended) => ids.extend(appended),
            Err(err) => assert!(matches!(err, Error::Taken { .. }), "{err}"),
        }
    }
    ids.sort_unstable();
    let entries = storage.query(LOG, "crowd", Query::default()).await.unwrap();
    let found: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(found.len(), 20);
    assert_eq!(found, ids);
    assert_eq!(keys(storage, "crowd", "k").await.len(), 20);
}

async fn an_owner_goes_with_all_its_keys(storage: &Storage) {
    for (owner, key) in [("gone", ""), ("gone", "a"), ("gone", "b"), ("gon", "a")] {
        put(storage, PEOPLE, owner, key, b"").await;
    }
    put(storage, LOG_NOTES, "gone", "a", b"").await;
    append(storage, LOG, "gone", i64::MAX - 1).await;
    let batch = Batch::new()
        .delete_owner(PEOPLE, "gone")
        .delete_owner(PEOPLE, "never was")
        .prune(LOG, Some("gone"), i64::MAX)
        .put(PEOPLE, "gone", "after", Vec::new());
    storage.commit(batch).await.unwrap();
    assert_eq!(keys(storage, "gone", "").await, ["after"]);
    assert_eq!(keys(storage, "gon", "").await, ["a"]);
    assert_eq!(storage.list(LOG_NOTES, "gone", "").await.unwrap().len(), 1);
    assert!(
        times(storage, LOG, "gone", Query::default())
            .await
            .is_empty()
    );
}

async fn old_keys_expire(storage: &Storage) {
    put(storage, PLACES, "expire", "k", b"").await;
    let expire = |before| storage.commit(Batch::new().expire(PLACES, before));
    expire(1).await.unwrap();
    assert_eq!(storage.list(PLACES, "expire", "").await.unwrap().len(), 1);
    expire(i64::MAX).await.unwrap();
    assert!(storage.owners(PLACES).await.unwrap().is_empty());
    assert!(!keys(storage, "prefix", "").await.is_empty());
}

async fn append(storage: &Storage, archive: Archive, owner: &str, at: i64) -> u64 {
    let batch = Batch::new().append(archive, owner, at, at.to_string().into_bytes());
    let ids = storage.commit(batch).await.unwrap();
    assert_eq!(ids.len(), 1);
    ids[0]
}

async fn times(storage: &Storage, archive: Archive, owner: &str, query: Query) -> Vec<i64> {
    let entries = storage.query(archive, owner, query).await.unwrap();
    assert!(entries.is_sorted_by(|a, b| a.id < b.id));
    entries.into_iter().map(|entry| entry.at).collect()
}

async fn archives_answer_ranges(storage: &Storage) {
    let batch = Batch::new()
        .append(LOG, "range", 50, b"first".to_vec())
        .append(LOG, "range", 20, Vec::new());
    let mut ids = storage.commit(batch).await.unwrap();
    append(storage, LOG, "someone else", 1).await;
    append(storage, OTHER, "range", 1).await;
    for at in [30, 40] {
        ids.push(append(storage, LOG, "range", at).await);
    }
    assert!(ids.is_sorted_by(|a, b| a < b));
    let first = storage
        .query(
            LOG,
            "range",
            Query {
                limit: 1,
                ..Query::default()
            },
        )
        .await;
    let expected = Entry {
        id: ids[0],
        at: 50,
        value: b"first".to_vec(),
    };
    assert_eq!(first.unwrap(), [expected]);
    let (after, before) = (Some(ids[0]), Some(ids[3]));
    let table: [(&str, Query, &[i64]); 7] = [
        ("all, by arrival", Query::default(), &[50, 20, 30, 40]),
        (
            "after",
            Query {
                after,
                ..Query::default()
            },
            &[20, 30, 40],
        ),
        (
            "before",
            Query {
                before,
                ..Query::default()
            },
            &[50, 20, 30],
        ),
        (
            "between",
            Query {
                after,
                before,
                ..Query::default()
            },
            &[20, 30],
        ),
        (
            "oldest",
            Query {
                limit: 2,
                ..Query::default()
            },
            &[50, 20],
        ),
        (
            "newest",
            Query {
                newest: true,
                limit: 2,
                ..Query::default()
            },
            &[30, 40],
        ),
        (
            "far",
            Query {
                after: Some(u64::MAX),
                ..Query::default()
            },
            &[],
        ),
    ];
    for (name, query, expected) in table {
        assert_eq!(
            times(storage, LOG, "range", query).await,
            expected,
            "{name}"
        );
    }
}

async fn archive_ids_are_never_given_twice(storage: &Storage) {
    let last = append(storage, OTHER, "reuse", 1).await;
    let of_another = Batch::new()
        .remove(OTHER, "nobody", last)
        .remove(LOG, "reuse", last);
    storage.commit(of_another).await.unwrap();
    assert_eq!(times(storage, OTHER, "reuse", Query::default()).await, [1]);
    storage
        .commit(Batch::new().remove(OTHER, "reuse", last))
        .await
        .unwrap();
    assert!(
        times(storage, OTHER, "reuse", Query::default())
            .await
            .is_empty()
    );
    assert!(append(storage, OTHER, "reuse", 2).await > last);
}

async fn archives_are_pruned(storage: &Storage) {
    for (owner, at) in [("p", 1), ("p", 2), ("p", 3), ("q", 1), ("q", 3)] {
        append(storage, OTHER, owner, at).await;
    }
    storage
        .commit(Batch::new().prune(OTHER, Some("p"), 2))
        .await
        .unwrap();
    assert_eq!(times(storage, OTHER, "p", Query::default()).await, [2, 3]);
    assert_eq!(times(storage, OTHER, "q", Query::default()).await, [1, 3]);
    storage
        .commit(Batch::new().prune(OTHER, None, 3))
        .await
        .unwrap();
    assert_eq!(times(storage, OTHER, "p", Query::default()).await, [3]);
    assert_eq!(times(storage, OTHER, "q", Query::default()).await, [3]);
    assert!(
        !times(storage, LOG, "range", Query::default())
            .await
            .is_empty()
    );
}

async fn ids_are_known_before_the_disk_has_them(storage: &Storage) {
    storage.ready().await;
    let submit = |owner: &str, at| {
        let batch =
            Batch::new()
                .append(LOG, owner, at, Vec::new())
                .append(OTHER, owner, at, Vec::new());
        storage.submit(batch, Durability::Power)
    };
    let (first, second) = (submit("early", 1), submit("late", 2));
    let ids: Vec<u64> = first.ids.iter().chain(&second.ids).copied().collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    storage.settled().await.unwrap();
    for (archive, owner, id) in [
        (LOG, "early", ids[0]),
        (OTHER, "early", ids[1]),
        (LOG, "late", ids[2]),
        (OTHER, "late", ids[3]),
    ] {
        let entries = storage.query(archive, owner, Query::default()).await;
        assert_eq!(entries.unwrap()[0].id, id, "{owner} {archive:?}");
    }
    first.written.await.unwrap();
    second.written.await.unwrap();
}

async fn archives_answer_what_is_asked(storage: &Storage) {
    let batch = Batch::new()
        .append_tagged(LOG, "ask", 10, "romeo", b"1".to_vec())
        .append_tagged(LOG, "ask", 20, "juliet", b"2".to_vec())
        .append(LOG, "ask", 30, b"3".to_vec())
        .append_tagged(LOG, "ask", 20, "romeo", b"4".to_vec())
        .append_tagged(LOG, "others", 20, "romeo", b"5".to_vec());
    let ids = storage.commit(batch).await.unwrap();
    let tag = |name: &str| Some(name.to_owned());
    let query = Query::default;
    let table: [(&str, Query, &[i64]); 11] = [
        (
            "a tag",
            Query {
                tag: tag("romeo"),
                ..query()
            },
            &[10, 20],
        ),
        (
            "a tag nobody has",
            Query {
                tag: tag(""),
                ..query()
            },
            &[],
        ),
        (
            "since",
            Query {
                since: Some(20),
                ..query()
            },
            &[20, 30, 20],
        ),
        (
            "until",
            Query {
                until: Some(20),
                ..query()
            },
            &[10, 20, 20],
        ),
        (
            "at one time",
            Query {
                since: Some(30),
                until: Some(30),
                ..query()
            },
            &[30],
        ),
        (
            "a tag at one time",
            Query {
                tag: tag("romeo"),
                since: Some(20),
                until: Some(20),
                ..query()
            },
            &[20],
        ),
        (
            "ids, in any order and twice",
            Query {
                ids: Some(vec![ids[2], ids[0], ids[2], u64::MAX]),
                ..query()
            },
            &[10, 30],
        ),
        (
            "ids of another",
            Query {
                ids: Some(vec![ids[4]]),
                ..query()
            },
            &[],
        ),
        (
            "no ids",
            Query {
                ids: Some(Vec::new()),
                ..query()
            },
            &[],
        ),
        (
            "the newest with ids and a tag",
            Query {
                ids: Some(ids.clone()),
                tag: tag("romeo"),
                newest: true,
                limit: 1,
                ..query()
            },
            &[20],
        ),
        (
            "the newest with a tag",
            Query {
                tag: tag("juliet"),
                newest: true,
                limit: 5,
                ..query()
            },
            &[20],
        ),
    ];
    for (name, query, expected) in table {
        let count = storage.count(LOG, "ask", query.clone()).await.unwrap();
        assert_eq!(count, u64::try_from(expected.len()).unwrap(), "{name}");
        assert_eq!(times(storage, LOG, "ask", query).await, expected, "{name}");
    }
    let at_most = Query {
        limit: 3,
        ..query()
    };
    assert_eq!(storage.count(LOG, "ask", at_most).await.unwrap(), 3);
    assert_eq!(storage.count(LOG, "nobody", query()).await.unwrap(), 0);
    let archived = storage.archived(LOG).await.unwrap();
    assert!(archived.is_sorted());
    for (owner, expected) in [("ask", true), ("others", true), ("reuse", false)] {
        assert_eq!(archived.iter().any(|name| name == owner), expected);
    }
}

async fn an_entry_is_replaced_in_its_place(storage: &Storage) {
    let id = append(storage, LOG, "replace", 7).await;
    let replace = |owner: &str| {
        storage.commit(Batch::new().replace(LOG, owner, id, owner.as_bytes().to_vec()))
    };
    assert_eq!(replace("replace").await.unwrap(), Vec::<u64>::new());
    replace("nobody").await.unwrap();
    let expected = Entry {
        id,
        at: 7,
        value: b"replace".to_vec(),
    };
    let entries = storage.query(LOG, "replace", Query::default()).await;
    assert_eq!(entries.unwrap(), [expected]);
}

async fn an_archive_is_cleared_for_one_owner(storage: &Storage) {
    for owner in ["goes", "stays"] {
        append(storage, LOG, owner, 1).await;
        append(storage, OTHER, owner, 1).await;
    }
    let batch = Batch::new()
        .clear(LOG, "goes")
        .append(LOG, "goes", 2, Vec::new());
    storage.commit(batch).await.unwrap();
    for (archive, owner, expected) in [
        (LOG, "goes", 2),
        (OTHER, "goes", 1),
        (LOG, "stays", 1),
        (OTHER, "stays", 1),
    ] {
        let kept = times(storage, archive, owner, Query::default()).await;
        assert_eq!(kept, [expected], "{owner} {archive:?}");
    }
}

async fn closing_keeps_what_was_sent_before(storage: &Storage) {
    let (committed, closed) = tokio::join!(
        storage.commit(Batch::new().put(PLACES, "last", "k", b"v".to_vec())),
        storage.close(),
    );
    assert_eq!(committed.unwrap(), Vec::<u64>::new());
    closed.unwrap();
    let late = storage
        .commit(Batch::new().delete(PLACES, "last", "k"))
        .await;
    assert!(matches!(late, Err(Error::Closed)));
    let late = storage.get(PLACES, "last", "k").await;
    assert!(matches!(late, Err(Error::Closed)));
    assert!(matches!(storage.close().await, Err(Error::Closed)));
}
