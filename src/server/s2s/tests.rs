//! Servers that talk to each other over pipes, and strangers on the other end of one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use minidom::Element;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::trust::Chain;
use super::*;
use crate::config::{Certificate, PeerAuthentication, XmppServer};
use crate::server::certificate::{self, Certificates};
use crate::server::stream::xml::{Event, Reader};
use crate::server::testing::{self, Client};
use crate::storage::Storage;
use crate::xmpp::connector::Pipe;
use crate::xmpp::dns::testing::NameServer;
use crate::xmpp::dns::tlsa::Verdict;
use crate::xmpp::dns::{Origin, Resolver, Service, Target};
use crate::xmpp::ns;

mod dane;
mod fuzz;
mod hostile;
mod lists;
mod pairs;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Signs what the servers of a test show.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    /// PEM files of a certificate for these names.
    fn issue(&self, directory: &Path, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        // As public authorities issue them.
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["fullchain.pem", "privkey.pem"].map(|name| directory.join(name));
        std::fs::write(&files[0], signed.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        let [certificate, key] = files;
        Certificate::Files { certificate, key }
    }

    fn trust(&self) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        Trust::new(roots)
    }
}

/// Where everybody is, and what the DNS says about their certificates. A clone is the same.
#[derive(Clone, Default)]
struct World(Arc<Mutex<BTreeMap<String, Entrance>>>, Option<Resolver>);

#[derive(Clone)]
struct Entrance {
    doors: mpsc::UnboundedSender<(DuplexStream, bool)>,
    open: Arc<AtomicBool>,
    direct_tls: bool,
}

impl World {
    fn entrance(&self, host: &str) -> Option<Entrance> {
        self.0.lock().unwrap().get(host).cloned()
    }

    /// Whoever takes what connects to a domain.
    fn listen(
        &self,
        host: &str,
        direct_tls: bool,
    ) -> mpsc::UnboundedReceiver<(DuplexStream, bool)> {
        let (doors, visitors) = mpsc::unbounded_channel();
        let entrance = Entrance {
            doors,
            open: Arc::new(AtomicBool::new(true)),
            direct_tls,
        };
        self.0.lock().unwrap().insert(host.to_owned(), entrance);
        visitors
    }

    /// Whether somebody can be reached.
    fn set_open(&self, host: &str, open: bool) {
        let entrance = self.entrance(host).unwrap();
        entrance.open.store(open, Ordering::Release);
    }

    fn with_dns(dns: &NameServer) -> Self {
        Self(Arc::default(), Some(dns.resolver()))
    }

    fn alias(&self, name: &str, host: &str) {
        let entrance = self.entrance(host).unwrap();
        self.0.lock().unwrap().insert(name.to_owned(), entrance);
    }
}

impl Network for World {
    fn targets<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Vec<Target>, Failure>> {
        Box::pin(async move {
            let entrance = self.entrance(domain).ok_or_else(|| {
                Failure::new(Obstacle::NotFound, format!("There is no domain {domain}"))
            })?;
            if let Some(resolver) = &self.1 {
                return Ok(resolver.targets(domain, Service::Server).await?);
            }
            Ok(vec![Target {
                host: domain.to_owned(),
                port: 5269,
                direct_tls: entrance.direct_tls,
                origin: Origin::Domain,
                anywhere: false,
            }])
        })
    }

    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Pipe>, Failure>> {
        Box::pin(async move {
            let gone = || Failure::unreachable(format!("{} does not answer", target.host));
            let entrance = self.entrance(&target.host).ok_or_else(gone)?;
            if !entrance.open.load(Ordering::Acquire) {
                return Err(gone());
            }
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let sent = entrance.doors.send((theirs, target.direct_tls));
            sent.map_err(|_closed| gone())?;
            Ok(Box::new(ours) as Box<dyn Pipe>)
        })
    }

    fn dane<'a>(
        &'a self,
        domain: &'a str,
        host: Option<&'a Target>,
        chain: &'a Chain,
    ) -> BoxFuture<'a, Result<Verdict, Failure>> {
        Box::pin(async move {
            match &self.1 {
                Some(resolver) => network::compare(resolver, domain, host, chain).await,
                None => Ok(Verdict::Silent),
            }
        })
    }
}

/// A server that talks to the others of a world.
struct House {
    server: Server,
    tasks: JoinSet<()>,
    stop: Stop,
    directory: tempfile::TempDir,
}

impl House {
    async fn new(world: &World, authority: &Authority, domain: &str) -> Self {
        Self::with(world, authority, Settings::new(domain, &[domain])).await
    }

    async fn with(world: &World, authority: &Authority, settings: Settings) -> Self {
        Self::again(world, authority, settings, Storage::in_memory().unwrap()).await
    }

    /// With what another one has left.
    async fn again(
        world: &World,
        authority: &Authority,
        settings: Settings,
        storage: Storage,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut xmpp = settings.xmpp;
        let domain = xmpp.domain.clone();
        let names: Vec<&str> = settings.certified.iter().map(String::as_str).collect();
        xmpp.certificate = authority.issue(directory.path(), &names);
        let certificates =
            Certificates::open(certificate::Settings::new(&xmpp, directory.path())).unwrap();
        let server = testing::on(storage, xmpp, &["romeo", "juliet"]).await;
        let federation = Federation::new(
            Box::new(world.clone()),
            certificates.peers().unwrap(),
            authority.trust(),
        )
        .unwrap();
        server.federate(federation.clone());
        let mut house = Self {
            server: server.clone(),
            tasks: JoinSet::new(),
            stop: Stop::new(),
            directory,
        };
        let stop = house.stop.clone();
        let serving = federation.clone().serve(server.clone(), stop.clone());
        house.tasks.spawn(async move { serving.await.unwrap() });
        let mut visitors = world.listen(&domain, settings.direct_tls);
        house.tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Some((io, direct_tls)) = visitors.recv().await {
                let (federation, server, stop) = (federation.clone(), server.clone(), stop.clone());
                streams.spawn(async move {
                    federation
                        .accept(&server, Box::new(io), ADDRESS, direct_tls, stop)
                        .await;
                });
            }
        });
        house
    }

    /// Juliet or romeo, online.
    async fn person(&self, name: &str) -> Client {
        testing::online(&self.server, &format!("{name}/phone")).await
    }

    fn federation(&self) -> &Federation {
        self.server.federation().unwrap()
    }

    /// How the streams with a domain came about.
    fn ways(&self, remote: &str) -> Vec<(&'static str, &'static str)> {
        let rows = self.federation().rows();
        rows.iter()
            .filter(|row| row.remote == remote)
            .flat_map(|row| &row.report.streams)
            .map(|way| (way.direction, way.authentication))
            .collect()
    }

    /// Ends it in order; what it has stored.
    async fn end(mut self) -> Storage {
        self.stop.cancel();
        // Whoever listens for visitors does so for ever.
        self.tasks.join_next().await.unwrap().unwrap();
        self.tasks.shutdown().await;
        self.server.storage().clone()
    }

    /// Ends it, as a kill would.
    async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

struct Settings {
    xmpp: XmppServer,
    certified: Vec<String>,
    direct_tls: bool,
}

impl Settings {
    fn new(domain: &str, certified: &[&str]) -> Self {
        let mut xmpp = XmppServer::new(domain);
        xmpp.c2s_tls_port = 0;
        Self {
            xmpp,
            certified: certified.iter().map(ToString::to_string).collect(),
            direct_tls: false,
        }
    }

    fn dialback(mut self) -> Self {
        self.xmpp.federation.authentication = PeerAuthentication::Dialback;
        self
    }
}

/// Sends a numbered message.
async fn say(client: &Client, to: &str, id: usize) {
    client
        .send(&format!(
            "<message type='chat' to='{to}' id='{id}'><body>{id}</body></message>"
        ))
        .await;
}

/// The next message, whatever else comes.
async fn message(client: &mut Client) -> Element {
    loop {
        let next = client.next().await;
        if next.name() == "message" {
            return next;
        }
    }
}

/// The condition and the text of an error.
fn refusal(stanza: &Element) -> (String, String) {
    assert_eq!(stanza.attr("type"), Some("error"), "{stanza:?}");
    let error = stanza.get_child("error", ns::JABBER_CLIENT).unwrap();
    let condition = error.children().next().unwrap().name().to_owned();
    let text = error.get_child("text", ns::XMPP_STANZAS);
    (condition, text.map(Element::text).unwrap_or_default())
}

/// Waits until something is so.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..5_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what}");
}
