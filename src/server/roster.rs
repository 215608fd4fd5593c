//! Rosters (RFC 6121, 2): the contacts of an account in memory and in the store, and the IQs that read and change them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jid::BareJid;
use minidom::Element;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::groups::Groups;
use super::mail::Mail;
use super::router::{IqType, Reply, Request, Router, Target};
use super::session::Session;
use super::stanza::iq;
use super::subscription::State;
use super::{Server, StanzaError};
use crate::storage::{Batch, KeyValue, Storage};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

/// Contacts by account and bare JID.
pub const ROSTER: KeyValue = KeyValue("roster");
/// The version of an account's roster (RFC 6121, 2.6): key `version`.
pub const ROSTER_VERSION: KeyValue = KeyValue("roster_version");

/// How many contacts one account may have.
const MOST_CONTACTS: usize = 5_000;
/// How long a name or a group may be, in bytes, and how many groups a contact may have.
const LONGEST_NAME: usize = 1_023;
const MOST_GROUPS: usize = 64;
/// And all that together: thousands of contacts are kept in memory, and told in one stanza.
const MOST_TEXT: usize = 4_096;

/// One contact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(with = "stored")]
    pub state: State,
    /// The request that waits for an answer, as XML: it is delivered again at each login (RFC 6121, 3.1.3).
    #[serde(default)]
    pub request: Option<String>,
    /// The user has put it into the roster, or a subscription did; else it is here for `request` or an approval alone.
    #[serde(default)]
    pub listed: bool,
}

impl Contact {
    /// The `<item/>` of it.
    pub fn item(&self, jid: &BareJid) -> Element {
        let mut item = element(
            "item",
            ns::ROSTER,
            &[("jid", jid.as_str()), ("subscription", self.state.name())],
        );
        if let Some(name) = &self.name {
            set(&mut item, "name", name);
        }
        if self.state.pending_out {
            set(&mut item, "ask", "subscribe");
        }
        if self.state.approved {
            set(&mut item, "approved", "true");
        }
        for group in &self.groups {
            item.append_child(text_element("group", ns::ROSTER, group));
        }
        item
    }

    /// Nothing of it is worth keeping.
    fn is_empty(&self) -> bool {
        !self.listed && self.state == State::default()
    }
}

/// A state as a few letters.
mod stored {
    use super::State;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        state: &State,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let letters = [
            (state.to, 't'),
            (state.from, 'f'),
            (state.pending_out, 'o'),
            (state.pending_in, 'i'),
            (state.approved, 'a'),
        ];
        let set = letters.iter().filter(|(set, _)| *set);
        serializer.collect_str(&set.map(|(_, letter)| letter).collect::<String>())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<State, D::Error> {
        let letters = String::deserialize(deserializer)?;
        Ok(State {
            to: letters.contains('t'),
            from: letters.contains('f'),
            pending_out: letters.contains('o'),
            pending_in: letters.contains('i'),
            approved: letters.contains('a'),
        })
    }
}

/// The contacts of an account. Read at once; changed one after the other.
#[derive(Debug)]
pub struct Roster {
    account: BareJid,
    owner: String,
    /// What is laid over what is stored.
    groups: Arc<Groups>,
    storage: Storage,
    inner: Mutex<Inner>,
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    contacts: BTreeMap<BareJid, Contact>,
    version: u64,
}

impl Roster {
    async fn load(server: &Server, account: &Account) -> Result<Self, crate::storage::Error> {
        let (storage, owner) = (server.storage(), account.owner());
        let mut contacts = BTreeMap::new();
        for (jid, value) in storage.list(ROSTER, owner, "").await? {
            if let (Ok(jid), Ok(contact)) = (BareJid::new(&jid), serde_json::from_slice(&value)) {
                contacts.insert(jid, contact);
            }
        }
        let version = storage.get(ROSTER_VERSION, owner, "version").await?;
        let version = version.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        Ok(Self {
            account: account.jid().clone(),
            owner: owner.to_owned(),
            groups: Groups::of(server),
            storage: storage.clone(),
            inner: Mutex::new(Inner {
                contacts,
                version: version.unwrap_or(0),
            }),
            changing: tokio::sync::Mutex::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn contact(&self, jid: &BareJid) -> Option<Contact> {
        let stored = self.inner().contacts.get(jid).cloned();
        self.groups.over(&self.account, jid, stored)
    }

    /// Whether somebody is a contact because the owner of the server wants it.
    pub fn is_shared(&self, jid: &BareJid) -> bool {
        !self.groups.common(&self.account, jid).is_empty()
    }

    /// The state of somebody, known or not.
    pub fn state(&self, jid: &BareJid) -> State {
        if self.is_shared(jid) {
            let contact = self.contact(jid);
            return contact.map(|contact| contact.state).unwrap_or_default();
        }
        let inner = self.inner();
        let contact = inner.contacts.get(jid);
        contact.map(|contact| contact.state).unwrap_or_default()
    }

    /// How many stored ones this holds for.
    pub fn count(&self, wanted: impl Fn(&Contact) -> bool) -> usize {
        let inner = self.inner();
        inner
            .contacts
            .values()
            .filter(|contact| wanted(contact))
            .count()
    }

    /// Those for whom this holds, in order.
    pub fn those(&self, wanted: impl Fn(&Contact) -> bool) -> Vec<(BareJid, Contact)> {
        if self.groups.concerns(&self.account) {
            let stored = self.inner().contacts.clone();
            let all = self.groups.over_all(&self.account, stored);
            return all
                .into_iter()
                .filter(|(_, contact)| wanted(contact))
                .collect();
        }
        let inner = self.inner();
        let those = inner.contacts.iter().filter(|(_, contact)| wanted(contact));
        those
            .map(|(jid, contact)| (jid.clone(), contact.clone()))
            .collect()
    }

    pub fn version(&self) -> String {
        let shared = self.groups.version(&self.account);
        format!("{}{shared}", self.inner().version)
    }

    /// Changes what is stored of one contact: kept before anybody is told. Answers what it is now; `None` where nothing is
    /// left of it.
    pub async fn change(
        &self,
        jid: &BareJid,
        change: impl FnOnce(&mut Contact) -> Result<(), StanzaError>,
    ) -> Result<Option<Contact>, StanzaError> {
        let _one_at_a_time = self.changing.lock().await;
        let (mut contact, known, count, version) = {
            let inner = self.inner();
            let contact = inner.contacts.get(jid).cloned();
            let known = contact.is_some();
            (
                contact.unwrap_or_default(),
                known,
                inner.contacts.len(),
                inner.version,
            )
        };
        let before = contact.clone();
        change(&mut contact)?;
        if contact == before {
            return Ok(self.contact(jid));
        }
        if !known && count >= MOST_CONTACTS {
            return Err(StanzaError::resource_constraint().text("The contact list is full"));
        }
        let version = version.saturating_add(1);
        let batch = Batch::new().put(
            ROSTER_VERSION,
            &self.owner,
            "version",
            version.to_string().into_bytes(),
        );
        let gone = contact.is_empty();
        let batch = if gone {
            batch.delete(ROSTER, &self.owner, jid.as_str())
        } else {
            let value = serde_json::to_vec(&contact)
                .map_err(|_impossible| StanzaError::internal_server_error())?;
            batch.put(ROSTER, &self.owner, jid.as_str(), value)
        };
        self.storage.commit(batch).await?;
        {
            let mut inner = self.inner();
            inner.version = version;
            if gone {
                inner.contacts.remove(jid);
            } else {
                inner.contacts.insert(jid.clone(), contact);
            }
        }
        Ok(self.contact(jid))
    }
}

impl Account {
    /// The roster, read from the store the first time.
    pub async fn roster(&self, server: &Server) -> Result<&Roster, StanzaError> {
        let loading = || Roster::load(server, self);
        Ok(self.roster.get_or_try_init(loading).await?)
    }
}

/// Tells all sessions of a change (RFC 6121, 2.1.6).
pub(super) fn push(account: &Account, roster: &Roster, item: &Element) {
    let mut query = Element::bare("query", ns::ROSTER);
    set(&mut query, "ver", &roster.version());
    query.append_child(item.clone());
    account.push(|session: &Session| {
        let mut push = iq("set", &super::random_id(), query.clone());
        set(&mut push, "to", session.jid().as_str());
        set(&mut push, "from", account.jid().as_str());
        Mail::new(push)
    });
}

/// An item that is gone.
pub(super) fn removed(jid: &BareJid) -> Element {
    element(
        "item",
        ns::ROSTER,
        &[("jid", jid.as_str()), ("subscription", "remove")],
    )
}

pub(super) fn register(router: &mut Router) -> anyhow::Result<()> {
    router.iq(&[Target::Own], IqType::Get, "query", ns::ROSTER, get)?;
    router.iq(&[Target::Own], IqType::Set, "query", ns::ROSTER, change)
}

/// RFC 6121, 2.1.3 and 2.6.
async fn get(request: Request) -> Reply {
    let account = request.account()?;
    let roster = account.roster(&request.server).await?;
    request.session()?.set_interested();
    let version = roster.version();
    let known = request.payload.attr("ver");
    if known == Some(version.as_str()) {
        return Ok(None);
    }
    let mut query = Element::bare("query", ns::ROSTER);
    if known.is_some() {
        set(&mut query, "ver", &version);
    }
    for (jid, contact) in roster.those(|contact| contact.listed) {
        query.append_child(contact.item(&jid));
    }
    Ok(Some(query))
}

/// RFC 6121, 2.3 to 2.5.
async fn change(request: Request) -> Reply {
    let mut items = request.payload.children();
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(StanzaError::bad_request().text("Exactly one item, please"));
    };
    if !item.is("item", ns::ROSTER) {
        return Err(StanzaError::bad_request());
    }
    let jid = item.attr("jid").ok_or_else(StanzaError::bad_request)?;
    // A resource is of no meaning here; RFC 6121, 2.1.2.3 has a bare JID.
    let jid = jid::Jid::new(jid)
        .map_err(|_malformed| StanzaError::jid_malformed())?
        .into_bare();
    let account = Arc::clone(request.account()?);
    if jid == *account.jid() {
        return Err(StanzaError::not_allowed().text("That is yourself"));
    }
    if item.attr("subscription") == Some("remove") {
        return remove(&request, &account, &jid).await;
    }
    let (name, mut groups) = wishes(item)?;
    let roster = account.roster(&request.server).await?;
    if roster.is_shared(&jid) {
        // The server's own groups are its own matter; a client repeats them.
        let names = roster.groups.names(account.jid());
        groups.retain(|group| !names.contains(group.as_str()));
    }
    let contact = roster
        .change(&jid, |contact| {
            contact.name = name;
            contact.groups = groups;
            contact.listed = true;
            Ok(())
        })
        .await?;
    if let Some(contact) = contact {
        push(&account, roster, &contact.item(&jid));
    }
    Ok(None)
}

/// Name and groups of an item (RFC 6121, 2.3.3).
fn wishes(item: &Element) -> Result<(Option<String>, Vec<String>), StanzaError> {
    let name = item
        .attr("name")
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    let mut groups: Vec<String> = Vec::new();
    for group in item
        .children()
        .filter(|child| child.is("group", ns::ROSTER))
    {
        let group = group.text();
        if group.is_empty() || group.len() > LONGEST_NAME {
            return Err(StanzaError::not_acceptable());
        }
        if groups.contains(&group) {
            return Err(StanzaError::bad_request().text("A group is named twice"));
        }
        groups.push(group);
    }
    let name_length = name.as_ref().map_or(0, String::len);
    let text = groups.iter().map(String::len).sum::<usize>();
    if groups.len() > MOST_GROUPS
        || name_length > LONGEST_NAME
        || text.saturating_add(name_length) > MOST_TEXT
    {
        return Err(StanzaError::not_acceptable());
    }
    Ok((name, groups))
}

/// RFC 6121, 2.5: the subscriptions end with it.
async fn remove(request: &Request, account: &Arc<Account>, jid: &BareJid) -> Reply {
    let roster = account.roster(&request.server).await?;
    if roster.is_shared(jid) {
        return Err(StanzaError::not_allowed().text("Who is in a shared group stays in it"));
    }
    let before = roster
        .contact(jid)
        .filter(|contact| contact.listed)
        .ok_or_else(StanzaError::item_not_found)?;
    roster
        .change(jid, |contact| {
            *contact = Contact::default();
            Ok(())
        })
        .await?;
    push(account, roster, &removed(jid));
    let server = &request.server;
    if before.state.to || before.state.pending_out {
        server.subscription_to(account, jid, "unsubscribe").await;
    }
    if before.state.from || before.state.pending_in {
        server.subscription_to(account, jid, "unsubscribed").await;
    }
    if before.state.from {
        server.withdraw_presence(account, jid).await;
    }
    Ok(None)
}
