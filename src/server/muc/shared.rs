//! A stanza that goes to many: what is the same for all is serialised once, and each recipient costs one copy.

use std::ops::Deref;
use std::sync::OnceLock;

use minidom::Element;
use minidom::rxml::Namespace;

use crate::xmpp::element::set;

/// A stanza without `to`. In a room of a hundred it is serialised once, not a hundred times; a presence that stays what it
/// is, once for all who enter.
#[derive(Debug)]
pub struct Shared {
    element: Element,
    text: OnceLock<String>,
}

impl Shared {
    /// Whatever `to` the stanza has is removed. The stanza is made anew around its contents, so that prefixes a client
    /// declared on it are resolved.
    pub fn new(stanza: Element) -> Self {
        let mut element = Element::bare(stanza.name(), stanza.ns());
        let (mut attributes, mut stanza) = (stanza.attrs().clone(), stanza);
        attributes.remove(&Namespace::NONE, "to");
        *element.attrs_mut() = attributes;
        for node in stanza.take_nodes() {
            element.append_node(node);
        }
        Self {
            element,
            text: OnceLock::new(),
        }
    }

    /// The stanza as an element for one recipient.
    pub fn element_to(&self, to: &str) -> Element {
        let mut stanza = self.element.clone();
        set(&mut stanza, "to", to);
        stanza
    }

    /// Writes the stanza for one recipient, with its namespace declared, as a stream of `jabber:client` or a frame of RFC
    /// 7395 may carry it.
    pub fn write_to(&self, to: &str, out: &mut String) {
        let name = self.element.name();
        let text = self.text();
        let rest = text
            .strip_prefix('<')
            .and_then(|text| text.strip_prefix(name));
        out.reserve(text.len() + to.len() + 8);
        match rest {
            Some(rest) => {
                out.push('<');
                out.push_str(name);
                out.push_str(" to='");
                escape(to, out);
                out.push('\'');
                out.push_str(rest);
            }
            // No writer names our own elements otherwise; should one, the slow way is still right.
            None => out.push_str(&String::from(&self.element_to(to))),
        }
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| String::from(&self.element))
    }
}

impl Deref for Shared {
    type Target = Element;

    fn deref(&self) -> &Element {
        &self.element
    }
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_one_is_the_element_for_one() {
        let table = [
            ("empty", "<presence xmlns='jabber:client'/>"),
            (
                "to another",
                "<presence xmlns='jabber:client' to='b@c' from='r@s/n' type='unavailable'/>",
            ),
            (
                "with payload",
                "<message xmlns='jabber:client' from='r@s/n' type='groupchat' xml:lang='en'><body>1 &lt; 2</body><x xmlns='urn:x'><body xmlns='jabber:client'/></x></message>",
            ),
            (
                "with a prefix",
                "<c:message xmlns:c='jabber:client' xmlns:e='urn:e'><c:body>x</c:body><e:e e:a='1'/></c:message>",
            ),
        ];
        for (name, xml) in table {
            let shared = Shared::new(xml.parse().unwrap());
            for to in ["a@b", "a@b/it's <\"me\"> & you"] {
                let mut written = String::new();
                shared.write_to(to, &mut written);
                let read: Element = written
                    .parse()
                    .unwrap_or_else(|err| panic!("{name}: {err}"));
                assert_eq!(read, shared.element_to(to), "{name}");
                assert_eq!(read.attr("to"), Some(to), "{name}");
                assert!(
                    written.starts_with(&format!("<{} to=", shared.name())),
                    "{name}"
                );
            }
            assert_eq!(shared.attr("to"), None, "{name}");
        }
    }
}
