//! An address, or a range of addresses as CIDR writes it: who may say for whom a request comes.

use std::net::IpAddr;

/// As in `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fault = || "must be an IP address or a range like 10.0.0.0/8".to_owned();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_err| fault())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_err| fault())?;
        let all = width(address);
        match prefix.unwrap_or(all) {
            prefix if prefix <= all => Ok(Self { address, prefix }),
            _ => Err(fault()),
        }
    }

    /// An IPv4 address that comes through an IPv6 socket is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if width(address) != width(self.address) {
            return false;
        }
        let ignored = width(address) - self.prefix;
        // A shift by the whole width is none to the processor.
        let start = |address| bits(address).checked_shr(ignored).unwrap_or(0);
        start(address) == start(self.address)
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        for (range, address, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "::1", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network = Network::parse(range).unwrap();
            let found = network.contains(address.parse().unwrap());
            assert_eq!(found, expected, "{range} {address}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "proxy",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }
}
