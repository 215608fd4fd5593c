//! Building and reading XML payloads that xmpp-parsers has no type for, or whose type is stricter than what real
//! servers send.

use minidom::Element;
use minidom::rxml::{Namespace, NcName};

/// An element with attributes. The names are constants of ours; one that XML does not allow is left out.
pub fn element(name: &str, namespace: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::bare(name, namespace);
    for (name, value) in attributes {
        set(&mut element, name, value);
    }
    element
}

/// An element that holds text.
pub fn text_element(name: &str, namespace: &str, text: &str) -> Element {
    let mut element = Element::bare(name, namespace);
    element.append_text(text);
    element
}

/// Sets an attribute that has no namespace.
pub fn set(element: &mut Element, name: &str, value: &str) {
    if let Ok(name) = NcName::try_from(name) {
        element.set_attr(Namespace::NONE, name, value);
    }
}

/// The first payload of this name and namespace.
pub fn find<'a>(payloads: &'a [Element], name: &str, namespace: &str) -> Option<&'a Element> {
    payloads.iter().find(|payload| payload.is(name, namespace))
}

/// The text of a child, `None` where there is no such child.
pub fn child_text(element: &Element, name: &str, namespace: &str) -> Option<String> {
    element.get_child(name, namespace).map(Element::text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_has_its_attributes_escaped() {
        let element = element("x", "urn:x", &[("id", "<a'\"&>"), ("not a name", "v")]);
        let text = String::from(&element);
        assert_eq!(text.parse::<Element>().unwrap().attr("id"), Some("<a'\"&>"));
        assert_eq!(element.attrs().iter().count(), 1);
    }
}
