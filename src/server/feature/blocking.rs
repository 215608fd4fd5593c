//! XEP-0191: Blocking Command, with the reports of XEP-0377. To those who are blocked the account looks as if nobody were
//! there.

mod list;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jid::{BareJid, Jid};
use minidom::Element;
use tokio::time::Instant;
use tracing::info;

use self::list::{blocked, is_blocked};
use super::super::abuse::Refusal;
use super::super::account::Account;
use super::super::mail::Mail;
use super::super::passage::{Passage, Side};
use super::super::router::{
    IqType, OnIq, OnMessage, OnPresence, Reply, Request, Router, Stage, Target, Verdict,
};
use super::super::session::Session;
use super::super::stanza::{MessageType, Stanza, bare, iq, presence};
use super::super::{Condition, ErrorType, Server, StanzaError, random_id};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

pub use self::list::BLOCKED;

/// Who blocks and unblocks the same address does not fill the admins' screens with it.
const REPORTS_AN_HOUR: usize = 20;
const HOUR: Duration = Duration::from_hours(1);

/// How many addresses one account may block.
const MOST: usize = 5_000;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Domain, Target::Own], ns::BLOCKING);
    router.disco(&[Target::Domain], ns::SPAM_REPORTING);
    let own = [Target::Own];
    router.iq(&own, IqType::Get, "blocklist", ns::BLOCKING, blocklist)?;
    router.iq(&own, IqType::Set, "block", ns::BLOCKING, block)?;
    router.iq(&own, IqType::Set, "unblock", ns::BLOCKING, unblock)?;
    router.message(Stage::Filter, Arc::new(Blocking));
    router.presence(Arc::new(Blocking));
    router.iq_filter(Arc::new(Blocking));
    Ok(())
}

/// When an account's reports of the last hour went to the admins.
#[derive(Default)]
struct HandedOn(Mutex<VecDeque<Instant>>);

impl HandedOn {
    /// Whether there may be one more, which then counts.
    fn admits(&self, now: Instant) -> bool {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.retain(|time| now.duration_since(*time) < HOUR);
        if times.len() >= REPORTS_AN_HOUR {
            return false;
        }
        times.push_back(now);
        true
    }
}

/// Who has reported whom since the server started; the first so many of each.
#[derive(Default)]
struct Reported(Mutex<HashMap<BareJid, BTreeSet<BareJid>>>);

const MOST_REPORTED: usize = 1_000;
const MOST_REPORTERS: usize = 100;

impl Reported {
    /// How many have reported somebody, with this one.
    fn add(&self, about: BareJid, by: &BareJid) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_REPORTED && !all.contains_key(&about) {
            // Whom one person alone has reported is forgotten first.
            all.retain(|_, by| by.len() > 1);
        }
        if all.len() >= MOST_REPORTED && !all.contains_key(&about) {
            all.clear();
        }
        let reporters = all.entry(about).or_default();
        if reporters.len() < MOST_REPORTERS {
            reporters.insert(by.clone());
        }
        reporters.len()
    }
}

/// What this feature remembers of a session: it has asked for the list, and is told of its changes.
struct Interested;

struct Blocking;

/// Whether what a room sends is kept from somebody in it, who has blocked the room or the speaker. Rooms put their mail into
/// mailboxes themselves and wait for no store; the list was read when the person sent the presence that entered.
pub fn is_kept_from(account: &Account, mail: &Mail) -> bool {
    let Some(list) = account.extensions.get::<list::Blocked>() else {
        return false;
    };
    let all = list.all();
    if all.is_empty() {
        return false;
    }
    let from = mail.shared().attr("from").map(Jid::new);
    from.is_some_and(|from| {
        from.is_ok_and(|from| all.iter().any(|blocked| list::matches(blocked, &from)))
    })
}

/// What somebody is told who writes to whom they have blocked (XEP-0191, 3.3).
fn not_to_blocked() -> StanzaError {
    StanzaError::new(ErrorType::Cancel, Condition::NotAcceptable)
        .detail(Element::bare("blocked", ns::BLOCKING_ERRORS))
}

impl OnMessage for Blocking {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        Box::pin(async move {
            let account = passage.account;
            let with = match passage.side {
                Side::Outgoing => passage.stanza.to(),
                Side::Incoming => Some(passage.stanza.from()),
            };
            let Some(with) = with else {
                return Ok(Verdict::Continue);
            };
            if !is_blocked(passage.server, account, with).await? {
                return Ok(Verdict::Continue);
            }
            match (passage.side, passage.stanza.message_type()) {
                (Side::Outgoing, _) => Err(not_to_blocked()),
                // An error would end the stay in the room, for one blocked occupant in it; and where nobody is, a
                // headline has no answer either (RFC 6121, 8.5.2.2.1).
                (
                    Side::Incoming,
                    MessageType::Error | MessageType::Groupchat | MessageType::Headline,
                ) => Ok(Verdict::Drop),
                (Side::Incoming, _) => Err(StanzaError::service_unavailable()),
            }
        })
    }
}

impl OnPresence for Blocking {
    fn leaving<'a>(
        &'a self,
        server: &'a Server,
        account: &'a Arc<Account>,
        to: &'a Jid,
    ) -> BoxFuture<'a, Result<(), StanzaError>> {
        Box::pin(async move {
            if is_blocked(server, account, to).await? {
                Err(not_to_blocked())
            } else {
                Ok(())
            }
        })
    }

    fn incoming<'a>(
        &'a self,
        server: &'a Server,
        account: &'a Arc<Account>,
        presence: &'a Stanza,
    ) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            // A store that fails must not open the door.
            let blocked = is_blocked(server, account, presence.from()).await;
            !blocked.unwrap_or(true)
        })
    }
}

impl OnIq for Blocking {
    fn on_iq<'a>(
        &'a self,
        server: &'a Server,
        account: &'a Arc<Account>,
        with: &'a Jid,
        incoming: bool,
    ) -> BoxFuture<'a, Result<(), StanzaError>> {
        Box::pin(async move {
            match is_blocked(server, account, with).await? {
                false => Ok(()),
                true if incoming => Err(StanzaError::service_unavailable()),
                true => Err(not_to_blocked()),
            }
        })
    }
}

async fn blocklist(request: Request) -> Reply {
    request.session()?.extensions.insert(Interested);
    let list = blocked(&request.server, request.account()?).await?;
    let mut answer = Element::bare("blocklist", ns::BLOCKING);
    for jid in list.all().iter() {
        answer.append_child(item(jid));
    }
    Ok(Some(answer))
}

fn item(jid: &Jid) -> Element {
    element("item", ns::BLOCKING, &[("jid", jid.as_str())])
}

/// The addresses that a command names.
fn named(command: &Element) -> Result<BTreeSet<Jid>, StanzaError> {
    items(command)
        .map(|item| {
            let jid = item.attr("jid").ok_or_else(StanzaError::bad_request)?;
            Jid::new(jid).map_err(|_malformed| StanzaError::jid_malformed())
        })
        .collect()
}

fn items(command: &Element) -> impl Iterator<Item = &Element> {
    command
        .children()
        .filter(|child| child.is("item", ns::BLOCKING))
}

/// XEP-0191, 3.3.
async fn block(request: Request) -> Reply {
    let (server, account) = (&request.server, request.account()?);
    let wanted = named(&request.payload)?;
    if wanted.is_empty() {
        return Err(StanzaError::bad_request().text("Nobody is named"));
    }
    let reports = reports(&request.payload)?;
    let list = blocked(server, account).await?;
    let new: Vec<Jid> = {
        let all = list.all();
        wanted
            .iter()
            .filter(|jid| !all.contains(*jid))
            .cloned()
            .collect()
    };
    if list.all().len().saturating_add(new.len()) > MOST {
        return Err(StanzaError::resource_constraint().text("The block list is full"));
    }
    // While presence may still go there.
    for jid in &new {
        disappear(server, account, jid).await;
    }
    list.change(server, account, &wanted, &BTreeSet::new())
        .await?;
    push(account, "block", &wanted);
    // Each once: a report is a message to every admin.
    let mut reported = BTreeSet::new();
    let fresh = reports
        .into_iter()
        .filter(|(jid, _)| new.contains(jid) && reported.insert(jid.clone()));
    let handed_on = account.extensions.get_or_default::<HandedOn>();
    for (jid, report) in fresh.take(MOST_REPORTS) {
        if !handed_on.admits(Instant::now()) {
            server.abuse().refused(Refusal::Reports, account.jid());
            break;
        }
        hand_on(server, account, &jid, report).await;
    }
    Ok(None)
}

/// XEP-0191, 3.4 and 3.5: no item means all.
async fn unblock(request: Request) -> Reply {
    let (server, account) = (&request.server, request.account()?);
    let wanted = named(&request.payload)?;
    let list = blocked(server, account).await?;
    let gone: BTreeSet<Jid> = if wanted.is_empty() {
        list.all().as_ref().clone()
    } else {
        let all = list.all();
        wanted
            .iter()
            .filter(|jid| all.contains(*jid))
            .cloned()
            .collect()
    };
    list.change(server, account, &BTreeSet::new(), &gone)
        .await?;
    push(account, "unblock", &wanted);
    for jid in &gone {
        reappear(server, account, jid).await;
    }
    Ok(None)
}

/// Tells the sessions that have asked for the list.
fn push(account: &Account, name: &str, jids: &BTreeSet<Jid>) {
    let mut command = Element::bare(name, ns::BLOCKING);
    for jid in jids {
        command.append_child(item(jid));
    }
    for session in account.sessions().iter() {
        if session.extensions.get::<Interested>().is_none() {
            continue;
        }
        let mut push = iq("set", &random_id(), command.clone());
        set(&mut push, "from", account.jid().as_str());
        set(&mut push, "to", session.jid().as_str());
        session.try_send(Mail::new(push));
    }
}

/// To contacts that see the account's presence, and to those that a session has shown itself: it is gone.
async fn disappear(server: &Server, account: &Arc<Account>, jid: &Jid) {
    for contact in watchers(server, account, jid).await {
        server.withdraw_presence(account, &contact).await;
    }
    for session in account.sessions().iter() {
        let shown: Vec<Jid> = session
            .directed()
            .iter()
            .filter(|to| list::matches(jid, to))
            .cloned()
            .collect();
        for to in shown {
            session.directed().remove(&to);
            let gone = presence("unavailable");
            if let Some(gone) = Stanza::new(session.jid().clone().into(), Some(to), gone) {
                server.route(gone, None).await;
            }
        }
    }
}

async fn reappear(server: &Server, account: &Arc<Account>, jid: &Jid) {
    for contact in watchers(server, account, jid).await {
        for available in account
            .available()
            .iter()
            .filter_map(|session: &Arc<Session>| session.available())
        {
            let mut presence = available.presence.as_ref().clone();
            presence.readdress(bare(&contact));
            server.route(presence, None).await;
        }
    }
}

/// The contacts under this address that are allowed to see the account's presence.
async fn watchers(server: &Server, account: &Arc<Account>, jid: &Jid) -> Vec<BareJid> {
    let Ok(roster) = account.roster(server).await else {
        return Vec::new();
    };
    roster
        .those(|contact| contact.state.from)
        .into_iter()
        .map(|(contact, _)| contact)
        .filter(|contact| list::matches(jid, &bare(contact)))
        .collect()
}

/// So many reports of one request are handed on.
const MOST_REPORTS: usize = 10;

/// XEP-0377, 3: each with a reason.
fn reports(command: &Element) -> Result<Vec<(Jid, &Element)>, StanzaError> {
    let mut reports = Vec::new();
    for item in items(command) {
        let Some(report) = item.get_child("report", ns::SPAM_REPORTING) else {
            continue;
        };
        if report.attr("reason").is_none_or(str::is_empty) {
            return Err(StanzaError::bad_request().text("A report has a reason"));
        }
        let jid = item.attr("jid").ok_or_else(StanzaError::bad_request)?;
        let jid = Jid::new(jid).map_err(|_malformed| StanzaError::jid_malformed())?;
        reports.push((jid, report));
    }
    Ok(reports)
}

/// So many messages of one report are named in the text.
const MOST_QUOTED: usize = 20;

/// The messages that are meant (XEP-0377, 5), a line for each; the report itself goes with them, whole.
fn quoted(report: &Element) -> impl Iterator<Item = String> {
    let ids = report
        .children()
        .filter(|child| child.is("stanza-id", ns::SID));
    let named = ids.filter_map(|id| Some((id.attr("id")?, id.attr("by")?)));
    let lines = named.map(|(id, by)| format!("Message {id} in the archive of {by}"));
    lines.take(MOST_QUOTED)
}

/// To those who look after the server; nobody else learns of it (XEP-0377, 4).
async fn hand_on(server: &Server, account: &Account, about: &Jid, report: &Element) {
    let reason = report.attr("reason").unwrap_or_default();
    let reason = reason.rsplit(':').next().unwrap_or_default();
    let text = report
        .get_child("text", ns::SPAM_REPORTING)
        .map(Element::text);
    server.abuse().meters.reported();
    info!(by = %account.jid(), about = %about, reason, "Somebody has been reported");
    let mut body = format!(
        "{} has blocked and reported {about}: {reason}",
        account.jid()
    );
    if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
        body.push_str("\n> ");
        body.push_str(&text.trim().replace('\n', "\n> "));
    }
    for quoted in quoted(report) {
        body.push('\n');
        body.push_str(&quoted);
    }
    let reported = server.extensions().get_or_default::<Reported>();
    let reporters = reported.add(about.to_bare(), account.jid());
    if reporters > 1 {
        let line = format!("\n{reporters} people here have reported them since the server started");
        body.push_str(&line);
    }
    let Ok(domain) = Jid::new(server.domain()) else {
        return;
    };
    for admin in &server.admins() {
        let mut message = element("message", ns::JABBER_CLIENT, &[("id", &random_id())]);
        message.append_child(text_element("body", ns::JABBER_CLIENT, &body));
        message.append_child(report.clone());
        let message = Stanza::new(domain.clone(), Some(bare(admin)), message);
        if let Some(message) = message {
            server.route(message, None).await;
        }
    }
}
