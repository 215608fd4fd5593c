//! What commands in the chat do to the process: rooms, accounts, configuration, log.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::future::BoxFuture;
use jid::BareJid;

use super::logging::Logging;
use super::reload::Reloader;
use crate::config::reload::Reloaded;
use crate::gateway::account::Handle;
use crate::gateway::accounts::{self, Accounts};
use crate::gateway::command::{AccountStatus, Control, RoomStatus};
use crate::gateway::pairing::Claimed;
use crate::gateway::reply::upload;
use crate::gateway::session::Conversations;
use crate::gateway::{Place, rooms};
use crate::storage::Storage;

/// Joins what the commands need; made before the accounts, which need the commands.
pub(super) struct AppControl {
    pub(super) accounts: Arc<OnceLock<Accounts>>,
    pub(super) storage: Storage,
    pub(super) reloader: Reloader,
    pub(super) logging: Logging,
    pub(super) conversations: Conversations,
}

impl Control for AppControl {
    fn join<'a>(
        &'a self,
        account: &'a str,
        room: &'a BareJid,
        nick: Option<&'a str>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let handle = self.handle(account)?;
            rooms::remember(&self.storage, account, room, nick, None).await;
            handle
                .join(room.clone(), nick.map(Into::into), None)
                .await?;
            Ok(())
        })
    }

    fn leave<'a>(&'a self, account: &'a str, room: &'a BareJid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            rooms::forget(&self.storage, account, room).await;
            self.handle(account)?.leave(room.clone()).await?;
            Ok(())
        })
    }

    fn let_in<'a>(&'a self, account: &'a str, jid: &'a BareJid) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Ok(handle) = self.handle(account) else {
                return;
            };
            let asked = handle.state().asking.remove(jid);
            if asked {
                rooms::befriend(&handle, jid).await;
            }
        })
    }

    fn accounts(&self) -> Vec<AccountStatus> {
        let accounts = self
            .accounts
            .get()
            .map(Accounts::status)
            .unwrap_or_default();
        let room = |room: accounts::RoomStatus| {
            let jid = BareJid::new(&room.room).ok()?;
            Some(RoomStatus {
                room: jid,
                nick: room.nick,
                condition: room.condition,
            })
        };
        accounts
            .into_iter()
            .map(|account| AccountStatus {
                id: account.id,
                jid: account.jid,
                condition: account.condition,
                rooms: account.rooms.into_iter().filter_map(room).collect(),
            })
            .collect()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded>> {
        Box::pin(async { self.reloader.reload().await.map_err(anyhow::Error::msg) })
    }

    fn log(&self, lines: usize) -> Vec<String> {
        self.logging.recent(lines)
    }

    fn share<'a>(
        &'a self,
        account: &'a str,
        place: &'a Place,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), upload::Error>> {
        Box::pin(self.conversations.share(account, place, name, bytes))
    }

    fn claim(&self, account: &str, code: &str) -> Claimed {
        let claim = self
            .accounts
            .get()
            .and_then(|accounts| accounts.claim_of(account));
        claim.map_or(Claimed::Closed, |claim| claim.attempt(code))
    }
}

impl AppControl {
    fn handle(&self, account: &str) -> Result<Handle> {
        let accounts = self
            .accounts
            .get()
            .context("The accounts are still starting")?;
        accounts
            .handle(account)
            .with_context(|| format!("Account {account} does not run"))
    }
}
