//! What we send over a stream, and what is known to have arrived of it.

use std::future::pending;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::super::Federation;
use super::super::failure::Failure;
use super::super::peer::{Carrier, Peer};
use crate::server::mail::Mail;
use crate::server::stream::sm;
use crate::server::stream::wire::End;

/// What we send over it. When it goes, what is not known to have arrived goes back, and what waits goes another way.
pub(super) struct Sending {
    pub(super) federation: Federation,
    pub(super) carrier: Option<Carrier>,
    pub(super) peer: Arc<Peer>,
    pub(super) unconfirmed: sm::Queue,
    pub(super) sent: u32,
    /// XEP-0198 is on; else pings tell.
    pub(super) managed: bool,
    pub(super) asked: Option<Asked>,
    /// When something was confirmed last, or began to wait for it.
    pub(super) progress: Instant,
    /// The largest stanza that is taken, in bytes.
    pub(super) most: usize,
}

/// A question that was sent behind so many stanzas.
pub(super) struct Asked {
    pub(super) sent: u32,
    pub(super) at: Instant,
}

impl Sending {
    pub(super) fn new(
        federation: &Federation,
        carrier: Carrier,
        managed: bool,
        most: usize,
    ) -> Self {
        Self {
            federation: federation.clone(),
            peer: Arc::clone(carrier.peer()),
            carrier: Some(carrier),
            unconfirmed: sm::Queue::default(),
            sent: 0,
            managed,
            asked: None,
            progress: Instant::now(),
            most,
        }
    }

    pub(super) fn take_now(&self) -> Option<Mail> {
        self.carrier.as_ref().and_then(Carrier::take_now)
    }

    /// What stood before the question has arrived.
    pub(super) fn confirm(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.progress = Instant::now();
            // Never more than was sent.
            self.unconfirmed.acknowledge(asked.sent).ok();
        }
    }

    /// The other server says how many have arrived (XEP-0198, 4).
    pub(super) fn acknowledge(&mut self, handled: u32) -> Result<(), End> {
        let before = self.unconfirmed.len();
        self.unconfirmed.acknowledge(handled)?;
        // Without anything new it is asked again by and by, not at once.
        if self.unconfirmed.len() < before || before == 0 {
            self.progress = Instant::now();
            self.asked = None;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, mail: Mail) {
        if self.unconfirmed.is_empty() {
            self.progress = Instant::now();
        }
        self.unconfirmed.push(mail);
        self.sent = self.sent.wrapping_add(1);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let left = self.unconfirmed.take();
        if !left.is_empty() {
            let text = format!(
                "The connection with {} broke before it confirmed this; it may have arrived",
                self.peer.pair.remote
            );
            warn!(count = left.len(), "{text}");
            self.peer.tell(text.clone());
            let failure = Failure::unreachable(text);
            self.federation.give_back(&self.peer, left, &failure);
        }
        drop(self.carrier.take());
        self.federation.resume(&self.peer);
    }
}

pub(super) async fn next_mail(sending: Option<&Sending>) -> Mail {
    match sending {
        Some(Sending {
            carrier: Some(carrier),
            ..
        }) => carrier.take().await,
        _ => pending().await,
    }
}
