//! Presence (RFC 6121, 3 and 4): who is there is told to those who may know, and subscriptions change hands.

use std::sync::Arc;

use jid::{BareJid, Jid};
use tracing::warn;

use super::abuse::Refusal;
use super::account::Account;
use super::feature::{block_lists, strangers};
use super::mail::Mail;
use super::roster;
use super::router::Happening;
use super::session::{Available, Session};
use super::stanza::{Stanza, bare, clear, presence};
use super::stream::xml;
use super::subscription::{self, Request};
use super::{Server, StanzaError};
use crate::xmpp::element::set;
use crate::xmpp::ns;

/// Directed presences are remembered for so many addresses, to tell them when the session ends.
const MOST_DIRECTED: usize = 1_000;
const MOST_DIRECTED_BYTES: usize = 128 * 1_024;
/// So many requests may wait for an answer of one account: they take up its contact list.
const MOST_PENDING: usize = 500;

/// RFC 6121, 4.7.2.3: an integer from -128 to 127.
fn priority(presence: &Stanza) -> Result<i8, StanzaError> {
    let text = crate::xmpp::element::child_text(presence.element(), "priority", ns::JABBER_CLIENT);
    match text {
        None => Ok(0),
        Some(text) => {
            let wrong = |_| StanzaError::bad_request().text("A priority is from -128 to 127");
            text.trim().parse().map_err(wrong)
        }
    }
}

impl Server {
    /// A presence that a client of ours has sent.
    pub(super) async fn presence_from_client(
        &self,
        session: &Arc<Session>,
        mut stanza: Stanza,
    ) -> Result<(), StanzaError> {
        let kind = stanza.type_().to_owned();
        match (kind.as_str(), stanza.to().cloned()) {
            ("", None) => {
                let priority = priority(&stanza)?;
                self.rewrite_presence(session, &mut stanza).await;
                self.available(session, stanza, priority).await;
            }
            ("unavailable", None) => self.unavailable(session, stanza).await,
            ("" | "unavailable", Some(to)) => {
                self.may_leave(session.account(), &to).await?;
                if kind.is_empty() {
                    self.may_show(session, &to)?;
                }
                self.rewrite_presence(session, &mut stanza).await;
                self.directed(session, stanza, &to).await;
            }
            ("error", Some(_)) => self.route(stanza, Some(session)).await,
            ("probe", Some(to)) => {
                let account = Arc::clone(session.account());
                self.probe(&account, session, &to.into_bare()).await;
            }
            (kind, to) => {
                let request = Request::of(kind).ok_or_else(StanzaError::bad_request)?;
                let to = to.ok_or_else(StanzaError::bad_request)?.into_bare();
                self.may_leave(session.account(), &bare(&to)).await?;
                let abuse = self.abuse();
                if request == Request::Subscribe
                    && !session.origin.is_own_bot()
                    && !abuse.subscriptions.take(session.account().jid())
                {
                    abuse.refused(Refusal::Subscriptions, session.account().jid());
                    return Err(StanzaError::resource_constraint()
                        .text("You ask too many people at once; try again later"));
                }
                self.subscribe(session.account(), &to, request, stanza)
                    .await?;
            }
        }
        Ok(())
    }

    /// Whether a session may show itself to one more address: each is remembered, to be told when it ends (RFC 6121, 4.6).
    fn may_show(&self, session: &Arc<Session>, to: &Jid) -> Result<(), StanzaError> {
        let (abuse, account) = (self.abuse(), session.account().jid());
        let is_new = {
            let directed = session.directed();
            let bytes = directed.iter().map(|to| to.as_str().len()).sum::<usize>();
            let fits = directed.len() < MOST_DIRECTED && bytes < MOST_DIRECTED_BYTES;
            if directed.contains(to) {
                None
            } else {
                Some(fits)
            }
        };
        if is_new == Some(false) {
            abuse.refused(Refusal::Directed, account);
            return Err(StanzaError::resource_constraint()
                .text("You show yourself to as many addresses as you may"));
        }
        if !session.origin.is_own_bot() && !abuse.directed.take(account) {
            abuse.refused(Refusal::Directed, account);
            return Err(StanzaError::resource_constraint()
                .text("You show yourself too often; try again later"));
        }
        Ok(())
    }

    async fn rewrite_presence(&self, session: &Arc<Session>, stanza: &mut Stanza) {
        for feature in &self.router().presences {
            feature.outgoing(self, session, stanza).await;
        }
    }

    /// RFC 6121, 4.2 and 4.4.
    async fn available(&self, session: &Arc<Session>, stanza: Stanza, priority: i8) {
        let presence = Arc::new(stanza);
        let before = session.set_available(Some(Available {
            presence: Arc::clone(&presence),
            priority,
        }));
        self.broadcast(session, &presence).await;
        if before.is_some() {
            self.happened(session, &Happening::Changed).await;
            return;
        }
        let account = Arc::clone(session.account());
        self.happened(session, &Happening::Available).await;
        for other in account.available() {
            if !Arc::ptr_eq(&other, session)
                && let Some(available) = other.available()
            {
                session.try_send(to_session(&available.presence, session));
            }
        }
        let Ok(roster) = account.roster(self).await else {
            warn!(account = %account.jid(), "The roster cannot be read; nobody is asked for presence");
            return;
        };
        for (contact, _) in roster.those(|contact| contact.state.to) {
            self.probe(&account, session, &contact).await;
        }
        // RFC 6121, 3.1.3: a request is delivered until it is answered.
        for (_, contact) in roster.those(|contact| contact.state.pending_in) {
            if let Some(request) = contact.request.as_deref().and_then(xml::parse) {
                session.try_send(Mail::new(request));
            }
        }
    }

    /// RFC 6121, 4.5: also for a session that ends without a word.
    pub(super) async fn unavailable(&self, session: &Arc<Session>, stanza: Stanza) {
        let was = session.set_available(None);
        let directed = std::mem::take(&mut *session.directed());
        let stanza = Arc::new(stanza);
        let mut told = None;
        if was.is_some() {
            self.broadcast(session, &stanza).await;
            told = session.account().roster(self).await.ok();
        }
        for to in directed {
            // RFC 6121, 4.6.3: a contact has been told with the others.
            let told = told
                .as_ref()
                .is_some_and(|roster| roster.state(&to.to_bare()).from);
            if told || self.may_leave(session.account(), &to).await.is_err() {
                continue;
            }
            let mut stanza = stanza.as_ref().clone();
            stanza.readdress(to);
            self.route(stanza, Some(session)).await;
        }
        if was.is_some() {
            self.happened(session, &Happening::Unavailable).await;
        }
    }

    /// RFC 6121, 4.6.
    async fn directed(&self, session: &Arc<Session>, stanza: Stanza, to: &Jid) {
        {
            let mut directed = session.directed();
            if stanza.type_() == "unavailable" {
                directed.remove(to);
            } else {
                directed.insert(to.clone());
            }
        }
        self.route(stanza, Some(session)).await;
    }

    /// To the own resources and to those who may see it. `stanza` has no `to`.
    async fn broadcast(&self, session: &Arc<Session>, stanza: &Arc<Stanza>) {
        let account = session.account();
        let mail = Mail::for_many(stanza.element().clone());
        for other in account.available() {
            other.try_send(mail.addressed(&bare(account.jid())));
        }
        let Ok(roster) = account.roster(self).await else {
            warn!(account = %account.jid(), "The roster cannot be read; nobody is told of a presence");
            return;
        };
        for (contact, _) in roster.those(|contact| contact.state.from) {
            if self.may_leave(account, &bare(&contact)).await.is_ok() {
                self.presence_to(stanza, &mail, &contact).await;
            }
        }
    }

    async fn presence_to(&self, stanza: &Arc<Stanza>, mail: &Mail, to: &BareJid) {
        if !self.is_local(to.domain().as_str()) {
            let mut stanza = stanza.as_ref().clone();
            stanza.readdress(bare(to));
            self.route(stanza, None).await;
            return;
        }
        // Nobody is there to see it unless the account is in memory.
        let Some(account) = self.account_in_memory(to) else {
            return;
        };
        self.presence_to_sessions(&account, stanza, &mail.addressed(&bare(to)))
            .await;
    }

    /// To all available sessions of an account, unless a feature objects.
    async fn presence_to_sessions(&self, account: &Arc<Account>, stanza: &Stanza, mail: &Mail) {
        let available = account.available();
        if available.is_empty() || !self.may_enter(account, stanza).await {
            return;
        }
        for session in available {
            session.try_send(mail.clone());
        }
    }

    async fn may_leave(&self, account: &Arc<Account>, to: &Jid) -> Result<(), StanzaError> {
        for feature in &self.router().presences {
            feature.leaving(self, account, to).await?;
        }
        Ok(())
    }

    async fn may_enter(&self, account: &Arc<Account>, stanza: &Stanza) -> bool {
        for feature in &self.router().presences {
            if !feature.incoming(self, account, stanza).await {
                return false;
            }
        }
        true
    }

    /// A presence for somebody here, from anywhere.
    pub(super) async fn presence_to_account(
        &self,
        account: &Arc<Account>,
        stanza: Stanza,
        to: &Jid,
    ) {
        match stanza.type_() {
            "probe" => {
                if self.may_enter(account, &stanza).await {
                    self.answer_probe(account, stanza.from()).await;
                }
            }
            "" | "unavailable" | "error" => {
                if let Ok(full) = to.try_as_full() {
                    // RFC 6121, 8.5.3: to that one or to nobody.
                    if let Some(session) = account.session(full)
                        && self.may_enter(account, &stanza).await
                    {
                        session.try_send(stanza.into());
                    }
                } else {
                    let mail = Mail::new(stanza.element().clone());
                    self.presence_to_sessions(account, &stanza, &mail).await;
                }
            }
            kind => {
                let Some(request) = Request::of(kind) else {
                    return;
                };
                if let Err(error) = self.may_ask(account, request, &stanza).await {
                    self.refuse(&stanza, &error).await;
                } else if self.may_enter(account, &stanza).await
                    && let Err(error) = self.asked(account, request, stanza).await
                {
                    warn!(account = %account.jid(), ?error, "A subscription request was not kept");
                }
            }
        }
    }

    /// A session wants to know of a contact (RFC 6121, 4.3).
    async fn probe(&self, account: &Arc<Account>, session: &Arc<Session>, contact: &BareJid) {
        if !self.is_local(contact.domain().as_str()) {
            let from = Jid::from(session.jid().clone());
            if let Some(probe) = Stanza::new(from, Some(bare(contact)), presence("probe")) {
                self.route(probe, None).await;
            }
            return;
        }
        let Some(other) = self.account_in_memory(contact) else {
            return;
        };
        let Ok(roster) = other.roster(self).await else {
            return;
        };
        if !roster.state(account.jid()).from && contact != account.jid() {
            return;
        }
        if self.may_leave(&other, &bare(account.jid())).await.is_err() {
            return;
        }
        for available in other
            .available()
            .iter()
            .filter_map(|other| other.available())
        {
            if self.may_enter(account, &available.presence).await {
                session.try_send(to_session(&available.presence, session));
            }
        }
    }

    /// RFC 6121, 4.3.2.
    async fn answer_probe(&self, account: &Arc<Account>, from: &Jid) {
        let Ok(roster) = account.roster(self).await else {
            return;
        };
        let state = roster.state(&from.to_bare());
        if !state.from && from.to_bare() != *account.jid() {
            if !state.pending_in {
                self.send_presence(bare(account.jid()), from.clone(), "unsubscribed")
                    .await;
            }
            return;
        }
        let available: Vec<_> = account
            .available()
            .iter()
            .filter_map(|one| one.available())
            .collect();
        if available.is_empty() {
            self.send_presence(bare(account.jid()), from.clone(), "unavailable")
                .await;
        }
        for Available { presence, .. } in available {
            let mut presence = presence.as_ref().clone();
            presence.readdress(from.clone());
            self.route(presence, None).await;
        }
    }

    async fn send_presence(&self, from: Jid, to: Jid, kind: &str) {
        if let Some(stanza) = Stanza::new(from, Some(to), presence(kind)) {
            Box::pin(self.route(stanza, None)).await;
        }
    }

    /// A request that the user has made (RFC 6121, 3).
    async fn subscribe(
        &self,
        account: &Arc<Account>,
        to: &BareJid,
        request: Request,
        mut stanza: Stanza,
    ) -> Result<(), StanzaError> {
        if to == account.jid() {
            return Ok(());
        }
        let roster = account.roster(self).await?;
        if roster.is_shared(to) {
            // Each sees the other as it is.
            return Ok(());
        }
        let mut outcome = None;
        let contact = roster
            .change(to, |contact| {
                let done = subscription::outgoing(contact.state, request);
                contact.state = done.state;
                contact.listed |= done.state.to || done.state.from || done.state.pending_out;
                contact.listed |= done.state.approved;
                if !done.state.pending_in {
                    contact.request = None;
                }
                outcome = Some(done);
                Ok(())
            })
            .await?;
        let Some(outcome) = outcome else {
            return Ok(());
        };
        if outcome.push
            && let Some(contact) = &contact
        {
            roster::push(account, roster, &contact.item(to));
        }
        // RFC 6121, 3.1.2: from bare JID to bare JID.
        if outcome.deliver {
            stanza.readdress(bare(to));
            let stanza = stanza.sent_by(bare(account.jid()));
            Box::pin(self.route(stanza, None)).await;
        }
        self.show_or_hide(account, to, outcome).await;
        Ok(())
    }

    /// Whether a request of somebody whom the account does not know may come to it.
    async fn may_ask(
        &self,
        account: &Arc<Account>,
        request: Request,
        stanza: &Stanza,
    ) -> Result<(), StanzaError> {
        let from = stanza.from().to_bare();
        if request != Request::Subscribe || from == *account.jid() {
            return Ok(());
        }
        let roster = account.roster(self).await?;
        let is_new = !roster.state(&from).pending_in;
        if !is_new || !strangers::is_stranger(self, account, stanza.from()).await? {
            return Ok(());
        }
        // To those who are blocked the account looks as if nobody were there: nothing is said to them here.
        if !self.may_enter(account, stanza).await && !block_lists::is_listed(self, &from) {
            return Ok(());
        }
        block_lists::check(self, &from)?;
        let abuse = self.abuse();
        let waiting = roster.count(|contact| contact.state.pending_in);
        if waiting >= MOST_PENDING || !abuse.requests_for.take(account.jid()) {
            abuse.refused(Refusal::RequestsFor, account.jid());
            return Err(StanzaError::resource_constraint()
                .text("Too many want to see this person's presence; try again later"));
        }
        let domain = from.domain().as_str();
        if !self.is_local(domain) && !abuse.domains.take(&domain.to_owned()) {
            abuse.refused(Refusal::Domain, &domain);
            return Err(StanzaError::resource_constraint()
                .text("Your server asks too many people here who do not know its users"));
        }
        Ok(())
    }

    /// A request that came for the user.
    async fn asked(
        &self,
        account: &Arc<Account>,
        request: Request,
        stanza: Stanza,
    ) -> Result<(), StanzaError> {
        let from = stanza.from().to_bare();
        if from == *account.jid() {
            return Ok(());
        }
        let stanza = stanza.sent_by(bare(&from));
        let token = stanza.child("preauth", ns::PREAUTH);
        let token = token.and_then(|preauth| preauth.attr("token"));
        let invited = match token {
            Some(token) if request == Request::Subscribe => {
                self.invited_contact(account.jid(), token, stanza.from())
                    .await
            }
            _ => None,
        };
        let roster = account.roster(self).await?;
        if roster.is_shared(&from) {
            // Each sees the other as it is.
            return Ok(());
        }
        let (mut outcome, mut is_new) = (None, false);
        let contact = roster
            .change(&from, |contact| {
                // XEP-0379, 3.5: as if the user had agreed before.
                is_new = invited.is_some() && !contact.state.from;
                if is_new {
                    contact.state.approved = true;
                    contact.state.pending_in = false;
                }
                let done = subscription::incoming(contact.state, request);
                contact.state = done.state;
                contact.listed |= done.state.to || done.state.from;
                contact.request = done
                    .state
                    .pending_in
                    .then(|| contact.request.take().unwrap_or_else(|| kept(&stanza)));
                outcome = Some(done);
                Ok(())
            })
            .await?;
        let Some(outcome) = outcome else {
            return Ok(());
        };
        if let Some(invitation) = invited.filter(|_| is_new) {
            invitation.used().await?;
        }
        if outcome.deliver {
            let mail = Mail::new(stanza.element().clone());
            for session in account.available() {
                session.try_send(mail.clone());
            }
        }
        if outcome.accept {
            self.send_presence(bare(account.jid()), bare(&from), "subscribed")
                .await;
        }
        if outcome.push
            && let Some(contact) = &contact
        {
            roster::push(account, roster, &contact.item(&from));
        }
        self.show_or_hide(account, &from, outcome).await;
        let asks_back = is_new && !outcome.state.to && !outcome.state.pending_out;
        if asks_back {
            self.ask_back(account, &from).await?;
        }
        Ok(())
    }

    /// XEP-0379, 3.5: who was invited is asked in turn.
    async fn ask_back(&self, account: &Arc<Account>, to: &BareJid) -> Result<(), StanzaError> {
        let from = bare(account.jid());
        let stanza = Stanza::new(from, Some(bare(to)), presence("subscribe"));
        let stanza = stanza.ok_or_else(StanzaError::internal_server_error)?;
        Box::pin(self.subscribe(account, to, Request::Subscribe, stanza)).await
    }

    async fn show_or_hide(
        &self,
        account: &Arc<Account>,
        contact: &BareJid,
        outcome: subscription::Outcome,
    ) {
        if outcome.send_unavailable {
            self.withdraw_presence(account, contact).await;
        }
        let may_leave = self.may_leave(account, &bare(contact)).await.is_ok();
        if outcome.send_presence && may_leave {
            for available in account.available().iter().filter_map(|one| one.available()) {
                let mut stanza = available.presence.as_ref().clone();
                stanza.readdress(bare(contact));
                Box::pin(self.route(stanza, None)).await;
            }
        }
    }

    /// Sends `unavailable` of every session to somebody who may no longer see them.
    pub(super) async fn withdraw_presence(&self, account: &Arc<Account>, contact: &BareJid) {
        for session in account.available() {
            self.send_presence(
                Jid::from(session.jid().clone()),
                bare(contact),
                "unavailable",
            )
            .await;
        }
    }

    /// A subscription stanza on the user's behalf.
    pub(super) async fn subscription_to(&self, account: &Arc<Account>, to: &BareJid, kind: &str) {
        self.send_presence(bare(account.jid()), bare(to), kind)
            .await;
    }

    /// Makes two accounts of this server contacts of each other, as if both had asked and agreed.
    pub async fn befriend(
        &self,
        one: &BareJid,
        name_of_one: &str,
        other: &BareJid,
        name_of_other: &str,
    ) -> Result<(), StanzaError> {
        for (mine, theirs, name) in [(one, other, name_of_other), (other, one, name_of_one)] {
            let Some(account) = self.account(mine).await? else {
                return Err(StanzaError::item_not_found());
            };
            let roster = account.roster(self).await?;
            let contact = roster
                .change(theirs, |contact| {
                    contact.state.to = true;
                    contact.state.from = true;
                    contact.state.pending_in = false;
                    contact.state.pending_out = false;
                    contact.listed = true;
                    contact.name.get_or_insert_with(|| name.to_owned());
                    Ok(())
                })
                .await?;
            if let Some(contact) = contact {
                roster::push(&account, roster, &contact.item(theirs));
            }
        }
        Ok(())
    }
}

/// A presence as one session of its recipient sees it.
fn to_session(presence: &Stanza, session: &Session) -> Mail {
    Mail::for_many(presence.element().clone()).addressed(&Jid::from(session.jid().clone()))
}

/// A request without what makes it long: its text is for a person, its payloads may be large.
fn kept(stanza: &Stanza) -> String {
    const LONGEST: usize = 4_096;
    let whole = String::from(stanza.element());
    if whole.len() <= LONGEST {
        return whole;
    }
    let mut short = presence("subscribe");
    set(&mut short, "from", stanza.from().as_str());
    match stanza.to() {
        Some(to) => set(&mut short, "to", to.as_str()),
        None => clear(&mut short, "to"),
    }
    String::from(&short)
}
