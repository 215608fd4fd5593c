//! What the operator's command line asks for: through the control socket of a running process, or directly on the store.
//! The same code does it either way.

use jid::{BareJid, NodePart};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Server, StanzaError, accounts};

/// A line of the control socket, as JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    Add { jid: BareJid, password: String },
    Delete { jid: BareJid },
    Password { jid: BareJid, password: String },
    List,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Add { .. } => "Add",
            Self::Delete { .. } => "Delete",
            Self::Password { .. } => "Password",
            Self::List => "List",
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
                deleted.map_err(|error| refusal(&error))?;
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
        }
        Ok(json!({}))
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

fn refusal(error: &StanzaError) -> String {
    error.text.clone().unwrap_or_else(|| {
        format!(
            "The account could not be deleted ({:?}); look at the log",
            error.condition
        )
    })
}
