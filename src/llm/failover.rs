//! Asks one model after another until one answers. A model that fails in a way another may not (rate limit, overload,
//! time-out, network) hands over to the next of `failover.fallback_models`; one that failed three times in a row, or was
//! told to wait, rests. Once text has come nothing is retried unseen: the person has read it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, Stream};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::health::Health;
use super::models::Served;
use super::{Error, ModelId, Part, Parts, Request};

/// The first token may take so many times the idle time-out: a model that thinks is silent for long.
const FIRST_TOKEN_FACTOR: u32 = 2;

/// What happens while a question is answered.
#[derive(Clone, Debug)]
pub enum Event {
    Part(Part),
    /// Another model is asked now. What the first said of its usage no longer counts; it said no text.
    Switched {
        from: ModelId,
        to: ModelId,
        reason: Error,
    },
}

/// Why there is no (whole) answer. The last event of its stream.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{model}: {error}")]
pub struct Failure {
    pub model: ModelId,
    pub error: Error,
    /// Text had already come: keep it, and say that it is not whole.
    pub partial: bool,
    /// When it is worth trying again, as far as the models say.
    pub retry_after: Option<Duration>,
}

/// The stream of an answer. Dropping it closes the HTTP request.
pub struct Answer(BoxStream<'static, Result<Event, Failure>>);

impl Stream for Answer {
    type Item = Result<Event, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

/// Whether another model may do what this one failed at.
fn hands_over(error: &Error) -> bool {
    // Credit is per provider.
    error.is_transient() || matches!(error, Error::NoCredit)
}

/// What `Asking` needs of `Models`.
pub(super) trait Directory: Send + Sync + 'static {
    fn served(&self, provider: &str) -> Option<&Served>;
    fn health(&self) -> &Health;
    fn cooldown(&self) -> Duration;
}

/// Starts asking: `candidates` in order, the chosen model first.
pub(super) fn ask<D: Directory>(
    directory: Arc<D>,
    candidates: Vec<ModelId>,
    request: Request,
) -> Answer {
    let asking = Asking {
        directory,
        candidates: candidates.into(),
        request,
        current: None,
        failed: Vec::new(),
        ended: false,
    };
    Answer(
        futures::stream::unfold(asking, |mut asking| async move {
            asking.next().await.map(|event| (event, asking))
        })
        .boxed(),
    )
}

/// One question on its way.
struct Asking<D> {
    directory: Arc<D>,
    /// Not yet asked.
    candidates: VecDeque<ModelId>,
    request: Request,
    current: Option<Current>,
    failed: Vec<(ModelId, Error)>,
    ended: bool,
}

/// The model that is being asked.
struct Current {
    model: ModelId,
    idle: Duration,
    /// `None`: the request is yet to be sent.
    parts: Option<Parts>,
    /// When the first token must be there.
    first_token_by: Instant,
    started: bool,
    text: bool,
    finished: bool,
}

impl<D: Directory> Asking<D> {
    async fn next(&mut self) -> Option<Result<Event, Failure>> {
        if self.ended {
            return None;
        }
        if self.current.is_none() {
            self.current = self.next_candidate();
        }
        let Some(current) = &mut self.current else {
            self.ended = true;
            return self.give_up().map(Err);
        };
        match current.next(&*self.directory, &self.request).await {
            Ok(Some(part)) => Some(Ok(Event::Part(part))),
            Ok(None) => {
                self.directory.health().succeeded(&current.model);
                self.ended = true;
                None
            }
            Err(error) => self.failed(error),
        }
    }

    /// The next model that does not rest.
    fn next_candidate(&mut self) -> Option<Current> {
        let now = Instant::now();
        while let Some(model) = self.candidates.pop_front() {
            if let Some(error) = self.directory.health().resting(&model, now) {
                self.failed.push((model, error));
                continue;
            }
            let idle = self
                .directory
                .served(&model.provider)
                .map_or(Duration::from_mins(1), |served| served.idle_timeout);
            return Some(Current {
                model,
                idle,
                parts: None,
                first_token_by: now + idle.saturating_mul(FIRST_TOKEN_FACTOR),
                started: false,
                text: false,
                finished: false,
            });
        }
        None
    }

    fn failed(&mut self, error: Error) -> Option<Result<Event, Failure>> {
        let current = self.current.take()?;
        let model = current.model;
        let over = hands_over(&error);
        if over {
            let now = Instant::now();
            let cooldown = self.directory.cooldown();
            self.directory
                .health()
                .failed(&model, &error, cooldown, now);
        }
        if current.text || !over {
            self.ended = true;
            return Some(Err(Failure {
                retry_after: error.retry_after(),
                partial: current.text,
                model,
                error,
            }));
        }
        self.failed.push((model.clone(), error.clone()));
        self.current = self.next_candidate();
        let Some(next) = &self.current else {
            self.ended = true;
            return self.give_up().map(Err);
        };
        info!(from = %model, to = %next.model, "Switching models: {error}");
        Some(Ok(Event::Switched {
            from: model,
            to: next.model.clone(),
            reason: error,
        }))
    }

    /// The most telling of all errors, with the earliest time at which one of the models may answer.
    fn give_up(&mut self) -> Option<Failure> {
        let now = Instant::now();
        let retry_after = self
            .failed
            .iter()
            .filter_map(|(model, error)| {
                let rest = self.directory.health().rest_left(model, now);
                rest.or(error.retry_after())
            })
            .min();
        // The first of equals: the chosen model's.
        let (model, error) = std::mem::take(&mut self.failed)
            .into_iter()
            .min_by_key(|(_, error)| rank(error))?;
        Some(Failure {
            model,
            error,
            partial: false,
            retry_after,
        })
    }
}

/// How much an error tells the person; less is more.
fn rank(error: &Error) -> u8 {
    match error {
        Error::RateLimited { .. } => 0,
        Error::NoCredit => 1,
        Error::Unavailable { .. } => 2,
        Error::TimedOut => 3,
        Error::Protocol(_) => 4,
        _ => 5,
    }
}

impl Current {
    /// The next part; `None` at the end of a whole answer.
    async fn next<D: Directory>(
        &mut self,
        directory: &D,
        request: &Request,
    ) -> Result<Option<Part>, Error> {
        if self.parts.is_none() {
            let deadline = self.deadline();
            let served = directory.served(&self.model.provider).ok_or_else(|| {
                Error::NoSuchModel(format!("there is no provider {:?}", self.model.provider))
            })?;
            let opening = served.provider.stream(&self.model.model, request.clone());
            let parts = timeout_at(deadline, opening)
                .await
                .unwrap_or(Err(Error::TimedOut))?;
            self.parts = Some(parts);
        }
        let deadline = self.deadline();
        let Some(parts) = &mut self.parts else {
            return Ok(None);
        };
        match timeout_at(deadline, parts.next()).await {
            Ok(Some(Ok(part))) => {
                self.note(&part);
                Ok(Some(part))
            }
            // What breaks after the end does not take the answer back.
            _ if self.finished => Ok(None),
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => Err(Error::Network("the answer was cut off".into())),
            Err(_elapsed) => Err(Error::TimedOut),
        }
    }

    fn deadline(&self) -> Instant {
        let idle = Instant::now() + self.idle;
        if self.started {
            idle
        } else {
            idle.min(self.first_token_by)
        }
    }

    fn note(&mut self, part: &Part) {
        match part {
            Part::Text(text) if !text.is_empty() => {
                self.text = true;
                self.started = true;
            }
            Part::Thinking(text) if !text.is_empty() => self.started = true,
            Part::Text(_) | Part::Thinking(_) | Part::Usage(_) => {}
            Part::ToolCall { .. } => self.started = true,
            Part::Finish(_) => self.finished = true,
        }
    }
}

#[cfg(test)]
mod tests;
