//! Which of a node's items are returned: paged (XEP-0059 in XEP-0060, 6.5.4), or the newest (6.5.7).

use std::ops::Range;

use minidom::Element;

use crate::server::StanzaError;
use crate::xmpp::element::{child_text, element, set, text_element};
use crate::xmpp::ns;

/// The page that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// Whether there is a `<set/>` at all; then the answer has one too.
    pub wanted: bool,
    pub max: Option<usize>,
    pub after: Option<String>,
    /// Empty: the last page.
    pub before: Option<String>,
}

impl Paging {
    /// Reads the `<set/>` in a request.
    pub fn inside(parent: &Element) -> Result<Self, StanzaError> {
        let Some(set) = parent.get_child("set", ns::RSM) else {
            return Ok(Self::default());
        };
        let max = child_text(set, "max", ns::RSM)
            .map(|max| {
                max.trim()
                    .parse()
                    .map_err(|_wrong| StanzaError::bad_request())
            })
            .transpose()?;
        Ok(Self {
            wanted: true,
            max,
            after: child_text(set, "after", ns::RSM),
            before: child_text(set, "before", ns::RSM),
        })
    }

    /// The positions of the page in a list of ids; an id that is not there is an error (XEP-0059, 2.5).
    pub fn of(&self, ids: &[&str]) -> Result<Range<usize>, StanzaError> {
        let position = |id: &str| {
            ids.iter()
                .position(|known| *known == id)
                .ok_or_else(StanzaError::item_not_found)
        };
        let start = match self.after.as_deref() {
            Some(after) if !after.is_empty() => position(after)?.saturating_add(1),
            _ => 0,
        };
        let end = match self.before.as_deref() {
            Some(before) if !before.is_empty() => position(before)?,
            _ => ids.len(),
        };
        let start = start.min(end);
        let max = self.max.unwrap_or(usize::MAX);
        Ok(if self.before.is_some() {
            end.saturating_sub(max).max(start)..end
        } else {
            start..start.saturating_add(max).min(end)
        })
    }

    /// The page that is asked for, but not more than `most`; with its `<set/>` where that was wanted, or where there is more.
    pub fn bounded(
        &self,
        ids: &[&str],
        most: usize,
    ) -> Result<(Range<usize>, Option<Element>), StanzaError> {
        let bounded = Self {
            max: Some(self.max.unwrap_or(most).min(most)),
            ..self.clone()
        };
        let page = bounded.of(ids)?;
        let told = self.wanted || page.len() < ids.len();
        let set = told.then(|| Self::answer(ids, &page));
        Ok((page, set))
    }

    /// The `<set/>` of the answer.
    pub fn answer(ids: &[&str], page: &Range<usize>) -> Element {
        let mut answer = Element::bare("set", ns::RSM);
        if let (Some(first), Some(last)) = (
            ids.get(page.start).filter(|_| !page.is_empty()),
            page.end.checked_sub(1).and_then(|last| ids.get(last)),
        ) {
            let mut element = element("first", ns::RSM, &[]);
            set(&mut element, "index", &page.start.to_string());
            element.append_text(*first);
            answer.append_child(element);
            answer.append_child(text_element("last", ns::RSM, last));
        }
        answer.append_child(text_element("count", ns::RSM, &ids.len().to_string()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_what_was_asked_for() {
        struct Case {
            name: &'static str,
            set: &'static str,
            page: Option<Range<usize>>,
        }
        #[rustfmt::skip]
        let cases = [
            Case { name: "all", set: "", page: Some(0..5) },
            Case { name: "the first two", set: "<max>2</max>", page: Some(0..2) },
            Case { name: "the next two", set: "<max>2</max><after>b</after>", page: Some(2..4) },
            Case { name: "behind the end", set: "<max>2</max><after>e</after>", page: Some(5..5) },
            Case { name: "the last two", set: "<max>2</max><before/>", page: Some(3..5) },
            Case { name: "the two before", set: "<max>2</max><before>d</before>", page: Some(1..3) },
            Case { name: "before the first", set: "<max>2</max><before>a</before>", page: Some(0..0) },
            Case { name: "only the number", set: "<max>0</max>", page: Some(0..0) },
            Case { name: "between", set: "<after>a</after><before>d</before>", page: Some(1..3) },
            Case { name: "the wrong way round", set: "<after>d</after><before>b</before>", page: Some(1..1) },
            Case { name: "an unknown id", set: "<after>z</after>", page: None },
        ];
        for case in cases {
            let request = format!(
                "<x xmlns='x'><set xmlns='http://jabber.org/protocol/rsm'>{}</set></x>",
                case.set
            );
            let paging = Paging::inside(&request.parse().unwrap()).unwrap();
            let page = paging.of(&["a", "b", "c", "d", "e"]);
            assert_eq!(page.ok(), case.page, "{}", case.name);
        }
    }

    #[test]
    fn an_answer_counts_and_names_its_ends() {
        let answer = Paging::answer(&["a", "b", "c"], &(1..3));
        let first = answer.get_child("first", ns::RSM).unwrap();
        assert_eq!(
            (first.attr("index"), first.text()),
            (Some("1"), "b".to_owned())
        );
        assert_eq!(child_text(&answer, "last", ns::RSM).unwrap(), "c");
        assert_eq!(child_text(&answer, "count", ns::RSM).unwrap(), "3");
        let empty = Paging::answer(&["a"], &(0..0));
        assert!(!empty.has_child("first", ns::RSM) && !empty.has_child("last", ns::RSM));
    }
}
