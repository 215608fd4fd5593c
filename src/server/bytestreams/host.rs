//! The proxy on its host: what it is, where its port is, and the word to go.

use futures::future::BoxFuture;
use jid::{Jid, NodeRef};
use minidom::Element;
use tokio::sync::{mpsc, oneshot};

use super::{Proxy, Refused, Start, TRANSFERS, socks};
use crate::server::desk::{self, Desk};
use crate::server::router::{IqType, Reply};
use crate::server::session::Sender;
use crate::server::stanza::Stanza;
use crate::server::{ErrorType, Host, Server, StanzaError};
use crate::xmpp::element::{child_text, element, set};
use crate::xmpp::ns;

const NAME: &str = "File transfer proxy";

/// Longer ids are nobody's.
const LONGEST_SID: usize = 1_024;

#[derive(Debug)]
pub(super) struct Service {
    proxy: Proxy,
    host: String,
    port: u16,
    starts: mpsc::Sender<Start>,
}

impl Service {
    /// `port`: where it listens. The receiver is for what passes the bytes.
    pub(super) fn new(proxy: Proxy, host: &str, port: u16) -> (Self, mpsc::Receiver<Start>) {
        let (starts, receiver) = mpsc::channel(TRANSFERS);
        let service = Self {
            proxy,
            host: host.to_owned(),
            port,
            starts,
        };
        (service, receiver)
    }

    /// 6.1.2: where to connect.
    fn address(&self, query: &Element) -> Element {
        let port = self.port.to_string();
        let attributes = [
            ("jid", self.host.as_str()),
            ("host", &self.host),
            ("port", &port),
        ];
        let mut answer = Element::bare("query", ns::BYTESTREAMS);
        if let Some(sid) = query.attr("sid") {
            set(&mut answer, "sid", sid);
        }
        answer.append_child(element("streamhost", ns::BYTESTREAMS, &attributes));
        answer
    }

    /// 6.3.5: by who offers the transfer, whose address is part of its name.
    async fn activate(
        &self,
        stanza: &Stanza,
        query: &Element,
        account: &str,
    ) -> Result<(), StanzaError> {
        let sid = query
            .attr("sid")
            .filter(|sid| !sid.is_empty() && sid.len() <= LONGEST_SID);
        let sid = sid.ok_or_else(StanzaError::bad_request)?;
        let target = child_text(query, "activate", ns::BYTESTREAMS);
        let target = target.ok_or_else(StanzaError::bad_request)?;
        let target = Jid::new(target.trim()).map_err(|_malformed| StanzaError::jid_malformed())?;
        let name = socks::name(sid, stanza.from().as_str(), target.as_str());
        let pair = self
            .proxy
            .activate(&name, account)
            .map_err(|refused| match refused {
                Refused::Unknown => StanzaError::item_not_found(),
                Refused::Alone => StanzaError::not_allowed().text("Only one of you is connected"),
                Refused::Many => {
                    StanzaError::resource_constraint().text("Many transfers are under way")
                }
            })?;
        let (started, begins) = oneshot::channel();
        let account = pair.account.clone();
        let is_started = self.starts.send((pair, started)).await.is_ok();
        // The answer tells the initiator to send: after that, nothing may be in the way.
        if !is_started || begins.await.is_err() {
            self.proxy.ended(&account);
            return Err(StanzaError::internal_server_error());
        }
        Ok(())
    }
}

impl Desk for Service {
    fn info(&self) -> Element {
        desk::info("proxy", "bytestreams", NAME, &[ns::BYTESTREAMS])
    }

    fn asked<'a>(
        &'a self,
        server: &'a Server,
        stanza: &'a Stanza,
        kind: IqType,
        payload: &'a Element,
    ) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            if !payload.is("query", ns::BYTESTREAMS) {
                return Err(StanzaError::service_unavailable());
            }
            let account = person(server, stanza)?;
            match kind {
                IqType::Get => Ok(Some(self.address(payload))),
                IqType::Set => self.activate(stanza, payload, account).await.map(|()| None),
            }
        })
    }
}

impl Host for Service {
    fn handle<'a>(
        &'a self,
        server: &'a Server,
        _: Sender<'a>,
        stanza: Stanza,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move { desk::attend(self, server, &stanza).await })
    }

    fn name(&self) -> &str {
        NAME
    }
}

/// The local part of who asks: the proxy is for people of this server.
fn person<'a>(server: &Server, stanza: &'a Stanza) -> Result<&'a str, StanzaError> {
    let from = stanza.from();
    let is_local = server.is_local(from.domain().as_str());
    let name = from.node().filter(|_| is_local).map(NodeRef::as_str);
    name.ok_or_else(|| {
        let mut error = StanzaError::forbidden();
        error.kind = ErrorType::Auth;
        error
    })
}
