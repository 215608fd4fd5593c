//! A message on its way: who may talk here, whether it is for the bot, and then a command or the conversation.

use tracing::{debug, error};

use super::Intake;
use crate::config::Account;
use crate::gateway::admission::{self, Decision, Rules};
use crate::gateway::command;
use crate::gateway::mention::{self, Addressed, Names};
use crate::gateway::session::Accepted;
use crate::gateway::{Inbound, Kind, Place, Standing, Wire, now};

const CANNOT_DECRYPT: &str = "I cannot read encrypted messages. Please switch encryption off for this chat and send it again.";

impl Intake {
    pub(super) async fn message(&mut self, account: &Account, mut inbound: Inbound) {
        if let Kind::Retraction {
            moderated: true, ..
        } = inbound.kind
        {
            self.accept(inbound, Standing::default()).await;
            return;
        }
        if self.claims(account, &inbound).await {
            return;
        }
        let approvals = self.access.approvals(&self.account);
        let rules = Rules {
            account,
            approvals: &approvals,
            now: now(),
        };
        let standing = match admission::decide(rules, &inbound.place, &inbound.sender) {
            Decision::Admit(standing) => standing,
            Decision::AskPairing => return self.stranger(account, &inbound).await,
            Decision::Ignore(reason) => {
                debug!(from = %inbound.sender.from, "Not admitted: {reason}");
                return;
            }
        };
        if inbound.encrypted && inbound.attachments.is_empty() {
            return self.encrypted(&inbound).await;
        }
        if matches!(
            inbound.kind,
            Kind::Retraction { .. } | Kind::Reactions { .. }
        ) {
            self.accept(inbound, standing).await;
            return;
        }
        let addressed = match self.addressed(account, &inbound).await {
            Ok(addressed) => addressed,
            Err(reason) => {
                debug!(from = %inbound.sender.from, "Not for the bot: {reason}");
                // In memory alone: a busy room must not keep the disk, and with it everybody else, busy.
                self.conversations.observe(&inbound);
                return;
            }
        };
        if inbound.place.is_room() && inbound.delayed.is_some() && !inbound.catch_up {
            // A room's history never starts a turn.
            self.conversations.observe(&inbound);
            return;
        }
        if self.is_one_bot_round_too_many(account, &inbound) {
            debug!(from = %inbound.sender.from, "Not answered: max_bot_rounds");
            self.conversations.observe(&inbound);
            return;
        }
        inbound.body = addressed.text;
        let standing = Standing {
            operator: standing.operator && !inbound.place.is_room(),
            ..standing
        };
        let line = command::parse(&inbound.body);
        if inbound.kind == Kind::Text
            && let Some(line) = line
        {
            return self.command(account, inbound, standing, line).await;
        }
        if let (Kind::Correction { .. }, Some(line)) = (&inbound.kind, line) {
            // Of a question, it is the question's new text; of a command with a slip of the pen, it is the command.
            let accepted = self.conversations.accept(inbound.clone(), standing).await;
            if matches!(accepted, Ok(Accepted::Unrelated)) {
                return self.command(account, inbound, standing, line).await;
            }
            return log(&inbound, &accepted);
        }
        inbound.body = command::unescape(inbound.body);
        self.accept(inbound, standing).await;
    }

    async fn accept(&self, mut inbound: Inbound, standing: Standing) {
        let mut accepted = self.conversations.accept(inbound.clone(), standing).await;
        if matches!(accepted, Ok(Accepted::Unrelated))
            && matches!(inbound.kind, Kind::Correction { .. })
        {
            // It corrects what was not for us, or is long past: then it is a message like any other, not to be met with silence.
            inbound.kind = Kind::Text;
            accepted = self.conversations.accept(inbound.clone(), standing).await;
        }
        log(&inbound, &accepted);
    }

    async fn addressed(
        &self,
        account: &Account,
        inbound: &Inbound,
    ) -> Result<Addressed, mention::NotForBot> {
        let nick = inbound
            .place
            .room()
            .and_then(|room| self.handle.nick(&room))
            .unwrap_or_default();
        let names = Names {
            jid: &self.own,
            nick: &nick,
            resource: &account.resource,
        };
        let replied = match &inbound.reply {
            Some(reply) => self
                .conversations
                .is_own(&self.account, &inbound.place, &reply.id)
                .await
                .unwrap_or(false),
            None => false,
        };
        mention::addressed(account, names, inbound, |_| replied)
    }

    /// Counts consecutive answers to other bots in a room, so that two bots do not talk for ever.
    pub(super) fn is_one_bot_round_too_many(&self, account: &Account, inbound: &Inbound) -> bool {
        let Place::Room(jid) = &inbound.place else {
            return false;
        };
        if inbound.catch_up {
            // An archive repeats what came live meanwhile, and does not tell who is a bot.
            return false;
        }
        let mut state = self.handle.state();
        let Some(room) = state.rooms.get_mut(jid) else {
            return false;
        };
        if !inbound.sender.bot {
            room.bot_rounds = 0;
            return false;
        }
        room.bot_rounds = room.bot_rounds.saturating_add(1);
        room.bot_rounds > account.max_bot_rounds
    }

    async fn encrypted(&self, inbound: &Inbound) {
        // In a room nobody knows whether it was for the bot.
        if !inbound.place.is_room() && matches!(self.conversations.seen(inbound).await, Ok(None)) {
            self.say(&inbound.place, CANNOT_DECRYPT, Some(inbound))
                .await;
        }
    }
}

/// What became of a message, where its sender is not told.
fn log(inbound: &Inbound, accepted: &crate::storage::Result<Accepted>) {
    let from = &inbound.sender.from;
    match accepted {
        Ok(Accepted::Queued | Accepted::Refused) => {}
        Ok(Accepted::Unrelated) => debug!(%from, "Dropped: it concerns nothing here"),
        Ok(Accepted::Dropped(reason)) => debug!(%from, "Dropped: {reason}"),
        Err(err) => error!(%from, "Failed to store a message: {err:#}"),
    }
}
