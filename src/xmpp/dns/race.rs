//! A TCP connection to the first address that answers: Happy Eyeballs (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
            match self.race(&name, target).await {
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
    async fn race(&self, host: &str, target: &Target) -> Result<(TcpStream, SocketAddr), Error> {
        let look = async |kind| -> Looked { (kind, self.lookup(host, kind).await) };
        let mut lookups: FuturesUnordered<_> =
            [Kind::Aaaa, Kind::A].into_iter().map(look).collect();
        let mut waiting = Waiting {
            anywhere: target.anywhere,
            ..Waiting::default()
        };
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
                        let address = SocketAddr::new(ip, target.port);
                        self.tell(Step::Connecting(address));
                        attempts.push(attempt(address));
                    }
                    next = Instant::now() + STAGGER;
                }
                else => return Err(defeat.into_error(host, target.port, &waiting)),
            }
        }
    }
}

async fn attempt(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let outcome = timeout(ATTEMPT, TcpStream::connect(address)).await;
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
    (address, outcome.unwrap_or_else(|_elapsed| Err(silent())))
}

/// Whether another server can have an address. Strangers choose the names that we look up, and a server must not be made to
/// knock on its own machine's doors, or those of its link. Private networks are allowed: households federate in them.
fn is_abroad(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            let [first, ..] = four.octets();
            !(first == 0
                || four.is_loopback()
                || four.is_link_local()
                || four.is_multicast()
                || four.is_broadcast()
                || four.is_documentation())
        }
        IpAddr::V6(six) => {
            // RFC 6052: addresses of IPv4 as some networks write them; RFC 3849 and RFC 4291, 2.5.5.1.
            if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = six.segments() {
                let bits = u32::from(high) << 16 | u32::from(low);
                return is_abroad(Ipv4Addr::from_bits(bits).into());
            }
            let [first, second, ..] = six.segments();
            let is_old = matches!(six.segments(), [0, 0, 0, 0, 0, 0, _, _]);
            !(is_old
                || six.is_unicast_link_local()
                || six.is_multicast()
                || (first, second) == (0x2001, 0xdb8))
        }
    }
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
    /// Whether this machine may be among them.
    anywhere: bool,
    /// Whether one was passed over.
    refused: bool,
}

impl Waiting {
    fn add(&mut self, answer: &Answer) {
        self.exists |= answer.exists;
        for address in answer.addresses() {
            if !self.anywhere && !is_abroad(address) {
                self.refused = true;
                continue;
            }
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

    fn into_error(self, host: &str, port: u16, waiting: &Waiting) -> Error {
        if let Some(reason) = self.reason {
            return Error::Unreachable {
                host: host.to_owned(),
                port,
                reason,
                tried: self.tried,
            };
        }
        self.unknown.unwrap_or_else(|| {
            if waiting.refused {
                Error::NotAbroad(host.to_owned())
            } else if waiting.exists {
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
        let mut waiting = Waiting {
            anywhere: true,
            ..Waiting::default()
        };
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
    fn strangers_send_us_nowhere_but_abroad() {
        for (address, expected) in [
            ("93.184.216.34", true),
            ("10.77.0.11", true),
            ("192.168.1.2", true),
            ("100.64.0.1", true),
            ("2a00:1450::5", true),
            ("fd77:6c61:62::11", true),
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("192.0.2.1", false),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:93.184.216.34", true),
            ("64:ff9b::7f00:1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_abroad(address.parse().unwrap()), expected, "{address}");
        }
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
