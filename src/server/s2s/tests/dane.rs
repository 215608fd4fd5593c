//! Servers whose DNS says which certificate they have (RFC 7671, 7673).

use rustls::pki_types::pem::PemObject;

use super::*;
use crate::xmpp::dns::tlsa::Record;

/// A domain with one host of the same name, and the record of a certificate.
fn publish(dns: &NameServer, domain: &str, record: Option<&Record>) {
    dns.srv(&format!("_xmpp-server._tcp.{domain}"), 0, 0, 5269, domain);
    if let Some(record) = record {
        dns.tlsa(&format!("_5269._tcp.{domain}"), record);
    }
}

/// The record that fits a server.
fn record(house: &House) -> Record {
    let file = house.directory.path().join("fullchain.pem");
    let own = CertificateDer::from_pem_file(file).unwrap();
    Record::of(&own).unwrap()
}

/// Says something, and how it ended: arrived, or the text of the error.
async fn outcome(from: &House, to: &House, domain: &str) -> String {
    let (mut romeo, mut juliet) = (from.person("romeo").await, to.person("juliet").await);
    say(&romeo, &format!("juliet@{domain}"), 1).await;
    tokio::select! {
        _ = message(&mut juliet) => "arrived".to_owned(),
        error = message(&mut romeo) => refusal(&error).1,
    }
}

#[tokio::test]
async fn certificates_that_no_authority_has_signed_are_believed_where_the_signed_dns_names_them() {
    let dns = NameServer::start().await;
    dns.sign("example");
    let world = World::with_dns(&dns);
    // Each trusts an authority of its own, which has signed nothing for the other.
    let a = House::new(&world, &Authority::new(), "a.example").await;
    let b = House::new(&world, &Authority::new(), "b.example").await;
    publish(&dns, "a.example", Some(&record(&a)));
    publish(&dns, "b.example", Some(&record(&b)));
    assert_eq!(outcome(&a, &b, "b.example").await, "arrived");
    assert_eq!(a.ways("b.example"), [("out, both ways", "certificate")]);
    assert_eq!(b.ways("a.example"), [("in, both ways", "certificate")]);
}

#[tokio::test]
async fn what_nobody_has_signed_is_not_believed() {
    let dns = NameServer::start().await;
    let world = World::with_dns(&dns);
    let a = House::new(&world, &Authority::new(), "a.example").await;
    let b = House::new(&world, &Authority::new(), "b.example").await;
    publish(&dns, "a.example", Some(&record(&a)));
    publish(&dns, "b.example", Some(&record(&b)));
    assert_eq!(
        outcome(&a, &b, "b.example").await,
        "The certificate of b.example is signed by nobody whom this server trusts"
    );
}

#[tokio::test]
async fn a_certificate_of_an_authority_is_refused_where_the_signed_dns_names_another() {
    for dialback in [false, true] {
        let dns = NameServer::start().await;
        dns.sign("example");
        let (world, authority) = (World::with_dns(&dns), Authority::new());
        let settings = |domain: &str| {
            let settings = Settings::new(domain, &[domain]);
            if dialback {
                settings.dialback()
            } else {
                settings
            }
        };
        let a = House::with(&world, &authority, settings("a.example")).await;
        let b = House::with(&world, &authority, settings("b.example")).await;
        publish(&dns, "a.example", None);
        publish(&dns, "b.example", Some(&record(&a)));
        assert_eq!(
            outcome(&a, &b, "b.example").await,
            "The certificate of b.example is another one than its DNS says (DANE)"
        );
        // Nor does it get in.
        let back = outcome(&b, &a, "a.example").await;
        assert_ne!(back, "arrived");
        assert!(a.ways("b.example").is_empty(), "{back}");
    }
}

#[tokio::test]
async fn a_domain_with_signed_dns_and_no_record_is_known_by_its_authority() {
    let dns = NameServer::start().await;
    dns.sign("example");
    let (world, authority) = (World::with_dns(&dns), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let b = House::new(&world, &authority, "b.example").await;
    publish(&dns, "a.example", None);
    publish(&dns, "b.example", None);
    assert_eq!(outcome(&a, &b, "b.example").await, "arrived");
}
