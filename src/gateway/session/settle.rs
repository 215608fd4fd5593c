//! How a turn ends: one atomic write puts the answer's chunks into the outbox and the lines into the history, counts the use, and
//! takes the message off the inbox. Before it nothing has been answered, after it everything has.

use tracing::{debug, error, warn};
use xmpp_parsers::message::Message;

use super::budget::Record;
use super::failure::{self, Reason};
use super::history::{self, Ending, Line, Overheard, Session};
use super::inbox::Waiting;
use super::key::Key;
use super::own::Own;
use super::{Account, Inner};
use crate::gateway::meters::{self, Outcome};
use crate::gateway::reply::outbox::{Chunk, Ticket};
use crate::gateway::reply::{self, Answers, Draft, Keep};
use crate::gateway::{Inbound, now};
use crate::llm::{ModelId, Usage};
use crate::storage::Batch;

/// What a turn has done so far. Shared with the conversation, which settles it however the turn ends.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Begins the ids of its messages.
    pub(super) turn: String,
    /// Ids of messages that the person may see and that the answer replaces.
    pub(super) visible: Vec<String>,
    /// Of the first message where this turn itself has shown it; it can be taken back until it is sent.
    pub(super) ticket: Option<Ticket>,
    /// How many steps of the growing text were shown.
    pub(super) edits: usize,
    pub(super) text: String,
    pub(super) session: Option<Session>,
    /// Texts of files, by the position of their message.
    pub(super) read: Vec<(usize, String)>,
    pub(super) context: Vec<Overheard>,
    pub(super) model: Option<ModelId>,
    pub(super) usage: Usage,
    /// What the person is told below the answer.
    pub(super) notes: Vec<String>,
    /// Messages that follow the answer: files.
    pub(super) files: Vec<Message>,
}

impl Progress {
    pub(super) fn new(entries: &[Waiting]) -> Self {
        Self {
            turn: history::random_id(),
            visible: entries
                .iter()
                .flat_map(|entry| entry.visible.iter().cloned())
                .collect(),
            ..Self::default()
        }
    }

    /// What the person sees or will see, once nothing more is shown: a first message still waiting is taken back.
    pub(super) fn seen(&self) -> Vec<String> {
        match &self.ticket {
            Some(ticket) if ticket.take_back() => Vec::new(),
            _ => self.visible.clone(),
        }
    }
}

/// How a turn ends.
#[derive(Debug)]
pub(super) enum End {
    /// With the text, and a note below it.
    Answer(Option<&'static str>),
    Stopped,
    Failed(Reason),
    /// The person took the question back: nothing is said, but what is seen already is taken back too.
    Withdrawn,
}

/// What is said, and how it is remembered.
fn words(end: &End, text: &str) -> (String, Ending) {
    let below = |note: &str| {
        if text.trim().is_empty() {
            note.to_owned()
        } else {
            format!("{}\n\n{note}", text.trim_end())
        }
    };
    match end {
        End::Answer(None) => (text.to_owned(), Ending::Answer),
        End::Answer(Some(note)) => (below(note), Ending::Answer),
        End::Stopped if text.trim().is_empty() => ("Stopped.".into(), Ending::Error),
        End::Stopped => (below("(stopped)"), Ending::Stopped),
        End::Failed(reason) => {
            let (line, id) = failure::line(reason);
            warn!(%id, "A turn failed: {reason:?}");
            let ending = if text.trim().is_empty() {
                Ending::Error
            } else {
                Ending::Stopped
            };
            (below(&line), ending)
        }
        End::Withdrawn => ("(taken back)".into(), Ending::Error),
    }
}

/// Counts a turn.
fn measure(key: &Key, entries: &[Waiting], progress: &Progress, end: &End) {
    let outcome = match end {
        End::Answer(_) => Outcome::Answered,
        End::Stopped => Outcome::Stopped,
        End::Failed(_) => Outcome::Failed,
        End::Withdrawn => Outcome::Withdrawn,
    };
    let took = entries.first().map_or(0, |entry| now() - entry.inbound.at);
    meters::turn(&key.account, outcome, took);
    if let Some(model) = &progress.model {
        meters::used(model, &progress.usage);
    }
}

/// Ends the turn of `entries`. The answer is on its way when this returns; true: it says `active` itself.
pub(super) async fn settle(
    inner: &Inner,
    key: &Key,
    entries: &[Waiting],
    progress: &Progress,
    end: End,
) -> bool {
    let Some(account) = inner.account(&key.account) else {
        // Taken out of the configuration under way; the inbox keeps the message.
        warn!(account = %key.account, "A turn ended without its account");
        return false;
    };
    let visible = progress.seen();
    let silent = matches!(end, End::Withdrawn) && visible.is_empty();
    let (text, ending) = words(&end, &progress.text);
    measure(key, entries, progress, &end);
    let bodies = if silent {
        Vec::new()
    } else {
        let notes = progress.notes.iter().map(|note| format!("\n\n⚠ {note}"));
        reply::render(
            &notes.fold(text.clone(), |text, note| text + &note),
            &account.config,
        )
    };
    let last = entries.last().map(|entry| &entry.inbound);
    let said = Said {
        key,
        turn: &progress.turn,
        visible: &visible,
        bodies: &bodies,
        files: &progress.files,
        answers: last.and_then(Answers::to),
    };
    let (chunks, ids) = said.chunks(inner, &account);
    let own = Own {
        key: key.clone(),
        turn: Some(progress.turn.clone()),
        sender: last.map(|inbound| inbound.sender.clone()),
    };
    let done = entries
        .iter()
        .fold(Batch::new(), |batch, entry| batch.and(entry.delete()));
    let cost = progress
        .model
        .as_ref()
        .and_then(|model| inner.live().models.cost(model, &progress.usage));
    let mut batch = chunks
        .iter()
        .fold(done.clone(), |batch, chunk| batch.and(chunk.put()))
        .and(own.put(&progress.turn, &ids))
        .and(usage(inner, entries, progress, cost).await);
    if !matches!(end, End::Withdrawn)
        && let Some(session) = &progress.session
    {
        let said = Answered {
            text: &text,
            ending,
            cost,
            messages: ids,
        };
        batch = batch.and(lines(&session.id, entries, progress, said));
        if let Some(first) = entries.first() {
            batch = batch.and(inner.title(key, session, &first.inbound).await);
        }
    }
    if let Err(err) = inner.storage.commit(batch).await {
        // The person is answered all the same; only a restart may repeat it.
        error!("An answer could not be stored: {err}");
        if let Err(err) = inner.storage.commit(done).await {
            error!("Nor could its question be taken off the inbox: {err}");
        }
    }
    debug!(turn = %progress.turn, place = %key.place.address(), messages = chunks.len(), ?ending, "A turn ended");
    account.outbox.keep(chunks);
    !bodies.is_empty() && account.config.chat_states
}

struct Answered<'a> {
    text: &'a str,
    ending: Ending,
    cost: Option<f64>,
    messages: Vec<String>,
}

/// The lines of the history.
fn lines(session: &str, entries: &[Waiting], progress: &Progress, said: Answered<'_>) -> Batch {
    let asked = entries
        .iter()
        .enumerate()
        .map(|(position, entry)| Line::Asked {
            turn: progress.turn.clone(),
            inbound: Box::new(entry.inbound.clone()),
            standing: entry.standing,
            context: if position == 0 {
                progress.context.clone()
            } else {
                Vec::new()
            },
            files: progress
                .read
                .iter()
                .filter(|(of, _)| *of == position)
                .map(|(_, text)| text.clone())
                .collect(),
        });
    let answered = Line::Answered {
        turn: progress.turn.clone(),
        text: said.text.to_owned(),
        ending: said.ending,
        model: progress.model.clone(),
        usage: progress.usage,
        cost: said.cost,
        at: now(),
        messages: said.messages,
    };
    asked
        .chain([answered])
        .fold(Batch::new(), |batch, line| batch.and(line.append(session)))
}

async fn usage(
    inner: &Inner,
    entries: &[Waiting],
    progress: &Progress,
    cost: Option<f64>,
) -> Batch {
    let (Some(model), Some(entry)) = (&progress.model, entries.first()) else {
        return Batch::new();
    };
    let record = Record {
        sender: entry.inbound.sender.key(),
        model: model.clone(),
        usage: progress.usage,
        cost,
    };
    inner
        .ledger
        .record(&inner.storage, &record)
        .await
        .unwrap_or_else(|err| {
            error!("What a turn used could not be counted: {err}");
            Batch::new()
        })
}

/// The messages of one answer or notice.
pub(super) struct Said<'a> {
    pub(super) key: &'a Key,
    /// The beginning of their ids.
    pub(super) turn: &'a str,
    /// Replaced by them, in order. What is left over says so, because it cannot be unsent.
    pub(super) visible: &'a [String],
    pub(super) bodies: &'a [String],
    pub(super) files: &'a [Message],
    pub(super) answers: Option<Answers>,
}

impl Said<'_> {
    /// The chunks, and the ids by which the person's client knows the messages.
    pub(super) fn chunks(&self, inner: &Inner, account: &Account) -> (Vec<Chunk>, Vec<String>) {
        const LEFT_OVER: &str = "(see above)";
        let left_over = self.visible.len().saturating_sub(self.bodies.len());
        let bodies = self.bodies.iter().map(String::as_str);
        let bodies: Vec<&str> = if self.bodies.is_empty() {
            Vec::new()
        } else {
            bodies
                .chain(std::iter::repeat_n(LEFT_OVER, left_over))
                .collect()
        };
        let mut ids = Vec::new();
        let mut chunks = Vec::new();
        for (position, body) in bodies.iter().enumerate() {
            let replaces = self.visible.get(position).cloned();
            let id = match (&replaces, position) {
                (Some(_), _) => format!("{}.f{position}", self.turn),
                (None, 0) => self.turn.to_owned(),
                (None, _) => format!("{}.{position}", self.turn),
            };
            ids.push(replaces.clone().unwrap_or_else(|| id.clone()));
            let is_last = position + 1 == bodies.len() && self.files.is_empty();
            let draft = Draft {
                place: &self.key.place,
                thread: self.key.thread.as_deref(),
                id,
                replaces,
                body,
                answers: self.answers.as_ref().filter(|_| position == 0),
                keep: Keep::Yes,
                state: (is_last && account.config.chat_states).then_some("active"),
                styled: account.config.styling,
            };
            chunks.push(self.chunk(inner, reply::build(draft)));
        }
        for (position, file) in self.files.iter().enumerate() {
            let id = format!("{}.u{position}", self.turn);
            ids.push(id.clone());
            let message = reply::identify(file.clone(), id, self.key.thread.as_deref());
            chunks.push(self.chunk(inner, message));
        }
        (chunks, ids)
    }

    fn chunk(&self, inner: &Inner, message: Message) -> Chunk {
        let number = inner.numbers.next();
        Chunk::new(number, &self.key.account, &self.key.place, message)
    }
}

/// Says a text outside of turns: styled, cut, and durable together with `also`.
pub(super) async fn say(
    inner: &Inner,
    key: &Key,
    text: &str,
    inbound: Option<&Inbound>,
    visible: &[String],
    also: Batch,
) -> crate::storage::Result<()> {
    let Some(account) = inner.account(&key.account) else {
        warn!(account = %key.account, "Nothing can be said: there is no such account");
        return inner.storage.commit(also).await.map(drop);
    };
    let bodies = reply::render(text, &account.config);
    post(inner, &account, key, (&bodies, &[]), inbound, visible, also).await
}

/// Sends the message that shares a file.
pub(super) async fn share(
    inner: &Inner,
    account: &Account,
    key: &Key,
    file: Message,
) -> crate::storage::Result<()> {
    post(inner, account, key, (&[], &[file]), None, &[], Batch::new()).await
}

/// Bodies, then files, into the outbox.
async fn post(
    inner: &Inner,
    account: &Account,
    key: &Key,
    (bodies, files): (&[String], &[Message]),
    inbound: Option<&Inbound>,
    visible: &[String],
    also: Batch,
) -> crate::storage::Result<()> {
    let id = history::random_id();
    let said = Said {
        key,
        turn: &id,
        visible,
        bodies,
        files,
        answers: inbound.and_then(Answers::to),
    };
    let (chunks, ids) = said.chunks(inner, account);
    let own = Own {
        key: key.clone(),
        turn: None,
        sender: inbound.map(|inbound| inbound.sender.clone()),
    };
    let batch = chunks
        .iter()
        .fold(also.and(own.put(&id, &ids)), |batch, chunk| {
            batch.and(chunk.put())
        });
    let stored = inner.storage.commit(batch).await;
    account.outbox.keep(chunks);
    stored.map(drop)
}

/// `2026-11-20 10:37 UTC`.
pub(super) fn date(at: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    time::OffsetDateTime::from_unix_timestamp(at.div_euclid(1000))
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| "long ago".into())
}
