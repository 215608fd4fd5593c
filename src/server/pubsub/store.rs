//! Nodes and items in the store. A node's key is its name and its owner the service; an item's key is its place in the
//! order of publication, so that a list is in that order, and its owner the service and the node.

use jid::BareJid;
use minidom::Element;
use serde::{Deserialize, Serialize};

use super::node::Record;
use crate::server::StanzaError;
use crate::server::stream::xml;
use crate::storage::{Batch, KeyValue, Storage};

const NODES: KeyValue = KeyValue("pubsub_nodes");
const ITEMS: KeyValue = KeyValue("pubsub_items");

/// An item as it is stored; the payload is its XML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredItem {
    pub id: String,
    pub publisher: BareJid,
    /// Milliseconds since 1970.
    pub at: i64,
    pub payload: Option<String>,
}

impl StoredItem {
    /// What the publisher sent.
    pub fn element(&self) -> Option<Element> {
        xml::parse(self.payload.as_deref()?)
    }

    /// What it counts against the limits.
    pub fn bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, String::len) + self.id.len()
    }
}

/// No JID has a line feed, so that the first one ends the service.
fn owner(service: &BareJid, node: &str) -> String {
    format!("{service}\n{node}")
}

fn key(sequence: u64) -> String {
    format!("{sequence:016x}")
}

/// `None`, with a log line, for what a damaged store holds.
fn read<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Option<T> {
    serde_json::from_slice(value)
        .inspect_err(|err| tracing::error!("A stored node or item cannot be read: {err}"))
        .ok()
}

/// Plain data is always JSON; the error would be one of ours.
fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, StanzaError> {
    serde_json::to_vec(value).map_err(|err| {
        tracing::error!("A node or item cannot be written: {err}");
        StanzaError::internal_server_error()
    })
}

/// All nodes of a service.
pub async fn nodes(
    storage: &Storage,
    service: &BareJid,
) -> Result<Vec<(String, Record)>, StanzaError> {
    let stored = storage.list(NODES, service.as_str(), "").await?;
    Ok(stored
        .into_iter()
        .filter_map(|(name, value)| Some((name, read(&value)?)))
        .collect())
}

pub fn put_node(
    batch: Batch,
    service: &BareJid,
    node: &str,
    record: &Record,
) -> Result<Batch, StanzaError> {
    Ok(batch.put(NODES, service.as_str(), node, write(record)?))
}

pub fn delete_node(batch: Batch, service: &BareJid, node: &str) -> Batch {
    batch.delete(NODES, service.as_str(), node)
}

/// All items of a node in their order, with their places.
pub async fn items(
    storage: &Storage,
    service: &BareJid,
    node: &str,
) -> Result<Vec<(u64, StoredItem)>, StanzaError> {
    let stored = storage.list(ITEMS, &owner(service, node), "").await?;
    Ok(stored
        .into_iter()
        .filter_map(|(key, value)| Some((u64::from_str_radix(&key, 16).ok()?, read(&value)?)))
        .collect())
}

pub async fn item(
    storage: &Storage,
    service: &BareJid,
    node: &str,
    sequence: u64,
) -> Result<Option<StoredItem>, StanzaError> {
    let stored = storage
        .get(ITEMS, &owner(service, node), &key(sequence))
        .await?;
    Ok(stored.as_deref().and_then(read))
}

pub fn put_item(
    batch: Batch,
    service: &BareJid,
    node: &str,
    sequence: u64,
    item: &StoredItem,
) -> Result<Batch, StanzaError> {
    Ok(batch.put(ITEMS, &owner(service, node), &key(sequence), write(item)?))
}

pub fn delete_item(batch: Batch, service: &BareJid, node: &str, sequence: u64) -> Batch {
    batch.delete(ITEMS, &owner(service, node), &key(sequence))
}
