//! Which names a certificate is for: those of the server and its services, as DNS writes them.

use std::net::IpAddr;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;

use crate::xmpp::dns;

/// Ends of names that no public authority certifies: RFC 6761, RFC 6762 (`local` and its appendix G), RFC 7686,
/// RFC 8375, RFC 9476, the reserved `internal`, and what home routers make up.
const NOT_PUBLIC: &[&str] = &[
    "localhost",
    "local",
    "test",
    "internal",
    "lan",
    "home.arpa",
    "example",
    "invalid",
    "onion",
    "alt",
    "intranet",
    "private",
    "corp",
    "home",
    "localdomain",
];

/// Whether a public authority can certify a name: it is in the public DNS.
pub(super) fn is_public(name: &str) -> bool {
    name.parse::<IpAddr>().is_err()
        && name.contains('.')
        && !NOT_PUBLIC.iter().any(|end| {
            name.strip_suffix(end)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
}

/// The domain and its services as a certificate writes them, the domain first, each once. What a certificate cannot
/// name, such as `conference.192.0.2.1`, is left out.
pub(super) fn certified(domain: &str, services: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for host in std::iter::once(domain).chain(services.iter().map(String::as_str)) {
        if let Ok(name) = dns::ascii(host)
            && ServerName::try_from(name.as_str()).is_ok()
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Those of the names that a certificate does not cover.
pub(super) fn missing(certificate: &ParsedCertificate<'_>, names: &[String]) -> Vec<String> {
    let covered = |name: &String| {
        ServerName::try_from(name.as_str())
            .is_ok_and(|name| verify_server_name(certificate, &name).is_ok())
    };
    names
        .iter()
        .filter(|name| !covered(name))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_public_dns_are_public() {
        let public = [
            "example.org",
            "chat.example.org",
            "mylan.org",
            "xn--bcher-kva.de",
        ];
        let own = [
            "localhost",
            "a.localhost",
            "printer.local",
            "chat.test",
            "xmpp.internal",
            "nas.lan",
            "x.home.arpa",
            "home.arpa",
            "chat",
            "192.0.2.1",
            "2001:db8::1",
            "y.onion",
        ];
        for name in public {
            assert!(is_public(name), "{name}");
        }
        for name in own {
            assert!(!is_public(name), "{name}");
        }
    }

    #[test]
    fn the_domain_comes_first_and_what_cannot_be_certified_is_left_out() {
        let services = |hosts: &[&str]| {
            hosts
                .iter()
                .map(|host| (*host).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            certified(
                "Bücher.example",
                &services(&["conference.bücher.example", "bücher.example"])
            ),
            ["xn--bcher-kva.example", "conference.xn--bcher-kva.example"]
        );
        assert_eq!(
            certified("192.0.2.1", &services(&["conference.192.0.2.1"])),
            ["192.0.2.1"]
        );
        assert_eq!(certified("[2001:db8::1]", &[]), ["2001:db8::1"]);
    }
}
