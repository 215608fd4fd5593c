//! What a server wants to know of a new account (XEP-0077, 4 to 6), and our answer to it.

use minidom::Element;
use xmpp_parsers::ns;

use crate::xmpp::attribute;

/// XEP-0158: fields and forms that want a person.
const CAPTCHA_FORM: &str = "urn:xmpp:captcha";
const CAPTCHA_FIELDS: [&str; 9] = [
    "audio_recog",
    "captcha-fallback-text",
    "captcha-fallback-url",
    "ocr",
    "picture_q",
    "picture_recog",
    "qa",
    "speech_q",
    "speech_recog",
];

/// Why the answer cannot be given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// There is no form at all.
    Nothing,
    Captcha,
    /// XEP-0066: a web page.
    Elsewhere(String),
    /// Fields that we cannot fill.
    More(Vec<String>),
}

/// Fills the `<query/>` of a server.
pub(super) fn fill(query: &Element, username: &str, password: &str) -> Result<Element, Wants> {
    let known = |name: &str| match name {
        "username" => Some(username),
        "password" => Some(password),
        _ => None,
    };
    if let Some(form) = query.get_child("x", ns::DATA_FORMS) {
        let form = fill_form(form, known)?;
        return Ok(Element::builder("query", ns::REGISTER).append(form).build());
    }
    let fields = || query.children().filter(|child| child.has_ns(ns::REGISTER));
    if fields().any(|field| field.name() == "username") {
        return fill_legacy(fields(), known);
    }
    let url = query
        .get_child("x", ns::OOB)
        .and_then(|oob| oob.get_child("url", ns::OOB))
        .map(Element::text);
    Err(url.map_or(Wants::Nothing, Wants::Elsewhere))
}

/// XEP-0077, 3.1: each empty element is a required field.
fn fill_legacy<'a>(
    fields: impl Iterator<Item = &'a Element>,
    known: impl Fn(&str) -> Option<&'a str>,
) -> Result<Element, Wants> {
    let mut answer = Element::builder("query", ns::REGISTER);
    let mut more = Vec::new();
    for field in fields {
        let name = field.name();
        match (known(name), name) {
            (_, "instructions" | "registered") => {}
            (Some(value), _) => answer = answer.append(legacy(name, value)),
            // A key is sent back as it came.
            (None, "key") => answer = answer.append(legacy(name, &field.text())),
            (None, _) => more.push(name.to_owned()),
        }
    }
    if more.is_empty() {
        Ok(answer.build())
    } else {
        Err(Wants::More(more))
    }
}

fn legacy(name: &str, value: &str) -> Element {
    Element::builder(name, ns::REGISTER).append(value).build()
}

/// XEP-0004. Read leniently: a field that makes no sense is left out unless it is required.
fn fill_form<'a>(
    form: &Element,
    known: impl Fn(&str) -> Option<&'a str>,
) -> Result<Element, Wants> {
    let mut answer =
        Element::builder("x", ns::DATA_FORMS).attr(attribute::TYPE.to_owned(), "submit");
    let mut more = Vec::new();
    for field in form
        .children()
        .filter(|child| child.is("field", ns::DATA_FORMS))
    {
        let name = field.attr("var").unwrap_or_default();
        let values: Vec<String> = field
            .children()
            .filter(|child| child.is("value", ns::DATA_FORMS))
            .map(Element::text)
            .collect();
        let captcha = CAPTCHA_FIELDS.contains(&name)
            || (name == "FORM_TYPE" && values.iter().any(|value| value == CAPTCHA_FORM));
        if captcha {
            return Err(Wants::Captcha);
        }
        let required = field.has_child("required", ns::DATA_FORMS);
        if let Some(value) = known(name) {
            answer = answer.append(filled(name, &[value.to_owned()]));
        } else if field.attr("type") == Some("hidden") || (required && !values.is_empty()) {
            // What is hidden is sent back; a required field keeps what the server suggests.
            answer = answer.append(filled(name, &values));
        } else if required {
            more.push(field.attr("label").unwrap_or(name).to_owned());
        }
    }
    if more.is_empty() {
        Ok(answer.build())
    } else {
        Err(Wants::More(more))
    }
}

fn filled(name: &str, values: &[String]) -> Element {
    let values = values.iter().map(|value| {
        Element::builder("value", ns::DATA_FORMS)
            .append(value.as_str())
            .build()
    });
    Element::builder("field", ns::DATA_FORMS)
        .attr(attribute::VAR.to_owned(), name)
        .append_all(values)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_form_is_filled_or_refused_for_a_reason() {
        struct Case {
            name: &'static str,
            query: &'static str,
            expected: Result<&'static str, Wants>,
        }
        let cases = [
            Case {
                name: "legacy fields",
                query: "<instructions>Choose</instructions><username/><password/>",
                expected: Ok("<username>bot</username><password>&lt;1</password>"),
            },
            Case {
                name: "a key is returned",
                query: "<username/><password/><key>k</key>",
                expected: Ok("<username>bot</username><password>&lt;1</password><key>k</key>"),
            },
            Case {
                name: "an address is wanted",
                query: "<username/><password/><email/>",
                expected: Err(Wants::More(vec!["email".to_owned()])),
            },
            Case {
                name: "a form wins over legacy fields",
                query: "<username/><password/><email/><x xmlns='jabber:x:data' type='form'>\
                    <field type='hidden' var='FORM_TYPE'><value>jabber:iq:register</value></field>\
                    <field type='text-single' var='username'><required/></field>\
                    <field type='text-private' var='password'><required/></field>\
                    <field type='text-single' var='email'/></x>",
                expected: Ok("<x xmlns='jabber:x:data' type='submit'>\
                    <field var='FORM_TYPE'><value>jabber:iq:register</value></field>\
                    <field var='username'><value>bot</value></field>\
                    <field var='password'><value>&lt;1</value></field></x>"),
            },
            Case {
                name: "a form that wants more",
                query: "<x xmlns='jabber:x:data' type='form'><field var='username'/><field var='age' label='Your age'><required/></field></x>",
                expected: Err(Wants::More(vec!["Your age".to_owned()])),
            },
            Case {
                name: "ejabberd's CAPTCHA",
                query: "<x xmlns='jabber:x:data' type='form'><field type='hidden' var='FORM_TYPE'><value>urn:xmpp:captcha</value></field><field var='username'/></x>",
                expected: Err(Wants::Captcha),
            },
            Case {
                name: "a CAPTCHA's field",
                query: "<x xmlns='jabber:x:data' type='form'><field var='username'/><field var='ocr'><required/></field></x>",
                expected: Err(Wants::Captcha),
            },
            Case {
                name: "a web page",
                query: "<instructions>Go there</instructions><x xmlns='jabber:x:oob'><url>https://example.org/register</url></x>",
                expected: Err(Wants::Elsewhere("https://example.org/register".to_owned())),
            },
            Case {
                name: "nothing",
                query: "",
                expected: Err(Wants::Nothing),
            },
        ];
        for case in cases {
            let query = |inside: &str| -> Element {
                format!("<query xmlns='jabber:iq:register'>{inside}</query>")
                    .parse()
                    .unwrap()
            };
            let expected = case.expected.map(query);
            assert_eq!(
                fill(&query(case.query), "bot", "<1"),
                expected,
                "{}",
                case.name
            );
        }
    }
}
