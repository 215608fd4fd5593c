//! The place where tokio-xmpp's stream waits for its next connection. Its worker panics where the place is given up,
//! so one that is dropped is filled with a connection that has already ended.

use futures::FutureExt;
use tokio::sync::oneshot;
use tokio_xmpp::stanzastream::Connection;
use tokio_xmpp::xmlstream::{StreamHeader, Timeouts, initiate_stream};
use xmpp_parsers::bind::BindFeature;
use xmpp_parsers::ns;
use xmpp_parsers::stream_features::StreamFeatures;

use crate::xmpp::guard::{Guard, Limits};

/// Drop the `StanzaStream` first: then the worker ends instead of asking for another connection.
pub(super) struct Slot(Option<oneshot::Sender<Connection>>);

impl Slot {
    pub(super) const fn new(sender: oneshot::Sender<Connection>) -> Self {
        Self(Some(sender))
    }

    /// Whether the worker took the connection; it does not where it has ended.
    pub(super) fn fill(mut self, connection: Connection) -> bool {
        self.0
            .take()
            .is_some_and(|sender| sender.send(connection).is_ok())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A stream needs the runtime's clock. Without a runtime the worker is gone as well.
        if let Some(sender) = self.0.take()
            && tokio::runtime::Handle::try_current().is_ok()
            && let Some(connection) = ended()
        {
            // The worker may be gone; then nobody waits.
            sender.send(connection).ok();
        }
    }
}

/// A connection on which nothing more will come.
fn ended() -> Option<Connection> {
    let header = format!(
        "<stream:stream xmlns='{}' xmlns:stream='{}' version='1.0'>",
        ns::JABBER_CLIENT,
        ns::STREAM
    );
    let io = tokio::io::join(std::io::Cursor::new(header), tokio::io::sink());
    let guard = Guard::new(io, Limits::default());
    let opening = initiate_stream(
        guard,
        ns::JABBER_CLIENT,
        StreamHeader::default(),
        Timeouts::tight(),
    );
    // Everything is in memory, so nothing waits.
    let pending = tokio::task::unconstrained(opening).now_or_never()?.ok()?;
    let identity = jid::BareJid::new("localhost").ok()?;
    Some(Connection {
        stream: pending.skip_features().box_stream(),
        // The worker insists on binding.
        features: StreamFeatures {
            bind: Some(BindFeature { required: false }),
            ..StreamFeatures::default()
        },
        identity: identity.into(),
    })
}
