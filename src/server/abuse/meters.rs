//! What the server counts for `/metrics`. A count is an atomic that is found by its place: the way of a stanza looks nothing
//! up. Labels are the names below and no others, never an address or a person.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{counter, gauge};

use super::{Refusal, add};
use crate::server::Server;
use crate::server::feature::block_lists;
use crate::server::s2s::Obstacle;
use crate::server::stanza::Kind;

/// How somebody is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    StartTls,
    Tls,
    WebSocket,
    Http,
    Component,
    /// In this process.
    Local,
    /// Another server.
    Server,
}

const TRANSPORTS: [&str; 7] = [
    "starttls",
    "tls",
    "websocket",
    "http",
    "component",
    "local",
    "s2s",
];

/// Where a session comes from ([`crate::server::session::Origin`]), as a label.
const VIA: [(&str, &str); 4] = [
    ("tcp", "starttls"),
    ("tls", "tls"),
    ("websocket", "websocket"),
    ("local", "local"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From clients.
    In,
    /// To clients.
    Out,
    FromPeers,
    ToPeers,
}

const DIRECTIONS: [&str; 4] = ["in", "out", "s2s_in", "s2s_out"];
const KINDS: [&str; 3] = ["message", "presence", "iq"];

/// The last one is for all others: a client may send any name.
const MECHANISMS: [&str; 10] = [
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "PLAIN",
    "EXTERNAL",
    "HT-SHA-256-EXPR",
    "HT-SHA-256-ENDP",
    "HT-SHA-256-NONE",
    "other",
];
/// What keeps a stanza from another server, in the order of [`Obstacle`].
const OBSTACLES: [&str; 7] = [
    "not_found",
    "unreachable",
    "untrusted",
    "refused",
    "forbidden",
    "full",
    "too_large",
];
const OUTCOMES: [&str; 2] = ["ok", "failed"];

type Counts<const N: usize> = [AtomicU64; N];

/// The counts of a server.
#[derive(Debug, Default)]
pub struct Meters {
    connections: Counts<{ TRANSPORTS.len() }>,
    streams: Counts<{ TRANSPORTS.len() }>,
    stanzas: [Counts<{ KINDS.len() }>; DIRECTIONS.len()],
    logins: [Counts<{ OUTCOMES.len() }>; MECHANISMS.len()],
    pub(super) refused: Counts<{ Refusal::ALL.len() }>,
    returned: Counts<{ OBSTACLES.len() }>,
    pauses: AtomicU64,
    registrations: AtomicU64,
    reports: AtomicU64,
}

/// A stream that is counted until it is dropped.
#[derive(Debug)]
pub struct Open<'a>(Option<&'a AtomicU64>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.0 {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Meters {
    /// Somebody has connected.
    pub fn connected(&self, transport: Transport) {
        self.connections.get(transport as usize).map(add);
    }

    /// A stream is open while what this answers lives.
    pub fn stream(&self, transport: Transport) -> Open<'_> {
        let open = self.streams.get(transport as usize);
        open.map(add);
        Open(open)
    }

    /// A stanza of a client, or for one.
    pub fn stanza(&self, direction: Direction, kind: Kind) {
        let counts = self.stanzas.get(direction as usize);
        counts.and_then(|counts| counts.get(kind as usize)).map(add);
    }

    /// A login came to an end.
    pub fn login(&self, mechanism: &str, succeeded: bool) {
        let known = MECHANISMS.iter().position(|name| *name == mechanism);
        let counts = self.logins.get(known.unwrap_or(MECHANISMS.len() - 1));
        counts
            .and_then(|counts| counts.get(usize::from(!succeeded)))
            .map(add);
    }

    /// Stanzas for another server have come back to their senders.
    pub fn returned(&self, obstacle: Obstacle, stanzas: usize) {
        if let Some(count) = self.returned.get(obstacle as usize) {
            let stanzas = u64::try_from(stanzas).unwrap_or(u64::MAX);
            count.fetch_add(stanzas, Ordering::Relaxed);
        }
    }

    /// A client writes faster than it may, and is not read for a while.
    pub fn paused(&self) {
        add(&self.pauses);
    }

    pub fn registered(&self) {
        add(&self.registrations);
    }

    /// Somebody was reported (XEP-0377).
    pub fn reported(&self) {
        add(&self.reports);
    }

    /// Hands everything to the recorder of this process.
    fn publish(&self) {
        for (transport, count) in TRANSPORTS.iter().zip(&self.connections) {
            counter!("moltis_server_connections_total", "transport" => *transport)
                .absolute(get(count));
        }
        for (transport, count) in TRANSPORTS.iter().zip(&self.streams) {
            gauge!("moltis_server_streams_open", "transport" => *transport).set(number(get(count)));
        }
        for (direction, counts) in DIRECTIONS.iter().zip(&self.stanzas) {
            for (kind, count) in KINDS.iter().zip(counts) {
                let labels = [("direction", *direction), ("kind", *kind)];
                counter!("moltis_server_stanzas_total", &labels).absolute(get(count));
            }
        }
        for (mechanism, counts) in MECHANISMS.iter().zip(&self.logins) {
            for (outcome, count) in OUTCOMES.iter().zip(counts) {
                let labels = [("mechanism", *mechanism), ("outcome", *outcome)];
                counter!("moltis_server_logins_total", &labels).absolute(get(count));
            }
        }
        for (refusal, count) in Refusal::ALL.iter().zip(&self.refused) {
            counter!("moltis_server_refused_total", "reason" => refusal.label())
                .absolute(get(count));
        }
        for (obstacle, count) in OBSTACLES.iter().zip(&self.returned) {
            counter!("moltis_server_s2s_returned_total", "reason" => *obstacle)
                .absolute(get(count));
        }
        counter!("moltis_server_read_pauses_total").absolute(get(&self.pauses));
        counter!("moltis_server_registrations_total").absolute(get(&self.registrations));
        counter!("moltis_server_reports_total").absolute(get(&self.reports));
    }
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Server {
    /// Hands what it has counted, and how things are, to the recorder of this process.
    pub fn publish_metrics(&self) {
        let abuse = self.abuse();
        abuse.meters.publish();
        let sessions = self.sessions();
        for (via, label) in VIA {
            let count = sessions
                .iter()
                .filter(|session| session.origin.via == via)
                .count();
            let count = number(u64::try_from(count).unwrap_or(u64::MAX));
            gauge!("moltis_server_sessions", "transport" => label).set(count);
        }
        let held = u64::try_from(abuse.tarpit.held()).unwrap_or(u64::MAX);
        let entries = u64::try_from(block_lists::size(self)).unwrap_or(u64::MAX);
        gauge!("moltis_server_block_list_entries").set(number(entries));
        gauge!("moltis_server_tarpit_held").set(number(held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_found_by_its_place() {
        let meters = Meters::default();
        meters.connected(Transport::Server);
        meters.stanza(Direction::Out, Kind::Iq);
        meters.login("PLAIN", false);
        meters.login("X-<script>", true);
        assert_eq!(get(&meters.connections[6]), 1);
        assert_eq!(get(&meters.stanzas[1][2]), 1);
        assert_eq!(get(&meters.logins[4][1]), 1);
        assert_eq!(get(&meters.logins[9][0]), 1);
        meters.returned(Obstacle::NotFound, 2);
        meters.returned(Obstacle::TooLarge, 3);
        assert_eq!((get(&meters.returned[0]), get(&meters.returned[6])), (2, 3));
        let open = meters.stream(Transport::Tls);
        assert_eq!(get(&meters.streams[1]), 1);
        drop(open);
        assert_eq!(get(&meters.streams[1]), 0);
    }
}
