//! Forms of commands (XEP-0004): what is asked, and what was filled in.

use std::collections::BTreeMap;

use jid::{BareJid, Jid};
use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field, FieldType};

use crate::server::StanzaError;
use crate::xmpp::ns;

/// A form to be filled in.
pub(super) fn ask(title: &str, fields: Vec<Field>) -> DataForm {
    DataForm {
        title: Some(title.to_owned()),
        ..DataForm::new(DataFormType::Form, super::admin::FORM_TYPE, fields)
    }
}

/// A form of results.
pub(super) fn tell(fields: Vec<Field>) -> DataForm {
    DataForm::new(DataFormType::Result_, super::admin::FORM_TYPE, fields)
}

/// A field that must be filled in.
pub(super) fn field(name: &str, kind: FieldType, label: &str) -> Field {
    let mut field = Field::new(name, kind);
    field.label = Some(label.to_owned());
    field.required = true;
    field
}

pub(super) fn values(name: &str, kind: FieldType, values: Vec<String>) -> Field {
    let mut field = Field::new(name, kind);
    field.values = values;
    field
}

/// What was filled in, by field.
#[derive(Debug, Default)]
pub(super) struct Filled(BTreeMap<String, Vec<String>>);

impl Filled {
    /// `None`: it is no form that somebody has filled in.
    pub(super) fn read(form: &Element) -> Option<Self> {
        if form.attr("type") != Some("submit") {
            return None;
        }
        let fields = form
            .children()
            .filter(|field| field.is("field", ns::DATA_FORMS));
        let read = |field: &Element| {
            let values = field
                .children()
                .filter(|value| value.is("value", ns::DATA_FORMS));
            let values = values.map(Element::text).collect();
            Some((field.attr("var")?.to_owned(), values))
        };
        Some(Self(fields.filter_map(read).collect()))
    }

    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn one(&self, name: &str) -> Result<&str, StanzaError> {
        match self.all(name) {
            [value] if !value.is_empty() => Ok(value),
            _ => Err(missing(name)),
        }
    }

    pub(super) fn jid(&self, name: &str) -> Result<BareJid, StanzaError> {
        BareJid::new(self.one(name)?.trim()).map_err(|_jid| malformed(name))
    }

    /// At least one.
    pub(super) fn jids(&self, name: &str) -> Result<Vec<Jid>, StanzaError> {
        let values = self.all(name);
        if values.is_empty() {
            return Err(missing(name));
        }
        let read = |value: &String| Jid::new(value.trim()).map_err(|_jid| malformed(name));
        values.iter().map(read).collect()
    }
}

fn missing(name: &str) -> StanzaError {
    super::bad("bad-payload").text(format!("Fill in {name}"))
}

fn malformed(name: &str) -> StanzaError {
    StanzaError::jid_malformed().text(format!("{name} must be an address like name@domain"))
}
