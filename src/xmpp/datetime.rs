//! XEP-0082: dates and times, here as milliseconds since 1970.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};

/// Milliseconds since 1970.
pub fn now() -> i64 {
    milliseconds(OffsetDateTime::now_utc())
}

/// A point in time as a `stamp` has it.
pub fn stamp(at: i64) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::UNIX_EPOCH
        .checked_add(Duration::milliseconds(at))
        .and_then(|time| time.format(&format).ok())
        .unwrap_or_default()
}

/// `None`: it is none. What is finer than a millisecond is dropped.
pub fn parse(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
    Some(milliseconds(time.checked_to_offset(UtcOffset::UTC)?))
}

fn milliseconds(time: OffsetDateTime) -> i64 {
    let milliseconds = time.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(milliseconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_as_xep_0082_has_them() {
        for (text, at) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-07-21T02:56:15Z", Some(-14_159_025_000)),
            ("1969-07-20T21:56:15-05:00", Some(-14_159_025_000)),
            ("2010-07-10T23:08:25.1239Z", Some(1_278_803_305_123)),
            ("2010-07-10", None),
            ("", None),
        ] {
            assert_eq!(parse(text), at, "{text}");
        }
        assert_eq!(stamp(1_278_803_305_120), "2010-07-10T23:08:25.120Z");
        assert_eq!(parse(&stamp(-1)), Some(-1));
    }
}
