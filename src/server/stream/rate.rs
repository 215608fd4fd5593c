//! How fast a client may write: bytes a second with a burst of two seconds. Reading pauses; nothing is dropped.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(in crate::server) struct Rate {
    /// Bytes a second; 0: any number.
    limit: u32,
    /// When all that was read would have been read at the allowed speed.
    paid: Instant,
}

/// How far ahead of the allowed speed one may be.
const BURST: Duration = Duration::from_secs(2);

impl Rate {
    pub(in crate::server) fn new(limit: u32) -> Self {
        Self {
            limit,
            paid: Instant::now(),
        }
    }

    /// So many bytes were read: until when to pause, if at all.
    pub(in crate::server) fn count(&mut self, bytes: usize) -> Option<Instant> {
        if self.limit == 0 || bytes == 0 {
            return None;
        }
        let now = Instant::now();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let cost = Duration::from_secs(1)
            .saturating_mul(bytes)
            .checked_div(self.limit)
            .unwrap_or_default();
        self.paid = self.paid.max(now) + cost;
        let until = self.paid.checked_sub(BURST)?;
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_two_seconds_passes_and_then_reading_pauses() {
        let mut rate = Rate::new(1_000);
        assert_eq!(rate.count(1_999), None);
        let until = rate.count(1_001).unwrap();
        assert_eq!(until - Instant::now(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(rate.count(2_000), None, "no more is saved than the burst");
        assert!(rate.count(1).is_some());
        assert_eq!(Rate::new(0).count(1 << 30), None);
    }
}
