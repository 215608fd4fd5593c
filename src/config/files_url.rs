//! Where uploaded files are: for everybody, and for the accounts that live in this process.

use std::net::IpAddr;

use url::{Host, Origin, Url};

use super::Config;

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
    /// The origin of files (XEP-0363, 4 wants TLS). `None`: there is no HTTP, or only one without TLS over a network.
    pub fn files_url(&self) -> Option<Url> {
        let loopback = |url: &Url| match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let is_private = |url: &Url| url.scheme() == "https" || loopback(url);
        self.web_url()
            .filter(|url| self.server.port != 0 && is_private(url))
    }

    /// `None`: there is no server of this process's own, or no way to its files.
    pub fn own_files(&self) -> Option<OwnFiles> {
        if !self.xmpp_server.enabled {
            return None;
        }
        Some(OwnFiles {
            origin: self.files_url()?.origin(),
            inner: self.inner_url()?,
        })
    }

    /// The HTTP port as this machine reaches it, whatever stands in front of it.
    fn inner_url(&self) -> Option<Url> {
        let bind = &self.server.bind;
        let host = match bind.parse() {
            Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
            Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            Ok(IpAddr::V4(_)) | Err(_) => bind.clone(),
        };
        Url::parse(&format!("http://{host}:{}/", self.server.port)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(bind: &str, port: u16, external: &str) -> Config {
        let mut config = Config::default();
        config.xmpp_server.enabled = true;
        config.xmpp_server.domain = "example.org".to_owned();
        config.server.bind = bind.to_owned();
        config.server.port = port;
        config.server.external_url = Url::parse(external).ok();
        config
    }

    #[test]
    fn files_are_where_others_get_over_tls_or_on_this_machine() {
        for (bind, port, external, public, inner) in [
            (
                "127.0.0.1",
                8080,
                "",
                "http://localhost:8080/",
                "http://127.0.0.1:8080/",
            ),
            ("::1", 80, "", "http://localhost/", "http://[::1]/"),
            (
                "0.0.0.0",
                443,
                "",
                "https://example.org/",
                "http://127.0.0.1:443/",
            ),
            (
                "::",
                1,
                "https://chat.example.org",
                "https://chat.example.org/",
                "http://[::1]:1/",
            ),
            ("192.0.2.1", 1, "http://chat.example.org", "", ""),
            (
                "0.0.0.0",
                1,
                "http://[::1]:1",
                "http://[::1]:1/",
                "http://127.0.0.1:1/",
            ),
            ("127.0.0.1", 0, "https://chat.example.org", "", ""),
        ] {
            let config = config(bind, port, external);
            let url = config.files_url().map(String::from).unwrap_or_default();
            assert_eq!(url, public, "{bind} {external}");
            let inside = config.own_files().and_then(|own| {
                let link = format!("{public}upload/a/b");
                own.inside(&Url::parse(&link).ok()?).map(String::from)
            });
            let expected = (!inner.is_empty()).then(|| format!("{inner}upload/a/b"));
            assert_eq!(inside, expected, "{bind} {external}");
        }
    }

    #[test]
    fn only_files_are_reached_inside() {
        let mut config = config("0.0.0.0", 8080, "https://chat.example.org");
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
