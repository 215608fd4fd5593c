//! The embedded server of this process: its accounts and bots, its services, what it listens on, and the pipes through
//! which the gateway's own accounts live in it.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use jid::{BareJid, DomainPart, NodePart};
use rustls::ServerConfig;
use secrecy::SecretString;
use tokio::sync::watch;
use tracing::error;

use super::demo;
use crate::config::{Config, RoomCreation, XmppServer};
use crate::gateway::access::Access;
use crate::gateway::accounts::{Accounts as Running, Home as Pipes};
use crate::gateway::admission::Grant;
use crate::http::web_chat::{Demo, WebChat};
use crate::http::websocket::{self, Messages};
use crate::http::{self, EmbeddedServer, Peer, status};
use crate::runtime::{Phase, Supervisor};
use crate::server::accounts::{Accounts, Change};
use crate::server::archive::rooms::RoomArchives;
use crate::server::bytestreams;
use crate::server::certificate::{self, Certificates};
use crate::server::component;
use crate::server::feature;
use crate::server::invitations::{Invitation, Made};
use crate::server::listener::{self, Listener};
use crate::server::muc::service::{Creation, Creators, People, Policy, Service};
use crate::server::pubsub::service::Service as Nodes;
use crate::server::s2s::{Federation, Internet, Row, Trust};
use crate::server::stream::{Streams, Tls};
use crate::server::upload::{self, Rules, Uploads};
use crate::server::{Host, Server};
use crate::storage::Storage;
use crate::xmpp::dns::Resolver;
use crate::xmpp::secrets::{Secrets, generate_password};

/// Length of passwords that nobody types.
const GENERATED: usize = 24;

/// The running server.
#[derive(Clone)]
pub(super) struct Home {
    pub server: Server,
    pub streams: Streams,
    pub certificates: Certificates,
    uploads: Uploads,
    rooms: Arc<Service>,
    https: Arc<ServerConfig>,
    demo: Option<Demo>,
    bot: Option<BareJid>,
}

/// What is bound and waits to be served.
pub(super) struct Prepared {
    pub home: Home,
    listeners: Vec<Listener>,
    proxy: Option<bytestreams::Prepared>,
}

/// Builds the server and binds its ports, so that what is in the way is an error before anything starts. `None`: the
/// configuration asks for none. `is_demo`: without a moltis.toml.
pub(super) async fn prepare(
    config: &Config,
    storage: &Storage,
    is_demo: bool,
) -> Result<Option<Prepared>> {
    let settings = Arc::new(config.xmpp_server.clone());
    if !settings.enabled {
        return Ok(None);
    }
    let listeners = listener::bind(&settings)?;
    let domain = DomainPart::new(&settings.domain).context("The domain is no domain")?;
    let accounts = Accounts::open(storage.clone(), &domain)
        .await
        .context("Failed to read the accounts")?;
    let bots = config
        .channels
        .xmpp
        .values()
        .filter(|account| account.local);
    provide(&accounts, config).await?;
    let bot = bots
        .clone()
        .find(|bot| bot.enabled)
        .map(|bot| bot.jid.clone());
    let certificates = open_certificates(&settings, config).await?;
    let server = Server::new(Arc::clone(&settings), storage.clone(), accounts)?;
    let rooms = rooms(&settings, storage).await?;
    let uploads = Uploads::open(storage.clone(), &config.data_dir, Rules::of(config))?;
    server.extensions().insert(uploads.clone());
    let mut hosts = hosts(&settings, storage, rooms.clone(), &uploads)?;
    let proxy = bytestreams::prepare(&settings)?;
    hosts.extend(
        proxy
            .iter()
            .map(|proxy| (proxy.host.clone(), Arc::clone(&proxy.service))),
    );
    hosts.extend(component::hosts(&server));
    server.set_hosts(hosts);
    let tls = Tls {
        starttls: certificates.starttls(),
        direct_tls: certificates.direct_tls(),
    };
    let streams = Streams::new(server.clone(), tls);
    if settings.federates() {
        server.federate(federation(&certificates).await?);
    }
    let demo = if is_demo {
        Some(person(config, &server, bot.as_ref()).await?)
    } else {
        None
    };
    let https = certificates.https(&http::PROTOCOLS);
    let home = Home {
        server,
        streams,
        https: https.context("Failed to prepare HTTPS")?,
        certificates,
        uploads,
        rooms,
        demo,
        bot,
    };
    Ok(Some(Prepared {
        home,
        listeners,
        proxy,
    }))
}

fn generated() -> Result<SecretString> {
    generate_password(GENERATED).context("The system has no random numbers")
}

/// Makes the accounts of the bots that live here, and of one that was deleted meanwhile.
async fn provide(accounts: &Accounts, config: &Config) -> Result<()> {
    let bots = config.channels.xmpp.values();
    for bot in bots.filter(|account| account.local && account.enabled) {
        let name = bot.jid.node().context("A bot has a name")?;
        accounts
            .provide(name)
            .await
            .with_context(|| format!("Failed to make the account {}", bot.jid))?;
    }
    Ok(())
}

async fn open_certificates(settings: &XmppServer, config: &Config) -> Result<Certificates> {
    let settings = certificate::Settings::new(settings, &config.data_dir);
    tokio::task::spawn_blocking(move || Certificates::open(settings))
        .await
        .context("Finding a certificate failed")?
        .context("Failed to find a certificate")
}

async fn rooms(settings: &XmppServer, storage: &Storage) -> Result<Arc<Service>> {
    let host = settings.muc_host.parse().context("muc_host is no domain")?;
    let policy = Policy {
        creation: creation(settings),
        ..Policy::new(host, &settings.domain)
    };
    let rooms = Service::open(
        policy,
        storage.clone(),
        Arc::new(RoomArchives::new(storage.clone())),
    )
    .await
    .context("Failed to read the rooms")?;
    Ok(Arc::new(rooms))
}

/// The services on domains of their own.
fn hosts(
    settings: &XmppServer,
    storage: &Storage,
    rooms: Arc<dyn Host>,
    uploads: &Uploads,
) -> Result<Vec<(String, Arc<dyn Host>)>> {
    let address = settings.pubsub_host.parse();
    let address = address.context("pubsub_host is no domain")?;
    let nodes: Arc<dyn Host> = Arc::new(Nodes::new(address, storage.clone()));
    let files: Arc<dyn Host> = Arc::new(upload::Service(uploads.clone()));
    Ok(vec![
        (settings.muc_host.clone(), rooms),
        (settings.pubsub_host.clone(), nodes),
        (settings.upload_host.clone(), files),
    ])
}

/// The way to other servers.
async fn federation(certificates: &Certificates) -> Result<Federation> {
    let trust = tokio::task::spawn_blocking(Trust::system).await;
    let trust = trust.context("Reading root certificates failed")?;
    let tls = certificates.peers();
    let tls = tls.context("Failed to prepare TLS with other servers")?;
    let internet = Box::new(Internet(Resolver::system()));
    Federation::new(internet, tls, trust).context("The system has no random numbers")
}

/// Who may create rooms.
fn creation(settings: &XmppServer) -> Creation {
    let creators = match settings.rooms.creation {
        RoomCreation::Anyone => Creators::Anyone,
        RoomCreation::Local => Creators::Domain(settings.domain.clone()),
        RoomCreation::Admins => Creators::People(settings.admins.clone()),
    };
    Creation {
        creators,
        rooms_per_person: settings.rooms.per_account,
    }
}

/// The demo's person, with a password that is kept and the bot in the roster.
async fn person(config: &Config, server: &Server, bot: Option<&BareJid>) -> Result<Demo> {
    let jid: BareJid = demo::PERSON
        .parse()
        .context("The demo's address is wrong")?;
    let secrets = Secrets::in_directory(&config.data_dir);
    let name = NodePart::new(jid.node().map_or("", |node| node.as_str()))
        .context("The demo's address is wrong")?;
    let saved = secrets
        .get(&jid)
        .context("Failed to read the demo's password")?;
    let password = if let Some(saved) = saved {
        saved.password
    } else {
        let password = generated()?;
        secrets
            .add(&jid, &password)
            .context("Failed to keep the demo's password")?;
        password
    };
    let accounts = server.accounts();
    accounts
        .provide(&name)
        .await
        .context("Failed to make the demo's account")?;
    accounts
        .set_password(&name, password.clone(), None)
        .await
        .context("Failed to set the demo's password")?;
    secrets
        .confirm(&jid)
        .context("Failed to keep the demo's password")?;
    if let Some(bot) = bot {
        let befriended = server
            .befriend(&jid, "You", bot, &config.identity.name)
            .await;
        befriended.map_err(|error| anyhow::anyhow!("{:?}", error.condition))?;
    }
    Ok(Demo { jid, password })
}

impl Prepared {
    /// Lets people in.
    pub(super) fn serve(self, supervisor: &Supervisor) -> Home {
        let Self {
            home,
            listeners,
            proxy,
        } = self;
        if let Some(proxy) = proxy {
            supervisor.spawn(Phase::Listeners, "server/proxy", |stop| proxy.serve(stop));
        }
        let streams = home.streams.clone();
        supervisor.spawn(Phase::Streams, "server/c2s", |stop| {
            listener::serve(listeners, streams, stop)
        });
        if let Some(federation) = home.server.federation().cloned() {
            let server = home.server.clone();
            supervisor.spawn(Phase::Streams, "server/s2s", |stop| {
                federation.serve(server, stop)
            });
        }
        let certificates = home.certificates.clone();
        supervisor.spawn(Phase::Listeners, "server/certificate", |stop| {
            certificates.maintain(stop)
        });
        let server = home.server.clone();
        supervisor.spawn(Phase::Storage, "server/accounts", |stop| {
            server.accounts().clone().keep(stop)
        });
        // Told while there are streams to tell it over (XEP-0045, 332).
        let (people, rooms) = (People(home.server.clone()), Arc::clone(&home.rooms));
        supervisor.spawn(Phase::Sessions, "server/rooms", |stop| async move {
            stop.cancelled().await;
            rooms.stop(&people).await;
            Ok(())
        });
        let server = home.server.clone();
        supervisor.spawn(Phase::Listeners, "server/archive", |stop| {
            feature::archive::maintain(server, stop)
        });
        let server = home.server.clone();
        supervisor.spawn(Phase::Listeners, "server/block-lists", |stop| {
            feature::block_lists::maintain(server, stop)
        });
        let server = home.server.clone();
        supervisor.spawn(Phase::Listeners, "server/push", |stop| {
            feature::push::maintain(server, stop)
        });
        let (server, uploads) = (home.server.clone(), home.uploads.clone());
        supervisor.spawn(Phase::Listeners, "server/uploads", |stop| {
            upload::maintain(server, uploads, stop)
        });
        home
    }
}

impl Home {
    /// How the gateway's accounts reach the server.
    pub(super) fn pipes(&self) -> Pipes {
        let streams = self.streams.clone();
        Arc::new(move |jid: &BareJid| {
            let (streams, jid) = (streams.clone(), jid.clone());
            Arc::new(move || {
                let (streams, jid) = (streams.clone(), jid.clone());
                Box::pin(async move { streams.connect_local(&jid) })
            })
        })
    }

    /// What HTTP shows of the server, whose WebSockets are streams like the others.
    pub(super) fn web(&self, config: &Config, supervisor: &Supervisor) -> EmbeddedServer {
        let limit = config.xmpp_server.limits.stanza_bytes;
        let (websocket, waiting) = websocket::service(limit);
        let streams = self.streams.clone();
        supervisor.spawn(Phase::Streams, "server/websocket", |stop| async move {
            let ending = stop.clone();
            let serve = Arc::new(
                move |socket: Messages, peer: Peer| -> BoxFuture<'static, ()> {
                    let (streams, stop) = (streams.clone(), ending.clone());
                    Box::pin(async move {
                        let (line, address) = (socket.line(), peer.address.ip());
                        streams
                            .serve_websocket(Box::new(socket), line, address, peer.secure, stop)
                            .await;
                    })
                },
            );
            websocket::run(serve, waiting, stop).await;
            Ok(())
        });
        EmbeddedServer {
            web_chat: WebChat {
                title: config.identity.name.clone(),
                domain: self.server.domain().to_owned(),
                rooms: Some(config.xmpp_server.muc_host.clone()),
                bot: self.bot.clone(),
                demo: self.demo.clone(),
            },
            websocket,
            uploads: self.uploads.clone(),
            tls: Arc::clone(&self.https),
            server: self.server.clone(),
            challenge: {
                let certificates = self.certificates.clone();
                Arc::new(move |token: &str| certificates.http_challenge(token))
            },
        }
    }

    /// While nobody has an account: an invitation that makes the first one admin, and operator of the bots. One that an
    /// earlier start has printed ends.
    pub(super) async fn first_invitation(&self) -> Option<Made> {
        if self.server.has_people() || !self.server.may_invite_to_accounts() {
            return None;
        }
        let invitation = Invitation {
            operator: true,
            ..Invitation::new()
        };
        let invitations = self.server.invitations();
        let made = match invitations.forget_operators().await {
            Ok(()) => invitations.make(invitation).await,
            Err(error) => Err(error),
        };
        made.inspect_err(|error| {
            error!(condition = ?error.condition, "No first invitation could be made");
        })
        .ok()
    }

    /// Follows the first invitation: whoever came by it becomes operator of the bots that live here.
    pub(super) fn promote(
        &self,
        access: Arc<Access>,
        running: Arc<OnceLock<Running>>,
        live: watch::Receiver<Arc<Config>>,
    ) {
        self.server.accounts().observe(Arc::new(move |jid, change| {
            let (access, running) = (Arc::clone(&access), Arc::clone(&running));
            let config = Arc::clone(&live.borrow());
            Box::pin(async move {
                if change != Change::Promoted {
                    return;
                }
                let bots = config.channels.xmpp.iter();
                for (id, _) in bots.filter(|(_, account)| account.local) {
                    let granted = access.grant(id, &jid, Grant::Operator, "the first invitation");
                    if let Err(err) = granted.await {
                        error!(%jid, account = id, "The first account is no operator: {err}");
                        continue;
                    }
                    // The code in the log is of no more use.
                    if let Some(claim) = running.get().and_then(|running| running.claim_of(id)) {
                        claim.close();
                    }
                }
            })
        }));
    }

    /// What a reload changes without a restart.
    pub(super) async fn apply(&self, config: &Config) {
        self.server
            .set_settings(Arc::new(config.xmpp_server.clone()));
        self.uploads.set_rules(Rules::of(config));
        self.rooms.set_creation(creation(&config.xmpp_server));
        if let Err(err) = provide(self.server.accounts(), config).await {
            error!("A bot cannot live here: {err:#}");
        }
    }

    /// The other servers.
    pub(super) fn peers(&self) -> Vec<Row> {
        self.server
            .federation()
            .map(Federation::rows)
            .unwrap_or_default()
    }

    /// One line of the status page.
    pub(super) fn service(&self) -> status::Service {
        let settings = self.server.settings();
        let port = match (settings.c2s_port, settings.c2s_tls_port) {
            (0, 0) => String::new(),
            (0, port) | (port, _) => format!(":{port}"),
        };
        status::Service {
            name: "XMPP Server".to_owned(),
            status: true,
            details: format!(
                "{}{port} ({} sessions)",
                settings.domain,
                self.server.sessions().len()
            ),
        }
    }
}
