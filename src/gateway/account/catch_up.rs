//! What came while the bot was away, from the archives (XEP-0313): the account's own and each room's, from the last
//! stored position. A position is an id, and the time at which it was stored for archives that have forgotten the id.

mod positions;
mod query;

use jid::BareJid;
use minidom::Element;
use tracing::{debug, warn};
use xmpp_parsers::data_forms::Field;
use xmpp_parsers::message::Message;

use self::positions::key;
use self::query::From;
use super::handle::{Handle, Page};
use super::{Happening, Happenings};
use crate::gateway::inbound::{self, RoomView, Skip, Source};
use crate::gateway::{Place, Wire, WireError, now};
use crate::storage::Storage;
use crate::xmpp::element::find;
use crate::xmpp::{datetime, ns};

pub use self::positions::{Position, archive_of, known, position, store};

const PAGE: usize = 50;
/// An archive that has not come to an end after this many is a hostile one, or a flood of a hundred thousand messages.
const MAX_PAGES: usize = 2_000;

/// Stores where we begin with an archive, before we show ourselves there for the first time: what comes from then on is for
/// us, also where we die before we have taken it in. With a room that is where its archive ends. Our own is not asked:
/// Prosody then keeps back what waits in the offline storage.
pub(super) async fn mark_beginning(handle: &Handle, storage: &Storage, archive: Option<BareJid>) {
    if archive.is_none() {
        let position = Position {
            id: None,
            at: now(),
        };
        return remember(handle, storage, None, &position).await;
    }
    let page = match handle
        .page(archive.clone(), query::page(&From::End, 1))
        .await
    {
        Ok(page) => page,
        Err(err) => {
            return debug!(
                archive = key(archive.as_ref()),
                "No end of an archive: {err}"
            );
        }
    };
    let position = Position {
        id: page.last,
        at: now(),
    };
    remember(handle, storage, archive, &position).await;
}

async fn remember(
    handle: &Handle,
    storage: &Storage,
    archive: Option<BareJid>,
    position: &Position,
) {
    let batch = store(handle.id(), archive.as_ref(), position);
    if let Err(err) = storage.commit(batch).await {
        warn!("Failed to store where an archive begins for us: {err:#}");
    }
}

/// Reads an archive from the stored position to its end. What is found goes the way of live messages, in order.
pub(super) async fn run(
    handle: &Handle,
    storage: &Storage,
    own: &BareJid,
    archive: Option<BareJid>,
    happenings: &Happenings,
) -> Result<(), WireError> {
    let Some(start) = position(storage, handle.id(), archive.as_ref()).await else {
        return baseline(handle, archive, happenings).await;
    };
    let mut at = start.at;
    let mut last = start.id;
    let mut found = 0;
    for _ in 0..MAX_PAGES {
        let from = last.as_deref().map_or(From::Since(at), From::After);
        let page = match handle.page(archive.clone(), query::page(&from, PAGE)).await {
            // The archive no longer has that id (XEP-0059, 2.2).
            Err(WireError::Refused { condition, .. })
                if condition == "item-not-found" && last.is_some() =>
            {
                last = None;
                continue;
            }
            page => page?,
        };
        let done = page.complete || page.results.is_empty();
        for (id, forwarded) in &page.results {
            found += 1;
            at = read(handle, own, archive.as_ref(), id, forwarded, happenings)
                .await
                .unwrap_or(at);
        }
        let newest = page.results.last().map(|(id, _)| id.clone());
        let next = page.last.clone().or(newest).or_else(|| last.clone());
        let stuck = next == last;
        last = next;
        let position = Position {
            id: last.clone(),
            at,
        };
        happenings
            .send(Happening::Position {
                archive: archive.clone(),
                position,
            })
            .await;
        if done {
            debug!(
                found,
                archive = key(archive.as_ref()),
                "Caught up with the archive"
            );
            return Ok(());
        }
        if stuck {
            break;
        }
    }
    warn!(
        archive = key(archive.as_ref()),
        found, "The archive does not come to an end; going on with what comes now"
    );
    baseline(handle, archive, happenings).await
}

/// Remembers where the archive ends, without reading it: what was before our first day is not for us.
async fn baseline(
    handle: &Handle,
    archive: Option<BareJid>,
    happenings: &Happenings,
) -> Result<(), WireError> {
    let page = handle
        .page(archive.clone(), query::page(&From::End, 1))
        .await?;
    let position = Position {
        id: page.last,
        at: now(),
    };
    happenings
        .send(Happening::Position { archive, position })
        .await;
    Ok(())
}

/// The inner message of a result and when it was archived.
fn unpack(forwarded: &Element) -> Option<(Message, i64)> {
    let at = datetime::parse(forwarded.get_child("delay", ns::DELAY)?.attr("stamp")?)?;
    let inner = forwarded.get_child("message", ns::DEFAULT_NS)?;
    Some((Message::try_from(inner.clone()).ok()?, at))
}

async fn read(
    handle: &Handle,
    own: &BareJid,
    archive: Option<&BareJid>,
    id: &str,
    forwarded: &Element,
    happenings: &Happenings,
) -> Option<i64> {
    let (message, at) = unpack(forwarded)?;
    let from = message.from.as_ref()?.to_bare();
    // A room's archive speaks for that room alone.
    if archive.is_some_and(|room| *room != from) {
        return None;
    }
    let outcome = {
        let state = handle.state();
        let room = state.rooms.get(&from);
        if archive.is_some() && room.is_none() {
            return None;
        }
        inbound::read(
            &message,
            &inbound::Context {
                account: handle.id(),
                own,
                room: room.map(|room| room as &dyn RoomView),
                source: Source::Archive {
                    id: id.to_owned(),
                    at,
                },
                now: now(),
            },
        )
    };
    match outcome {
        // In our own archive, groupchat is a copy: the room's archive is the one that counts.
        Ok(inbound) if archive.is_none() && inbound.place.is_room() => {}
        Ok(inbound) => {
            let inbound = Box::new(inbound);
            happenings
                .send(Happening::Message {
                    inbound,
                    moves: false,
                })
                .await;
        }
        Err(Skip::NoContent | Skip::Own | Skip::Room) => {}
        Err(skip) => debug!(id, "Archived message skipped: {}", skip.reason()),
    }
    Some(at)
}

/// Ids of our own messages to a place since a time that the place's archive holds.
pub(super) async fn own_ids(
    handle: &Handle,
    place: &Place,
    since: i64,
) -> Result<Vec<String>, WireError> {
    let archive = archive_of(place);
    let own = handle.jid().to_bare();
    let mut fields = vec![Field::text_single("start", &query::date(since))];
    if archive.is_none() {
        fields.push(Field::text_single("with", &place.address().to_string()));
    }
    let mut ids = Vec::new();
    let mut after = None;
    for _ in 0..MAX_PAGES {
        let query = query::matching(fields.clone(), after.take(), PAGE);
        let page: Page = handle.page(archive.clone(), query).await?;
        let done = page.complete || page.results.is_empty();
        for (_, forwarded) in &page.results {
            ids.extend(own_id(forwarded, &own, archive.as_ref()));
        }
        after = page.last;
        if done || after.is_none() {
            break;
        }
    }
    Ok(ids)
}

/// The stanza's id and origin-id. Our ids are random, so whoever has one in a room has it from us.
fn own_id(forwarded: &Element, own: &BareJid, archive: Option<&BareJid>) -> Vec<String> {
    let Some((message, _)) = unpack(forwarded) else {
        return Vec::new();
    };
    let from = message.from.as_ref().map(jid::Jid::to_bare);
    if from.as_ref() != Some(archive.unwrap_or(own)) {
        return Vec::new();
    }
    let origin = find(&message.payloads, "origin-id", ns::STANZA_ID)
        .and_then(|origin| origin.attr("id"))
        .map(ToOwned::to_owned);
    message
        .id
        .map(|id| id.0)
        .into_iter()
        .chain(origin)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_without_stamp_or_message_is_nothing() {
        for xml in [
            "<forwarded xmlns='urn:xmpp:forward:0'/>",
            "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='nonsense'/><message xmlns='jabber:client'/></forwarded>",
            "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/></forwarded>",
        ] {
            assert!(unpack(&xml.parse().unwrap()).is_none(), "{xml}");
        }
    }
}
