//! A server without sockets, for tests: clients that are bound and read their mailbox.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jid::BareJid;
use minidom::Element;
use tokio::sync::mpsc;

use super::accounts::{Accounts, Credentials};
use super::mail::Mail;
use super::session::{Origin, Session};
use super::{Server, Settings};
use crate::storage::Storage;

/// Of every account.
pub(crate) const PASSWORD: &str = "pencil";

/// Computed once: it takes a while.
static CREDENTIALS: LazyLock<Credentials> =
    LazyLock::new(|| Credentials::new(&PASSWORD.into()).unwrap());

/// What every account has instead of [`PASSWORD`].
pub(crate) fn credentials() -> Credentials {
    CREDENTIALS.clone()
}

/// A server for example.org with these accounts.
pub(crate) async fn server(names: &[&str]) -> Server {
    with(Settings::new("example.org"), names).await
}

pub(crate) async fn with(settings: Settings, names: &[&str]) -> Server {
    on(Storage::in_memory().unwrap(), settings, names).await
}

/// On a store that may have been another server's before.
pub(crate) async fn on(storage: Storage, settings: Settings, names: &[&str]) -> Server {
    let domain = jid::DomainPart::new(&settings.domain).unwrap().into_owned();
    let accounts = Accounts::open(storage.clone(), &domain).await.unwrap();
    for name in names {
        let name = jid::NodePart::new(name).unwrap().into_owned();
        if !accounts.exists(&name) {
            accounts.add(&name, CREDENTIALS.clone()).await.unwrap();
        }
    }
    Server::new(Arc::new(settings), storage, accounts).unwrap()
}

pub(crate) struct Client {
    pub server: Server,
    pub session: Arc<Session>,
    pub mailbox: mpsc::Receiver<Mail>,
}

/// Binds `name@example.org/resource` of the JID.
pub(crate) async fn client(server: &Server, jid: &str) -> Client {
    let (bare, resource) = jid.split_once('/').unwrap();
    let bare = BareJid::new(&format!("{bare}@{}", server.domain())).unwrap();
    let bound = server.bind(&bare, Some(resource), Origin::default()).await;
    let (session, mailbox) = bound.unwrap();
    Client {
        server: server.clone(),
        session,
        mailbox,
    }
}

/// Binds and sends an available presence; what that brings is read away.
pub(crate) async fn online(server: &Server, jid: &str) -> Client {
    let mut client = client(server, jid).await;
    client.send("<presence/>").await;
    client.drain();
    client
}

/// XML of a stanza; the namespace is added.
pub(crate) fn stanza(xml: &str) -> Element {
    let end = xml.find([' ', '>', '/']).unwrap();
    let (head, tail) = xml.split_at(end);
    format!("{head} xmlns='jabber:client'{tail}")
        .parse()
        .unwrap()
}

impl Client {
    pub(crate) async fn send(&self, xml: &str) {
        self.server
            .receive(&self.session, stanza(xml))
            .await
            .unwrap();
    }

    /// The next stanza; it must be there at once.
    pub(crate) async fn next(&mut self) -> Element {
        let next = tokio::time::timeout(Duration::from_secs(5), self.mailbox.recv()).await;
        next.expect("nothing came").unwrap().element()
    }

    /// All that waits, in order.
    pub(crate) fn drain(&mut self) -> Vec<Element> {
        std::iter::from_fn(|| self.mailbox.try_recv().ok())
            .map(|mail| mail.element())
            .collect()
    }

    /// Sends an IQ and answers what comes back with its id; everything before is dropped.
    pub(crate) async fn ask(&mut self, kind: &str, to: &str, payload: &str) -> Element {
        let id = super::random_id();
        let to = if to.is_empty() {
            String::new()
        } else {
            format!(" to='{to}'")
        };
        self.send(&format!("<iq type='{kind}' id='{id}'{to}>{payload}</iq>"))
            .await;
        loop {
            let answer = self.next().await;
            if answer.attr("id") == Some(&id) {
                return answer;
            }
        }
    }

    pub(crate) async fn leave(self) {
        self.server
            .unbind(&self.session, self.mailbox, Vec::new())
            .await;
    }
}
