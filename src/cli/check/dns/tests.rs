//! The whole of `moltis check dns` against a name server that a test holds in its hand.

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::*;
use crate::config::{Account, Certificate};
use crate::xmpp::dns::testing::NameServer;

/// A server with a certificate of its own; only its domain and rooms, for short.
fn config(directory: &tempfile::TempDir) -> Config {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["a.test".to_owned(), "conference.a.test".to_owned()]).unwrap();
    let (certificate, key) = (
        directory.path().join("c.pem"),
        directory.path().join("k.pem"),
    );
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let mut config = Config {
        data_dir: directory.path().to_owned(),
        ..Config::default()
    };
    let server = &mut config.xmpp_server;
    server.enabled = true;
    server.domain = "a.test".to_owned();
    server.muc_host = "conference.a.test".to_owned();
    server.certificate = Certificate::Files { certificate, key };
    config
}

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::line).collect()
}

fn zone(findings: &[Finding]) -> Vec<&str> {
    let lines = findings.iter().flat_map(|finding| &finding.zone);
    lines.map(String::as_str).collect()
}

#[tokio::test]
async fn an_empty_zone_is_told_what_to_have() {
    let (dns, directory) = (NameServer::start().await, tempfile::tempdir().unwrap());
    let findings = check(&config(&directory), &dns.resolver()).await;
    assert_eq!(
        lines(&findings)[..7],
        [
            "problem  _xmpp-client._tcp.a.test has no SRV record and a.test no address, so clients do not find it; add the record",
            "warning  _xmpps-client._tcp.a.test has no SRV record, so clients do not use direct TLS on port 5223; add it",
            "problem  _xmpp-server._tcp.a.test has no SRV record and a.test no address, so other servers do not find it; add the record",
            "warning  _xmpps-server._tcp.a.test has no SRV record, so other servers do not use direct TLS on port 5270; add it",
            "problem  _xmpp-server._tcp.conference.a.test has no SRV record and conference.a.test no address, so other servers do not find it; add the record",
            "warning  _xmpps-server._tcp.conference.a.test has no SRV record, so other servers do not use direct TLS on port 5270; add it",
            "problem  a.test has no address, so nobody reaches it; add an A or AAAA record",
        ]
    );
    let zone = zone(&findings);
    assert_eq!(
        zone[..6],
        [
            "_xmpp-client._tcp.a.test. 3600 IN SRV 0 5 5222 a.test.",
            "_xmpps-client._tcp.a.test. 3600 IN SRV 0 5 5223 a.test.",
            "_xmpp-server._tcp.a.test. 3600 IN SRV 0 5 5269 a.test.",
            "_xmpps-server._tcp.a.test. 3600 IN SRV 0 5 5270 a.test.",
            "_xmpp-server._tcp.conference.a.test. 3600 IN SRV 0 5 5269 a.test.",
            "_xmpps-server._tcp.conference.a.test. 3600 IN SRV 0 5 5270 a.test.",
        ]
    );
    assert!(
        zone.iter()
            .any(|line| line.starts_with("a.test. 3600 IN A"))
    );
    let associations = zone.iter().filter(|line| line.contains(" IN TLSA 3 1 1 "));
    assert_eq!(associations.count(), 4);
}

#[tokio::test]
async fn a_zone_that_has_what_it_was_told_is_right() {
    let (dns, directory) = (NameServer::start().await, tempfile::tempdir().unwrap());
    let config = config(&directory);
    dns.sign("test");
    dns.address("a.test", "192.0.2.77");
    let before = check(&config, &dns.resolver()).await;
    dns.write(&zone(&before));
    let after = check(&config, &dns.resolver()).await;
    let not_ok: Vec<String> = after
        .iter()
        .filter(|finding| finding.level != Level::Ok)
        .map(Finding::line)
        .collect();
    assert!(not_ok.is_empty(), "{not_ok:#?}");
    let lines = lines(&after);
    for line in [
        "ok       _xmpp-server._tcp.conference.a.test: a.test:5269",
        "ok       a.test: 192.0.2.77, no address of this machine, as is usual behind a router or proxy",
        "ok       _5269._tcp.a.test fits the certificate",
    ] {
        assert!(lines.iter().any(|it| it == line), "{line}: {lines:#?}");
    }
    assert_eq!(zone(&after), zone(&before));
}

#[tokio::test]
async fn what_is_published_of_another_certificate_is_a_problem() {
    let (dns, directory) = (NameServer::start().await, tempfile::tempdir().unwrap());
    dns.srv("_xmpp-server._tcp.a.test", 0, 5, 5269, "xmpp.a.test");
    let other = tlsa::Record {
        usage: 3,
        selector: 1,
        matching: 1,
        data: vec![0; 32],
    };
    dns.tlsa("_5269._tcp.xmpp.a.test", &other);
    let findings = check(&config(&directory), &dns.resolver()).await;
    let wrong = findings
        .iter()
        .find(|finding| finding.message.starts_with("_5269._tcp"));
    assert_eq!(
        wrong.unwrap().line(),
        "problem  _5269._tcp.xmpp.a.test is of another certificate, so other servers that look at it refuse this one; replace the record"
    );
    // What is missing goes to the host that is named already.
    let zone = zone(&findings);
    assert!(zone.contains(&"_xmpp-client._tcp.a.test. 3600 IN SRV 0 5 5222 xmpp.a.test."));
}

#[tokio::test]
async fn bots_find_their_servers_or_it_is_told_why_not() {
    let dns = NameServer::start().await;
    dns.srv("_xmpp-client._tcp.b.test", 0, 0, 5222, "xmpp.b.test");
    dns.address("xmpp.b.test", "192.0.2.5");
    dns.srv("_xmpp-client._tcp.no.test", 0, 0, 0, ".");
    let mut config = Config::default();
    for (id, jid) in [
        ("a", "bot@b.test"),
        ("b", "bot@no.test"),
        ("c", "bot@none.test"),
    ] {
        let account = Account::new(jid.parse().unwrap());
        config.channels.xmpp.insert(id.to_owned(), account);
    }
    assert_eq!(
        lines(&check(&config, &dns.resolver()).await),
        [
            "ok       bot@b.test connects to xmpp.b.test:5222 (192.0.2.5)",
            "problem  bot@no.test: The DNS of no.test says that it has no XMPP service for clients; check the domain, or set server = \"host:port\"",
            "problem  bot@none.test: There is no domain none.test in the DNS; check how it is written",
        ]
    );
}

#[tokio::test]
async fn without_a_resolver_there_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let findings = check(&config(&directory), &Resolver::at(&[], false)).await;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].level, Level::Problem);
    assert!(findings[0].message.contains("/etc/resolv.conf"));
}

#[tokio::test]
async fn localhost_needs_no_dns() {
    let mut config = Config::default();
    config.xmpp_server.enabled = true;
    config.xmpp_server.domain = "localhost".to_owned();
    let findings = check(&config, &Resolver::at(&[], false)).await;
    assert_eq!(
        lines(&findings),
        ["ok       localhost is found without DNS"]
    );
}
