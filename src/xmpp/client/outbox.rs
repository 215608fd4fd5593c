//! What waits to be sent, and what was sent and is not acknowledged.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio_xmpp::Stanza;
use tokio_xmpp::stanzastream::{StanzaStage, StanzaState, StanzaStream, StanzaToken};

use super::Acknowledged;

/// How many stanzas the stream's own queue takes: never more, so that handing one over never waits.
pub(super) const DEPTH: usize = 64;
/// How many may wait before [`Outbox::has_room`] says no.
const ROOM: usize = 256;

/// A stanza that reached a stage, or is lost.
struct Step {
    /// `None`: lost.
    reached: Option<StanzaStage>,
    /// It had not left the stream's queue before.
    was_queued: bool,
    token: StanzaToken,
    acknowledge: oneshot::Sender<()>,
}

#[derive(Default)]
pub(super) struct Outbox {
    waiting: VecDeque<(Stanza, oneshot::Sender<()>)>,
    /// In the stream's queue.
    queued: usize,
    steps: FuturesUnordered<BoxFuture<'static, Step>>,
}

impl Outbox {
    pub(super) fn push(&mut self, stanza: Stanza) -> Acknowledged {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.waiting.push_back((stanza, acknowledge));
        acknowledged
    }

    pub(super) fn pop(&mut self) -> Option<(Stanza, oneshot::Sender<()>)> {
        self.waiting.pop_front()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < ROOM
    }

    /// Whether nothing waits to be sent or acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.steps.is_empty()
    }

    /// Hands over what the stream's queue takes now.
    pub(super) fn flush(&mut self, stream: &StanzaStream) {
        while self.queued < DEPTH {
            let Some((stanza, acknowledge)) = self.waiting.pop_front() else {
                return;
            };
            // There is a free place, so this does not wait; it panics where the stream's worker has ended, of which
            // its events tell next. The stanza is then lost, as the dropped sender says.
            let sending = tokio::task::unconstrained(stream.send(Box::new(stanza)));
            let sent = AssertUnwindSafe(sending).catch_unwind().now_or_never();
            let Some(Ok(token)) = sent else {
                return;
            };
            self.queued += 1;
            self.steps.push(step(token, acknowledge, StanzaStage::Sent));
        }
    }

    /// Waits for stanzas to get on; never ends while there are none. Cancel safe.
    pub(super) async fn progress(&mut self, managed: bool) {
        let Some(done) = self.steps.next().await else {
            return std::future::pending().await;
        };
        self.on_step(done, managed);
        // All that is known by now: one at a time would fall behind the stanzas that come in.
        while let Some(Some(done)) = self.steps.next().now_or_never() {
            self.on_step(done, managed);
        }
    }

    fn on_step(&mut self, done: Step, managed: bool) {
        if done.was_queued {
            self.queued = self.queued.saturating_sub(1);
        }
        match done.reached {
            // Without stream management nobody will ever say more about it.
            Some(StanzaStage::Sent) if managed => {
                self.steps
                    .push(step(done.token, done.acknowledge, StanzaStage::Acked));
            }
            Some(StanzaStage::Sent | StanzaStage::Acked) => {
                // Who sent it may not want to know.
                done.acknowledge.send(()).ok();
            }
            Some(StanzaStage::Queued | StanzaStage::Failed | StanzaStage::Dropped) | None => {}
        }
    }

    /// Forgets what a stream that has ended was handed.
    pub(super) fn restart(&mut self) {
        self.queued = 0;
        self.steps = FuturesUnordered::new();
    }
}

fn step(
    mut token: StanzaToken,
    acknowledge: oneshot::Sender<()>,
    stage: StanzaStage,
) -> BoxFuture<'static, Step> {
    async move {
        let state: Option<StanzaState> = token.wait_for(stage).await;
        Step {
            reached: state.as_ref().map(StanzaStage::from),
            was_queued: stage == StanzaStage::Sent,
            token,
            acknowledge,
        }
    }
    .boxed()
}
