//! What waits to be written to clients: an element that many recipients may share, serialised once.

use std::sync::{Arc, OnceLock};

use jid::Jid;
use minidom::Element;

use super::stanza::{Kind, Stanza, clear};
use super::stream::xml::{Framing, write, write_attribute};
use crate::xmpp::element::set;

/// A stanza for one recipient. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Mail {
    shared: Arc<Shared>,
    /// Whom it is addressed to, where the shared element leaves it open.
    to: Option<Box<str>>,
    /// Dropped when the recipient has it, or when it was sent on to where else it belongs.
    receipt: Option<Receipt>,
}

/// Something that is done when it is dropped.
#[derive(Clone)]
struct Receipt(Arc<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receipt({})", Arc::strong_count(&self.0))
    }
}

#[derive(Debug)]
struct Shared {
    element: Element,
    text: OnceLock<Box<[u8]>>,
}

impl Mail {
    pub fn new(element: Element) -> Self {
        Self {
            shared: Arc::new(Shared {
                element,
                text: OnceLock::new(),
            }),
            to: None,
            receipt: None,
        }
    }

    /// `receipt` lives as long as the mail is on its way: until the client has acknowledged it (XEP-0198) or, on a
    /// stream without that, until it is written.
    #[must_use]
    pub fn with_receipt(mut self, receipt: Arc<dyn std::any::Any + Send + Sync>) -> Self {
        self.receipt = Some(Receipt(receipt));
        self
    }

    /// A stanza for many recipients: [`Self::addressed`] makes each one's.
    pub fn for_many(mut element: Element) -> Self {
        clear(&mut element, "to");
        Self::new(element)
    }

    /// The receipt, where it is of this type.
    pub fn receipt<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let receipt = self.receipt.as_ref()?;
        Arc::clone(&receipt.0).downcast().ok()
    }

    #[must_use]
    pub fn addressed(&self, to: &Jid) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            to: Some(to.as_str().into()),
            receipt: self.receipt.clone(),
        }
    }

    /// The element as it is shared: without `to` where it is for many.
    pub fn shared(&self) -> &Element {
        &self.shared.element
    }

    pub fn kind(&self) -> Option<Kind> {
        Kind::of(&self.shared.element)
    }

    /// The element as its recipient sees it.
    pub fn element(&self) -> Element {
        let mut element = self.shared.element.clone();
        if let Some(to) = &self.to {
            set(&mut element, "to", to);
        }
        element
    }

    /// Whom it is addressed to.
    pub fn to(&self) -> Option<&str> {
        self.to
            .as_deref()
            .or_else(|| self.shared.element.attr("to"))
    }

    /// How many bytes it has, but for whom it is addressed to.
    pub fn size(&self) -> usize {
        self.text().len()
    }

    fn text(&self) -> &[u8] {
        self.shared.text.get_or_init(|| {
            let mut text = Vec::with_capacity(512);
            write(&self.shared.element, Framing::Stream, &mut text);
            text.into_boxed_slice()
        })
    }

    /// Appends the stanza to what is to be sent. `extra` goes into the start tag: a declaration of the default namespace
    /// where the stream has none (RFC 7395, 3.3.3).
    pub fn write(&self, extra: &str, out: &mut Vec<u8>) {
        let text = self.text();
        // `<name`, which is where attributes may be added.
        let head = self.shared.element.name().len().saturating_add(1);
        let (head, tail) = text.split_at(head.min(text.len()));
        out.extend_from_slice(head);
        out.extend_from_slice(extra.as_bytes());
        if let Some(to) = &self.to {
            out.extend_from_slice(b" to='");
            write_attribute(to, out);
            out.push(b'\'');
        }
        out.extend_from_slice(tail);
    }
}

impl From<Stanza> for Mail {
    fn from(stanza: Stanza) -> Self {
        Self::new(stanza.into_element())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_stanza_is_written_for_each_recipient() {
        let mail = Mail::for_many(
            "<message xmlns='jabber:client' to='x@y' from='a@b'><body>&lt;</body></message>"
                .parse()
                .unwrap(),
        );
        let to = Jid::new("o'neill@example.org/r")
            .unwrap_or_else(|_| Jid::new("o@example.org/r").unwrap());
        let mail = mail.addressed(&to);
        let mut out = Vec::new();
        mail.write("", &mut out);
        // It stands in a stream, which has declared the namespace.
        let mut framed = Vec::new();
        mail.write(" xmlns='jabber:client'", &mut framed);
        let read: Element = String::from_utf8(framed).unwrap().parse().unwrap();
        assert!(out.starts_with(b"<message to='"));
        assert_eq!(read, mail.element());
        assert_eq!(read.attr("to"), Some(to.as_str()));
    }
}
