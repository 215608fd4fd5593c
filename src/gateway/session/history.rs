//! Sessions and what was said in them. A conversation points to one of its sessions; `/new` moves the pointer. A session's
//! lines are an archive; a turn's lines share its id, so that a turn can be taken back or asked again.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::key::Key;
use crate::gateway::{Attachment, Ids, Inbound, Sender, Standing, now};
use crate::llm::{ModelId, Usage};
use crate::storage::{Archive, Batch, KeyValue, Query, Result, Storage};

/// Owner: the session's id. Value: [`Line`].
pub(super) const HISTORY: Archive = Archive("history");
/// Owner: the conversation. Keys: `current`, which holds one of the others, `settings` and `session/<created>/<id>`.
const SESSIONS: KeyValue = KeyValue("sessions");
const CURRENT: &str = "current";

/// A room's line that was not for the bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Overheard {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) ids: Ids,
    pub(super) sender: Sender,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) attachments: Vec<Attachment>,
    /// When it was said, milliseconds since 1970; matters only until a turn takes it.
    #[serde(skip)]
    pub(super) at: i64,
}

impl Overheard {
    /// Whether it has this id and, where that matters, this sender.
    pub(super) fn is(&self, id: &str, sender: Option<&Sender>) -> bool {
        self.ids.has(id) && sender.is_none_or(|sender| sender.is_same(&self.sender))
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ending {
    Answer,
    Stopped,
    /// An error line: neither it nor its question is shown to the model later.
    Error,
}

/// One entry of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub(super) enum Line {
    Asked {
        turn: String,
        inbound: Box<Inbound>,
        standing: Standing,
        context: Vec<Overheard>,
        /// The texts of the files that came with it.
        #[serde(default)]
        files: Vec<String>,
    },
    Answered {
        turn: String,
        text: String,
        ending: Ending,
        model: Option<ModelId>,
        usage: Usage,
        /// USD; `None`: the price is not known.
        cost: Option<f64>,
        at: i64,
        /// Ids of the messages that the person sees.
        messages: Vec<String>,
    },
    /// A message that was overheard is taken back: by its sender, or by anybody where there is none.
    Retracted {
        id: String,
        sender: Option<Box<Sender>>,
        at: i64,
    },
    /// Stands for all lines up to the entry `covers`.
    Summary { text: String, covers: u64, at: i64 },
}

impl Line {
    pub(super) fn turn(&self) -> Option<&str> {
        match self {
            Self::Asked { turn, .. } | Self::Answered { turn, .. } => Some(turn),
            Self::Retracted { .. } | Self::Summary { .. } => None,
        }
    }

    pub(super) fn append(&self, session: &str) -> Batch {
        let at = match self {
            Self::Asked { inbound, .. } => inbound.at,
            Self::Answered { at, .. } | Self::Retracted { at, .. } | Self::Summary { at, .. } => {
                *at
            }
        };
        Batch::new().append(HISTORY, session, at, json(self))
    }
}

/// A line and its position in the archive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) id: u64,
    pub(super) line: Line,
}

/// All lines of a session, oldest first.
pub(super) async fn lines(storage: &Storage, session: &str) -> Result<Vec<Stored>> {
    select(storage, session, Query::default()).await
}

/// What a turn may look at: a room's session of years is not read whole for every question.
pub(super) async fn recent(storage: &Storage, session: &str) -> Result<Vec<Stored>> {
    let query = Query {
        newest: true,
        limit: 1_000,
        ..Query::default()
    };
    select(storage, session, query).await
}

async fn select(storage: &Storage, session: &str, query: Query) -> Result<Vec<Stored>> {
    let entries = storage.query(HISTORY, session, query).await?;
    let mut lines: Vec<Stored> = entries
        .into_iter()
        .filter_map(|entry| {
            Some(Stored {
                id: entry.id,
                line: read(&entry.value)?,
            })
        })
        .collect();
    retract(&mut lines);
    Ok(lines)
}

/// Drops what was overheard and then taken back.
fn retract(lines: &mut [Stored]) {
    let retracted: Vec<(String, Option<Box<Sender>>)> = lines
        .iter()
        .filter_map(|stored| match &stored.line {
            Line::Retracted { id, sender, .. } => Some((id.clone(), sender.clone())),
            _ => None,
        })
        .collect();
    for stored in lines {
        if let Line::Asked { context, .. } = &mut stored.line {
            context.retain(|line| {
                !retracted
                    .iter()
                    .any(|(id, sender)| line.is(id, sender.as_deref()))
            });
        }
    }
}

/// Takes back every line of a turn.
pub(super) fn forget(session: &str, lines: &[Stored], turn: &str) -> Batch {
    lines
        .iter()
        .filter(|stored| stored.line.turn() == Some(turn))
        .fold(Batch::new(), |batch, stored| {
            batch.remove(HISTORY, session, stored.id)
        })
}

/// Whether a turn was told this line of a room.
pub(super) fn was_overheard(lines: &[Stored], id: &str, sender: Option<&Sender>) -> bool {
    lines.iter().any(|stored| match &stored.line {
        Line::Asked { context, .. } => context.iter().any(|line| line.is(id, sender)),
        _ => false,
    })
}

/// The turn of the last question.
pub(super) fn last_turn(lines: &[Stored]) -> Option<&str> {
    lines.iter().rev().find_map(|stored| match &stored.line {
        Line::Asked { turn, .. } => Some(turn.as_str()),
        _ => None,
    })
}

/// The turn that a message of this sender with this id began.
pub(super) fn turn_of<'a>(
    lines: &'a [Stored],
    id: &str,
    sender: Option<&Sender>,
) -> Option<&'a str> {
    lines.iter().rev().find_map(|stored| match &stored.line {
        Line::Asked { turn, inbound, .. }
            if inbound.ids.has(id)
                && sender.is_none_or(|sender| sender.is_same(&inbound.sender)) =>
        {
            Some(turn.as_str())
        }
        _ => None,
    })
}

/// Ids of the messages that a turn's answer is seen in.
pub(super) fn messages_of(lines: &[Stored], turn: &str) -> Vec<String> {
    lines
        .iter()
        .find_map(|stored| match &stored.line {
            Line::Answered {
                turn: of, messages, ..
            } if of == turn => Some(messages.clone()),
            _ => None,
        })
        .unwrap_or_default()
}

/// The questions of a turn.
pub(super) fn questions_of(lines: &[Stored], turn: &str) -> Vec<(Inbound, Standing)> {
    lines
        .iter()
        .filter_map(|stored| match &stored.line {
            Line::Asked {
                turn: of,
                inbound,
                standing,
                ..
            } if of == turn => Some(((**inbound).clone(), *standing)),
            _ => None,
        })
        .collect()
}

/// What is kept of a session besides its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) created: i64,
}

impl Session {
    pub(super) fn new(title: Option<&str>) -> Self {
        Self {
            id: random_id(),
            title: title.map(title_of).unwrap_or_default(),
            created: now(),
        }
    }

    fn name(&self) -> String {
        format!("session/{:020}/{}", self.created, self.id)
    }

    pub(super) fn put(&self, key: &Key) -> Batch {
        Batch::new().put(SESSIONS, &key.to_string(), &self.name(), json(self))
    }

    pub(super) fn make_current(&self, key: &Key) -> Batch {
        let name = self.name().into_bytes();
        Batch::new().put(SESSIONS, &key.to_string(), CURRENT, name)
    }
}

/// The session that a conversation points to.
pub(super) async fn current(storage: &Storage, key: &Key) -> Result<Option<Session>> {
    let owner = key.to_string();
    let Some(name) = storage.get(SESSIONS, &owner, CURRENT).await? else {
        return Ok(None);
    };
    let name = String::from_utf8(name).unwrap_or_default();
    let stored = storage.get(SESSIONS, &owner, &name).await?;
    Ok(stored.and_then(|value| read(&value)))
}

/// A session as it is stored now.
pub(super) async fn session(
    storage: &Storage,
    key: &Key,
    session: &Session,
) -> Result<Option<Session>> {
    let stored = storage
        .get(SESSIONS, &key.to_string(), &session.name())
        .await?;
    Ok(stored.and_then(|value| read(&value)))
}

/// Newest first.
pub(super) async fn sessions(storage: &Storage, key: &Key) -> Result<Vec<Session>> {
    let stored = storage.list(SESSIONS, &key.to_string(), "session/").await?;
    Ok(stored
        .into_iter()
        .rev()
        .filter_map(|(_, value)| read(&value))
        .collect())
}

/// What is set for a conversation, whichever its session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) model: Option<ModelId>,
    pub(super) system: Option<String>,
    pub(super) skills: Vec<String>,
}

impl Settings {
    pub(super) fn put(&self, key: &Key) -> Batch {
        Batch::new().put(SESSIONS, &key.to_string(), "settings", json(self))
    }
}

pub(super) async fn settings(storage: &Storage, key: &Key) -> Result<Settings> {
    let stored = storage.get(SESSIONS, &key.to_string(), "settings").await?;
    Ok(stored.and_then(|value| read(&value)).unwrap_or_default())
}

/// A title from a text's first line.
pub(super) fn title_of(text: &str) -> String {
    const MOST: usize = 60;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.unwrap_or_default();
    let mut title: String = line.chars().take(MOST).collect();
    if line.chars().count() > MOST {
        title.push('…');
    }
    title
}

/// For sessions, turns and messages: unguessable, and without characters that any client stumbles over.
pub(crate) fn random_id() -> String {
    format!("m{:016x}", rand::random::<u64>())
}

/// Serialising plain data to JSON cannot fail; an empty value is skipped when it is read.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// `None`, with a log line, for what a damaged or newer store holds.
pub(super) fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value)
        .inspect_err(|err| tracing::error!("A stored value cannot be read: {err}"))
        .ok()
}
