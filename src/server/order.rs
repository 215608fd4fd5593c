//! What the operator's command line asks for: through the control socket of a running process, or directly on the store.
//! The same code does it either way.

use std::time::Duration;

use jid::{BareJid, DomainPart, NodePart};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::invitations::{Invitation, Made};
use super::s2s::{Failure, Obstacle, Pair, Step, walk};
use super::{Server, StanzaError, accounts};
use crate::config::Registration;
use crate::xmpp::datetime;

/// How long the way to another server may take, all its hosts together.
const WALK: Duration = Duration::from_secs(100);

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
    /// Goes the way to another server; `from`: as which of our domains.
    Walk {
        to: String,
        from: Option<String>,
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
            Self::Walk { .. } => "Walk",
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
            Order::Walk { to, from } => return self.walk(&to, from.as_deref()).await,
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

    /// The steps to another server, and how they ended.
    async fn walk(&self, to: &str, from: Option<&str>) -> Result<Value, String> {
        let domain = |text: &str| {
            let domain = DomainPart::new(text);
            domain
                .map(|domain| domain.as_str().to_owned())
                .map_err(|err| format!("{text} is no domain: {err}"))
        };
        let remote = domain(to)?;
        let local = domain(from.unwrap_or(self.domain()))?;
        if !self.serves(&local) {
            return Err(format!(
                "{local} is not of this server, whose domain is {}",
                self.domain()
            ));
        }
        if self.serves(&remote) {
            return Err(format!("{remote} is this server itself; name another"));
        }
        let mut steps = Vec::new();
        let pair = Pair::new(local, remote);
        let outcome = {
            let mut watch = |step: Step| steps.push(step);
            timeout(WALK, Box::pin(walk(self, &pair, &mut watch))).await
        };
        let failure = match outcome {
            Ok(outcome) => outcome.err(),
            Err(_elapsed) => Some(Failure {
                obstacle: Obstacle::Unreachable,
                text: format!("{} took longer than {} s", pair.remote, WALK.as_secs()),
            }),
        };
        Ok(json!({
            "from": pair.local,
            "to": pair.remote,
            "ok": failure.is_none(),
            "steps": steps,
            "failure": failure,
        }))
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
