//! `moltis check dns`: whether others find the embedded server, with the lines that its zone should have; and whether the
//! bots find theirs.

mod judge;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::join_all;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::{Finding, Level};
use crate::config::{Account, Config, XmppServer};
use crate::server::certificate;
use crate::xmpp::dns::{Answer, Error, Kind, Resolver, Service, Target, is_local, tlsa};
use crate::xmpp::{is_own, local_addresses};
use judge::Need;
use zone::Wanted;

const PART: &str = "dns";

pub(super) async fn check(config: &Config, resolver: &Resolver) -> Vec<Finding> {
    let mut findings = Vec::new();
    let accounts = config.channels.xmpp.values();
    let away: Vec<&Account> = accounts
        .filter(|account| account.enabled && !account.local)
        .collect();
    let server = Some(&config.xmpp_server).filter(|server| server.enabled);
    let asked = server
        .map(|server| server.domain.as_str())
        .filter(|domain| !is_local(domain));
    let asked = asked.or_else(|| away.first().map(|account| account.jid.domain().as_str()));
    // Said once, rather than for each name.
    if let Some(asked) = asked
        && let Err(err @ Error::NoResolver(_)) = resolver.lookup(asked, Kind::A).await
    {
        return vec![Finding::new(PART, Level::Problem, err.to_string())];
    }
    if let Some(server) = server {
        findings.extend(own(config, server, resolver).await);
    }
    let bots = away.into_iter().map(|account| bot(account, resolver));
    findings.extend(join_all(bots).await);
    if findings.is_empty() {
        let message = "There is no server here and no account elsewhere: nothing to look up";
        findings.push(Finding::new(PART, Level::Ok, message));
    }
    findings
}

async fn own(config: &Config, server: &XmppServer, resolver: &Resolver) -> Vec<Finding> {
    let domain = &server.domain;
    if is_local(domain) {
        let message = format!("{domain} is found without DNS");
        return vec![Finding::new(PART, Level::Ok, message)];
    }
    let settings = certificate::Settings::new(server, &config.data_dir);
    let look = Look {
        resolver,
        wanted: zone::wanted(server),
        certified: settings.ordered(),
        // What is wrong with it is said by `moltis check certs`.
        chain: settings.chain().ok().flatten().unwrap_or_default(),
        own: local_addresses().into_iter().flatten().collect(),
    };
    let mut findings = look.findings().await;
    findings.extend(web(config, domain));
    findings
}

/// What is looked up about a server.
struct Look<'a> {
    resolver: &'a Resolver,
    wanted: Vec<Wanted>,
    /// The names for which an authority is asked for a certificate.
    certified: Vec<String>,
    chain: Vec<CertificateDer<'static>>,
    /// The addresses from which this machine reaches others.
    own: Vec<IpAddr>,
}

type Outcome = Result<Arc<Answer>, Error>;

impl Look<'_> {
    async fn findings(&self) -> Vec<Finding> {
        let owners = self.wanted.iter().map(Wanted::owner);
        let lookups = owners.map(async |owner| self.resolver.lookup(&owner, Kind::Srv).await);
        let outcomes: Vec<Outcome> = join_all(lookups).await;
        let services: Vec<_> = self.wanted.iter().zip(&outcomes).collect();
        let reached = self.reached(&services).await;
        let main = main(&services);
        let mut findings = Vec::new();
        for (wanted, outcome) in &services {
            let has_address = reached.contains(&wanted.host);
            let judged = judge::service(wanted, outcome.as_deref(), has_address);
            let target = target(outcome).unwrap_or_else(|| main.clone());
            let line = wanted.line(&target);
            findings.extend(judged.map(|judged| finding(judged).with_zone(vec![line])));
        }
        let hosts = needs(&services, &main, &self.certified).into_iter();
        findings.extend(join_all(hosts.map(|(host, need)| self.host(host, need))).await);
        let ports = ports(&services, &main).into_iter();
        let associations = ports.map(|(host, port)| self.association(host, port));
        findings.extend(join_all(associations).await.into_iter().flatten());
        findings
    }

    /// Which of the hosts that no record speaks of have an address: they are tried themselves.
    async fn reached(&self, services: &[(&Wanted, &Outcome)]) -> BTreeSet<String> {
        let silent = services.iter().filter(|(_, outcome)| {
            let answer = outcome.as_ref().ok();
            answer.is_some_and(|answer| answer.services().next().is_none())
        });
        let hosts: BTreeSet<String> = silent.map(|(wanted, _)| wanted.host.clone()).collect();
        let look = async |host: String| (self.resolver.addresses(&host).await.is_ok(), host);
        let found = join_all(hosts.into_iter().map(look)).await.into_iter();
        found
            .filter_map(|(found, host)| found.then_some(host))
            .collect()
    }

    async fn host(&self, host: String, need: Need) -> Finding {
        let (four, six) = tokio::join!(
            self.resolver.lookup(&host, Kind::A),
            self.resolver.lookup(&host, Kind::Aaaa)
        );
        let found = [&four, &six].into_iter().flatten();
        let own: Vec<IpAddr> = found
            .flat_map(|answer| answer.addresses())
            .filter(|address| is_own(*address))
            .collect();
        let judged = judge::host(&host, need, [four.as_deref(), six.as_deref()], &own);
        let lines = [(Kind::A, &four), (Kind::Aaaa, &six)]
            .into_iter()
            .flat_map(|(kind, outcome)| {
                let found = outcome.iter().flat_map(|answer| answer.addresses());
                found.map(move |address| (kind, address.to_string()))
            })
            .collect::<Vec<_>>();
        let lines = if lines.is_empty() {
            self.places()
        } else {
            lines
        };
        let lines = lines
            .into_iter()
            .map(|(kind, address)| zone::address(&host, kind, &address));
        finding(judged).with_zone(lines.collect())
    }

    /// The addresses of this machine, where they are such as others reach, else what to put there.
    fn places(&self) -> Vec<(Kind, String)> {
        let public = self.own.iter().filter(|address| is_public(**address));
        let public: Vec<(Kind, String)> = public
            .map(|address| {
                let kind = if address.is_ipv4() {
                    Kind::A
                } else {
                    Kind::Aaaa
                };
                (kind, address.to_string())
            })
            .collect();
        if public.is_empty() {
            return vec![(Kind::A, "<the public address of this machine>".to_owned())];
        }
        public
    }

    async fn association(&self, host: String, port: u16) -> Option<Finding> {
        let record = tlsa::Record::of(self.chain.first()?)?;
        let owner = tlsa::owner(&host, port);
        let outcome = self.resolver.lookup(&owner, Kind::Tlsa).await;
        let published: Vec<tlsa::Record> = outcome
            .iter()
            .flat_map(|answer| answer.associations().cloned())
            .collect();
        let names: Vec<&str> = self.wanted.iter().map(|it| it.host.as_str()).collect();
        let names = [names.as_slice(), &[host.as_str()]].concat();
        let verdict = tlsa::verify(&published, &self.chain, &names, UnixTime::now());
        let trusted = self.resolver.is_trusted();
        let judged = judge::association(&owner, outcome.as_deref(), verdict, trusted);
        Some(finding(judged).with_zone(vec![zone::tlsa(&host, port, &record)]))
    }
}

fn finding((level, message): judge::Judgement) -> Finding {
    Finding::new(PART, level, message)
}

/// The host that a record names.
fn target(outcome: &Outcome) -> Option<String> {
    let mut records = outcome.iter().flat_map(|answer| answer.services());
    let named = records.find(|record| !record.target.is_empty());
    named.map(|record| record.target.clone())
}

/// The host for lines that are not there yet: one that is named already, else the domain itself, which comes first.
fn main(services: &[(&Wanted, &Outcome)]) -> String {
    let named = services.iter().find_map(|(_, outcome)| target(outcome));
    let domain = || services.first().map(|(wanted, _)| wanted.host.clone());
    named.or_else(domain).unwrap_or_default()
}

/// Which hosts must have an address.
fn needs(
    services: &[(&Wanted, &Outcome)],
    main: &str,
    certified: &[String],
) -> BTreeMap<String, Need> {
    let mut needs: BTreeMap<String, Need> = certified
        .iter()
        .map(|name| (name.clone(), Need::Certificate))
        .collect();
    needs.insert(main.to_owned(), Need::Target);
    let offered = services.iter().filter(|(wanted, _)| wanted.port != 0);
    needs.extend(offered.filter_map(|(_, outcome)| Some((target(outcome)?, Need::Target))));
    needs
}

/// Which ports show the certificate, by the names under which others come to them.
fn ports(services: &[(&Wanted, &Outcome)], main: &str) -> BTreeSet<(String, u16)> {
    let offered = services.iter().filter(|(wanted, _)| wanted.port != 0);
    offered
        .map(|(wanted, outcome)| {
            let host = target(outcome).unwrap_or_else(|| main.to_owned());
            (host, wanted.port)
        })
        .collect()
}

/// Whether others can reach an address over the Internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [first, second, ..] = four.octets();
            // RFC 6598: of providers that have fewer addresses than customers.
            let is_shared = first == 100 && (64..128).contains(&second);
            !(is_shared || four.is_private() || four.is_loopback() || four.is_link_local())
        }
        IpAddr::V6(six) => {
            !(six.is_loopback() || six.is_unique_local() || six.is_unicast_link_local())
        }
    }
}

/// XEP-0156 has no record: it is a page under the domain's own name.
fn web(config: &Config, domain: &str) -> Option<Finding> {
    let url = config.web_url().filter(|_| !config.is_web_local())?;
    let at_home = url.scheme() == "https"
        && url.host_str() == Some(domain)
        && url.port_or_known_default() == Some(443);
    Some(if at_home {
        let message = format!(
            "Clients in browsers find the server by https://{domain}/.well-known/host-meta"
        );
        Finding::new(PART, Level::Ok, message)
    } else {
        let message = format!(
            "Clients in browsers look at https://{domain}/.well-known/host-meta and host-meta.json, which are served at {url}.well-known/; let the web server of {domain} redirect both"
        );
        Finding::new(PART, Level::Warning, message)
    })
}

/// Whether an account on another server finds it.
async fn bot(account: &Account, resolver: &Resolver) -> Finding {
    let jid = &account.jid;
    match find(account, resolver).await {
        Ok((target, addresses)) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let message = format!("{jid} connects to {target} ({})", addresses.join(", "));
            Finding::new(PART, Level::Ok, message)
        }
        Err(err) => Finding::new(PART, Level::Problem, format!("{jid}: {err}")),
    }
}

/// The first host that has addresses.
async fn find(account: &Account, resolver: &Resolver) -> Result<(Target, Vec<IpAddr>), Error> {
    let targets = match &account.server {
        Some((host, port)) => vec![Target::configured(host, *port, account.direct_tls)],
        None if account.component_secret.is_some() => {
            vec![Target::configured("localhost", 5347, account.direct_tls)]
        }
        None => {
            let domain = account.jid.domain().as_str();
            resolver.targets(domain, Service::Client).await?
        }
    };
    let mut failure = None;
    for target in targets {
        match resolver.addresses(&target.host).await {
            Ok(addresses) => return Ok((target, addresses)),
            Err(err) => {
                failure.get_or_insert(err);
            }
        }
    }
    let domain = account.jid.domain().as_str().to_owned();
    Err(failure.unwrap_or(Error::NoAddress(domain)))
}

#[cfg(test)]
mod tests;
