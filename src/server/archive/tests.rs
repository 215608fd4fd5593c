//! Queries, pages and ids against a store in memory.

use jid::{BareJid, Jid};
use minidom::Element;

use super::request::Page;
use super::*;
use crate::server::Condition;
use crate::storage::memory::memory;
use crate::xmpp::element::child_text;

const OWNER: &str = "juliet";

fn own() -> BareJid {
    BareJid::new("juliet@capulet.lit").unwrap()
}

fn message(from: &str, to: &str, body: &str) -> Element {
    let attributes = [("from", from), ("to", to), ("type", "chat")];
    let mut message = element("message", ns::JABBER_CLIENT, &attributes);
    message.append_child(crate::xmpp::element::text_element(
        "body",
        ns::JABBER_CLIENT,
        body,
    ));
    message
}

async fn keep(archives: &Archives, with: &str, body: &str) -> String {
    let with = Jid::new(with).unwrap();
    let message = message(with.as_str(), "juliet@capulet.lit/balcony", body);
    let kept = archives
        .keep(OWNER, &with.to_bare(), datetime::now(), &message)
        .await;
    kept.unwrap().id
}

/// Five messages, by turns from two people; their ids.
async fn five() -> (Archives, Vec<String>) {
    let archives = Archives::new(memory(), MESSAGES);
    let mut ids = Vec::new();
    for (with, body) in [
        ("romeo@montague.lit/a", "1"),
        ("nurse@capulet.lit/x", "2"),
        ("romeo@montague.lit/b", "3"),
        ("nurse@capulet.lit/x", "4"),
        ("romeo@montague.lit/a", "5"),
    ] {
        ids.push(keep(&archives, with, body).await);
    }
    (archives, ids)
}

/// The bodies of the results.
fn bodies(answer: &Answer) -> Vec<String> {
    let body = |result: &Element| {
        let result = result.get_child("result", ns::MAM)?;
        let forwarded = result.get_child("forwarded", ns::FORWARD)?;
        assert!(forwarded.has_child("delay", ns::DELAY));
        let message = forwarded.get_child("message", ns::JABBER_CLIENT)?;
        child_text(message, "body", ns::JABBER_CLIENT)
    };
    answer
        .results
        .iter()
        .map(|result| body(result).unwrap())
        .collect()
}

fn rsm(answer: &Answer, name: &str) -> Option<String> {
    let set = answer.fin.get_child("set", ns::RSM).unwrap();
    child_text(set, name, ns::RSM)
}

struct Row {
    name: &'static str,
    asked: Asked,
    bodies: &'static [&'static str],
    complete: bool,
    count: Option<&'static str>,
}

#[tokio::test]
async fn a_page_ends_where_it_is_large_enough() {
    let archives = Archives::new(memory(), MESSAGES);
    let large = "x".repeat(200_000);
    for _ in 0..12 {
        keep(&archives, "romeo@montague.lit/a", &large).await;
    }
    let huge = "x".repeat(2 * 1_024 * 1_024);
    keep(&archives, "romeo@montague.lit/a", &huge).await;
    let (mut asked, mut sizes) = (Asked::default(), Vec::new());
    loop {
        let answer = archives.query(&own(), OWNER, &asked).await.unwrap();
        sizes.push(bodies(&answer).len());
        if answer.fin.attr("complete") == Some("true") {
            break;
        }
        asked.page.after = rsm(&answer, "last");
    }
    // What is larger than a page comes alone.
    assert_eq!(sizes, [5, 5, 2, 1]);
}

#[tokio::test]
async fn pages_are_what_xep_0313_says() {
    let (archives, ids) = five().await;
    let id = |number: usize| Some(ids[number - 1].clone());
    let with = |jid: &str| Some(Jid::new(jid).unwrap());
    let asked = Asked::default;
    let page = Page::default;
    let row = |name, asked, bodies, complete, count| Row {
        name,
        asked,
        bodies,
        complete,
        count,
    };
    let table = [
        row(
            "everything",
            asked(),
            &["1", "2", "3", "4", "5"],
            true,
            Some("5"),
        ),
        row(
            "the first page",
            Asked {
                page: Page {
                    max: Some(2),
                    ..page()
                },
                ..asked()
            },
            &["1", "2"],
            false,
            Some("5"),
        ),
        row(
            "the next page",
            Asked {
                page: Page {
                    max: Some(2),
                    after: id(2),
                    ..page()
                },
                ..asked()
            },
            &["3", "4"],
            false,
            Some("5"),
        ),
        row(
            "the page after that",
            Asked {
                page: Page {
                    max: Some(2),
                    after: id(4),
                    ..page()
                },
                ..asked()
            },
            &["5"],
            true,
            Some("5"),
        ),
        row(
            "behind the last",
            Asked {
                page: Page {
                    after: id(5),
                    ..page()
                },
                ..asked()
            },
            &[],
            true,
            Some("5"),
        ),
        row(
            "the last page",
            Asked {
                page: Page {
                    max: Some(2),
                    backwards: true,
                    ..page()
                },
                ..asked()
            },
            &["4", "5"],
            false,
            Some("5"),
        ),
        row(
            "the page before",
            Asked {
                page: Page {
                    max: Some(2),
                    backwards: true,
                    before: id(4),
                    ..page()
                },
                ..asked()
            },
            &["2", "3"],
            false,
            Some("5"),
        ),
        row(
            "exactly the rest",
            Asked {
                page: Page {
                    max: Some(1),
                    backwards: true,
                    before: id(2),
                    ..page()
                },
                ..asked()
            },
            &["1"],
            true,
            Some("5"),
        ),
        row(
            "the number alone",
            Asked {
                page: Page {
                    max: Some(0),
                    ..page()
                },
                ..asked()
            },
            &[],
            false,
            Some("5"),
        ),
        row(
            "somebody",
            Asked {
                with: with("romeo@montague.lit"),
                ..asked()
            },
            &["1", "3", "5"],
            true,
            Some("3"),
        ),
        row(
            "a page of somebody",
            Asked {
                with: with("romeo@montague.lit"),
                page: Page {
                    max: Some(2),
                    ..page()
                },
                ..asked()
            },
            &["1", "3"],
            false,
            Some("3"),
        ),
        row(
            "a resource",
            Asked {
                with: with("romeo@montague.lit/a"),
                ..asked()
            },
            &["1", "5"],
            true,
            None,
        ),
        row(
            "the last of a resource",
            Asked {
                with: with("romeo@montague.lit/a"),
                page: Page {
                    max: Some(1),
                    backwards: true,
                    ..page()
                },
                ..asked()
            },
            &["5"],
            false,
            None,
        ),
        row(
            "a stranger",
            Asked {
                with: with("iago@venice.lit"),
                ..asked()
            },
            &[],
            true,
            Some("0"),
        ),
        row(
            "oneself",
            Asked {
                with: with("juliet@capulet.lit"),
                ..asked()
            },
            &[],
            true,
            Some("0"),
        ),
        row(
            "behind an id",
            Asked {
                after_id: id(3),
                ..asked()
            },
            &["4", "5"],
            true,
            Some("2"),
        ),
        row(
            "before an id, from the beginning",
            Asked {
                before_id: id(3),
                page: Page {
                    max: Some(1),
                    ..page()
                },
                ..asked()
            },
            &["1"],
            false,
            Some("2"),
        ),
        row(
            "between two",
            Asked {
                after_id: id(1),
                before_id: id(5),
                ..asked()
            },
            &["2", "3", "4"],
            true,
            Some("3"),
        ),
        row(
            "between two, from a third",
            Asked {
                after_id: id(1),
                before_id: id(5),
                page: Page {
                    after: id(2),
                    ..page()
                },
                ..asked()
            },
            &["3", "4"],
            true,
            Some("3"),
        ),
        row(
            "some",
            Asked {
                ids: Some(vec![ids[3].clone(), ids[0].clone()]),
                ..asked()
            },
            &["1", "4"],
            true,
            Some("2"),
        ),
        row(
            "none",
            Asked {
                ids: Some(Vec::new()),
                ..asked()
            },
            &[],
            true,
            Some("0"),
        ),
        row(
            "flipped",
            Asked {
                flip: true,
                page: Page {
                    max: Some(2),
                    ..page()
                },
                ..asked()
            },
            &["2", "1"],
            false,
            Some("5"),
        ),
        row(
            "since the beginning",
            Asked {
                start: Some(0),
                ..asked()
            },
            &["1", "2", "3", "4", "5"],
            true,
            Some("5"),
        ),
        row(
            "in the future",
            Asked {
                start: Some(i64::MAX),
                ..asked()
            },
            &[],
            true,
            Some("0"),
        ),
        row(
            "long ago",
            Asked {
                end: Some(0),
                ..asked()
            },
            &[],
            true,
            Some("0"),
        ),
        row(
            "before time",
            Asked {
                start: Some(i64::MIN),
                end: Some(i64::MIN),
                ..asked()
            },
            &[],
            true,
            Some("0"),
        ),
    ];
    for row in table {
        let answer = archives.query(&own(), OWNER, &row.asked).await.unwrap();
        assert_eq!(bodies(&answer), row.bodies, "{}", row.name);
        let complete = answer.fin.attr("complete") == Some("true");
        assert_eq!(complete, row.complete, "{}", row.name);
        assert_eq!(rsm(&answer, "count").as_deref(), row.count, "{}", row.name);
        let mut ends = [row.bodies.first(), row.bodies.last()];
        if row.asked.flip {
            ends.reverse();
        }
        let end = |body: Option<&&str>| Some(ids[body?.parse::<usize>().unwrap() - 1].clone());
        assert_eq!(rsm(&answer, "first"), end(ends[0]), "{}", row.name);
        assert_eq!(rsm(&answer, "last"), end(ends[1]), "{}", row.name);
    }
}

#[tokio::test]
async fn an_id_that_is_not_there_is_not_found() {
    let (archives, ids) = five().await;
    let of_another = Jid::new("romeo@montague.lit").unwrap().to_bare();
    let stranger = message("a@b", "c@d", "secret");
    let kept = archives
        .keep("somebody", &of_another, datetime::now(), &stranger)
        .await
        .unwrap();
    archives
        .take_back(
            OWNER,
            archives.0.cipher.get().unwrap().decode(&ids[0]).unwrap(),
        )
        .await
        .unwrap();
    for wrong in ["nonsense", &kept.id, &ids[0]] {
        let wrong = || Some(wrong.to_owned());
        let asked = Asked::default;
        let page = |page| Asked { page, ..asked() };
        let all = [
            Asked {
                before_id: wrong(),
                ..asked()
            },
            Asked {
                after_id: wrong(),
                ..asked()
            },
            Asked {
                ids: wrong().map(|id| vec![id]),
                ..asked()
            },
            page(Page {
                after: wrong(),
                ..Page::default()
            }),
            page(Page {
                before: wrong(),
                backwards: true,
                ..Page::default()
            }),
        ];
        for asked in all {
            let error = archives.query(&own(), OWNER, &asked).await.unwrap_err();
            assert_eq!(error.condition, Condition::ItemNotFound, "{asked:?}");
        }
    }
}

#[tokio::test]
async fn a_result_is_from_the_archive_and_names_the_query() {
    let (archives, ids) = five().await;
    let asked = Asked {
        query_id: Some("f27".into()),
        ids: Some(vec![ids[0].clone()]),
        ..Asked::default()
    };
    let answer = archives.query(&own(), OWNER, &asked).await.unwrap();
    let message = &answer.results[0];
    assert_eq!(message.attr("from"), Some("juliet@capulet.lit"));
    let result = message.get_child("result", ns::MAM).unwrap();
    assert_eq!(result.attr("queryid"), Some("f27"));
    assert_eq!(result.attr("id"), Some(ids[0].as_str()));
}

#[tokio::test]
async fn the_metadata_are_the_ends_of_the_archive() {
    let (archives, ids) = five().await;
    let metadata = archives.metadata(OWNER).await.unwrap();
    for (name, id) in [("start", &ids[0]), ("end", &ids[4])] {
        let end = metadata.get_child(name, ns::MAM).unwrap();
        assert_eq!(end.attr("id"), Some(id.as_str()));
        assert!(datetime::parse(end.attr("timestamp").unwrap()).is_some());
    }
    let empty = archives.metadata("nobody").await.unwrap();
    assert_eq!(empty.children().count(), 0);
}

#[tokio::test]
async fn a_message_is_replaced_and_the_newest_are_read() {
    let (archives, ids) = five().await;
    let tombstone = message("a@b", "c@d", "gone");
    archives.replace(OWNER, &ids[3], &tombstone).await.unwrap();
    let newest = archives.newest(OWNER, 2).await.unwrap();
    let found: Vec<_> = newest
        .iter()
        .map(|(id, _, message)| {
            (
                id.clone(),
                child_text(message, "body", ns::JABBER_CLIENT).unwrap(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (ids[3].clone(), "gone".to_owned()),
            (ids[4].clone(), "5".to_owned())
        ]
    );
    assert!(archives.newest(OWNER, 0).await.unwrap().is_empty());
    let one = archives.get(OWNER, &ids[3]).await.unwrap().unwrap();
    assert_eq!(one, tombstone);
    assert!(archives.get("nobody", &ids[3]).await.unwrap().is_none());
    assert!(archives.replace(OWNER, "x", &tombstone).await.is_err());
}

#[tokio::test]
async fn the_ids_are_the_same_after_a_restart() {
    let storage = memory();
    let before = Archives::new(storage.clone(), MESSAGES);
    let id = keep(&before, "romeo@montague.lit/a", "1").await;
    let after = Archives::new(storage.clone(), MESSAGES);
    assert!(after.get(OWNER, &id).await.unwrap().is_some());
    let rooms = Archives::new(storage, ROOMS);
    assert!(rooms.get(OWNER, &id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_too_old_is_removed() {
    let storage = memory();
    let archives = Archives::new(storage.clone(), MESSAGES);
    let now = datetime::now();
    let mut batch = Batch::new();
    for days in [400, 31, 29, 0] {
        let at = now - days * DAY;
        for owner in ["a", "b"] {
            batch = batch.append(MESSAGES, owner, at, Vec::new());
        }
        batch = batch.append(ROOMS, "room", at, Vec::new());
    }
    storage.commit(batch).await.unwrap();
    let left = async |archive, owner| {
        storage
            .count(archive, owner, Query::default())
            .await
            .unwrap()
    };
    archives.expire(0).await.unwrap();
    assert_eq!(left(MESSAGES, "a").await, 4);
    archives.expire(30).await.unwrap();
    assert_eq!(left(MESSAGES, "a").await, 2);
    assert_eq!(left(MESSAGES, "b").await, 2);
    assert_eq!(left(ROOMS, "room").await, 4);
}

#[tokio::test]
async fn a_room_is_searched_by_author_or_occupant() {
    let archives = Archives::new(memory(), ROOMS);
    let room = BareJid::new("coven@rooms.shakespeare.lit").unwrap();
    for (author, nick) in [
        ("hag@shakespeare.lit", "first"),
        ("crone@shakespeare.lit", "second"),
    ] {
        let from = format!("{room}/{nick}");
        let said = message(&from, "", nick);
        let author = BareJid::new(author).unwrap();
        archives
            .keep(room.as_str(), &author, datetime::now(), &said)
            .await
            .unwrap();
    }
    for (with, expected) in [
        ("hag@shakespeare.lit", vec!["first"]),
        ("coven@rooms.shakespeare.lit/second", vec!["second"]),
        ("coven@rooms.shakespeare.lit/third", vec![]),
    ] {
        let asked = Asked {
            with: Some(Jid::new(with).unwrap()),
            ..Asked::default()
        };
        let answer = archives.query(&room, room.as_str(), &asked).await.unwrap();
        assert_eq!(bodies(&answer), expected, "{with}");
    }
}
