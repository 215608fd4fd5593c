//! Where a domain's service is: SRV records of both kinds (RFC 6120, 3.2; XEP-0368) in one order, else the domain itself;
//! and a TCP connection to the first address that answers (Happy Eyeballs, RFC 8305).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::Error;

/// How long a lookup may take.
const LOOKUP: Duration = Duration::from_secs(10);
/// RFC 8305, 5: how much later the next address is tried beside the one before.
const STAGGER: Duration = Duration::from_millis(250);

/// The registered port of clients (RFC 6120, 14.7).
const PORT: u16 = 5222;

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// TLS from the first byte, else STARTTLS.
    pub direct_tls: bool,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// Without the final dot: empty where the record says that there is no such service.
    pub target: String,
}

/// What a domain says about its service. `None`: it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// `_xmpp-client._tcp`: STARTTLS.
    pub starttls: Option<Vec<Record>>,
    /// `_xmpps-client._tcp`: direct TLS.
    pub direct: Option<Vec<Record>>,
}

/// A domain in the form that DNS and certificates use (IDNA).
pub fn ascii(domain: &str) -> Result<String, Error> {
    url::Host::parse(domain)
        .map(|host| match host {
            url::Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        })
        .map_err(|err| Error::Settings(format!("\"{domain}\" is no domain name: {err}")))
}

/// Whether a name needs no DNS: an address, or the loopback (RFC 6761, 6.3).
fn is_local(domain: &str) -> bool {
    domain.parse::<IpAddr>().is_ok() || domain == "localhost" || domain.ends_with(".localhost")
}

/// All targets of a domain, best first.
pub async fn targets(domain: &str) -> Result<Vec<Target>, Error> {
    let answers = if is_local(domain) {
        Answers::default()
    } else {
        lookup(domain).await
    };
    let mut random = |most: u32| rand::random_range(0..=most);
    order(domain, answers, &mut random)
}

async fn lookup(domain: &str) -> Answers {
    let resolver = match TokioResolver::builder_tokio().and_then(ResolverBuilder::build) {
        Ok(resolver) => resolver,
        Err(err) => {
            debug!(%err, "No SRV lookup without a resolver");
            return Answers::default();
        }
    };
    let (starttls, direct) = tokio::join!(
        records(&resolver, format!("_xmpp-client._tcp.{domain}.")),
        records(&resolver, format!("_xmpps-client._tcp.{domain}.")),
    );
    Answers { starttls, direct }
}

/// A failed lookup counts as none: the fallback may still work (RFC 6120, 3.2.2).
async fn records(resolver: &TokioResolver, name: String) -> Option<Vec<Record>> {
    let answer = match timeout(LOOKUP, resolver.srv_lookup(name.as_str())).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(err)) => {
            debug!(name, %err, "No SRV records");
            return None;
        }
        Err(_elapsed) => {
            debug!(name, "The SRV lookup took too long");
            return None;
        }
    };
    let records: Vec<Record> = answer
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Record {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii().trim_end_matches('.').to_owned(),
            }),
            _ => None,
        })
        .collect();
    (!records.is_empty()).then_some(records)
}

/// Puts the records of both kinds in one order (XEP-0368, 3): by priority, and by chance and weight within one
/// (RFC 2782). `random(n)` draws from 0 to n.
pub fn order(
    domain: &str,
    answers: Answers,
    random: &mut dyn FnMut(u32) -> u32,
) -> Result<Vec<Target>, Error> {
    // RFC 6120, 3.2.2: only the absence of records allows the fallback, not a record that says no.
    let fall_back = answers.starttls.is_none();
    let starttls = answers.starttls.into_iter().flatten();
    let direct = answers.direct.into_iter().flatten();
    let mut left: Vec<(Record, bool)> = starttls
        .map(|record| (record, false))
        .chain(direct.map(|record| (record, true)))
        .filter(|(record, _)| !record.target.is_empty())
        .collect();
    // RFC 2782: those of weight 0 come first in the running sum, so that they have a small chance.
    left.sort_by_key(|(record, direct_tls)| (record.priority, record.weight, !direct_tls));
    let mut targets = Vec::new();
    while let Some(priority) = left.first().map(|(record, _)| record.priority) {
        let same = left
            .iter()
            .take_while(|(record, _)| record.priority == priority);
        let sum: u32 = same
            .clone()
            .map(|(record, _)| u32::from(record.weight))
            .sum();
        let drawn = random(sum);
        let mut running = 0;
        let index = same
            .clone()
            .position(|(record, _)| {
                running += u32::from(record.weight);
                running >= drawn
            })
            .unwrap_or_default();
        let (record, direct_tls) = left.remove(index);
        targets.push(Target {
            host: record.target,
            port: record.port,
            direct_tls,
        });
    }
    if targets.is_empty() && !fall_back {
        return Err(Error::NoService(format!(
            "The DNS of {domain} says that it has no XMPP service for clients; check the domain, or set server = \"host:port\""
        )));
    }
    if targets.is_empty() {
        targets.push(Target {
            host: domain.to_owned(),
            port: PORT,
            direct_tls: false,
        });
    }
    Ok(targets)
}

/// RFC 8305, 4: families take turns, IPv6 first.
pub fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut six = addresses.iter().filter(|address| address.is_ipv6());
    let mut four = addresses.iter().filter(|address| address.is_ipv4());
    let mut ordered = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Opens a TCP connection to a host.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, Error> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> =
        match timeout(LOOKUP, tokio::net::lookup_host((bare, port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(err)) => {
                return Err(Error::Network(format!("Cannot find {host}: {err}")));
            }
            Err(_elapsed) => {
                return Err(Error::TimedOut {
                    step: "Looking up the server's address",
                    after: LOOKUP,
                });
            }
        };
    race(interleave(&addresses))
        .await
        .map_err(|err| Error::Network(format!("Cannot connect to {host}:{port}: {err}")))
}

/// Tries the addresses one by one, each [`STAGGER`] after the one before or at once when that failed; the first
/// connection wins.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(outcome) = attempts.next(), if !attempts.is_empty() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(err) => {
                    failure = err;
                    next = Instant::now();
                }
            },
            () = sleep_until(next), if waiting.len() > 0 => {
                if let Some(address) = waiting.next() {
                    debug!(%address, "Connecting");
                    attempts.push(TcpStream::connect(address));
                }
                next = Instant::now() + STAGGER;
            }
            else => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Record {
        Record {
            priority,
            weight,
            port: 5222,
            target: target.to_owned(),
        }
    }

    #[test]
    fn targets_are_ordered_over_both_kinds() {
        struct Case {
            name: &'static str,
            starttls: Option<Vec<Record>>,
            direct: Option<Vec<Record>>,
            drawn: u32,
            /// `+` marks direct TLS; empty: no service.
            expected: &'static str,
        }
        let cases = [
            Case {
                name: "nothing is said: the domain itself",
                starttls: None,
                direct: None,
                drawn: 0,
                expected: "example.org",
            },
            Case {
                name: "one priority order over both kinds",
                starttls: Some(vec![record(10, 0, "b"), record(30, 0, "d")]),
                direct: Some(vec![record(5, 0, "a"), record(20, 0, "c")]),
                drawn: 0,
                expected: "+a b +c d",
            },
            Case {
                name: "direct TLS first where all else is equal",
                starttls: Some(vec![record(5, 0, "a")]),
                direct: Some(vec![record(5, 0, "b")]),
                drawn: 0,
                expected: "+b a",
            },
            Case {
                name: "weight: a small draw takes the lightest",
                starttls: Some(vec![record(5, 90, "heavy"), record(5, 10, "light")]),
                direct: None,
                drawn: 0,
                expected: "light heavy",
            },
            Case {
                name: "weight: a large draw takes the heaviest",
                starttls: Some(vec![record(5, 10, "light"), record(5, 90, "heavy")]),
                direct: None,
                drawn: 60,
                expected: "heavy light",
            },
            Case {
                name: "a dot says no",
                starttls: Some(vec![record(0, 0, "")]),
                direct: None,
                drawn: 0,
                expected: "",
            },
            Case {
                name: "a dot for one kind leaves the other",
                starttls: Some(vec![record(0, 0, "")]),
                direct: Some(vec![record(0, 0, "a")]),
                drawn: 0,
                expected: "+a",
            },
            Case {
                name: "no direct TLS says nothing about STARTTLS",
                starttls: None,
                direct: Some(vec![record(0, 0, "")]),
                drawn: 0,
                expected: "example.org",
            },
        ];
        for case in cases {
            let answers = Answers {
                starttls: case.starttls,
                direct: case.direct,
            };
            let targets = order("example.org", answers, &mut |most| case.drawn.min(most));
            let found: Vec<String> = targets
                .unwrap_or_default()
                .iter()
                .map(|target| {
                    format!(
                        "{}{}",
                        if target.direct_tls { "+" } else { "" },
                        target.host
                    )
                })
                .collect();
            assert_eq!(found.join(" "), case.expected, "{}", case.name);
        }
    }

    #[test]
    fn families_take_turns() {
        let addresses: Vec<SocketAddr> = ["1.1.1.1:1", "2.2.2.2:1", "[::3]:1", "3.3.3.3:1"]
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
        let ordered: Vec<String> = interleave(&addresses)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ordered, ["[::3]:1", "1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"]);
    }

    #[test]
    fn names_are_put_in_their_ascii_form() {
        for (domain, expected) in [
            ("example.org", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(ascii(domain).unwrap(), expected);
        }
        assert!(ascii("a b").is_err());
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_dns() {
        for domain in ["127.0.0.1", "::1", "localhost"] {
            let targets = targets(domain).await.unwrap();
            assert_eq!(targets.len(), 1);
            assert_eq!((targets[0].host.as_str(), targets[0].port), (domain, 5222));
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let stream = race(vec![closed, open]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(race(vec![closed]).await.is_err());
        assert!(race(Vec::new()).await.is_err());
    }
}
