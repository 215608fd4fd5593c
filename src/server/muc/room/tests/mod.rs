//! The room as people meet it: what one sends, and what each of them gets.

mod administering;
mod configuring;
mod entering;
mod inviting;
mod leaving;
mod moderating;
mod properties;
mod registering;
mod speaking;
mod whispering;

use std::collections::BTreeMap;

use jid::{BareJid, FullJid};
use minidom::Element;

use super::{Limits, Room};
use crate::server::muc::config::Config;
use crate::server::muc::event::{Effect, Event, Incoming, Reveal, Tombstone};
use crate::server::muc::history::Request;
use crate::server::muc::room::saved::Stored;
use crate::xmpp::ns;

pub(super) const NOW: i64 = 1_800_000_000_000;

/// The people of XEP-0045, 4.3.
pub(super) const OWNER: &str = "crone1@shakespeare.example/desktop";
pub(super) const ADMIN: &str = "wiccarocks@shakespeare.example/laptop";
pub(super) const GUEST: &str = "hag66@shakespeare.example/pda";
pub(super) const OTHER: &str = "hecate@shakespeare.example/broom";

/// A room, and what came out of it since it was last asked.
pub(super) struct Stage {
    pub(super) room: Room,
    /// What each address got, in order.
    pub(super) got: BTreeMap<String, Vec<Element>>,
    pub(super) histories: Vec<(String, Request)>,
    pub(super) archived: usize,
    pub(super) queries: Vec<Reveal>,
    /// Id, author and what remains.
    pub(super) retractions: Vec<(String, Option<String>, Element)>,
    pub(super) destroyed: bool,
    pub(super) tombstone: Option<Tombstone>,
    /// What is stored.
    pub(super) stored: Stored,
}

impl Stage {
    /// An unlocked room that its owner is in as "firstwitch".
    pub(super) fn open(config: Config) -> Self {
        let mut stage = Self::empty(config, false);
        stage.enter(OWNER, "firstwitch");
        stage.clear();
        stage
    }

    /// With the admin, the guest and another in it too.
    pub(super) fn full(config: Config) -> Self {
        let mut stage = Self::open(config);
        stage.ask(OWNER, "set", "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='admin' jid='wiccarocks@shakespeare.example'/></query>");
        stage.enter(ADMIN, "secondwitch");
        stage.enter(GUEST, "thirdwitch");
        stage.clear();
        stage
    }

    pub(super) fn empty(config: Config, locked: bool) -> Self {
        let address = BareJid::new("coven@rooms.example").unwrap();
        let creator = FullJid::new(OWNER).unwrap().to_bare();
        let limits = Limits {
            occupants: 10,
            affiliations: 20,
            affiliation_bytes: 100_000,
            sessions: 3,
            archive: true,
        };
        Self {
            room: Room::create(address, creator, config, limits, [7; 32], locked),
            got: BTreeMap::new(),
            histories: Vec::new(),
            archived: 0,
            queries: Vec::new(),
            retractions: Vec::new(),
            destroyed: false,
            tombstone: None,
            stored: Stored::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.got.clear();
        self.histories.clear();
        self.retractions.clear();
        self.archived = 0;
    }

    /// A stanza from somebody; what is between `<name` and the rest is given, `to` too.
    pub(super) fn send(&mut self, from: &str, xml: &str) {
        let end = xml.find([' ', '>', '/']).unwrap();
        let (head, tail) = xml.split_at(end);
        let xml = format!("{head} xmlns='jabber:client' from='{from}'{tail}");
        let stanza: Element = xml.parse().unwrap_or_else(|err| panic!("{xml}: {err}"));
        let incoming = Incoming {
            is_own_bot: from.starts_with("bot@"),
            ..Incoming::read(stanza).unwrap()
        };
        self.happen(Event::Stanza(incoming));
    }

    pub(super) fn happen(&mut self, event: Event) {
        for effect in self.room.handle(NOW, event) {
            self.take(effect);
        }
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(stanza) | Effect::Send(stanza) => {
                let to = stanza.attr("to").unwrap().to_owned();
                self.got.entry(to).or_default().push(stanza);
            }
            Effect::Broadcast { to, stanza } => {
                assert!(!to.is_empty());
                for one in to.iter() {
                    let stanza = stanza.addressed(one).element();
                    self.got.entry(one.to_string()).or_default().push(stanza);
                }
            }
            Effect::Deliver { to, stanzas } => {
                let stanzas = stanzas.iter().map(|one| one.addressed(&to).element());
                self.got.entry(to.to_string()).or_default().extend(stanzas);
            }
            Effect::Speak(speech) => {
                self.archived += usize::from(speech.archived);
                for one in speech.to.iter() {
                    self.got
                        .entry(one.to_string())
                        .or_default()
                        .push(speech.stanza.clone());
                }
            }
            Effect::Retract(retraction) => {
                self.retractions
                    .push((retraction.id, retraction.author, retraction.remains));
                self.take(Effect::Speak(Box::new(retraction.speech)));
            }
            Effect::History { to, request } => self.histories.push((to.to_string(), request)),
            Effect::Query { reveal, .. } => self.queries.push(reveal),
            Effect::Persist(changes) => {
                for change in changes {
                    match change.value {
                        Some(value) => self.stored.insert(change.key, value),
                        None => self.stored.remove(&change.key),
                    };
                }
            }
            Effect::Destroyed(tombstone) => {
                self.destroyed = true;
                self.tombstone = tombstone;
            }
        }
    }

    pub(super) fn enter(&mut self, who: &str, nick: &str) {
        self.send(
            who,
            &format!("<presence to='coven@rooms.example/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"),
        );
    }

    pub(super) fn say(&mut self, who: &str, text: &str) {
        self.send(who, &format!("<message to='coven@rooms.example' type='groupchat' id='m'><body>{text}</body></message>"));
    }

    /// An IQ to the room; answers its answer.
    pub(super) fn ask(&mut self, who: &str, kind: &str, payload: &str) -> Element {
        self.send(
            who,
            &format!("<iq to='coven@rooms.example' type='{kind}' id='ask'>{payload}</iq>"),
        );
        let got = self.got.get_mut(who).expect("no answer");
        let place = got.iter().rposition(|one| one.attr("id") == Some("ask"));
        got.remove(place.expect("no answer"))
    }

    /// A change of muc#admin; answers the condition of its error, or "ok".
    pub(super) fn administer(&mut self, who: &str, items: &str) -> String {
        let payload = format!("<query xmlns='{}'>{items}</query>", ns::MUC_ADMIN);
        outcome(&self.ask(who, "set", &payload))
    }

    /// The JIDs or nicks of a list, or the condition of its error.
    pub(super) fn list(&mut self, who: &str, by: &str) -> Result<Vec<String>, String> {
        let payload = format!("<query xmlns='{}'><item {by}/></query>", ns::MUC_ADMIN);
        let answer = self.ask(who, "get", &payload);
        if answer.attr("type") == Some("error") {
            return Err(outcome(&answer));
        }
        let query = answer.get_child("query", ns::MUC_ADMIN).unwrap();
        let jids = query
            .children()
            .map(|item| item.attr("jid").unwrap().to_owned());
        Ok(jids.collect())
    }

    /// Submits a form with these fields.
    pub(super) fn configure(&mut self, who: &str, fields: &[(&str, &str)]) -> String {
        let field = |(var, value): &(&str, &str)| {
            format!("<field var='muc#roomconfig_{var}'><value>{value}</value></field>")
        };
        let fields: Vec<String> = fields.iter().map(field).collect();
        let fields = fields.concat();
        let form = format!(
            "<query xmlns='{}'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{}</value></field>{fields}</x></query>",
            ns::MUC_OWNER,
            ns::MUC_ROOMCONFIG
        );
        outcome(&self.ask(who, "set", &form))
    }

    /// What somebody got since, one line a stanza.
    pub(super) fn seen(&mut self, who: &str) -> Vec<String> {
        self.got
            .remove(who)
            .unwrap_or_default()
            .iter()
            .map(summary)
            .collect()
    }

    /// The condition of the last error somebody got, or "ok".
    pub(super) fn outcome(&mut self, who: &str) -> String {
        self.got
            .remove(who)
            .and_then(|got| got.last().map(outcome))
            .unwrap_or_else(|| "ok".into())
    }
}

/// "ok", or the condition of an error.
pub(super) fn outcome(stanza: &Element) -> String {
    match super::leave::condition(stanza) {
        Some(condition) => condition,
        None => "ok".into(),
    }
}

/// A stanza in short: its kind, whose it is, and what of it matters for rooms.
pub(super) fn summary(stanza: &Element) -> String {
    let from = stanza.attr("from").unwrap_or_default();
    let from = from.strip_prefix("coven@rooms.example").unwrap_or(from);
    let mut words = vec![
        stanza.attr("type").unwrap_or(stanza.name()).to_owned(),
        if from.is_empty() {
            "room".into()
        } else {
            from.trim_start_matches('/').to_owned()
        },
    ];
    for (name, prefix) in [("body", ""), ("subject", "subject:"), ("status", "status:")] {
        if let Some(child) = stanza.get_child(name, ns::JABBER_CLIENT) {
            words.push(format!("{prefix}{}", child.text()));
        }
    }
    if let Some(x) = stanza.get_child("x", ns::MUC_USER) {
        words.extend(x.children().map(of_user));
    }
    if let Some(condition) = super::leave::condition(stanza) {
        words.push(condition);
    }
    words.join(" ")
}

fn of_user(child: &Element) -> String {
    match child.name() {
        "item" => {
            let mut words = vec![
                child.attr("affiliation").unwrap_or_default().to_owned(),
                child.attr("role").unwrap_or_default().to_owned(),
            ];
            words.extend(child.attr("jid").map(str::to_owned));
            words.extend(child.attr("nick").map(|nick| format!("nick:{nick}")));
            if let Some(actor) = child.get_child("actor", ns::MUC_USER) {
                words.extend(actor.attr("nick").map(|nick| format!("by:{nick}")));
                words.extend(actor.attr("jid").map(|jid| format!("by:{jid}")));
            }
            words.extend(
                super::reason(child)
                    .unwrap()
                    .map(|reason| format!("reason:{reason}")),
            );
            words.join(",")
        }
        "status" => child.attr("code").unwrap_or_default().to_owned(),
        name => format!(
            "{name}:{}",
            child.attr("jid").or(child.attr("from")).unwrap_or_default()
        ),
    }
}
