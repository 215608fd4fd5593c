//! What is kept of an answer of the DNS: few records, and nothing that nobody asked for.

use std::fmt;
use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::tlsa;

/// How many records of a name are kept. A zone that strangers own may hold thousands.
const MOST: usize = 32;
/// How many aliases are followed in one answer.
const CHAIN: usize = 8;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    A,
    Aaaa,
    Srv,
    Tlsa,
}

impl Kind {
    pub(super) const fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Srv => RecordType::SRV,
            Self::Tlsa => RecordType::TLSA,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record_type().fmt(f)
    }
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// Without the final dot: empty where the record says that there is no such service.
    pub target: String,
}

/// What one record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    Srv(SrvRecord),
    Tlsa(tlsa::Record),
}

/// What the DNS says to one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub records: Vec<Data>,
    /// `false`: there is no such name (NXDOMAIN), thus no record of any kind.
    pub exists: bool,
    /// Validated by a resolver that we may believe (DNSSEC).
    pub secure: bool,
    /// The name that the question's is an alias of (CNAME).
    pub alias: Option<String>,
}

impl Answer {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.records.iter().filter_map(|data| match data {
            Data::Address(address) => Some(*address),
            _ => None,
        })
    }

    pub fn services(&self) -> impl Iterator<Item = &SrvRecord> {
        self.records.iter().filter_map(|data| match data {
            Data::Srv(record) => Some(record),
            _ => None,
        })
    }

    pub fn associations(&self) -> impl Iterator<Item = &tlsa::Record> {
        self.records.iter().filter_map(|data| match data {
            Data::Tlsa(record) => Some(record),
            _ => None,
        })
    }

    /// About how many bytes it holds.
    pub(super) fn size(&self) -> usize {
        let name = self.alias.as_ref().map_or(0, String::len);
        let records = self.records.iter().map(|data| match data {
            Data::Address(_) => 0,
            Data::Srv(record) => record.target.len(),
            Data::Tlsa(record) => record.data.len(),
        });
        size_of::<Self>() + name + records.sum::<usize>() + self.records.len() * size_of::<Data>()
    }
}

/// What the records of one message say about a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub records: Vec<Data>,
    /// Where the aliases lead. It has to be asked about, where there are no records.
    pub name: Name,
    /// In seconds; `None`: no record applied.
    pub ttl: Option<u32>,
}

/// Follows the aliases from a name to the records of a kind (RFC 1034, 3.6.2). All else is passed over: a server may
/// only tell about the name that was asked.
pub(super) fn read(asked: &Name, kind: Kind, answers: &[Record]) -> Reading {
    let mut name = asked.clone();
    let mut ttl = None;
    let mut shorten = |record: &Record| {
        ttl = Some(ttl.map_or(record.ttl, |ttl: u32| ttl.min(record.ttl)));
    };
    for _ in 0..CHAIN {
        let next = answers
            .iter()
            .filter(|record| record.name == name)
            .find_map(|record| match &record.data {
                RData::CNAME(alias) => Some((record, &alias.0)),
                _ => None,
            });
        let Some((record, alias)) = next else { break };
        shorten(record);
        name = alias.clone();
    }
    let mut records = Vec::new();
    for record in answers.iter().filter(|record| record.name == name) {
        if let Some(data) = data(kind, &record.data)
            && records.len() < MOST
        {
            shorten(record);
            records.push(data);
        }
    }
    Reading { records, name, ttl }
}

fn data(kind: Kind, data: &RData) -> Option<Data> {
    match (kind, data) {
        (Kind::A, RData::A(address)) => Some(Data::Address(address.0.into())),
        (Kind::Aaaa, RData::AAAA(address)) => Some(Data::Address(address.0.into())),
        (Kind::Srv, RData::SRV(srv)) => Some(Data::Srv(SrvRecord {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: text(&srv.target),
        })),
        (Kind::Tlsa, RData::TLSA(record)) => Some(Data::Tlsa(tlsa::Record {
            usage: record.cert_usage.into(),
            selector: record.selector.into(),
            matching: record.matching.into(),
            data: record.cert_data.clone(),
        })),
        _ => None,
    }
}

/// A name as we write it: without the final dot.
pub(super) fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}
