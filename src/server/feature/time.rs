//! XEP-0202: Entity Time.

use minidom::Element;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::Server;
use super::super::router::{IqType, Router, Target};
use crate::xmpp::element::text_element;
use crate::xmpp::ns;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Domain], ns::TIME);
    router.iq(
        &[Target::Domain],
        IqType::Get,
        "time",
        ns::TIME,
        |_| async { Ok(Some(at(OffsetDateTime::now_utc()))) },
    )
}

/// A time as the XEP wants it, to the second; the server lives in UTC.
fn at(now: OffsetDateTime) -> Element {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let mut answer = Element::bare("time", ns::TIME);
    answer.append_child(text_element("tzo", ns::TIME, "+00:00"));
    let utc = now.format(&Rfc3339).unwrap_or_default();
    answer.append_child(text_element("utc", ns::TIME, &utc));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_written_to_the_second() {
        let answer =
            at(OffsetDateTime::from_unix_timestamp_nanos(1_166_549_645_123_456_789).unwrap());
        let utc = answer.get_child("utc", ns::TIME).unwrap();
        assert_eq!(utc.text(), "2006-12-19T17:34:05Z");
    }
}
