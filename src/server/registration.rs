//! A new account for somebody who has none: what registration before a login (XEP-0077, XEP-0445) and the page of an
//! invitation have in common.

use std::net::IpAddr;

use jid::{BareJid, NodeRef};
use secrecy::SecretString;
use tracing::{error, info};

use super::abuse::Refusal;
use super::invitations::{Invitation, Shown};
use super::{Server, StanzaError, accounts};
use crate::config::Registration;
use crate::runtime::to_the_end;

/// What is told whom registration is closed to, or open with an invitation alone.
const CLOSED: &str = "Accounts are made by the people who run this server; ask them";
const INVITED: &str = "An account here needs an invitation; ask somebody who has one";

impl Server {
    /// Whether somebody may register: by the server's policy and the invitation that was shown.
    pub(super) fn may_register(&self, shown: Option<&Shown>) -> Result<(), StanzaError> {
        let invited = shown.is_some_and(|shown| shown.invitation.registers);
        match self.settings().registration {
            Registration::Open => Ok(()),
            Registration::Invite if invited => Ok(()),
            Registration::Invite => Err(StanzaError::not_allowed().text(INVITED)),
            Registration::Closed => Err(StanzaError::not_allowed().text(CLOSED)),
        }
    }

    /// Whether an invitation is worth an account.
    pub fn may_invite_to_accounts(&self) -> bool {
        self.settings().registration != Registration::Closed
    }

    /// The open invitation of a token that lets somebody register here now.
    pub async fn registering(&self, token: &str) -> Result<Option<Shown>, StanzaError> {
        let shown = self.invitation(token).await?;
        Ok(shown.filter(|shown| shown.invitation.registers && self.may_invite_to_accounts()))
    }

    /// Makes an account for somebody at this address; so many an hour.
    pub async fn register(
        &self,
        name: &str,
        password: SecretString,
        shown: Option<&Shown>,
        address: IpAddr,
    ) -> Result<BareJid, StanzaError> {
        self.may_register(shown)?;
        let name = accounts::name(name)?;
        let throttle = self.accounts().registrations();
        let limits = &self.settings().limits;
        throttle.set_limit(limits.registrations_per_ip_per_hour);
        if let Some(rest) = throttle.refusal(&address) {
            self.abuse().refused(Refusal::Registrations, &address);
            let minutes = rest.as_secs().div_ceil(60);
            return Err(StanzaError::resource_constraint().text(format!(
                "Too many accounts were made from your address; try again in {minutes} minutes"
            )));
        }
        // Before the work, so that many at once are not all let through.
        throttle.count(&address);
        let (server, shown) = (self.clone(), shown.cloned());
        // Who goes away meanwhile has an account and a used invitation, or neither.
        let made = to_the_end(async move {
            let invitation = server.make(&name, password, shown.as_ref()).await?;
            let jid = server.accounts().jid(&name);
            server.abuse().meters.registered();
            info!(%jid, %address, invited = invitation.is_some(), "An account was registered");
            if let Some(invitation) = invitation {
                server.introduce(&jid, &invitation).await;
            }
            Ok(jid)
        });
        let made = made
            .await
            .unwrap_or_else(|| Err(StanzaError::internal_server_error()));
        if made.is_err() {
            throttle.take_back(&address);
        }
        made
    }

    /// The account, and the invitation that it came by, which is used then.
    async fn make(
        &self,
        name: &NodeRef,
        password: SecretString,
        shown: Option<&Shown>,
    ) -> Result<Option<Invitation>, StanzaError> {
        let kept = self.invitations().is_kept_from(name, shown).await?;
        if kept {
            return Err(StanzaError::conflict().text("That name is kept for somebody else"));
        }
        let Some(shown) = shown else {
            self.accounts().create(name, password).await?;
            return Ok(None);
        };
        let held = self.invitations().hold(shown).await?;
        let held =
            held.ok_or_else(|| StanzaError::not_allowed().text("The invitation has been used up"))?;
        let invitation = held.invitation.clone();
        if let Some(meant) = &invitation.name
            && meant != name.as_str()
        {
            let text = format!("The invitation is for an account with the name {meant}");
            return Err(StanzaError::not_acceptable().text(text));
        }
        self.accounts().create(name, password).await?;
        // The account is there whatever becomes of the rest; an invitation that stays open is the lesser fault.
        if let Err(error) = held.used().await {
            error!(%name, condition = ?error.condition, "An invitation stays open though it was used");
        }
        if invitation.operator {
            if let Err(err) = self.accounts().promote(name).await {
                error!(%name, "The first account is no admin: {err}");
            }
            self.invitations().forget_operators().await.ok(); // They are of no more use, and end by themselves.
        }
        Ok(Some(invitation))
    }

    /// Makes inviter and invited contacts (XEP-0401, 3.5).
    async fn introduce(&self, jid: &BareJid, invitation: &Invitation) {
        let (Some(inviter), true) = (&invitation.inviter, invitation.befriends) else {
            return;
        };
        let (own, other) = (local_part(jid), local_part(inviter));
        let befriended = self.befriend(jid, own, inviter, other);
        if let Err(error) = Box::pin(befriended).await {
            error!(%jid, %inviter, condition = ?error.condition, "Inviter and invited are no contacts");
        }
    }
}

fn local_part(jid: &BareJid) -> &str {
    jid.node().map_or("", |name| name.as_str())
}
