//! Commands, written in a message or asked for by XEP-0050. A quick one is waited for, a slow one goes on beside.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jid::FullJid;
use tracing::{debug, error, warn};
use xmpp_parsers::stanza_error::DefinedCondition;

use super::Intake;
use crate::config::Account;
use crate::gateway::account::answer::{self, Asked};
use crate::gateway::admission::{self, Decision, Rules};
use crate::gateway::command::{self, adhoc};
use crate::gateway::inbound::RoomView;
use crate::gateway::{Inbound, Place, Sender, Standing, Wire, now};
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// How long the next message waits for a command.
const PATIENCE: Duration = Duration::from_millis(500);
/// Slow commands that may run beside; past it the next message waits for one to end.
const BESIDE: usize = 32;

impl Intake {
    pub(super) async fn command(
        &mut self,
        account: &Account,
        inbound: Inbound,
        standing: Standing,
        line: command::Line,
    ) {
        match self.conversations.begin_command(&inbound).await {
            Ok(None) => {
                let (commands, account) = (self.commands.clone(), account.clone());
                let conversations = self.conversations.clone();
                let run = async move {
                    commands
                        .run(&account, inbound.clone(), standing, line)
                        .await;
                    if let Err(err) = conversations.end_command(&inbound).await {
                        warn!("A command is answered and still noted as not: {err:#}");
                    }
                };
                self.wait_or_go_on(run.boxed()).await;
            }
            Ok(Some(reason)) => debug!("Command dropped: {reason}"),
            Err(err) => error!("Failed to store a command: {err:#}"),
        }
    }

    /// A quick command is over before the next message is taken in, so that "/new" and what follows keep their order; a slow
    /// one goes on beside.
    async fn wait_or_go_on(&mut self, mut work: BoxFuture<'static, ()>) {
        while self.background.try_join_next().is_some() {}
        if tokio::time::timeout(PATIENCE, &mut work).await.is_err() {
            if self.background.len() >= BESIDE {
                self.background.join_next().await;
            }
            self.background.spawn(work);
        }
    }

    /// Who asks by XEP-0050, and where the answers of the conversation go; `None` for whoever is not admitted.
    fn requester(&self, account: &Account, asked: &Asked) -> Option<(Place, Sender, Standing)> {
        let from = asked.from.clone()?;
        let occupant = {
            let state = self.handle.state();
            let room = state.rooms.get(&from.to_bare());
            room.map(|room| {
                from.resource()
                    .and_then(|nick| room.occupant(nick.as_str()))
            })
        };
        let (place, sender) = match occupant {
            None => {
                let real = Some(from.to_bare());
                let sender = Sender {
                    real,
                    ..Sender::unknown(from.clone())
                };
                (Place::Direct(from.to_bare()), sender)
            }
            Some(known) => {
                let known = known?;
                let sender = Sender {
                    real: known.real,
                    nick: from.resource().map(|nick| nick.as_str().to_owned()),
                    occupant_id: known.occupant_id,
                    moderator: known.moderator,
                    ..Sender::unknown(from.clone())
                };
                (Place::RoomPrivate(FullJid::try_from(from).ok()?), sender)
            }
        };
        let approvals = self.access.approvals(&self.account);
        let rules = Rules {
            account,
            approvals: &approvals,
            now: now(),
        };
        match admission::decide(rules, &place, &sender) {
            Decision::Admit(standing) => Some((place, sender, standing)),
            _ => None,
        }
    }

    /// Whoever is not admitted sees an empty list.
    pub(super) async fn list_commands(&self, account: &Account, asked: &Asked) {
        let list = match self.requester(account, asked) {
            Some((_, _, standing)) => adhoc::list(&self.handle.jid(), standing),
            None => element("query", ns::DISCO_ITEMS, &[("node", ns::COMMANDS)]),
        };
        self.handle.answer(asked.reply(Ok(Some(list)))).await.ok(); // The account has ended.
    }

    pub(super) async fn execute_command(&mut self, account: &Account, asked: Asked) {
        let Some((place, sender, standing)) = self.requester(account, &asked) else {
            let refusal = answer::error(DefinedCondition::Forbidden);
            self.handle.answer(asked.reply(Err(refusal))).await.ok(); // The account has ended.
            return;
        };
        let (commands, handle) = (self.commands.clone(), self.handle.clone());
        let account = self.account.clone();
        let work = async move {
            let outcome = commands
                .request(&account, place, sender, standing, &asked.payload)
                .await;
            let reply = asked.reply(outcome.map(Some).map_err(adhoc::Refusal::into_stanza_error));
            handle.answer(reply).await.ok(); // The account has ended.
        };
        self.wait_or_go_on(work.boxed()).await;
    }
}
