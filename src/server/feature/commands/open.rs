//! Commands whose form lies on somebody's screen (XEP-0050, 3.4): by requester and session id, so that nobody ends or fills
//! in another's.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jid::Jid;
use tokio::time::Instant;

use crate::server::random_id;

/// How long a form may lie there, and how many are remembered, of all and of one requester.
const LIFETIME: Duration = Duration::from_hours(1);
const MOST: usize = 1_000;
const MOST_EACH: usize = 10;

/// By requester and session id: the command, and when its form was sent.
type Sessions = BTreeMap<(Jid, String), (&'static str, Instant)>;

#[derive(Debug, Default)]
pub(super) struct Open(Mutex<Sessions>);

impl Open {
    /// A new session. Where there are too many, the oldest ends, one of the same requester first.
    pub(super) fn begin(&self, from: &Jid, node: &'static str) -> String {
        let id = random_id();
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, (_, since)| now.duration_since(*since) < LIFETIME);
        end_oldest(&mut sessions, MOST_EACH, |who| who == from);
        end_oldest(&mut sessions, MOST, |_| true);
        sessions.insert((from.clone(), id.clone()), (node, now));
        id
    }

    pub(super) fn is_open(&self, from: &Jid, id: &str, node: &str) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&(from.clone(), id.to_owned()));
        session.is_some_and(|(of, since)| *of == node && since.elapsed() < LIFETIME)
    }

    pub(super) fn end(&self, from: &Jid, id: &str) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&(from.clone(), id.to_owned()));
    }
}

/// Makes room for one where there are as many as there may be.
fn end_oldest(sessions: &mut Sessions, most: usize, is_one: impl Fn(&Jid) -> bool) {
    let mut among: Vec<_> = sessions
        .iter()
        .filter(|((who, _), _)| is_one(who))
        .collect();
    if among.len() < most {
        return;
    }
    among.sort_by_key(|(_, (_, since))| *since);
    if let Some(oldest) = among.first().map(|(key, _)| (*key).clone()) {
        sessions.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_form_is_its_requesters_and_ends_by_itself() {
        let open = Open::default();
        let romeo = Jid::new("romeo@example.org/a").unwrap();
        let juliet = Jid::new("juliet@example.org/a").unwrap();
        let id = open.begin(&romeo, "one");
        assert!(open.is_open(&romeo, &id, "one"));
        assert!(!open.is_open(&romeo, &id, "two"));
        assert!(!open.is_open(&juliet, &id, "one"));
        open.end(&juliet, &id);
        assert!(open.is_open(&romeo, &id, "one"));
        tokio::time::advance(LIFETIME).await;
        assert!(!open.is_open(&romeo, &id, "one"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_opens_many_loses_the_oldest_and_others_lose_none() {
        let open = Open::default();
        let romeo = Jid::new("romeo@example.org/a").unwrap();
        let juliet = Jid::new("juliet@example.org/a").unwrap();
        let hers = open.begin(&juliet, "one");
        let mut his = Vec::new();
        for _ in 0..=MOST_EACH {
            his.push(open.begin(&romeo, "one"));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(!open.is_open(&romeo, &his[0], "one"));
        assert!(open.is_open(&romeo, &his[1], "one"));
        assert!(open.is_open(&juliet, &hers, "one"));
        for number in 0..2 * MOST {
            open.begin(
                &Jid::new(&format!("{number}@example.org/a")).unwrap(),
                "one",
            );
        }
        assert_eq!(open.0.lock().unwrap().len(), MOST);
    }
}
