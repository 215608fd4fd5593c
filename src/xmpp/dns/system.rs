//! Whom to ask: the resolver and the hosts file of this machine, read again when they change.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::RetryDnsHandle;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, NameServerPool, PoolContext, TlsConfig, system_conf};
use tokio::time::Instant;
use tracing::{debug, info};

use super::answer::{Answer, Data, Kind};

const RESOLVERS: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// How often it is looked at whether the files have changed.
const LOOK: Duration = Duration::from_secs(2);
/// How long one resolver may take, and how often it is asked again.
const ANSWER: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;

pub(super) type Pool = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// What is in force.
pub(super) struct State {
    /// Or why there is nobody to ask.
    pub pool: Result<Pool, String>,
    hosts: Hosts,
    /// What may be appended to a name of the local network.
    pub search: Vec<Name>,
    /// Whether what the resolver calls authentic is. As for the C library, this needs `options trust-ad`: between us and
    /// a resolver elsewhere anybody may sit, and one on this machine may only pass on what it hears (Docker's does).
    pub trusted: bool,
}

impl State {
    fn new(
        config: &ResolverConfig,
        mut options: ResolverOpts,
        hosts: Hosts,
        trusted: bool,
    ) -> Self {
        options.timeout = ANSWER;
        options.attempts = ATTEMPTS;
        // Else what is longer than 512 bytes, as TLSA records may be, takes a second question by TCP.
        options.edns0 = true;
        // `places` is stricter.
        options.max_active_requests = 1_024;
        options.use_hosts_file = ResolveHosts::Never;
        let pool = TlsConfig::new()
            .map(|tls| {
                let attempts = options.attempts;
                let context = Arc::new(PoolContext::new(options, tls));
                let servers = config.name_servers().to_vec();
                let pool =
                    NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
                RetryDnsHandle::new(pool, attempts)
            })
            .map_err(|err| err.to_string());
        Self {
            pool,
            hosts,
            search: config.search().to_vec(),
            trusted,
        }
    }

    /// What the hosts file says. A name that it has is asked nowhere else.
    pub(super) fn local(&self, name: &Name, kind: Kind) -> Option<Answer> {
        let records = |kind| -> Option<Vec<Data>> {
            let found = self
                .hosts
                .lookup_static_host(&Query::query(name.clone(), kind))?;
            let addresses = found
                .answers()
                .iter()
                .filter_map(|record| record.data.ip_addr());
            Some(addresses.map(Data::Address).collect())
        };
        let (four, six) = (records(RecordType::A), records(RecordType::AAAA));
        if four.is_none() && six.is_none() {
            return None;
        }
        let records = match kind {
            Kind::A => four,
            Kind::Aaaa => six,
            Kind::Srv | Kind::Tlsa => return None,
        };
        Some(Answer {
            records: records.unwrap_or_default(),
            exists: true,
            ..Answer::default()
        })
    }
}

/// Keeps the state that is in force.
pub(super) struct Upstream {
    state: Arc<State>,
    /// `None`: it is fixed.
    files: Option<Files>,
}

struct Files {
    contents: [Option<Vec<u8>>; 2],
    looked: Instant,
}

impl Upstream {
    pub(super) fn system() -> Self {
        let contents = contents();
        Self {
            state: Arc::new(read(&contents)),
            files: Some(Files {
                contents,
                looked: Instant::now(),
            }),
        }
    }

    pub(super) fn fixed(servers: &[SocketAddr], trusted: bool) -> Self {
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let state = State::new(&config, ResolverOpts::default(), Hosts::default(), trusted);
        Self {
            state: Arc::new(state),
            files: None,
        }
    }

    /// What is in force, and whether it has just changed.
    pub(super) fn current(&mut self) -> (Arc<State>, bool) {
        let changed = self.files.as_mut().is_some_and(|files| {
            let now = Instant::now();
            if now < files.looked + LOOK {
                return false;
            }
            files.looked = now;
            // Two small files: quicker than to hand it to another thread.
            let contents = contents();
            let changed = contents != files.contents;
            files.contents = contents;
            changed
        });
        if let Some(files) = self.files.as_ref().filter(|_| changed) {
            info!("The DNS settings of this machine have changed");
            self.state = Arc::new(read(&files.contents));
        }
        (Arc::clone(&self.state), changed)
    }

    /// What is in force did not work: look at the files next time, however lately that was done.
    pub(super) fn doubt(&mut self) {
        if let Some(files) = &mut self.files {
            files.looked = Instant::now() - LOOK;
        }
    }
}

fn contents() -> [Option<Vec<u8>>; 2] {
    // That there is none is as good as any other content.
    [fs::read(RESOLVERS).ok(), fs::read(HOSTS).ok()]
}

fn read(contents: &[Option<Vec<u8>>; 2]) -> State {
    let hosts = Hosts::from_system().unwrap_or_else(|err| {
        debug!(%err, "There is no hosts file");
        Hosts::default()
    });
    match system_conf::read_system_conf() {
        Ok((config, options)) => {
            let [resolvers, _] = contents;
            let trusted = resolvers.as_deref().is_some_and(trusts_ad);
            State::new(&config, options, hosts, trusted)
        }
        Err(err) => State {
            pool: Err(err.to_string()),
            hosts,
            search: Vec::new(),
            trusted: false,
        },
    }
}

/// Whether resolv.conf has `options trust-ad` (resolv.conf(5)).
fn trusts_ad(file: &[u8]) -> bool {
    String::from_utf8_lossy(file).lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("options") && words.any(|word| word == "trust-ad")
    })
}

/// The names to try for a name of the settings: itself, then with what the machine appends (resolv.conf(5), search).
pub(super) fn candidates(host: &str, search: &[Name]) -> Vec<String> {
    let mut names = vec![host.to_owned()];
    let is_address = host.parse::<IpAddr>().is_ok();
    if !host.ends_with('.') && !is_address {
        let ends = search.iter().map(super::answer::text);
        names.extend(ends.map(|end| format!("{host}.{end}")));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_believed_only_where_the_file_says_so() {
        for (file, expected) in [
            ("nameserver 127.0.0.1", false),
            ("nameserver 9.9.9.9\noptions edns0 trust-ad\n", true),
            ("#options trust-ad", false),
            ("search trust-ad", false),
            ("options  trust-ad", true),
        ] {
            assert_eq!(trusts_ad(file.as_bytes()), expected, "{file}");
        }
    }

    #[test]
    fn only_relative_names_are_searched() {
        let search = [Name::from_ascii("lan.").unwrap()];
        for (host, expected) in [
            ("xmpp", vec!["xmpp", "xmpp.lan"]),
            ("a.b", vec!["a.b", "a.b.lan"]),
            ("a.b.", vec!["a.b."]),
            ("::1", vec!["::1"]),
        ] {
            assert_eq!(candidates(host, &search), expected);
        }
    }

    #[tokio::test]
    async fn the_hosts_file_speaks_for_all_addresses_of_its_names() {
        let mut hosts = Hosts::default();
        hosts
            .read_hosts_conf("192.0.2.7 peer.example".as_bytes())
            .unwrap();
        let config = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let state = State::new(&config, ResolverOpts::default(), hosts, false);
        let name = Name::from_ascii("peer.example.").unwrap();
        let four = state.local(&name, Kind::A).unwrap();
        assert_eq!(
            four.addresses().collect::<Vec<_>>(),
            ["192.0.2.7".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(state.local(&name, Kind::Aaaa).unwrap().records, []);
        assert_eq!(state.local(&name, Kind::Srv), None);
        let other = Name::from_ascii("other.example.").unwrap();
        assert_eq!(state.local(&other, Kind::A), None);
    }
}
