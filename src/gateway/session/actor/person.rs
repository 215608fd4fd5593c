//! What persons do to what they have asked: correct it, take it back, react to its answer, stop it.

use std::collections::VecDeque;

use tracing::info;

use super::Actor;
use crate::gateway::session::history::{self, Line, Stored};
use crate::gateway::session::inbox::Waiting;
use crate::gateway::session::settle::{End, Progress, say, settle};
use crate::gateway::session::turn::look;
use crate::gateway::{Sender, now};
use crate::storage::{Batch, Result};

impl Actor {
    /// True: the correction has been dealt with.
    pub(super) async fn correct(&mut self, correction: &Waiting, replaces: &str) -> Result<bool> {
        let is_it = |entry: &Waiting| is_by(entry, replaces, Some(&correction.inbound.sender));
        if let Some(entry) = self.queue.iter_mut().find(|entry| is_it(entry)) {
            amend(entry, correction);
            let batch = entry.put().and(correction.delete());
            self.inner.storage.commit(batch).await?;
            return Ok(true);
        }
        let runs = self
            .running
            .as_ref()
            .map(|running| running.entries.iter().any(is_it));
        if runs == Some(true) {
            let mut entries = self.interrupt();
            let mut batch = correction.delete();
            for entry in &mut entries {
                if is_it(entry) {
                    amend(entry, correction);
                }
                batch = batch.and(entry.put());
            }
            self.begin(entries);
            self.inner.storage.commit(batch).await?;
            return Ok(true);
        }
        let lines = self.lines().await?;
        let sender = &correction.inbound.sender;
        let Some(turn) = history::turn_of(&lines, replaces, Some(sender)).map(ToOwned::to_owned)
        else {
            return Ok(false);
        };
        if history::last_turn(&lines) != Some(&turn) {
            info!("A correction of a message before the last is left alone");
            self.inner.storage.commit(correction.delete()).await?;
            return Ok(true);
        }
        let visible = history::messages_of(&lines, &turn);
        self.ask_again(&lines, &turn, visible, Some((correction, replaces)))
            .await?;
        Ok(true)
    }

    /// Takes a turn out of the history and its questions into the queue, at the front. The answer replaces what is `visible`.
    pub(super) async fn ask_again(
        &mut self,
        lines: &[Stored],
        turn: &str,
        mut visible: Vec<String>,
        correction: Option<(&Waiting, &str)>,
    ) -> Result<()> {
        let session = self.inner.session(&self.key).await?;
        let mut batch = history::forget(&session.id, lines, turn);
        let mut entries = Vec::new();
        for (inbound, standing) in history::questions_of(lines, turn) {
            let mut entry = Waiting {
                number: self.inner.numbers.next(),
                inbound,
                standing,
                visible: std::mem::take(&mut visible),
            };
            if let Some((correction, replaces)) = correction
                && entry.inbound.ids.has(replaces)
            {
                amend(&mut entry, correction);
            }
            batch = batch.and(entry.put());
            entries.push(entry);
        }
        if let Some((correction, _)) = correction {
            batch = batch.and(correction.delete());
        }
        self.inner.storage.commit(batch).await?;
        for entry in entries.into_iter().rev() {
            self.queue.push_front(entry);
        }
        Ok(())
    }

    pub(super) async fn retract(
        &mut self,
        of: &str,
        sender: &Sender,
        moderated: bool,
    ) -> Result<()> {
        let by = (!moderated).then_some(sender);
        let is_it = |entry: &Waiting| is_by(entry, of, by);
        if let Some(position) = self.queue.iter().position(is_it)
            && let Some(entry) = self.queue.remove(position)
        {
            let progress = Progress::new(std::slice::from_ref(&entry));
            settle(&self.inner, &self.key, &[entry], &progress, End::Withdrawn).await;
            return Ok(());
        }
        let runs = self
            .running
            .as_ref()
            .map(|running| running.entries.iter().any(is_it));
        if runs == Some(true) {
            let entries = self.interrupt();
            let (gone, mut left): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_it);
            if let Some(first) = left.first_mut() {
                // The others of a joined turn are still to be answered, in the same message.
                let visible = gone.iter().flat_map(|entry| entry.visible.clone());
                first.visible.splice(0..0, visible);
                let batch = gone
                    .iter()
                    .fold(first.put(), |batch, entry| batch.and(entry.delete()));
                self.begin(left);
                self.inner.storage.commit(batch).await?;
            } else {
                let progress = Progress::new(&gone);
                settle(&self.inner, &self.key, &gone, &progress, End::Withdrawn).await;
            }
            return Ok(());
        }
        if let Some(running) = &self.running {
            look(&running.shared, |progress| {
                progress.context.retain(|line| !line.is(of, by));
            });
        }
        let lines = self.lines().await?;
        let session = self.inner.session(&self.key).await?;
        let batch = match history::turn_of(&lines, of, by) {
            Some(turn) => history::forget(&session.id, &lines, turn),
            None if history::was_overheard(&lines, of, by) => Line::Retracted {
                id: of.to_owned(),
                sender: by.cloned().map(Box::new),
                at: now(),
            }
            .append(&session.id),
            None => Batch::new(),
        };
        if !batch.is_empty() {
            self.inner.storage.commit(batch).await?;
            info!("A retracted message was taken out of the history");
        }
        Ok(())
    }

    pub(super) async fn react(&mut self, turn: &str, emoji: &str) -> Result<()> {
        match emoji.trim_end_matches('\u{fe0f}') {
            "🔁" => {
                let lines = self.lines().await?;
                if history::last_turn(&lines) == Some(turn) {
                    let visible = history::messages_of(&lines, turn);
                    self.ask_again(&lines, turn, visible, None).await?;
                }
            }
            "⏹" => {
                let runs = self.running.as_ref().is_some_and(|running| {
                    look(&running.shared, |progress| {
                        progress.turn == turn || progress.visible.iter().any(|id| id == turn)
                    })
                });
                if runs {
                    self.finish(End::Stopped).await;
                }
            }
            "🗑" => {
                let lines = self.lines().await?;
                let visible = history::messages_of(&lines, turn);
                if !visible.is_empty() {
                    let session = self.inner.session(&self.key).await?;
                    let batch = history::forget(&session.id, &lines, turn);
                    say(&self.inner, &self.key, "(forgotten)", None, &visible, batch).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Stops the turn, and what waits of the same person (in a direct chat: all).
    pub(super) async fn stop(&mut self, sender: &Sender) -> bool {
        let all = !self.key.place.is_room();
        let (stopped, kept): (VecDeque<_>, VecDeque<_>) = self
            .queue
            .drain(..)
            .partition(|entry| all || entry.inbound.sender.is_same(sender));
        self.queue = kept;
        let was = self.running.is_some() || !stopped.is_empty();
        if let Some(running) = &mut self.running {
            running.entries.extend(stopped);
            self.finish(End::Stopped).await;
        } else if !stopped.is_empty() {
            let entries: Vec<Waiting> = stopped.into();
            let progress = Progress::new(&entries);
            settle(&self.inner, &self.key, &entries, &progress, End::Stopped).await;
        }
        was
    }
}

/// Whether a message has this id and, where that matters, this writer.
fn is_by(entry: &Waiting, id: &str, sender: Option<&Sender>) -> bool {
    entry.inbound.ids.has(id) && sender.is_none_or(|sender| sender.is_same(&entry.inbound.sender))
}

/// The ids stay those of the first: that is what later corrections refer to (XEP-0308, 3).
fn amend(entry: &mut Waiting, correction: &Waiting) {
    entry.inbound.body.clone_from(&correction.inbound.body);
    entry
        .inbound
        .attachments
        .clone_from(&correction.inbound.attachments);
}
