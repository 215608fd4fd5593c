//! A name server on the loopback that says what a test wants, and counts who asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV, TLSA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::{Resolver, tlsa};

/// What is said about a name and a type.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Records(Vec<Record>),
    /// SERVFAIL, for example.
    Failure(ResponseCode),
    Silence,
}

type Zone = BTreeMap<(String, RecordType), Reply>;

#[derive(Default)]
struct Contents {
    zone: Zone,
    asked: Vec<(String, RecordType)>,
    /// The names whose answers it calls authentic end so.
    authentic: Vec<String>,
    ttl: u32,
}

/// Answers until it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    contents: Arc<Mutex<Contents>>,
    _task: JoinSet<()>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let contents = Arc::new(Mutex::new(Contents {
            ttl: 60,
            ..Contents::default()
        }));
        let mut task = JoinSet::new();
        task.spawn(serve(socket, Arc::clone(&contents)));
        Self {
            address,
            contents,
            _task: task,
        }
    }

    /// One that asks here, and believes what is called authentic.
    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::at(&[self.address], true)
    }

    /// How long what is said from now on holds, in seconds.
    pub(crate) fn ttl(&self, ttl: u32) {
        self.contents.lock().unwrap().ttl = ttl;
    }

    /// Everything below this name is signed, and was validated.
    pub(crate) fn sign(&self, end: &str) {
        self.contents.lock().unwrap().authentic.push(end.to_owned());
    }

    /// `target` is empty where there is no service.
    pub(crate) fn srv(&self, owner: &str, priority: u16, weight: u16, port: u16, target: &str) {
        let target = name(target);
        self.add(owner, RData::SRV(SRV::new(priority, weight, port, target)));
    }

    pub(crate) fn address(&self, owner: &str, address: &str) {
        let data = match address.parse().unwrap() {
            std::net::IpAddr::V4(address) => RData::A(A(address)),
            std::net::IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        self.add(owner, data);
    }

    pub(crate) fn tlsa(&self, owner: &str, record: &tlsa::Record) {
        let data = TLSA::new(
            record.usage.into(),
            record.selector.into(),
            record.matching.into(),
            record.data.clone(),
        );
        self.add(owner, RData::TLSA(data));
    }

    pub(crate) fn alias(&self, owner: &str, target: &str) {
        self.add(owner, RData::CNAME(CNAME(name(target))));
    }

    /// A name that has something, but no address.
    pub(crate) fn add_text(&self, owner: &str, text: &str) {
        self.add(owner, RData::TXT(TXT::new(vec![text.to_owned()])));
    }

    pub(crate) fn add(&self, owner: &str, data: RData) {
        let mut contents = self.contents.lock().unwrap();
        let record = Record::from_rdata(name(owner), contents.ttl, data);
        let key = (owner.to_owned(), record.record_type());
        match contents.zone.get_mut(&key) {
            Some(Reply::Records(records)) => records.push(record),
            _ => {
                contents.zone.insert(key, Reply::Records(vec![record]));
            }
        }
    }

    /// Takes lines of a zone file.
    pub(crate) fn write(&self, lines: &[&str]) {
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            let owner = words[0].trim_end_matches('.');
            match words[3..] {
                ["A" | "AAAA", address] => {
                    self.forget(owner);
                    self.address(owner, address);
                }
                ["SRV", priority, weight, port, target] => {
                    let number = |text: &str| text.parse().unwrap();
                    self.srv(
                        owner,
                        number(priority),
                        number(weight),
                        number(port),
                        target,
                    );
                }
                ["TLSA", usage, selector, matching, data] => {
                    let number = |text: &str| text.parse().unwrap();
                    let digits: Vec<u32> =
                        data.chars().map(|it| it.to_digit(16).unwrap()).collect();
                    let bytes = digits
                        .chunks(2)
                        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]));
                    let record = tlsa::Record {
                        usage: number(usage),
                        selector: number(selector),
                        matching: number(matching),
                        data: bytes.map(Result::unwrap).collect(),
                    };
                    self.tlsa(owner, &record);
                }
                _ => panic!("{line}"),
            }
        }
    }

    pub(crate) fn reply(&self, owner: &str, kind: RecordType, reply: Reply) {
        let mut contents = self.contents.lock().unwrap();
        contents.zone.insert((owner.to_owned(), kind), reply);
    }

    pub(crate) fn forget(&self, owner: &str) {
        let mut contents = self.contents.lock().unwrap();
        contents.zone.retain(|(name, _), _| name != owner);
    }

    /// How often a name was asked about.
    pub(crate) fn asked(&self, owner: &str, kind: RecordType) -> usize {
        let contents = self.contents.lock().unwrap();
        let question = (owner.to_owned(), kind);
        contents.asked.iter().filter(|it| **it == question).count()
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

async fn serve(socket: UdpSocket, contents: Arc<Mutex<Contents>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let request = Message::from_vec(&buffer[..length]).unwrap();
        let response = contents.lock().unwrap().answer(&request);
        if let Some(response) = response {
            let bytes = response.to_vec().unwrap();
            // Who asked may be gone.
            socket.send_to(&bytes, from).await.ok();
        }
    }
}

impl Contents {
    fn answer(&mut self, request: &Message) -> Option<Message> {
        let query = request.queries.first().unwrap().clone();
        let owner = super::answer::text(query.name());
        self.asked.push((owner.clone(), query.query_type()));
        let mut response = request.clone().into_response();
        response.metadata.recursion_available = true;
        response.metadata.authentic_data = request.metadata.authentic_data
            && self.authentic.iter().any(|end| owner.ends_with(end));
        let of = |kind| self.zone.get(&(owner.clone(), kind));
        // One alias at a time: who asks must ask on.
        match of(query.query_type()).or_else(|| of(RecordType::CNAME)) {
            Some(Reply::Records(records)) => {
                response.add_answers(records.iter().cloned());
            }
            Some(Reply::Failure(code)) => response.metadata.response_code = *code,
            Some(Reply::Silence) => return None,
            None => {
                if !self.exists(&owner) {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                response.add_authority(self.start_of_authority());
            }
        }
        Some(response)
    }

    /// Whether there is anything at a name or below.
    fn exists(&self, owner: &str) -> bool {
        let below = format!(".{owner}");
        self.zone
            .keys()
            .any(|(name, _)| name == owner || name.ends_with(&below))
    }

    fn start_of_authority(&self) -> Record {
        let data = SOA::new(name("ns.test"), name("root.test"), 1, 1, 1, 1, self.ttl);
        Record::from_rdata(name("test"), self.ttl, RData::SOA(data))
    }
}
