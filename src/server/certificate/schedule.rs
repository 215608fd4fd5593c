//! When a certificate is renewed.

use time::{Duration, OffsetDateTime};

/// The time at which two thirds of a lifetime have passed, and up to a twelfth of the rest later: servers that were set
/// up together do not all ask their authority in the same minute. `jitter` is from 0 to 1.
pub(super) fn renewal(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    jitter: f64,
) -> OffsetDateTime {
    let lifetime = (not_after - not_before).max(Duration::ZERO);
    let rest: Duration = lifetime / 3;
    let jitter = rest.as_seconds_f64() / 12.0 * jitter.clamp(0.0, 1.0);
    not_after - rest + Duration::seconds_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_two_thirds_of_the_lifetime() {
        let begin = OffsetDateTime::UNIX_EPOCH;
        let days = |days: i64| begin + Duration::days(days);
        assert_eq!(renewal(begin, days(90), 0.0), days(60));
        assert_eq!(
            renewal(begin, days(90), 1.0),
            days(60) + Duration::hours(60)
        );
        assert_eq!(renewal(begin, days(6), 0.0), days(4));
        // A certificate from a broken clock: never a panic.
        assert_eq!(renewal(days(9), days(3), 0.5), days(3));
    }
}
