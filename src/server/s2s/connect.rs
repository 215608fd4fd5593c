//! Outwards: from a domain to a stream on which it is known who is who (RFC 6120, 4 to 6; XEP-0178, XEP-0220, XEP-0288).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::dialback::{self, Verdict};
use super::failure::{Failure, Obstacle};
use super::peer::Way;
use super::trust::{Chain, Doubt, Witness};
use super::{Federation, Pair};
use crate::config::{Federation as Policy, PeerAuthentication};
use crate::server::Server;
use crate::server::stream::wire::{self, End, Input, Output};
use crate::server::stream::xml::{Event, Limits, Opening};
use crate::xmpp::connector::Pipe;
use crate::xmpp::dns::{self, Target};
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// How long a host may take from the first byte to the last of the negotiation, the call-back of dialback included.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long all hosts of a domain may take together.
const TOGETHER: Duration = Duration::from_secs(45);
/// As long as a server waits that is called back for, and so many hosts: a stranger has named them.
const CALL: Duration = Duration::from_secs(25);
const CALLED: usize = 4;
/// How long it may take to be reached.
const REACH: Duration = Duration::from_secs(10);

/// One step, for `moltis s2s test` and the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub name: &'static str,
    pub ok: bool,
    pub text: String,
}

/// Is told of each step.
pub(super) type Watch<'a> = &'a mut (dyn FnMut(Step) + Send);

fn step(watch: Watch<'_>, name: &'static str, ok: bool, text: impl Into<String>) {
    watch(Step {
        name,
        ok,
        text: text.into(),
    });
}

/// A stream that may carry stanzas.
pub(super) struct Link {
    pub(super) pair: Pair,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) way: Way,
    /// XEP-0198 was asked for: the other server counts from here.
    pub(super) managed: bool,
    /// XEP-0288: the other server may send over it too.
    pub(super) bidi: bool,
    /// The largest stanza that the other server takes (XEP-0478), in bytes.
    pub(super) most: usize,
}

/// What is asked for on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// No more than dialback: for servers that break off at what they have offered.
    Plain,
}

/// A stream whose other end is who we wanted, as far as the policy asks; ours is not known there yet.
struct Negotiation {
    input: Input,
    output: Output,
    /// Of the other server's present header.
    id: String,
    features: Element,
    encrypted: bool,
    tls: String,
    /// The certificate shows that the domain is theirs.
    certified: bool,
}

/// Connects for stanzas.
pub(super) async fn connect(
    federation: &Federation,
    server: &Server,
    pair: &Pair,
    limits: Limits,
    watch: Watch<'_>,
) -> Result<Link, Failure> {
    let begun = Instant::now();
    let mut last = None;
    for target in targets(federation, pair, watch).await? {
        for wanted in [Wanted::All, Wanted::Plain] {
            let mut broke_off = false;
            let attempt = async {
                let negotiation =
                    negotiate(federation, server, pair, &target, limits, watch).await?;
                let asks = negotiation.asks(wanted);
                let outcome = authenticate(federation, pair, negotiation, wanted, watch).await;
                broke_off = asks && outcome.as_ref().is_err_and(Failure::is_temporary);
                outcome
            };
            match within(&target, attempt).await {
                Ok(link) => return Ok(link),
                Err(failure) => {
                    step(watch, "host", false, format!("{target}: {failure}"));
                    last = Some(worse(last, failure));
                }
            }
            if !broke_off {
                break;
            }
        }
        if begun.elapsed() > TOGETHER {
            break;
        }
    }
    Err(last.unwrap_or_else(|| nowhere(pair)))
}

/// Connects to the authoritative server and asks it for a key (XEP-0220, 2.3). `stream`: the id of the stream by which the
/// key came.
pub(super) async fn call_back(
    federation: &Federation,
    server: &Server,
    pair: &Pair,
    stream: &str,
    key: &str,
    limits: Limits,
) -> Result<Verdict, Failure> {
    let mut unseen = |_| {};
    let watch: Watch<'_> = &mut unseen;
    let begun = Instant::now();
    let mut last = None;
    let targets = targets(federation, pair, watch).await?;
    for target in targets.into_iter().take(CALLED) {
        let attempt = async {
            let mut negotiation =
                negotiate(federation, server, pair, &target, limits, watch).await?;
            negotiation
                .output
                .element(&dialback::verify(pair, stream, key));
            let verdict = negotiation
                .answer(pair, |answer| {
                    dialback::read_answer(answer, "verify", pair, Some(stream))
                })
                .await?;
            negotiation.output.close();
            // It has said what we wanted to know.
            negotiation.output.flush().await.ok();
            Ok(verdict)
        };
        match within(&target, attempt).await {
            Ok(verdict) => return Ok(verdict),
            Err(failure) => last = Some(worse(last, failure)),
        }
        if begun.elapsed() > CALL {
            break;
        }
    }
    Err(last.unwrap_or_else(|| nowhere(pair)))
}

/// Walks the way to another server and hangs up, for `moltis s2s test`.
pub async fn walk(
    server: &Server,
    pair: &Pair,
    watch: &mut (dyn FnMut(Step) + Send),
) -> Result<(), Failure> {
    let Some(federation) = server.federation() else {
        return Err(Failure::new(
            Obstacle::Forbidden,
            "This server does not talk to other servers",
        ));
    };
    if let Some(failure) =
        super::policy::reason_against(&server.settings().federation, &pair.remote)
    {
        return Err(failure);
    }
    let limits = super::limits(server);
    let mut link = Box::pin(connect(federation, server, pair, limits, watch)).await?;
    link.output.close();
    link.output.flush().await.ok(); // It went as far as it had to.
    Ok(())
}

fn nowhere(pair: &Pair) -> Failure {
    let text = format!("{} has no host to connect to", pair.remote);
    Failure::new(Obstacle::NotFound, text)
}

/// Of two failures the one that says more: that somebody was there and not to be trusted.
fn worse(before: Option<Failure>, after: Failure) -> Failure {
    match before {
        Some(before) if after.is_temporary() && !before.is_temporary() => before,
        _ => after,
    }
}

async fn targets(
    federation: &Federation,
    pair: &Pair,
    watch: Watch<'_>,
) -> Result<Vec<Target>, Failure> {
    let targets = federation.0.network.targets(&pair.remote).await;
    match &targets {
        Ok(targets) => {
            let list: Vec<String> = targets
                .iter()
                .map(|target| {
                    let how = if target.direct_tls { "TLS" } else { "STARTTLS" };
                    format!("{target} ({how})")
                })
                .collect();
            step(watch, "dns", true, list.join(", "));
        }
        Err(failure) => step(watch, "dns", false, failure.to_string()),
    }
    targets
}

async fn within<T>(
    target: &Target,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = || {
        let text = format!("{target} takes too long to answer");
        Err(Failure::unreachable(text))
    };
    timeout(DEADLINE, Box::pin(attempt))
        .await
        .unwrap_or_else(|_elapsed| late())
}

/// TCP, TLS, the certificate, and the features of an encrypted stream.
async fn negotiate(
    federation: &Federation,
    server: &Server,
    pair: &Pair,
    target: &Target,
    limits: Limits,
    watch: Watch<'_>,
) -> Result<Negotiation, Failure> {
    let place = target.to_string();
    let io = timeout(REACH, federation.0.network.connect(target))
        .await
        .unwrap_or_else(|_elapsed| Err(Failure::unreachable(format!("{place} does not answer"))))?;
    step(watch, "tcp", true, place);
    let policy = &server.settings().federation;
    if target.direct_tls {
        let (io, tls, chain) =
            handshake(&federation.0.tls.connect_direct, io, &pair.remote).await?;
        step(watch, "tls", true, &tls);
        let certified = judge(federation, policy, pair, target, &chain, watch).await?;
        let (input, output) = wire::bytes(io, limits);
        let mut negotiation = Negotiation::new(input, output);
        negotiation.secured(tls, certified);
        negotiation.open(pair).await?;
        return Ok(negotiation);
    }
    let (input, output) = wire::bytes(io, limits);
    let mut negotiation = Negotiation::new(input, output);
    negotiation.open(pair).await?;
    step(watch, "stream", true, features(&negotiation.features));
    if negotiation.features.has_child("starttls", ns::TLS) {
        negotiation = negotiation
            .starttls(federation, pair, policy, target, watch, limits)
            .await?;
        negotiation.open(pair).await?;
    } else if policy.require_encryption {
        let text = format!("The server of {} offers no TLS", pair.remote);
        return Err(Failure::new(Obstacle::Untrusted, text));
    }
    Ok(negotiation)
}

/// What a server offers, for people.
fn features(features: &Element) -> String {
    let names: Vec<&str> = features.children().map(Element::name).collect();
    if names.is_empty() {
        return "no features".to_owned();
    }
    names.join(", ")
}

async fn handshake(
    config: &Arc<rustls::ClientConfig>,
    io: Box<dyn Pipe>,
    domain: &str,
) -> Result<(Box<dyn Pipe>, String, Chain), Failure> {
    let name = dns::ascii(domain).ok();
    let name = name.and_then(|name| ServerName::try_from(name).ok());
    let name = name.ok_or_else(|| {
        let text = format!("No certificate can be for {domain}");
        Failure::new(Obstacle::NotFound, text)
    })?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, io)
        .await;
    let stream = stream.map_err(|err| {
        Failure::unreachable(format!("TLS with the server of {domain} failed: {err}"))
    })?;
    let (_, connection) = stream.get_ref();
    let version = connection.protocol_version();
    let version = version
        .map(|version| format!("{version:?}"))
        .unwrap_or_default();
    let chain = connection.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
    Ok((Box::new(stream), version, chain))
}

/// Whether the certificate shows that the domain is theirs; an error where the policy asks for that, or the DNS says that
/// it is not.
async fn judge(
    federation: &Federation,
    policy: &Policy,
    pair: &Pair,
    target: &Target,
    chain: &Chain,
    watch: Watch<'_>,
) -> Result<bool, Failure> {
    match federation.certify(chain, &pair.remote, Some(target)).await {
        Ok(witness) => {
            let who = match witness {
                Witness::Authority => "an authority that this server trusts has signed it",
                Witness::Dns => "its DNS says so (DANE)",
            };
            let text = format!("is for {}: {who}", pair.remote);
            step(watch, "certificate", true, text);
            Ok(true)
        }
        Err(doubt) => {
            let text = format!("The certificate of {} {}", pair.remote, doubt.reason());
            step(watch, "certificate", false, &text);
            if policy.authentication == PeerAuthentication::Certificate
                || matches!(doubt, Doubt::Refuted(_))
            {
                return Err(Failure::new(Obstacle::Untrusted, text));
            }
            Ok(false)
        }
    }
}

impl Negotiation {
    fn new(input: Input, output: Output) -> Self {
        Self {
            input,
            output,
            id: String::new(),
            features: Element::bare("features", ns::STREAM),
            encrypted: false,
            tls: String::new(),
            certified: false,
        }
    }

    fn secured(&mut self, tls: String, certified: bool) {
        self.encrypted = true;
        self.tls = tls;
        self.certified = certified;
    }

    /// Sends a header; reads theirs, and the features.
    async fn open(&mut self, pair: &Pair) -> Result<(), Failure> {
        self.output.open(&Opening {
            from: Some(&pair.local),
            to: Some(&pair.remote),
            lang: Some("en"),
            namespace: Some(ns::JABBER_SERVER),
            id: None,
        });
        self.flush(pair).await?;
        let header = match self.event(pair).await? {
            Event::Open(header) => header,
            Event::Element(_) | Event::Close => return Err(nonsense(pair)),
        };
        if header.namespace != ns::JABBER_SERVER {
            return Err(nonsense(pair));
        }
        self.id = header.id.unwrap_or_default();
        if self.id.is_empty() || self.id.len() > 1_024 {
            return Err(nonsense(pair));
        }
        self.features = if header.version.is_some() {
            let features = self.element(pair).await?;
            if !features.is("features", ns::STREAM) {
                return Err(nonsense(pair));
            }
            features
        } else {
            // What came before XMPP 1.0 knows dialback alone, and says so by its header.
            Element::bare("features", ns::STREAM)
        };
        Ok(())
    }

    async fn flush(&mut self, pair: &Pair) -> Result<(), Failure> {
        self.output.flush().await.map_err(|_broken| lost(pair))
    }

    /// The next event; a stream error is a failure with the words of the other server.
    async fn event(&mut self, pair: &Pair) -> Result<Event, Failure> {
        match self.input.next().await {
            Ok(Event::Element(error)) if error.is("error", ns::STREAM) => {
                Err(sent_away(pair, &error))
            }
            Ok(event) => Ok(event),
            Err(End::Error(..)) => Err(nonsense(pair)),
            Err(End::Closed | End::Lost | End::Resumed) => Err(lost(pair)),
        }
    }

    async fn element(&mut self, pair: &Pair) -> Result<Element, Failure> {
        match self.event(pair).await? {
            Event::Element(element) => Ok(element),
            Event::Close => Err(lost(pair)),
            Event::Open(_) => Err(nonsense(pair)),
        }
    }

    /// Sends what waits, and reads until an answer is recognised; what is none is passed over.
    async fn answer<T>(
        &mut self,
        pair: &Pair,
        read: impl Fn(&Element) -> Option<T>,
    ) -> Result<T, Failure> {
        self.flush(pair).await?;
        loop {
            if let Some(answer) = read(&self.element(pair).await?) {
                return Ok(answer);
            }
        }
    }

    /// RFC 6120, 5.
    async fn starttls(
        mut self,
        federation: &Federation,
        pair: &Pair,
        policy: &Policy,
        target: &Target,
        watch: Watch<'_>,
        limits: Limits,
    ) -> Result<Self, Failure> {
        self.output.element(&Element::bare("starttls", ns::TLS));
        self.flush(pair).await?;
        let answer = self.element(pair).await?;
        if !answer.is("proceed", ns::TLS) {
            let text = format!("The server of {} does not begin TLS", pair.remote);
            return Err(Failure::unreachable(text));
        }
        // What stands behind it was not protected (CVE-2011-0411).
        if !self.input.reader.is_empty() {
            return Err(nonsense(pair));
        }
        let (io, _) = wire::unsplit(self.input, self.output).ok_or_else(|| lost(pair))?;
        let (io, tls, chain) =
            handshake(&federation.0.tls.connect_starttls, io, &pair.remote).await?;
        step(watch, "tls", true, &tls);
        let certified = judge(federation, policy, pair, target, &chain, watch).await?;
        let (input, output) = wire::bytes(io, limits);
        let mut secured = Self::new(input, output);
        secured.secured(tls, certified);
        Ok(secured)
    }

    fn offers_bidi(&self) -> bool {
        self.certified && self.features.has_child("bidi", ns::BIDI_FEATURE)
    }

    /// Whether something is asked for that a server may break off at.
    fn asks(&self, wanted: Wanted) -> bool {
        wanted == Wanted::All && (self.offers_bidi() || self.offers_external())
    }

    /// The largest stanza that is taken; where nothing is said, what most servers take.
    fn most(&self) -> usize {
        const USUAL: usize = 512 * 1_024;
        let limits = self.features.get_child("limits", ns::STREAM_LIMITS);
        let most = limits.and_then(|limits| limits.get_child("max-bytes", ns::STREAM_LIMITS));
        let most = most.and_then(|most| most.text().trim().parse().ok());
        // RFC 6120, 13.12: nobody may take less.
        most.map_or(USUAL, |most: usize| most.max(10_000))
    }

    fn offers_external(&self) -> bool {
        let mechanisms = self.features.get_child("mechanisms", ns::SASL);
        self.encrypted
            && mechanisms.is_some_and(|mechanisms| {
                let mut mechanisms = mechanisms.children();
                mechanisms
                    .any(|one| one.is("mechanism", ns::SASL) && one.text().trim() == "EXTERNAL")
            })
    }
}

/// Shows who we are: by our certificate, else by dialback.
async fn authenticate(
    federation: &Federation,
    pair: &Pair,
    mut negotiation: Negotiation,
    wanted: Wanted,
    watch: Watch<'_>,
) -> Result<Link, Failure> {
    step(watch, "features", true, features(&negotiation.features));
    // XEP-0288, 2.1: only from whom we know to be who they are.
    let bidi = wanted == Wanted::All && negotiation.offers_bidi();
    if bidi {
        negotiation.output.element(&Element::bare("bidi", ns::BIDI));
    }
    let mut is_known = false;
    if wanted == Wanted::All && negotiation.offers_external() {
        match external(pair, &mut negotiation).await? {
            Ok(()) => {
                step(
                    watch,
                    "external",
                    true,
                    format!("we are known as {}", pair.local),
                );
                is_known = true;
            }
            Err(condition) => step(watch, "external", false, condition),
        }
    }
    if !is_known {
        dial_back(federation, pair, &mut negotiation, watch).await?;
    }
    // After dialback no features come anew; a server that has not told them before has none. The answer is read with the
    // traffic, which may have begun by then.
    let managed = negotiation.features.has_child("sm", ns::SM);
    let most = negotiation.most();
    if managed {
        negotiation.output.element(&Element::bare("enable", ns::SM));
    }
    negotiation.input.reader.authenticated();
    Ok(Link {
        pair: pair.clone(),
        input: negotiation.input,
        output: negotiation.output,
        way: Way {
            direction: if bidi { "out, both ways" } else { "out" },
            authentication: if is_known { "certificate" } else { "dialback" },
            tls: negotiation.tls,
        },
        managed,
        bidi,
        most,
    })
}

/// SASL EXTERNAL (XEP-0178, 3). `Ok(Err)`: the stream goes on, without.
async fn external(
    pair: &Pair,
    negotiation: &mut Negotiation,
) -> Result<Result<(), String>, Failure> {
    let mut auth = element("auth", ns::SASL, &[("mechanism", "EXTERNAL")]);
    auth.append_text(STANDARD.encode(&pair.local));
    negotiation.output.element(&auth);
    negotiation.flush(pair).await?;
    let answer = loop {
        let answer = negotiation.element(pair).await?;
        if answer.has_ns(ns::SASL) {
            break answer;
        }
    };
    if answer.name() != "success" {
        let condition = answer.children().next().map_or("failure", Element::name);
        return Ok(Err(condition.chars().take(80).collect()));
    }
    // What stands behind it belongs to the stream that has ended.
    if !negotiation.input.reader.is_empty() {
        return Err(nonsense(pair));
    }
    negotiation.input.reader.reset();
    negotiation.open(pair).await?;
    Ok(Ok(()))
}

/// XEP-0220, 2.1. Where nothing announces it, it is tried all the same: what is older than the feature knows it.
async fn dial_back(
    federation: &Federation,
    pair: &Pair,
    negotiation: &mut Negotiation,
    watch: Watch<'_>,
) -> Result<(), Failure> {
    let key = federation
        .0
        .secret
        .key(&pair.remote, &pair.local, &negotiation.id);
    negotiation.output.element(&dialback::request(pair, &key));
    let verdict = negotiation
        .answer(pair, |answer| {
            dialback::read_answer(answer, "result", pair, None)
        })
        .await?;
    let refused = match verdict {
        Verdict::Valid => {
            step(
                watch,
                "dialback",
                true,
                format!("we are known as {}", pair.local),
            );
            return Ok(());
        }
        Verdict::Invalid => format!(
            "{} does not believe that we are {}",
            pair.remote, pair.local
        ),
        Verdict::Error(error) => format!(
            "{} cannot find out that we are {}: {}",
            pair.remote,
            pair.local,
            error.text.unwrap_or_default()
        ),
    };
    step(watch, "dialback", false, &refused);
    Err(Failure::new(Obstacle::Refused, refused))
}

fn lost(pair: &Pair) -> Failure {
    Failure::unreachable(format!("The server of {} broke off", pair.remote))
}

fn nonsense(pair: &Pair) -> Failure {
    let text = format!("What answers for {} is no XMPP server", pair.remote);
    Failure::unreachable(text)
}

fn sent_away(pair: &Pair, error: &Element) -> Failure {
    let text = error.get_child("text", ns::XMPP_STREAMS).map(Element::text);
    let mut conditions = error
        .children()
        .filter(|child| child.has_ns(ns::XMPP_STREAMS));
    let condition = conditions.find(|child| child.name() != "text");
    let condition = condition.map_or("error", Element::name);
    let told: String = match text {
        Some(text) if !text.is_empty() => format!("{condition}: {text}"),
        _ => condition.to_owned(),
    };
    let told: String = told.chars().take(200).collect();
    let obstacle = match condition {
        "host-unknown" | "host-gone" => Obstacle::NotFound,
        "not-authorized" | "policy-violation" | "invalid-from" => Obstacle::Refused,
        _ => Obstacle::Unreachable,
    };
    Failure::new(
        obstacle,
        format!("The server of {} sent us away ({told})", pair.remote),
    )
}
