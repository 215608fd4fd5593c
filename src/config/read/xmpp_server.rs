//! `[xmpp_server]`: the embedded server and its bots.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jid::BareJid;

use super::account;
use crate::config::errors::hint;
use crate::config::pattern::bare;
use crate::config::reading::{Reading, readable};
use crate::config::section::Section;
use crate::config::setting::quoted;
use crate::config::tree::Origin;
use crate::config::{
    Account, BlockList, Certificate, ExternalService, Federation, Limits, PeerAuthentication,
    PushSummary, Registration, RoomCreation, Rooms, SharedGroup, Upload, Welcome, XmppServer,
};

/// Built by later issues.
const LATER: &[&str] = &["storage", "database_url"];

/// The bots with where each is written.
pub(super) type Bots = BTreeMap<String, (Account, Origin)>;

pub(super) fn xmpp_server(
    root: &mut Section<'_>,
    names: &BTreeSet<String>,
    identity: &str,
) -> (XmppServer, Bots) {
    let mut section = root.section("xmpp_server");
    let origin = section.origin.clone();
    let mut server = XmppServer {
        enabled: section.boolean("enabled", false),
        ..XmppServer::default()
    };
    server.domain = section.checked("domain", "", |text| {
        if text.is_empty() {
            return Ok(());
        }
        domain(text).map(|_| ())
    });
    server.domain = domain(&server.domain).unwrap_or_default();
    if server.enabled && server.domain.is_empty() && section.written("domain").is_none() {
        let origin = section.written("enabled").unwrap_or(origin);
        section.fault(
            "domain",
            &origin,
            "is required, as domain = \"example.org\"",
        );
    }
    listeners(&mut section, &mut server);
    policy(&mut section, &mut server);
    upload(&mut section, &mut server.upload);
    server.external_services = external_services(&mut section);
    federation(&mut section, &mut server.federation);
    limits(&mut section, &mut server.limits);
    let bots = bots(&mut section, &server, names, identity);
    welcome(&mut section, &mut server, &bots);
    section.later(LATER);
    section.finish();
    (server, bots)
}

/// A domain as it is compared.
fn domain(text: &str) -> Result<String, String> {
    let jid = bare(text)?;
    if jid.node().is_some() {
        return Err("must be a domain, as example.org".to_owned());
    }
    Ok(jid.domain().to_string())
}

fn listeners(section: &mut Section<'_>, server: &mut XmppServer) {
    server.bind = section.list("bind", &["0.0.0.0", "::"], |text| {
        text.parse::<IpAddr>()
            .map_err(|_malformed| "must be an IP address, as 127.0.0.1".to_owned())
    });
    server.c2s_port = section.integer("c2s_port", server.c2s_port, 0..=u16::MAX);
    server.c2s_tls_port = section.integer("c2s_tls_port", server.c2s_tls_port, 0..=u16::MAX);
    server.s2s_port = section.integer("s2s_port", server.s2s_port, 0..=u16::MAX);
    server.s2s_tls_port = section.integer("s2s_tls_port", server.s2s_tls_port, 0..=u16::MAX);
    let plaintext = section.written("allow_plaintext");
    server.allow_plaintext = section.boolean("allow_plaintext", false);
    if server.allow_plaintext
        && !server.bind.iter().all(IpAddr::is_loopback)
        && let Some(origin) = plaintext
    {
        section.fault(
            "allow_plaintext",
            &origin,
            "is for tests on loopback alone; set bind = [\"127.0.0.1\"] too",
        );
    }
    certificate(section, server);
}

fn certificate(section: &mut Section<'_>, server: &mut XmppServer) {
    let acme = ["acme_directory", "acme_ca_file"];
    let acme = acme.map(|key| (key, section.written(key)));
    server.acme_directory = section.checked("acme_directory", &server.acme_directory, |text| {
        match url::Url::parse(text) {
            // RFC 8555, 6.1.
            Ok(url) if url.scheme() == "https" => Ok(()),
            _ => Err("must be a URL that begins with https://".to_owned()),
        }
    });
    server.acme_ca_file = section.path("acme_ca_file");
    let certificate = section.written("certificate");
    let file = section.checked("certificate", "auto", |_| Ok(()));
    let written_key = section.written("key");
    let key = section.path("key");
    if file == "auto" {
        if let (Some(origin), Some(_)) = (written_key, &key) {
            let message = "acts only with a certificate file, as certificate = \"fullchain.pem\"";
            section.fault("key", &origin, message);
        }
        return;
    }
    for (key, origin) in acme {
        if let Some(origin) = origin {
            section.fault(key, &origin, "acts only with certificate = \"auto\"");
        }
    }
    let origin = certificate.unwrap_or(Origin::Default);
    let path = section.reading.resolve(&file);
    match (path.and_then(|path| readable(&path).map(|()| path)), key) {
        (Ok(certificate), Some(key)) => {
            server.certificate = Certificate::Files { certificate, key };
        }
        (Ok(_), None) => section.fault(
            "certificate",
            &origin,
            "needs its private key, as key = \"privkey.pem\"",
        ),
        (Err(message), _) => section.fault("certificate", &origin, message),
    }
}

fn policy(section: &mut Section<'_>, server: &mut XmppServer) {
    server.admins = section.list("admins", &[], |text| {
        let jid = bare(text)?;
        if jid.node().is_none() {
            return Err("must be an address like admin@example.org".to_owned());
        }
        Ok(jid)
    });
    server.registration = section.word(
        "registration",
        server.registration,
        &[
            ("closed", Registration::Closed),
            ("invite", Registration::Invite),
            ("open", Registration::Open),
        ],
    );
    server.archive_days = section.integer("archive_days", server.archive_days, 0..=36_500);
    hosts(section, server);
    server.push_summary = section.word(
        "push_summary",
        server.push_summary,
        &[
            ("none", PushSummary::None),
            ("sender", PushSummary::Sender),
            ("body", PushSummary::Body),
        ],
    );
    components(section, server);
    shared_groups(section, server);
    rooms(section, &mut server.rooms);
    let mut contact = section.section("contact");
    for kind in [
        "abuse", "admin", "feedback", "sales", "security", "status", "support",
    ] {
        let addresses = contact.list(kind, &[], |text| match url::Url::parse(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("must be a URI, as mailto:admin@example.org".to_owned()),
        });
        if !addresses.is_empty() {
            server.contact.insert(kind.to_owned(), addresses);
        }
    }
    contact.finish();
    block_lists(section, server);
}

fn block_lists(section: &mut Section<'_>, server: &mut XmppServer) {
    for mut table in section.tables("block_lists") {
        let origin = table.written("service").unwrap_or(table.origin.clone());
        let service = table.parsed("service", bare);
        let node = table.string("node", "muc_bans_sha256");
        match service {
            None => table.fault(
                "service",
                &origin,
                "is required, as service = \"xmppbl.org\"",
            ),
            Some(service) => {
                let list = BlockList { service, node };
                if server.block_lists.contains(&list) {
                    table.fault("node", &origin, "is read already");
                } else {
                    server.block_lists.push(list);
                }
            }
        }
        table.finish();
    }
}

type Field = fn(&mut XmppServer) -> &mut String;

/// The services' addresses, none of them another's.
fn hosts(section: &mut Section<'_>, server: &mut XmppServer) {
    let rows: [(&str, &str, Field); 4] = [
        ("muc_host", "conference", |server| &mut server.muc_host),
        ("pubsub_host", "pubsub", |server| &mut server.pubsub_host),
        ("upload_host", "upload", |server| &mut server.upload_host),
        // Off, unless it is written.
        ("proxy_host", "", |server| &mut server.proxy_host),
    ];
    let mut taken = BTreeMap::from([(server.domain.clone(), "domain")]);
    for (key, prefix, field) in rows {
        let written = section.written(key);
        let host = section.checked(key, "", |text| {
            if text.is_empty() {
                return Ok(());
            }
            domain(text).map(|_| ())
        });
        let default = if server.domain.is_empty() || prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}.{}", server.domain)
        };
        let host = domain(&host).unwrap_or(default);
        if !host.is_empty()
            && let Some(other) = taken.insert(host.clone(), key)
        {
            let origin = written.unwrap_or(Origin::Default);
            section.fault(key, &origin, format!("must be another name than {other}"));
        }
        *field(server) = host;
    }
    server.proxy_port = section.integer("proxy_port", server.proxy_port, 1..=u16::MAX);
}

/// XEP-0114. What cannot act is refused: a component without a port, a port without a component.
fn components(section: &mut Section<'_>, server: &mut XmppServer) {
    let keys = ["component_port", "component_bind"];
    let written = keys.map(|key| (key, section.written(key)));
    server.component_port = section.integer("component_port", server.component_port, 0..=u16::MAX);
    server.component_bind = section.list("component_bind", &["127.0.0.1", "::1"], |text| {
        text.parse::<IpAddr>()
            .map_err(|_malformed| "must be an IP address, as 127.0.0.1".to_owned())
    });
    let services = [
        &server.domain,
        &server.muc_host,
        &server.pubsub_host,
        &server.upload_host,
        &server.proxy_host,
    ];
    let mut taken: BTreeSet<String> = services.into_iter().cloned().collect();
    let tables = section.tables("components");
    let is_listed = !tables.is_empty();
    for mut table in tables {
        let origin = table.written("domain").unwrap_or(table.origin.clone());
        let name = table.checked("domain", "", |text| domain(text).map(|_| ()));
        let name = domain(&name).unwrap_or_default();
        let secret = table.secret("secret");
        if name.is_empty() {
            table.fault(
                "domain",
                &origin,
                "is required, as domain = \"irc.example.org\"",
            );
        } else if !taken.insert(name.clone()) {
            table.fault("domain", &origin, "is that of another service");
        }
        match secret {
            Some(secret) => drop(server.components.insert(name, secret)),
            None => table.fault("secret", &origin, "is required"),
        }
        if server.component_port == 0 {
            table.fault("domain", &origin, "acts only with component_port");
        }
        table.finish();
    }
    for (key, origin) in written {
        if let Some(origin) = origin.filter(|_| !is_listed) {
            section.fault(key, &origin, "acts only with [[xmpp_server.components]]");
        }
    }
}

fn upload(section: &mut Section<'_>, upload: &mut Upload) {
    let mut table = section.section("upload");
    upload.max_mb = table.integer("max_mb", upload.max_mb, 1..=100_000);
    upload.daily_quota_mb = table.integer("daily_quota_mb", upload.daily_quota_mb, 0..=10_000_000);
    upload.expire_days = table.integer("expire_days", upload.expire_days, 0..=36_500);
    upload.allowed_types = table.list("allowed_types", &[], |text| {
        let fault = || "must be like image/png or image/*".to_owned();
        let kind: mime::Mime = text.parse().map_err(|_malformed| fault())?;
        let is_plain = kind.params().next().is_none() && kind.type_() != mime::STAR;
        is_plain
            .then(|| kind.essence_str().to_owned())
            .ok_or_else(fault)
    });
    table.finish();
}

fn external_services(section: &mut Section<'_>) -> Vec<ExternalService> {
    let mut services = Vec::new();
    for mut table in section.tables("external_services") {
        let origin = table.origin.clone();
        let mut required = |key: &str, example: &str| {
            let text = table.string(key, "");
            if text.is_empty() {
                let message = format!("is required, as {key} = \"{example}\"");
                table.fault(key, &origin, message);
            }
            text
        };
        let kind = required("type", "turn");
        let host = required("host", "turn.example.org");
        services.push(ExternalService {
            kind,
            host,
            port: table.integer("port", 3478, 1..=u16::MAX),
            transport: table.string("transport", "udp"),
            secret: table.secret("secret"),
        });
        table.finish();
    }
    services
}

fn rooms(section: &mut Section<'_>, rooms: &mut Rooms) {
    let mut table = section.section("rooms");
    rooms.creation = table.word(
        "creation",
        rooms.creation,
        &[
            ("local", RoomCreation::Local),
            ("anyone", RoomCreation::Anyone),
            ("admins", RoomCreation::Admins),
        ],
    );
    rooms.per_account = table.integer("per_account", rooms.per_account, 0..=1_000_000);
    table.finish();
}

fn welcome(section: &mut Section<'_>, server: &mut XmppServer, bots: &Bots) {
    let at = |host: &str, text: &str| {
        let host = if host.is_empty() {
            "moltis.invalid"
        } else {
            host
        };
        let jid = if text.contains('@') {
            bare(text)?
        } else {
            bare(&format!("{text}@{host}"))?
        };
        if jid.domain().as_str() == host && jid.node().is_some() {
            Ok(jid)
        } else {
            Err(format!("must be a name at {host}"))
        }
    };
    let mut welcome = section.section("welcome");
    server.welcome = Welcome {
        bot: welcome.parsed("bot", |text| {
            let bot = at(&server.domain, text)?;
            if bots.values().any(|(account, _)| account.jid == bot) {
                return Ok(bot);
            }
            let names: Vec<&str> = bots.keys().map(String::as_str).collect();
            Err(format!(
                "must be the name of a bot that has a table [xmpp_server.bots.<name>]{}",
                hint(text, &names)
            ))
        }),
        room: welcome.parsed("room", |text| at(&server.muc_host, text)),
        message: welcome.string("message", ""),
    };
    welcome.finish();
}

fn shared_groups(section: &mut Section<'_>, server: &mut XmppServer) {
    let at = server.domain.clone();
    for mut table in section.tables("shared_groups") {
        let origin = table.written("name").unwrap_or(table.origin.clone());
        let name = table.checked("name", "", |text| match text.len() {
            0 => Err("must not be empty".to_owned()),
            1..=1_023 => Ok(()),
            _ => Err("must be shorter".to_owned()),
        });
        let members = table.list("members", &["*"], |text| match text {
            "*" => Ok(None),
            text => member(text, &at).map(Some),
        });
        let is_taken = server.shared_groups.iter().any(|group| group.name == name);
        if name.is_empty() {
            table.fault("name", &origin, "is required, as name = \"Family\"");
        } else if is_taken {
            table.fault("name", &origin, "is that of another group");
        }
        let everybody = members.iter().any(Option::is_none);
        let members = members.into_iter().flatten().collect();
        server.shared_groups.push(SharedGroup {
            name,
            members: (!everybody).then_some(members),
        });
        table.finish();
    }
}

/// An account by its name or its address.
fn member(text: &str, domain: &str) -> Result<BareJid, String> {
    let jid = if text.contains('@') {
        bare(text)?
    } else {
        bare(&format!("{text}@{domain}"))?
    };
    if jid.node().is_some() && jid.domain().as_str() == domain {
        Ok(jid)
    } else {
        Err(format!("must be \"*\" or a name at {domain}"))
    }
}

fn federation(section: &mut Section<'_>, federation: &mut Federation) {
    let mut table = section.section("federation");
    federation.enabled = table.boolean("enabled", federation.enabled);
    let plain = table.written("require_encryption");
    federation.require_encryption =
        table.boolean("require_encryption", federation.require_encryption);
    federation.authentication = table.word(
        "authentication",
        federation.authentication,
        &[
            ("certificate", PeerAuthentication::Certificate),
            ("dialback", PeerAuthentication::Dialback),
        ],
    );
    // Without TLS there is no certificate.
    if !federation.require_encryption
        && federation.authentication == PeerAuthentication::Certificate
        && let Some(origin) = plain
    {
        let message = "acts only with authentication = \"dialback\"";
        table.fault("require_encryption", &origin, message);
    }
    federation.allow = table.list("allow", &[], domain);
    federation.deny = table.list("deny", &[], domain);
    table.finish();
}

fn limits(section: &mut Section<'_>, limits: &mut Limits) {
    let mut table = section.section("limits");
    limits.c2s_bytes_per_second = table.integer(
        "c2s_bytes_per_second",
        limits.c2s_bytes_per_second,
        0..=1_000_000_000,
    );
    limits.s2s_bytes_per_second = table.integer(
        "s2s_bytes_per_second",
        limits.s2s_bytes_per_second,
        0..=1_000_000_000,
    );
    // RFC 6120, 13.12: at least 10,000 bytes.
    limits.stanza_bytes = table.integer("stanza_bytes", limits.stanza_bytes, 10_000..=16_777_216);
    limits.s2s_stanza_bytes = table.integer(
        "s2s_stanza_bytes",
        limits.s2s_stanza_bytes,
        10_000..=16_777_216,
    );
    limits.preauth_bytes = table.integer("preauth_bytes", limits.preauth_bytes, 4_096..=65_536);
    limits.preauth_elements = table.integer("preauth_elements", limits.preauth_elements, 8..=1_000);
    limits.sessions_per_user =
        table.integer("sessions_per_user", limits.sessions_per_user, 1..=10_000);
    limits.connections_per_ip = table.integer(
        "connections_per_ip",
        limits.connections_per_ip,
        1..=1_000_000,
    );
    limits.login_failures_per_ip = table.integer(
        "login_failures_per_ip",
        limits.login_failures_per_ip,
        1..=1_000_000,
    );
    limits.registrations_per_ip_per_hour = table.integer(
        "registrations_per_ip_per_hour",
        limits.registrations_per_ip_per_hour,
        0..=1_000_000,
    );
    limits.offline_messages =
        table.integer("offline_messages", limits.offline_messages, 0..=1_000_000);
    table.finish();
}

fn bots(
    section: &mut Section<'_>,
    server: &XmppServer,
    names: &BTreeSet<String>,
    identity: &str,
) -> Bots {
    let mut bots = Bots::new();
    for (name, section) in section.sections("bots") {
        let origin = section.origin.clone();
        let domain = if server.domain.is_empty() {
            "moltis.invalid"
        } else {
            &server.domain
        };
        if let Ok(jid) = bare(&format!("{name}@{domain}")) {
            let account = account::bot(section, jid, names, identity);
            bots.insert(name, (account, origin));
        } else {
            let message = format!(
                "[xmpp_server.bots.{}]: the name of a bot is the local part of its address, as helper",
                quoted(&name)
            );
            section.reading.problem(&origin, message);
        }
    }
    bots
}

/// Puts the bots among the accounts, and finds those that are at home here.
pub(super) fn settle(
    reading: &Reading,
    server: &mut XmppServer,
    accounts: &mut BTreeMap<String, Account>,
    bots: Bots,
) {
    if !server.enabled {
        return;
    }
    for account in accounts.values_mut() {
        account.local = account.jid.node().is_some()
            && account.jid.domain().as_str() == server.domain
            && account.server.is_none();
    }
    let mut taken: BTreeSet<BareJid> = accounts
        .values()
        .map(|account| account.jid.clone())
        .collect();
    for (name, (account, origin)) in bots {
        if accounts.contains_key(&name) || !taken.insert(account.jid.clone()) {
            let message = format!(
                "[xmpp_server.bots.{0}] is an account that [channels.xmpp.{0}] or another table has already",
                quoted(&name)
            );
            reading.problem(&origin, message);
            continue;
        }
        accounts.insert(name, account);
    }
    let local = accounts.values().filter(|account| account.local);
    server.bots = local.map(|account| account.jid.clone()).collect();
}
