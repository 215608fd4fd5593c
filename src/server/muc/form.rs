//! Data forms (XEP-0004), as rooms ask with them and are answered. The type of xmpp-parsers refuses whole forms for what is
//! common in the wild, so fields are read by hand: an unknown one is ignored, as 3.3 wants of "submit" forms.

use minidom::Element;

use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

/// Builds a form, field by field.
#[derive(Clone, Debug)]
pub struct Form(Element);

impl Form {
    /// `kind`: form or result.
    pub fn new(kind: &str, form_type: &str) -> Self {
        Self(element("x", ns::DATA_FORMS, &[("type", kind)])).field(
            "hidden",
            "FORM_TYPE",
            "",
            [form_type],
        )
    }

    #[must_use]
    pub fn title(mut self, title: &str, instructions: &str) -> Self {
        let texts = [("title", title), ("instructions", instructions)];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            self.0
                .append_child(text_element(name, ns::DATA_FORMS, text));
        }
        self
    }

    #[must_use]
    pub fn field(
        mut self,
        kind: &str,
        var: &str,
        label: &str,
        values: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        self.0.append_child(field(kind, var, label, values));
        self
    }

    #[must_use]
    pub fn boolean(self, var: &str, label: &str, value: bool) -> Self {
        self.field("boolean", var, label, [if value { "1" } else { "0" }])
    }

    /// One of several; each option is a value and its label.
    #[must_use]
    pub fn choice(mut self, var: &str, label: &str, value: &str, options: &[(&str, &str)]) -> Self {
        let mut choice = field("list-single", var, label, [value]);
        for (value, label) in options {
            let mut option = element("option", ns::DATA_FORMS, &[("label", label)]);
            option.append_child(text_element("value", ns::DATA_FORMS, value));
            choice.append_child(option);
        }
        self.0.append_child(choice);
        self
    }

    pub fn build(self) -> Element {
        self.0
    }
}

fn field(
    kind: &str,
    var: &str,
    label: &str,
    values: impl IntoIterator<Item = impl AsRef<str>>,
) -> Element {
    let mut field = element("field", ns::DATA_FORMS, &[("type", kind), ("var", var)]);
    if !label.is_empty() {
        set(&mut field, "label", label);
    }
    for value in values {
        field.append_child(text_element("value", ns::DATA_FORMS, value.as_ref()));
    }
    field
}

/// The form in a stanza or a query.
pub fn find(element: &Element) -> Option<&Element> {
    element.get_child("x", ns::DATA_FORMS)
}

/// What a form is for (XEP-0068).
pub fn form_type(form: &Element) -> Option<String> {
    value(form, "FORM_TYPE")
}

pub fn has_fields(form: &Element) -> bool {
    form.has_child("field", ns::DATA_FORMS)
}

/// The first value of a field; an empty field has none.
pub fn value(form: &Element, var: &str) -> Option<String> {
    values(form, var)?.into_iter().next()
}

/// All values of a field; `None`: there is no such field.
pub fn values(form: &Element, var: &str) -> Option<Vec<String>> {
    let field = form
        .children()
        .find(|child| child.is("field", ns::DATA_FORMS) && child.attr("var") == Some(var))?;
    let values = field
        .children()
        .filter(|child| child.is("value", ns::DATA_FORMS));
    Some(values.map(Element::text).collect())
}

/// A boolean as XML Schema writes it (XEP-0004, 3.3).
pub fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_form_is_read_back() {
        let form = Form::new("form", "urn:x")
            .title("Title", "")
            .field("jid-multi", "who", "Who", ["a@b", "c@d"])
            .boolean("on", "On", true)
            .choice("one", "One", "b", &[("a", "A"), ("b", "B")])
            .build();
        let form: Element = String::from(&form).parse().unwrap();
        assert_eq!(form_type(&form).as_deref(), Some("urn:x"));
        assert_eq!(values(&form, "who").unwrap(), ["a@b", "c@d"]);
        assert_eq!(value(&form, "on").as_deref(), Some("1"));
        assert_eq!(values(&form, "one").unwrap(), ["b"]);
        assert_eq!(values(&form, "other"), None);
    }

    #[test]
    fn a_boolean_is_one_of_four_words() {
        for (text, expected) in [
            ("1", Some(true)),
            ("true", Some(true)),
            ("0", Some(false)),
            (" false ", Some(false)),
            ("yes", None),
            ("", None),
        ] {
            assert_eq!(boolean(text), expected, "{text:?}");
        }
    }
}
