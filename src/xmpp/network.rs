//! Notices that the network is back: while we wait to connect again, the address from which the machine would reach the
//! Internet is looked at every second. It changes with a cable, a Wi-Fi, a VPN or a machine that wakes up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// From where IPv4 and IPv6 destinations would be reached; `None`: not at all.
type Addresses = [Option<IpAddr>; 2];

pub(super) struct Watch {
    probe: Box<dyn FnMut() -> Addresses + Send>,
    last: Addresses,
}

impl Watch {
    pub(super) fn new(mut probe: impl FnMut() -> Addresses + Send + 'static) -> Self {
        let last = probe();
        Self {
            probe: Box::new(probe),
            last,
        }
    }

    /// Waits until a time, or until there is another network than before. Cancel safe.
    pub(super) async fn wait_until(&mut self, time: Instant) {
        loop {
            let look = Instant::now() + Duration::from_secs(1);
            sleep_until(look.min(time)).await;
            if Instant::now() >= time || self.is_back() {
                return;
            }
        }
    }

    fn is_back(&mut self) -> bool {
        let before = std::mem::replace(&mut self.last, (self.probe)());
        self.last != before && self.last.iter().any(Option::is_some)
    }
}

/// Whether an address is one of this machine's: it is then reached from itself.
pub fn is_own(address: IpAddr) -> bool {
    reach(address).is_some_and(|from| from == address)
}

/// From where an address would be reached: the routing table is asked by connecting a datagram socket, which sends nothing.
fn reach(to: IpAddr) -> Option<IpAddr> {
    let from = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// From where the Internet would be reached. The addresses are those of documentation
/// (RFC 5737, RFC 3849): no host has them, and their route is the default one.
pub fn local_addresses() -> [Option<IpAddr>; 2] {
    [
        reach(Ipv4Addr::new(192, 0, 2, 1).into()),
        reach(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Addresses = [Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))), None];
    const OFFICE: Addresses = [Some(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2))), None];
    const NOWHERE: Addresses = [None, None];

    /// How many seconds of a minute were waited, where each second's network is the next of these, and then the last.
    async fn waited(networks: &'static [Addresses]) -> u64 {
        let mut position = 0;
        let mut watch = Watch::new(move || {
            let now = networks[position.min(networks.len() - 1)];
            position += 1;
            now
        });
        let start = Instant::now();
        watch.wait_until(start + Duration::from_mins(1)).await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_another_network_is_there() {
        assert_eq!(waited(&[HOME]).await, 60, "nothing changes");
        assert_eq!(waited(&[HOME, NOWHERE]).await, 60, "it is gone");
        assert_eq!(
            waited(&[HOME, NOWHERE, NOWHERE, HOME]).await,
            3,
            "it is back"
        );
        assert_eq!(waited(&[HOME, OFFICE]).await, 1, "it is another one");
    }

    #[test]
    fn the_routing_table_can_be_asked() {
        for address in local_addresses().into_iter().flatten() {
            assert!(!address.is_unspecified());
        }
    }
}
