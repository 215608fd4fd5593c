//! XEP-0198: Stream Management. What was sent and is not acknowledged, what was received, and how a session goes over to
//! another connection.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jid::BareJid;
use minidom::Element;
use tokio::sync::{mpsc, oneshot};

use super::negotiation::{Answer, Feature, Negotiation, Next, state};
use super::wire::End;
use crate::server::StreamError;
use crate::server::mail::Mail;
use crate::server::session::Session;
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// How long a session waits to be resumed.
pub(super) const RESUMPTION: Duration = Duration::from_mins(5);
/// How many stanzas may be unacknowledged before the mailbox is no longer read.
pub(super) const QUEUE: usize = 1_024;

/// Resumption, which takes the place of binding.
pub(super) const FEATURE: Feature = Feature {
    name: "sm",
    needs: state::AUTHENTICATED,
    forbids: state::BOUND,
    list: |_| vec![Element::bare("sm", ns::SM), Element::bare("csi", ns::CSI)],
    takes: &[("resume", ns::SM)],
    negotiate,
};

fn negotiate(negotiation: &mut Negotiation, element: Element) -> Answer<'_> {
    Box::pin(async move {
        match resume(negotiation, &element).await? {
            Ok((parcel, answer)) => {
                negotiation.output.element(&answer);
                Ok(Next::Bound(Box::new(parcel)))
            }
            Err(answer) => {
                negotiation.output.element(&answer);
                Ok(Next::Element)
            }
        }
    })
}

/// Takes up the session that `<resume/>` asks for: it, and `<resumed/>`; or `<failed/>`.
pub(super) async fn resume(
    negotiation: &mut Negotiation,
    request: &Element,
) -> Result<Result<(Parcel, Element), Element>, End> {
    let (Some(id), Some(count), Some(account)) = (
        request.attr("previd"),
        handled(request),
        negotiation.still_account(),
    ) else {
        return Ok(Err(failed("bad-request")));
    };
    let Some(mut parcel) = negotiation.streams.0.resumable.take(id, account).await else {
        return Ok(Err(failed("item-not-found")));
    };
    if let Err(end) = parcel.queue.acknowledge(count) {
        let Parcel {
            session,
            mailbox,
            mut queue,
            held,
            ..
        } = parcel;
        let mut left = queue.take();
        left.extend(held);
        negotiation
            .streams
            .server()
            .unbind(&session, mailbox, left)
            .await;
        return Err(end);
    }
    let answer = resumed(id, parcel.handled);
    Ok(Ok((parcel, answer)))
}

/// What was written to the client and may not have arrived.
#[derive(Debug, Default)]
pub(in crate::server) struct Queue {
    unacknowledged: VecDeque<Mail>,
    /// How many stanzas the client has acknowledged, modulo 2^32.
    acknowledged: u32,
}

impl Queue {
    pub(in crate::server) fn push(&mut self, mail: Mail) {
        self.unacknowledged.push_back(mail);
    }

    pub(in crate::server) fn len(&self) -> usize {
        self.unacknowledged.len()
    }

    pub(in crate::server) fn is_empty(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// The connection has taken all, which without stream management is all that one knows.
    pub(super) fn forget(&mut self) {
        if !self.unacknowledged.is_empty() {
            self.unacknowledged.clear();
            // Memory of a burst is not kept by an idle session.
            self.unacknowledged.shrink_to(16);
        }
    }

    /// What the client says it has handled (XEP-0198, 4): so many since stream management began.
    pub(in crate::server) fn acknowledge(&mut self, handled: u32) -> Result<(), End> {
        let count = handled.wrapping_sub(self.acknowledged);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > self.unacknowledged.len() {
            let sent = u32::try_from(self.unacknowledged.len()).unwrap_or(u32::MAX);
            let detail = element(
                "handled-count-too-high",
                ns::SM,
                &[
                    ("h", &handled.to_string()),
                    (
                        "send-count",
                        &self.acknowledged.wrapping_add(sent).to_string(),
                    ),
                ],
            );
            return Err(End::Error(
                StreamError::new("undefined-condition").text("You acknowledge what was not sent"),
                Some(Box::new(detail)),
            ));
        }
        self.unacknowledged.drain(..count);
        self.acknowledged = handled;
        if self.unacknowledged.is_empty() {
            self.unacknowledged.shrink_to(16);
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Mail> {
        self.unacknowledged.iter()
    }

    pub(in crate::server) fn take(&mut self) -> Vec<Mail> {
        std::mem::take(&mut self.unacknowledged).into()
    }
}

/// The `h` of an `<a/>` or a `<resume/>`.
pub(in crate::server) fn handled(element: &Element) -> Option<u32> {
    element.attr("h")?.parse().ok()
}

pub(in crate::server) fn request() -> Element {
    Element::bare("r", ns::SM)
}

pub(in crate::server) fn acknowledgement(handled: u32) -> Element {
    element("a", ns::SM, &[("h", &handled.to_string())])
}

pub(in crate::server) fn enabled(id: Option<&str>) -> Element {
    match id {
        Some(id) => {
            let most = RESUMPTION.as_secs().to_string();
            let attributes = [("id", id), ("resume", "true"), ("max", &most)];
            element("enabled", ns::SM, &attributes)
        }
        None => Element::bare("enabled", ns::SM),
    }
}

pub(super) fn resumed(id: &str, handled: u32) -> Element {
    let attributes = [("previd", id), ("h", &handled.to_string())];
    element("resumed", ns::SM, &attributes)
}

pub(in crate::server) fn failed(condition: &str) -> Element {
    let mut failed = Element::bare("failed", ns::SM);
    failed.append_child(Element::bare(condition, ns::XMPP_STANZAS));
    failed
}

/// All of a session that outlives its connection.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) session: Arc<Session>,
    pub(super) mailbox: mpsc::Receiver<Mail>,
    pub(super) queue: Queue,
    /// Held back for an inactive client.
    pub(super) held: Vec<Mail>,
    /// Stanzas of the client that were handled, modulo 2^32.
    pub(super) handled: u32,
    /// What the session is resumed by; of a new one none.
    pub(super) id: Option<String>,
    /// XEP-0198 is on.
    pub(super) managed: bool,
    /// Nobody looks at the client (XEP-0352).
    pub(super) inactive: bool,
}

/// Whoever sends this is given the session.
pub(super) type Takeover = oneshot::Sender<Parcel>;

/// The sessions that may be resumed. The task of the old connection keeps the session and hands it over.
#[derive(Debug, Default)]
pub(super) struct Resumable(Mutex<HashMap<String, (BareJid, mpsc::Sender<Takeover>)>>);

impl Resumable {
    fn entries(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<String, (BareJid, mpsc::Sender<Takeover>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, id: String, account: BareJid) -> mpsc::Receiver<Takeover> {
        let (sender, receiver) = mpsc::channel(1);
        self.entries().insert(id, (account, sender));
        receiver
    }

    pub(super) fn remove(&self, id: &str) {
        self.entries().remove(id);
    }

    /// Takes the session of this id, if it is this account's: an id alone opens nothing.
    pub(super) async fn take(&self, id: &str, account: &BareJid) -> Option<Parcel> {
        let sender = {
            let mut entries = self.entries();
            let (owner, _) = entries.get(id)?;
            if owner != account {
                return None;
            }
            entries.remove(id)?.1
        };
        let (takeover, parcel) = oneshot::channel();
        sender.send(takeover).await.ok()?;
        // The task may end at this moment for another reason.
        parcel.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(count: usize) -> Queue {
        let mut queue = Queue::default();
        for _ in 0..count {
            queue.push(Mail::new(Element::bare("message", ns::JABBER_CLIENT)));
        }
        queue
    }

    #[test]
    fn acknowledgements_count_modulo_2_to_the_32() {
        let mut queue = queue(5);
        queue.acknowledged = u32::MAX - 1;
        queue.acknowledge(u32::MAX).unwrap();
        assert_eq!(queue.len(), 4);
        queue.acknowledge(u32::MAX).unwrap();
        assert_eq!(queue.len(), 4, "the same count once more");
        queue.acknowledge(2).unwrap();
        assert_eq!(queue.len(), 1);
        assert!(!queue.is_empty());
    }

    #[test]
    fn what_was_not_sent_cannot_be_acknowledged() {
        let mut queue = queue(3);
        queue.acknowledge(1).unwrap();
        for handled in [4, 0, u32::MAX] {
            let Err(End::Error(error, Some(detail))) = queue.acknowledge(handled) else {
                panic!("{handled} was accepted");
            };
            assert_eq!(error.condition, "undefined-condition");
            assert_eq!(detail.attr("send-count"), Some("3"));
        }
        assert_eq!(queue.len(), 2);
    }

    #[tokio::test]
    async fn only_its_account_takes_a_session() {
        let resumable = Resumable::default();
        let romeo = BareJid::new("romeo@example.org").unwrap();
        let mut requests = resumable.insert("id".to_owned(), romeo.clone());
        let mallory = BareJid::new("mallory@example.org").unwrap();
        assert!(resumable.take("id", &mallory).await.is_none());
        assert!(resumable.take("other", &romeo).await.is_none());
        let (taken, ()) = tokio::join!(resumable.take("id", &romeo), async {
            // The task that is asked ends without an answer.
            drop(requests.recv().await);
        });
        assert!(taken.is_none());
        assert!(resumable.take("id", &romeo).await.is_none(), "only once");
    }
}
