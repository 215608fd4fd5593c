//! Who asks, and what for: proxies may stand in front, and pages elsewhere may ask through somebody's browser.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, header, request::Parts};
use url::{Host, Origin, Url};

use super::connection::Arrival;
use crate::config::Server;
use crate::server::stream::Line;

/// What a proxy adds; a request with one of them has not come from the peer itself.
const FORWARDED: [&str; 4] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// A request's head, as far as trust depends on it.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    peer: SocketAddr,
    /// Whether TLS ends here.
    tls: bool,
    /// What the client believes to speak to: `Host`, or `:authority` of HTTP/2.
    authority: String,
    headers: HeaderMap,
    /// The connection itself, where it is of HTTP/1.1.
    line: Line,
}

/// Who is at the other end, seen through the proxies that are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// Nobody on a network reads along.
    pub secure: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0)); // Neither local nor trusted.
        let arrival = parts.extensions.get::<Arrival>();
        let host = parts.headers.get(header::HOST);
        let authority = match (host, parts.uri.authority()) {
            (Some(host), _) => host.to_str().unwrap_or_default(),
            (None, Some(authority)) => authority.as_str(),
            (None, None) => "",
        };
        Ok(Self {
            peer: arrival.map_or(unknown, |arrival| arrival.peer),
            tls: arrival.is_some_and(|arrival| arrival.tls),
            authority: authority.to_owned(),
            headers: parts.headers.clone(),
            line: parts.extensions.get::<Line>().cloned().unwrap_or_default(),
        })
    }
}

impl Visit {
    /// From this machine, by address and by name: a page elsewhere whose name leads here (DNS rebinding) has another name,
    /// and what comes through a proxy may come from anywhere.
    pub(super) fn is_local(&self) -> bool {
        let is_local_name = match self.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        self.peer.ip().to_canonical().is_loopback() && is_local_name && !self.is_forwarded()
    }

    /// Whether a browser says that a page of this origin asks. Every browser that runs the web chat says so, in one of two
    /// ways; what says nothing is no browser.
    pub(super) fn is_from_own_page(&self) -> bool {
        let site = self.header("sec-fetch-site");
        let origin = self.header("origin");
        (site.is_some() || origin.is_some())
            && site.is_none_or(|site| site == "same-origin")
            && origin.is_none_or(|origin| self.is_own_origin(origin))
    }

    /// Whether a WebSocket may be opened. Only browsers send `Origin`: a native client may (RFC 6455, 10.2).
    pub(super) fn may_connect(&self, server: &Server) -> bool {
        let Some(origin) = self.header("origin") else {
            return true;
        };
        let external = server.external_url.as_ref();
        let is_external = external.is_some_and(|external| {
            Url::parse(origin).is_ok_and(|origin| origin.origin() == external.origin())
        });
        is_external || self.is_own_origin(origin)
    }

    /// What counts the bytes of the connection.
    pub(super) fn line(&self) -> Line {
        self.line.clone()
    }

    /// What the browser says of itself.
    pub(super) fn user_agent(&self) -> &str {
        self.header("user-agent").unwrap_or_default()
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        // The scheme is the browser's word: a proxy in front may have taken TLS off.
        let Ok(origin) = Url::parse(origin) else {
            return false;
        };
        let own = Url::parse(&format!("{}://{}", origin.scheme(), self.authority));
        let is_web = matches!(origin.scheme(), "http" | "https");
        is_web && own.is_ok_and(|own| own.origin() == origin.origin())
    }

    /// The origin that clients reach this server by: the configured one, else the one that this request went to. `None`
    /// where the name is none of `names`, nor this machine's: what a stranger wrote is not repeated.
    pub(super) fn origin(&self, server: &Server, names: &[&str]) -> Option<Origin> {
        if let Some(url) = &server.external_url {
            return Some(url.origin());
        }
        let is_ours = match self.host()? {
            Host::Domain(name) => name == "localhost" || names.contains(&name.as_str()),
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let proto = self.trusted(server).then(|| self.last("x-forwarded-proto"));
        let scheme = match proto.flatten() {
            Some("https") => "https",
            _ if self.tls => "https",
            _ => "http",
        };
        let url = Url::parse(&format!("{scheme}://{}", self.authority)).ok()?;
        is_ours.then(|| url.origin())
    }

    /// Who is at the other end. The addresses that proxies name are read from the right, as far as they are trusted: what
    /// stands further left is the client's own word.
    pub(super) fn client(&self, server: &Server) -> Peer {
        let direct =
            self.tls || self.peer.ip().to_canonical().is_loopback() && !self.is_forwarded();
        if !self.trusted(server) {
            // A proxy on this machine that nobody has told us to trust has taken the TLS of the external address off.
            let is_tls_in_front = self.peer.ip().to_canonical().is_loopback()
                && server.external_url.as_ref().is_some_and(is_https);
            return Peer {
                address: self.peer,
                secure: direct || is_tls_in_front,
            };
        }
        let is_trusted = |address: &IpAddr| {
            let mut proxies = server.trusted_proxies.iter();
            proxies.any(|proxy| proxy.contains(*address))
        };
        // What is no address ends the chain: what stands further left than it is the client's own word as well.
        let chain: Vec<IpAddr> = self
            .headers
            .get_all("x-forwarded-for")
            .iter()
            .rev()
            .flat_map(|value| value.to_str().unwrap_or_default().rsplit(','))
            .map_while(|address| address.trim().parse().ok())
            .collect();
        let client = chain.iter().find(|address| !is_trusted(address));
        let client = client.or(chain.last());
        Peer {
            address: client.map_or(self.peer, |address| SocketAddr::new(*address, 0)),
            secure: direct || self.last("x-forwarded-proto") == Some("https"),
        }
    }

    fn host(&self) -> Option<Host> {
        let url = Url::parse(&format!("http://{}", self.authority)).ok()?;
        // An authority is a host and a port, and no more.
        let is_plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        is_plain.then(|| url.host().map(|host| host.to_owned()))?
    }

    fn is_forwarded(&self) -> bool {
        FORWARDED
            .iter()
            .any(|name| self.headers.contains_key(*name))
    }

    fn trusted(&self, server: &Server) -> bool {
        let mut proxies = server.trusted_proxies.iter();
        proxies.any(|proxy| proxy.contains(self.peer.ip()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        // What is no text is as good as a wrong value.
        let value = self.headers.get(name)?;
        Some(value.to_str().unwrap_or_default())
    }

    /// The value that the nearest proxy has set.
    fn last(&self, name: &str) -> Option<&str> {
        let value = self.headers.get_all(name).iter().next_back()?;
        value.to_str().ok()?.rsplit(',').next().map(str::trim)
    }
}

fn is_https(url: &Url) -> bool {
    url.scheme() == "https"
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A request from `peer` with these headers.
    pub(in crate::http) fn visit(peer: &str, headers: &[(&'static str, &str)]) -> Visit {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, value.parse().unwrap())
            })
            .collect();
        Visit {
            peer: peer.parse().unwrap(),
            tls: false,
            authority: headers
                .get(header::HOST)
                .map_or(String::new(), |host| host.to_str().unwrap().to_owned()),
            headers,
            line: Line::default(),
        }
    }

    const LOCAL: &str = "127.0.0.1:1";
    const REMOTE: &str = "192.0.2.1:1";

    #[test]
    fn only_this_machine_is_local_by_address_and_by_name_and_without_a_proxy() {
        for (peer, host, forwarded, expected) in [
            (LOCAL, "localhost:8080", None, true),
            (LOCAL, "127.0.0.1:8080", None, true),
            (LOCAL, "127.0.0.1", None, true),
            ("[::1]:1", "[::1]", None, true),
            ("[::1]:1", "[::1]:8080", None, true),
            ("[::ffff:127.0.0.1]:1", "localhost", None, true),
            (LOCAL, "evil.example:8080", None, false),
            (LOCAL, "localhost.evil.example", None, false),
            (LOCAL, "localhost@evil.example", None, false),
            (LOCAL, "evil.example/localhost", None, false),
            (LOCAL, "", None, false),
            (LOCAL, "localhost:8080", Some("x-forwarded-for"), false),
            (LOCAL, "localhost:8080", Some("x-forwarded-proto"), false),
            (LOCAL, "localhost:8080", Some("forwarded"), false),
            (REMOTE, "localhost:8080", None, false),
        ] {
            let mut headers = vec![("host", host)];
            headers.extend(forwarded.map(|name| (name, "192.0.2.1")));
            let found = visit(peer, &headers).is_local();
            assert_eq!(found, expected, "{peer} {host} {forwarded:?}");
        }
    }

    #[test]
    fn a_page_of_our_own_is_told_from_pages_elsewhere() {
        const OWN: &str = "http://localhost:8080";
        for (site, origin, expected) in [
            (Some("same-origin"), None, true),
            (Some("same-origin"), Some(OWN), true),
            (None, Some(OWN), true),
            (None, None, false),
            (Some("cross-site"), None, false),
            (Some("same-site"), None, false),
            (Some("none"), None, false),
            (Some("same-origin"), Some("http://localhost:9090"), false),
            (Some("same-origin"), Some("null"), false),
            (None, Some("http://evil.example"), false),
            (None, Some("file://localhost:8080"), false),
        ] {
            let mut headers = vec![("host", "localhost:8080")];
            headers.extend(site.map(|site| ("sec-fetch-site", site)));
            headers.extend(origin.map(|origin| ("origin", origin)));
            let found = visit(LOCAL, &headers).is_from_own_page();
            assert_eq!(found, expected, "{site:?} {origin:?}");
        }
    }

    fn server(external_url: Option<&str>, trusted_proxies: &[&str]) -> Server {
        let proxies: Vec<String> = trusted_proxies.iter().map(|p| format!("'{p}'")).collect();
        let text = format!(
            "data_dir = '/nowhere'\n[server]\nexternal_url = '{}'\ntrusted_proxies = [{}]\n",
            external_url.unwrap_or_default(),
            proxies.join(", ")
        );
        let sources = crate::config::Sources::default();
        let path = std::path::Path::new("moltis.toml");
        let loaded = crate::config::Config::load_text(path, &text, &sources).unwrap();
        loaded.config.server
    }

    #[test]
    fn a_websocket_is_opened_by_own_pages_and_by_what_is_no_browser() {
        let outside = Some("https://chat.example.org");
        for (origin, external, expected) in [
            (None, None, true),
            (Some("http://inner:8080"), None, true),
            (Some("http://inner:8081"), None, false),
            (Some("https://evil.example"), None, false),
            (Some("https://evil.example"), outside, false),
            (Some("https://chat.example.org"), outside, true),
            (Some("https://chat.example.org:443"), outside, true),
            (Some("http://chat.example.org"), outside, false),
            (Some("null"), outside, false),
            (Some("null"), None, false),
        ] {
            let mut headers = vec![("host", "inner:8080")];
            headers.extend(origin.map(|origin| ("origin", origin)));
            let found = visit(REMOTE, &headers).may_connect(&server(external, &[]));
            assert_eq!(found, expected, "{origin:?} {external:?}");
        }
    }

    #[test]
    fn a_client_is_seen_through_trusted_proxies_alone() {
        struct Case {
            name: &'static str,
            peer: &'static str,
            forwarded: &'static [&'static str],
            proto: Option<&'static str>,
            external: Option<&'static str>,
            address: &'static str,
            secure: bool,
        }
        let plain = Case {
            name: "",
            peer: REMOTE,
            forwarded: &[],
            proto: None,
            external: None,
            address: "192.0.2.1",
            secure: false,
        };
        for case in [
            Case {
                name: "over the network",
                ..plain
            },
            Case {
                name: "on this machine",
                peer: "127.0.0.2:1",
                address: "127.0.0.2",
                secure: true,
                ..plain
            },
            Case {
                name: "a stranger claims to be a proxy",
                forwarded: &["198.51.100.7"],
                proto: Some("https"),
                ..plain
            },
            Case {
                name: "through a trusted proxy with TLS",
                peer: "10.0.0.1:1",
                forwarded: &["198.51.100.7"],
                proto: Some("https"),
                address: "198.51.100.7",
                secure: true,
                ..plain
            },
            Case {
                name: "through a trusted proxy without TLS",
                peer: "10.0.0.1:1",
                forwarded: &["198.51.100.7"],
                proto: Some("http"),
                address: "198.51.100.7",
                ..plain
            },
            Case {
                name: "a client that names another",
                peer: "10.0.0.1:1",
                forwarded: &["203.0.113.9, 198.51.100.7"],
                proto: Some("https, http"),
                address: "198.51.100.7",
                ..plain
            },
            Case {
                name: "through two proxies",
                peer: "10.0.0.1:1",
                forwarded: &["203.0.113.9, 198.51.100.7", "10.0.0.2"],
                address: "198.51.100.7",
                ..plain
            },
            Case {
                name: "with what is no address in the client's own word",
                peer: "10.0.0.1:1",
                forwarded: &["203.0.113.9, no address, 198.51.100.7", "10.0.0.2"],
                address: "198.51.100.7",
                ..plain
            },
            Case {
                name: "a proxy on this machine that is not trusted",
                peer: "127.0.0.2:1",
                forwarded: &["198.51.100.7"],
                proto: Some("https"),
                address: "127.0.0.2",
                ..plain
            },
            Case {
                name: "the same where the external address has TLS",
                peer: "127.0.0.2:1",
                forwarded: &["198.51.100.7"],
                external: Some("https://chat.example.org"),
                address: "127.0.0.2",
                secure: true,
                ..plain
            },
        ] {
            let mut headers: Vec<_> = vec![("host", "chat.example.org")];
            headers.extend(case.proto.map(|proto| ("x-forwarded-proto", proto)));
            let mut visit = visit(case.peer, &headers);
            for value in case.forwarded {
                let name = "x-forwarded-for";
                visit.headers.append(name, value.parse().unwrap());
            }
            let found = visit.client(&server(case.external, &["10.0.0.0/8"]));
            let expected: IpAddr = case.address.parse().unwrap();
            assert_eq!(found.address.ip(), expected, "{}", case.name);
            assert_eq!(found.secure, case.secure, "{}", case.name);
        }
    }

    #[test]
    fn the_origin_is_the_external_one_or_that_of_the_request_where_the_name_is_ours() {
        let outside = Some("https://chat.example.org");
        for (host, peer, proto, external, expected) in [
            ("x", REMOTE, None, outside, Some("https://chat.example.org")),
            (
                "example.org",
                REMOTE,
                None,
                None,
                Some("http://example.org"),
            ),
            (
                "localhost:8080",
                LOCAL,
                None,
                None,
                Some("http://localhost:8080"),
            ),
            ("[::1]:80", LOCAL, None, None, Some("http://[::1]")),
            ("evil.example", REMOTE, None, None, None),
            ("10.1.1.1", REMOTE, None, None, None),
            (
                "example.org",
                REMOTE,
                Some("https"),
                None,
                Some("http://example.org"),
            ),
            (
                "example.org",
                "10.0.0.1:1",
                Some("https"),
                None,
                Some("https://example.org"),
            ),
        ] {
            let mut headers = vec![("host", host)];
            headers.extend(proto.map(|proto| ("x-forwarded-proto", proto)));
            let visit = visit(peer, &headers);
            let found = visit.origin(&server(external, &["10.0.0.0/8"]), &["example.org"]);
            let found = found.map(|origin| origin.ascii_serialization());
            assert_eq!(found.as_deref(), expected, "{host} {peer} {proto:?}");
        }
    }
}
