//! A whole element, from text to tree (XML 1.0; Namespaces in XML 1.0). The scanner has seen it before: its end is where
//! the text ends, its depth and its parts are within the limits.

use std::borrow::Cow;

use minidom::Element;
use minidom::rxml::{Namespace, NcName, NcNameStr, XMLNS_XML, XMLNS_XMLNS};

use super::{escape, not_well_formed, violation};
use crate::server::StreamError;
use crate::xmpp::ns;

/// Bytes of a namespace's name; the longest in use has sixty.
const LONGEST_NAMESPACE: usize = 1_024;
/// Bytes of the names of all namespaces that the elements and attributes of a stanza are in: each has a copy of its own in the
/// tree, and may have one on the wire again.
const NAMESPACES: usize = 512 * 1_024;

/// What the stream header has declared for all that it encloses.
#[derive(Debug)]
pub(super) struct Scope {
    /// The namespace of names without prefix.
    pub(super) default: Cow<'static, str>,
    /// Whether `stream:` is declared.
    pub(super) stream: bool,
    /// All other prefixes. Hardly anybody declares one.
    pub(super) others: Vec<(String, String)>,
}

impl Scope {
    /// Nothing is declared: a header, or an element that stands alone.
    pub(super) const EMPTY: Self = Self {
        default: Cow::Borrowed(""),
        stream: false,
        others: Vec::new(),
    };

    fn get(&self, prefix: &str) -> Option<&str> {
        match prefix {
            "" => Some(&self.default),
            "xml" => Some(XMLNS_XML),
            "stream" if self.stream => Some(ns::STREAM),
            _ => self
                .others
                .iter()
                .find(|(name, _)| name == prefix)
                .map(|(_, namespace)| namespace.as_str()),
        }
    }

    /// A stanza is one of `jabber:client` inside this server, whatever stream it came by (RFC 6120, 4.8.3).
    fn inside<'a>(&'a self, namespace: &'a str) -> &'a str {
        if matches!(namespace, ns::JABBER_SERVER | ns::COMPONENT_ACCEPT)
            && namespace == self.default
        {
            ns::JABBER_CLIENT
        } else {
            namespace
        }
    }
}

/// For what stands alone.
pub(super) static NOTHING: Scope = Scope::EMPTY;

/// An attribute as it stands in a tag.
struct Attribute<'a> {
    prefix: &'a str,
    name: &'a str,
    value: String,
}

struct Tag<'a> {
    /// With its prefix.
    name: &'a str,
    empty: bool,
}

/// An element whose end has not come.
struct Open<'a> {
    name: &'a str,
    element: Element,
    /// How many bindings there were outside it.
    outer: usize,
}

struct Parser<'a, 's> {
    rest: &'a str,
    scope: &'s Scope,
    /// Prefixes that are declared inside this element, the innermost last.
    bindings: Vec<(&'a str, String)>,
    /// Those of the tag at hand that declare no prefix.
    attributes: Vec<Attribute<'a>>,
    /// What is left of [`NAMESPACES`].
    namespaces: usize,
}

/// Parses an element that is the whole text.
pub(super) fn element(text: &str, scope: &Scope) -> Result<Element, StreamError> {
    let mut parser = Parser::new(text, scope);
    let mut open: Vec<Open<'_>> = Vec::new();
    loop {
        let data = parser.until(|byte| byte == b'<');
        if !data.is_empty() {
            append(&mut open, &escape::text(data)?)?;
        }
        let closed = if parser.eat("</") {
            parser.end_tag(&mut open)?
        } else if parser.eat("<![CDATA[") {
            let (section, rest) = parser
                .rest
                .split_once("]]>")
                .ok_or(not_well_formed("a CDATA section without an end"))?;
            parser.rest = rest;
            append(&mut open, &escape::section(section)?)?;
            continue;
        } else if parser.eat("<") {
            let outer = parser.bindings.len();
            let tag = parser.start_tag()?;
            let element = parser.build(tag.name)?;
            if !tag.empty {
                open.push(Open {
                    name: tag.name,
                    element,
                    outer,
                });
                continue;
            }
            parser.bindings.truncate(outer);
            element
        } else {
            return Err(not_well_formed("an element without an end"));
        };
        match open.last_mut() {
            Some(parent) => {
                parent.element.append_child(closed);
            }
            None if parser.rest.is_empty() => return Ok(closed),
            None => return Err(not_well_formed("something behind an element")),
        }
    }
}

fn append(open: &mut [Open<'_>], data: &str) -> Result<(), StreamError> {
    let parent = open
        .last_mut()
        .ok_or(not_well_formed("character data outside an element"))?;
    if !data.is_empty() {
        parent.element.append_text(data);
    }
    Ok(())
}

/// A start tag alone: the stream header.
pub(super) struct Head<'a> {
    pub(super) prefix: &'a str,
    pub(super) element: Element,
    /// Prefixes and what it declares them to be.
    pub(super) bindings: Vec<(&'a str, String)>,
}

pub(super) fn head(text: &str) -> Result<Head<'_>, StreamError> {
    let mut parser = Parser::new(text, &NOTHING);
    if !parser.eat("<") {
        return Err(not_well_formed("no start tag"));
    }
    let tag = parser.start_tag()?;
    if tag.empty || !parser.rest.is_empty() {
        return Err(not_well_formed("no start tag"));
    }
    let (prefix, _) = split(tag.name)?;
    Ok(Head {
        prefix,
        element: parser.build(tag.name)?,
        bindings: parser.bindings,
    })
}

/// XML 1.0, 2.8: what stands between `<?xml` and `?>`, of which only the encoding says something.
pub(super) fn declaration(text: &str) -> Result<(), StreamError> {
    let inner = text
        .strip_prefix("<?xml")
        .and_then(|rest| rest.strip_suffix("?>"))
        .filter(|rest| rest.starts_with(is_space_character))
        .ok_or(super::restricted("a processing instruction"))?;
    // The same form as that of a tag with attributes.
    let tag = format!("<xml{inner}/>");
    let mut parser = Parser::new(&tag, &NOTHING);
    parser.eat("<");
    parser.start_tag()?;
    let mut expected = ["version", "encoding", "standalone"].into_iter();
    for (index, attribute) in parser.attributes.iter().enumerate() {
        let known = attribute.prefix.is_empty() && expected.any(|name| name == attribute.name);
        if !known || (index == 0) != (attribute.name == "version") {
            return Err(not_well_formed("an unknown XML declaration"));
        }
        match attribute.name {
            "version" if attribute.value != "1.0" => {
                return Err(not_well_formed("not version 1.0 of XML"));
            }
            // RFC 6120, 11.6.
            "encoding" if !attribute.value.eq_ignore_ascii_case("utf-8") => {
                return Err(StreamError::new("unsupported-encoding"));
            }
            "standalone" if attribute.value != "yes" => {
                return Err(super::restricted("a document that does not stand alone"));
            }
            _ => {}
        }
    }
    if parser.attributes.is_empty() || !parser.bindings.is_empty() {
        return Err(not_well_formed("an unknown XML declaration"));
    }
    Ok(())
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_space_character(character: char) -> bool {
    u8::try_from(character).is_ok_and(is_space)
}

/// Where a name ends. What else is no part of a name, is found when it is checked.
const fn ends_name(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'/' | b'>' | b'=' | b'\'' | b'"' | b'<')
}

/// Prefix and local part. The prefix is not checked: one that is no name was never declared.
fn split(name: &str) -> Result<(&str, &str), StreamError> {
    match name.split_once(':') {
        None => Ok(("", name)),
        Some(("", _)) => Err(not_well_formed("an empty prefix")),
        Some(parts) => Ok(parts),
    }
}

impl<'a, 's> Parser<'a, 's> {
    const fn new(text: &'a str, scope: &'s Scope) -> Self {
        Self {
            rest: text,
            scope,
            bindings: Vec::new(),
            attributes: Vec::new(),
            namespaces: NAMESPACES,
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.rest
            .strip_prefix(token)
            .inspect(|rest| self.rest = rest)
            .is_some()
    }

    /// What stands before the first such byte, all of them ASCII; or everything.
    fn until(&mut self, end: impl Fn(u8) -> bool) -> &'a str {
        let at = self.rest.bytes().position(end);
        let parts = at.and_then(|at| self.rest.split_at_checked(at));
        let (before, rest) = parts.unwrap_or((self.rest, ""));
        self.rest = rest;
        before
    }

    /// Skips white space and tells whether there was any.
    fn space(&mut self) -> bool {
        !self.until(|byte| !is_space(byte)).is_empty()
    }

    /// Behind `<`. Leaves the tag's attributes in `attributes` and adds what it declares to `bindings`.
    fn start_tag(&mut self) -> Result<Tag<'a>, StreamError> {
        let name = self.until(ends_name);
        let outer = self.bindings.len();
        self.attributes.clear();
        loop {
            let spaced = self.space();
            if self.eat(">") {
                return Ok(Tag { name, empty: false });
            }
            if self.eat("/>") {
                return Ok(Tag { name, empty: true });
            }
            if !spaced {
                return Err(not_well_formed("no space before an attribute"));
            }
            let (prefix, name) = split(self.until(ends_name))?;
            let value = self.value()?;
            match (prefix, name) {
                ("", "xmlns") => self.bind("", value, outer)?,
                ("xmlns", name) => self.bind(name, value, outer)?,
                _ => self.attributes.push(Attribute {
                    prefix,
                    name,
                    value,
                }),
            }
        }
    }

    /// `= '…'`
    fn value(&mut self) -> Result<String, StreamError> {
        self.space();
        if !self.eat("=") {
            return Err(not_well_formed("an attribute without a value"));
        }
        self.space();
        let quote = if self.eat("'") {
            '\''
        } else if self.eat("\"") {
            '"'
        } else {
            return Err(not_well_formed("a value without quotes"));
        };
        let (raw, rest) = self
            .rest
            .split_once(quote)
            .ok_or(not_well_formed("a value without an end"))?;
        self.rest = rest;
        escape::attribute(raw)
    }

    /// Namespaces in XML 1.0, 2.2, 3 and 5.
    fn bind(
        &mut self,
        prefix: &'a str,
        namespace: String,
        outer: usize,
    ) -> Result<(), StreamError> {
        if namespace.len() > LONGEST_NAMESPACE {
            return Err(violation("a namespace with a name too long"));
        }
        let reserved = prefix == "xmlns"
            || namespace == XMLNS_XMLNS
            || (prefix == "xml") != (namespace == XMLNS_XML);
        let doubled = self
            .bindings
            .iter()
            .skip(outer)
            .any(|(bound, _)| *bound == prefix);
        if !prefix.is_empty() && (namespace.is_empty() || <&NcNameStr>::try_from(prefix).is_err()) {
            return Err(not_well_formed("a prefix that cannot be declared"));
        }
        if reserved || doubled {
            return Err(not_well_formed("a namespace that cannot be declared"));
        }
        self.bindings.push((prefix, namespace));
        Ok(())
    }

    fn namespace(&self, prefix: &str) -> Result<&str, StreamError> {
        let bound = self.bindings.iter().rev().find(|(name, _)| *name == prefix);
        bound
            .map(|(_, namespace)| namespace.as_str())
            .or_else(|| self.scope.get(prefix))
            .ok_or(not_well_formed("a prefix that was not declared"))
    }

    /// The element of the tag at hand.
    fn build(&mut self, name: &str) -> Result<Element, StreamError> {
        let (prefix, local) = split(name)?;
        if <&NcNameStr>::try_from(local).is_err() {
            return Err(not_well_formed("an element with an impossible name"));
        }
        let namespace = self.scope.inside(self.namespace(prefix)?);
        // Namespaces in XML, 3: they are for attributes alone, and no other parser would take what we send on.
        if matches!(namespace, XMLNS_XML | XMLNS_XMLNS) {
            return Err(not_well_formed("an element in a reserved namespace"));
        }
        let mut spent = namespace.len();
        let mut element = Element::bare(local, namespace);
        for attribute in std::mem::take(&mut self.attributes) {
            let namespace = match attribute.prefix {
                "" => Namespace::NONE,
                "xml" => Namespace::XML,
                prefix => {
                    let namespace = self.namespace(prefix)?;
                    spent = spent.saturating_add(namespace.len());
                    Namespace::from(namespace.to_owned())
                }
            };
            let Ok(name) = NcName::try_from(attribute.name) else {
                return Err(not_well_formed("an attribute with an impossible name"));
            };
            let doubled = element
                .attrs_mut()
                .insert(namespace, name, attribute.value)
                .is_some();
            if doubled {
                return Err(not_well_formed("an attribute twice"));
            }
        }
        self.namespaces = self
            .namespaces
            .checked_sub(spent)
            .ok_or(violation("a stanza of too many namespaces"))?;
        Ok(element)
    }

    /// Behind `</`: the element that it closes.
    fn end_tag(&mut self, open: &mut Vec<Open<'_>>) -> Result<Element, StreamError> {
        let name = self.until(ends_name);
        self.space();
        let closed = open.pop().filter(|open| open.name == name);
        match closed {
            Some(closed) if self.eat(">") => {
                self.bindings.truncate(closed.outer);
                Ok(closed.element)
            }
            _ => Err(not_well_formed("an end tag that closes nothing")),
        }
    }
}
