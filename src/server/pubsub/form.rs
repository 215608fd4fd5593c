//! Data forms (XEP-0004) of nodes and subscriptions: written, read, and compared as preconditions (XEP-0060, 7.1.5).

use minidom::Element;

use super::config::{Config, FIELDS, Kind, boolean};
use super::error;
use crate::server::StanzaError;
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

pub const NODE_CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";
pub const META_DATA: &str = "http://jabber.org/protocol/pubsub#meta-data";
pub const PUBLISH_OPTIONS: &str = "http://jabber.org/protocol/pubsub#publish-options";
pub const SUBSCRIBE_OPTIONS: &str = "http://jabber.org/protocol/pubsub#subscribe_options";
pub const SUBSCRIBE_AUTHORIZATION: &str =
    "http://jabber.org/protocol/pubsub#subscribe_authorization";

/// The most fields that a form may have; ours have far fewer.
const MAX_FIELDS: usize = 100;

/// A form as somebody filled it in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filled {
    /// The form was cancelled (XEP-0004, 3.1).
    pub cancelled: bool,
    /// Field by field, in order, `FORM_TYPE` left out.
    pub fields: Vec<(String, Vec<String>)>,
}

impl Filled {
    /// Reads an `<x/>`. The type may be missing, as it is in what some clients send, but may not be another form's.
    pub fn parse(form: &Element, form_type: &str) -> Result<Self, StanzaError> {
        let cancelled = match form.attr("type") {
            Some("submit") | None => false,
            Some("cancel") => true,
            Some(_) => return Err(StanzaError::bad_request().text("A form to submit is expected")),
        };
        let mut fields = Vec::new();
        for field in form
            .children()
            .filter(|child| child.is("field", ns::DATA_FORMS))
        {
            let Some(var) = field.attr("var") else {
                continue;
            };
            let values: Vec<String> = field
                .children()
                .filter(|child| child.is("value", ns::DATA_FORMS))
                .map(Element::text)
                .collect();
            if var == "FORM_TYPE" {
                if values.iter().any(|value| value != form_type) {
                    return Err(StanzaError::bad_request().text("The form has another type"));
                }
                continue;
            }
            if fields.len() >= MAX_FIELDS {
                return Err(StanzaError::policy_violation().text("The form has too many fields"));
            }
            fields.push((var.to_owned(), values));
        }
        Ok(Self { cancelled, fields })
    }

    /// The form inside an element such as `<configure/>`; none is an empty one.
    pub fn inside(parent: &Element, form_type: &str) -> Result<Option<Self>, StanzaError> {
        parent
            .get_child("x", ns::DATA_FORMS)
            .map(|form| Self::parse(form, form_type))
            .transpose()
    }

    pub fn value(&self, var: &str) -> Option<&str> {
        let (_, values) = self.fields.iter().find(|(name, _)| name == var)?;
        values.first().map(String::as_str)
    }

    /// The configuration with this form's values. Fields that nobody here knows are left out, as XEP-0060 lets a service
    /// support few of them; a value that a known field does not have is refused (8.2.4).
    pub fn applied(&self, config: &Config) -> Result<Config, StanzaError> {
        let mut applied = config.clone();
        for (var, values) in &self.fields {
            let Some(field) = FIELDS.iter().find(|field| field.var == var) else {
                continue;
            };
            if (field.write)(&mut applied, values).is_none() {
                return Err(StanzaError::not_acceptable().text(format!("{var} has no such value")));
            }
        }
        Ok(applied)
    }

    /// Whether a node is as the publisher takes it to be (XEP-0060, 7.1.5). Numbers beyond the service's limit are the
    /// limit: who asks for 10,000 items gets on with a node that keeps as many as there may be.
    pub fn met_by(&self, config: &Config, most_items: usize) -> Result<(), StanzaError> {
        for (var, values) in &self.fields {
            let met = FIELDS
                .iter()
                .find(|field| field.var == var)
                .and_then(|field| {
                    let mut wanted = config.clone();
                    (field.write)(&mut wanted, values)?;
                    let same = if field.var == "pubsub#max_items" {
                        wanted.kept(most_items) == config.kept(most_items)
                    } else {
                        (field.read)(&wanted) == (field.read)(config)
                    };
                    same.then_some(())
                });
            if met.is_none() {
                return Err(error::with(StanzaError::conflict(), "precondition-not-met")
                    .text(format!("The node has another {var}")));
            }
        }
        Ok(())
    }
}

/// A field for a form of ours.
pub fn field(var: &str, kind: &str, values: &[&str]) -> Element {
    let mut field = element("field", ns::DATA_FORMS, &[("var", var), ("type", kind)]);
    for value in values {
        field.append_child(text_element("value", ns::DATA_FORMS, value));
    }
    field
}

/// A form with its type; `kind` is `form`, `submit` or `result`.
pub fn form(kind: &str, form_type: &str, fields: impl IntoIterator<Item = Element>) -> Element {
    let mut form = element("x", ns::DATA_FORMS, &[("type", kind)]);
    form.append_child(field("FORM_TYPE", "hidden", &[form_type]));
    for field in fields {
        form.append_child(field);
    }
    form
}

/// The form that a node is configured with.
pub fn of_config(config: &Config, kind: &str) -> Element {
    form(
        kind,
        NODE_CONFIG,
        FIELDS.iter().map(|row| config_field(row, config)),
    )
}

fn config_field(row: &super::config::Field, config: &Config) -> Element {
    let kind = match row.kind {
        Kind::Text => "text-single",
        Kind::TextMulti => "text-multi",
        Kind::Boolean => "boolean",
        Kind::List(_) => "list-single",
    };
    let values = (row.read)(config);
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let mut field = field(row.var, kind, &values);
    crate::xmpp::element::set(&mut field, "label", row.label);
    if let Kind::List(options) = row.kind {
        for option in options {
            let mut element = Element::bare("option", ns::DATA_FORMS);
            element.append_child(text_element("value", ns::DATA_FORMS, option));
            field.append_child(element);
        }
    }
    field
}

/// Whether events reach a subscriber, the one option of a subscription (XEP-0060, 16.4.2).
pub fn of_subscription(deliver: bool) -> Element {
    let value = if deliver { "1" } else { "0" };
    form(
        "form",
        SUBSCRIBE_OPTIONS,
        [field("pubsub#deliver", "boolean", &[value])],
    )
}

/// Reads [`of_subscription`] back.
pub fn deliver(form: &Filled, before: bool) -> Result<bool, StanzaError> {
    form.value("pubsub#deliver").map_or(Ok(before), |value| {
        boolean(value).ok_or_else(|| error::with(StanzaError::bad_request(), "invalid-options"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::pubsub::config::AccessModel;

    fn filled(fields: &[(&str, &str)]) -> Filled {
        let rows = fields
            .iter()
            .map(|(var, value)| field(var, "text-single", &[value]));
        Filled::parse(&form("submit", NODE_CONFIG, rows), NODE_CONFIG).unwrap()
    }

    #[test]
    fn a_form_of_ours_read_back_changes_nothing() {
        for config in [Config::personal(), Config::private(), Config::public()] {
            let form = of_config(&config, "submit");
            let filled = Filled::parse(&form, NODE_CONFIG).unwrap();
            assert_eq!(filled.applied(&config).unwrap(), config);
            assert_eq!(filled.fields.len(), FIELDS.len());
        }
    }

    #[test]
    fn every_field_takes_its_values_and_no_other() {
        struct Case {
            name: &'static str,
            field: (&'static str, &'static str),
            taken: bool,
        }
        let cases = [
            Case {
                name: "an access model",
                field: ("pubsub#access_model", "whitelist"),
                taken: true,
            },
            Case {
                name: "no access model",
                field: ("pubsub#access_model", "everyone"),
                taken: false,
            },
            Case {
                name: "max",
                field: ("pubsub#max_items", "max"),
                taken: true,
            },
            Case {
                name: "a number",
                field: ("pubsub#max_items", "7"),
                taken: true,
            },
            Case {
                name: "a negative number",
                field: ("pubsub#max_items", "-1"),
                taken: false,
            },
            Case {
                name: "true",
                field: ("pubsub#persist_items", "true"),
                taken: true,
            },
            Case {
                name: "yes",
                field: ("pubsub#persist_items", "yes"),
                taken: false,
            },
            Case {
                name: "a field of another service",
                field: ("pubsub#tempsub", "1"),
                taken: true,
            },
        ];
        for case in cases {
            let applied = filled(&[case.field]).applied(&Config::personal());
            assert_eq!(applied.is_ok(), case.taken, "{}", case.name);
        }
        let applied = filled(&[("pubsub#access_model", "open"), ("pubsub#max_items", "max")]);
        let applied = applied.applied(&Config::personal()).unwrap();
        assert_eq!(applied.access_model, AccessModel::Open);
        assert_eq!(applied.max_items, None);
    }

    #[test]
    fn preconditions_are_compared_by_what_they_mean() {
        struct Case {
            name: &'static str,
            field: (&'static str, &'static str),
            met: bool,
        }
        // A private node of a service that keeps 500 items.
        let cases = [
            Case {
                name: "the access model",
                field: ("pubsub#access_model", "whitelist"),
                met: true,
            },
            Case {
                name: "another",
                field: ("pubsub#access_model", "open"),
                met: false,
            },
            Case {
                name: "max is max",
                field: ("pubsub#max_items", "max"),
                met: true,
            },
            Case {
                name: "more than there may be",
                field: ("pubsub#max_items", "10000"),
                met: true,
            },
            Case {
                name: "fewer",
                field: ("pubsub#max_items", "1"),
                met: false,
            },
            Case {
                name: "true is 1",
                field: ("pubsub#persist_items", "true"),
                met: true,
            },
            Case {
                name: "an unknown field",
                field: ("pubsub#tempsub", "1"),
                met: false,
            },
            Case {
                name: "an unknown value",
                field: ("pubsub#persist_items", "x"),
                met: false,
            },
        ];
        for case in cases {
            let result = filled(&[case.field]).met_by(&Config::private(), 500);
            assert_eq!(result.is_ok(), case.met, "{}", case.name);
            if let Err(error) = result {
                assert!(
                    error
                        .detail
                        .unwrap()
                        .is("precondition-not-met", ns::PUBSUB_ERRORS)
                );
            }
        }
    }

    #[test]
    fn another_form_and_an_endless_one_are_refused() {
        let other = form("submit", "urn:other", []);
        assert!(Filled::parse(&other, NODE_CONFIG).is_err());
        let fields = (0..101).map(|number| field(&number.to_string(), "text-single", &[]));
        assert!(Filled::parse(&form("submit", NODE_CONFIG, fields), NODE_CONFIG).is_err());
    }
}
