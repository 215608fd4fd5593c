//! The ids of archive entries: given before the entry is written, so that a message can tell its id while the disk is
//! still at work. They rise whatever happens: the clock only pushes them forward, and the database knows one that none
//! yet given exceeds, so that neither a crash nor a clock that steps back makes one return.

use std::time::{SystemTime, UNIX_EPOCH};

/// How far ahead ids are reserved, in microseconds: a day, so that it is rarely written.
pub(super) const LEASE: u64 = 24 * 60 * 60 * 1_000_000;

/// Gives ids.
pub(super) struct Ids {
    last: u64,
}

impl Ids {
    /// Goes on after the greatest id that may have been given.
    pub(super) fn after(last: u64) -> Self {
        Self { last }
    }

    /// The first of `count` ids that follow each other; `now` in microseconds since 1970.
    pub(super) fn take(&mut self, count: usize, now: u64) -> u64 {
        let first = self.last.saturating_add(1).max(now);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if count > 0 {
            self.last = first.saturating_add(count).saturating_sub(1);
        }
        first
    }
}

/// What the database has reserved: it is to be written again when half of it is used up.
pub(super) struct Reserved(pub(super) u64);

impl Reserved {
    /// What to reserve now, after this id was given.
    pub(super) fn renew(&self, given: u64) -> Option<u64> {
        (given.saturating_add(LEASE / 2) > self.0).then(|| given.saturating_add(LEASE))
    }
}

/// Microseconds since 1970.
pub(super) fn microseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_micros()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_clock_and_never_step_back() {
        struct Row {
            name: &'static str,
            last: u64,
            count: usize,
            now: u64,
            first: u64,
            then: u64,
        }
        let row = |name, last, count, now, first, then| Row {
            name,
            last,
            count,
            now,
            first,
            then,
        };
        let table = [
            row("the clock is ahead", 10, 2, 100, 100, 101),
            row("within one tick", 100, 2, 100, 101, 102),
            row("the clock stepped back", 100, 3, 5, 101, 103),
            row("nothing is appended", 100, 0, 200, 200, 100),
        ];
        for row in table {
            let mut ids = Ids::after(row.last);
            assert_eq!(ids.take(row.count, row.now), row.first, "{}", row.name);
            assert_eq!(ids.last, row.then, "{}", row.name);
        }
    }

    #[test]
    fn a_reservation_is_renewed_at_its_half() {
        let reserved = Reserved(LEASE);
        assert_eq!(reserved.renew(LEASE / 2), None);
        let late = LEASE / 2 + 1;
        assert_eq!(reserved.renew(late), Some(late + LEASE));
        assert_eq!(reserved.renew(3 * LEASE), Some(4 * LEASE));
    }
}
