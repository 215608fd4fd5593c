//! XEP-0115: Entity Capabilities. The server's own, in its stream features; and those of clients, as far as PEP needs them:
//! which nodes' events they want (`+notify`). A hash is asked about once, and believed for others if it is right.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;

use super::super::account::Account;
use super::super::mail::Mail;
use super::super::router::{Happening, OnAnswer, OnPresence, OnSession, Request, Router, Target};
use super::super::session::Session;
use super::super::stanza::{Stanza, iq};
use super::super::{Server, random_id};
use super::{disco, pep};
use crate::xmpp::element::{element, set};
use crate::xmpp::{caps, ns};

/// Names this software in entity capabilities.
const NODE: &str = "https://moltis.org/server";

/// Hashes that are remembered, and questions that wait for an answer. Where there are more, all are forgotten.
const MOST_VERSIONS: usize = 5_000;
const MOST_QUESTIONS: usize = 5_000;
/// And so many bytes of what the hashes stand for.
const MOST_BYTES: usize = 4 * 1_024 * 1_024;
/// How many nodes a client may want, how long a name may be, and all names together.
const MOST_NODES: usize = 256;
const MOST_NAMES: usize = 8 * 1_024;
const LONGEST: usize = 512;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Domain, Target::Own, Target::Other], ns::CAPS);
    router.disco_node(
        Target::Domain,
        Arc::new(|request: Request| Box::pin(async move { Ok(own_node(&request)) })),
    );
    router.session(Arc::new(Clients));
    router.presence(Arc::new(Clients));
    router.answer(Arc::new(Clients));
    Ok(())
}

impl Server {
    /// The `<c/>` of the stream features (XEP-0115, 6.3). `None` would be a fault of ours: a feature announced twice.
    pub fn caps(&self) -> Option<Element> {
        let ver = own_hash(self)?;
        let attributes = [("hash", "sha-1"), ("node", NODE), ("ver", &ver)];
        Some(element("c", ns::CAPS, &attributes))
    }
}

fn own_hash(server: &Server) -> Option<String> {
    let query = disco::describe(server, server.router(), Target::Domain);
    caps::hash(&query, "sha-1")
}

/// The disco#info of the domain by the hash it has now.
fn own_node(request: &Request) -> Option<Vec<Element>> {
    let (node, ver) = request.payload.attr("node")?.split_once('#')?;
    if node != NODE || own_hash(&request.server)? != ver {
        return None;
    }
    let router = request.server.router();
    let query = disco::describe(&request.server, router, Target::Domain);
    Some(query.children().cloned().collect())
}

/// The nodes whose events a client wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Interests(BTreeSet<String>);

impl Interests {
    fn of(query: &Element) -> Self {
        let wanted = caps::features(query)
            .filter_map(|feature| feature.strip_suffix("+notify"))
            .filter(|node| node.len() <= LONGEST);
        let mut room = MOST_NAMES;
        let fitting = wanted.take(MOST_NODES).map_while(|node| {
            room = room.checked_sub(node.len())?;
            Some(node.to_owned())
        });
        Self(fitting.collect())
    }

    /// Of the names, and of what holds them.
    pub(super) fn bytes(&self) -> usize {
        let names = self.0.iter().map(|node| node.len().saturating_add(48));
        names.sum()
    }

    pub(super) fn contains(&self, node: &str) -> bool {
        self.0.contains(node)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a presence announces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Version {
    node: String,
    hash: String,
    ver: String,
}

impl Version {
    fn read(presence: &Element) -> Option<Self> {
        let caps = presence.get_child("c", ns::CAPS)?;
        let attribute = |name| caps.attr(name).filter(|value| value.len() <= LONGEST);
        Some(Self {
            node: attribute("node")?.to_owned(),
            // Before version 1.4 there was none: such a version is nobody's but the client's own.
            hash: attribute("hash").unwrap_or_default().to_owned(),
            ver: attribute("ver")?.to_owned(),
        })
    }

    fn verifies(&self, query: &Element) -> bool {
        caps::hash(query, &self.hash).as_ref() == Some(&self.ver)
    }
}

/// Whose interests they are.
#[derive(Clone, Debug)]
enum Client {
    /// A session of this server.
    Session(Weak<Session>),
    /// Somebody who has sent this account presence, from elsewhere.
    Visitor(BareJid),
}

#[derive(Debug)]
struct Question {
    to: Jid,
    client: Client,
    version: Version,
}

/// What is known of all clients.
#[derive(Debug, Default)]
struct Known(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By hash and algorithm; the node only says where it comes from.
    versions: HashMap<(String, String), Arc<Interests>>,
    /// Of all of them.
    bytes: usize,
    /// By the id of the request.
    questions: HashMap<String, Question>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, version: &Version) -> Option<Arc<Interests>> {
        let key = (version.hash.clone(), version.ver.clone());
        self.lock().versions.get(&key).cloned()
    }

    /// Notes a question; its id.
    fn ask(&self, question: Question) -> String {
        let id = random_id();
        let mut inner = self.lock();
        if inner.questions.len() >= MOST_QUESTIONS {
            inner.questions.clear();
        }
        inner.questions.insert(id.clone(), question);
        id
    }

    /// Somebody has gone: what they still answer is of no use.
    fn gone(&self, account: &BareJid, who: &Jid) {
        let mut inner = self.lock();
        inner.questions.retain(|_, question| {
            let is_of = matches!(&question.client, Client::Visitor(asked) if asked == account);
            !is_of || question.to != *who
        });
    }

    /// The question that this answers, if it was asked of whoever answers it.
    fn answered(&self, answer: &Stanza) -> Option<Question> {
        let mut inner = self.lock();
        let id = answer.id()?;
        if inner.questions.get(id)?.to != *answer.from() {
            return None;
        }
        inner.questions.remove(id)
    }

    /// Takes in an answer. It is believed for others only if its hash is right (XEP-0115, 5.4: no poisoning).
    fn learn(&self, version: &Version, query: &Element) -> Arc<Interests> {
        let interests = Arc::new(Interests::of(query));
        if version.verifies(query) {
            let mut inner = self.lock();
            let key = (version.hash.clone(), version.ver.clone());
            let bytes = interests.bytes().saturating_add(key.0.len() + key.1.len());
            if inner.versions.len() >= MOST_VERSIONS || inner.bytes + bytes > MOST_BYTES {
                inner.versions.clear();
                inner.bytes = 0;
            }
            if inner.versions.insert(key, Arc::clone(&interests)).is_none() {
                inner.bytes += bytes;
            }
        }
        interests
    }
}

/// Follows the presences of clients, asks and learns.
struct Clients;

impl Clients {
    /// A presence with or without capabilities.
    async fn seen(&self, server: &Server, from: &Jid, client: Client, presence: &Element) {
        let known = server.extensions().get_or_default::<Known>();
        let Some(version) = Version::read(presence) else {
            self.wants(server, from, client, Arc::default()).await;
            return;
        };
        if let Some(interests) = known.get(&version) {
            self.wants(server, from, client, interests).await;
            return;
        }
        let node = format!("{}#{}", version.node, version.ver);
        let query = element("query", ns::DISCO_INFO, &[("node", &node)]);
        let question = Question {
            to: from.clone(),
            client: client.clone(),
            version,
        };
        let mut request = iq("get", &known.ask(question), query);
        match client {
            Client::Session(session) => {
                if let Some(session) = session.upgrade() {
                    set(&mut request, "from", session.account().jid().as_str());
                    set(&mut request, "to", from.as_str());
                    session.try_send(Mail::new(request));
                }
            }
            Client::Visitor(account) => {
                if let Some(request) = Stanza::new(account.into(), Some(from.clone()), request) {
                    server.route(request, None).await;
                }
            }
        }
    }

    async fn wants(&self, server: &Server, from: &Jid, client: Client, new: Arc<Interests>) {
        match client {
            Client::Session(session) => {
                if let Some(session) = session.upgrade() {
                    pep::session_wants(server, &session, new).await;
                }
            }
            Client::Visitor(account) => pep::visitor_wants(server, &account, from, new).await,
        }
    }
}

impl OnSession for Clients {
    fn on_session<'a>(
        &'a self,
        server: &'a Server,
        session: &'a Arc<Session>,
        happening: &'a Happening,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let client = Client::Session(Arc::downgrade(session));
            let from = Jid::from(session.jid().clone());
            match (happening, session.available()) {
                (Happening::Available | Happening::Changed, Some(available)) => {
                    self.seen(server, &from, client, available.presence.element())
                        .await;
                }
                (Happening::Unavailable, _) => {
                    self.wants(server, &from, client, Arc::default()).await;
                }
                _ => {}
            }
        })
    }
}

impl OnPresence for Clients {
    /// Only what comes to the bare JID: rooms send the presences of their occupants to the full one.
    fn incoming<'a>(
        &'a self,
        server: &'a Server,
        account: &'a Arc<Account>,
        presence: &'a Stanza,
    ) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let from = presence.from();
            let is_to_account = presence.to().is_some_and(Jid::is_bare);
            if !is_to_account || !from.is_full() || from.to_bare() == *account.jid() {
                return true;
            }
            let client = Client::Visitor(account.jid().clone());
            match presence.type_() {
                "" => self.seen(server, from, client, presence.element()).await,
                "unavailable" => {
                    let known = server.extensions().get_or_default::<Known>();
                    known.gone(account.jid(), from);
                    self.wants(server, from, client, Arc::default()).await;
                }
                _ => {}
            }
            true
        })
    }
}

impl OnAnswer for Clients {
    fn on_answer<'a>(&'a self, server: &'a Server, answer: &'a Stanza) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let known = server.extensions().get_or_default::<Known>();
            let Some(question) = known.answered(answer) else {
                return;
            };
            let Some(query) = answer.child("query", ns::DISCO_INFO) else {
                return;
            };
            let interests = known.learn(&question.version, query);
            self.wants(server, &question.to, question.client, interests)
                .await;
        })
    }
}

#[cfg(test)]
mod tests;
