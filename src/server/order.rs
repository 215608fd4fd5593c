//! What the operator's command line asks for: through the control socket of a running process, or directly on the store.
//! The same code does it either way.

use jid::{BareJid, NodePart};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::invitations::{Invitation, Made};
use super::{Server, StanzaError, accounts};
use crate::config::Registration;
use crate::xmpp::datetime;

/// A line of the control socket, as JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    Add {
        jid: BareJid,
        password: String,
    },
    Delete {
        jid: BareJid,
    },
    Password {
        jid: BareJid,
        password: String,
    },
    List,
    /// An invitation; `contact`: who becomes a contact of the invited, `seconds`: how long it is good for.
    Invite {
        contact: Option<BareJid>,
        name: Option<String>,
        uses: u32,
        seconds: i64,
    },
    Invitations,
    Revoke {
        invitation: String,
    },
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Add { .. } => "Add",
            Self::Delete { .. } => "Delete",
            Self::Password { .. } => "Password",
            Self::List => "List",
            Self::Invite { .. } => "Invite",
            Self::Invitations => "Invitations",
            Self::Revoke { .. } => "Revoke",
        })
    }
}

impl Server {
    /// Does it. `Err`: why not, in a sentence.
    pub async fn carry_out(&self, order: Order) -> Result<Value, String> {
        match order {
            Order::Add { jid, password } => {
                let name = self.name_of(&jid)?;
                let password = SecretString::from(password);
                let made = self.accounts().create(&name, password).await;
                made.map_err(|err| sentence(&err))?;
            }
            Order::Delete { jid } => {
                let name = self.name_of(&jid)?;
                if !self.accounts().exists(&name) {
                    return Err(sentence(&accounts::Error::Unknown(jid)));
                }
                let deleted = self.delete_account(&name).await;
                deleted.map_err(|error| refusal("The account could not be deleted", &error))?;
            }
            Order::Password { jid, password } => {
                let name = self.name_of(&jid)?;
                let password = SecretString::from(password);
                let set = self.accounts().set_password(&name, password, None).await;
                set.map_err(|err| sentence(&err))?;
            }
            Order::List => {
                return Ok(json!({
                    "domain": self.domain(),
                    "users": self.accounts().list(),
                }));
            }
            Order::Invite {
                contact,
                name,
                uses,
                seconds,
            } => return self.invite(contact, name, uses, seconds).await,
            Order::Invitations => {
                let open = self.invitations().list().await;
                let open = open
                    .map_err(|error| refusal("The invitations could not be read", &error))?
                    .into_iter();
                let open: Vec<_> = open
                    .map(|(id, invitation)| json!({ "id": id, "invitation": invitation }))
                    .collect();
                return Ok(json!({ "invitations": open }));
            }
            Order::Revoke { invitation } => {
                let revoked = self.invitations().revoke(&invitation, None).await;
                if !revoked.map_err(|error| refusal("Nothing was revoked", &error))? {
                    return Err(format!(
                        "There is no open invitation {invitation}; `moltis invite --list` lists those there are"
                    ));
                }
            }
        }
        Ok(json!({}))
    }

    /// Makes an invitation of the owner's. While nobody has an account, its first account will be the admin's.
    async fn invite(
        &self,
        contact: Option<BareJid>,
        name: Option<String>,
        uses: u32,
        seconds: i64,
    ) -> Result<Value, String> {
        if self.settings().registration == Registration::Closed {
            return Err("registration is \"closed\", so that an invitation would be of no use; set it to \"invite\" in [xmpp_server], or use `moltis adduser`".to_owned());
        }
        if let Some(contact) = &contact {
            let known = self.name_of(contact)?;
            if !self.accounts().exists(&known) {
                return Err(sentence(&accounts::Error::Unknown(contact.clone())));
            }
        }
        let name = match name.as_deref().map(accounts::name).transpose() {
            Ok(Some(name)) if self.accounts().exists(&name) => {
                return Err(accounts::Error::Exists(self.accounts().jid(&name)).to_string());
            }
            Ok(name) => name.map(|name| name.as_str().to_owned()),
            Err(err) => return Err(err.to_string()),
        };
        let usual = Invitation::new();
        let invitation = Invitation {
            expires: Some(usual.created.saturating_add(seconds.saturating_mul(1_000))),
            uses,
            befriends: contact.is_some(),
            inviter: contact,
            name,
            operator: !self.has_people(),
            ..usual
        };
        let made = self.invitations().make(invitation).await;
        let made = made.map_err(|error| refusal("No invitation could be made", &error))?;
        Ok(self.told(&made))
    }

    /// An invitation as the command line prints it.
    pub fn told(&self, made: &Made) -> Value {
        json!({
            "id": made.id,
            "uri": made.invitation.uri(self.domain(), &made.token),
            "url": self.invitation_page(&made.token),
            "token": made.token,
            "expires": made.invitation.expires.map(datetime::stamp),
            "uses": made.invitation.uses,
            "operator": made.invitation.operator,
        })
    }

    fn name_of(&self, jid: &BareJid) -> Result<NodePart, String> {
        let domain = self.domain();
        if !self.is_local(jid.domain().as_str()) {
            return Err(format!(
                "{jid} is not of this server, whose domain is {domain}; name an account like {}@{domain}",
                jid.node().map_or("alice", |name| name.as_str())
            ));
        }
        jid.node().map(ToOwned::to_owned).ok_or_else(|| {
            format!("{jid} has no part before an @; name an account like alice@{domain}")
        })
    }
}

fn sentence(err: &accounts::Error) -> String {
    match err {
        accounts::Error::Unknown(_) => format!("{err}; `moltis users` lists those there are"),
        err => err.to_string(),
    }
}

fn refusal(what: &str, error: &StanzaError) -> String {
    let text = error.text.clone();
    text.unwrap_or_else(|| format!("{what} ({:?}); look at the log", error.condition))
}
