//! How the models have been doing lately, and which of them rest.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{Error, ModelId};

/// So many failures in a row send a model to rest.
const FAILURES: u32 = 3;
/// A longer wait that a provider asks for is not believed.
const LONGEST_REST: Duration = Duration::from_hours(24);

/// How the models have been doing lately.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<HashMap<ModelId, Record>>);

#[derive(Debug, Default)]
struct Record {
    failures: u32,
    rest: Option<(Instant, Error)>,
}

impl Health {
    /// Why a model rests, with how long still.
    pub(super) fn resting(&self, model: &ModelId, now: Instant) -> Option<Error> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, error) = records.get(model)?.rest.as_ref()?;
        let left = until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())?;
        Some(match error {
            Error::RateLimited { .. } => Error::RateLimited {
                retry_after: Some(left),
            },
            Error::Unavailable { status, .. } => Error::Unavailable {
                status: *status,
                retry_after: Some(left),
            },
            // Has no place for the time; whoever gives up asks `rest_left`.
            other => other.clone(),
        })
    }

    pub(super) fn all_resting(&self, now: Instant) -> Vec<(ModelId, Duration)> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut resting: Vec<(ModelId, Duration)> = records
            .iter()
            .filter_map(|(model, record)| {
                let (until, _) = record.rest.as_ref()?;
                let left = until.checked_duration_since(now)?;
                (!left.is_zero()).then(|| (model.clone(), left))
            })
            .collect();
        resting.sort();
        resting
    }

    pub(super) fn rest_left(&self, model: &ModelId, now: Instant) -> Option<Duration> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, _) = records.get(model)?.rest.as_ref()?;
        until.checked_duration_since(now)
    }

    pub(super) fn failed(&self, model: &ModelId, error: &Error, cooldown: Duration, now: Instant) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.entry(model.clone()).or_default();
        record.failures = record.failures.saturating_add(1);
        let cooling = (record.failures >= FAILURES).then_some(cooldown);
        if let Some(rest) = error.retry_after().max(cooling) {
            let until = now + rest.min(LONGEST_REST);
            warn!(%model, seconds = rest.as_secs(), "The model rests: {error}");
            record.rest = Some((until, error.clone()));
        }
    }

    pub(super) fn succeeded(&self, model: &ModelId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(model);
    }
}
