//! Answers by their question until they are too old, bounded by count and by bytes: strangers choose the questions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Error;
use super::answer::{Answer, Kind};

/// How many answers are kept.
const MOST: usize = 4096;
/// How many bytes they hold together.
const BYTES: usize = 4 * 1024 * 1024;

/// Within which bounds a TTL is believed. Never none at all: whoever asks again within the second gets the same.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(24);
/// A failure, so that who asks again and again asks nobody (RFC 9520, 3.2).
const FAILED: Duration = Duration::from_secs(5);
/// That there is nothing is believed for a shorter time (RFC 2308, 5): someone may be about to add it.
const LONGEST_NEGATIVE: Duration = Duration::from_mins(15);

type Question = (String, Kind);
type Outcome = Result<Arc<Answer>, Error>;

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Question, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    outcome: Outcome,
    until: Instant,
    size: usize,
}

impl Cache {
    pub(super) fn get(&self, question: &Question, now: Instant) -> Option<Outcome> {
        let entry = self.entries.get(question)?;
        (now < entry.until).then(|| entry.outcome.clone())
    }

    /// `ttl` in seconds; `None`: the answer does not say (RFC 2308, 5: then it is hardly kept).
    pub(super) fn keep(
        &mut self,
        question: Question,
        answer: Arc<Answer>,
        ttl: Option<u32>,
        now: Instant,
    ) {
        let longest = if answer.records.is_empty() {
            LONGEST_NEGATIVE
        } else {
            LONGEST
        };
        let ttl = Duration::from_secs(ttl.unwrap_or_default().into()).clamp(SHORTEST, longest);
        self.insert(question, answer.size(), Ok(answer), now, ttl);
    }

    pub(super) fn keep_failure(&mut self, question: Question, failure: Error, now: Instant) {
        let size = failure.to_string().len();
        self.insert(question, size, Err(failure), now, FAILED);
    }

    fn insert(
        &mut self,
        question: Question,
        size: usize,
        outcome: Outcome,
        now: Instant,
        ttl: Duration,
    ) {
        let entry = Entry {
            size: question.0.len() + size + size_of::<(Question, Entry)>(),
            outcome,
            until: now + ttl,
        };
        self.remove(&question);
        self.make_room(entry.size, now);
        self.bytes += entry.size;
        self.entries.insert(question, entry);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.bytes = self.bytes.saturating_sub(entry.size);
        }
    }

    fn is_full(&self, size: usize) -> bool {
        self.entries.len() >= MOST || self.bytes + size > BYTES
    }

    /// First goes what is too old, then what soon will be.
    fn make_room(&mut self, size: usize, now: Instant) {
        if !self.is_full(size) {
            return;
        }
        self.entries.retain(|_, entry| now < entry.until);
        self.bytes = self.entries.values().map(|entry| entry.size).sum();
        while self.is_full(size) {
            let soonest = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            let Some(question) = soonest.map(|(question, _)| question.clone()) else {
                return;
            };
            self.remove(&question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::dns::{Data, SrvRecord};

    fn question(name: &str) -> Question {
        (name.to_owned(), Kind::Srv)
    }

    fn answer(records: usize, target: &str) -> Arc<Answer> {
        let record = Data::Srv(SrvRecord {
            priority: 0,
            weight: 0,
            port: 5269,
            target: target.to_owned(),
        });
        Arc::new(Answer {
            records: vec![record; records],
            exists: true,
            ..Answer::default()
        })
    }

    #[test]
    fn an_answer_is_kept_as_long_as_it_says_within_bounds() {
        struct Case {
            name: &'static str,
            records: usize,
            ttl: Option<u32>,
            /// In seconds.
            kept: u64,
        }
        let cases = [
            Case {
                name: "its own time",
                records: 1,
                ttl: Some(300),
                kept: 300,
            },
            Case {
                name: "not for weeks",
                records: 1,
                ttl: Some(u32::MAX),
                kept: 86_400,
            },
            Case {
                name: "no time at all: a second",
                records: 1,
                ttl: Some(0),
                kept: 1,
            },
            Case {
                name: "nothing there",
                records: 0,
                ttl: Some(60),
                kept: 60,
            },
            Case {
                name: "nothing there for a day",
                records: 0,
                ttl: Some(86_400),
                kept: 900,
            },
            Case {
                name: "nothing there, without an SOA",
                records: 0,
                ttl: None,
                kept: 1,
            },
        ];
        for case in cases {
            let mut cache = Cache::default();
            let now = Instant::now();
            cache.keep(question("a"), answer(case.records, "b"), case.ttl, now);
            let end = now + Duration::from_secs(case.kept);
            let before = end - Duration::from_millis(1);
            assert!(cache.get(&question("a"), before).is_some(), "{}", case.name);
            assert!(cache.get(&question("a"), end).is_none(), "{}", case.name);
        }
    }

    #[test]
    fn the_kinds_of_a_name_are_apart() {
        let mut cache = Cache::default();
        let now = Instant::now();
        cache.keep(question("a"), answer(1, "b"), Some(9), now);
        assert!(cache.get(&("a".to_owned(), Kind::A), now).is_none());
    }

    #[test]
    fn many_answers_push_out_those_that_end_first() {
        let mut cache = Cache::default();
        let now = Instant::now();
        cache.keep(question("brief"), answer(1, "x"), Some(5), now);
        for number in 0..MOST {
            let name = format!("name-{number}");
            cache.keep(question(&name), answer(1, "x"), Some(600), now);
            assert!(cache.entries.len() <= MOST);
        }
        assert!(cache.get(&question("brief"), now).is_none());
        assert!(cache.get(&question("name-0"), now).is_some());
    }

    #[test]
    fn large_answers_stay_within_the_bytes() {
        let mut cache = Cache::default();
        let now = Instant::now();
        let large = answer(32, &"x".repeat(250));
        for number in 0..2 * BYTES / large.size() {
            let name = format!("name-{number}");
            cache.keep(question(&name), Arc::clone(&large), Some(600), now);
            assert!(cache.bytes <= BYTES);
            assert_eq!(
                cache.bytes,
                cache
                    .entries
                    .values()
                    .map(|entry| entry.size)
                    .sum::<usize>()
            );
        }
        assert!(cache.entries.len() > 100);
    }

    #[test]
    fn an_answer_that_comes_again_counts_once() {
        let mut cache = Cache::default();
        let now = Instant::now();
        cache.keep(question("a"), answer(1, "b"), Some(9), now);
        let bytes = cache.bytes;
        cache.keep(question("a"), answer(1, "b"), Some(9), now);
        assert_eq!(cache.bytes, bytes);
    }
}
