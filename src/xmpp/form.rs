//! XEP-0004: Data Forms. Written field by field, and read as they come: the type of xmpp-parsers refuses whole forms for what
//! is common in the wild, such as a field without a type. Who reads one decides what an unknown field means (3.3).

use minidom::Element;

use super::element::{element, set, text_element};
use super::ns;

/// The most fields that are read of a form, and values of a field; ours have far fewer.
const MAX_FIELDS: usize = 100;
const MAX_VALUES: usize = 1_000;

const FORM_TYPE: &str = "FORM_TYPE";

/// A form that is being written.
#[derive(Clone, Debug)]
pub struct Form(Element);

impl Form {
    /// `kind`: form, submit or result. `form_type`: what it is for (XEP-0068).
    pub fn new(kind: &str, form_type: &str) -> Self {
        let hidden = Field::new("hidden", FORM_TYPE).value(form_type);
        Self(element("x", ns::DATA_FORMS, &[("type", kind)])).field(hidden)
    }

    #[must_use]
    pub fn title(self, title: &str) -> Self {
        self.text("title", title)
    }

    #[must_use]
    pub fn instructions(self, instructions: &str) -> Self {
        self.text("instructions", instructions)
    }

    fn text(mut self, name: &str, text: &str) -> Self {
        self.0
            .append_child(text_element(name, ns::DATA_FORMS, text));
        self
    }

    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.0.append_child(field.0);
        self
    }

    /// Something that is no field, such as a roster (XEP-0133, 4.8).
    #[must_use]
    pub fn child(mut self, child: Element) -> Self {
        self.0.append_child(child);
        self
    }

    #[must_use]
    pub fn fields(self, fields: impl IntoIterator<Item = Field>) -> Self {
        fields.into_iter().fold(self, Self::field)
    }

    pub fn build(self) -> Element {
        self.0
    }
}

/// A field that is being written.
#[derive(Clone, Debug)]
pub struct Field(Element);

impl Field {
    /// `kind`: one of 3.3, such as text-single, jid-multi or list-single.
    pub fn new(kind: &str, var: &str) -> Self {
        let attributes = [("type", kind), ("var", var)];
        Self(element("field", ns::DATA_FORMS, &attributes))
    }

    pub fn boolean(var: &str, value: bool) -> Self {
        Self::new("boolean", var).value(if value { "1" } else { "0" })
    }

    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        set(&mut self.0, "label", label);
        self
    }

    #[must_use]
    pub fn required(mut self) -> Self {
        self.0
            .append_child(Element::bare("required", ns::DATA_FORMS));
        self
    }

    #[must_use]
    pub fn value(mut self, value: impl AsRef<str>) -> Self {
        self.0
            .append_child(text_element("value", ns::DATA_FORMS, value.as_ref()));
        self
    }

    #[must_use]
    pub fn values(self, values: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        values.into_iter().fold(self, Self::value)
    }

    /// Another child, such as what validates it (XEP-0122).
    #[must_use]
    pub fn child(mut self, child: Element) -> Self {
        self.0.append_child(child);
        self
    }

    /// One more to choose from, for lists. `label`: where it says more than the value, else empty.
    #[must_use]
    pub fn option(mut self, value: &str, label: &str) -> Self {
        let mut option = Element::bare("option", ns::DATA_FORMS);
        if !label.is_empty() {
            set(&mut option, "label", label);
        }
        option.append_child(text_element("value", ns::DATA_FORMS, value));
        self.0.append_child(option);
        self
    }
}

/// Why a form is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("A form to submit is expected")]
    NotSubmitted,
    #[error("The form has too many fields or values")]
    TooLong,
}

/// The form in a stanza or a query.
pub fn find(element: &Element) -> Option<&Element> {
    element.get_child("x", ns::DATA_FORMS)
}

/// A form as somebody filled it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Nothing was filled in: it was cancelled (3.1).
    pub cancelled: bool,
    form_type: Option<String>,
    /// In their order, each with its values; `FORM_TYPE` left out.
    fields: Vec<(String, Vec<String>)>,
}

impl Filled {
    /// Reads an `<x/>`. Its type may be missing, as it is in what some clients send, but may not be another than submit or
    /// cancel.
    pub fn read(form: &Element) -> Result<Self, Error> {
        match form.attr("type") {
            Some("submit") | None => Self::fields_of(form),
            Some("cancel") => Ok(Self {
                cancelled: true,
                ..Self::default()
            }),
            Some(_) => Err(Error::NotSubmitted),
        }
    }

    /// Reads a form of any kind: results, and what is to be filled in.
    pub fn fields_of(form: &Element) -> Result<Self, Error> {
        let mut filled = Self::default();
        for field in form.children().filter(|child| is(child, "field")) {
            // A fixed one need not have a name.
            let Some(var) = field.attr("var") else {
                continue;
            };
            let mut values = field.children().filter(|child| is(child, "value"));
            let read: Vec<String> = values
                .by_ref()
                .take(MAX_VALUES)
                .map(Element::text)
                .collect();
            if values.next().is_some() || filled.fields.len() >= MAX_FIELDS {
                return Err(Error::TooLong);
            }
            if var == FORM_TYPE {
                filled.form_type = read.into_iter().next();
            } else {
                filled.fields.push((var.to_owned(), read));
            }
        }
        Ok(filled)
    }

    /// What it is for (XEP-0068).
    pub fn form_type(&self) -> Option<&str> {
        self.form_type.as_deref()
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &[String])> {
        let fields = self.fields.iter();
        fields.map(|(var, values)| (var.as_str(), values.as_slice()))
    }

    /// All values of a field; `None`: there is no such field.
    pub fn values(&self, var: &str) -> Option<&[String]> {
        let mut fields = self.fields();
        fields.find(|(name, _)| *name == var).map(|(_, all)| all)
    }

    /// The first value of a field; an empty field has none.
    pub fn value(&self, var: &str) -> Option<&str> {
        self.values(var)?.first().map(String::as_str)
    }
}

/// A boolean as XML Schema writes it (3.3).
pub fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn is(element: &Element, name: &str) -> bool {
    element.is(name, ns::DATA_FORMS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let form = Form::new("submit", "urn:x")
            .title("Title")
            .instructions("Fill it in")
            .field(
                Field::new("jid-multi", "who")
                    .label("Who")
                    .values(["a@b", "c@d"]),
            )
            .field(Field::boolean("on", true))
            .field(
                Field::new("list-single", "one")
                    .required()
                    .value("b")
                    .option("a", "A")
                    .option("b", ""),
            )
            .build();
        let form: Element = String::from(&form).parse().unwrap();
        let filled = Filled::read(&form).unwrap();
        assert_eq!(filled.form_type(), Some("urn:x"));
        assert_eq!(filled.values("who").unwrap(), ["a@b", "c@d"]);
        assert_eq!(filled.value("on"), Some("1"));
        assert_eq!(filled.values("one").unwrap(), ["b"]);
        assert_eq!(filled.values("other"), None);
        assert_eq!(filled.fields().count(), 3);
    }

    #[test]
    fn only_what_was_filled_in_is_taken() {
        let of = |kind: &str, fields: &str| -> Result<Filled, Error> {
            let form = format!("<x xmlns='jabber:x:data'{kind}>{fields}</x>");
            Filled::read(&form.parse().unwrap())
        };
        let many = "<field var='a'/>".repeat(101);
        let long = format!("<field var='a'>{}</field>", "<value/>".repeat(1_001));
        assert_eq!(of("", "<field type='fixed'/>"), Ok(Filled::default()));
        assert!(of(" type='cancel'", "<field var='a'/>").unwrap().cancelled);
        assert_eq!(of(" type='form'", ""), Err(Error::NotSubmitted));
        assert_eq!(of(" type='submit'", &many), Err(Error::TooLong));
        assert_eq!(of(" type='submit'", &long), Err(Error::TooLong));
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
