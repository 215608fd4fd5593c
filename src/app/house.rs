//! What operators ask of the embedded server in a chat: the gateway's commands, carried out as those of the command line are.

use anyhow::Result;
use futures::future::BoxFuture;
use jid::BareJid;
use secrecy::ExposeSecret;

use crate::gateway::command::{Added, House, Invited};
use crate::server::invitations::Invitation;
use crate::server::order::Order;
use crate::server::{Server, StanzaError, accounts};
use crate::xmpp::datetime;
use crate::xmpp::secrets::generate_password;

/// Letters and digits of a password that is told in a chat.
const GENERATED: usize = 16;

pub(super) struct AppHouse(pub(super) Server);

impl House for AppHouse {
    fn add<'a>(&'a self, who: &'a str) -> BoxFuture<'a, Result<Added, String>> {
        Box::pin(async move {
            let jid = self.address(who)?;
            let password = generate_password(GENERATED).map_err(|err| err.to_string())?;
            let password = password.expose_secret().to_owned();
            let order = Order::Add {
                jid: jid.clone(),
                password: password.clone(),
            };
            self.0.carry_out(order).await?;
            Ok(Added { jid, password })
        })
    }

    fn delete<'a>(&'a self, who: &'a str) -> BoxFuture<'a, Result<BareJid, String>> {
        Box::pin(async move {
            let jid = self.address(who)?;
            if self.0.settings().bots.contains(&jid) {
                return Err(format!(
                    "{jid} is a bot of moltis.toml; take its table away there"
                ));
            }
            let order = Order::Delete { jid: jid.clone() };
            self.0.carry_out(order).await?;
            Ok(jid)
        })
    }

    fn invite<'a>(
        &'a self,
        by: &'a BareJid,
        name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Invited, String>> {
        Box::pin(async move {
            let server = &self.0;
            if !server.may_invite_to_accounts() {
                return Err("Registration is closed on this server".to_owned());
            }
            let name = name.map(accounts::name).transpose();
            let name = name.map_err(|err| err.to_string())?;
            if let Some(name) = name.as_ref().filter(|name| server.accounts().exists(name)) {
                let taken = accounts::Error::Exists(server.accounts().jid(name));
                return Err(taken.to_string());
            }
            let has_account = |name: &jid::NodeRef| server.accounts().exists(name);
            let is_here =
                server.is_local(by.domain().as_str()) && by.node().is_some_and(has_account);
            let invitation = Invitation {
                // A contact of the operator, where that one lives here too.
                befriends: is_here,
                inviter: Some(by.clone()),
                name: name.map(|name| name.as_str().to_owned()),
                ..Invitation::new()
            };
            let made = server.invitations().make(invitation).await;
            let made = made.map_err(sentence)?;
            Ok(Invited {
                uri: made.invitation.uri(server.domain(), &made.token),
                page: server.invitation_page(&made.token),
                until: made
                    .invitation
                    .expires
                    .map_or(String::new(), datetime::stamp),
            })
        })
    }

    fn announce<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<usize, String>> {
        Box::pin(async move { self.0.announce(text).map_err(sentence) })
    }
}

impl AppHouse {
    /// People write a name, an address, or a link.
    fn address(&self, who: &str) -> Result<BareJid, String> {
        let who = who.strip_prefix("xmpp:").unwrap_or(who);
        let whole = if who.contains('@') {
            who.to_owned()
        } else {
            format!("{who}@{}", self.0.domain())
        };
        BareJid::new(&whole).map_err(|_malformed| format!("{who} is no address"))
    }
}

fn sentence(error: StanzaError) -> String {
    let condition = error.condition;
    let text = error.text;
    text.unwrap_or_else(|| format!("The server did not do it ({condition:?}); look at the log"))
}
