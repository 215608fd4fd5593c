//! A stranger on the other end.

use super::*;

/// Speaks to the door of a server by hand.
pub(super) struct Stranger {
    pub(super) io: Box<dyn Pipe>,
    reader: Reader,
    id: String,
}

impl Stranger {
    pub(super) fn knock(world: &World, host: &str) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        world
            .entrance(host)
            .unwrap()
            .doors
            .send((theirs, false))
            .unwrap();
        Self::new(Box::new(ours))
    }

    fn new(io: Box<dyn Pipe>) -> Self {
        let mut reader = Reader::new(Limits::default());
        reader.authenticated();
        Self {
            io,
            reader,
            id: String::new(),
        }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.reader.read().unwrap() {
                return Some(event);
            }
            let mut bytes = [0; 4096];
            match self.io.read(&mut bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.reader.push(&bytes[..count]),
            }
        }
    }

    async fn next(&mut self) -> Element {
        match self.event().await {
            Some(Event::Element(element)) => element,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a header; the features.
    pub(super) async fn open(&mut self, from: &str, to: &str) -> Element {
        self.reader.reset();
        self.send(&header(from, to)).await;
        let Some(Event::Open(header)) = self.event().await else {
            panic!("no header");
        };
        self.id = header.id.unwrap();
        self.next().await
    }

    /// With TLS, and the certificate of `identity`.
    pub(super) async fn encrypt(mut self, identity: &Tls, from: &str, to: &str) -> (Self, Element) {
        let features = self.open(from, to).await;
        assert!(
            features
                .get_child("starttls", ns::TLS)
                .unwrap()
                .has_child("required", ns::TLS)
        );
        assert_eq!(
            features
                .children()
                .filter(|child| child.name() != "limits")
                .count(),
            1
        );
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            .await;
        assert_eq!(self.next().await.name(), "proceed");
        let name = rustls::pki_types::ServerName::try_from(to.to_owned()).unwrap();
        let config = Arc::clone(&identity.connect_starttls);
        let io = tokio_rustls::TlsConnector::from(config)
            .connect(name, self.io)
            .await
            .unwrap();
        let mut secured = Self::new(Box::new(io));
        let features = secured.open(from, to).await;
        (secured, features)
    }

    /// As `from`, by SASL EXTERNAL.
    pub(super) async fn login(world: &World, identity: &Tls, from: &str, to: &str) -> Self {
        let (mut stranger, features) = Self::knock(world, to).encrypt(identity, from, to).await;
        assert!(features.has_child("mechanisms", ns::SASL));
        stranger.auth(from).await;
        assert_eq!(stranger.next().await.name(), "success");
        let features = stranger.open(from, to).await;
        assert!(features.has_child("sm", ns::SM));
        stranger
    }

    pub(super) async fn auth(&mut self, claimed: &str) {
        let text = STANDARD.encode(claimed);
        self.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{text}</auth>"
        ))
        .await;
    }

    /// The stream error that ends it.
    async fn condition(&mut self) -> String {
        loop {
            match self.event().await {
                Some(Event::Element(element)) if element.is("error", ns::STREAM) => {
                    return element.children().next().unwrap().name().to_owned();
                }
                Some(_) => {}
                None => panic!("closed without an error"),
            }
        }
    }
}

pub(super) fn header(from: &str, to: &str) -> String {
    format!(
        "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams' from='{from}' to='{to}' version='1.0'>"
    )
}

/// What a server of this name would show.
pub(super) fn identity(authority: &Authority, names: &[&str]) -> (Tls, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut xmpp = XmppServer::new(names[0]);
    xmpp.certificate = authority.issue(directory.path(), names);
    let settings = certificate::Settings::new(&xmpp, directory.path());
    let tls = Certificates::open(settings).unwrap().peers().unwrap();
    (tls, directory)
}

const MESSAGE: &str =
    "<message from='mallory@evil.example' to='romeo@a.example' id='1'><body>x</body></message>";

#[tokio::test]
async fn before_tls_nothing_but_tls_is_on_offer_and_nothing_else_is_taken() {
    let (world, authority) = (World::default(), Authority::new());
    let _a = House::new(&world, &authority, "a.example").await;
    for (text, expected) in [
        (MESSAGE, "not-authorized"),
        (
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
            "not-authorized",
        ),
        (
            "<db:result from='evil.example' to='a.example'>key</db:result>",
            "not-authorized",
        ),
        (
            "<db:verify from='evil.example' to='a.example' id='1'>key</db:verify>",
            "not-authorized",
        ),
        (
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><x/>",
            "policy-violation",
        ),
        ("<!DOCTYPE x>", "restricted-xml"),
        ("<!-- x -->", "restricted-xml"),
        ("</x>", "not-well-formed"),
    ] {
        let mut stranger = Stranger::knock(&world, "a.example");
        stranger.open("evil.example", "a.example").await;
        stranger.send(text).await;
        assert_eq!(stranger.condition().await, expected, "{text}");
    }
}

#[tokio::test]
async fn headers_that_are_for_nobody_here_are_refused() {
    let (world, authority) = (World::default(), Authority::new());
    let _a = House::new(&world, &authority, "a.example").await;
    for (text, expected) in [
        (header("evil.example", "b.example"), "host-unknown"),
        (header("a.example", "a.example"), "invalid-from"),
        (
            header("conference.evil example", "a.example"),
            "invalid-from",
        ),
        (header("192.0.2.1", "a.example"), "policy-violation"),
        (
            header("evil.example", "a.example").replace("jabber:server'", "jabber:client'"),
            "invalid-namespace",
        ),
        (
            header("evil.example", "a.example").replace("1.0", "0.9"),
            "unsupported-version",
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "bad-format"),
    ] {
        let mut stranger = Stranger::knock(&world, "a.example");
        stranger.send(&text).await;
        assert_eq!(stranger.condition().await, expected, "{text}");
    }
}

#[tokio::test]
async fn a_certificate_is_for_its_own_domain_alone() {
    let (world, authority) = (World::default(), Authority::new());
    let _a = House::new(&world, &authority, "a.example").await;
    let (evil, _files) = identity(&authority, &["evil.example"]);
    let (mut stranger, features) = Stranger::knock(&world, "a.example")
        .encrypt(&evil, "good.example", "a.example")
        .await;
    assert!(!features.has_child("mechanisms", ns::SASL));
    // Not offered, and of no use either.
    stranger.auth("good.example").await;
    assert!(stranger.next().await.has_child("not-authorized", ns::SASL));
    stranger.auth("evil.example").await;
    assert!(stranger.next().await.has_child("invalid-authzid", ns::SASL));
    stranger.auth("a.example").await;
    assert!(stranger.next().await.has_child("invalid-authzid", ns::SASL));
    stranger.auth("good.example").await;
    assert_eq!(stranger.condition().await, "policy-violation");
}

#[tokio::test]
async fn who_signed_their_own_certificate_is_nobody() {
    let (world, authority) = (World::default(), Authority::new());
    let _a = House::new(&world, &authority, "a.example").await;
    let (own, _files) = identity(&Authority::new(), &["evil.example"]);
    let (mut stranger, features) = Stranger::knock(&world, "a.example")
        .encrypt(&own, "evil.example", "a.example")
        .await;
    assert!(!features.has_child("mechanisms", ns::SASL));
    stranger
        .send("<db:result from='evil.example' to='a.example'>key</db:result>")
        .await;
    let answer = stranger.next().await;
    assert_eq!(answer.attr("type"), Some("error"));
    stranger.send(MESSAGE).await;
    assert_eq!(stranger.condition().await, "not-authorized");
}

#[tokio::test]
async fn a_server_speaks_for_its_own_domains_and_to_those_it_has_asked_for() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let mut romeo = a.person("romeo").await;
    let (evil, _files) = identity(&authority, &["evil.example"]);
    for (text, expected) in [
        (
            "<message from='x@good.example' to='romeo@a.example'/>",
            "invalid-from",
        ),
        (
            "<presence from='x@sub.evil.example' to='romeo@a.example'/>",
            "invalid-from",
        ),
        (
            "<iq type='get' id='1' from='romeo@a.example/x' to='romeo@a.example'><x xmlns='y'/></iq>",
            "invalid-from",
        ),
        ("<message from='@' to='romeo@a.example'/>", "invalid-from"),
        ("<message to='romeo@a.example'/>", "improper-addressing"),
        ("<message from='x@evil.example'/>", "improper-addressing"),
        (
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
            "unsupported-stanza-type",
        ),
        ("<stream:features/>", "unsupported-stanza-type"),
        ("<!DOCTYPE x>", "restricted-xml"),
        (
            "<message from='x@evil.example' to='x@a.example'><!-- x --></message>",
            "restricted-xml",
        ),
    ] {
        let mut stranger = Stranger::login(&world, &evil, "evil.example", "a.example").await;
        stranger.send(text).await;
        assert_eq!(stranger.condition().await, expected, "{text}");
    }
    assert!(romeo.drain().is_empty(), "nothing of it has arrived");
    let mut stranger = Stranger::login(&world, &evil, "evil.example", "a.example").await;
    stranger.send(MESSAGE).await;
    assert_eq!(
        message(&mut romeo).await.attr("from"),
        Some("mallory@evil.example")
    );
}

#[tokio::test]
async fn a_domain_that_is_not_here_is_no_reason_to_end_a_stream() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let mut romeo = a.person("romeo").await;
    let _good = world.listen("evil.example", false);
    let (evil, _files) = identity(&authority, &["evil.example"]);
    let mut stranger = Stranger::login(&world, &evil, "evil.example", "a.example").await;
    stranger
        .send("<message from='x@evil.example' to='x@b.example' id='0'/>")
        .await;
    stranger.send(MESSAGE).await;
    assert_eq!(message(&mut romeo).await.attr("id"), Some("1"));
}

#[tokio::test]
async fn who_was_found_to_be_one_domain_arrives_as_no_other() {
    let (world, authority) = (World::default(), Authority::new());
    let _a = House::new(&world, &authority, "a.example").await;
    let (evil, _files) = identity(&authority, &["evil.example"]);
    let (mut stranger, _) = Stranger::knock(&world, "a.example")
        .encrypt(&evil, "evil.example", "a.example")
        .await;
    stranger.auth("evil.example").await;
    assert_eq!(stranger.next().await.name(), "success");
    stranger.reader.reset();
    stranger.send(&header("good.example", "a.example")).await;
    assert_eq!(stranger.condition().await, "invalid-from");
}

#[tokio::test]
async fn a_certificate_for_several_domains_is_good_for_each_that_is_asked_for() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let mut romeo = a.person("romeo").await;
    let (both, _files) = identity(&authority, &["one.example", "two.example"]);
    let mut stranger = Stranger::login(&world, &both, "one.example", "a.example").await;
    for (domain, kind) in [
        ("two.example", "valid"),
        ("three.example", "error"),
        ("a.example", "invalid"),
    ] {
        stranger
            .send(&format!(
                "<db:result from='{domain}' to='a.example'>key</db:result>"
            ))
            .await;
        let answer = stranger.next().await;
        assert_eq!(answer.attr("type"), Some(kind), "{domain}");
        assert_eq!(answer.attr("from"), Some("a.example"));
        assert_eq!(answer.attr("to"), Some(domain));
    }
    stranger
        .send("<message from='x@two.example' to='romeo@a.example' id='1'/>")
        .await;
    assert_eq!(
        message(&mut romeo).await.attr("from"),
        Some("x@two.example")
    );
    stranger
        .send("<message from='x@three.example' to='romeo@a.example' id='2'/>")
        .await;
    assert_eq!(stranger.condition().await, "invalid-from");
}

#[tokio::test]
async fn answers_to_questions_that_were_not_asked_open_nothing() {
    let (world, authority) = (World::default(), Authority::new());
    let settings = Settings::new("a.example", &["a.example"]).dialback();
    let a = House::with(&world, &authority, settings).await;
    let mut romeo = a.person("romeo").await;
    let (own, _files) = identity(&Authority::new(), &["evil.example"]);
    let (mut stranger, _) = Stranger::knock(&world, "a.example")
        .encrypt(&own, "evil.example", "a.example")
        .await;
    // CVE-2012-3525.
    stranger
        .send("<db:result from='good.example' to='a.example' type='valid'/>")
        .await;
    stranger
        .send("<db:verify from='good.example' to='a.example' id='1' type='valid'/>")
        .await;
    stranger
        .send("<message from='x@good.example' to='romeo@a.example'/>")
        .await;
    assert_eq!(stranger.condition().await, "not-authorized");
    assert!(romeo.drain().is_empty());
}

#[tokio::test]
async fn a_domain_whose_own_server_does_not_confirm_the_key_is_not_believed() {
    let (world, authority) = (World::default(), Authority::new());
    let settings = Settings::new("a.example", &["a.example"]).dialback();
    let _a = House::with(&world, &authority, settings).await;
    let _good = House::new(&world, &authority, "good.example").await;
    let (own, _files) = identity(&Authority::new(), &["evil.example"]);
    let (mut stranger, _) = Stranger::knock(&world, "a.example")
        .encrypt(&own, "good.example", "a.example")
        .await;
    stranger
        .send("<db:result from='good.example' to='a.example'>0123</db:result>")
        .await;
    assert_eq!(stranger.next().await.attr("type"), Some("invalid"));
    // Nobody can be asked about this one.
    stranger
        .send("<db:result from='evil.example' to='a.example'>0123</db:result>")
        .await;
    let answer = stranger.next().await;
    assert_eq!(answer.attr("type"), Some("error"));
    assert!(String::from(&answer).contains("remote-server-not-found"));
    stranger
        .send("<message from='x@good.example' to='romeo@a.example'/>")
        .await;
    assert_eq!(stranger.condition().await, "not-authorized");
}

#[tokio::test]
async fn a_key_of_one_stream_or_domain_is_that_of_no_other() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let key = a
        .federation()
        .0
        .secret
        .key("evil.example", "a.example", "stream-1");
    let (evil, _files) = identity(&authority, &["evil.example"]);
    let mut stranger = Stranger::login(&world, &evil, "evil.example", "a.example").await;
    for (from, to, id, kind) in [
        ("evil.example", "a.example", "stream-1", "valid"),
        ("evil.example", "a.example", "stream-2", "invalid"),
        ("good.example", "a.example", "stream-1", "invalid"),
        ("evil.example", "conference.a.example", "stream-1", "error"),
    ] {
        stranger
            .send(&format!(
                "<db:verify from='{from}' to='{to}' id='{id}'>{key}</db:verify>"
            ))
            .await;
        let answer = stranger.next().await;
        assert_eq!(answer.attr("type"), Some(kind), "{from} {to} {id}");
        assert_eq!(answer.attr("id"), Some(id));
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_says_who_they_are_is_sent_away() {
    let (world, authority) = (World::default(), Authority::new());
    let _a = House::new(&world, &authority, "a.example").await;
    let mut silent = Stranger::knock(&world, "a.example");
    assert_eq!(silent.condition().await, "connection-timeout");
    let (evil, _files) = identity(&Authority::new(), &["evil.example"]);
    let (mut asks, _) = Stranger::knock(&world, "a.example")
        .encrypt(&evil, "evil.example", "a.example")
        .await;
    asks.send("<db:result from='evil.example' to='a.example'>key</db:result>")
        .await;
    assert_eq!(asks.condition().await, "connection-timeout");
}

#[tokio::test]
async fn before_it_is_known_who_they_are_little_may_come() {
    let (world, authority) = (World::default(), Authority::new());
    let _a = House::new(&world, &authority, "a.example").await;
    let mut stranger = Stranger::knock(&world, "a.example");
    stranger
        .send(&format!(
            "{}{}",
            header("evil.example", "a.example"),
            " ".repeat(9_000)
        ))
        .await;
    assert_eq!(stranger.condition().await, "policy-violation");
    let (evil, _files) = identity(&Authority::new(), &["evil.example"]);
    let (mut stranger, _) = Stranger::knock(&world, "a.example")
        .encrypt(&evil, "evil.example", "a.example")
        .await;
    let question = "<db:verify from='evil.example' to='a.example' id='1'>key</db:verify>";
    stranger.send(&question.repeat(40)).await;
    assert_eq!(stranger.condition().await, "policy-violation");
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_not_sent_ends_the_stream() {
    let (world, authority) = (World::default(), Authority::new());
    let a = House::new(&world, &authority, "a.example").await;
    let romeo = a.person("romeo").await;
    let (evil, _files) = identity(&authority, &["evil.example"]);
    let mut stranger = Stranger::login(&world, &evil, "evil.example", "a.example").await;
    stranger
        .send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        .await;
    let enabled = stranger.next().await;
    assert_eq!((enabled.name(), enabled.attr("id")), ("enabled", None));
    stranger.send(&MESSAGE.repeat(3)).await;
    stranger.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(stranger.next().await.attr("h"), Some("3"));
    stranger
        .send("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>")
        .await;
    assert_eq!(stranger.next().await.name(), "failed");
    stranger.send("<a xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(stranger.condition().await, "policy-violation");
    drop(romeo);
}
