//! What changes accounts. What is promised is in the store first; then whoever must act is told.

use std::sync::Arc;

use jid::{FullJid, NodeRef};
use secrecy::SecretString;
use tracing::info;

use super::credentials::{Credentials, Record};
use super::{
    ACCOUNTS, Account, Accounts, Change, Error, LAST_LOGINS, LONGEST_NAME, lock, now, random,
    tokens, write_lock,
};
use crate::storage::{self, Batch};

impl Accounts {
    /// Makes an account.
    pub async fn create(&self, name: &NodeRef, password: SecretString) -> Result<(), Error> {
        if self.exists(name) {
            return Err(Error::Exists(self.jid(name)));
        }
        // Keys take a hundred times as long as this look at the tombstones.
        let taken = self.0.storage.get(ACCOUNTS, &self.0.domain, name).await?;
        if taken.is_some() {
            return Err(Error::Deleted(self.jid(name)));
        }
        let credentials = self.derive(password).await?;
        self.add(name, credentials).await
    }

    /// Makes an account that nobody can log in to from outside: a bot of this process, or one that gets its password
    /// later.
    pub async fn create_without_password(&self, name: &NodeRef) -> Result<(), Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(random)?;
        self.add(name, Credentials::decoy(&secret, name)).await
    }

    /// Makes an account that the configuration asks for, unless it is there: nobody logs in to it with a password. Who
    /// writes it into the configuration may also give a name again that was deleted.
    pub async fn provide(&self, name: &NodeRef) -> Result<(), Error> {
        if self.exists(name) {
            return Ok(());
        }
        let tombstone = Batch::new().delete(ACCOUNTS, &self.0.domain, name);
        self.0.storage.commit(tombstone).await?;
        self.create_without_password(name).await
    }

    /// Makes an account of which the keys are known: from another server, for instance.
    pub async fn add(&self, name: &NodeRef, credentials: Credentials) -> Result<(), Error> {
        if name.len() > LONGEST_NAME {
            return Err(Error::Name(name.as_str().chars().take(40).collect()));
        }
        let created = now();
        let record = Record::new(created, None, false, &credentials).to_bytes();
        let batch = Batch::new().put_new(ACCOUNTS, &self.0.domain, name, record);
        match self.0.storage.commit(batch).await {
            Ok(_) => {}
            Err(storage::Error::Taken { .. }) if self.exists(name) => {
                return Err(Error::Exists(self.jid(name)));
            }
            Err(storage::Error::Taken { .. }) => return Err(Error::Deleted(self.jid(name))),
            Err(err) => return Err(err.into()),
        }
        let account = Account {
            created,
            disabled: None,
            admin: false,
            credentials: Arc::new(credentials),
            last_login: Arc::default(),
        };
        write_lock(&self.0.known).insert(name.to_owned(), account);
        self.tell(name, Change::Created).await;
        Ok(())
    }

    /// Changes the password; the tokens of all devices end with the old one.
    /// `by`: the session that asked for it.
    pub async fn set_password(
        &self,
        name: &NodeRef,
        password: SecretString,
        by: Option<FullJid>,
    ) -> Result<(), Error> {
        if !self.exists(name) {
            return Err(Error::Unknown(self.jid(name)));
        }
        let credentials = Arc::new(self.derive(password).await?);
        let new = Arc::clone(&credentials);
        let batch = tokens::forget(name);
        self.change(name, batch, move |account| account.credentials = new)
            .await?;
        self.tell(name, Change::Password { by }).await;
        Ok(())
    }

    /// Nobody can log in to it; everything is kept.
    pub async fn disable(&self, name: &NodeRef) -> Result<(), Error> {
        let at = now();
        let batch = tokens::forget(name);
        self.change(name, batch, |account| account.disabled = Some(at))
            .await?;
        self.tell(name, Change::Disabled).await;
        Ok(())
    }

    pub async fn enable(&self, name: &NodeRef) -> Result<(), Error> {
        self.change(name, Batch::new(), |account| account.disabled = None)
            .await?;
        self.tell(name, Change::Enabled).await;
        Ok(())
    }

    /// Whether it may administer the server.
    pub async fn set_admin(&self, name: &NodeRef, admin: bool) -> Result<(), Error> {
        self.change(name, Batch::new(), |account| account.admin = admin)
            .await
    }

    /// Makes it admin, and those who follow accounts make it operator of the bots.
    pub async fn promote(&self, name: &NodeRef) -> Result<(), Error> {
        self.set_admin(name, true).await?;
        self.tell(name, Change::Promoted).await;
        Ok(())
    }

    /// Ends the account and what the features keep for it; its name is not given again.
    pub async fn delete(&self, name: &NodeRef) -> Result<(), Error> {
        let jid = self.jid(name);
        let writing = self.0.writing.lock().await;
        if !self.exists(name) {
            return Err(Error::Unknown(jid));
        }
        let tombstone = Record::Deleted { at: now() }.to_bytes();
        let mut batch = tokens::forget(name)
            .delete(LAST_LOGINS, &self.0.domain, name)
            .put(ACCOUNTS, &self.0.domain, name, tombstone);
        let forget = lock(&self.0.forget).clone();
        for forget in forget {
            batch = batch.and(forget(jid.clone()).await?);
        }
        self.0.storage.commit(batch).await?;
        write_lock(&self.0.known).remove(name);
        drop(writing);
        info!(%jid, "The account has been deleted");
        self.tell(name, Change::Deleted).await;
        Ok(())
    }

    async fn change(
        &self,
        name: &NodeRef,
        batch: Batch,
        change: impl FnOnce(&mut Account),
    ) -> Result<(), Error> {
        let _writing = self.0.writing.lock().await;
        let mut account = self
            .with(name, Clone::clone)
            .ok_or_else(|| Error::Unknown(self.jid(name)))?;
        change(&mut account);
        let record = Record::new(
            account.created,
            account.disabled,
            account.admin,
            &account.credentials,
        );
        let batch = batch.put(ACCOUNTS, &self.0.domain, name, record.to_bytes());
        self.0.storage.commit(batch).await?;
        write_lock(&self.0.known).insert(name.to_owned(), account);
        Ok(())
    }

    async fn tell(&self, name: &NodeRef, change: Change) {
        let jid = self.jid(name);
        let observers = lock(&self.0.observers).clone();
        for observer in observers {
            observer(jid.clone(), change.clone()).await;
        }
    }
}
