//! Subscriptions and invitations: whom the bot befriends, and whose rooms it joins.

use jid::BareJid;
use tracing::{debug, info};
use xmpp_parsers::presence::Type;

use super::Intake;
use crate::config::Account;
use crate::gateway::admission::{self, Decision, Rules};
use crate::gateway::inbound::Invite;
use crate::gateway::{now, rooms};

/// Subscription requests that wait for the operators.
const MOST_ASKING: usize = 1_000;

impl Intake {
    pub(super) async fn subscribe(&mut self, account: &Account, jid: BareJid) {
        let approvals = self.access.approvals(&self.account);
        let rules = Rules {
            account,
            approvals: &approvals,
            now: now(),
        };
        match admission::direct(rules, &jid) {
            Decision::Admit(_) => self.befriend(&jid).await,
            Decision::AskPairing => {
                self.ask_operators(account, &jid, "").await;
                let mut state = self.handle.state();
                // The server asks again at the next login (RFC 6121, 3.1.3).
                if state.asking.len() < MOST_ASKING {
                    state.asking.insert(jid);
                }
            }
            Decision::Ignore(reason) => {
                debug!(%jid, "Subscription declined: {reason}");
                self.handle
                    .presence(rooms::directed(Type::Unsubscribed, &jid))
                    .await
                    .ok(); // Offline: it is asked again.
            }
        }
    }

    /// Accepts a subscription and asks for one.
    pub(super) async fn befriend(&self, jid: &BareJid) {
        rooms::befriend(&self.handle, jid).await;
    }

    pub(super) async fn invite(&self, account: &Account, invite: Invite) {
        let approvals = self.access.approvals(&self.account);
        let rules = Rules {
            account,
            approvals: &approvals,
            now: now(),
        };
        let inviter = invite.from.to_bare();
        let occupant = self.handle.state().rooms.contains_key(&inviter);
        let inviter = Some(inviter).filter(|jid| !occupant && vouched(&invite, jid, &self.own));
        match admission::invite(rules, &invite.room, inviter.as_ref()) {
            Ok(()) => {
                info!(room = %invite.room, from = %invite.from, "Invited, joining");
                rooms::remember(
                    &self.storage,
                    &self.account,
                    &invite.room,
                    None,
                    invite.password.as_ref(),
                )
                .await;
                self.handle
                    .join(invite.room, None, invite.password)
                    .await
                    .ok(); // The account has ended.
            }
            Err(reason) => {
                info!(room = %invite.room, from = %invite.from, "Invitation not followed: {reason}");
            }
        }
    }
}

/// Whether the inviter is who the invitation says. A direct one is stamped by the inviter's server. A mediated one says what
/// the room's service likes: it is believed of a service of the inviter's own domain, or of ours.
fn vouched(invite: &Invite, inviter: &BareJid, own: &BareJid) -> bool {
    let service = invite.room.domain().as_str();
    let belongs_to = |domain: &str| {
        service == domain
            || service
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    *inviter != invite.room
        && (!invite.mediated
            || belongs_to(inviter.domain().as_str())
            || belongs_to(own.domain().as_str()))
}
