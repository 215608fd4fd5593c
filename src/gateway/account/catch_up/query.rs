//! What an archive is asked (XEP-0313, XEP-0059): a page after an id, since a time, or the last one.

use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field};
use xmpp_parsers::mam;
use xmpp_parsers::rsm::SetQuery;

use crate::xmpp::ns;

/// How far our clock may be before the archive's. What is read twice is known by its ids.
const SKEW: i64 = 300_000;

/// Where a query begins.
pub(super) enum From<'a> {
    After(&'a str),
    Since(i64),
    /// The last page, to learn where the archive ends.
    End,
}

/// A page of at most so many messages.
pub(super) fn page(from: &From<'_>, limit: usize) -> Element {
    let mut set = at_most(limit);
    let mut fields = Vec::new();
    match from {
        From::After(id) => set.after = Some((*id).to_owned()),
        From::Since(at) => {
            let start = date(at.saturating_sub(SKEW));
            fields.push(Field::text_single("start", &start));
        }
        From::End => set.before = Some(String::new()),
    }
    assemble(fields, set)
}

/// Only what matches all the fields, after an id where one is given.
pub(super) fn matching(fields: Vec<Field>, after: Option<String>, limit: usize) -> Element {
    let set = SetQuery {
        after,
        ..at_most(limit)
    };
    assemble(fields, set)
}

fn at_most(limit: usize) -> SetQuery {
    SetQuery {
        max: Some(limit),
        after: None,
        before: None,
        index: None,
    }
}

fn assemble(fields: Vec<Field>, set: SetQuery) -> Element {
    let form = (!fields.is_empty()).then(|| DataForm::new(DataFormType::Submit, ns::MAM, fields));
    mam::Query {
        queryid: None,
        node: None,
        form,
        set: Some(set),
        flip_page: false,
    }
    .into()
}

/// XEP-0082.
pub(super) fn date(at: i64) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000)
        .ok()
        .and_then(|date| date.format(format).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_begins_where_it_is_told_to() {
        let after = String::from(&page(&From::After("x"), 50));
        assert!(
            after.contains("<after>x</after>") && after.contains("<max>50</max>"),
            "{after}"
        );
        let since = String::from(&page(&From::Since(1_000 + SKEW), 50));
        assert!(since.contains("1970-01-01T00:00:01Z"), "{since}");
        let end = String::from(&page(&From::End, 1));
        assert!(
            end.contains("<before/>") || end.contains("<before></before>"),
            "{end}"
        );
    }
}
