//! Elements as they go out: as children of a stream that has declared its content namespace and `stream:`, or alone.

use minidom::rxml::Namespace;
use minidom::{Element, Node};

use super::escape::{write_attribute, write_text};
use crate::xmpp::ns;

/// What encloses an element on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A stream (RFC 6120, 4.8). Stanzas are written as its content namespace, whichever that is.
    Stream,
    /// Nothing: each element is a message (RFC 7395).
    Message,
}

/// Writes an element. It recurses as deep as the element goes: what came from outside was limited by the reader.
pub fn write(element: &Element, framing: Framing, out: &mut Vec<u8>) {
    let default = match framing {
        Framing::Stream => ns::JABBER_CLIENT,
        Framing::Message => "",
    };
    if element.has_ns(ns::STREAM) && !element.has_ns(default) {
        // Clients look for `stream:features` by its prefix.
        out.extend_from_slice(b"<stream:");
        out.extend_from_slice(element.name().as_bytes());
        if framing == Framing::Message {
            attribute("xmlns:stream", ns::STREAM, out);
        }
        write_rest(element, "stream:", default, framing, out);
    } else if element.has_ns(ns::DIALBACK) {
        // ejabberd knows `db:result` by its prefix alone; the header of the stream has declared it.
        out.extend_from_slice(b"<db:");
        out.extend_from_slice(element.name().as_bytes());
        write_rest(element, "db:", default, framing, out);
    } else {
        write_element(element, default, framing, out);
    }
}

/// Inside of a stanza no prefix is counted on: it may be sent on a connection that has declared none.
fn write_element(element: &Element, default: &str, framing: Framing, out: &mut Vec<u8>) {
    // Most children are in the namespace of their parent, and comparing costs no memory.
    if element.has_ns(default) {
        write_tag(element, "", default, framing, out);
    } else {
        let namespace = element.ns();
        out.push(b'<');
        out.extend_from_slice(element.name().as_bytes());
        attribute("xmlns", &namespace, out);
        write_rest(element, "", &namespace, framing, out);
    }
}

fn write_tag(element: &Element, prefix: &str, default: &str, framing: Framing, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(element.name().as_bytes());
    write_rest(element, prefix, default, framing, out);
}

/// Attributes, children and the end.
fn write_rest(element: &Element, prefix: &str, default: &str, framing: Framing, out: &mut Vec<u8>) {
    for (index, ((namespace, name), value)) in element.attrs().iter().enumerate() {
        if namespace.is_none() {
            attribute(name, value, out);
        } else if *namespace == Namespace::XML {
            attribute(&format!("xml:{name}"), value, out);
        } else {
            attribute(&format!("xmlns:a{index}"), namespace, out);
            attribute(&format!("a{index}:{name}"), value, out);
        }
    }
    let mut nodes = element.nodes().peekable();
    if nodes.peek().is_none() {
        out.extend_from_slice(b"/>");
        return;
    }
    out.push(b'>');
    for node in nodes {
        match node {
            Node::Element(child) => write_element(child, default, framing, out),
            Node::Text(text) => write_text(text, out),
        }
    }
    out.extend_from_slice(b"</");
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(element.name().as_bytes());
    out.push(b'>');
}

fn attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    write_attribute(value, out);
    out.push(b'\'');
}

/// The header of a stream that goes out (RFC 6120, 4.7).
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening<'a> {
    pub to: Option<&'a str>,
    pub from: Option<&'a str>,
    pub id: Option<&'a str>,
    pub lang: Option<&'a str>,
    /// `jabber:client` unless given.
    pub namespace: Option<&'a str>,
}

/// Opens a stream.
pub fn write_header(header: &Opening<'_>, framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Stream => {
            out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
            attribute("xmlns", header.namespace.unwrap_or(ns::JABBER_CLIENT), out);
            attribute("xmlns:stream", ns::STREAM, out);
            if header.namespace == Some(ns::JABBER_SERVER) {
                // XEP-0220, 2.4.1: so older servers know that dialback is understood.
                attribute("xmlns:db", ns::DIALBACK, out);
            }
        }
        Framing::Message => {
            out.extend_from_slice(b"<open");
            attribute("xmlns", ns::WEBSOCKET, out);
        }
    }
    for (name, value) in [
        ("id", header.id),
        ("from", header.from),
        ("to", header.to),
        ("version", Some("1.0")),
        ("xml:lang", header.lang),
    ] {
        if let Some(value) = value {
            attribute(name, value, out);
        }
    }
    out.extend_from_slice(match framing {
        Framing::Stream => b">",
        Framing::Message => b"/>",
    });
}

/// Closes a stream.
pub fn write_close(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Stream => out.extend_from_slice(b"</stream:stream>"),
        Framing::Message => {
            out.extend_from_slice(b"<close");
            attribute("xmlns", ns::WEBSOCKET, out);
            out.extend_from_slice(b"/>");
        }
    }
}
