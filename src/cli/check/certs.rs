//! `moltis check certs`: the certificate of the embedded server, whether others trust it, and what its ports show.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::{Finding, Level};
use crate::cli::control;
use crate::config::{Config, XmppServer};
use crate::server::certificate::{self, Facts, Origin, date};
use crate::xmpp::{connector, tls};

const PART: &str = "certs";
/// How long a port on this machine may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long after the time for it a renewal is late.
const LATE: time::Duration = time::Duration::days(3);

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let server = &config.xmpp_server;
    if !server.enabled {
        let message = "There is no server here that needs a certificate";
        return vec![Finding::new(PART, Level::Ok, message)];
    }
    let settings = certificate::Settings::new(server, &config.data_dir);
    let is_ordered = !settings.ordered().is_empty();
    let looked = spawn_blocking(move || Look::at(&settings)).await;
    match looked {
        Ok(Ok(Some(look))) => {
            let mut findings = facts(&look.facts, OffsetDateTime::now_utc());
            findings.push(trust(&look));
            findings.extend(ports(config, server, &look).await);
            findings
        }
        Ok(Ok(None)) => vec![nothing(is_ordered)],
        Ok(Err(err)) => vec![Finding::new(PART, Level::Problem, err.to_string())],
        Err(err) => vec![Finding::new(PART, Level::Problem, err.to_string())],
    }
}

/// What would be served.
struct Look {
    domain: String,
    facts: Facts,
    /// Why no root of this system vouches for it.
    distrust: Option<String>,
}

impl Look {
    fn at(settings: &certificate::Settings) -> Result<Option<Self>, certificate::Error> {
        let (Some(facts), Some(chain)) = (settings.inspect()?, settings.chain()?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            domain: settings.domain.clone(),
            facts,
            distrust: tls::vouch(&chain, &settings.domain)
                .err()
                .map(|err| err.to_string()),
        }))
    }
}

fn nothing(is_ordered: bool) -> Finding {
    let message = if is_ordered {
        "There is no certificate yet; `moltis run` orders one, for which the authority looks at port 443 or 80 of the domain"
    } else {
        "There is no certificate yet; `moltis run` makes one for itself"
    };
    Finding::new(PART, Level::Warning, message)
}

fn facts(facts: &Facts, now: OffsetDateTime) -> Vec<Finding> {
    let issuer = match facts.origin {
        Origin::SelfSigned => "made by moltis".to_owned(),
        Origin::File | Origin::Acme => format!("issued by {}", facts.issuer),
    };
    let until = date(facts.not_after);
    let message = format!("{}: {issuer}, until {until}", facts.names.join(", "));
    let mut findings = vec![Finding::new(PART, Level::Ok, message)];
    let warnings = facts.warnings(now).into_iter();
    findings.extend(warnings.map(|message| Finding::new(PART, Level::Warning, message)));
    let is_late = facts.origin == Origin::Acme && now > facts.renewal() + LATE;
    if is_late {
        let message = format!(
            "The certificate should have been renewed on {}; let moltis run, and look into its log for what the authority says",
            date(facts.renewal())
        );
        findings.push(Finding::new(PART, Level::Warning, message));
    }
    findings
}

fn trust(look: &Look) -> Finding {
    let Some(reason) = &look.distrust else {
        let message = "The roots of this system vouch for it";
        return Finding::new(PART, Level::Ok, message);
    };
    let message = if look.facts.origin == Origin::SelfSigned {
        format!(
            "Only who is told to trusts it; its fingerprint is {}",
            look.facts.fingerprint
        )
    } else {
        format!("The roots of this system do not vouch for it: {reason}")
    };
    Finding::new(PART, Level::Warning, message)
}

/// What the ports of the running process show.
async fn ports(config: &Config, server: &XmppServer, look: &Look) -> Vec<Finding> {
    match control::ask_if_running(&config.data_dir, "status").await {
        Ok(Some(_)) => {}
        Ok(None) => {
            let message = "No moltis is running, so no port was asked what it shows";
            return vec![Finding::new(PART, Level::Ok, message)];
        }
        Err(err) => return vec![Finding::new(PART, Level::Problem, format!("{err:#}"))],
    }
    let host = server
        .bind
        .first()
        .copied()
        .map_or(Ipv4Addr::LOCALHOST.into(), near);
    let mut findings = Vec::new();
    for (port, direct_tls) in [(server.c2s_port, false), (server.c2s_tls_port, true)] {
        if port == 0 {
            continue;
        }
        let shown = shown(host, port, &look.domain, direct_tls);
        let shown = tokio::time::timeout(PATIENCE, shown)
            .await
            .context("it does not answer")
            .flatten();
        findings.push(port_shows(port, shown, look));
    }
    findings
}

/// How this machine reaches what listens on an address.
fn near(bind: IpAddr) -> IpAddr {
    match bind {
        IpAddr::V4(four) if four.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(six) if six.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

async fn shown(host: IpAddr, port: u16, domain: &str, direct_tls: bool) -> Result<Facts> {
    let mut tcp = TcpStream::connect((host, port)).await?;
    if !direct_tls {
        tcp = connector::start_tls(tcp, domain).await?;
    }
    // Whatever it is: we want to see it.
    let anything = tls::client_config(false, None, direct_tls)?;
    let stream = tls::handshake(tcp, domain, anything).await?;
    let (_, connection) = stream.get_ref();
    let chain: &[CertificateDer<'_>] = connection.peer_certificates().unwrap_or_default();
    Facts::read(chain, Origin::File, Vec::new()).map_err(anyhow::Error::msg)
}

fn port_shows(port: u16, shown: Result<Facts>, look: &Look) -> Finding {
    match shown {
        Ok(facts) if facts.fingerprint == look.facts.fingerprint => {
            Finding::new(PART, Level::Ok, format!("Port {port} shows it"))
        }
        Ok(facts) => {
            let message = format!(
                "Port {port} shows another certificate, for {} by {} until {}; `moltis reload` takes up a new one",
                facts.names.join(", "),
                facts.issuer,
                date(facts.not_after)
            );
            Finding::new(PART, Level::Warning, message)
        }
        Err(err) => {
            let message = format!("Port {port} shows no certificate: {err:#}; look into the log");
            Finding::new(PART, Level::Problem, message)
        }
    }
}
