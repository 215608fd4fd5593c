//! vcard-temp (XEP-0054) to vCard4 (RFC 6351) and back, by the mapping of XEP-0292, 11. Photos are avatars' business.

use minidom::Element;

use crate::xmpp::element::{child_text, text_element};
use crate::xmpp::ns;

/// Properties that hold one value: the old name, the new one, and the type of the value.
const SIMPLE: &[(&str, &str, &str)] = &[
    ("FN", "fn", "text"),
    ("NICKNAME", "nickname", "text"),
    ("BDAY", "bday", "date"),
    ("URL", "url", "uri"),
    ("TITLE", "title", "text"),
    ("ROLE", "role", "text"),
    ("DESC", "note", "text"),
    ("TZ", "tz", "text"),
    ("UID", "uid", "text"),
    ("REV", "rev", "timestamp"),
];

/// The parts of a property, by their old and new names.
type Parts = &'static [(&'static str, &'static str)];

/// Properties made of parts that hold text: the old name, the new one, and those of the parts.
const STRUCTURED: &[(&str, &str, Parts)] = &[
    (
        "N",
        "n",
        &[
            ("FAMILY", "surname"),
            ("GIVEN", "given"),
            ("MIDDLE", "additional"),
            ("PREFIX", "prefix"),
            ("SUFFIX", "suffix"),
        ],
    ),
    (
        "ADR",
        "adr",
        &[
            ("POBOX", "pobox"),
            ("EXTADD", "ext"),
            ("STREET", "street"),
            ("LOCALITY", "locality"),
            ("REGION", "region"),
            ("PCODE", "code"),
            ("CTRY", "country"),
        ],
    ),
];

/// What kind of address or number it is, in both.
const TYPES: &[(&str, &str)] = &[
    ("HOME", "home"),
    ("WORK", "work"),
    ("VOICE", "voice"),
    ("FAX", "fax"),
    ("PAGER", "pager"),
    ("CELL", "cell"),
    ("VIDEO", "video"),
];

fn temp(name: &str) -> Element {
    Element::bare(name, ns::VCARD)
}

fn four(name: &str) -> Element {
    Element::bare(name, ns::VCARD4)
}

/// A property with one value of a type.
fn four_value(name: &str, kind: &str, value: &str) -> Element {
    let mut property = four(name);
    property.append_child(text_element(kind, ns::VCARD4, value));
    property
}

/// The value of a property, whatever its type.
fn value(property: &Element) -> Option<String> {
    let value = property
        .children()
        .find(|child| child.name() != "parameters");
    value.map(Element::text).filter(|text| !text.is_empty())
}

/// The text of a child of vcard-temp, where there is any.
fn part(property: &Element, name: &str) -> Option<String> {
    child_text(property, name, ns::VCARD).filter(|text| !text.is_empty())
}

pub(super) fn to_four(vcard: &Element) -> Element {
    let mut card = four("vcard");
    for property in vcard.children().filter(|child| child.has_ns(ns::VCARD)) {
        if let Some(property) = property_to_four(property) {
            card.append_child(property);
        }
    }
    card
}

fn property_to_four(property: &Element) -> Option<Element> {
    let name = property.name();
    if let Some((_, new, kind)) = SIMPLE.iter().find(|(old, _, _)| *old == name) {
        let text = property.text();
        return (!text.is_empty()).then(|| four_value(new, kind, &text));
    }
    if let Some((_, new, parts)) = STRUCTURED.iter().find(|(old, _, _)| *old == name) {
        let mut structured = typed_four(new, property);
        let mut filled = false;
        for (old, new) in *parts {
            let text = part(property, old);
            filled |= text.is_some();
            // The schema wants every part, empty or not (RFC 6351, 5).
            structured.append_child(match text {
                Some(text) => text_element(new, ns::VCARD4, &text),
                None => four(new),
            });
        }
        return filled.then_some(structured);
    }
    match name {
        "NOTE" => {
            let text = property.text();
            (!text.is_empty()).then(|| four_value("note", "text", &text))
        }
        "JABBERID" => {
            let text = property.text();
            (!text.is_empty()).then(|| four_value("impp", "uri", &format!("xmpp:{text}")))
        }
        "EMAIL" => {
            let mut email = typed_four("email", property);
            email.append_child(text_element("text", ns::VCARD4, &part(property, "USERID")?));
            Some(email)
        }
        "TEL" => {
            let mut number = typed_four("tel", property);
            let uri = format!("tel:{}", part(property, "NUMBER")?);
            number.append_child(text_element("uri", ns::VCARD4, &uri));
            Some(number)
        }
        "ORG" => {
            let mut organization = four("org");
            for unit in property.children().filter(|child| {
                matches!(child.name(), "ORGNAME" | "ORGUNIT") && !child.text().is_empty()
            }) {
                organization.append_child(text_element("text", ns::VCARD4, &unit.text()));
            }
            organization.children().next()?;
            Some(organization)
        }
        "GEO" => {
            let place = format!("geo:{},{}", part(property, "LAT")?, part(property, "LON")?);
            Some(four_value("geo", "uri", &place))
        }
        "CATEGORIES" => {
            let mut categories = four("categories");
            for keyword in property
                .children()
                .filter(|child| child.name() == "KEYWORD")
            {
                categories.append_child(text_element("text", ns::VCARD4, &keyword.text()));
            }
            categories.children().next()?;
            Some(categories)
        }
        _ => None,
    }
}

/// A property with the types that the old one has.
fn typed_four(name: &str, old: &Element) -> Element {
    let mut property = four(name);
    let mut kinds = four("type");
    for (flag, kind) in TYPES {
        if old.has_child(flag, ns::VCARD) {
            kinds.append_child(text_element("text", ns::VCARD4, kind));
        }
    }
    if kinds.children().next().is_some() {
        let mut parameters = four("parameters");
        parameters.append_child(kinds);
        property.append_child(parameters);
    }
    property
}

pub(super) fn to_temp(card: &Element) -> Element {
    let mut vcard = temp("vCard");
    for property in card.children().filter(|child| child.has_ns(ns::VCARD4)) {
        if let Some(property) = property_to_temp(property) {
            // Clients show one description: of several notes it is the first.
            let is_second = property.name() == "DESC" && vcard.has_child("DESC", ns::VCARD);
            vcard.append_child(if is_second {
                text_element("NOTE", ns::VCARD, &property.text())
            } else {
                property
            });
        }
    }
    vcard
}

fn property_to_temp(property: &Element) -> Option<Element> {
    let name = property.name();
    if let Some((old, _, _)) = SIMPLE.iter().find(|(_, new, _)| *new == name) {
        return Some(text_element(old, ns::VCARD, &value(property)?));
    }
    if let Some((old, _, parts)) = STRUCTURED.iter().find(|(_, new, _)| *new == name) {
        let mut structured = typed_temp(old, property);
        for (old, new) in *parts {
            let text = child_text(property, new, ns::VCARD4).unwrap_or_default();
            if !text.is_empty() {
                structured.append_child(text_element(old, ns::VCARD, &text));
            }
        }
        return Some(structured);
    }
    match name {
        "impp" => {
            let uri = value(property)?;
            let jid = uri.strip_prefix("xmpp:")?;
            Some(text_element("JABBERID", ns::VCARD, jid))
        }
        "email" => {
            let mut email = typed_temp("EMAIL", property);
            email.append_child(temp("INTERNET"));
            email.append_child(text_element("USERID", ns::VCARD, &value(property)?));
            Some(email)
        }
        "tel" => {
            let mut number = typed_temp("TEL", property);
            let uri = value(property)?;
            let digits = uri.strip_prefix("tel:").unwrap_or(&uri);
            number.append_child(text_element("NUMBER", ns::VCARD, digits));
            Some(number)
        }
        "org" => {
            let mut organization = temp("ORG");
            let units = property.children().filter(|child| child.name() == "text");
            for (position, unit) in units.enumerate() {
                let name = if position == 0 { "ORGNAME" } else { "ORGUNIT" };
                organization.append_child(text_element(name, ns::VCARD, &unit.text()));
            }
            Some(organization)
        }
        "geo" => {
            let uri = value(property)?;
            let (latitude, longitude) = uri.strip_prefix("geo:")?.split_once(',')?;
            let mut place = temp("GEO");
            place.append_child(text_element("LAT", ns::VCARD, latitude));
            place.append_child(text_element("LON", ns::VCARD, longitude));
            Some(place)
        }
        "categories" => {
            let mut categories = temp("CATEGORIES");
            for keyword in property.children().filter(|child| child.name() == "text") {
                categories.append_child(text_element("KEYWORD", ns::VCARD, &keyword.text()));
            }
            Some(categories)
        }
        _ => None,
    }
}

/// A property with the types that the new one has.
fn typed_temp(name: &str, new: &Element) -> Element {
    let mut property = temp(name);
    let kinds = new
        .get_child("parameters", ns::VCARD4)
        .and_then(|parameters| parameters.get_child("type", ns::VCARD4));
    for kind in kinds.into_iter().flat_map(Element::children) {
        if let Some((flag, _)) = TYPES.iter().find(|(_, name)| *name == kind.text()) {
            property.append_child(temp(flag));
        }
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_go_there_and_back() {
        struct Case {
            name: &'static str,
            temp: &'static str,
            four: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { name: "a name", temp: "<FN>Juliet Capulet</FN>", four: "<fn><text>Juliet Capulet</text></fn>" },
            Case { name: "a birthday", temp: "<BDAY>1476-06-09</BDAY>", four: "<bday><date>1476-06-09</date></bday>" },
            Case { name: "an address of the network", temp: "<JABBERID>j@c.example</JABBERID>", four: "<impp><uri>xmpp:j@c.example</uri></impp>" },
            Case { name: "a description", temp: "<DESC>Young &amp; in love</DESC>", four: "<note><text>Young &amp; in love</text></note>" },
            Case { name: "the parts of a name", temp: "<N><FAMILY>Capulet</FAMILY><GIVEN>Juliet</GIVEN></N>",
                four: "<n><surname>Capulet</surname><given>Juliet</given><additional/><prefix/><suffix/></n>" },
            Case { name: "mail", temp: "<EMAIL><HOME/><INTERNET/><USERID>j@c.example</USERID></EMAIL>",
                four: "<email><parameters><type><text>home</text></type></parameters><text>j@c.example</text></email>" },
            Case { name: "a telephone", temp: "<TEL><WORK/><CELL/><NUMBER>+39 1</NUMBER></TEL>",
                four: "<tel><parameters><type><text>work</text><text>cell</text></type></parameters><uri>tel:+39 1</uri></tel>" },
            Case { name: "an address", temp: "<ADR><HOME/><LOCALITY>Verona</LOCALITY><CTRY>Italy</CTRY></ADR>",
                four: "<adr><parameters><type><text>home</text></type></parameters><pobox/><ext/><street/><locality>Verona</locality><region/><code/><country>Italy</country></adr>" },
            Case { name: "an organization", temp: "<ORG><ORGNAME>Capulet</ORGNAME><ORGUNIT>Balcony</ORGUNIT></ORG>", four: "<org><text>Capulet</text><text>Balcony</text></org>" },
            Case { name: "a place", temp: "<GEO><LAT>45.4</LAT><LON>10.9</LON></GEO>", four: "<geo><uri>geo:45.4,10.9</uri></geo>" },
            Case { name: "categories", temp: "<CATEGORIES><KEYWORD>a</KEYWORD><KEYWORD>b</KEYWORD></CATEGORIES>", four: "<categories><text>a</text><text>b</text></categories>" },
        ];
        for case in cases {
            let temp: Element = format!("<vCard xmlns='vcard-temp'>{}</vCard>", case.temp)
                .parse()
                .unwrap();
            let four: Element = format!("<vcard xmlns='{}'>{}</vcard>", ns::VCARD4, case.four)
                .parse()
                .unwrap();
            assert_eq!(to_four(&temp), four, "{}: to vCard4", case.name);
            assert_eq!(to_temp(&four), temp, "{}: to vcard-temp", case.name);
        }
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let temp: Element = "<vCard xmlns='vcard-temp'><NICKNAME/><N/><EMAIL/><TEL><HOME/></TEL><ORG/><GEO/><PHOTO><BINVAL>x</BINVAL></PHOTO><X-Y>z</X-Y></vCard>".parse().unwrap();
        assert_eq!(to_four(&temp).children().count(), 0);
    }

    #[test]
    fn of_two_notes_the_first_is_the_description() {
        let four: Element = format!(
            "<vcard xmlns='{}'><note><text>a</text></note><note><text>b</text></note></vcard>",
            ns::VCARD4
        )
        .parse()
        .unwrap();
        let names: Vec<String> = to_temp(&four)
            .children()
            .map(|child| child.name().to_owned())
            .collect();
        assert_eq!(names, ["DESC", "NOTE"]);
    }
}
