//! Invitations (XEP-0401): who holds the token of one may make an account, becomes a contact of whoever has invited, or
//! both. Of a token its hash is stored alone, so that a stolen database invites nobody.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jid::{BareJid, Jid};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};
use tracing::error;

use super::{Server, StanzaError};
use crate::storage::{Batch, KeyValue, Storage};
use crate::xmpp::datetime;
use crate::xmpp::secrets::generate_password;

/// Owner: the domain; key: the hash of the token.
const INVITATIONS: KeyValue = KeyValue("invitations");

/// Letters and digits of a token: 142 bits.
const TOKEN: usize = 24;
/// So much of the hash is the name of an invitation in lists.
const ID: usize = 10;
/// Open invitations of the server, and of one inviter.
const MOST: usize = 1_000;
const MOST_EACH: usize = 20;
/// What is over stays so long: a registration that has begun with it may end (XEP-0445, 4).
const GRACE: i64 = 60 * 60 * 1_000;
const DAY: i64 = 24 * 60 * 60 * 1_000;

/// How long an invitation is good for where nobody says otherwise, in milliseconds.
pub const LIFETIME: i64 = 7 * DAY;

/// What somebody is invited to. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    pub created: i64,
    /// `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// How often it may be used yet.
    pub uses: u32,
    /// Who invites; `None`: the owner, from the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inviter: Option<BareJid>,
    /// Inviter and invited become contacts.
    #[serde(default)]
    pub befriends: bool,
    /// An account may be made.
    #[serde(default)]
    pub registers: bool,
    /// The name that the account will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its first account becomes admin, and operator of the bots.
    #[serde(default)]
    pub operator: bool,
}

impl Invitation {
    /// For one, for the usual time.
    pub fn new() -> Self {
        let now = datetime::now();
        Self {
            created: now,
            expires: Some(now.saturating_add(LIFETIME)),
            uses: 1,
            registers: true,
            ..Self::default()
        }
    }

    fn is_over(&self, now: i64) -> bool {
        self.uses == 0 || self.expires.is_some_and(|expires| expires <= now)
    }

    /// The URI (XEP-0379, 3.2; XEP-0445, 2).
    pub fn uri(&self, domain: &str, token: &str) -> String {
        if let (None, Some(inviter), true) = (&self.name, &self.inviter, self.befriends) {
            let registers = if self.registers { ";ibr=y" } else { "" };
            let inviter = address(inviter);
            return format!("xmpp:{inviter}?roster;preauth={token}{registers}");
        }
        let name = self.name.as_deref();
        let name = name.map_or(String::new(), |name| format!("{}@", encoded(name)));
        format!("xmpp:{name}{domain}?register;preauth={token}")
    }
}

fn address(jid: &BareJid) -> String {
    let name = jid.node().map_or("", |name| name.as_str());
    format!("{}@{}", encoded(name), jid.domain())
}

/// A local part in a URI (RFC 5122, 2.2).
fn encoded(text: &str) -> String {
    use std::fmt::Write;

    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").ok(); // A string takes everything.
        }
        encoded
    })
}

/// An invitation that somebody has shown the token of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    key: String,
    pub invitation: Invitation,
}

/// A new invitation. The token is nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub id: String,
    pub token: String,
    pub invitation: Invitation,
}

/// The open invitations of the server.
pub struct Invitations {
    storage: Storage,
    domain: String,
    /// What reads and then writes does so alone.
    writing: Mutex<()>,
}

impl Invitations {
    pub(super) fn new(storage: Storage, domain: &str) -> Self {
        Self {
            storage,
            domain: domain.to_owned(),
            writing: Mutex::default(),
        }
    }

    /// Makes one. Who may is decided before; here is how many.
    pub async fn make(&self, invitation: Invitation) -> Result<Made, StanzaError> {
        let _alone = self.writing.lock().await;
        let now = datetime::now();
        let (over, open): (Vec<_>, Vec<_>) = self
            .all()
            .await?
            .into_iter()
            .partition(|(_, other)| other.is_over(now.saturating_sub(GRACE)));
        let full = |text| Err(StanzaError::resource_constraint().text(text));
        if open.len() >= MOST {
            return full("There are as many open invitations as there may be; revoke some");
        }
        let of_inviter = |(_, other): &&(String, Invitation)| other.inviter == invitation.inviter;
        if invitation.inviter.is_some() && open.iter().filter(of_inviter).count() >= MOST_EACH {
            return full("You have as many open invitations as you may have; revoke some");
        }
        let token = new_token()?;
        let key = key(&token);
        let batch = over.iter().fold(Batch::new(), |batch, (key, _)| {
            batch.delete(INVITATIONS, &self.domain, key)
        });
        let batch = batch.put(INVITATIONS, &self.domain, &key, bytes(&invitation)?);
        self.storage.commit(batch).await?;
        Ok(Made {
            id: id(&key),
            token,
            invitation,
        })
    }

    /// The open invitation of a token.
    pub async fn show(&self, token: &str) -> Result<Option<Shown>, StanzaError> {
        let key = key(token);
        let invitation = self.read(&key).await?;
        let open = invitation.filter(|invitation| !invitation.is_over(datetime::now()));
        Ok(open.map(|invitation| Shown { key, invitation }))
    }

    /// The open ones, by the names that they have in lists.
    pub async fn list(&self) -> Result<Vec<(String, Invitation)>, StanzaError> {
        let now = datetime::now();
        let all = self.all().await?.into_iter();
        let open = all.filter(|(_, invitation)| !invitation.is_over(now));
        let mut open: Vec<_> = open
            .map(|(key, invitation)| (id(&key), invitation))
            .collect();
        open.sort_by_key(|(_, invitation)| invitation.created);
        Ok(open)
    }

    /// Ends the one of this name in lists; `of`: only if this is the inviter. `false`: there is none.
    pub async fn revoke(&self, name: &str, of: Option<&BareJid>) -> Result<bool, StanzaError> {
        let is_meant = |key: &str, invitation: &Invitation| {
            id(key) == name && (of.is_none() || invitation.inviter.as_ref() == of)
        };
        self.remove(is_meant).await
    }

    /// Ends those of an account that is gone.
    pub(super) async fn forget(&self, inviter: &BareJid) -> Result<(), StanzaError> {
        let is_meant =
            |_: &str, invitation: &Invitation| invitation.inviter.as_ref() == Some(inviter);
        self.remove(is_meant).await.map(|_any| ())
    }

    /// Ends those that make an operator: there is one, or a new one is about to be printed.
    pub async fn forget_operators(&self) -> Result<(), StanzaError> {
        let is_meant = |_: &str, invitation: &Invitation| invitation.operator;
        self.remove(is_meant).await.map(|_any| ())
    }

    async fn remove(
        &self,
        is_meant: impl Fn(&str, &Invitation) -> bool,
    ) -> Result<bool, StanzaError> {
        let _alone = self.writing.lock().await;
        let all = self.all().await?.into_iter();
        let meant = all.filter(|(key, invitation)| is_meant(key, invitation));
        let batch = meant.fold(Batch::new(), |batch, (key, _)| {
            batch.delete(INVITATIONS, &self.domain, &key)
        });
        if batch.is_empty() {
            return Ok(false);
        }
        self.storage.commit(batch).await?;
        Ok(true)
    }

    /// Whether a name is kept for the holder of another invitation (XEP-0445, 5).
    pub(super) async fn is_kept_from(
        &self,
        name: &str,
        holder: Option<&Shown>,
    ) -> Result<bool, StanzaError> {
        let now = datetime::now();
        let keeps = |(key, invitation): &(String, Invitation)| {
            invitation.name.as_deref() == Some(name)
                && !invitation.is_over(now)
                && holder.is_none_or(|holder| holder.key != *key)
        };
        Ok(self.all().await?.iter().any(keeps))
    }

    /// Takes the invitation up again, to use it: nobody else uses one until the answer is dropped. Its end is not looked
    /// at (XEP-0445, 4). `None`: others have used it up, or it was revoked.
    pub(super) async fn hold(&self, shown: &Shown) -> Result<Option<Held<'_>>, StanzaError> {
        let alone = self.writing.lock().await;
        let invitation = self.read(&shown.key).await?;
        Ok(invitation
            .filter(|invitation| invitation.uses > 0)
            .map(|invitation| Held {
                invitations: self,
                key: shown.key.clone(),
                invitation,
                _alone: alone,
            }))
    }

    async fn read(&self, key: &str) -> Result<Option<Invitation>, StanzaError> {
        let value = self.storage.get(INVITATIONS, &self.domain, key).await?;
        Ok(value.and_then(|value| parsed(key, &value)))
    }

    async fn all(&self) -> Result<Vec<(String, Invitation)>, StanzaError> {
        let stored = self.storage.list(INVITATIONS, &self.domain, "").await?;
        let read = stored.into_iter().filter_map(|(key, value)| {
            let invitation = parsed(&key, &value)?;
            Some((key, invitation))
        });
        Ok(read.collect())
    }
}

/// An invitation that is being used.
pub(super) struct Held<'a> {
    invitations: &'a Invitations,
    key: String,
    pub(super) invitation: Invitation,
    _alone: MutexGuard<'a, ()>,
}

impl Held<'_> {
    /// What it was for has been done: one use less.
    pub(super) async fn used(self) -> Result<(), StanzaError> {
        let left = Invitation {
            uses: self.invitation.uses.saturating_sub(1),
            operator: false,
            ..self.invitation
        };
        let (domain, batch) = (&self.invitations.domain, Batch::new());
        let batch = if left.uses == 0 {
            batch.delete(INVITATIONS, domain, &self.key)
        } else {
            batch.put(INVITATIONS, domain, &self.key, bytes(&left)?)
        };
        self.invitations.storage.commit(batch).await?;
        Ok(())
    }
}

impl Server {
    /// The page of an invitation, where others find our pages.
    pub fn invitation_page(&self, token: &str) -> Option<String> {
        let settings = self.settings();
        let page = settings.pages.as_ref()?;
        page.join(&format!("invite/{token}")).ok().map(String::from)
    }

    /// The open invitation of a token, unless whoever invited has been shut out since.
    pub async fn invitation(&self, token: &str) -> Result<Option<Shown>, StanzaError> {
        let shown = self.invitations().show(token).await?;
        let is_shut_out = |inviter: &BareJid| {
            let accounts = self.accounts();
            let is_out = |name| !accounts.exists(name) || accounts.is_disabled(name);
            self.is_local(inviter.domain().as_str()) && inviter.node().is_some_and(is_out)
        };
        Ok(shown.filter(|shown| !shown.invitation.inviter.as_ref().is_some_and(is_shut_out)))
    }

    /// XEP-0379, 3.5: a request for a subscription that shows a token of the account is one that it agrees to.
    pub(super) async fn invited_contact(
        &self,
        account: &BareJid,
        token: &str,
        asker: &Jid,
    ) -> Option<Held<'_>> {
        let shown = match self.invitation(token).await {
            Ok(shown) => shown?,
            Err(error) => {
                error!(%asker, condition = ?error.condition, "An invitation cannot be read");
                return None;
            }
        };
        let invitation = &shown.invitation;
        if !invitation.befriends || invitation.inviter.as_ref() != Some(account) {
            return None;
        }
        self.invitations().hold(&shown).await.ok().flatten()
    }
}

fn new_token() -> Result<String, StanzaError> {
    use secrecy::ExposeSecret;

    let token = generate_password(TOKEN).map_err(|err| {
        error!("No invitation can be made: {err}");
        StanzaError::internal_server_error()
    })?;
    Ok(token.expose_secret().to_owned())
}

fn key(token: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}

fn id(key: &str) -> String {
    key.chars().take(ID).collect()
}

fn bytes(invitation: &Invitation) -> Result<Vec<u8>, StanzaError> {
    serde_json::to_vec(invitation).map_err(|_impossible| StanzaError::internal_server_error())
}

fn parsed(key: &str, value: &[u8]) -> Option<Invitation> {
    let read = serde_json::from_slice(value);
    if read.is_err() {
        error!(id = id(key), "An invitation is damaged; revoke it");
    }
    read.ok()
}

#[cfg(test)]
mod tests;
