//! What waits for other servers when the process ends: kept in the store, and sent by the next life.

use std::sync::Arc;

use tracing::{info, warn};

use super::Federation;
use super::peer::Peer;
use crate::server::Server;
use crate::server::feature::offline;
use crate::server::mail::Mail;
use crate::server::stanza::{Kind, Stanza};
use crate::server::stream::xml;
use crate::storage::{Archive, Batch, Error, Query};
use crate::xmpp::datetime;

/// By domain: messages, in their order.
const WAITING: Archive = Archive("s2s_waiting");

/// Keeps the messages; who has asked or shown themselves has gone with the process.
pub(super) async fn keep(server: &Server, peers: Vec<Arc<Peer>>) {
    let now = datetime::now();
    let mut batch = Batch::new();
    let mut count = 0_usize;
    for mail in peers.iter().flat_map(|peer| peer.everything()) {
        if let Some(message) = message(&mail) {
            let delayed = offline::delayed(&message, server.domain(), now);
            let text = String::from(&delayed).into_bytes();
            batch = batch.append(WAITING, server.domain(), now, text);
            count = count.saturating_add(1);
        }
    }
    if count == 0 {
        return;
    }
    match server.storage().commit(batch).await {
        Ok(_) => info!(
            count,
            "Messages for other servers are kept until the next start"
        ),
        Err(err) => warn!(count, "Messages for other servers are lost: {err}"),
    }
}

fn message(mail: &Mail) -> Option<Stanza> {
    if mail.kind() != Some(Kind::Message) {
        return None;
    }
    Stanza::read(mail.element())
}

/// Sends what the last life has kept.
pub(super) async fn send(federation: &Federation, server: &Server) -> Result<(), Error> {
    let (storage, domain) = (server.storage(), server.domain());
    let entries = storage.query(WAITING, domain, Query::default()).await?;
    if entries.is_empty() {
        return Ok(());
    }
    info!(
        count = entries.len(),
        "Messages for other servers have waited for this start"
    );
    for entry in entries {
        let text = std::str::from_utf8(&entry.value).ok();
        if let Some(stanza) = text.and_then(xml::parse).and_then(Stanza::read) {
            federation.send(server, stanza).await;
        } else {
            warn!(
                id = entry.id,
                "A message that was kept cannot be read; it is dropped"
            );
        }
        storage
            .commit(Batch::new().remove(WAITING, domain, entry.id))
            .await?;
    }
    Ok(())
}
