//! Our own messages, as replies and reactions refer to them. All ids of one turn's or notice's messages begin alike, up to the
//! first dot, so that one entry knows them all; a room's ids for them are learnt from their echoes.

use serde::{Deserialize, Serialize};

use super::history::{json, read};
use super::key::{Key, place_name};
use crate::gateway::{Place, Sender};
use crate::storage::{Batch, KeyValue, Result, Storage};

/// Owner: the account. Key: an id's beginning. Value: [`Own`].
pub(super) const OWN: KeyValue = KeyValue("own");
/// Owner: the account. Key: the place and its id for the message. Value: the message's id.
pub(super) const ECHOES: KeyValue = KeyValue("echoes");
/// Owner: the account. Key: the turn and the sender. Value: the reactions, last seen.
const FEEDBACK: KeyValue = KeyValue("feedback");

/// What a message of ours belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Own {
    pub(super) key: Key,
    /// `None`: a notice or a command's answer.
    pub(super) turn: Option<String>,
    /// Whom it answers.
    pub(super) sender: Option<Sender>,
}

fn beginning(id: &str) -> &str {
    id.split_once('.').map_or(id, |(beginning, _)| beginning)
}

impl Own {
    /// Remembers messages by their ids. `turn` begins those of the corrections by which older messages became these.
    pub(super) fn put(&self, turn: &str, ids: &[String]) -> Batch {
        let ids = ids.iter().map(|id| beginning(id));
        let mut beginnings: Vec<&str> = ids.chain([turn]).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        beginnings.into_iter().fold(Batch::new(), |batch, id| {
            batch.put(OWN, &self.key.account, id, json(self))
        })
    }
}

/// Finds a message of ours by an id of its own, or by the room's.
pub(super) async fn find(
    storage: &Storage,
    account: &str,
    place: &Place,
    id: &str,
) -> Result<Option<Own>> {
    let echo = format!("{}\t{id}", place_name(place));
    let own = match storage.get(ECHOES, account, &echo).await? {
        Some(own) => String::from_utf8(own).unwrap_or_default(),
        None => id.to_owned(),
    };
    let found = storage.get(OWN, account, beginning(&own)).await?;
    Ok(found.and_then(|value| read(&value)))
}

/// Notes the room's id of a message of ours.
pub(super) async fn echoed(
    storage: &Storage,
    account: &str,
    place: &Place,
    id: &str,
    stanza_id: &str,
) -> Result<()> {
    // Steps of a growing text are not stored by the room and nobody refers to them.
    if id.contains(".e") {
        return Ok(());
    }
    let echo = format!("{}\t{stanza_id}", place_name(place));
    let batch = Batch::new().put(ECHOES, account, &echo, id.into());
    // Lost with the power, a reply to that one message is no longer known as such.
    storage.note(batch).await?;
    Ok(())
}

/// Stores the reactions of a sender to a turn and answers those that are new: XEP-0444 sends the whole set each time.
pub(super) async fn react(
    storage: &Storage,
    account: &str,
    turn: &str,
    sender: &Sender,
    emojis: &[String],
) -> Result<Vec<String>> {
    let key = format!("{turn}\t{}", sender.key());
    let before = storage.get(FEEDBACK, account, &key).await?;
    let before: Vec<String> = before.and_then(|value| read(&value)).unwrap_or_default();
    storage
        .commit(Batch::new().put(FEEDBACK, account, &key, json(&emojis)))
        .await?;
    let new = emojis.iter().filter(|emoji| !before.contains(emoji));
    Ok(new.cloned().collect())
}
