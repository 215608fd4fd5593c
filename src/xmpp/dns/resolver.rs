//! Asks the DNS, once for all who want to know the same.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use hickory_resolver::net::{DnsError, NetError, xfer::DnsHandle};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::Name;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::answer::{self, Answer, Data, Kind};
use super::cache::Cache;
use super::order::{self, Said};
use super::places::Places;
use super::system::{State, Upstream};
use super::{Error, Service, Step, Target, ascii, is_local, is_loopback};

/// How long a lookup may take, with all that is asked again.
const LOOKUP: Duration = Duration::from_secs(10);
/// How long it may wait before, while many others ask.
const QUEUE: Duration = Duration::from_secs(20);
/// How often an alias may lead to another question.
const HOPS: usize = 4;

type Observer = Arc<dyn Fn(Step<'_>) + Send + Sync>;

/// A handle; clones share what has been heard.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
    observer: Option<Observer>,
}

struct Shared {
    upstream: Mutex<Upstream>,
    cache: Mutex<Cache>,
    places: Places,
}

/// An answer and how many seconds it holds.
type Heard = (Answer, Option<u32>);

impl Resolver {
    /// This machine's: the same for the whole process.
    pub fn system() -> Self {
        static SYSTEM: OnceLock<Resolver> = OnceLock::new();
        SYSTEM.get_or_init(|| Self::new(Upstream::system())).clone()
    }

    /// One that asks these servers; `trusted`: and believes them what they call authentic (RFC 4035, 3.2.3).
    pub fn at(servers: &[SocketAddr], trusted: bool) -> Self {
        Self::new(Upstream::fixed(servers, trusted))
    }

    fn new(upstream: Upstream) -> Self {
        Self {
            shared: Arc::new(Shared {
                upstream: Mutex::new(upstream),
                cache: Mutex::default(),
                places: Places::default(),
            }),
            observer: None,
        }
    }

    /// The same, which tells what it does.
    #[must_use]
    pub fn watched(&self, observer: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            observer: Some(Arc::new(observer)),
        }
    }

    pub(super) fn tell(&self, step: Step<'_>) {
        if let Some(observer) = &self.observer {
            observer(step);
        }
    }

    /// Whether what the DNS signs can be believed here, so that TLSA records count.
    pub fn is_trusted(&self) -> bool {
        self.state().trusted
    }

    /// All targets of a domain, best first; never none.
    pub async fn targets(&self, domain: &str, service: Service) -> Result<Vec<Target>, Error> {
        let domain = ascii(domain)?;
        let mut random = |most: u32| rand::random_range(0..=most);
        if is_local(&domain) {
            return Ok(vec![order::itself(&domain, service)]);
        }
        let (starttls, direct) = (service.starttls(&domain), service.direct(&domain));
        let (starttls, direct) = tokio::join!(
            self.lookup(&starttls, Kind::Srv),
            self.lookup(&direct, Kind::Srv)
        );
        let said = Said {
            starttls: starttls.as_deref(),
            direct: direct.as_deref(),
        };
        if let Some(targets) = order::order(&domain, service, said, &mut random)? {
            return Ok(targets);
        }
        // What nobody can reach is said here, so that the texts are about the domain.
        self.addresses(&domain).await?;
        Ok(vec![order::itself(&domain, service)])
    }

    /// All addresses of a host; never none.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        let (six, four) = tokio::join!(self.lookup(host, Kind::Aaaa), self.lookup(host, Kind::A));
        let found: Vec<IpAddr> = [&six, &four]
            .into_iter()
            .flatten()
            .flat_map(|answer| answer.addresses())
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let (six, four) = (six?, four?);
        Err(if six.exists || four.exists {
            Error::NoAddress(host.to_owned())
        } else {
            Error::NoSuchDomain(host.to_owned())
        })
    }

    /// What the DNS says about a name; that it says nothing is an answer too. An error is always a temporary one, or the
    /// name's own fault.
    pub async fn lookup(&self, name: &str, kind: Kind) -> Result<Arc<Answer>, Error> {
        let outcome = match local(name, kind) {
            Some(answer) => Ok(Arc::new(answer)),
            None => self.remembered(name, kind).await,
        };
        self.tell(Step::Asked {
            name,
            kind,
            outcome: outcome.as_deref(),
        });
        outcome
    }

    async fn remembered(&self, name: &str, kind: Kind) -> Result<Arc<Answer>, Error> {
        let asked = absolute(name)?;
        let state = self.state();
        if let Some(answer) = state.local(&asked, kind) {
            return Ok(Arc::new(answer));
        }
        let question = (answer::text(&asked), kind);
        let known = || locked(&self.shared.cache).get(&question, Instant::now());
        if let Some(outcome) = known() {
            return outcome;
        }
        let place = timeout(QUEUE, self.shared.places.take(name)).await;
        let _place = place.map_err(|_elapsed| temporary(name, "too many ask about it"))?;
        // Somebody else may have heard it meanwhile.
        if let Some(outcome) = known() {
            return outcome;
        }
        let heard = timeout(LOOKUP, self.hear(&state, asked, kind)).await;
        let heard = heard.unwrap_or_else(|_elapsed| Err(temporary(name, "it does not answer")));
        match heard {
            Ok((answer, ttl)) => {
                let answer = Arc::new(answer);
                let kept = Arc::clone(&answer);
                locked(&self.shared.cache).keep(question, kept, ttl, Instant::now());
                Ok(answer)
            }
            Err(err) => {
                debug!(name, %kind, %err, "A lookup failed");
                locked(&self.shared.upstream).doubt();
                if matches!(err, Error::Temporary { .. }) {
                    locked(&self.shared.cache).keep_failure(question, err.clone(), Instant::now());
                }
                Err(err)
            }
        }
    }

    /// Asks, and asks on where an alias leads out of what the resolver has told (RFC 1034, 5.3.3).
    async fn hear(&self, state: &State, asked: Name, kind: Kind) -> Result<Heard, Error> {
        let mut name = asked.clone();
        let mut heard = Answer::default();
        let (mut ttl, mut secure) = (None, state.trusted);
        for _ in 0..HOPS {
            let (reading, hop) = ask(state, &name, kind).await?;
            secure &= hop.secure;
            ttl = shorter(ttl, hop.ttl);
            let moved = reading.name != name;
            name = reading.name;
            heard.exists = hop.exists;
            heard.records = reading.records;
            if !heard.records.is_empty() || !moved || hop.complete {
                break;
            }
        }
        heard.secure = secure;
        heard.alias = (name != asked).then(|| answer::text(&name));
        Ok((heard, ttl))
    }

    /// What this machine appends to the names of its own network.
    pub(super) fn search(&self) -> Vec<Name> {
        self.state().search.clone()
    }

    fn state(&self) -> Arc<State> {
        let (state, changed) = locked(&self.shared.upstream).current();
        if changed {
            locked(&self.shared.cache).clear();
        }
        state
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// What one message says beside its records.
struct Hop {
    exists: bool,
    secure: bool,
    ttl: Option<u32>,
    /// There is nothing more to ask about, wherever an alias leads.
    complete: bool,
}

async fn ask(state: &State, name: &Name, kind: Kind) -> Result<(answer::Reading, Hop), Error> {
    let pool = state
        .pool
        .as_ref()
        .map_err(|reason| Error::NoResolver(reason.clone()))?;
    let query = Query::query(name.clone(), kind.record_type());
    let mut request = DnsRequest::from_query(query, DnsRequestOptions::default());
    // Asks for the bit of that name in the answer, without the signatures (RFC 6840, 5.7).
    request.metadata.authentic_data = state.trusted;
    match pool.send(request).next().await {
        Some(Ok(message)) => {
            let exists = message.response_code != ResponseCode::NXDomain;
            let negative = message.negative_ttl();
            let reading = answer::read(name, kind, &message.answers);
            let ttl = if reading.records.is_empty() {
                shorter(reading.ttl, negative)
            } else {
                reading.ttl
            };
            let hop = Hop {
                exists,
                secure: message.authentic_data,
                ttl,
                complete: !exists || negative.is_some(),
            };
            Ok((reading, hop))
        }
        Some(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => {
            let hop = Hop {
                exists: none.response_code != ResponseCode::NXDomain,
                // The library keeps no more than that there is nothing, and nobody here needs it proved.
                secure: false,
                ttl: none.negative_ttl,
                complete: true,
            };
            Ok((answer::read(name, kind, &[]), hop))
        }
        Some(Err(err @ (NetError::Io(_) | NetError::NoConnections))) => {
            Err(Error::NoResolver(err.to_string()))
        }
        Some(Err(err)) => Err(temporary(&answer::text(name), &reason(&err))),
        None => Err(temporary(&answer::text(name), "it does not answer")),
    }
}

fn shorter(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn temporary(name: &str, reason: &str) -> Error {
    Error::Temporary {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}

fn reason(err: &NetError) -> String {
    match err {
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            "its name servers fail, or its DNSSEC signatures are wrong (SERVFAIL)".to_owned()
        }
        NetError::Dns(DnsError::ResponseCode(code)) => {
            format!("the resolver refuses ({})", code.to_str())
        }
        NetError::Timeout => "the resolver does not answer".to_owned(),
        err => err.to_string(),
    }
}

/// What needs no DNS: addresses, and the loopback (RFC 6761, 6.3).
fn local(name: &str, kind: Kind) -> Option<Answer> {
    let addresses = if let Ok(address) = name.parse::<IpAddr>() {
        vec![address]
    } else if is_loopback(name) {
        vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        return None;
    };
    let records = addresses
        .into_iter()
        .filter(|address| match kind {
            Kind::A => address.is_ipv4(),
            Kind::Aaaa => address.is_ipv6(),
            Kind::Srv | Kind::Tlsa => false,
        })
        .map(Data::Address);
    Some(Answer {
        records: records.collect(),
        exists: true,
        ..Answer::default()
    })
}

fn absolute(name: &str) -> Result<Name, Error> {
    let mut parsed = Name::from_ascii(name).map_err(|err| Error::NotAName {
        name: name.to_owned(),
        reason: err.to_string(),
    })?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

/// Nothing panics while it holds a lock; what it guards is whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
