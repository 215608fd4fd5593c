//! Whoever is not admitted yet: `/claim`, and the request that is put before the operators.

use std::time::Duration;

use jid::BareJid;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Intake;
use crate::config::Account;
use crate::gateway::admission::{self, Decision, Grant, Rules};
use crate::gateway::pairing::{self, Claimed};
use crate::gateway::{Inbound, Place, now};

/// Whoever has a server has any number of addresses: operators are not to be flooded with requests.
pub(super) const MOST_STRANGERS: usize = 20;
const STRANGERS_WITHIN: Duration = Duration::from_hours(1);

impl Intake {
    /// `/claim CODE` in a direct chat is the one thing that a stranger may say.
    pub(super) async fn claims(&self, account: &Account, inbound: &Inbound) -> bool {
        let Place::Direct(jid) = &inbound.place else {
            return false;
        };
        let Some(code) = pairing::claim_code(&inbound.body) else {
            return false;
        };
        if !matches!(self.conversations.begin_command(inbound).await, Ok(None)) {
            return true;
        }
        // Operators may have come by a reload since the code was made.
        let claimed = if account.operators.is_empty() {
            self.claim.attempt(code)
        } else {
            Claimed::Closed
        };
        let answer = match claimed {
            Claimed::Yes => match self
                .access
                .grant(&self.account, jid, Grant::Operator, "/claim")
                .await
            {
                Ok(()) => {
                    info!(%jid, account = self.account, "Became the first operator");
                    self.befriend(jid).await;
                    "You are my operator now. /help shows what you can do.".to_owned()
                }
                Err(err) => {
                    error!("Failed to store the first operator: {err:#}");
                    "I could not store that; see my log.".to_owned()
                }
            },
            Claimed::Wrong { left } => {
                warn!(%jid, account = self.account, left, "A wrong claim code");
                format!("That is not the code; {left} attempts are left until I am restarted.")
            }
            // Strangers learn nothing about an account that has its operators.
            Claimed::Closed if self.is_admitted(account, inbound) => {
                "There is nothing to claim: I have operators, or too many wrong codes were tried."
                    .to_owned()
            }
            Claimed::Closed => {
                self.conversations.end_command(inbound).await.ok(); // Nobody is told.
                return true;
            }
        };
        self.say(&inbound.place, &answer, Some(inbound)).await;
        true
    }

    fn is_admitted(&self, account: &Account, inbound: &Inbound) -> bool {
        let approvals = self.access.approvals(&self.account);
        let rules = Rules {
            account,
            approvals: &approvals,
            now: now(),
        };
        matches!(
            admission::decide(rules, &inbound.place, &inbound.sender),
            Decision::Admit(_)
        )
    }

    pub(super) async fn stranger(&mut self, account: &Account, inbound: &Inbound) {
        let Some(jid) = &inbound.sender.real else {
            return;
        };
        // Nothing is written for those who were put before the operators already.
        if self.ask_operators(account, jid, &inbound.body).await
            && matches!(self.conversations.seen(inbound).await, Ok(None))
        {
            self.say(&inbound.place, pairing::PLEASE_WAIT, Some(inbound))
                .await;
        }
    }

    /// Puts a stranger before the operators, once a day; `false` where that was done already, or too many came.
    pub(super) async fn ask_operators(
        &mut self,
        account: &Account,
        jid: &BareJid,
        said: &str,
    ) -> bool {
        self.strangers
            .retain(|asked| asked.elapsed() < STRANGERS_WITHIN);
        if self.strangers.len() >= MOST_STRANGERS {
            warn!(%jid, "An unknown sender is not put before the operators: too many came within an hour");
            return false;
        }
        match self.access.ask(&self.account, jid, now()).await {
            Ok(true) => {
                info!(%jid, "An unknown sender was put before the operators");
                self.strangers.push(Instant::now());
                self.tell_operators(account, &pairing::request(jid, said))
                    .await;
                true
            }
            Ok(false) => false,
            Err(err) => {
                error!("Failed to store a pairing request: {err:#}");
                false
            }
        }
    }

    pub(super) async fn tell_operators(&self, account: &Account, text: &str) {
        for operator in operators(account, &self.access.approvals(&self.account)) {
            self.say(&Place::Direct(operator), text, None).await;
        }
    }
}

/// Who is asked and told: the operators that are written out, and those who claimed.
fn operators(account: &Account, approvals: &admission::Approvals) -> Vec<BareJid> {
    let written = account
        .operators
        .iter()
        .filter(|pattern| !pattern.contains('*'));
    let claimed = approvals
        .iter()
        .filter(|(_, grant)| *grant == Grant::Operator)
        .map(|(jid, _)| jid.to_owned());
    let mut operators: Vec<BareJid> = written
        .cloned()
        .chain(claimed)
        .filter_map(|jid| BareJid::new(&jid).ok())
        .collect();
    operators.sort();
    operators.dedup();
    operators
}
