//! Where the HTTP server is reached: by everybody, and by this process itself.

use std::net::IpAddr;

use url::{Host, Origin, Url};

use super::{Config, Server};

/// Below which uploaded files are, on the HTTP server.
pub const UPLOADS: &str = "/upload";

/// The files of this process's own server, as an account that lives in it reaches them: without the proxies, the names and the
/// certificates that others need.
#[derive(Clone, Debug)]
pub struct OwnFiles {
    origin: Origin,
    inner: Url,
}

impl OwnFiles {
    /// Whether a link leads to the own HTTP server, to whatever of it.
    pub fn is_own(&self, link: &Url) -> bool {
        link.origin() == self.origin
    }

    /// The same file at the listener. `None`: it is no file of ours. What else the server has it may tell this machine alone,
    /// and a link may be anybody's.
    pub fn inside(&self, link: &Url) -> Option<Url> {
        let path = link.path().strip_prefix(UPLOADS)?;
        if !self.is_own(link) || !path.starts_with('/') {
            return None;
        }
        let mut inner = self.inner.clone();
        inner.set_path(link.path());
        Some(inner)
    }
}

impl Config {
    /// `None`: there is no server of this process's own, or no way to its files.
    pub fn own_files(&self) -> Option<OwnFiles> {
        let inner = self.server.inner_url().filter(|_| self.xmpp_server.enabled);
        Some(OwnFiles {
            origin: self.server.public_url()?.origin(),
            inner: inner?,
        })
    }
}

impl Server {
    /// What links lead to that others shall open. `None`: nobody would get there, or only without TLS, over a network.
    pub fn public_url(&self) -> Option<Url> {
        if self.port == 0 {
            return None;
        }
        let url = match &self.external_url {
            Some(url) => url.clone(),
            None if is_loopback(&self.bind) => {
                Url::parse(&format!("http://localhost:{}/", self.port)).ok()?
            }
            None => return None,
        };
        (url.scheme() == "https" || url.host_str().is_some_and(is_loopback)).then_some(url)
    }

    /// The listener as this machine reaches it, whatever stands in front of it.
    pub fn inner_url(&self) -> Option<Url> {
        if self.port == 0 {
            return None;
        }
        let host = match self.bind.parse() {
            Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
            Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            Ok(IpAddr::V4(_)) | Err(_) => self.bind.clone(),
        };
        Url::parse(&format!("http://{host}:{}/", self.port)).ok()
    }
}

fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.is_loopback();
    }
    match Host::parse(host) {
        Ok(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_where_others_get_over_tls_or_on_this_machine() {
        for (bind, port, external, public, inner) in [
            (
                "127.0.0.1",
                8080,
                "",
                "http://localhost:8080/",
                "http://127.0.0.1:8080/",
            ),
            (
                "::1",
                8080,
                "",
                "http://localhost:8080/",
                "http://[::1]:8080/",
            ),
            (
                "localhost",
                80,
                "",
                "http://localhost/",
                "http://localhost/",
            ),
            ("0.0.0.0", 8080, "", "", "http://127.0.0.1:8080/"),
            (
                "::",
                8080,
                "https://chat.example.org",
                "https://chat.example.org/",
                "http://[::1]:8080/",
            ),
            (
                "192.0.2.1",
                1,
                "http://chat.example.org",
                "",
                "http://192.0.2.1:1/",
            ),
            (
                "0.0.0.0",
                1,
                "http://[::1]:1",
                "http://[::1]:1/",
                "http://127.0.0.1:1/",
            ),
            ("127.0.0.1", 0, "https://chat.example.org", "", ""),
        ] {
            let server = Server {
                bind: bind.to_owned(),
                port,
                external_url: Url::parse(external).ok(),
                ..Server::default()
            };
            let text = |url: Option<Url>| url.map(String::from).unwrap_or_default();
            assert_eq!(text(server.public_url()), public, "{bind} {external}");
            assert_eq!(text(server.inner_url()), inner, "{bind} {external}");
        }
    }

    #[test]
    fn only_files_are_reached_inside() {
        let mut config = Config::default();
        config.xmpp_server.enabled = true;
        config.server.bind = "0.0.0.0".to_owned();
        config.server.external_url = Url::parse("https://chat.example.org").ok();
        let files = config.own_files().unwrap();
        for (link, expected) in [
            (
                "https://chat.example.org/upload/a/b%20c.png",
                Some("http://127.0.0.1:8080/upload/a/b%20c.png"),
            ),
            ("https://chat.example.org/status", None),
            ("https://chat.example.org/upload/../status", None),
            ("https://chat.example.org/upload/%2e%2e/status", None),
            ("https://chat.example.org/uploads/a/b", None),
            ("https://chat.example.org:8443/upload/a/b", None),
            ("http://chat.example.org/upload/a/b", None),
            ("http://127.0.0.1:8080/upload/a/b", None),
        ] {
            let found = files.inside(&Url::parse(link).unwrap()).map(String::from);
            assert_eq!(found.as_deref(), expected, "{link}");
        }
        config.xmpp_server.enabled = false;
        assert!(config.own_files().is_none());
    }
}
