//! A TCP connection to the first address that answers: Happy Eyeballs (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::{Answer, Kind};
use super::{Error, Origin, Resolver, Step, Target, system};

/// RFC 8305, 5: how much later the next address is tried beside the one before.
const STAGGER: Duration = Duration::from_millis(250);
/// RFC 8305, 3: how long IPv4 waits for the DNS to speak of IPv6.
const RESOLUTION: Duration = Duration::from_millis(50);
/// How long one address may be silent.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How many addresses of a host are tried.
const MOST: usize = 16;

type Looked = (Kind, Result<Arc<Answer>, Error>);

impl Resolver {
    /// Opens a connection, and says to which address.
    pub async fn connect(&self, target: &Target) -> Result<(TcpStream, SocketAddr), Error> {
        let names = match target.origin {
            Origin::Settings => system::candidates(&target.host, &self.search()),
            Origin::Srv { .. } | Origin::Domain => vec![target.host.clone()],
        };
        let mut failure = None;
        for name in names {
            match self.race(&name, target.port).await {
                Err(err @ (Error::NoSuchDomain(_) | Error::NoAddress(_))) => {
                    // The text is about the name as it is written.
                    failure.get_or_insert(err);
                }
                outcome => return outcome,
            }
        }
        Err(failure.unwrap_or_else(|| Error::NoAddress(target.host.clone())))
    }

    /// Tries the addresses as they become known, each [`STAGGER`] after the one before or at once when that failed; the
    /// first connection wins.
    async fn race(&self, host: &str, port: u16) -> Result<(TcpStream, SocketAddr), Error> {
        let look = async |kind| -> Looked { (kind, self.lookup(host, kind).await) };
        let mut lookups: FuturesUnordered<_> =
            [Kind::Aaaa, Kind::A].into_iter().map(look).collect();
        let mut waiting = Waiting::default();
        let mut attempts = FuturesUnordered::new();
        let mut defeat = Defeat::default();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                Some((address, outcome)) = attempts.next(), if !attempts.is_empty() => match outcome {
                    Ok(stream) => {
                        self.tell(Step::Connected(address));
                        return Ok((stream, address));
                    }
                    Err(err) => {
                        self.tell(Step::Failed(address, &err));
                        defeat.refused(address, &err);
                        next = Instant::now();
                    }
                },
                Some((kind, outcome)) = lookups.next(), if !lookups.is_empty() => {
                    match outcome {
                        Ok(answer) => waiting.add(&answer),
                        Err(err) => defeat.unknown = Some(err),
                    }
                    if kind == Kind::A && !lookups.is_empty() {
                        next = next.max(Instant::now() + RESOLUTION);
                    } else if attempts.is_empty() {
                        next = Instant::now();
                    }
                }
                () = sleep_until(next), if !waiting.is_empty() => {
                    if let Some(ip) = waiting.take() {
                        let address = SocketAddr::new(ip, port);
                        self.tell(Step::Connecting(address));
                        attempts.push(attempt(address));
                    }
                    next = Instant::now() + STAGGER;
                }
                else => return Err(defeat.into_error(host, port, waiting.exists)),
            }
        }
    }
}

async fn attempt(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let outcome = timeout(ATTEMPT, TcpStream::connect(address)).await;
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
    (address, outcome.unwrap_or_else(|_elapsed| Err(silent())))
}

/// The addresses not tried yet.
#[derive(Default)]
struct Waiting {
    six: VecDeque<IpAddr>,
    four: VecDeque<IpAddr>,
    /// Whose turn it is.
    turn_of_four: bool,
    taken: usize,
    /// Whether there is such a name at all.
    exists: bool,
}

impl Waiting {
    fn add(&mut self, answer: &Answer) {
        self.exists |= answer.exists;
        for address in answer.addresses() {
            match address {
                IpAddr::V6(_) => self.six.push_back(address),
                IpAddr::V4(_) => self.four.push_back(address),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.taken >= MOST || self.six.is_empty() && self.four.is_empty()
    }

    /// RFC 8305, 4: families take turns, IPv6 first.
    fn take(&mut self) -> Option<IpAddr> {
        let [first, second] = if self.turn_of_four {
            [&mut self.four, &mut self.six]
        } else {
            [&mut self.six, &mut self.four]
        };
        let address = first.pop_front().or_else(|| second.pop_front())?;
        self.turn_of_four = address.is_ipv6();
        self.taken += 1;
        Some(address)
    }
}

/// Why nothing worked.
#[derive(Default)]
struct Defeat {
    tried: Vec<SocketAddr>,
    reason: Option<String>,
    unknown: Option<Error>,
}

impl Defeat {
    fn refused(&mut self, address: SocketAddr, err: &io::Error) {
        self.tried.push(address);
        self.reason = Some(err.to_string());
    }

    fn into_error(self, host: &str, port: u16, exists: bool) -> Error {
        if let Some(reason) = self.reason {
            return Error::Unreachable {
                host: host.to_owned(),
                port,
                reason,
                tried: self.tried,
            };
        }
        self.unknown.unwrap_or_else(|| {
            if exists {
                Error::NoAddress(host.to_owned())
            } else {
                Error::NoSuchDomain(host.to_owned())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::dns::Data;

    #[test]
    fn families_take_turns() {
        let mut waiting = Waiting::default();
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::3", "192.0.2.4"];
        waiting.add(&Answer {
            records: addresses
                .iter()
                .map(|address| Data::Address(address.parse().unwrap()))
                .collect(),
            exists: true,
            ..Answer::default()
        });
        let order: Vec<String> =
            std::iter::from_fn(|| waiting.take().map(|address| address.to_string())).collect();
        assert_eq!(
            order,
            ["2001:db8::3", "192.0.2.1", "192.0.2.2", "192.0.2.4"]
        );
    }

    #[test]
    fn a_host_with_hundreds_of_addresses_ends() {
        let mut waiting = Waiting::default();
        for _ in 0..300 {
            waiting.four.push_back("192.0.2.1".parse().unwrap());
        }
        let mut taken = 0;
        while !waiting.is_empty() {
            waiting.take().unwrap();
            taken += 1;
        }
        assert_eq!(taken, MOST);
    }
}
