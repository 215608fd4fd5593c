//! Where people find what is served over HTTP.

use std::net::IpAddr;

use url::Url;

use super::Config;

impl Config {
    /// The origin under which clients reach the HTTP port: the one in front; `http://localhost` where only this machine
    /// reaches it; else the domain, with its certificate. `None`: there is none.
    pub fn web_url(&self) -> Option<Url> {
        let (server, domain) = (&self.server, self.xmpp_server.domain.as_str());
        if let Some(url) = &server.external_url {
            return Some(url.clone());
        }
        let origin = match server.port {
            0 => return None,
            port if self.is_web_local() => format!("http://localhost:{port}"),
            port => format!("https://{domain}:{port}"),
        };
        Url::parse(&origin).ok()
    }

    /// Whether only this machine reaches the HTTP port.
    pub fn is_web_local(&self) -> bool {
        let loopback = |address: IpAddr| address.is_loopback();
        let server = &self.server;
        server.external_url.is_none()
            && (self.xmpp_server.domain == "localhost" || server.bind.parse().is_ok_and(loopback))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_web_is_where_clients_reach_it() {
        struct Case {
            name: &'static str,
            domain: &'static str,
            bind: &'static str,
            port: u16,
            external: Option<&'static str>,
            url: Option<&'static str>,
        }
        let usual = Case {
            name: "as it comes",
            domain: "example.org",
            bind: "127.0.0.1",
            port: 8080,
            external: None,
            url: Some("http://localhost:8080/"),
        };
        let cases = [
            Case {
                name: "on all addresses",
                bind: "::",
                url: Some("https://example.org:8080/"),
                ..usual
            },
            Case {
                name: "on the port of its own",
                bind: "0.0.0.0",
                port: 443,
                url: Some("https://example.org/"),
                ..usual
            },
            Case {
                name: "the demo",
                domain: "localhost",
                bind: "0.0.0.0",
                ..usual
            },
            Case {
                name: "behind a proxy",
                external: Some("https://chat.example.org"),
                url: Some("https://chat.example.org/"),
                ..usual
            },
            Case {
                name: "off",
                port: 0,
                url: None,
                ..usual
            },
            usual,
        ];
        for case in cases {
            let mut config = Config::default();
            config.xmpp_server.domain = case.domain.to_owned();
            config.server.bind = case.bind.to_owned();
            config.server.port = case.port;
            config.server.external_url = case.external.map(|url| url.parse().unwrap());
            let url = config.web_url();
            assert_eq!(url.as_ref().map(Url::as_str), case.url, "{}", case.name);
        }
    }
}
