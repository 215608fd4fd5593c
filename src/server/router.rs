//! What the features have registered: who answers which IQ, who looks at messages and presences, what disco says. Built
//! once at the start; then only read.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::BoxFuture;
use jid::Jid;
use minidom::Element;

use super::account::Account;
use super::passage::Passage;
use super::session::Session;
use super::stanza::Stanza;
use super::{Server, StanzaError};

/// What a handler of IQs answers; the router sends the result or the error.
pub type Reply = Result<Option<Element>, StanzaError>;

pub type IqHandler = Arc<dyn Fn(Request) -> BoxFuture<'static, Reply> + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IqType {
    Get,
    Set,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The server itself: its domain.
    Domain,
    /// The sender's own account: its bare JID, or no address.
    Own,
    /// Somebody else's account here: the bare JID. The request may come from another server.
    Other,
}

/// An IQ request for the server or an account.
#[derive(Clone, Debug)]
pub struct Request {
    pub server: Server,
    pub target: Target,
    pub kind: IqType,
    pub from: Jid,
    /// Whom it was addressed to; the own bare JID where nobody was.
    pub to: Jid,
    pub id: String,
    /// The requesting session; `None` where it comes from another server or a service.
    pub session: Option<Arc<Session>>,
    /// The account that is asked; `None` for the domain.
    pub account: Option<Arc<Account>>,
    pub payload: Element,
}

impl Request {
    /// The requesting session, which there is for [`Target::Own`].
    pub fn session(&self) -> Result<&Arc<Session>, StanzaError> {
        self.session.as_ref().ok_or_else(StanzaError::forbidden)
    }

    /// The account that is asked, which there is but for [`Target::Domain`].
    pub fn account(&self) -> Result<&Arc<Account>, StanzaError> {
        self.account
            .as_ref()
            .ok_or_else(StanzaError::service_unavailable)
    }
}

/// In which order those that look at a message do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// May refuse or drop it.
    Filter,
    /// May change it: strip what is forged, stamp what is promised.
    Rewrite,
    /// Takes it where nobody was there (only for [`super::passage::Side::Incoming`]).
    Deliver,
    /// Sees what became of it.
    Observe,
}

/// What becomes of a message after a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Continue,
    /// Nothing more happens to it, and nobody is told.
    Drop,
}

/// A feature that looks at messages, once for the sender's account and once for the recipient's.
pub trait OnMessage: Send + Sync {
    /// `Err`: the sender is told.
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>>;
}

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum Happening {
    Bound,
    /// The first available presence of the session, after the broadcast; the presences of contacts follow it.
    Available,
    /// Another presence while available.
    Changed,
    Unavailable,
    /// It is no longer in the account's list.
    Ended,
}

/// A feature that follows sessions.
pub trait OnSession: Send + Sync {
    fn on_session<'a>(
        &'a self,
        server: &'a Server,
        session: &'a Arc<Session>,
        happening: &'a Happening,
    ) -> BoxFuture<'a, ()>;
}

/// A feature that looks at presences.
pub trait OnPresence: Send + Sync {
    /// A session's own presence before it is broadcast or sent to somebody: to change it.
    fn outgoing<'a>(
        &'a self,
        _server: &'a Server,
        _session: &'a Arc<Session>,
        _presence: &'a mut Stanza,
    ) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// A presence of an account for somebody, be it broadcast, directed, or a subscription. `Err`: it does not go there,
    /// and where it was the client's express wish, the client is told.
    fn leaving<'a>(
        &'a self,
        _server: &'a Server,
        _account: &'a Arc<Account>,
        _to: &'a Jid,
    ) -> BoxFuture<'a, Result<(), StanzaError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// A presence for an account, before its sessions get it. `false`: they do not get it.
    fn incoming<'a>(
        &'a self,
        _server: &'a Server,
        _account: &'a Arc<Account>,
        _presence: &'a Stanza,
    ) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(true))
    }
}

/// What disco says of a target beyond its features (XEP-0030).
pub type DiscoItems =
    Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Vec<Element>, StanzaError>> + Send + Sync>;
/// A data form for disco#info (XEP-0128).
pub type DiscoForm = Arc<dyn Fn(&Server) -> Option<Element> + Send + Sync>;

/// The children of disco#info of a node; `None` where the node is somebody else's.
pub type DiscoNode = Arc<
    dyn Fn(Request) -> BoxFuture<'static, Result<Option<Vec<Element>>, StanzaError>> + Send + Sync,
>;

/// A feature that asks questions of its own: it gets the answers, which it knows by their ids.
pub trait OnAnswer: Send + Sync {
    /// An IQ result or error that was sent to the server or to an account.
    fn on_answer<'a>(&'a self, server: &'a Server, answer: &'a Stanza) -> BoxFuture<'a, ()>;
}

/// An IQ that a blocked or otherwise unwelcome sender may not get through. `Err`: the answer.
pub trait OnIq: Send + Sync {
    fn on_iq<'a>(
        &'a self,
        server: &'a Server,
        account: &'a Arc<Account>,
        from: &'a Jid,
        incoming: bool,
    ) -> BoxFuture<'a, Result<(), StanzaError>>;
}

#[derive(Default)]
pub struct Router {
    iq: HashMap<(Target, IqType), HashMap<String, HashMap<String, IqHandler>>>,
    pub(super) messages: Vec<(Stage, Arc<dyn OnMessage>)>,
    pub(super) sessions: Vec<Arc<dyn OnSession>>,
    pub(super) presences: Vec<Arc<dyn OnPresence>>,
    pub(super) iqs: Vec<Arc<dyn OnIq>>,
    pub(super) features: HashMap<Target, BTreeSet<String>>,
    pub(super) identities: HashMap<Target, Vec<(String, String, String)>>,
    pub(super) items: HashMap<Target, Vec<DiscoItems>>,
    pub(super) forms: Vec<DiscoForm>,
    pub(super) nodes: HashMap<Target, Vec<DiscoNode>>,
    pub(super) answers: Vec<Arc<dyn OnAnswer>>,
}

impl Router {
    /// Answers an IQ of this payload for each target. Twice the same is a fault of ours.
    pub fn iq<F, T>(
        &mut self,
        targets: &[Target],
        kind: IqType,
        name: &str,
        namespace: &str,
        handler: F,
    ) -> anyhow::Result<()>
    where
        F: Fn(Request) -> T + Send + Sync + 'static,
        T: Future<Output = Reply> + Send + 'static,
    {
        let handler: IqHandler = Arc::new(move |request| Box::pin(handler(request)));
        for target in targets {
            let handlers = self.iq.entry((*target, kind)).or_default();
            let by_name = handlers.entry(namespace.to_owned()).or_default();
            let previous = by_name.insert(name.to_owned(), Arc::clone(&handler));
            anyhow::ensure!(
                previous.is_none(),
                "Two features answer {kind:?} {name} of {namespace} for {target:?}"
            );
        }
        Ok(())
    }

    pub(super) fn handler(
        &self,
        target: Target,
        kind: IqType,
        payload: &Element,
    ) -> Option<IqHandler> {
        let handlers = self.iq.get(&(target, kind))?;
        let by_name = handlers.get(payload.ns().as_str())?;
        by_name.get(payload.name()).cloned()
    }

    pub fn message(&mut self, stage: Stage, feature: Arc<dyn OnMessage>) {
        self.messages.push((stage, feature));
    }

    pub fn session(&mut self, feature: Arc<dyn OnSession>) {
        self.sessions.push(feature);
    }

    pub fn presence(&mut self, feature: Arc<dyn OnPresence>) {
        self.presences.push(feature);
    }

    /// Asked before every IQ request between an account and somebody else.
    pub fn iq_filter(&mut self, feature: Arc<dyn OnIq>) {
        self.iqs.push(feature);
    }

    /// Announces a feature of disco#info.
    pub fn disco(&mut self, targets: &[Target], feature: &str) {
        for target in targets {
            self.features
                .entry(*target)
                .or_default()
                .insert(feature.to_owned());
        }
    }

    pub fn identity(&mut self, targets: &[Target], category: &str, kind: &str, name: &str) {
        for target in targets {
            self.identities.entry(*target).or_default().push((
                category.to_owned(),
                kind.to_owned(),
                name.to_owned(),
            ));
        }
    }

    /// Adds to disco#items of a target.
    pub fn disco_items(&mut self, target: Target, items: DiscoItems) {
        self.items.entry(target).or_default().push(items);
    }

    /// Answers disco#info of a target's nodes.
    pub fn disco_node(&mut self, target: Target, node: DiscoNode) {
        self.nodes.entry(target).or_default().push(node);
    }

    /// Is told of the answers to IQs that were sent in the server's or an account's name.
    pub fn answer(&mut self, feature: Arc<dyn OnAnswer>) {
        self.answers.push(feature);
    }

    /// Adds a form to disco#info of the domain.
    pub fn disco_form(&mut self, form: DiscoForm) {
        self.forms.push(form);
    }

    /// After all have registered.
    pub(super) fn seal(&mut self) {
        // Stable: within a stage, in the order of registration.
        self.messages.sort_by_key(|(stage, _)| *stage);
    }
}
