//! What waits to be written to clients: an element that many recipients may share, serialised once.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jid::Jid;
use minidom::Element;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::stanza::{Kind, Stanza, clear};
use super::stream::xml::{Framing, write, write_attribute};
use crate::xmpp::element::set;

/// A stanza for one recipient. Clones are cheap.
#[derive(Debug)]
pub struct Mail {
    shared: Arc<Shared>,
    /// Whom it is addressed to, where the shared element leaves it open.
    to: Option<Box<str>>,
    /// Dropped when the recipient has it, or when it was sent on to where else it belongs.
    receipt: Option<Receipt>,
    /// What it takes of its recipient's [`Budget`], until it is dropped. A clone takes nothing.
    weight: Option<OwnedSemaphorePermit>,
}

impl Clone for Mail {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            to: self.to.clone(),
            receipt: self.receipt.clone(),
            weight: None,
        }
    }
}

/// How much may wait for a recipient: in its mailbox, and written but not acknowledged. Counted is what it takes here, which
/// for many small elements is more than on the wire.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Semaphore>);

/// Some thirty of the largest stanzas.
const BUDGET: u32 = 8 * 1_024 * 1_024;
/// What an element takes beside its text, about, and each of its tags is one here.
const NODE: usize = 128;

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(
            usize::try_from(BUDGET).unwrap_or(usize::MAX),
        )))
    }
}

impl Budget {
    /// Takes what the mail weighs, if there is so much.
    pub fn try_weigh(&self, mut mail: Mail) -> Result<Mail, Mail> {
        let permit = Arc::clone(&self.0).try_acquire_many_owned(mail.cost());
        match permit {
            Ok(permit) => {
                mail.weight = Some(permit);
                Ok(mail)
            }
            Err(_full) => Err(mail),
        }
    }

    /// As [`Self::try_weigh`], but waits until there is.
    pub async fn weigh(&self, mut mail: Mail, patience: Duration) -> Result<Mail, Mail> {
        let permit = Arc::clone(&self.0).acquire_many_owned(mail.cost());
        match timeout(patience, permit).await {
            Ok(Ok(permit)) => {
                mail.weight = Some(permit);
                Ok(mail)
            }
            Ok(Err(_)) | Err(_) => Err(mail),
        }
    }

    /// As a part of [`Self::default`], in `parts`.
    pub fn room(&self, parts: usize) -> usize {
        let whole = usize::try_from(BUDGET).unwrap_or(usize::MAX);
        let part = whole.checked_div(parts).unwrap_or(whole).max(1);
        self.0.available_permits() / part
    }
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
    text: OnceLock<Text>,
}

#[derive(Debug)]
struct Text {
    bytes: Box<[u8]>,
    /// Of text and tree together.
    cost: u32,
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
            weight: None,
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
            weight: None,
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
        self.text().bytes.len()
    }

    pub(super) fn cost(&self) -> u32 {
        self.text().cost
    }

    fn text(&self) -> &Text {
        self.shared.text.get_or_init(|| {
            let mut text = Vec::with_capacity(512);
            write(&self.shared.element, Framing::Stream, &mut text);
            let tags = text.split(|byte| *byte == b'<').count();
            let cost = text.len().saturating_add(tags.saturating_mul(NODE));
            Text {
                bytes: text.into_boxed_slice(),
                cost: u32::try_from(cost).unwrap_or(BUDGET).min(BUDGET),
            }
        })
    }

    /// Appends the stanza to what is to be sent. `extra` goes into the start tag: a declaration of the default namespace
    /// where the stream has none (RFC 7395, 3.3.3).
    pub fn write(&self, extra: &str, out: &mut Vec<u8>) {
        let text = &self.text().bytes;
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

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_weighed_by_what_it_takes_here() {
        let budget = Budget::default();
        let many = format!("<x xmlns='jabber:client'>{}</x>", "<y/>".repeat(8_000));
        let mail = Mail::for_many(many.parse().unwrap());
        assert!(
            mail.size() < 33_000 && mail.cost() > 1_000_000,
            "{}",
            mail.cost()
        );
        let mut waiting = Vec::new();
        while let Ok(weighed) = budget.try_weigh(mail.clone()) {
            waiting.push(weighed);
        }
        assert_eq!(waiting.len(), 7);
        let clone = waiting[0].clone();
        let patience = Duration::from_secs(10);
        assert!(budget.weigh(mail.clone(), patience).await.is_err());
        waiting.clear();
        assert!(budget.weigh(mail, patience).await.is_ok());
        drop(clone);
        assert_eq!(budget.room(8), 8);
        // The largest that there may be has room when nothing else is there.
        let large = format!("<x xmlns='jabber:client'>{}</x>", "<y/>".repeat(100_000));
        assert!(budget.try_weigh(Mail::new(large.parse().unwrap())).is_ok());
    }

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
