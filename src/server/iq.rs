//! IQs (RFC 6120, 8.2.3): every request is answered, by a handler or by an error.

use std::sync::Arc;

use futures::FutureExt;
use jid::Jid;
use minidom::Element;
use tracing::error;

use super::abuse::Refusal;
use super::account::Account;
use super::router::{IqType, Reply, Request, Target};
use super::session::Session;
use super::stanza::Stanza;
use super::{Server, StanzaError};
use crate::xmpp::ns;

/// What kind of IQ it is; `None`: none that RFC 6120, 8.2.3 knows.
enum Shape {
    Request(IqType, Element),
    Answer,
}

fn shape(stanza: &Stanza) -> Result<Shape, StanzaError> {
    let bad = |text: &str| StanzaError::bad_request().text(text);
    if stanza.id().is_none_or(str::is_empty) {
        return Err(bad("An IQ has an id"));
    }
    let kind = match stanza.type_() {
        "get" => IqType::Get,
        "set" => IqType::Set,
        "result" | "error" => return Ok(Shape::Answer),
        _ => return Err(bad("The type of an IQ is get, set, result or error")),
    };
    let mut children = stanza.element().children();
    match (children.next(), children.next()) {
        (Some(payload), None) => Ok(Shape::Request(kind, payload.clone())),
        _ => Err(bad("A request has exactly one payload")),
    }
}

/// A fault of ours in one request must end neither the stream nor the answer.
async fn caught(answering: impl Future<Output = Reply> + Send) -> Reply {
    let caught = std::panic::AssertUnwindSafe(answering).catch_unwind().await;
    caught.unwrap_or_else(|_panic| {
        error!("A handler panicked; this is a fault in moltis");
        Err(StanzaError::internal_server_error())
    })
}

impl Server {
    /// An IQ that a client of ours has sent.
    pub(super) async fn iq_from_client(
        &self,
        session: &Arc<Session>,
        stanza: Stanza,
    ) -> Result<(), StanzaError> {
        let shape = shape(&stanza)?;
        if let Shape::Request(_, payload) = &shape {
            self.may_request(session, payload)?;
        }
        let own = Jid::from(session.account().jid().clone());
        let to = stanza.to().cloned().unwrap_or_else(|| own.clone());
        if to == own {
            return match shape {
                Shape::Request(kind, payload) => {
                    let request = Request {
                        server: self.clone(),
                        target: Target::Own,
                        kind,
                        from: stanza.from().clone(),
                        to,
                        id: stanza.id().unwrap_or_default().to_owned(),
                        session: Some(Arc::clone(session)),
                        account: Some(Arc::clone(session.account())),
                        payload,
                    };
                    self.answer(&stanza, request, Some(session)).await;
                    Ok(())
                }
                Shape::Answer => {
                    self.answered(&stanza).await;
                    Ok(())
                }
            };
        }
        for feature in &self.router().iqs {
            feature.on_iq(self, session.account(), &to, false).await?;
        }
        self.route(stanza, Some(session)).await;
        Ok(())
    }

    /// So many requests at once; a ping is always answered. Whose bytes are not limited may ask as much as they like.
    fn may_request(&self, session: &Session, payload: &Element) -> Result<(), StanzaError> {
        let account = session.account().jid();
        let is_limited = self.settings().limits.c2s_bytes_per_second > 0;
        let is_free = payload.is("ping", ns::PING) || session.origin.is_own_bot();
        if is_free || !is_limited || self.abuse().requests.take(account) {
            return Ok(());
        }
        self.abuse().refused(Refusal::Requests, account);
        Err(StanzaError::resource_constraint().text("You ask too much at once; try again later"))
    }

    /// An IQ for the domain itself.
    pub(super) async fn iq_to_domain(&self, session: Option<&Arc<Session>>, stanza: Stanza) {
        self.iq_to(session, None, stanza).await;
    }

    /// An IQ for an account here, of somebody else.
    pub(super) async fn iq_to_account(
        &self,
        account: &Arc<Account>,
        session: Option<&Arc<Session>>,
        stanza: Stanza,
        to: &Jid,
    ) -> Result<(), StanzaError> {
        for feature in &self.router().iqs {
            feature.on_iq(self, account, stanza.from(), true).await?;
        }
        let Ok(full) = to.try_as_full() else {
            self.iq_to(session, Some(account), stanza).await;
            return Ok(());
        };
        // RFC 6121, 8.5.3: to that resource or to nobody.
        let Some(addressed) = account.session(full) else {
            return Err(StanzaError::service_unavailable());
        };
        let sent = addressed.send(stanza.into()).await;
        sent.map_err(|_gone| StanzaError::service_unavailable())
    }

    async fn iq_to(
        &self,
        session: Option<&Arc<Session>>,
        account: Option<&Arc<Account>>,
        stanza: Stanza,
    ) {
        let (kind, payload) = match shape(&stanza) {
            Ok(Shape::Request(kind, payload)) => (kind, payload),
            Ok(Shape::Answer) => {
                self.answered(&stanza).await;
                return;
            }
            Err(error) => {
                self.refuse(&stanza, &error).await;
                return;
            }
        };
        let Some(to) = stanza.to().cloned() else {
            return;
        };
        let own = account.is_some_and(|account| *account.jid() == stanza.from().to_bare());
        let target = match account {
            None => Target::Domain,
            Some(_) if own => Target::Own,
            Some(_) => Target::Other,
        };
        let request = Request {
            server: self.clone(),
            target,
            kind,
            from: stanza.from().clone(),
            to,
            id: stanza.id().unwrap_or_default().to_owned(),
            session: session.cloned(),
            account: account.cloned(),
            payload,
        };
        self.answer(&stanza, request, session).await;
    }

    /// Answers an IQ for a host with what `handle` says to its payload; an answer to nobody's question is dropped.
    pub(super) async fn answer_iq<F, T>(&self, stanza: &Stanza, handle: F)
    where
        F: FnOnce(IqType, Element) -> T,
        T: Future<Output = Reply> + Send,
    {
        let reply = match shape(stanza) {
            Ok(Shape::Request(kind, payload)) => caught(handle(kind, payload)).await,
            Ok(Shape::Answer) => return,
            Err(error) => Err(error),
        };
        let answer = match &reply {
            Ok(payload) => stanza.result(payload.clone()),
            Err(error) => stanza.error(error),
        };
        if let Some(answer) = answer {
            self.route(answer, None).await;
        }
    }

    /// The answer to a push, or to a feature's question.
    async fn answered(&self, stanza: &Stanza) {
        for feature in &self.router().answers {
            feature.on_answer(self, stanza).await;
        }
    }

    async fn answer(&self, stanza: &Stanza, request: Request, session: Option<&Arc<Session>>) {
        let handler = self
            .router()
            .handler(request.target, request.kind, &request.payload);
        let reply = match handler {
            None => Err(StanzaError::service_unavailable()),
            Some(handler) => caught(handler(request)).await,
        };
        let answer = match &reply {
            Ok(payload) => stanza.result(payload.clone()),
            Err(error) => stanza.error(error),
        };
        let Some(answer) = answer else {
            return;
        };
        match session {
            Some(session) => {
                // It has ended: nobody is left to be told.
                session.send(answer.into()).await.ok();
            }
            None => self.route(answer, None).await,
        }
    }
}
