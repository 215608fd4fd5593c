//! Budgets and rate limits. What is used is an archive per day; what counts today is also kept in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::history::{json, read};
use crate::config::Budget;
use crate::gateway::{Inbound, allowance, now};
use crate::llm::{ModelId, Usage};
use crate::storage::{Archive, Batch, Query, Result, Storage};

/// Owner: the day, `2026-11-20` in UTC. Value: [`Record`].
const USAGE: Archive = Archive("usage");
const MINUTE: Duration = Duration::from_mins(1);

/// What one turn used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// [`crate::gateway::Sender::key`].
    pub(super) sender: String,
    pub(super) model: ModelId,
    pub(super) usage: Usage,
    pub(super) cost: Option<f64>,
}

/// A day's use of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageRow {
    /// `2026-11-20`, UTC.
    pub day: String,
    pub model: String,
    pub turns: u64,
    pub tokens: Usage,
    /// USD; models without a known price count as nothing.
    pub cost: f64,
}

/// What was used today, by a sender or by all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    tokens: u64,
    usd: f64,
}

impl Used {
    fn add(&mut self, record: &Record) {
        self.tokens = self.tokens.saturating_add(total(&record.usage));
        self.usd += record.cost.unwrap_or_default();
    }
}

pub(super) fn total(usage: &Usage) -> u64 {
    usage
        .input
        .saturating_add(usage.output)
        .saturating_add(usage.cache_read)
        .saturating_add(usage.cache_write)
}

/// Why a turn may not start now, and when it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    SenderRate(Duration),
    RoomRate(Duration),
    Tokens,
    SenderUsd,
    AllUsd,
}

/// Decides by what was used today.
fn check_day(budget: &Budget, sender: Used, all: Used) -> Option<Refusal> {
    let usd = |limit: f64, used: f64| limit > 0.0 && used >= limit;
    if budget.tokens_per_jid_per_day > 0 && sender.tokens >= budget.tokens_per_jid_per_day {
        Some(Refusal::Tokens)
    } else if usd(budget.usd_per_jid_per_day, sender.usd) {
        Some(Refusal::SenderUsd)
    } else if usd(budget.usd_per_day, all.usd) {
        Some(Refusal::AllUsd)
    } else {
        None
    }
}

/// Turns within the last minute. Returns how long until another is allowed, where the limit (0: none) is reached.
fn check_rate(recent: &mut VecDeque<Instant>, limit: u32, now: Instant) -> Option<Duration> {
    while recent
        .front()
        .is_some_and(|at| now.duration_since(*at) >= MINUTE)
    {
        recent.pop_front();
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 || recent.len() < limit {
        return None;
    }
    let nth = recent.len().saturating_sub(limit);
    let oldest = recent.get(nth)?;
    Some(MINUTE.saturating_sub(now.duration_since(*oldest)))
}

/// Counts. Shared by all conversations.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Counters>);

#[derive(Default)]
struct Counters {
    day: String,
    all: Used,
    senders: HashMap<String, Used>,
    recent: HashMap<String, VecDeque<Instant>>,
}

impl Ledger {
    /// Whether a turn for this message may start; if so it counts.
    pub(super) async fn admit(
        &self,
        storage: &Storage,
        budget: &Budget,
        inbound: &Inbound,
    ) -> Result<Option<Refusal>> {
        let mut counters = self.0.lock().await;
        counters.open(storage, &day(now())).await?;
        let sender = inbound.sender.key();
        let used = counters.senders.get(&sender).copied().unwrap_or_default();
        let mut budget = budget.clone();
        if let Some(usd) = allowance::get(storage, &sender).await? {
            budget.usd_per_jid_per_day = usd;
        }
        if let Some(refusal) = check_day(&budget, used, counters.all) {
            return Ok(Some(refusal));
        }
        let now = Instant::now();
        // Windows that have run empty are dropped, so that passers-by do not add up.
        counters.recent.retain(|_, recent| {
            recent
                .back()
                .is_some_and(|at| now.duration_since(*at) < MINUTE)
        });
        let room = inbound.place.room().map(|room| format!("room {room}"));
        let recent = counters.recent.entry(sender.clone()).or_default();
        if let Some(wait) = check_rate(recent, budget.turns_per_jid_per_minute, now) {
            return Ok(Some(Refusal::SenderRate(wait)));
        }
        if let Some(room) = &room {
            let recent = counters.recent.entry(room.clone()).or_default();
            if let Some(wait) = check_rate(recent, budget.turns_per_room_per_minute, now) {
                return Ok(Some(Refusal::RoomRate(wait)));
            }
            recent.push_back(now);
        }
        counters.recent.entry(sender).or_default().push_back(now);
        Ok(None)
    }

    /// Counts what a turn used; the batch stores it.
    pub(super) async fn record(&self, storage: &Storage, record: &Record) -> Result<Batch> {
        let at = now();
        let today = day(at);
        let mut counters = self.0.lock().await;
        counters.open(storage, &today).await?;
        counters.count(record);
        Ok(Batch::new().append(USAGE, &today, at, json(record)))
    }
}

impl Counters {
    /// Begins a day with what is stored of it.
    async fn open(&mut self, storage: &Storage, today: &str) -> Result<()> {
        if self.day == today {
            return Ok(());
        }
        let records = records(storage, today).await?;
        self.all = Used::default();
        self.senders.clear();
        for record in &records {
            self.count(record);
        }
        today.clone_into(&mut self.day);
        Ok(())
    }

    fn count(&mut self, record: &Record) {
        self.all.add(record);
        self.senders
            .entry(record.sender.clone())
            .or_default()
            .add(record);
    }
}

async fn records(storage: &Storage, day: &str) -> Result<Vec<Record>> {
    let entries = storage.query(USAGE, day, Query::default()).await?;
    Ok(entries
        .iter()
        .filter_map(|entry| read(&entry.value))
        .collect())
}

/// The last `days` days, newest first, one row a model.
pub(super) async fn usage(
    storage: &Storage,
    sender: Option<&str>,
    days: u32,
) -> Result<Vec<UsageRow>> {
    const DAY: i64 = 86_400_000;
    let now = now();
    let mut rows = Vec::new();
    for back in 0..i64::from(days.clamp(1, 366)) {
        let day = day(now.saturating_sub(back.saturating_mul(DAY)));
        let mut models: BTreeMap<String, UsageRow> = BTreeMap::new();
        for record in records(storage, &day).await? {
            if sender.is_some_and(|sender| sender != record.sender) {
                continue;
            }
            let model = record.model.to_string();
            let row = models.entry(model.clone()).or_default();
            row.day.clone_from(&day);
            row.model = model;
            row.turns += 1;
            row.cost += record.cost.unwrap_or_default();
            let tokens = &mut row.tokens;
            tokens.input = tokens.input.saturating_add(record.usage.input);
            tokens.output = tokens.output.saturating_add(record.usage.output);
            tokens.cache_read = tokens.cache_read.saturating_add(record.usage.cache_read);
            tokens.cache_write = tokens.cache_write.saturating_add(record.usage.cache_write);
        }
        rows.extend(models.into_values());
    }
    Ok(rows)
}

/// The UTC day of a time in milliseconds.
fn day(at: i64) -> String {
    OffsetDateTime::from_unix_timestamp(at.div_euclid(1000))
        .map(|time| time.date().to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{memory, room_text, text};
    use super::*;

    #[test]
    fn a_day_s_budget_is_used_up_when_it_is_reached_and_zero_is_no_limit() {
        struct Case {
            name: &'static str,
            budget: Budget,
            sender: (u64, f64),
            all: f64,
            refusal: Option<Refusal>,
        }
        let none = Budget::default;
        let cases = [
            Case {
                name: "no limits",
                budget: none(),
                sender: (u64::MAX, 1e9),
                all: 1e9,
                refusal: None,
            },
            Case {
                name: "tokens left",
                budget: Budget {
                    tokens_per_jid_per_day: 10,
                    ..none()
                },
                sender: (9, 0.0),
                all: 0.0,
                refusal: None,
            },
            Case {
                name: "tokens used up",
                budget: Budget {
                    tokens_per_jid_per_day: 10,
                    ..none()
                },
                sender: (10, 0.0),
                all: 0.0,
                refusal: Some(Refusal::Tokens),
            },
            Case {
                name: "the sender's money",
                budget: Budget {
                    usd_per_jid_per_day: 0.5,
                    ..none()
                },
                sender: (0, 0.5),
                all: 0.5,
                refusal: Some(Refusal::SenderUsd),
            },
            Case {
                name: "everyone's money",
                budget: Budget {
                    usd_per_day: 1.0,
                    ..none()
                },
                sender: (0, 0.0),
                all: 1.5,
                refusal: Some(Refusal::AllUsd),
            },
        ];
        for case in cases {
            let sender = Used {
                tokens: case.sender.0,
                usd: case.sender.1,
            };
            let all = Used {
                tokens: 0,
                usd: case.all,
            };
            assert_eq!(
                check_day(&case.budget, sender, all),
                case.refusal,
                "{}",
                case.name
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_counted_by_person_and_by_room_and_says_when_it_goes_on() {
        let (storage, ledger) = (memory(), Ledger::default());
        let budget = Budget {
            turns_per_jid_per_minute: 2,
            turns_per_room_per_minute: 3,
            ..Budget::default()
        };
        let admit =
            async |inbound: &Inbound| ledger.admit(&storage, &budget, inbound).await.unwrap();
        let alice = room_text("alice", "1", "hi");
        assert_eq!(admit(&alice).await, None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(admit(&alice).await, None);
        assert_eq!(
            admit(&alice).await,
            Some(Refusal::SenderRate(Duration::from_secs(50)))
        );
        assert_eq!(admit(&room_text("bob", "2", "hi")).await, None);
        assert_eq!(
            admit(&room_text("carol", "3", "hi")).await,
            Some(Refusal::RoomRate(Duration::from_secs(50)))
        );
        assert_eq!(admit(&text("dave@example.com/x", "4", "hi")).await, None);
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!(admit(&alice).await, None);
    }

    #[tokio::test]
    async fn what_was_used_counts_again_after_a_restart() {
        let storage = memory();
        let budget = Budget {
            tokens_per_jid_per_day: 100,
            ..Budget::default()
        };
        let alice = text("alice@example.com/a", "1", "hi");
        let record = Record {
            sender: alice.sender.key(),
            model: "offline/offline".parse().unwrap(),
            usage: Usage {
                input: 60,
                output: 40,
                ..Usage::default()
            },
            cost: Some(0.25),
        };
        let batch = Ledger::default().record(&storage, &record).await.unwrap();
        storage.commit(batch).await.unwrap();
        let refusal = Ledger::default()
            .admit(&storage, &budget, &alice)
            .await
            .unwrap();
        assert_eq!(refusal, Some(Refusal::Tokens));
        let rows = usage(&storage, Some("alice@example.com"), 2).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].turns, rows[0].tokens.input, rows[0].cost),
            (1, 60, 0.25)
        );
        assert_eq!(
            usage(&storage, Some("bob@example.com"), 2).await.unwrap(),
            []
        );
    }

    #[tokio::test]
    async fn an_allowance_takes_the_place_of_the_configured_budget() {
        let storage = memory();
        let budget = Budget {
            usd_per_jid_per_day: 1.0,
            ..Budget::default()
        };
        let alice = text("alice@example.com/a", "1", "hi");
        let ledger = Ledger::default();
        let record = Record {
            sender: alice.sender.key(),
            model: "offline/offline".parse().unwrap(),
            usage: Usage::default(),
            cost: Some(0.5),
        };
        let batch = ledger.record(&storage, &record).await.unwrap();
        storage.commit(batch).await.unwrap();
        let jid = alice.sender.real.clone().unwrap();
        for (allowed, refusal) in [
            (None, None),
            (Some(0.25), Some(Refusal::SenderUsd)),
            (Some(0.75), None),
            (Some(0.0), None),
        ] {
            allowance::set(&storage, &jid, allowed).await.unwrap();
            let outcome = ledger.admit(&storage, &budget, &alice).await.unwrap();
            assert_eq!(outcome, refusal, "{allowed:?}");
        }
    }
}
