//! The end of an account: what it kept goes, its sessions end, and its contacts are told that nobody is there any more.

use jid::{Jid, NodeRef};
use tracing::warn;

use super::stanza::{Stanza, presence};
use super::{Server, StanzaError};

impl Server {
    /// Deletes an account. Its name is not given again.
    pub async fn delete_account(&self, name: &NodeRef) -> Result<(), StanzaError> {
        let jid = self.accounts().jid(name);
        let account = self.account(&jid).await?;
        let account = account.ok_or_else(StanzaError::item_not_found)?;
        let contacts = account
            .roster(self)
            .await?
            .those(|contact| contact.state.to || contact.state.from || contact.state.pending_out);
        self.accounts().delete(name).await?;
        if let Err(error) = self.invitations().forget(&jid).await {
            warn!(%jid, condition = ?error.condition, "The invitations of a deleted account are still open");
        }
        for (contact, entry) in contacts {
            // XEP-0077, 3.2: they need not be asked for presence any more, nor wait for an answer.
            let kinds = [
                (entry.state.to || entry.state.pending_out, "unsubscribe"),
                (entry.state.from, "unsubscribed"),
            ];
            for (_, kind) in kinds.into_iter().filter(|(wanted, _)| *wanted) {
                let to = Jid::from(contact.clone());
                if let Some(stanza) = Stanza::new(jid.clone().into(), Some(to), presence(kind)) {
                    self.route(stanza, None).await;
                }
            }
        }
        Ok(())
    }
}
