//! The whole stream as one state machine (RFC 6120, XEP-0198, XEP-0388): random steps, right ones and wrong ones, in pieces of any
//! size, over several connections; and a [`model`] that says what must come back. `PROPTEST_CASES` says how long.

mod model;

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use self::model::{Model, Place, Reply};
use super::*;
use crate::server::accounts::Accounts;
use crate::storage::memory::memory;
use crate::xmpp::scram::Hash;

/// How a login is carried, and what SASL2 asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Sasl,
    Sasl2 { bind: bool, manage: bool },
}

impl Profile {
    const BARE: Self = Self::Sasl2 {
        bind: false,
        manage: false,
    };

    fn namespace(self) -> &'static str {
        match self {
            Self::Sasl => ns::SASL,
            Self::Sasl2 { .. } => ns::SASL2,
        }
    }

    fn begin(self, mechanism: &str, initial: &str) -> String {
        match self {
            Self::Sasl => format!(
                "<auth xmlns='{}' mechanism='{mechanism}'>{initial}</auth>",
                ns::SASL
            ),
            Self::Sasl2 { bind, manage } => {
                let manage = if manage {
                    "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"
                } else {
                    ""
                };
                let bind = if bind {
                    format!("<bind xmlns='urn:xmpp:bind:0'>{manage}</bind>")
                } else {
                    String::new()
                };
                format!(
                    "<authenticate xmlns='{}' mechanism='{mechanism}'><initial-response>{initial}</initial-response>\
                     <user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>{bind}</authenticate>",
                    ns::SASL2
                )
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Ours,
    Elsewhere,
    /// To us, `from` juliet.
    AsAnother,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Right,
    Wrong,
    Garbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Own,
    Juliets,
    Nobodys,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Header(Target),
    StartTls,
    Scram(Profile),
    Answer(Answer),
    Abort(Profile),
    Plain(Profile, bool),
    /// A token (XEP-0484) that nobody has been given.
    Token,
    Register,
    Preauth,
    Bind,
    Session,
    Enable(bool),
    /// `true`: with a count that is too high.
    Resume(Whose, bool),
    Request,
    Acknowledge(bool),
    Ping,
    /// A request that nothing answers to.
    Odd,
    Message {
        to_juliet: bool,
    },
    Presence,
    /// `from` juliet.
    Forged,
    Csi(bool),
    Space,
    Unknown(usize),
    Broken(usize),
    Close,
    /// The connection breaks.
    Cut,
}

/// Well-formed, and nothing that a client sends.
const UNKNOWN: [&str; 7] = [
    "<hello xmlns='urn:x'/>",
    "<message xmlns='jabber:server'/>",
    "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    "<features xmlns='http://etherx.jabber.org/streams'/>",
    "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
    "<handshake xmlns='jabber:component:accept'/>",
];

/// Nothing that a stream may hold (RFC 6120, 11).
const BROKEN: [&str; 9] = [
    "<a><!-- --></a>",
    "<a></b>",
    "<!DOCTYPE a>",
    "text",
    "<a>&lol;</a>",
    "<x:a/>",
    "<a b='1' b='2'/>",
    "<?php ?>",
    "<a>\0</a>",
];

impl Step {
    fn is_stanza(self) -> bool {
        matches!(
            self,
            Self::Register
                | Self::Preauth
                | Self::Bind
                | Self::Session
                | Self::Ping
                | Self::Odd
                | Self::Message { .. }
                | Self::Presence
                | Self::Forged
        )
    }
}

fn profile() -> impl Strategy<Value = Profile> {
    prop_oneof![
        2 => Just(Profile::Sasl),
        1 => Just(Profile::BARE),
        2 => any::<bool>().prop_map(|manage| Profile::Sasl2 { bind: true, manage }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let harmless = prop_oneof![
        Just(Step::Ping),
        Just(Step::Odd),
        Just(Step::Session),
        Just(Step::Presence),
        Just(Step::Request),
        Just(Step::Space),
        any::<bool>().prop_map(Step::Csi),
        any::<bool>().prop_map(|to_juliet| Step::Message { to_juliet }),
        any::<bool>().prop_map(Step::Enable),
        Just(Step::Acknowledge(false)),
    ];
    let login = prop_oneof![
        profile().prop_map(Step::Scram),
        prop_oneof![
            Just(Answer::Right),
            Just(Answer::Wrong),
            Just(Answer::Garbage)
        ]
        .prop_map(Step::Answer),
        profile().prop_map(Step::Abort),
        Just(Step::Token),
        Just(Step::Register),
        Just(Step::Preauth),
        Just(Step::Bind),
        Just(Step::StartTls),
        (
            prop_oneof![Just(Whose::Own), Just(Whose::Juliets), Just(Whose::Nobodys)],
            prop::bool::weighted(0.2)
        )
            .prop_map(|(whose, too_high)| Step::Resume(whose, too_high)),
    ];
    let target = prop_oneof![
        Just(Target::Ours),
        Just(Target::Elsewhere),
        Just(Target::AsAnother)
    ];
    let rare = prop_oneof![
        target.prop_map(Step::Header),
        // Costs what a password costs.
        (profile(), any::<bool>()).prop_map(|(profile, right)| Step::Plain(profile, right)),
        Just(Step::Acknowledge(true)),
        Just(Step::Forged),
        (0..UNKNOWN.len()).prop_map(Step::Unknown),
        (0..BROKEN.len()).prop_map(Step::Broken),
        Just(Step::Close),
        Just(Step::Cut),
    ];
    prop_oneof![6 => harmless, 4 => login, 1 => rare]
}

/// A connection: how it begins, how far it goes as it should, and what it does then.
#[derive(Clone, Debug)]
struct Life {
    direct_tls: bool,
    /// How many of the steps of [`Life::route`].
    progress: usize,
    profile: Profile,
    /// Takes up the last session instead of binding a new one.
    resumes: bool,
    steps: Vec<Step>,
    /// The sizes of the pieces in which it writes.
    pieces: Vec<usize>,
}

fn life() -> impl Strategy<Value = Life> {
    let progress = prop_oneof![1 => 0..8_usize, 3 => Just(9)];
    (
        prop::bool::weighted(0.7),
        progress,
        profile(),
        any::<bool>(),
        vec(step(), 0..14),
        vec(1..40_usize, 1..6),
    )
        .prop_map(
            |(direct_tls, progress, profile, resumes, steps, pieces)| Life {
                direct_tls,
                progress,
                profile,
                resumes,
                steps,
                pieces,
            },
        )
}

impl Life {
    /// What a client does that means well.
    fn route(&self) -> Vec<Step> {
        let mut route = Vec::new();
        if !self.direct_tls {
            route.extend([Step::Header(Target::Ours), Step::StartTls]);
        }
        route.extend([
            Step::Header(Target::Ours),
            Step::Scram(self.profile),
            Step::Answer(Answer::Right),
        ]);
        match self.profile {
            Profile::Sasl => route.push(Step::Header(Target::Ours)),
            Profile::Sasl2 { bind: true, .. } => return route,
            Profile::Sasl2 { bind: false, .. } => {}
        }
        if self.resumes {
            route.push(Step::Resume(Whose::Own, false));
        }
        route.extend([Step::Bind, Step::Enable(true)]);
        route
    }
}

/// A session that waits to be taken up.
struct Parked {
    id: String,
    resource: String,
    handled: u32,
    received: u32,
}

/// One client after the other, and juliet, who watches.
struct Stage {
    house: House,
    juliet: testing::Client,
    client: Option<Client>,
    model: Model,
    pieces: Vec<usize>,
    /// SCRAM's own message, and the challenge.
    exchange: (String, String),
    jid: String,
    sm_id: String,
    /// Stanzas of the server since XEP-0198 is on.
    received: u32,
    parked: Option<Parked>,
    number: usize,
    /// Requests by their ids: how often they were answered.
    answers: BTreeMap<String, u32>,
    /// Messages to juliet that had to be routed, by their ids: from whom.
    said: BTreeMap<String, String>,
}

const JULIETS: &str = "the id of a session of juliet";

impl Stage {
    async fn new() -> Self {
        let mut settings = Settings::new("example.org");
        settings.limits.login_failures_per_ip = 1_000_000;
        settings.limits.c2s_bytes_per_second = 0;
        settings.limits.sessions_per_user = 1_000;
        let storage = memory();
        let domain = jid::DomainPart::new("example.org").unwrap().into_owned();
        let accounts = Accounts::open(storage.clone(), &domain).await.unwrap();
        for name in ["romeo", "juliet"] {
            let name = jid::NodePart::new(name).unwrap().into_owned();
            accounts.add(&name, testing::credentials()).await.unwrap();
        }
        let server = Server::new(Arc::new(settings), storage, accounts).unwrap();
        let juliet = testing::online(&server, "juliet/balcony").await;
        let house = House::of(server);
        // Nobody will ever ask for it.
        drop(house.streams.0.resumable.insert(
            JULIETS.to_owned(),
            BareJid::new("juliet@example.org").unwrap(),
        ));
        Self {
            house,
            juliet,
            client: None,
            model: Model::new(false),
            pieces: vec![1],
            exchange: Default::default(),
            jid: String::new(),
            sm_id: String::new(),
            received: 0,
            parked: None,
            number: 0,
            answers: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    async fn live(&mut self, life: &Life) -> Result<(), String> {
        self.pieces.clone_from(&life.pieces);
        self.model = Model::new(life.direct_tls);
        let security = if life.direct_tls {
            Security::DirectTls
        } else {
            Security::StartTls
        };
        let client = self.house.connect(ADDRESS, security);
        self.client = Some(if life.direct_tls {
            client.encrypt().await
        } else {
            client
        });
        let route = life.route().into_iter().take(life.progress);
        let route: Vec<_> = route.collect();
        let well = route.len();
        for (number, step) in route.iter().chain(&life.steps).enumerate() {
            if self.model.place == Place::Over {
                break;
            }
            // Where a session was taken up, none is bound.
            if number < well
                && self.model.place == Place::Bound
                && matches!(step, Step::Bind | Step::Enable(_))
            {
                continue;
            }
            self.step(*step)
                .await
                .map_err(|why| format!("{step:?} (number {number}): {why}"))?;
        }
        if self.model.place == Place::Bound {
            self.barrier().await?;
            self.step(Step::Cut).await?;
        }
        self.client = None;
        self.watch()
    }

    fn id(&mut self) -> String {
        self.number += 1;
        format!("i{}", self.number)
    }

    /// Everything that was sent before has been handled, and its answers have come.
    async fn barrier(&mut self) -> Result<(), String> {
        Box::pin(self.step(Step::Ping)).await?;
        let silent: Vec<_> = self
            .answers
            .iter()
            .filter(|(_, times)| **times != 1)
            .collect();
        if silent.is_empty() {
            self.answers.clear();
            Ok(())
        } else {
            Err(format!("answered otherwise than once: {silent:?}"))
        }
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        if let Step::Acknowledge(_) = step
            && self.model.place == Place::Bound
        {
            self.barrier().await?;
        }
        let id = self.id();
        let text = self.text(step, &id);
        let parked = self.parked.is_some();
        let bound = self.model.place == Place::Bound;
        let waits_for_header = self.model.place == Place::Header;
        let reply = self.model.take(&step, &text, parked);
        if step == Step::Cut {
            self.cut(bound);
            return Ok(());
        }
        if waits_for_header {
            // What comes begins anew, be it only for an error.
            self.client.as_mut().unwrap().reader.reset();
        }
        self.write(&text).await;
        if bound && !matches!(reply, Reply::Error(_)) {
            if matches!(reply, Reply::Iq(_)) {
                self.answers.insert(id.clone(), 0);
            }
            if step == (Step::Message { to_juliet: true }) {
                self.said.insert(id.clone(), self.jid.clone());
            }
        }
        self.expect(step, reply, &id).await?;
        if self.model.place == Place::Over && bound {
            // Politely or for a fault: such a session is not kept (XEP-0198, 5).
            self.answers.clear();
        }
        Ok(())
    }

    fn cut(&mut self, bound: bool) {
        self.client = None;
        self.answers.clear();
        if bound && self.model.resumable {
            self.parked = Some(Parked {
                id: self.sm_id.clone(),
                resource: self.jid.clone(),
                handled: self.model.handled,
                received: self.received,
            });
        }
    }

    fn text(&mut self, step: Step, id: &str) -> String {
        let iq = |kind: &str, payload: &str| format!("<iq type='{kind}' id='{id}'>{payload}</iq>");
        match step {
            Step::Header(target) => {
                let header = match target {
                    Target::Ours => HEADER.to_owned(),
                    Target::Elsewhere => HEADER.replace("example.org", "example.com"),
                    Target::AsAnother => HEADER.replace(" to=", " from='juliet@example.org' to="),
                };
                format!("<?xml version='1.0'?>{header}")
            }
            Step::StartTls => format!("<starttls xmlns='{}'/>", ns::TLS),
            Step::Scram(profile) => {
                self.exchange.0 = format!("n=romeo,r={id}");
                let initial = STANDARD.encode(format!("n,,{}", self.exchange.0));
                profile.begin("SCRAM-SHA-256", &initial)
            }
            Step::Answer(answer) => {
                let namespace = match self.model.place {
                    Place::Challenged(profile) => profile.namespace(),
                    _ => ns::SASL,
                };
                let challenged = matches!(self.model.place, Place::Challenged(_));
                let data = match answer {
                    Answer::Garbage => "!".to_owned(),
                    _ if !challenged => "=".to_owned(),
                    answer => STANDARD.encode(self.proof(answer == Answer::Right)),
                };
                format!("<response xmlns='{namespace}'>{data}</response>")
            }
            Step::Abort(profile) => format!("<abort xmlns='{}'/>", profile.namespace()),
            Step::Plain(profile, right) => {
                let password = if right { testing::PASSWORD } else { "wrong" };
                profile.begin("PLAIN", &STANDARD.encode(format!("\0romeo\0{password}")))
            }
            Step::Token => {
                let proof = STANDARD.encode(format!("romeo\0{}", "x".repeat(32)));
                let begun = Profile::BARE.begin("HT-SHA-256-NONE", &proof);
                begun.replace(
                    "</authenticate>",
                    "<fast xmlns='urn:xmpp:fast:0'/></authenticate>",
                )
            }
            Step::Register => iq("get", "<query xmlns='jabber:iq:register'/>"),
            Step::Preauth => iq("set", "<preauth xmlns='urn:xmpp:pars:0' token='no'/>"),
            Step::Bind => iq(
                "set",
                "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind>",
            ),
            Step::Session => iq(
                "set",
                "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>",
            ),
            Step::Enable(resume) => {
                format!("<enable xmlns='urn:xmpp:sm:3' resume='{resume}'/>")
            }
            Step::Resume(whose, too_high) => {
                let (id, count) = match (whose, &self.parked) {
                    (Whose::Own, Some(parked)) => (parked.id.as_str(), parked.received),
                    (Whose::Juliets, _) => (JULIETS, 0),
                    _ => ("nobodys", 0),
                };
                let count = count + if too_high { 1_000 } else { 0 };
                format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{count}'/>")
            }
            Step::Request => "<r xmlns='urn:xmpp:sm:3'/>".to_owned(),
            Step::Acknowledge(too_high) => {
                let count = self.received + u32::from(too_high);
                format!("<a xmlns='urn:xmpp:sm:3' h='{count}'/>")
            }
            Step::Ping => iq("get", "<ping xmlns='urn:xmpp:ping'/>"),
            Step::Odd => iq("set", "<odd xmlns='urn:x'/>"),
            Step::Message { to_juliet } => {
                let to = if to_juliet {
                    "juliet@example.org/balcony"
                } else {
                    &self.jid
                };
                format!("<message to='{to}' type='chat' id='{id}'><body>said</body></message>")
            }
            Step::Presence => "<presence/>".to_owned(),
            Step::Forged => format!(
                "<message from='juliet@example.org/balcony' to='juliet@example.org/balcony' id='{id}'><body>no</body></message>"
            ),
            Step::Csi(true) => "<active xmlns='urn:xmpp:csi:0'/>".to_owned(),
            Step::Csi(false) => "<inactive xmlns='urn:xmpp:csi:0'/>".to_owned(),
            Step::Space => " \n".to_owned(),
            Step::Unknown(number) => UNKNOWN[number].to_owned(),
            Step::Broken(number) => BROKEN[number].to_owned(),
            Step::Close => "</stream:stream>".to_owned(),
            Step::Cut => String::new(),
        }
    }

    /// ClientFinal of RFC 5802.
    fn proof(&self, right: bool) -> String {
        let (first, challenge) = &self.exchange;
        let field = |name: &str| {
            let mut fields = challenge.split(',');
            fields
                .find_map(|field| field.strip_prefix(name))
                .unwrap_or_default()
        };
        let last = format!("c=biws,r={}", field("r="));
        let exchange = format!("{first},{challenge},{last}");
        let hash = Hash::Sha256;
        let client = hash.sign(salted(field("s=")), b"Client Key");
        let signature = hash.sign(&hash.digest(&client), exchange.as_bytes());
        let flip = u8::from(!right);
        let proof: Vec<u8> = client
            .iter()
            .zip(signature)
            .map(|(client, signature)| client ^ signature ^ flip)
            .collect();
        format!("{last},p={}", STANDARD.encode(proof))
    }

    async fn write(&mut self, text: &str) {
        let client = self.client.as_mut().unwrap();
        let mut rest = text.as_bytes();
        let mut sizes = self.pieces.iter().cycle();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = tail;
            // The server may have hung up: then the answer says why.
            if client.io.write_all(piece).await.is_err() || client.io.flush().await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The next thing that is no stanza for somebody who listens; `None`: the end.
    async fn event(&mut self) -> Result<Option<Event>, String> {
        let next = timeout(Duration::from_secs(20), async {
            self.client.as_mut().unwrap().event().await
        });
        next.await.map_err(|_late| "nothing has come".to_owned())
    }

    async fn expect(&mut self, step: Step, reply: Reply, id: &str) -> Result<(), String> {
        match reply {
            Reply::Nothing => return Ok(()),
            Reply::Error(conditions) => return self.over(Some(conditions)).await,
            Reply::Closed => return self.over(None).await,
            Reply::Features => match self.event().await? {
                Some(Event::Open(header)) if header.from.as_deref() == Some("example.org") => {}
                other => return Err(format!("{other:?} instead of a header")),
            },
            _ => {}
        }
        let element = loop {
            match self.event().await? {
                Some(Event::Element(element)) => {
                    if self.is_aside(&element, reply, id)? {
                        continue;
                    }
                    break element;
                }
                other => return Err(format!("{other:?} instead of {reply:?}")),
            }
        };
        let fits = self.fits(step, reply, &element)?;
        if !fits {
            return Err(format!("{} instead of {reply:?}", String::from(&element)));
        }
        match reply {
            Reply::Proceed => {
                let client = self.client.take().unwrap();
                self.client = Some(client.encrypt().await);
            }
            Reply::Success(Profile::Sasl2 { .. }) => match self.event().await? {
                Some(Event::Element(features)) if features.is("features", ns::STREAM) => {}
                other => return Err(format!("{other:?} instead of features")),
            },
            Reply::Failure(.., true) | Reply::Iq(true) => {
                return self.over(Some(&["policy-violation"])).await;
            }
            _ => {}
        }
        Ok(())
    }

    /// Stanzas come when they come, and requests for acknowledgements too.
    fn is_aside(&mut self, element: &Element, reply: Reply, id: &str) -> Result<bool, String> {
        let stanza = matches!(element.name(), "iq" | "message" | "presence")
            && element.has_ns(ns::JABBER_CLIENT);
        if !stanza {
            return Ok(element.is("r", ns::SM) && self.model.managed);
        }
        let kind = element.attr("type").unwrap_or_default();
        let answers = element.name() == "iq" && matches!(kind, "result" | "error");
        let own = answers && element.attr("id") == Some(id);
        if own && matches!(reply, Reply::Iq(_) | Reply::Bound) && self.model.place != Place::Bound {
            return Ok(false);
        }
        if own && reply == Reply::Bound {
            return Ok(false);
        }
        if self.model.place != Place::Bound {
            return Err(format!(
                "a stanza before a session: {}",
                String::from(element)
            ));
        }
        if self.model.managed {
            self.received += 1;
        }
        if answers {
            let id = element.attr("id").unwrap_or_default();
            let times = self.answers.get_mut(id);
            *times.ok_or_else(|| format!("an answer to nothing: {}", String::from(element)))? += 1;
        }
        Ok(!(own && matches!(reply, Reply::Iq(_))))
    }

    /// Whether the element is what had to come; takes from it what later steps need.
    fn fits(&mut self, step: Step, reply: Reply, element: &Element) -> Result<bool, String> {
        Ok(match reply {
            Reply::Features => element.is("features", ns::STREAM),
            Reply::Proceed => element.is("proceed", ns::TLS),
            Reply::Challenge(profile) => {
                let text = STANDARD.decode(element.text()).unwrap_or_default();
                self.exchange.1 = String::from_utf8_lossy(&text).into_owned();
                element.is("challenge", profile.namespace())
            }
            Reply::Success(profile) => {
                if let Some(enabled) = element
                    .get_child("bound", ns::BIND2)
                    .and_then(|bound| bound.get_child("enabled", ns::SM))
                {
                    self.manage(enabled);
                }
                if let Some(jid) = element.get_child("authorization-identifier", ns::SASL2) {
                    self.bound(&jid.text());
                }
                element.is("success", profile.namespace())
            }
            Reply::Failure(profile, condition, _) => {
                element.is("failure", profile.namespace()) && element.has_child(condition, ns::SASL)
            }
            Reply::Iq(_) => element.name() == "iq",
            Reply::Bound => {
                let bind = element.get_child("bind", ns::BIND);
                let jid = bind.and_then(|bind| bind.get_child("jid", ns::BIND));
                let jid = jid.map(Element::text).unwrap_or_default();
                self.bound(&jid);
                jid == "romeo@example.org/r"
            }
            Reply::Failed => element.is("failed", ns::SM),
            Reply::Enabled => {
                self.manage(element);
                let resumes = element.attr("id").is_some();
                element.is("enabled", ns::SM) && resumes == (step == Step::Enable(true))
            }
            Reply::Resumed => {
                let parked = self.parked.take().ok_or("nothing is parked")?;
                self.sm_id.clone_from(&parked.id);
                self.jid = parked.resource;
                self.received = parked.received;
                self.model.handled = parked.handled;
                let count = element
                    .attr("h")
                    .and_then(|count| count.parse::<u32>().ok());
                // A step that was on its way when the connection broke may have been lost with it.
                let count = count.ok_or("no count")?;
                let handled = std::mem::replace(&mut self.model.handled, count);
                element.is("resumed", ns::SM) && count <= handled
            }
            Reply::Count(handled) => {
                element.is("a", ns::SM) && element.attr("h") == Some(handled.to_string().as_str())
            }
            Reply::Nothing | Reply::Error(_) | Reply::Closed => false,
        })
    }

    fn manage(&mut self, enabled: &Element) {
        self.sm_id = enabled.attr("id").unwrap_or_default().to_owned();
        self.received = 0;
    }

    /// A session is bound: one of the same name has made room.
    fn bound(&mut self, jid: &str) {
        jid.clone_into(&mut self.jid);
        self.parked.take_if(|parked| parked.resource == jid);
    }

    /// With one of these conditions, or none: the stream ends, and nothing comes after the end.
    async fn over(&mut self, conditions: Option<&[&str]>) -> Result<(), String> {
        let mut found = None;
        loop {
            match self.event().await? {
                Some(Event::Element(element)) if element.is("error", ns::STREAM) => {
                    let condition = element
                        .children()
                        .next()
                        .map(|child| child.name().to_owned());
                    if found.is_some() {
                        return Err("two errors".to_owned());
                    }
                    found = Some(condition.unwrap_or_default());
                }
                // The header that an error stands in, and what was on its way.
                Some(Event::Open(_)) => {}
                Some(Event::Element(element)) if found.is_none() && element.name() != "success" => {
                }
                Some(Event::Close) | None => break,
                other => return Err(format!("{other:?} at the end")),
            }
        }
        let mut rest = Vec::new();
        let client = self.client.as_mut().unwrap();
        client.io.read_to_end(&mut rest).await.ok();
        if !rest.is_empty() || !client.reader.is_empty() {
            return Err(format!(
                "after the end: {:?}",
                String::from_utf8_lossy(&rest)
            ));
        }
        match (conditions, found) {
            (None, None) | (Some([]), Some(_)) => Ok(()),
            (Some(wanted), Some(found)) if wanted.contains(&found.as_str()) => Ok(()),
            (wanted, found) => Err(format!("the end with {found:?} instead of {wanted:?}")),
        }
    }

    /// What juliet has got: what was said to her in a session, once, and by whom it was; nothing else.
    fn watch(&mut self) -> Result<(), String> {
        let mut got = BTreeSet::new();
        for stanza in self.juliet.drain() {
            if stanza.name() != "message" {
                return Err(format!("juliet got {}", String::from(&stanza)));
            }
            let id = stanza.attr("id").unwrap_or_default().to_owned();
            if self.said.get(&id).map(String::as_str) != stanza.attr("from") || !got.insert(id) {
                return Err(format!("juliet got {}", String::from(&stanza)));
            }
        }
        self.said.retain(|id, _| !got.contains(id));
        // What was said before a barrier has arrived; the rest was lost with its connection, or is to be.
        Ok(())
    }

    /// Every task ends, the parked ones in their time.
    async fn end(mut self) -> Result<(), String> {
        self.client = None;
        let all = async {
            while let Some(ended) = self.house.tasks.join_next().await {
                ended.map_err(|why| format!("a task has died: {why}"))?;
            }
            Ok(())
        };
        timeout(Duration::from_hours(1), all)
            .await
            .map_err(|_late| "a task does not end".to_owned())?
    }
}

/// The salted password: it takes a while, and is the same for all.
fn salted(salt: &str) -> &'static [u8] {
    static SALTED: std::sync::OnceLock<(String, Vec<u8>)> = std::sync::OnceLock::new();
    let (known, salted) = SALTED.get_or_init(|| {
        let bytes = STANDARD.decode(salt).unwrap();
        let iterations = crate::server::accounts::ITERATIONS;
        (
            salt.to_owned(),
            Hash::Sha256.salt(testing::PASSWORD, &bytes, iterations),
        )
    });
    assert_eq!(known, salt, "all accounts of tests share their credentials");
    salted
}

async fn play(lives: &[Life]) -> Result<(), String> {
    let mut stage = Stage::new().await;
    for (number, life) in lives.iter().enumerate() {
        let lived = stage.live(life).await;
        lived.map_err(|why| format!("life {number}: {why}"))?;
    }
    stage.end().await
}

fn run(lives: &[Life]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(play(lives))
}

fn cases() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(64),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_stream_does_what_the_model_says_whatever_a_client_does(lives in vec(life(), 1..5)) {
        let played = run(&lives);
        prop_assert!(played.is_ok(), "{}", played.unwrap_err());
    }
}
