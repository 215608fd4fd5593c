//! What commands do with one conversation: its sessions, its turn, its settings.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::actor::Event;
use super::choose::ModelChoice;
use super::compaction::{self, estimate, estimate_messages};
use super::history::{self, HISTORY, Line, Session, Settings, Stored};
use super::inner::{Inner, system, window};
use super::key::Key;
use super::summary::Compaction;
use super::{choose, settle};
use crate::gateway::{Inbound, now};
use crate::llm::ModelId;
use crate::storage::{Batch, Result};

/// One conversation, for commands. Get it from [`super::Conversations::chat`].
#[derive(Clone)]
pub struct Chat {
    inner: Arc<Inner>,
    key: Key,
}

/// One session of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub id: String,
    /// As set, else the first line of the first message; empty before that.
    pub title: String,
    /// Milliseconds since 1970.
    pub created: i64,
    pub current: bool,
}

/// What the model sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextInfo {
    pub model: ModelId,
    /// Messages of the session that are sent to the model.
    pub messages: usize,
    /// Messages that a compaction has replaced by a summary, and those of turns that failed.
    pub left_out: usize,
    /// Estimated tokens of instructions and messages.
    pub tokens: u64,
    /// Tokens; 0: unknown.
    pub window: u32,
    pub system: String,
}

impl Chat {
    pub(super) fn new(inner: Arc<Inner>, key: Key) -> Self {
        Self { inner, key }
    }

    fn info(session: Session, current: &str) -> SessionInfo {
        SessionInfo {
            current: session.id == current,
            id: session.id,
            title: session.title,
            created: session.created,
        }
    }

    async fn lines(&self) -> Result<(Session, Vec<Stored>)> {
        let session = self.inner.session(&self.key).await?;
        let lines = history::lines(&self.inner.storage, &session.id).await?;
        Ok((session, lines))
    }

    /// `/new`: moves the pointer to a fresh session; nothing is deleted.
    pub async fn new_session(&self, title: Option<&str>) -> Result<SessionInfo> {
        let session = Session::new(title);
        let batch = session.put(&self.key).and(session.make_current(&self.key));
        self.inner.storage.commit(batch).await?;
        let id = session.id.clone();
        Ok(Self::info(session, &id))
    }

    /// `/clear`: forgets the messages of the current session; says how many.
    pub async fn clear(&self) -> Result<usize> {
        let (session, lines) = self.lines().await?;
        let batch = lines.iter().fold(Batch::new(), |batch, stored| {
            batch.remove(HISTORY, &session.id, stored.id)
        });
        self.inner.storage.commit(batch).await?;
        let messages = lines.iter().filter(|stored| stored.line.turn().is_some());
        Ok(messages.count())
    }

    /// `/sessions`: newest first.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>> {
        let current = self.inner.session(&self.key).await?;
        let sessions = history::sessions(&self.inner.storage, &self.key).await?;
        Ok(sessions
            .into_iter()
            .map(|session| Self::info(session, &current.id))
            .collect())
    }

    /// `/sessions N`: makes the Nth (from 1) of [`Self::sessions`] the current one.
    pub async fn switch(&self, number: usize) -> Result<Option<SessionInfo>> {
        let sessions = history::sessions(&self.inner.storage, &self.key).await?;
        let chosen = number
            .checked_sub(1)
            .and_then(|position| sessions.into_iter().nth(position));
        let Some(session) = chosen else {
            return Ok(None);
        };
        let batch = session.make_current(&self.key);
        self.inner.storage.commit(batch).await?;
        let id = session.id.clone();
        Ok(Some(Self::info(session, &id)))
    }

    /// `/title`: of the current session.
    pub async fn title(&self) -> Result<String> {
        Ok(self.inner.session(&self.key).await?.title)
    }

    pub async fn set_title(&self, title: &str) -> Result<()> {
        let mut session = self.inner.session(&self.key).await?;
        session.title = history::title_of(title);
        self.inner.storage.commit(session.put(&self.key)).await?;
        Ok(())
    }

    /// `/fork`: a new session that begins with a copy of the current one.
    pub async fn fork(&self, title: Option<&str>) -> Result<SessionInfo> {
        let (old, lines) = self.lines().await?;
        let mut session = Session::new(title);
        if session.title.is_empty() {
            session.title = old.title;
        }
        let seen = compaction::seen(&lines);
        let summary = seen.0.map(|text| Line::Summary {
            text: text.to_owned(),
            covers: 0,
            at: now(),
        });
        let batch = seen
            .1
            .into_iter()
            .map(|stored| stored.line.clone())
            .chain(summary)
            .fold(Batch::new(), |batch, line| {
                batch.and(line.append(&session.id))
            })
            .and(session.put(&self.key))
            .and(session.make_current(&self.key));
        self.inner.storage.commit(batch).await?;
        let id = session.id.clone();
        Ok(Self::info(session, &id))
    }

    /// `/stop`: the running turn and what waits behind it, in a room only of the same person. The engine tells the person that
    /// it stopped; where this answers `false`, nothing was running and the command says so.
    pub async fn stop(&self, command: &Inbound) -> bool {
        let (reply, answer) = oneshot::channel();
        let sender = Box::new(command.sender.clone());
        self.ask(Event::Stop { sender, reply }, answer).await
    }

    /// `/retry`: the last question again, answered in a new message. `false`: there is none.
    pub async fn retry(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.inner.deliver(&self.key, Event::Retry { reply });
        answer.await.unwrap_or(false)
    }

    async fn ask(&self, event: Event, answer: oneshot::Receiver<bool>) -> bool {
        // What is not in memory does not run.
        if self.inner.handle(&self.key).is_none() {
            return false;
        }
        self.inner.deliver(&self.key, event);
        answer.await.unwrap_or(false)
    }

    /// `/undo`: takes back the last question and its answer; answers the question's text.
    pub async fn undo(&self) -> Result<Option<String>> {
        let (session, lines) = self.lines().await?;
        let Some(turn) = history::last_turn(&lines) else {
            return Ok(None);
        };
        let questions = history::questions_of(&lines, turn);
        let texts: Vec<String> = questions
            .into_iter()
            .map(|(inbound, _)| inbound.body)
            .collect();
        let batch = history::forget(&session.id, &lines, turn);
        self.inner.storage.commit(batch).await?;
        Ok(Some(texts.join("\n")))
    }

    /// `/compact`: now; the estimated tokens before and after.
    pub async fn compact(&self, command: &Inbound) -> Result<(u64, u64)> {
        let (session, mut lines) = self.lines().await?;
        let before = estimate_messages(&compaction::messages(&lines));
        let live = self.inner.live();
        let (model, _) = self.model(command).await?;
        let wanted = Compaction {
            session: &session.id,
            sender: &command.sender.key(),
            model: &model,
            room: before / 2,
            force: true,
            only_shorter: true,
        };
        let summary = self.inner.compact(&live, wanted, &lines).await?;
        lines.extend(summary);
        Ok((before, estimate_messages(&compaction::messages(&lines))))
    }

    /// `/context`, for this sender.
    pub async fn context(&self, inbound: &Inbound) -> Result<ContextInfo> {
        let (_, lines) = self.lines().await?;
        let live = self.inner.live();
        let (model, _) = self.model(inbound).await?;
        let settings = self.settings().await?;
        let system = match self.inner.account(&self.key.account) {
            Some(account) => system(&live, &account, &self.key, &settings, &model)
                .unwrap_or_else(|err| format!("{err:#}")),
            None => String::new(),
        };
        let (_, seen) = compaction::seen(&lines);
        let all = lines
            .iter()
            .filter(|stored| stored.line.turn().is_some())
            .count();
        let tokens = estimate_messages(&compaction::messages(&lines));
        Ok(ContextInfo {
            messages: seen.len(),
            left_out: all.saturating_sub(seen.len()),
            tokens: estimate(&system).saturating_add(tokens),
            window: window(&live, &model),
            system,
            model,
        })
    }

    async fn settings(&self) -> Result<Settings> {
        history::settings(&self.inner.storage, &self.key).await
    }

    async fn change(&self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        let mut settings = self.settings().await?;
        change(&mut settings);
        self.inner.storage.commit(settings.put(&self.key)).await?;
        Ok(())
    }

    /// The model that a turn of this sender would use, and why.
    pub async fn model(&self, inbound: &Inbound) -> Result<(ModelId, ModelChoice)> {
        let live = self.inner.live();
        let settings = self.settings().await?;
        let default = live.models.default_model();
        let Some(account) = live.config.channels.xmpp.get(&self.key.account) else {
            return Ok((default.clone(), ModelChoice::Default));
        };
        let room = self.key.place.room();
        let person = choose::person(inbound);
        Ok(choose::model(
            &settings,
            account,
            room.as_ref(),
            person,
            default,
        ))
    }

    /// `/model`: kept for this chat; `None` goes back to the configuration's.
    pub async fn set_model(&self, model: Option<&ModelId>) -> Result<()> {
        self.change(|settings| settings.model = model.cloned())
            .await
    }

    /// `/system`: this chat's own instructions.
    pub async fn system(&self) -> Result<Option<String>> {
        Ok(self.settings().await?.system)
    }

    pub async fn set_system(&self, text: Option<&str>) -> Result<()> {
        self.change(|settings| settings.system = text.map(ToOwned::to_owned))
            .await
    }

    /// Names of the skills that this chat has taken with `/skill`.
    pub async fn skills(&self) -> Result<Vec<String>> {
        Ok(self.settings().await?.skills)
    }

    /// `/skill name`: `false` where it had it.
    pub async fn add_skill(&self, name: &str) -> Result<bool> {
        if self.skills().await?.iter().any(|known| known == name) {
            return Ok(false);
        }
        self.change(|settings| settings.skills.push(name.to_owned()))
            .await?;
        Ok(true)
    }

    /// `/export`: the current session as Markdown.
    pub async fn export(&self) -> Result<String> {
        let (session, lines) = self.lines().await?;
        let title = if session.title.is_empty() {
            "Conversation"
        } else {
            &session.title
        };
        let mut text = format!("# {title}\n");
        for stored in &lines {
            let (name, at, body) = match &stored.line {
                Line::Asked { inbound, .. } => {
                    (inbound.sender.name(), inbound.at, inbound.body.as_str())
                }
                Line::Answered {
                    text, model, at, ..
                } => {
                    let model = model.as_ref().map(ToString::to_string);
                    (model.unwrap_or_else(|| "moltis".into()), *at, text.as_str())
                }
                Line::Retracted { .. } | Line::Summary { .. } => continue,
            };
            text.extend(["\n## ", &name, ", ", &settle::date(at), "\n\n", body, "\n"]);
        }
        Ok(text)
    }

    /// `/status`: whether a turn runs, and how many messages wait.
    pub fn queue(&self) -> (bool, usize) {
        self.inner.handle(&self.key).map_or((false, 0), |handle| {
            (
                handle.state.running.load(Ordering::Relaxed),
                handle.state.waiting.load(Ordering::Relaxed),
            )
        })
    }
}
