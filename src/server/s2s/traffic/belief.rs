//! Who the other side of a stream is believed to be (XEP-0220), and for whom it may send.

use futures::FutureExt;
use minidom::Element;
use tracing::{debug, info};

use super::super::dialback::{self, Verdict};
use super::super::peer::Way;
use super::super::{Pair, accept, domain};
use super::{Known, MOST_CALLS, MOST_PAIRS, Traffic};
use crate::server::abuse::Refusal;
use crate::server::stream::wire::End;
use crate::server::{StanzaError, StreamError};

impl Traffic<'_> {
    /// XEP-0220.
    pub(super) fn dialback(&mut self, element: &Element) -> Result<(), End> {
        if element.attr("type").is_some() {
            // We have asked nothing here (CVE-2012-3525).
            debug!("An answer to a question that was not asked is ignored");
            return Ok(());
        }
        let address = |name| element.attr(name).and_then(domain);
        let (Some(remote), Some(local)) = (address("from"), address("to")) else {
            return Err(StreamError::new("improper-addressing").into());
        };
        let pair = Pair::new(local, remote);
        match (element.name(), &self.visitor) {
            // With XEP-0288 that may come by a stream of ours too.
            ("verify", _) => {
                let id: String = element.attr("id").unwrap_or_default().into();
                let verdict = self.vouch(&pair, &id, element.text().trim());
                self.say(&dialback::answer("verify", &pair, Some(&id), &verdict));
                Ok(())
            }
            ("result", Some(visitor)) => {
                let (id, key) = (visitor.id.clone(), element.text().trim().to_owned());
                self.asked_to_believe(pair, id, key);
                Ok(())
            }
            ("result", None) => {
                let verdict = Verdict::Error(StanzaError::feature_not_implemented());
                self.say(&dialback::answer("result", &pair, None, &verdict));
                Ok(())
            }
            _ => Err(StreamError::new("unsupported-stanza-type").into()),
        }
    }

    /// XEP-0220, 2.3: whether a key that came to another server is ours.
    fn vouch(&self, pair: &Pair, id: &str, key: &str) -> Verdict {
        if !self.server.serves(&pair.local) {
            return Verdict::Error(StanzaError::item_not_found());
        }
        let secret = &self.federation.0.secret;
        if secret.knows(&pair.remote, &pair.local, id, key) {
            Verdict::Valid
        } else {
            self.server.abuse().refused(Refusal::Dialback, &pair.remote);
            Verdict::Invalid
        }
    }

    /// XEP-0220, 2.2: a server asks to be believed that it is `pair.remote`.
    fn asked_to_believe(&mut self, pair: Pair, id: String, key: String) {
        let Some(visitor) = &self.visitor else {
            return;
        };
        if let Some(verdict) = accept::reject(self.server, &pair) {
            self.decided(&pair, &verdict);
            return;
        }
        let too_many = self.known.len() >= MOST_PAIRS && !self.known.contains_key(&pair);
        if too_many || !self.federation.may_ask(visitor.address) {
            self.server
                .abuse()
                .refused(Refusal::Dialback, &visitor.address);
            let error = StanzaError::resource_constraint();
            self.decided(&pair, &Verdict::Error(error));
            return;
        }
        let chain = visitor.chain.clone();
        // Mostly it is known at once, without a question to anybody.
        let believed = accept::believe(self.federation, self.server, &pair, &chain);
        if let Some(Some(verdict)) = believed.now_or_never() {
            self.decided(&pair, &verdict);
            return;
        }
        if self.calls.len() >= MOST_CALLS {
            let error = StanzaError::resource_constraint();
            self.decided(&pair, &Verdict::Error(error));
            return;
        }
        if !self.called.insert(pair.clone()) {
            // One is under way for the same.
            return;
        }
        let (federation, server) = (self.federation.clone(), self.server.clone());
        self.calls.push(Box::pin(async move {
            let verdict = match accept::believe(&federation, &server, &pair, &chain).await {
                Some(verdict) => verdict,
                None => accept::call_back(&federation, &server, &pair, &id, &key).await,
            };
            (pair, verdict)
        }));
    }

    pub(super) fn decided(&mut self, pair: &Pair, verdict: &Verdict) {
        self.called.remove(pair);
        let mut answer = dialback::answer("result", pair, None, verdict);
        match verdict {
            Verdict::Valid => {
                if !self.admit(pair.clone(), "dialback") {
                    let full = Verdict::Error(StanzaError::resource_constraint());
                    answer = dialback::answer("result", pair, None, &full);
                }
            }
            Verdict::Invalid => self.server.abuse().refused(Refusal::Dialback, &pair.remote),
            Verdict::Error(error) => {
                let text = error.text.as_deref().unwrap_or_default();
                debug!(remote = %pair.remote, condition = ?error.condition, text, "A server is not believed");
            }
        }
        self.say(&answer);
    }

    /// From now on the other server may send for this pair; `false`: there are too many.
    pub(super) fn admit(&mut self, pair: Pair, authentication: &'static str) -> bool {
        let Some(visitor) = &self.visitor else {
            return false;
        };
        if self.known.contains_key(&pair) {
            return true;
        }
        let Some(peer) = self.federation.peer(&pair) else {
            self.server
                .abuse()
                .refused(Refusal::Dialback, &visitor.address);
            return false;
        };
        info!(local = %pair.local, remote = %pair.remote, authentication, tls = visitor.tls, address = %visitor.address, "Another server has connected");
        let way = Way {
            direction: if self.bidi { "in, both ways" } else { "in" },
            authentication,
            tls: visitor.tls.clone(),
        };
        peer.heard();
        let opened = peer.open(way);
        self.known.insert(pair, Known { opened });
        true
    }
}
