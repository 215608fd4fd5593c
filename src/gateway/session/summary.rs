//! Carries out a compaction: a model writes the summary, or an outline is made without one, and it is stored.

use futures::StreamExt;
use tracing::{info, warn};

use super::budget::Record;
use super::compaction;
use super::history::{Line, Stored};
use super::{Inner, Live};
use crate::config::CompactionMode;
use crate::gateway::{now, prompt};
use crate::llm::{Event, ModelId, Part, Usage};
use crate::storage::Batch;

/// What is to be compacted, and for whom.
pub(super) struct Compaction<'a> {
    pub(super) session: &'a str,
    /// Whose budget a model's summary counts in.
    pub(super) sender: &'a str,
    /// The conversation's: it writes the summary where no other is named.
    pub(super) model: &'a ModelId,
    /// Tokens that the messages may take afterwards.
    pub(super) room: u64,
    pub(super) force: bool,
    /// Nothing is replaced by something longer: of a few short lines the summary is the longer text.
    pub(super) only_shorter: bool,
}

impl Inner {
    /// Replaces what is oldest of a session by a summary. `None`: there is nothing to replace.
    pub(super) async fn compact(
        &self,
        live: &Live,
        wanted: Compaction<'_>,
        lines: &[Stored],
    ) -> crate::storage::Result<Option<Stored>> {
        let settings = &live.config.chat.compaction;
        let mode = settings.mode;
        let Some(plan) = compaction::plan(
            lines,
            mode,
            settings.protect_tail_min,
            wanted.room,
            wanted.force,
        ) else {
            return Ok(None);
        };
        let mut used = Batch::new();
        let mut written = None;
        if mode == CompactionMode::LlmReplace {
            let named = settings.summary_model.parse();
            let model = named.unwrap_or_else(|_| wanted.model.clone());
            let (text, usage) = summarise(live, &model, &plan).await;
            written = text;
            let record = Record {
                sender: wanted.sender.to_owned(),
                cost: live.models.cost(&model, &usage),
                model,
                usage,
            };
            used = self.ledger.record(&self.storage, &record).await?;
        }
        let text = written.unwrap_or_else(|| compaction::outline(&plan));
        if wanted.only_shorter && compaction::estimate(&text) >= plan.tokens() {
            self.storage.commit(used).await?;
            return Ok(None);
        }
        let line = Line::Summary {
            text,
            covers: plan.covers,
            at: now(),
        };
        let batch = line.append(wanted.session).and(used);
        let ids = self.storage.commit(batch).await?;
        info!(
            session = wanted.session,
            replaced = plan.replaced.len(),
            "A conversation was compacted"
        );
        Ok(ids.first().map(|id| Stored { id: *id, line }))
    }
}

/// No text: the model did not write one, and the outline serves.
async fn summarise(
    live: &Live,
    model: &ModelId,
    plan: &compaction::Plan<'_>,
) -> (Option<String>, Usage) {
    let mut request = compaction::request(plan);
    let context = prompt::Context {
        name: live.config.identity.name.clone(),
        date: prompt::today(),
        ..prompt::Context::default()
    };
    match live
        .prompts
        .as_ref()
        .map(|prompts| prompts.compact(&context))
    {
        Some(Ok(system)) => request.system = system,
        Some(Err(err)) => warn!("The prompt of the summary cannot be filled in: {err:#}"),
        None => {}
    }
    let mut answer = live.models.ask(model, request);
    let (mut text, mut usage) = (String::new(), Usage::default());
    while let Some(event) = answer.next().await {
        match event {
            Ok(Event::Part(Part::Text(part))) => text.push_str(&part),
            Ok(Event::Part(Part::Usage(used))) => usage = used,
            Ok(_) => {}
            Err(failure) => {
                warn!("The summary was not written: {failure}");
                return (None, usage);
            }
        }
    }
    ((!text.trim().is_empty()).then_some(text), usage)
}
