//! Shared groups: people whom the owner of the server has put together are in each other's rosters, without anybody asking.
//! Nothing of it is stored: it is what the settings and the accounts say, laid over the stored roster, as Prosody's
//! `mod_groups` and ejabberd's `mod_shared_roster` have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jid::{BareJid, NodePart};
use tracing::warn;

use super::accounts::Accounts;
use super::roster::{self, Contact};
use super::{Server, random_id};
use crate::config::SharedGroup;

/// The groups of a server.
#[derive(Debug)]
pub struct Groups {
    all: Vec<SharedGroup>,
    accounts: Accounts,
    /// Of this process: what its predecessor knew of the members is not what it knows.
    epoch: String,
    /// Counts accounts that came and went.
    changes: AtomicU64,
}

impl Groups {
    /// The groups of the settings as they were at the start.
    pub(super) fn of(server: &Server) -> Arc<Self> {
        server.extensions().get_or(|| Self {
            all: server.settings().shared_groups.clone(),
            accounts: server.accounts().clone(),
            epoch: random_id(),
            changes: AtomicU64::new(0),
        })
    }

    fn exists(&self, jid: &BareJid) -> bool {
        let is_here = jid.domain() == self.accounts.domain();
        is_here && jid.node().is_some_and(|name| self.accounts.exists(name))
    }

    /// The groups that two have in common; none with oneself, or with who is no account here.
    pub(super) fn common(&self, owner: &BareJid, other: &BareJid) -> Vec<String> {
        if self.all.is_empty() || owner == other || !self.exists(other) {
            return Vec::new();
        }
        let both = |group: &&SharedGroup| group.has(owner) && group.has(other);
        let names = self.all.iter().filter(both);
        names.map(|group| group.name.clone()).collect()
    }

    /// Whether somebody is in a group at all.
    pub(super) fn concerns(&self, owner: &BareJid) -> bool {
        self.all.iter().any(|group| group.has(owner))
    }

    /// Everybody who shares a group with somebody.
    fn fellows(&self, owner: &BareJid) -> BTreeSet<BareJid> {
        let mut fellows = BTreeSet::new();
        for group in self.all.iter().filter(|group| group.has(owner)) {
            if let Some(members) = &group.members {
                fellows.extend(members.iter().cloned());
                continue;
            }
            let everybody = self.accounts.list().into_iter();
            let names =
                everybody.filter_map(|one| Some(NodePart::new(&one.name).ok()?.into_owned()));
            fellows.extend(names.map(|name| self.accounts.jid(&name)));
        }
        fellows.retain(|jid| jid != owner && self.exists(jid));
        fellows
    }

    /// A contact as its owner sees it: a fellow sees and is seen, and is in the groups too.
    pub(super) fn over(
        &self,
        owner: &BareJid,
        jid: &BareJid,
        stored: Option<Contact>,
    ) -> Option<Contact> {
        let common = self.common(owner, jid);
        if common.is_empty() {
            return stored;
        }
        let mut contact = stored.unwrap_or_default();
        contact.state.to = true;
        contact.state.from = true;
        contact.state.pending_in = false;
        contact.state.pending_out = false;
        contact.request = None;
        contact.listed = true;
        for name in common {
            if !contact.groups.contains(&name) {
                contact.groups.push(name);
            }
        }
        Some(contact)
    }

    /// The same for a whole roster.
    pub(super) fn over_all(
        &self,
        owner: &BareJid,
        mut contacts: BTreeMap<BareJid, Contact>,
    ) -> BTreeMap<BareJid, Contact> {
        for fellow in self.fellows(owner) {
            let stored = contacts.remove(&fellow);
            if let Some(contact) = self.over(owner, &fellow, stored) {
                contacts.insert(fellow, contact);
            }
        }
        contacts
    }

    /// What makes a version of a roster of its own of who shares a group; empty for everybody else.
    pub(super) fn version(&self, owner: &BareJid) -> String {
        if !self.concerns(owner) {
            return String::new();
        }
        let changes = self.changes.load(Ordering::Relaxed);
        format!("-{}-{changes}", self.epoch)
    }

    /// Names of groups that are the server's to give, for this owner.
    pub(super) fn names(&self, owner: &BareJid) -> BTreeSet<&str> {
        let own = self.all.iter().filter(|group| group.has(owner));
        own.map(|group| group.name.as_str()).collect()
    }
}

/// An account came or is gone: the rosters of its fellows say so at once.
pub(super) async fn changed(server: &Server, account: &BareJid) {
    let groups = Groups::of(server);
    if !groups.concerns(account) {
        return;
    }
    groups.changes.fetch_add(1, Ordering::Relaxed);
    for fellow in groups.fellows(account) {
        let Some(fellow) = server.account_in_memory(&fellow) else {
            continue;
        };
        match fellow.roster(server).await {
            Ok(roster) => {
                let item = match roster.contact(account).filter(|contact| contact.listed) {
                    Some(contact) => contact.item(account),
                    None => roster::removed(account),
                };
                roster::push(&fellow, roster, &item);
            }
            Err(error) => warn!(account = %fellow.jid(), ?error, "A roster cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{client, online, with};
    use super::*;
    use crate::server::Settings;
    use crate::xmpp::ns;
    use minidom::Element;

    fn jid(name: &str) -> BareJid {
        BareJid::new(&format!("{name}@example.org")).unwrap()
    }

    /// Everybody is in "House", juliet and romeo are in "Lovers".
    async fn server(names: &[&str]) -> Server {
        let settings = Settings {
            shared_groups: vec![
                SharedGroup {
                    name: "House".to_owned(),
                    members: None,
                },
                SharedGroup {
                    name: "Lovers".to_owned(),
                    members: Some([jid("juliet"), jid("romeo"), jid("nobody")].into()),
                },
            ],
            ..Settings::new("example.org")
        };
        with(settings, names).await
    }

    const GET: &str = "<query xmlns='jabber:iq:roster'/>";

    /// `jid subscription group,group` of each item.
    fn items(stanza: &Element) -> Vec<String> {
        let query = stanza.get_child("query", ns::ROSTER).unwrap();
        let items = query.children().map(|item| {
            let groups: Vec<String> = item.children().map(Element::text).collect();
            let attribute = |name| item.attr(name).unwrap_or_default();
            let (jid, state) = (attribute("jid"), attribute("subscription"));
            format!("{jid} {state} {}", groups.join(","))
                .trim()
                .to_owned()
        });
        items.collect()
    }

    #[tokio::test]
    async fn members_are_in_each_others_rosters_and_see_each_other() {
        let server = server(&["juliet", "romeo", "nurse"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let roster = juliet.ask("get", "", GET).await;
        assert_eq!(
            items(&roster),
            [
                "nurse@example.org both House",
                "romeo@example.org both House,Lovers"
            ]
        );
        juliet.send("<presence/>").await;
        juliet.drain();
        let mut romeo = client(&server, "romeo/orchard").await;
        romeo.send("<presence/>").await;
        let seen = juliet.next().await;
        assert_eq!(seen.attr("from"), Some("romeo@example.org/orchard"));
        let seen = romeo.drain();
        let from: Vec<_> = seen
            .iter()
            .filter_map(|stanza| stanza.attr("from"))
            .collect();
        assert!(from.contains(&"juliet@example.org/balcony"), "{from:?}");
    }

    #[tokio::test]
    async fn what_the_server_gives_a_user_cannot_take_away_but_name() {
        let server = server(&["juliet", "romeo"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let mut romeo = online(&server, "romeo/orchard").await;
        juliet.ask("get", "", GET).await;
        let remove = "<query xmlns='jabber:iq:roster'><item jid='romeo@example.org' subscription='remove'/></query>";
        let answer = juliet.ask("set", "", remove).await;
        let error = answer.get_child("error", ns::JABBER_CLIENT).unwrap();
        assert!(error.has_child("not-allowed", ns::XMPP_STANZAS));
        for kind in ["unsubscribe", "unsubscribed", "subscribe", "subscribed"] {
            juliet
                .send(&format!("<presence type='{kind}' to='romeo@example.org'/>"))
                .await;
        }
        assert!(romeo.drain().is_empty(), "nothing has changed");
        let name = "<query xmlns='jabber:iq:roster'><item jid='romeo@example.org' name='R.'><group>Foes</group><group>House</group></item></query>";
        juliet.ask("set", "", name).await;
        let roster = juliet.ask("get", "", GET).await;
        assert_eq!(items(&roster), ["romeo@example.org both Foes,House,Lovers"]);
        assert!(String::from(&roster).contains("R."));
    }

    #[tokio::test]
    async fn new_accounts_enter_at_once_and_deleted_ones_leave() {
        let server = server(&["juliet", "romeo"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let before = juliet
            .ask("get", "", "<query xmlns='jabber:iq:roster' ver=''/>")
            .await;
        let version = before.get_child("query", ns::ROSTER).unwrap().attr("ver");
        let version = version.unwrap().to_owned();
        let known = format!("<query xmlns='jabber:iq:roster' ver='{version}'/>");
        let same = juliet.ask("get", "", &known).await;
        assert!(same.children().next().is_none());
        let name = NodePart::new("nurse").unwrap();
        server.accounts().provide(&name).await.unwrap();
        let push = juliet.next().await;
        assert_eq!(items(&push), ["nurse@example.org both House"]);
        let anew = juliet.ask("get", "", &known).await;
        assert_eq!(items(&anew).len(), 2);
        server.delete_account(&name).await.unwrap();
        let pushes: Vec<String> = juliet.drain().iter().flat_map(items).collect();
        assert_eq!(pushes, ["nurse@example.org remove"]);
        let after = juliet.ask("get", "", GET).await;
        assert_eq!(items(&after), ["romeo@example.org both House,Lovers"]);
    }
}
