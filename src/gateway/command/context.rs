//! What a command has to work with.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use jid::BareJid;
use tokio::sync::watch;

use super::parse::Arguments;
use crate::config::reload::Reloaded;
use crate::config::{self, Config};
use crate::gateway::access::Access;
use crate::gateway::pairing::Claimed;
use crate::gateway::reply::upload;
use crate::gateway::session::{Chat, Conversations};
use crate::gateway::{Inbound, Place, Standing};
use crate::llm::Models;
use crate::storage::Storage;

/// What the account layer does for commands. A trait, so that they are tested without a connection.
pub trait Control: Send + Sync {
    /// Enters a room, and again after a restart.
    fn join<'a>(
        &'a self,
        account: &'a str,
        room: &'a BareJid,
        nick: Option<&'a str>,
    ) -> BoxFuture<'a, anyhow::Result<()>>;
    fn leave<'a>(
        &'a self,
        account: &'a str,
        room: &'a BareJid,
    ) -> BoxFuture<'a, anyhow::Result<()>>;
    /// Somebody was let in: accepts the subscription that they asked for.
    fn let_in<'a>(&'a self, account: &'a str, jid: &'a BareJid) -> BoxFuture<'a, ()>;
    fn accounts(&self) -> Vec<AccountStatus>;
    /// What was applied; an error says what is wrong with the file.
    fn reload(&self) -> BoxFuture<'_, anyhow::Result<Reloaded>>;
    /// The last lines of the log, oldest first.
    fn log(&self, lines: usize) -> Vec<String>;
    /// Uploads a file and sends the message that shares it.
    fn share<'a>(
        &'a self,
        account: &'a str,
        place: &'a Place,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), upload::Error>>;
    fn claim(&self, account: &str, code: &str) -> Claimed;
}

/// What the embedded server of this process does for operators. The gateway knows no server: who builds both joins them.
/// `Err`: why not, in a sentence for the operator.
pub trait House: Send + Sync {
    /// Makes an account. `who`: a name, or an address.
    fn add<'a>(&'a self, who: &'a str) -> BoxFuture<'a, Result<Added, String>>;
    fn delete<'a>(&'a self, who: &'a str) -> BoxFuture<'a, Result<BareJid, String>>;
    /// Invites to one account, of this name where there is one.
    fn invite<'a>(
        &'a self,
        by: &'a BareJid,
        name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Invited, String>>;
    /// Tells everybody who is online; to how many sessions it went.
    fn announce<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<usize, String>>;
}

/// An account that was made.
pub struct Added {
    pub jid: BareJid,
    pub password: String,
}

pub struct Invited {
    pub uri: String,
    /// Where the server has pages that others reach.
    pub page: Option<String>,
    pub until: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountStatus {
    pub id: String,
    pub jid: String,
    /// "online", or what is the matter.
    pub condition: String,
    pub rooms: Vec<RoomStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStatus {
    pub room: BareJid,
    pub nick: String,
    pub condition: String,
}

/// What all commands share.
pub struct Services {
    pub live: watch::Receiver<Arc<Config>>,
    pub models: watch::Receiver<Models>,
    pub conversations: Conversations,
    pub storage: Storage,
    pub access: Arc<Access>,
    pub control: Arc<dyn Control>,
    /// `None`: there is no embedded server.
    pub house: Option<Arc<dyn House>>,
}

/// One call of a command.
pub struct Context {
    pub inbound: Inbound,
    pub standing: Standing,
    pub arguments: Arguments,
    pub services: Arc<Services>,
}

impl Context {
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.get(name)
    }

    pub fn chat(&self) -> Chat {
        self.services.conversations.chat(&self.inbound)
    }

    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.services.live.borrow())
    }

    pub fn models(&self) -> Models {
        self.services.models.borrow().clone()
    }

    pub fn account_id(&self) -> &str {
        &self.inbound.account
    }

    /// The account's configuration; `None` where a reload has just removed it.
    pub fn account(&self) -> Option<config::Account> {
        self.config().channels.xmpp.get(self.account_id()).cloned()
    }

    /// The state of the account that the command came through.
    pub fn status(&self) -> Option<AccountStatus> {
        let accounts = self.services.control.accounts();
        accounts
            .into_iter()
            .find(|account| account.id == self.account_id())
    }
}
