//! The durable inbox, and the marks by which a message is known again. A message is in the inbox from its acceptance until
//! what ends it is written.

use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::place_name;
use crate::gateway::{Ids, Inbound, Place, Sender, Standing, now};
use crate::storage::{Batch, Error, KeyValue, Result, Storage};

/// Owner: the account. Key: [`Waiting::number`].
const INBOX: KeyValue = KeyValue("inbox");
/// Owner: the account. Key: see [`marks`]. Value: [`Mark`].
pub(super) const SEEN: KeyValue = KeyValue("seen");

/// A message that is accepted and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// Rises in the order of arrival.
    pub(super) number: String,
    pub(super) inbound: Inbound,
    pub(super) standing: Standing,
    /// Ids of messages that the person may see already, shown by a turn that did not come to its end or by the answer that a
    /// correction asks anew. The answer replaces them (XEP-0308), in this order.
    #[serde(default)]
    pub(super) visible: Vec<String>,
}

impl Waiting {
    pub(super) fn put(&self) -> Batch {
        // Serialising plain data to JSON cannot fail; an empty value would be skipped when it is read.
        let value = serde_json::to_vec(self).unwrap_or_default();
        Batch::new().put(INBOX, &self.inbound.account, &self.number, value)
    }

    pub(super) fn delete(&self) -> Batch {
        Batch::new().delete(INBOX, &self.inbound.account, &self.number)
    }

    /// Whether it has not been ended.
    pub(super) async fn is_stored(&self, storage: &Storage) -> Result<bool> {
        let stored = storage.get(INBOX, &self.inbound.account, &self.number);
        Ok(stored.await?.is_some())
    }

    /// Old enough, on arrival, to be joined with others of its kind: from the archive and sent over an hour ago.
    pub(super) fn is_stale(&self) -> bool {
        const HOUR: i64 = 3_600_000;
        let sent = self.inbound.delayed.unwrap_or(self.inbound.at);
        self.inbound.catch_up && self.inbound.at.saturating_sub(sent) > HOUR
    }
}

/// Everything of an account that is accepted and not ended, oldest first.
pub(super) async fn pending(storage: &Storage, account: &str) -> Result<Vec<Waiting>> {
    let entries = storage.list(INBOX, account, "").await?;
    Ok(entries
        .into_iter()
        .filter_map(|(number, value)| match serde_json::from_slice(&value) {
            Ok(waiting) => Some(waiting),
            Err(err) => {
                tracing::error!(%number, "An inbox entry cannot be read: {err}");
                None
            }
        })
        .collect())
}

/// Hands out numbers that rise, also when the clock steps back within a process.
#[derive(Debug, Default)]
pub(crate) struct Numbers(AtomicI64);

impl Numbers {
    pub(crate) fn next(&self) -> String {
        let now = now().saturating_mul(1000);
        let last = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(now.max(last.saturating_add(1)))
            })
            .unwrap_or(now);
        format!("{:020}", now.max(last.saturating_add(1)))
    }
}

/// Owner: the account. Key: [`command_key`]. Value: the [`Inbound`] of a command that has not been answered.
const COMMANDS: KeyValue = KeyValue("commands");

fn command_key(inbound: &Inbound) -> String {
    let id = inbound.ids.id.as_deref().unwrap_or_default();
    format!("{:020}\t{}\t{id}", inbound.at, inbound.sender.from)
}

/// Notes that a command runs.
pub(super) fn begun(inbound: &Inbound) -> Batch {
    let value = serde_json::to_vec(inbound).unwrap_or_default();
    Batch::new().put(COMMANDS, &inbound.account, &command_key(inbound), value)
}

/// It has been answered.
pub(super) fn done(inbound: &Inbound) -> Batch {
    Batch::new().delete(COMMANDS, &inbound.account, &command_key(inbound))
}

/// Commands that were never answered, oldest first.
pub(super) async fn commands(storage: &Storage, account: &str) -> Result<Vec<Inbound>> {
    let entries = storage.list(COMMANDS, account, "").await?;
    let read = |(_, value): (String, Vec<u8>)| serde_json::from_slice(&value).ok();
    Ok(entries.into_iter().filter_map(read).collect())
}

/// What is kept of a message that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    stanza_id: Option<String>,
    pub(super) thread: Option<String>,
    /// Of the body.
    hash: String,
}

impl Mark {
    fn of(inbound: &Inbound) -> Self {
        let digest = Sha256::digest(inbound.body.as_bytes());
        Self {
            stanza_id: inbound.ids.stanza_id.clone(),
            thread: inbound.thread.clone(),
            hash: digest
                .iter()
                .take(8)
                .fold(String::new(), |hash, byte| hash + &format!("{byte:02x}")),
        }
    }
}

/// How a message can be known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Origin,
    Stanza,
    Id,
}

/// The store's keys of a message. `by` of a stanza-id is the room, or the account's own server for everything else; there
/// it stands beside the person, as ejabberd gives messages of one microsecond the same.
fn marks(place: &Place, sender: &Sender, ids: &Ids) -> Vec<(Known, String)> {
    let writer = match place {
        Place::Direct(jid) => jid.to_string(),
        Place::Room(_) | Place::RoomPrivate(_) => sender
            .occupant_id
            .clone()
            .unwrap_or_else(|| sender.from.to_string()),
    };
    let by = match place {
        Place::Room(room) => room.to_string(),
        Place::Direct(_) | Place::RoomPrivate(_) => format!("\t{writer}"),
    };
    let place = place_name(place);
    let mut marks = Vec::new();
    if let Some(id) = &ids.origin_id {
        marks.push((Known::Origin, format!("origin\t{place}\t{writer}\t{id}")));
    }
    if let Some(id) = &ids.stanza_id {
        marks.push((Known::Stanza, format!("stanza\t{by}\t{id}")));
    }
    if let Some(id) = &ids.id {
        marks.push((Known::Id, format!("id\t{place}\t{writer}\t{id}")));
    }
    marks
}

/// Why a message with one key in common is the same one.
fn reason(known: Known, old: &Mark, new: &Mark) -> Option<&'static str> {
    match known {
        Known::Origin => Some("its origin-id was seen before"),
        // Of one microsecond there may be two of one person, too.
        Known::Stanza => (old.hash == new.hash).then_some("its stanza-id was seen before"),
        // There are clients that count their ids from one after each start: another archive id and another text is
        // another message.
        Known::Id => {
            let differs = old.stanza_id.is_some()
                && new.stanza_id.is_some()
                && old.stanza_id != new.stanza_id;
            (!differs || old.hash == new.hash).then_some("its id was seen before")
        }
    }
}

/// Writes the marks of a message together with `batch`, or says why it is a duplicate; then nothing is written.
pub(super) async fn mark(
    storage: &Storage,
    inbound: &Inbound,
    batch: Batch,
) -> Result<Option<&'static str>> {
    let new = Mark::of(inbound);
    let value = serde_json::to_vec(&new).unwrap_or_default();
    let marks = marks(&inbound.place, &inbound.sender, &inbound.ids);
    let owner = &inbound.account;
    let fresh = marks.iter().fold(batch.clone(), |batch, (_, key)| {
        batch.put_new(SEEN, owner, key, value.clone())
    });
    match storage.commit(fresh).await {
        Ok(_) => return Ok(None),
        Err(Error::Taken { .. }) => {}
        Err(err) => return Err(err),
    }
    for (known, key) in &marks {
        if let Some(old) = storage.get(SEEN, owner, key).await? {
            let old = serde_json::from_slice(&old).unwrap_or_default();
            if let Some(reason) = reason(*known, &old, &new) {
                return Ok(Some(reason));
            }
        }
    }
    let again = marks.iter().fold(batch, |batch, (_, key)| {
        batch.put(SEEN, owner, key, value.clone())
    });
    storage.commit(again).await?;
    Ok(None)
}

/// The thread of a message that was seen, which a retraction or correction of it need not repeat. `None`: not seen.
pub(super) async fn thread_of(
    storage: &Storage,
    inbound: &Inbound,
    id: &str,
) -> Result<Option<Option<String>>> {
    let ids = Ids {
        id: Some(id.into()),
        origin_id: Some(id.into()),
        stanza_id: Some(id.into()),
    };
    for (_, key) in marks(&inbound.place, &inbound.sender, &ids) {
        if let Some(mark) = storage.get(SEEN, &inbound.account, &key).await? {
            let mark: Mark = serde_json::from_slice(&mark).unwrap_or_default();
            return Ok(Some(mark.thread));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{memory, text};
    use super::*;

    #[tokio::test]
    async fn a_message_is_known_again_by_any_of_its_ids_unless_the_client_counts_from_one() {
        struct Case {
            name: &'static str,
            first: (
                Option<&'static str>,
                Option<&'static str>,
                Option<&'static str>,
                &'static str,
            ),
            second: (
                Option<&'static str>,
                Option<&'static str>,
                Option<&'static str>,
                &'static str,
            ),
            duplicate: bool,
        }
        let cases = [
            Case {
                name: "the same stanza again",
                first: (Some("1"), None, None, "hi"),
                second: (Some("1"), None, None, "hi"),
                duplicate: true,
            },
            Case {
                name: "live without, then archived with a stanza-id",
                first: (Some("1"), None, None, "hi"),
                second: (Some("1"), None, Some("s"), "hi"),
                duplicate: true,
            },
            Case {
                name: "sent again by the client after a reconnect, archived twice",
                first: (Some("1"), Some("o"), Some("s"), "hi"),
                second: (Some("1"), Some("o"), Some("t"), "hi"),
                duplicate: true,
            },
            Case {
                name: "same archive id under another stanza id",
                first: (Some("1"), None, Some("s"), "hi"),
                second: (Some("2"), None, Some("s"), "hi"),
                duplicate: true,
            },
            Case {
                name: "two messages of one microsecond, which ejabberd gives one archive id",
                first: (Some("1"), Some("o"), Some("s"), "hi"),
                second: (Some("2"), Some("p"), Some("s"), "something else"),
                duplicate: false,
            },
            Case {
                name: "a client that counts from one after a start",
                first: (Some("1"), None, Some("s"), "hi"),
                second: (Some("1"), None, Some("t"), "something else"),
                duplicate: false,
            },
            Case {
                name: "no ids at all",
                first: (None, None, None, "hi"),
                second: (None, None, None, "hi"),
                duplicate: false,
            },
        ];
        for case in cases {
            let storage = memory();
            let message =
                |(id, origin, stanza, body): (Option<&str>, Option<&str>, Option<&str>, &str)| {
                    let mut inbound = text("alice@example.com/a", "x", body);
                    inbound.ids = Ids {
                        id: id.map(Into::into),
                        origin_id: origin.map(Into::into),
                        stanza_id: stanza.map(Into::into),
                    };
                    inbound
                };
            let first = mark(&storage, &message(case.first), Batch::new())
                .await
                .unwrap();
            assert_eq!(first, None, "{}", case.name);
            let second = mark(&storage, &message(case.second), Batch::new())
                .await
                .unwrap();
            assert_eq!(second.is_some(), case.duplicate, "{}", case.name);
        }
    }

    #[tokio::test]
    async fn the_same_ids_from_another_writer_are_another_message() {
        let storage = memory();
        for from in ["alice@example.com/a", "bob@example.com/b"] {
            let mut inbound = text(from, "1", "hi");
            inbound.ids.stanza_id = Some("s".into());
            let seen = mark(&storage, &inbound, Batch::new()).await.unwrap();
            assert_eq!(seen, None, "{from}");
        }
    }

    #[test]
    fn numbers_rise() {
        let numbers = Numbers::default();
        let drawn: Vec<_> = (0..1000).map(|_| numbers.next()).collect();
        assert!(drawn.is_sorted());
        let mut unique = drawn.clone();
        unique.dedup();
        assert_eq!(unique.len(), 1000);
    }
}
