//! What is known of a device that wants to be woken: where its app server is, and whether it has been here since.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jid::{BareJid, Jid};
use minidom::Element;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::server::StanzaError;
use crate::server::account::Account;
use crate::server::session::Session;
use crate::server::stream::xml;
use crate::xmpp::{form, ns};

/// Registrations of an account, and of those with one service: a client that makes a new node each time pushes out its own
/// and nobody else's.
pub(super) const MOST: usize = 20;
pub(super) const MOST_OF_A_SERVICE: usize = 5;

/// Bytes of a node's name, and of the options.
const LONGEST_NODE: usize = 1_024;
const LONGEST_OPTIONS: usize = 4_096;

/// A conversation wakes a device once until it comes or the conversation is read elsewhere: then it has fetched everything.
/// A notification may get lost on its long way, so that after this time the next message wakes again.
const QUIET: Duration = Duration::from_mins(5);

/// Conversations that are remembered of a device that does not come.
const CONVERSATIONS: usize = 1_000;

/// Failures in a row that may pass, before the service counts as gone.
pub(super) const FAILURES: u32 = 16;

/// A registration, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registration {
    pub service: Jid,
    pub node: String,
    /// The form of publish-options (XEP-0060, 7.1.5), as XML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
    /// Milliseconds since 1970.
    pub at: i64,
}

impl Registration {
    /// Reads an `<enable/>` (XEP-0357, 5).
    pub(super) fn read(enable: &Element, at: i64) -> Result<Self, StanzaError> {
        let node = enable.attr("node").unwrap_or_default();
        if node.len() > LONGEST_NODE {
            return Err(StanzaError::not_acceptable().text("The name of the node is too long"));
        }
        let options = form::find(enable).map(options).transpose()?;
        Ok(Self {
            service: service(enable)?,
            node: node.to_owned(),
            options,
            at,
        })
    }

    /// Its name in the store.
    pub(super) fn key(&self) -> String {
        format!("{} {}", self.service, self.node)
    }

    pub(super) fn options(&self) -> Option<Element> {
        xml::parse(self.options.as_ref()?)
    }
}

/// The service that an `<enable/>` or a `<disable/>` names.
pub(super) fn service(element: &Element) -> Result<Jid, StanzaError> {
    let jid = element.attr("jid").filter(|jid| !jid.is_empty());
    let jid = jid.ok_or_else(|| StanzaError::bad_request().text("Which service?"))?;
    Jid::new(jid).map_err(|_malformed| StanzaError::jid_malformed())
}

fn options(options: &Element) -> Result<String, StanzaError> {
    let filled = form::Filled::read(options)?;
    if filled
        .form_type()
        .is_some_and(|kind| kind != ns::PUBSUB_PUBLISH_OPTIONS)
    {
        return Err(StanzaError::bad_request().text("The form is to hold publish-options"));
    }
    let mut options = options.clone();
    crate::xmpp::element::set(&mut options, "type", "submit");
    let text = String::from(&options);
    if text.len() > LONGEST_OPTIONS {
        return Err(StanzaError::not_acceptable().text("The options are too long"));
    }
    Ok(text)
}

/// A registration in memory.
#[derive(Debug)]
pub(super) struct Device {
    pub registration: Registration,
    /// The session that has enabled it, which is the device's.
    session: Weak<Session>,
    /// How often that has come back, and had when it was looked at last.
    returns: Arc<AtomicU32>,
    known_returns: u32,
    /// Messages since the device was here.
    count: u64,
    /// When each conversation has woken it last.
    woken: HashMap<BareJid, Instant>,
    failures: u32,
}

impl Device {
    pub(super) fn new(registration: Registration, session: Option<&Arc<Session>>) -> Self {
        let returns = session.map(|session| session.returns());
        let returns = returns.unwrap_or_default();
        Self {
            registration,
            session: session.map_or_else(Weak::new, Arc::downgrade),
            known_returns: returns.load(Ordering::Acquire),
            returns,
            count: 0,
            woken: HashMap::new(),
            failures: 0,
        }
    }

    pub(super) fn is_of(&self, session: &Arc<Session>) -> bool {
        std::ptr::eq(self.session.as_ptr(), Arc::as_ptr(session))
    }

    /// A message for its person: whether it is to be woken, and for how many.
    pub(super) fn wake(
        &mut self,
        account: &Account,
        conversation: &BareJid,
        again: bool,
    ) -> Option<u64> {
        if self.is_here(account) {
            self.came();
            return None;
        }
        let now = Instant::now();
        let last = self.woken.get(conversation);
        // Otherwise it was counted when it came first.
        if !again || last.is_none() {
            self.count = self.count.saturating_add(1);
        }
        if last.is_some_and(|last| now.duration_since(*last) < QUIET) {
            return None;
        }
        if self.woken.len() >= CONVERSATIONS {
            self.woken.clear();
        }
        self.woken.insert(conversation.clone(), now);
        Some(self.count)
    }

    /// The person has read a conversation, on whichever device.
    pub(super) fn read(&mut self, conversation: &BareJid) {
        self.woken.remove(conversation);
    }

    /// Whether its session is at work: connected, and looked at as far as it says (XEP-0352).
    fn is_here(&mut self, account: &Account) -> bool {
        let returns = self.returns.load(Ordering::Acquire);
        if returns != self.known_returns {
            self.known_returns = returns;
            self.came();
        }
        let Some(session) = self.session.upgrade() else {
            return false;
        };
        let sessions = account.sessions();
        let is_bound = sessions.iter().any(|bound| Arc::ptr_eq(bound, &session));
        is_bound && !session.is_away()
    }

    fn came(&mut self) {
        self.count = 0;
        self.woken.clear();
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// A failure that may pass. `true`: there have been too many.
    pub(super) fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures >= FAILURES
    }
}

/// Adds one, in place of the same or of the oldest. Answers what went.
pub(super) fn add(devices: &mut Vec<Device>, new: Device) -> Vec<Registration> {
    let key = new.registration.key();
    devices.retain(|device| device.registration.key() != key);
    let mut gone = Vec::new();
    let service = new.registration.service.clone();
    devices.push(new);
    let of_service = |device: &Device| device.registration.service == service;
    for (most, counts) in [
        (MOST_OF_A_SERVICE, &of_service as &dyn Fn(&Device) -> bool),
        (MOST, &|_: &Device| true),
    ] {
        while devices.iter().filter(|device| counts(device)).count() > most {
            let Some(oldest) = devices.iter().position(counts) else {
                break;
            };
            gone.push(devices.remove(oldest).registration);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enable(attributes: &str, content: &str) -> Result<Registration, StanzaError> {
        let xml = format!("<enable xmlns='urn:xmpp:push:0' {attributes}>{content}</enable>");
        Registration::read(&xml.parse().unwrap(), 0)
    }

    #[test]
    fn a_registration_names_a_service_and_keeps_its_options() {
        let options = "<x xmlns='jabber:x:data'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options\
            </value></field><field var='secret'><value>&lt;x></value></field></x>";
        let registration = enable("jid='push.example.org' node='n'", options).unwrap();
        let kept = registration.options().unwrap();
        assert_eq!(kept.attr("type"), Some("submit"));
        assert_eq!(
            form::Filled::read(&kept).unwrap().value("secret"),
            Some("<x>")
        );
        let other = options.replace("publish-options", "node_config");
        let long = options.replace("&lt;x>", &"x".repeat(LONGEST_OPTIONS));
        let node = format!("jid='a' node='{}'", "n".repeat(LONGEST_NODE + 1));
        for (name, attributes, content) in [
            ("no service", "node='n'", ""),
            ("no address", "jid='@'", ""),
            ("another form", "jid='a'", other.as_str()),
            ("long options", "jid='a'", &long),
            ("a long node", &node, ""),
        ] {
            assert!(enable(attributes, content).is_err(), "{name}");
        }
    }

    #[test]
    fn the_oldest_of_a_service_and_then_of_all_goes() {
        let mut devices = Vec::new();
        let mut gone = Vec::new();
        for number in 0..30 {
            let attributes = format!("jid='{}.example.org' node='{number}'", number / 6);
            let registration = enable(&attributes, "").unwrap();
            gone.extend(add(&mut devices, Device::new(registration, None)));
        }
        assert_eq!(devices.len(), MOST);
        let gone: Vec<_> = gone.into_iter().map(|gone| gone.node).collect();
        assert_eq!(gone, ["0", "6", "12", "18", "1", "2", "3", "4", "5", "24"]);
        let again = enable("jid='4.example.org' node='29'", "").unwrap();
        assert!(add(&mut devices, Device::new(again, None)).is_empty());
        assert_eq!(devices.len(), MOST);
    }
}
