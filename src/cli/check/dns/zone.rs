//! What the DNS must say for a server to be found, as lines of a zone file.

use crate::config::XmppServer;
use crate::xmpp::dns::{self, Service};

/// How long others may keep a record, in seconds. What is asked for seldom changes.
const TTL: u32 = 3600;

/// One SRV record that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The domain or one of its services, in ASCII.
    pub host: String,
    pub service: Service,
    pub direct_tls: bool,
    /// 0: nothing listens.
    pub port: u16,
}

impl Wanted {
    pub(super) fn owner(&self) -> String {
        if self.direct_tls {
            self.service.direct(&self.host)
        } else {
            self.service.starttls(&self.host)
        }
    }

    /// `target` has the server's address.
    pub(super) fn line(&self, target: &str) -> String {
        let owner = self.owner();
        match self.port {
            // RFC 2782: there is decidedly no such service.
            0 => format!("{owner}. {TTL} IN SRV 0 0 0 ."),
            port => format!("{owner}. {TTL} IN SRV 0 5 {port} {target}."),
        }
    }

    pub(super) fn whom(&self) -> &'static str {
        match self.service {
            Service::Client => "clients",
            Service::Server => "other servers",
        }
    }

    /// The key that names the port.
    pub(super) fn key(&self) -> &'static str {
        match (self.service, self.direct_tls) {
            (Service::Client, false) => "c2s_port",
            (Service::Client, true) => "c2s_tls_port",
            (Service::Server, false) => "s2s_port",
            (Service::Server, true) => "s2s_tls_port",
        }
    }
}

/// All records of a server. Clients only ever look for its domain; other servers for each of its services as well. Where
/// it talks to none, it says so by its domain.
pub(super) fn wanted(server: &XmppServer) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let mut add = |host: &str, service, ports: [(bool, u16); 2]| {
        // A domain that DNS cannot name has been refused with the configuration.
        let Ok(host) = dns::ascii(host) else { return };
        wanted.extend(ports.map(|(direct_tls, port)| Wanted {
            host: host.clone(),
            service,
            direct_tls,
            port,
        }));
    };
    let ports = [(false, server.c2s_port), (true, server.c2s_tls_port)];
    add(&server.domain, Service::Client, ports);
    if server.federates() {
        let ports = [(false, server.s2s_port), (true, server.s2s_tls_port)];
        for host in hosts(server) {
            add(&host, Service::Server, ports);
        }
    } else {
        add(&server.domain, Service::Server, [(false, 0), (true, 0)]);
    }
    wanted
}

/// The domain and all its services.
pub(super) fn hosts(server: &XmppServer) -> Vec<String> {
    let services = [
        &server.domain,
        &server.muc_host,
        &server.pubsub_host,
        &server.upload_host,
        &server.proxy_host,
    ];
    services
        .into_iter()
        .chain(server.components.keys())
        .filter(|host| !host.is_empty())
        .cloned()
        .collect()
}

/// A line with an address, or with a place for one.
pub(super) fn address(host: &str, kind: dns::Kind, address: &str) -> String {
    format!("{host}. {TTL} IN {kind} {address}")
}

/// A line with what a certificate's key is.
pub(super) fn tlsa(host: &str, port: u16, record: &dns::tlsa::Record) -> String {
    format!("{}. {TTL} IN TLSA {record}", dns::tlsa::owner(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> XmppServer {
        XmppServer {
            domain: "bücher.example".to_owned(),
            muc_host: "conference.bücher.example".to_owned(),
            ..XmppServer::default()
        }
    }

    fn lines(server: &XmppServer, service: Service) -> Vec<String> {
        wanted(server)
            .iter()
            .filter(|wanted| wanted.service == service)
            .map(|wanted| wanted.line("xmpp.example"))
            .collect()
    }

    #[test]
    fn clients_look_for_the_domain_alone() {
        assert_eq!(
            lines(&server(), Service::Client),
            [
                "_xmpp-client._tcp.xn--bcher-kva.example. 3600 IN SRV 0 5 5222 xmpp.example.",
                "_xmpps-client._tcp.xn--bcher-kva.example. 3600 IN SRV 0 5 5223 xmpp.example.",
            ]
        );
    }

    #[test]
    fn other_servers_look_for_every_service() {
        let mut server = server();
        server.s2s_tls_port = 0;
        assert_eq!(
            lines(&server, Service::Server),
            [
                "_xmpp-server._tcp.xn--bcher-kva.example. 3600 IN SRV 0 5 5269 xmpp.example.",
                "_xmpps-server._tcp.xn--bcher-kva.example. 3600 IN SRV 0 0 0 .",
                "_xmpp-server._tcp.conference.xn--bcher-kva.example. 3600 IN SRV 0 5 5269 xmpp.example.",
                "_xmpps-server._tcp.conference.xn--bcher-kva.example. 3600 IN SRV 0 0 0 .",
            ]
        );
    }

    #[test]
    fn a_server_that_talks_to_no_other_says_so() {
        let mut server = server();
        server.federation.enabled = false;
        assert_eq!(
            lines(&server, Service::Server),
            [
                "_xmpp-server._tcp.xn--bcher-kva.example. 3600 IN SRV 0 0 0 .",
                "_xmpps-server._tcp.xn--bcher-kva.example. 3600 IN SRV 0 0 0 .",
            ]
        );
    }
}
