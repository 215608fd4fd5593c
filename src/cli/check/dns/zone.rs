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

/// The ports of other servers; 0: off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerPorts {
    pub starttls: u16,
    pub direct_tls: u16,
}

/// All records of a server. Clients only ever look for its domain; other servers for each of its services as well.
pub(super) fn wanted(server: &XmppServer, s2s: Option<ServerPorts>) -> Vec<Wanted> {
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
    if let Some(s2s) = s2s {
        let ports = [(false, s2s.starttls), (true, s2s.direct_tls)];
        for host in hosts(server) {
            add(&host, Service::Server, ports);
        }
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

    #[test]
    fn a_server_that_speaks_to_no_other_wants_records_for_its_clients() {
        let lines: Vec<String> = wanted(&server(), None)
            .iter()
            .map(|wanted| wanted.line("xn--bcher-kva.example"))
            .collect();
        assert_eq!(
            lines,
            [
                "_xmpp-client._tcp.xn--bcher-kva.example. 3600 IN SRV 0 5 5222 xn--bcher-kva.example.",
                "_xmpps-client._tcp.xn--bcher-kva.example. 3600 IN SRV 0 5 5223 xn--bcher-kva.example.",
            ]
        );
    }

    #[test]
    fn every_service_of_a_server_is_found_by_other_servers() {
        let s2s = ServerPorts {
            starttls: 5269,
            direct_tls: 0,
        };
        let lines: Vec<String> = wanted(&server(), Some(s2s))
            .iter()
            .filter(|wanted| wanted.service == Service::Server)
            .map(|wanted| wanted.line("xmpp.example"))
            .collect();
        assert_eq!(
            lines,
            [
                "_xmpp-server._tcp.xn--bcher-kva.example. 3600 IN SRV 0 5 5269 xmpp.example.",
                "_xmpps-server._tcp.xn--bcher-kva.example. 3600 IN SRV 0 0 0 .",
                "_xmpp-server._tcp.conference.xn--bcher-kva.example. 3600 IN SRV 0 5 5269 xmpp.example.",
                "_xmpps-server._tcp.conference.xn--bcher-kva.example. 3600 IN SRV 0 0 0 .",
            ]
        );
    }
}
