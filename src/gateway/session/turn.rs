//! One turn: wait for a free place, check the budgets, ask the model, and show the text while it grows. What it did is in its
//! [`Progress`]; how it ends is the conversation's to write (`settle.rs`), so that a turn may be dropped at any point.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::compaction::{self, estimate, estimate_messages};
use super::failure::Reason;
use super::history::{self, Settings, Stored};
use super::inbox::Waiting;
use super::key::Key;
use super::own::Own;
use super::settle::Progress;
use super::summary::Compaction;
use super::{Account, Inner, Live, choose};
use crate::gateway::reply::outbox::Ticket;
use crate::gateway::reply::stream::{self, Pace};
use crate::gateway::reply::{self, Answers, Draft, Keep, MOST_CHARACTERS};
use crate::llm::{Error, Event, Finish, ModelId, Part, Request, Usage};

/// A file that takes longer is not waited for.
const UPLOAD: Duration = Duration::from_secs(30);

pub(super) type Shared = Arc<Mutex<Progress>>;

/// The one way to look at what a turn has done; a panic in the turn must not hide it.
pub(super) fn look<T>(shared: &Shared, look: impl FnOnce(&mut Progress) -> T) -> T {
    look(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs to the end of the text. Answers the note that belongs below it.
pub(super) async fn run(
    inner: Arc<Inner>,
    key: Key,
    entries: Vec<Waiting>,
    shared: Shared,
) -> Result<Option<&'static str>, Reason> {
    let _permit = inner.permit().await;
    let live = inner.live();
    let account = inner
        .account(&key.account)
        .ok_or_else(|| Reason::Setting("This account is no longer configured.".into()))?;
    let settings = history::settings(&inner.storage, &key);
    let (settings, session) =
        tokio::try_join!(settings, inner.session(&key)).map_err(Reason::Store)?;
    let turn = Turn {
        inner,
        key,
        entries,
        shared,
        live,
        account,
        settings,
        session,
    };
    turn.start().await
}

/// What a turn works with.
pub(super) struct Turn {
    pub(super) inner: Arc<Inner>,
    pub(super) key: Key,
    pub(super) entries: Vec<Waiting>,
    pub(super) shared: Shared,
    pub(super) live: Live,
    pub(super) account: Account,
    pub(super) settings: Settings,
    pub(super) session: history::Session,
}

impl Turn {
    async fn start(self) -> Result<Option<&'static str>, Reason> {
        let last = self
            .entries
            .last()
            .ok_or_else(|| Reason::Setting("There is nothing to answer.".into()))?;
        look(&self.shared, |progress| {
            progress.session = Some(self.session.clone());
        });
        let budget = &self.live.config.budget;
        let refusal = self
            .inner
            .ledger
            .admit(&self.inner.storage, budget, &last.inbound)
            .await;
        if let Some(refusal) = refusal.map_err(Reason::Store)? {
            return Err(Reason::Budget(refusal));
        }
        let (model, _) = choose::model(
            &self.settings,
            &self.account.config,
            self.key.place.room().as_ref(),
            choose::person(&last.inbound),
            self.live.models.default_model(),
        );
        if !self.live.models.serves(&model) {
            return Err(Reason::Setting(format!(
                "The model {model} has no provider in the bot's configuration; choose another with /model."
            )));
        }
        let seconds = self.live.config.chat.turn_timeout_secs.max(1);
        tokio::time::timeout(Duration::from_secs(seconds), self.ask(&model))
            .await
            .unwrap_or(Err(Reason::TurnTimedOut(seconds)))
    }

    /// Asks; where the model refuses the request as too long, the conversation is compacted and it is asked once more.
    async fn ask(&self, model: &ModelId) -> Result<Option<&'static str>, Reason> {
        let storage = &self.inner.storage;
        let mut lines = history::recent(storage, &self.session.id)
            .await
            .map_err(Reason::Store)?;
        let system = self.system(model)?;
        let now = self.question(model).await;
        if let Some(room) = self.too_full(model, &system, &lines, &now) {
            self.compact(model, &mut lines, room, false).await?;
        }
        let mut again = true;
        loop {
            let mut messages = compaction::messages(&lines);
            messages.push(now.clone());
            let chat = &self.live.config.chat;
            let request = Request {
                system: system.clone(),
                messages,
                max_output_tokens: most_output(chat.max_output_tokens, self.window(model)),
                temperature: chat.temperature,
            };
            match self.listen(model, request).await {
                Err(Reason::Model(failure))
                    if again
                        && !failure.partial
                        && matches!(failure.error, Error::ContextTooLong) =>
                {
                    again = false;
                    let room = self.window(model) / 2;
                    if !self.compact(model, &mut lines, room, true).await? {
                        return Err(Reason::Model(failure));
                    }
                    info!(
                        "The model refused the conversation as too long; asking again after compaction"
                    );
                }
                ended => return ended,
            }
        }
    }

    /// False: there was nothing to compact.
    async fn compact(
        &self,
        model: &ModelId,
        lines: &mut Vec<Stored>,
        room: u64,
        force: bool,
    ) -> Result<bool, Reason> {
        let sender = self
            .entries
            .first()
            .map(|entry| entry.inbound.sender.key())
            .unwrap_or_default();
        let summary = self
            .inner
            .compact(
                &self.live,
                Compaction {
                    session: &self.session.id,
                    sender: &sender,
                    model,
                    room,
                    force,
                    only_shorter: false,
                },
                lines,
            )
            .await
            .map_err(Reason::Store)?;
        Ok(match summary {
            Some(summary) => {
                lines.push(summary);
                true
            }
            None => false,
        })
    }

    /// Reads the answer, and shows it growing where that is wanted.
    async fn listen(
        &self,
        model: &ModelId,
        request: Request,
    ) -> Result<Option<&'static str>, Reason> {
        let asked = estimate(&request.system).saturating_add(estimate_messages(&request.messages));
        let mut answer = self.live.models.ask(model, request);
        let shows = stream::is_on(
            &self.account.config,
            &self.key.place,
            self.account.wire.as_ref(),
        );
        let mut pace = Pace::new(&self.account.config);
        let mut characters = 0;
        let mut dirty = false;
        let mut finish = Finish::Complete;
        look(&self.shared, |progress| {
            progress.model = Some(model.clone());
        });
        loop {
            let due = pace.due(characters).filter(|_| shows && dirty);
            tokio::select! {
                biased;
                () = until(due) => {
                    dirty = false;
                    self.step(&mut pace).await;
                }
                event = answer.next() => match event {
                    Some(Ok(Event::Part(Part::Text(text)))) => {
                        characters += text.chars().count();
                        dirty = true;
                        look(&self.shared, |progress| progress.text.push_str(&text));
                        if characters > MOST_CHARACTERS {
                            warn!("The model's answer was cut: it does not end");
                            break;
                        }
                    }
                    Some(Ok(Event::Part(Part::Thinking(_)))) => {}
                    Some(Ok(Event::Part(Part::ToolCall { name }))) => {
                        info!(tool = %name, "The model asked for a tool that it was not offered");
                    }
                    Some(Ok(Event::Part(Part::Usage(usage)))) => {
                        look(&self.shared, |progress| progress.usage = usage);
                    }
                    Some(Ok(Event::Part(Part::Finish(how)))) => finish = how,
                    Some(Ok(Event::Switched { from, to, reason })) => {
                        warn!(%from, %to, "Another model answers: {reason}");
                        look(&self.shared, |progress| {
                            progress.model = Some(to);
                            progress.usage = Usage::default();
                        });
                    }
                    Some(Err(failure)) => return Err(Reason::Model(failure)),
                    None => break,
                },
            }
        }
        let empty = look(&self.shared, |progress| {
            if progress.usage == Usage::default() {
                // Some servers report nothing; a budget has to count something.
                progress.usage.input = asked;
                progress.usage.output = estimate(&progress.text);
            }
            reply::clean(&progress.text).trim().is_empty()
        });
        if !empty {
            self.upload().await;
        }
        verdict(&finish, empty)
    }

    /// Shows the text as it is now.
    async fn step(&self, pace: &mut Pace) {
        let place = &self.key.place;
        if !self.account.wire.is_ready(place) {
            return;
        }
        let (text, turn) = look(&self.shared, |progress| {
            (progress.text.clone(), progress.turn.clone())
        });
        let chunks = reply::render(&text, &self.account.config);
        let Some(body) = pace.step(&chunks) else {
            return;
        };
        let fresh = look(&self.shared, |progress| {
            progress.visible.is_empty() || progress.ticket.as_ref().is_some_and(Ticket::is_lost)
        });
        if fresh && !self.note_first(&turn).await {
            return;
        }
        let (id, replaces, ticket) = look(&self.shared, |progress| {
            if fresh {
                let ticket = Ticket::default();
                progress.ticket = Some(ticket.clone());
                progress.visible = vec![turn.clone()];
                (turn.clone(), None, Some(ticket))
            } else {
                progress.edits += 1;
                let id = format!("{turn}.e{}", progress.edits);
                (id, progress.visible.first().cloned(), None)
            }
        });
        let answers = self
            .entries
            .last()
            .and_then(|entry| Answers::to(&entry.inbound));
        let message = reply::build(Draft {
            place,
            thread: self.key.thread.as_deref(),
            id,
            replaces,
            body: &body,
            answers: answers.as_ref(),
            keep: Keep::No,
            state: self.account.config.chat_states.then_some("composing"),
            styled: self.account.config.styling,
        });
        self.account.outbox.now(place.clone(), message, ticket);
    }

    /// Stores, before the first message is shown, that it may be seen: a second run will correct it.
    async fn note_first(&self, turn: &str) -> bool {
        let Some(first) = self.entries.first() else {
            return false;
        };
        let mut entry = first.clone();
        entry.visible = vec![turn.to_owned()];
        let own = Own {
            key: self.key.clone(),
            turn: Some(turn.to_owned()),
            sender: self
                .entries
                .last()
                .map(|entry| entry.inbound.sender.clone()),
        };
        let batch = entry.put().and(own.put(turn, &entry.visible));
        // Not synced, as the person waits: a loss of power at this moment leaves the unfinished text above the second answer.
        match self.inner.storage.note(batch).await {
            Ok(_) => true,
            Err(err) => {
                debug!("The growing text is not shown: {err}");
                false
            }
        }
    }

    /// A long answer as a file too. Where that fails, the text is all there is, and it is complete.
    async fn upload(&self) {
        let over = self.account.config.upload_long_replies_over;
        let text = look(&self.shared, |progress| progress.text.clone());
        if over == 0 || text.chars().count() <= over {
            return;
        }
        let Some(uploads) = self.account.uploads().await else {
            return;
        };
        let name = format!(
            "{}.md",
            look(&self.shared, |progress| progress.turn.clone())
        );
        let upload = uploads.upload(&name, reply::clean(&text).into());
        match tokio::time::timeout(UPLOAD, upload).await {
            Ok(Ok(file)) => {
                let message = file.message(&self.key.place);
                look(&self.shared, |progress| progress.files.push(message));
            }
            Ok(Err(err)) => warn!("The long answer was not shared as a file: {err}"),
            Err(_elapsed) => {
                warn!("The long answer was not shared as a file: the server is too slow");
            }
        }
    }
}

/// At most half of a known window: the other half is for what the model is asked (Ollama's default window is 4,096 tokens).
fn most_output(configured: u32, window: u64) -> u32 {
    match u32::try_from(window / 2) {
        Ok(half) if half > 0 => configured.min(half),
        _ => configured,
    }
}

/// What the end of the model's text means.
fn verdict(finish: &Finish, empty: bool) -> Result<Option<&'static str>, Reason> {
    match (finish, empty) {
        (Finish::Refused, true) => Err(Reason::Declined),
        (Finish::Refused, false) => Ok(Some("(the model stopped here: it declined to go on)")),
        (Finish::ToolCall, true) => Err(Reason::ToolCall),
        (_, true) => Err(Reason::Empty),
        (Finish::Length, false) => Ok(Some("(cut here: the answer reached its greatest length)")),
        (_, false) => Ok(None),
    }
}

async fn until(due: Option<Instant>) {
    match due {
        // A timer would round up to the next millisecond.
        Some(due) if due <= Instant::now() => {}
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_end_of_the_model_s_is_silent() {
        assert!(matches!(verdict(&Finish::Complete, false), Ok(None)));
        assert!(matches!(
            verdict(&Finish::Complete, true),
            Err(Reason::Empty)
        ));
        assert!(matches!(
            verdict(&Finish::Refused, true),
            Err(Reason::Declined)
        ));
        assert!(matches!(verdict(&Finish::Refused, false), Ok(Some(_))));
        assert!(
            matches!(verdict(&Finish::Length, false), Ok(Some(note)) if note.contains("length"))
        );
        assert!(matches!(
            verdict(&Finish::ToolCall, true),
            Err(Reason::ToolCall)
        ));
    }
}
