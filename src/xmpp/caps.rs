//! XEP-0115: the hash that stands for a disco#info, computed and verified. What is ill-formed (5.4) has no hash: it could
//! be made to collide with another's.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};

use crate::xmpp::ns;

/// Of `xml:lang`.
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// The hash of a disco#info by an algorithm's name (XEP-0300); `None`: ill-formed, or the algorithm is not known.
pub fn hash(query: &Element, algorithm: &str) -> Option<String> {
    let text = input(query)?;
    Some(match algorithm {
        "sha-1" => STANDARD.encode(Sha1::digest(text)),
        "sha-256" => STANDARD.encode(Sha256::digest(text)),
        "sha-512" => STANDARD.encode(Sha512::digest(text)),
        _ => return None,
    })
}

/// What is hashed (XEP-0115, 5.1). Sorting is by octets, as Rust compares strings.
fn input(query: &Element) -> Option<String> {
    let mut text = String::new();
    let mut add = |part: &str| {
        text.push_str(part);
        text.push('<');
    };
    for identity in distinct(identities(query))? {
        add(&identity);
    }
    for feature in distinct(features(query).map(ToOwned::to_owned))? {
        add(&feature);
    }
    for (form_type, fields) in forms(query)? {
        add(&form_type);
        for (var, values) in fields {
            add(&var);
            for value in values {
                add(&value);
            }
        }
    }
    Some(text)
}

fn identities(query: &Element) -> impl Iterator<Item = String> {
    query
        .children()
        .filter(|child| child.is("identity", ns::DISCO_INFO))
        .map(|identity| {
            let part = |name| identity.attr(name).unwrap_or_default();
            let language = identity.attr_ns(XML, "lang").unwrap_or_default();
            format!(
                "{}/{}/{language}/{}",
                part("category"),
                part("type"),
                part("name")
            )
        })
}

/// The features of a disco#info.
pub fn features(query: &Element) -> impl Iterator<Item = &str> {
    query
        .children()
        .filter(|child| child.is("feature", ns::DISCO_INFO))
        .filter_map(|feature| feature.attr("var"))
}

/// Sorted; `None` where something is there twice.
fn distinct(parts: impl Iterator<Item = String>) -> Option<BTreeSet<String>> {
    let mut sorted = BTreeSet::new();
    for part in parts {
        if !sorted.insert(part) {
            return None;
        }
    }
    Some(sorted)
}

type Fields = BTreeMap<String, Vec<String>>;

/// The extended information (XEP-0128) by its type; forms without one are left out.
fn forms(query: &Element) -> Option<BTreeMap<String, Fields>> {
    let mut forms = BTreeMap::new();
    for form in query
        .children()
        .filter(|child| child.is("x", ns::DATA_FORMS))
    {
        let mut fields = Fields::new();
        let mut form_type = None;
        for field in form
            .children()
            .filter(|child| child.is("field", ns::DATA_FORMS))
        {
            let mut values: Vec<String> = field
                .children()
                .filter(|child| child.is("value", ns::DATA_FORMS))
                .map(Element::text)
                .collect();
            values.sort();
            let var = field.attr("var").unwrap_or_default();
            if var != "FORM_TYPE" {
                fields.insert(var.to_owned(), values);
                continue;
            }
            values.dedup();
            // Several types are ill-formed; one that is not hidden is none.
            match values.as_slice() {
                [value] if field.attr("type") == Some("hidden") => form_type = Some(value.clone()),
                [_] => {}
                _ => return None,
            }
        }
        if let Some(form_type) = form_type
            && forms.insert(form_type, fields).is_some()
        {
            return None;
        }
    }
    Some(forms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0115, 5.2 and 5.3.
    #[test]
    fn the_examples_of_the_xep_have_their_hashes() {
        struct Case {
            name: &'static str,
            query: &'static str,
            hash: &'static str,
        }
        let cases = [
            Case {
                name: "simple",
                query: "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' name='Exodus 0.9.1' type='pc'/><feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/></query>",
                hash: "QgayPKawpkPSDYmwT/WM94uAlu0=",
            },
            Case {
                name: "complex",
                query: "<query xmlns='http://jabber.org/protocol/disco#info'><identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/><identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/><feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/><x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field><field var='ip_version'><value>ipv4</value><value>ipv6</value></field><field var='os'><value>Mac</value></field><field var='os_version'><value>10.5.1</value></field><field var='software'><value>Psi</value></field><field var='software_version'><value>0.11</value></field></x></query>",
                hash: "q07IKJEyjvHSyhy//CH0CxmKi8w=",
            },
        ];
        for case in cases {
            let query: Element = case.query.parse().unwrap();
            assert_eq!(
                hash(&query, "sha-1").as_deref(),
                Some(case.hash),
                "{}",
                case.name
            );
            assert_eq!(hash(&query, "md5"), None);
        }
    }

    #[test]
    fn what_is_ill_formed_has_no_hash() {
        struct Case {
            name: &'static str,
            inner: &'static str,
        }
        let cases = [
            Case {
                name: "a feature twice",
                inner: "<feature var='a'/><feature var='a'/>",
            },
            Case {
                name: "an identity twice",
                inner: "<identity category='a' type='b'/><identity category='a' type='b'/>",
            },
            Case {
                name: "a form twice",
                inner: "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>a</value></field></x><x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>a</value></field></x>",
            },
            Case {
                name: "a form of two types",
                inner: "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>a</value><value>b</value></field></x>",
            },
        ];
        for case in cases {
            let query = format!("<query xmlns='{}'>{}</query>", ns::DISCO_INFO, case.inner);
            assert_eq!(
                hash(&query.parse().unwrap(), "sha-1"),
                None,
                "{}",
                case.name
            );
        }
    }
}
