//! What we can do (XEP-0030, XEP-0115), and what our contacts' clients can: learned from the hash in their presence,
//! asked once per hash, and believed for others only where the hash is right (XEP-0115, 5.4: no poisoning).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jid::Jid;
use minidom::Element;
use xmpp_parsers::caps::{Caps, compute_disco, hash_caps};
use xmpp_parsers::disco::{DiscoInfoQuery, DiscoInfoResult, Identity};
use xmpp_parsers::hashes::Algo;
use xmpp_parsers::presence::{Presence, Type};

use crate::xmpp::element::{element, find};
use crate::xmpp::ns;

/// Names this software in entity capabilities.
pub const NODE: &str = "https://moltis.org/xmpp";

/// What the bot announces. docs/xeps.md says which test shows each.
const FEATURES: &[&str] = &[
    ns::CAPS,
    ns::CHATSTATES,
    ns::COMMANDS,
    ns::CONFERENCE,
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::DISPLAYED_MARKERS,
    ns::FALLBACK,
    ns::FILE_SHARING,
    ns::LAST,
    ns::MESSAGE_CORRECT,
    ns::MUC,
    ns::OOB,
    ns::PING,
    ns::REACTIONS,
    ns::RECEIPTS,
    ns::REFERENCE,
    ns::REPLY,
    ns::RETRACT,
    ns::STANZA_ID,
    ns::STYLING,
    ns::TIME,
    ns::VERSION,
];

/// Our disco#info result; `node` as it was asked for.
pub fn own(name: &str, node: Option<String>) -> DiscoInfoResult {
    DiscoInfoResult {
        node,
        identities: vec![Identity::new("client", "bot", "", name)],
        features: FEATURES.iter().map(|&feature| feature.to_owned()).collect(),
        extensions: Vec::new(),
    }
}

/// The `<c/>` of our presence.
pub fn own_caps(name: &str) -> Option<Caps> {
    let hash = hash_caps(&compute_disco(&own(name, None)), Algo::Sha_1).ok()?;
    Some(Caps::new(NODE, hash))
}

/// Whether a disco#info node is ours: none, or that of our present capabilities.
pub fn is_own_node(node: Option<&str>, name: &str) -> bool {
    let Some(node) = node else { return true };
    own_caps(name).is_some_and(|caps| {
        let ver = STANDARD.encode(&caps.ver);
        node == format!("{NODE}#{ver}")
    })
}

/// What one client, or one version of one, can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    pub features: BTreeSet<String>,
    /// Says that it is an automaton: identity client/bot.
    pub bot: bool,
}

impl Entity {
    /// From a disco#info result, with bounds on what a stranger may make us keep.
    pub fn read(query: &Element) -> Self {
        let features = query
            .children()
            .filter(|child| child.is("feature", ns::DISCO_INFO))
            .filter_map(|feature| feature.attr("var"))
            .filter(|feature| feature.len() <= 256)
            .take(256)
            .map(ToOwned::to_owned)
            .collect();
        let bot = query.children().any(|child| {
            child.is("identity", ns::DISCO_INFO)
                && child.attr("category") == Some("client")
                && child.attr("type") == Some("bot")
        });
        Self { features, bot }
    }
}

/// A question to put to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub to: Jid,
    caps: Option<Version>,
}

impl Ask {
    pub fn query(&self) -> Element {
        let node = self
            .caps
            .as_ref()
            .map(|caps| format!("{}#{}", caps.node, caps.ver));
        DiscoInfoQuery { node }.into()
    }
}

/// The version that a presence announces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    node: String,
    hash: String,
    ver: String,
}

impl Version {
    fn read(presence: &Presence) -> Option<Self> {
        let caps = find(&presence.payloads, "c", ns::CAPS)?;
        let attribute = |name| {
            let value = caps.attr(name)?;
            (value.len() <= 512).then(|| value.to_owned())
        };
        Some(Self {
            node: attribute("node")?,
            hash: attribute("hash")?,
            ver: attribute("ver")?,
        })
    }

    /// Whether a disco#info result has this hash.
    fn verifies(&self, query: &Element) -> bool {
        let Ok(disco) = DiscoInfoResult::try_from(query.clone()) else {
            return false;
        };
        let Ok(algorithm) = self.hash.parse::<Algo>() else {
            return false;
        };
        hash_caps(&compute_disco(&disco), algorithm)
            .is_ok_and(|hash| STANDARD.encode(&hash.hash) == self.ver)
    }
}

/// Clients that are remembered; past this the oldest addresses are forgotten and asked again when they matter.
const MAX_CLIENTS: usize = 5_000;
const MAX_VERSIONS: usize = 500;

/// What is known of other clients.
#[derive(Debug, Default)]
pub struct Contacts {
    /// By full JID; `None` while asked.
    clients: BTreeMap<Jid, Option<Arc<Entity>>>,
    versions: BTreeMap<Version, Arc<Entity>>,
    /// Others that announce a version which somebody is being asked about: a room of thousands is one question.
    waiting: BTreeMap<Version, Vec<Jid>>,
}

impl Contacts {
    /// Other bots of this kind, with their default name, are known without asking: from their first message on.
    pub fn know_ourselves(&mut self, name: &str) {
        let Some(caps) = own_caps(name) else { return };
        let version = Version {
            node: caps.node,
            hash: "sha-1".into(),
            ver: STANDARD.encode(&caps.ver),
        };
        let entity = Entity::read(&own(name, None).into());
        self.versions.insert(version, Arc::new(entity));
    }

    /// Takes a presence in and says whom to ask.
    pub fn presence(&mut self, presence: &Presence) -> Option<Ask> {
        let from = presence.from.as_ref()?;
        match presence.type_ {
            Type::Unavailable => {
                self.clients.remove(from);
                None
            }
            Type::None => {
                let version = Version::read(presence)?;
                if let Some(entity) = self.versions.get(&version).cloned() {
                    self.remember(from, Some(entity));
                    return None;
                }
                if self.clients.contains_key(from) {
                    return None;
                }
                if let Some(waiting) = self.waiting.get_mut(&version) {
                    if waiting.len() < MAX_CLIENTS {
                        waiting.push(from.clone());
                    }
                    self.remember(from, None);
                    return None;
                }
                if self.waiting.len() < MAX_VERSIONS {
                    self.waiting.insert(version.clone(), Vec::new());
                }
                self.ask(from, Some(version))
            }
            _ => None,
        }
    }

    /// A message came from a client whose presence we have not seen.
    pub fn message(&mut self, from: &Jid) -> Option<Ask> {
        from.resource()?;
        self.ask(from, None)
    }

    fn ask(&mut self, to: &Jid, caps: Option<Version>) -> Option<Ask> {
        if self.clients.contains_key(to) {
            return None;
        }
        self.remember(to, None);
        Some(Ask {
            to: to.clone(),
            caps,
        })
    }

    fn remember(&mut self, jid: &Jid, entity: Option<Arc<Entity>>) {
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(jid) {
            self.clients.clear();
        }
        self.clients.insert(jid.clone(), entity);
    }

    /// The answer to [`Ask`]; `None` where there was none. Says whom to ask instead: whoever gave a wrong hash, or no answer,
    /// does not speak for the others of that version.
    pub fn answered(&mut self, ask: &Ask, query: Option<&Element>) -> Option<Ask> {
        let entity = query.map(|query| self.shared(Entity::read(query)));
        match &entity {
            Some(entity) => self.remember(&ask.to, Some(Arc::clone(entity))),
            None => drop(self.clients.remove(&ask.to)),
        }
        let version = ask.caps.as_ref()?;
        let mut waiting = self.waiting.remove(version)?;
        match (entity, query) {
            (Some(entity), Some(query)) if version.verifies(query) => {
                if self.versions.len() >= MAX_VERSIONS {
                    self.versions.clear();
                }
                self.versions.insert(version.clone(), Arc::clone(&entity));
                for jid in waiting {
                    // Who has left meanwhile is not remembered.
                    if let Some(known @ None) = self.clients.get_mut(&jid) {
                        *known = Some(Arc::clone(&entity));
                    }
                }
                None
            }
            _ => {
                let to = std::iter::from_fn(|| waiting.pop())
                    .find(|jid| matches!(self.clients.get(jid), Some(None)))?;
                self.waiting.insert(version.clone(), waiting);
                Some(Ask {
                    to,
                    caps: Some(version.clone()),
                })
            }
        }
    }

    /// It is not asked after all.
    pub fn skipped(&mut self, ask: &Ask) {
        self.clients.remove(&ask.to);
        let others = ask.caps.as_ref();
        let others = others.and_then(|version| self.waiting.remove(version));
        for jid in others.unwrap_or_default() {
            self.clients.remove(&jid);
        }
    }

    /// The same as what is known already, where it is: most clients are alike, and one list of features takes kilobytes.
    fn shared(&self, entity: Entity) -> Arc<Entity> {
        let known = self.clients.values().flatten();
        known
            .chain(self.versions.values())
            .find(|known| ***known == entity)
            .cloned()
            .unwrap_or_else(|| Arc::new(entity))
    }

    /// Whether all clients of a bare JID, or this one, announce a feature; `None` while one of them is not known.
    pub fn supports(&self, jid: &Jid, feature: &str) -> Option<bool> {
        let mut known = None;
        for entity in self.of(jid) {
            match entity {
                Some(entity) if entity.features.contains(feature) => known = Some(true),
                Some(_) => return Some(false),
                None => return None,
            }
        }
        known
    }

    pub fn is_bot(&self, jid: &Jid) -> bool {
        self.of(jid).flatten().any(|entity| entity.bot)
    }

    fn of(&self, jid: &Jid) -> impl Iterator<Item = Option<&Arc<Entity>>> {
        let bare = jid.to_bare();
        let full = jid.resource().is_some();
        self.clients
            .range(Jid::from(bare.clone())..)
            .take_while(move |(client, _)| client.as_str().starts_with(bare.as_str()))
            .filter(move |(client, _)| {
                if full {
                    *client == jid
                } else {
                    client.to_bare() == jid.to_bare()
                }
            })
            .map(|(_, entity)| entity.as_ref())
    }

    /// A new session: what was learned of addresses is stale, of versions is not.
    pub fn reset(&mut self) {
        self.clients.clear();
        self.waiting.clear();
    }
}

/// The answer to disco#items where we have none.
pub fn no_items() -> Element {
    element("query", ns::DISCO_ITEMS, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_bot_of_our_kind_is_known_for_one_at_once() {
        let mut contacts = Contacts::default();
        contacts.know_ourselves("Moltis");
        let mut presence = Presence::available();
        presence.from = Some(Jid::new("room@c/other").unwrap());
        presence.payloads.push(own_caps("Moltis").unwrap().into());
        assert_eq!(contacts.presence(&presence), None, "nothing is asked");
        assert!(contacts.is_bot(&Jid::new("room@c/other").unwrap()));
    }

    fn presence(from: &str, ver: &str) -> Presence {
        let mut presence = Presence::available();
        presence.from = Some(Jid::new(from).unwrap());
        presence.payloads.push(element(
            "c",
            ns::CAPS,
            &[
                ("node", "https://client.example"),
                ("hash", "sha-1"),
                ("ver", ver),
            ],
        ));
        presence
    }

    /// XEP-0115, 5.2: the simple generation example.
    const EXODUS: &str = "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' name='Exodus 0.9.1' type='pc'/><feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/></query>";
    const EXODUS_VER: &str = "QgayPKawpkPSDYmwT/WM94uAlu0=";

    #[test]
    fn a_version_is_asked_once_and_then_known_of_everyone_who_announces_it() {
        let mut contacts = Contacts::default();
        let ask = contacts.presence(&presence("a@b/c", EXODUS_VER)).unwrap();
        assert_eq!(contacts.supports(&Jid::new("a@b").unwrap(), ns::MUC), None);
        contacts.answered(&ask, Some(&EXODUS.parse().unwrap()));
        assert_eq!(contacts.presence(&presence("d@e/f", EXODUS_VER)), None);
        for jid in ["a@b", "a@b/c", "d@e"] {
            assert_eq!(
                contacts.supports(&Jid::new(jid).unwrap(), ns::MUC),
                Some(true),
                "{jid}"
            );
            assert_eq!(
                contacts.supports(&Jid::new(jid).unwrap(), ns::MESSAGE_CORRECT),
                Some(false)
            );
        }
        assert_eq!(contacts.supports(&Jid::new("a@bb").unwrap(), ns::MUC), None);
    }

    #[test]
    fn what_many_clients_announce_is_kept_once() {
        let mut contacts = Contacts::default();
        for client in ["a@b/c", "d@e/f"] {
            let ask = contacts.message(&Jid::new(client).unwrap()).unwrap();
            contacts.answered(&ask, Some(&EXODUS.parse().unwrap()));
        }
        let entities: Vec<_> = contacts.clients.values().flatten().collect();
        assert!(Arc::ptr_eq(entities[0], entities[1]));
    }

    #[test]
    fn a_wrong_hash_is_believed_of_nobody_else() {
        let mut contacts = Contacts::default();
        let ask = contacts
            .presence(&presence("evil@b/c", "AAAAPKawpkPSDYmwT/WM94uAlu0="))
            .unwrap();
        contacts.answered(&ask, Some(&EXODUS.parse().unwrap()));
        assert!(
            contacts
                .presence(&presence("d@e/f", "AAAAPKawpkPSDYmwT/WM94uAlu0="))
                .is_some()
        );
    }

    #[test]
    fn a_room_full_of_one_version_is_one_question_and_a_liar_answers_for_nobody_else() {
        let mut contacts = Contacts::default();
        let liar = contacts.presence(&presence("r@c/0", EXODUS_VER)).unwrap();
        for nick in 1..100 {
            let occupant = presence(&format!("r@c/{nick}"), EXODUS_VER);
            assert_eq!(contacts.presence(&occupant), None, "{nick}");
        }
        let lie = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let next = contacts.answered(&liar, Some(&lie.parse().unwrap()));
        let next = next.unwrap();
        assert_eq!(next.to.to_string(), "r@c/99");
        assert_eq!(
            contacts.answered(&next, Some(&EXODUS.parse().unwrap())),
            None
        );
        let supports = |nick: &str| contacts.supports(&Jid::new(nick).unwrap(), ns::MUC);
        assert_eq!(supports("r@c/1"), Some(true));
        assert_eq!(supports("r@c/0"), Some(false));
    }

    #[test]
    fn all_clients_of_a_person_must_have_a_feature() {
        let mut contacts = Contacts::default();
        let ask = contacts.presence(&presence("a@b/1", EXODUS_VER)).unwrap();
        contacts.answered(&ask, Some(&EXODUS.parse().unwrap()));
        let other = contacts.message(&Jid::new("a@b/2").unwrap()).unwrap();
        let bot = "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='bot'/></query>";
        contacts.answered(&other, Some(&bot.parse().unwrap()));
        assert_eq!(
            contacts.supports(&Jid::new("a@b").unwrap(), ns::MUC),
            Some(false)
        );
        assert_eq!(
            contacts.supports(&Jid::new("a@b/1").unwrap(), ns::MUC),
            Some(true)
        );
        assert!(contacts.is_bot(&Jid::new("a@b/2").unwrap()));
    }

    #[test]
    fn our_own_hash_names_our_own_node() {
        let caps = own_caps("Moltis").unwrap();
        let ver = STANDARD.encode(&caps.ver);
        assert!(is_own_node(Some(&format!("{NODE}#{ver}")), "Moltis"));
        assert!(is_own_node(None, "Moltis"));
        assert!(!is_own_node(Some("x"), "Moltis"));
    }
}
