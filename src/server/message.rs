//! Messages (RFC 6121, 5 and 8.5): through the sender's account, then through the recipient's, and to the sessions that
//! the rules choose.

use std::sync::Arc;

use jid::Jid;

use super::account::Account;
use super::mail::Mail;
use super::passage::{Passage, Side};
use super::router::{Stage, Verdict};
use super::session::{Sender, Session};
use super::stanza::{Kind, MessageType, Stanza, bare};
use super::{Server, StanzaError};

/// What RFC 6121, 8.5 says of a message whose account exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// To the session with this resource.
    Resource,
    /// To every available session whose priority is not negative.
    Available,
    /// To nobody: `service-unavailable`.
    Refuse,
    /// To nobody, without a word.
    Ignore,
}

/// Whom a message goes to (RFC 6121, 8.5.2, 8.5.3 and the table in 8.5.4). `resource`: the one it is addressed to is
/// connected; `None`: it is addressed to the bare JID.
fn choose(kind: MessageType, resource: Option<bool>) -> Choice {
    match (resource, kind) {
        (Some(true), _) => Choice::Resource,
        (_, MessageType::Error) | (Some(false), MessageType::Headline) => Choice::Ignore,
        (_, MessageType::Groupchat) | (Some(false), MessageType::Normal) => Choice::Refuse,
        (None, _) | (Some(false), MessageType::Chat) => Choice::Available,
    }
}

/// What a message is answered that nobody took.
fn nobody(kind: MessageType) -> Option<StanzaError> {
    match kind {
        MessageType::Headline | MessageType::Error => None,
        MessageType::Normal | MessageType::Chat | MessageType::Groupchat => {
            Some(StanzaError::service_unavailable())
        }
    }
}

/// A message on its way out of its sender's account.
fn outgoing<'a>(
    server: &'a Server,
    session: &'a Arc<Session>,
    stanza: &'a mut Stanza,
) -> Passage<'a> {
    Passage {
        server,
        side: Side::Outgoing,
        account: session.account(),
        sender: Sender::Client(session),
        stanza,
        delivered: Vec::new(),
        stored: false,
        again: false,
        archived: None,
        private: false,
    }
}

impl Server {
    /// A message that a client of ours has sent.
    pub(super) async fn message_from_client(
        &self,
        session: &Arc<Session>,
        mut stanza: Stanza,
    ) -> Result<(), StanzaError> {
        if stanza.to().is_none() {
            // RFC 6120, 10.3.1: as if to the own bare JID.
            stanza.readdress(bare(session.account().jid()));
        }
        let mut passage = outgoing(self, session, &mut stanza);
        if self
            .stages(&mut passage, &[Stage::Filter, Stage::Rewrite])
            .await?
            == Verdict::Drop
        {
            return Ok(());
        }
        let private = passage.private;
        let mut sent = stanza.clone();
        self.route(stanza, Some(session)).await;
        // Afterwards: what the sender keeps is behind what the recipient has.
        let mut passage = Passage {
            private,
            ..outgoing(self, session, &mut sent)
        };
        self.stages(&mut passage, &[Stage::Observe]).await?;
        Ok(())
    }

    async fn stages(
        &self,
        passage: &mut Passage<'_>,
        stages: &[Stage],
    ) -> Result<Verdict, StanzaError> {
        for (stage, feature) in &self.router().messages {
            if stages.contains(stage) && feature.on_message(passage).await? == Verdict::Drop {
                return Ok(Verdict::Drop);
            }
        }
        Ok(Verdict::Continue)
    }

    /// A message for an account here. `again`: it was for a session that has ended.
    pub(super) async fn message_to_account(
        &self,
        account: &Arc<Account>,
        sender: Sender<'_>,
        mut stanza: Stanza,
        again: bool,
    ) -> Result<(), StanzaError> {
        let kind = stanza.message_type();
        let mut passage = Passage {
            server: self,
            side: Side::Incoming,
            account,
            sender,
            stanza: &mut stanza,
            delivered: Vec::new(),
            stored: false,
            archived: None,
            private: false,
            again,
        };
        let before = [Stage::Filter, Stage::Rewrite];
        if self.stages(&mut passage, &before).await? == Verdict::Drop {
            return Ok(());
        }
        let choice = self.deliver(&mut passage, kind).await;
        if passage.delivered.is_empty() && choice == Choice::Available {
            self.stages(&mut passage, &[Stage::Deliver]).await?;
        }
        self.stages(&mut passage, &[Stage::Observe]).await?;
        if !passage.delivered.is_empty() || passage.stored || choice == Choice::Ignore {
            return Ok(());
        }
        nobody(kind).map_or(Ok(()), Err)
    }

    /// Puts it into the mailboxes.
    async fn deliver(&self, passage: &mut Passage<'_>, kind: MessageType) -> Choice {
        let account = passage.account;
        let full = passage.stanza.to().and_then(|to| to.try_as_full().ok());
        let addressed = full.map(|full| account.session(full));
        let mut choice = choose(kind, addressed.as_ref().map(Option::is_some));
        let mail = Mail::new(passage.stanza.element().clone());
        if let (Choice::Resource, Some(Some(session))) = (choice, addressed) {
            if session.send(mail.clone()).await.is_ok() {
                passage.delivered.push(session);
                return choice;
            }
            // It has ended meanwhile.
            choice = choose(kind, Some(false));
        }
        if choice == Choice::Available {
            for session in account.sessions().iter() {
                if session.priority().is_some_and(|priority| priority >= 0)
                    && session.send(mail.clone()).await.is_ok()
                {
                    passage.delivered.push(Arc::clone(session));
                }
            }
        }
        choice
    }

    /// What a session was sent and has not acknowledged before it ended: to the other sessions, or kept (XEP-0198, 6).
    pub(super) async fn undelivered(&self, session: &Arc<Session>, mails: Vec<Mail>) {
        for mail in mails {
            let element = mail.element();
            let jid = |name| element.attr(name).and_then(|jid| Jid::new(jid).ok());
            let to = jid("to").unwrap_or_else(|| bare(session.account().jid()));
            let Some(stanza) = jid("from").and_then(|from| Stanza::new(from, Some(to), element))
            else {
                continue;
            };
            match stanza.kind() {
                Kind::Message => {
                    let refusable = stanza.refusable();
                    let account = session.account();
                    let outcome = self
                        .message_to_account(account, Sender::Nobody, stanza, true)
                        .await;
                    if let (Err(error), Some(refusable)) = (outcome, refusable) {
                        self.answer_refused(refusable, &error).await;
                    }
                }
                Kind::Iq => {
                    self.refuse(&stanza, &StanzaError::recipient_unavailable())
                        .await;
                }
                Kind::Presence => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_message_goes_to_follows_the_table_of_rfc_6121() {
        use MessageType::{Chat, Error, Groupchat, Headline, Normal};
        for (kind, bare, connected, gone) in [
            (Normal, Choice::Available, Choice::Resource, Choice::Refuse),
            (Chat, Choice::Available, Choice::Resource, Choice::Available),
            (Groupchat, Choice::Refuse, Choice::Resource, Choice::Refuse),
            (
                Headline,
                Choice::Available,
                Choice::Resource,
                Choice::Ignore,
            ),
            (Error, Choice::Ignore, Choice::Resource, Choice::Ignore),
        ] {
            assert_eq!(choose(kind, None), bare, "{kind:?} to the bare JID");
            assert_eq!(
                choose(kind, Some(true)),
                connected,
                "{kind:?} to a resource"
            );
            assert_eq!(choose(kind, Some(false)), gone, "{kind:?} to no resource");
        }
    }

    #[test]
    fn headlines_and_errors_are_never_answered() {
        assert!(nobody(MessageType::Headline).is_none());
        assert!(nobody(MessageType::Error).is_none());
        assert!(nobody(MessageType::Chat).is_some());
    }
}
