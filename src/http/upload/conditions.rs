//! What a request wants of a file that never changes: all of it, a part, or to hear that it knows it already (RFC 9110, 13
//! and 14).

use axum::http::{HeaderMap, header};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// A file as HTTP compares it.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// With its quotation marks.
    pub tag: String,
    /// Seconds since 1970.
    pub modified: i64,
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    /// From the first to the last byte, both included.
    Part {
        first: u64,
        last: u64,
    },
    /// 304.
    Known,
    /// 416.
    Unsatisfiable,
}

/// `is_get`: a range counts for nothing else (RFC 9110, 14.2).
pub(super) fn wanted(headers: &HeaderMap, version: &Version, is_get: bool) -> Wanted {
    if is_known(headers, version) {
        return Wanted::Known;
    }
    let range = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    match range {
        Some(range) if is_get && range_counts(headers, version) => part(range, version.size),
        _ => Wanted::Whole,
    }
}

/// 13.2.2: the date counts only without tags.
fn is_known(headers: &HeaderMap, version: &Version) -> bool {
    let mut tags = headers.get_all(header::IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        let mut tags = tags
            .filter_map(|tags| tags.to_str().ok())
            .flat_map(|tags| tags.split(','));
        return tags.any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == version.tag
        });
    }
    let since = headers.get(header::IF_MODIFIED_SINCE);
    let since = since.and_then(|since| parse_date(since.to_str().ok()?));
    since.is_some_and(|since| version.modified <= since)
}

/// 13.1.5: the part is wanted only of the version that the client has the rest of.
fn range_counts(headers: &HeaderMap, version: &Version) -> bool {
    let Some(condition) = headers.get(header::IF_RANGE) else {
        return true;
    };
    let Ok(condition) = condition.to_str() else {
        return false;
    };
    condition == version.tag || parse_date(condition) == Some(version.modified)
}

/// One range of bytes. Several, other units and what cannot be read are as good as no range (14.2): the file is sent whole.
fn part(range: &str, size: u64) -> Wanted {
    let Some(range) = range.strip_prefix("bytes=") else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Wanted::Whole;
    };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What does not fit is beyond every end.
        is_number.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let end = size.saturating_sub(1);
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.min(end)),
        (Some(first), None) if last.is_empty() => (first, end),
        (None, Some(length)) if first.is_empty() => {
            if length == 0 {
                return Wanted::Unsatisfiable;
            }
            (size.saturating_sub(length), end)
        }
        _ => return Wanted::Whole,
    };
    if first >= size {
        return Wanted::Unsatisfiable;
    }
    Wanted::Part { first, last }
}

/// As HTTP writes a time (RFC 9110, 5.6.7). `at`: seconds since 1970.
pub(super) fn date(at: i64) -> String {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = OffsetDateTime::from_unix_timestamp(at).ok();
    at.and_then(|at| at.format(format).ok()).unwrap_or_default()
}

fn parse_date(text: &str) -> Option<i64> {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = PrimitiveDateTime::parse(text.trim(), format).ok()?;
    Some(at.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const AT: i64 = 784_111_777;

    fn of(headers: &[(header::HeaderName, &str)]) -> Wanted {
        let version = Version {
            tag: "\"abc\"".to_owned(),
            modified: AT,
            size: 10,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        wanted(&map, &version, true)
    }

    #[test]
    fn a_range_is_what_rfc_9110_says() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, expected) in [
            ("bytes=0-3", part(0, 3)),
            ("bytes=3-", part(3, 9)),
            ("bytes=9-9", part(9, 9)),
            ("bytes=5-100", part(5, 9)),
            ("bytes=5-99999999999999999999999", part(5, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-100", part(0, 9)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("items=0-3", Wanted::Whole),
        ] {
            assert_eq!(of(&[(header::RANGE, range)]), expected, "{range}");
        }
        for range in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(
                super::part(range, 0),
                Wanted::Unsatisfiable,
                "{range} of nothing"
            );
        }
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let (none_match, since) = (header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE);
        let (day, before) = (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:36 GMT",
        );
        for (headers, expected) in [
            (vec![(&none_match, "\"abc\"")], Wanted::Known),
            (vec![(&none_match, "\"x\", W/\"abc\"")], Wanted::Known),
            (vec![(&none_match, "*")], Wanted::Known),
            (vec![(&none_match, "\"ab\"")], Wanted::Whole),
            (vec![(&since, day)], Wanted::Known),
            (vec![(&since, before)], Wanted::Whole),
            (vec![(&since, "yesterday")], Wanted::Whole),
            (vec![(&none_match, "\"x\""), (&since, day)], Wanted::Whole),
        ] {
            let headers: Vec<_> = headers
                .into_iter()
                .map(|(name, value)| (name.clone(), value))
                .collect();
            assert_eq!(of(&headers), expected, "{headers:?}");
        }
        assert_eq!(date(AT), day);
    }

    #[test]
    fn a_part_of_another_version_is_not_sent() {
        let part = Wanted::Part { first: 1, last: 9 };
        for (condition, expected) in [
            ("\"abc\"", part),
            ("Sun, 06 Nov 1994 08:49:37 GMT", part),
            ("W/\"abc\"", Wanted::Whole),
            ("\"other\"", Wanted::Whole),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Wanted::Whole),
        ] {
            let headers = [(header::RANGE, "bytes=1-"), (header::IF_RANGE, condition)];
            assert_eq!(of(&headers), expected, "{condition}");
        }
    }
}
