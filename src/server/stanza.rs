//! A stanza on its way (RFC 6120, 8): the element as it came, with its addresses read once. Whatever else it holds passes
//! through unchanged.

use jid::{BareJid, Jid};
use minidom::Element;
use minidom::rxml::Namespace;

use super::StanzaError;
use crate::xmpp::element::{element, set};
use crate::xmpp::ns;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Message,
    Presence,
    Iq,
}

impl Kind {
    pub fn of(element: &Element) -> Option<Self> {
        if !element.has_ns(ns::JABBER_CLIENT) {
            return None;
        }
        match element.name() {
            "message" => Some(Self::Message),
            "presence" => Some(Self::Presence),
            "iq" => Some(Self::Iq),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }
}

/// `from` and `to` always say what the element's attributes say.
#[derive(Clone, Debug)]
pub struct Stanza {
    kind: Kind,
    from: Jid,
    to: Option<Jid>,
    element: Element,
}

impl Stanza {
    /// A stanza of ours, or one whose sender is known. `None`: it is no stanza.
    pub fn new(from: Jid, to: Option<Jid>, mut element: Element) -> Option<Self> {
        let kind = Kind::of(&element)?;
        set(&mut element, "from", from.as_str());
        match &to {
            Some(to) => set(&mut element, "to", to.as_str()),
            None => clear(&mut element, "to"),
        }
        Some(Self {
            kind,
            from,
            to,
            element,
        })
    }

    /// One that says itself from whom and to whom it is, as what has waited. `None`: it is none, or says it wrongly.
    pub fn read(element: Element) -> Option<Self> {
        let address = |name| element.attr(name).and_then(|jid| Jid::new(jid).ok());
        let (from, to) = (address("from")?, address("to")?);
        Self::new(from, Some(to), element)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn from(&self) -> &Jid {
        &self.from
    }

    pub fn to(&self) -> Option<&Jid> {
        self.to.as_ref()
    }

    pub fn element(&self) -> &Element {
        &self.element
    }

    /// To add and remove payloads. The addresses are set with [`Self::readdress`] alone.
    pub fn element_mut(&mut self) -> &mut Element {
        &mut self.element
    }

    pub fn into_element(self) -> Element {
        self.element
    }

    pub fn id(&self) -> Option<&str> {
        self.element.attr("id")
    }

    /// The `type` attribute as it stands; empty: none.
    pub fn type_(&self) -> &str {
        self.element.attr("type").unwrap_or_default()
    }

    /// A message's type; an unknown one is `normal` (RFC 6121, 5.2.2).
    pub fn message_type(&self) -> MessageType {
        match self.type_() {
            "chat" => MessageType::Chat,
            "groupchat" => MessageType::Groupchat,
            "headline" => MessageType::Headline,
            "error" => MessageType::Error,
            _ => MessageType::Normal,
        }
    }

    pub fn is_error(&self) -> bool {
        self.type_() == "error"
    }

    pub fn child(&self, name: &str, namespace: &str) -> Option<&Element> {
        self.element.get_child(name, namespace)
    }

    pub fn has(&self, name: &str, namespace: &str) -> bool {
        self.element.has_child(name, namespace)
    }

    pub fn readdress(&mut self, to: Jid) {
        set(&mut self.element, "to", to.as_str());
        self.to = Some(to);
    }

    /// The same from another sender, as a presence is from a bare JID.
    #[must_use]
    pub fn sent_by(mut self, from: Jid) -> Self {
        set(&mut self.element, "from", from.as_str());
        self.from = from;
        self
    }

    /// What refusing it will take, once it has gone on. `None`: errors and IQ results are not answered (RFC 6120, 8.3.1).
    pub fn refusable(&self) -> Option<Refusable> {
        if self.is_error() || (self.kind == Kind::Iq && self.type_() == "result") {
            return None;
        }
        Some(Refusable {
            kind: self.kind,
            id: self.id().map(Into::into),
            from: self.from.clone(),
            to: self.to.clone(),
        })
    }

    /// The error that answers this stanza. `None`: it is not answered.
    pub fn error(&self, error: &StanzaError) -> Option<Self> {
        self.refusable()?.error(error)
    }

    /// The result of an IQ.
    pub fn result(&self, payload: Option<Element>) -> Option<Self> {
        let mut answer = element(
            "iq",
            ns::JABBER_CLIENT,
            &[("type", "result"), ("id", self.id().unwrap_or_default())],
        );
        if let Some(payload) = payload {
            answer.append_child(payload);
        }
        let from = self
            .to
            .clone()
            .unwrap_or_else(|| self.from.to_bare().into());
        Self::new(from, Some(self.from.clone()), answer)
    }
}

/// All of a stanza that its refusal needs: errors do not repeat payloads.
#[derive(Clone, Debug)]
pub struct Refusable {
    kind: Kind,
    id: Option<Box<str>>,
    from: Jid,
    to: Option<Jid>,
}

impl Refusable {
    pub fn error(self, error: &StanzaError) -> Option<Stanza> {
        let mut answer = element(self.kind.name(), ns::JABBER_CLIENT, &[("type", "error")]);
        if let Some(id) = &self.id {
            set(&mut answer, "id", id);
        }
        answer.append_child(error.to_element());
        // From where it was to go: a client matches the answer to the address it wrote to.
        let from = self.to.unwrap_or_else(|| self.from.to_bare().into());
        Stanza::new(from, Some(self.from), answer)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    Normal,
    Chat,
    Groupchat,
    Headline,
    Error,
}

/// Removes an attribute that has no namespace.
pub fn clear(element: &mut Element, name: &str) {
    let attributes = element.attrs_mut();
    attributes.remove(&Namespace::NONE, name);
}

/// An IQ request of ours.
pub fn iq(kind: &str, id: &str, payload: Element) -> Element {
    let mut iq = element("iq", ns::JABBER_CLIENT, &[("type", kind), ("id", id)]);
    iq.append_child(payload);
    iq
}

/// A presence of a type; empty: available.
pub fn presence(kind: &str) -> Element {
    let mut presence = Element::bare("presence", ns::JABBER_CLIENT);
    if !kind.is_empty() {
        set(&mut presence, "type", kind);
    }
    presence
}

/// The bare JID as an address.
pub fn bare(jid: &BareJid) -> Jid {
    Jid::from(jid.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(xml: &str) -> Stanza {
        let element: Element = xml.parse().unwrap();
        let to = element.attr("to").map(|to| Jid::new(to).unwrap());
        Stanza::new(Jid::new("juliet@example.org/x").unwrap(), to, element).unwrap()
    }

    #[test]
    fn an_error_comes_from_where_the_stanza_was_to_go() {
        let stanza = message(
            "<message xmlns='jabber:client' to='romeo@example.org' id='1'><body>x</body></message>",
        );
        let error = stanza.error(&StanzaError::service_unavailable()).unwrap();
        assert_eq!(error.from().as_str(), "romeo@example.org");
        assert_eq!(error.to().unwrap().as_str(), "juliet@example.org/x");
        assert_eq!(error.id(), Some("1"));
        assert!(error.is_error());
        assert!(error.error(&StanzaError::service_unavailable()).is_none());
    }

    #[test]
    fn the_sender_is_the_one_that_is_known() {
        let stanza = message("<message xmlns='jabber:client' from='pope@vatican.example'/>");
        assert_eq!(stanza.element().attr("from"), Some("juliet@example.org/x"));
        assert_eq!(stanza.message_type(), MessageType::Normal);
        assert!(
            stanza
                .error(&StanzaError::bad_request())
                .unwrap()
                .id()
                .is_none()
        );
    }

    #[test]
    fn what_is_no_stanza_is_none() {
        let from = Jid::new("a@b/c").unwrap();
        assert!(Stanza::new(from.clone(), None, Element::bare("x", ns::JABBER_CLIENT)).is_none());
        assert!(Stanza::new(from, None, Element::bare("message", "urn:x")).is_none());
    }
}
