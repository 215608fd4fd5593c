//! What the gateway's unit tests share.

use std::sync::Mutex;

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;
use xmpp_parsers::message::Message;

use crate::config::Account;
use crate::gateway::{Acknowledged, Inbound, Place, Request, Sender, Wire, WireError};
use crate::storage::Storage;

/// An account with the defaults of docs/configuration.md.
pub(crate) fn account() -> Account {
    Account::new(BareJid::new("bot@example.com").unwrap())
}

/// A live text message without anything special.
pub(crate) fn inbound(place: Place, from: &str, body: &str) -> Inbound {
    let from = Jid::new(from).unwrap();
    let real = matches!(place, Place::Direct(_)).then(|| from.to_bare());
    let nick = place
        .room()
        .and_then(|_| from.resource().map(ToString::to_string));
    let sender = Sender {
        real,
        nick,
        ..Sender::unknown(from)
    };
    Inbound {
        at: 0,
        ..Inbound::text("test", place, sender, body)
    }
}

/// Recipient, payload, and the answer or the error's condition.
type Row = (String, String, Result<Element, String>);

/// An account's connection that answers IQs from a script: each answer once, by recipient and payload.
#[derive(Default)]
pub(crate) struct TestWire {
    jid: Option<Jid>,
    answers: Mutex<Vec<Row>>,
}

impl TestWire {
    pub(crate) fn new(jid: &str) -> Self {
        Self {
            jid: Some(Jid::new(jid).unwrap()),
            ..Self::default()
        }
    }

    fn script(self, to: &str, payload: &str, answer: Result<Element, String>) -> Self {
        let row = (to.to_owned(), payload.to_owned(), answer);
        self.answers.lock().unwrap().push(row);
        self
    }

    /// The next IQ to `to` with an element `payload` gets this; for several such in a row, in order.
    pub(crate) fn answer(self, to: &str, payload: &str, xml: &str) -> Self {
        match xml.parse() {
            Ok(element) => self.script(to, payload, Ok(element)),
            Err(_) => self,
        }
    }

    pub(crate) fn refuse(self, to: &str, payload: &str, condition: &str) -> Self {
        self.script(to, payload, Err(condition.to_owned()))
    }
}

impl Wire for TestWire {
    fn account(&self) -> &'static str {
        "test"
    }

    fn jid(&self) -> Jid {
        self.jid.clone().unwrap()
    }

    fn nick(&self, _: &BareJid) -> Option<String> {
        None
    }

    fn send(&self, _: Message) -> BoxFuture<'static, Result<Acknowledged, WireError>> {
        Box::pin(async { Err(WireError::Offline) })
    }

    fn query(
        &self,
        to: Option<Jid>,
        request: Request,
    ) -> BoxFuture<'static, Result<Option<Element>, WireError>> {
        let (Request::Get(payload) | Request::Set(payload)) = request;
        let to = to.map(|to| to.to_string()).unwrap_or_default();
        let mut answers = self.answers.lock().unwrap();
        let position = answers
            .iter()
            .position(|(jid, name, _)| *jid == to && name == payload.name());
        let answer = match position.map(|position| answers.remove(position)) {
            Some((_, _, Ok(element))) => Ok(Some(element)),
            Some((_, _, Err(condition))) => Err(WireError::Refused {
                condition,
                text: None,
            }),
            None => Err(WireError::TimedOut),
        };
        Box::pin(async { answer })
    }

    fn supports(&self, _: &Jid, _: &str) -> Option<bool> {
        None
    }

    fn is_ready(&self, _: &Place) -> bool {
        true
    }
}

/// A store in a directory that goes with the first value.
pub(crate) fn storage() -> (tempfile::TempDir, Storage) {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::open(&directory.path().join("moltis.db")).unwrap();
    (directory, storage)
}
