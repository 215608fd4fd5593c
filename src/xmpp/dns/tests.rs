//! The resolver against a name server that a test holds in its hand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use tokio::net::TcpListener;

use super::testing::{NameServer, Reply};
use super::*;

const STARTTLS: &str = "_xmpp-server._tcp.peer.test";
const DIRECT: &str = "_xmpps-server._tcp.peer.test";

/// Lets so much time go by for the cache, while the network goes on in its own.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

fn show(targets: &[Target]) -> Vec<String> {
    targets
        .iter()
        .map(|target| {
            let mark = if target.direct_tls { "+" } else { "" };
            format!("{mark}{target}")
        })
        .collect()
}

async fn servers(resolver: &Resolver) -> Result<Vec<Target>, Error> {
    resolver.targets("peer.test", Service::Server).await
}

#[test]
fn names_are_put_in_their_ascii_form() {
    for (domain, expected) in [
        ("example.org", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
    ] {
        assert_eq!(ascii(domain).unwrap(), expected);
    }
    assert!(ascii("a b").is_err());
}

#[tokio::test]
async fn addresses_and_localhost_need_no_dns() {
    let resolver = Resolver::at(&[], false);
    for domain in ["127.0.0.1", "::1", "localhost"] {
        for service in [Service::Client, Service::Server] {
            let targets = resolver.targets(domain, service).await.unwrap();
            assert_eq!(targets.len(), 1);
            assert_eq!(targets[0].host, domain);
            assert_eq!(targets[0].port, service.port());
        }
    }
}

#[tokio::test]
async fn both_kinds_of_records_are_one_order() {
    let dns = NameServer::start().await;
    dns.srv(STARTTLS, 10, 0, 5269, "b.peer.test");
    dns.srv(DIRECT, 5, 0, 5270, "a.peer.test");
    dns.srv(STARTTLS, 20, 0, 443, "c.peer.test");
    let targets = servers(&dns.resolver()).await.unwrap();
    assert_eq!(
        show(&targets),
        ["+a.peer.test:5270", "b.peer.test:5269", "c.peer.test:443"]
    );
}

#[tokio::test]
async fn clients_and_servers_have_records_of_their_own() {
    let dns = NameServer::start().await;
    dns.srv(STARTTLS, 0, 0, 5269, "s.peer.test");
    dns.srv("_xmpp-client._tcp.peer.test", 0, 0, 5222, "c.peer.test");
    let resolver = dns.resolver();
    let clients = resolver.targets("peer.test", Service::Client).await;
    assert_eq!(show(&clients.unwrap()), ["c.peer.test:5222"]);
    assert_eq!(
        show(&servers(&resolver).await.unwrap()),
        ["s.peer.test:5269"]
    );
}

#[tokio::test]
async fn a_heavier_host_is_chosen_more_often() {
    let dns = NameServer::start().await;
    dns.srv(STARTTLS, 0, 90, 5269, "heavy.peer.test");
    dns.srv(STARTTLS, 0, 10, 5269, "light.peer.test");
    let resolver = dns.resolver();
    let mut heavy = 0;
    for _ in 0..400 {
        let targets = servers(&resolver).await.unwrap();
        assert_eq!(targets.len(), 2);
        heavy += usize::from(targets[0].host.starts_with("heavy"));
    }
    // Of 360 expected: six standard deviations.
    assert!((324..=396).contains(&heavy), "{heavy}");
}

#[tokio::test]
async fn without_records_the_domain_itself_is_asked_for() {
    let dns = NameServer::start().await;
    dns.address("peer.test", "192.0.2.1");
    let targets = servers(&dns.resolver()).await.unwrap();
    assert_eq!(show(&targets), ["peer.test:5269"]);
    assert_eq!(targets[0].origin, Origin::Domain);
}

#[tokio::test]
async fn what_is_wrong_with_a_domain_is_told_apart() {
    let dns = NameServer::start().await;
    let resolver = dns.resolver();
    let missing = servers(&resolver).await;
    assert_eq!(missing, Err(Error::NoSuchDomain("peer.test".to_owned())));

    let dns = NameServer::start().await;
    dns.add_text("peer.test", "something else");
    let nowhere = servers(&dns.resolver()).await;
    assert_eq!(nowhere, Err(Error::NoAddress("peer.test".to_owned())));

    let dns = NameServer::start().await;
    dns.srv(STARTTLS, 0, 0, 0, ".");
    dns.address("peer.test", "192.0.2.1");
    let no_service = servers(&dns.resolver()).await.unwrap_err();
    assert_eq!(
        no_service.to_string(),
        "The DNS of peer.test says that it has no XMPP service for other servers"
    );
    assert!(!no_service.is_temporary());

    let dns = NameServer::start().await;
    for owner in [STARTTLS, DIRECT, "_xmpp-client._tcp.peer.test"] {
        let failure = Reply::Failure(ResponseCode::ServFail);
        dns.reply(owner, RecordType::SRV, failure);
    }
    dns.address("peer.test", "192.0.2.1");
    let failing = servers(&dns.resolver()).await.unwrap_err();
    assert!(failing.is_temporary(), "{failing}");
    assert!(failing.to_string().contains("SERVFAIL"), "{failing}");
    let clients = dns.resolver().targets("peer.test", Service::Client).await;
    assert_eq!(show(&clients.unwrap()), ["peer.test:5222"]);
}

#[tokio::test]
async fn silence_is_temporary_and_ends() {
    let dns = NameServer::start().await;
    dns.reply(STARTTLS, RecordType::SRV, Reply::Silence);
    let resolver = dns.resolver();
    let (outcome, ()) = tokio::join!(resolver.lookup(STARTTLS, Kind::Srv), later(60));
    assert!(outcome.unwrap_err().is_temporary());
}

#[tokio::test]
async fn aliases_are_followed_to_the_end_and_told() {
    let dns = NameServer::start().await;
    dns.alias(STARTTLS, "_xmpp-server._tcp.host.test");
    dns.srv("_xmpp-server._tcp.host.test", 0, 0, 5269, "www.peer.test");
    dns.alias("www.peer.test", "one.host.test");
    dns.alias("one.host.test", "two.host.test");
    dns.address("two.host.test", "192.0.2.1");
    let resolver = dns.resolver();
    assert_eq!(
        show(&servers(&resolver).await.unwrap()),
        ["www.peer.test:5269"]
    );
    let answer = resolver.lookup("www.peer.test", Kind::A).await.unwrap();
    assert_eq!(answer.alias.as_deref(), Some("two.host.test"));
    assert_eq!(answer.addresses().count(), 1);
    let six = resolver.lookup("www.peer.test", Kind::Aaaa).await.unwrap();
    assert!(six.exists && six.records.is_empty());
}

#[tokio::test]
async fn aliases_in_a_circle_end() {
    let dns = NameServer::start().await;
    dns.alias("a.test", "b.test");
    dns.alias("b.test", "a.test");
    let answer = dns.resolver().lookup("a.test", Kind::A).await.unwrap();
    assert!(answer.records.is_empty());
    assert!(dns.asked("a.test", RecordType::A) < 10);
}

#[tokio::test]
async fn a_host_that_has_only_ipv6_is_reached() {
    let dns = NameServer::start().await;
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    dns.srv("_xmpp-client._tcp.peer.test", 0, 0, port, "six.peer.test");
    dns.address("six.peer.test", "::1");
    let resolver = dns.resolver();
    let targets = resolver.targets("peer.test", Service::Client).await;
    let targets = targets.unwrap();
    let (_, address) = resolver.connect(&targets[0]).await.unwrap();
    assert_eq!(address, listener.local_addr().unwrap());
}

#[tokio::test]
async fn an_address_that_refuses_gives_way_to_the_next() {
    let dns = NameServer::start().await;
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    for address in ["::1", "127.0.0.1", "127.0.0.2"] {
        dns.address("host.test", address);
    }
    let target = Target::configured("host.test", open.port(), false);
    let (_, address) = dns.resolver().connect(&target).await.unwrap();
    assert_eq!(address, open);
    drop(listener);
    let err = dns.resolver().connect(&target).await.unwrap_err();
    let Error::Unreachable { tried, .. } = err else {
        panic!("{err}");
    };
    assert_eq!(tried.len(), 3);
}

#[tokio::test]
async fn strangers_do_not_make_us_knock_at_our_own_doors() {
    let dns = NameServer::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    dns.address("inside.peer.test", "127.0.0.1");
    dns.address("inside.peer.test", "::1");
    dns.alias("alias.peer.test", "inside.peer.test");
    for (priority, host) in [
        "inside.peer.test",
        "localhost",
        "127.0.0.1",
        "alias.peer.test",
    ]
    .into_iter()
    .enumerate()
    {
        dns.srv(STARTTLS, u16::try_from(priority).unwrap(), 0, port, host);
    }
    let resolver = dns.resolver();
    let targets = servers(&resolver).await.unwrap();
    assert_eq!(targets.len(), 4);
    for target in targets {
        let err = resolver.connect(&target).await.unwrap_err();
        assert_eq!(err, Error::NotAbroad(target.host.clone()));
    }
}

#[tokio::test]
async fn a_domain_that_is_silent_holds_up_nobody_else() {
    let dns = NameServer::start().await;
    dns.srv(STARTTLS, 0, 0, 5269, "a.peer.test");
    let resolver = dns.resolver();
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..200 {
        let name = format!("_xmpp-server._tcp.n{number}.silent.test");
        dns.reply(&name, RecordType::SRV, Reply::Silence);
        let resolver = resolver.clone();
        waiting.spawn(async move { resolver.lookup(&name, Kind::Srv).await });
    }
    tokio::task::yield_now().await;
    assert_eq!(servers(&resolver).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_host_without_addresses_is_told_from_one_that_is_not_there() {
    let dns = NameServer::start().await;
    dns.add_text("empty.test", "nothing");
    let resolver = dns.resolver();
    for (host, expected) in [
        ("empty.test", Error::NoAddress("empty.test".to_owned())),
        ("no.test", Error::NoSuchDomain("no.test".to_owned())),
    ] {
        let target = Target::configured(host, 1, false);
        assert_eq!(resolver.connect(&target).await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn an_answer_is_asked_for_again_when_its_time_is_over() {
    let dns = NameServer::start().await;
    dns.ttl(30);
    dns.srv(STARTTLS, 0, 0, 5269, "old.peer.test");
    let resolver = dns.resolver();
    servers(&resolver).await.unwrap();
    let targets = servers(&resolver.clone()).await.unwrap();
    assert_eq!(show(&targets), ["old.peer.test:5269"]);
    assert_eq!(dns.asked(STARTTLS, RecordType::SRV), 1);

    dns.forget(STARTTLS);
    dns.srv(STARTTLS, 0, 0, 5269, "new.peer.test");
    later(29).await;
    let targets = servers(&resolver).await.unwrap();
    assert_eq!(show(&targets), ["old.peer.test:5269"]);
    later(2).await;
    let targets = servers(&resolver).await.unwrap();
    assert_eq!(show(&targets), ["new.peer.test:5269"]);
    assert_eq!(dns.asked(STARTTLS, RecordType::SRV), 2);
}

#[tokio::test]
async fn that_there_is_nothing_is_remembered_too() {
    let dns = NameServer::start().await;
    dns.ttl(30);
    let resolver = dns.resolver();
    for _ in 0..3 {
        servers(&resolver).await.unwrap_err();
    }
    assert_eq!(dns.asked(STARTTLS, RecordType::SRV), 1);
    assert_eq!(dns.asked("peer.test", RecordType::A), 1);
    dns.srv(STARTTLS, 0, 0, 5269, "new.peer.test");
    later(31).await;
    assert_eq!(servers(&resolver).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_failure_is_soon_forgotten() {
    let dns = NameServer::start().await;
    let failure = Reply::Failure(ResponseCode::ServFail);
    dns.reply(STARTTLS, RecordType::SRV, failure);
    let resolver = dns.resolver();
    assert!(servers(&resolver).await.unwrap_err().is_temporary());
    let asked = dns.asked(STARTTLS, RecordType::SRV);
    assert!(servers(&resolver).await.unwrap_err().is_temporary());
    assert_eq!(dns.asked(STARTTLS, RecordType::SRV), asked);
    dns.forget(STARTTLS);
    dns.srv(STARTTLS, 0, 0, 5269, "a.peer.test");
    later(5).await;
    assert_eq!(servers(&resolver).await.unwrap().len(), 1);
}

#[tokio::test]
async fn only_what_a_trusted_resolver_calls_authentic_is_secure() {
    let dns = NameServer::start().await;
    dns.sign("peer.test");
    dns.srv(STARTTLS, 0, 0, 5269, "a.peer.test");
    dns.srv("_xmpp-server._tcp.other.test", 0, 0, 5269, "a.other.test");
    let secure = async |resolver: Resolver, domain| {
        let targets = resolver.targets(domain, Service::Server).await.unwrap();
        targets[0].origin == Origin::Srv { secure: true }
    };
    assert!(secure(dns.resolver(), "peer.test").await);
    assert!(!secure(dns.resolver(), "other.test").await);
    let distrustful = Resolver::at(&[dns.address], false);
    assert!(!secure(distrustful, "peer.test").await);
}

#[tokio::test]
async fn an_alias_out_of_a_signed_zone_is_not_secure() {
    let dns = NameServer::start().await;
    dns.sign("peer.test");
    dns.alias("www.peer.test", "host.test");
    dns.address("host.test", "192.0.2.1");
    let answer = dns.resolver().lookup("www.peer.test", Kind::A).await;
    assert!(!answer.unwrap().secure);
}

#[tokio::test]
async fn who_watches_sees_every_step() {
    let dns = NameServer::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    dns.srv("_xmpp-client._tcp.peer.test", 0, 0, port, "host.test");
    dns.address("host.test", "127.0.0.1");
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&seen);
    let resolver = dns.resolver().watched(move |step| {
        let line = match step {
            Step::Asked { name, kind, .. } => format!("{kind} {name}"),
            Step::Connecting(_) => "connecting".to_owned(),
            Step::Failed(..) => "failed".to_owned(),
            Step::Connected(_) => "connected".to_owned(),
        };
        notes.lock().unwrap().push(line);
    });
    let targets = resolver.targets("peer.test", Service::Client).await;
    resolver.connect(&targets.unwrap()[0]).await.unwrap();
    let mut seen = seen.lock().unwrap().clone();
    assert_eq!(seen.pop().as_deref(), Some("connected"));
    seen.sort();
    let expected = [
        "A host.test".to_owned(),
        "AAAA host.test".to_owned(),
        "SRV _xmpp-client._tcp.peer.test".to_owned(),
        "SRV _xmpps-client._tcp.peer.test".to_owned(),
        "connecting".to_owned(),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn where_nobody_can_be_asked_it_says_so() {
    let nobody: [SocketAddr; 0] = [];
    let err = servers(&Resolver::at(&nobody, false)).await.unwrap_err();
    assert!(err.is_temporary(), "{err}");
}
