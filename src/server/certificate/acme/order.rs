//! One order: proofs for all its names, then the certificate.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeType, Error as AcmeError,
    Identifier, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};

use super::explain;
use crate::server::certificate::chain::Error;
use crate::server::certificate::challenge::{Answered, Challenge, Challenges};

/// Authorities look within seconds, from several places.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_mins(3));
/// For the looks that are still under way when one of them has failed.
const SETTLE: Duration = Duration::from_secs(1);
const SETTLES: usize = 30;

/// Why an order came to nothing.
#[derive(Debug)]
pub(super) enum Refused {
    /// Names that were not proven, each with why.
    Names(Vec<(String, Problem)>),
    Failed(AcmeError),
    Local(Error),
    /// The authority does not offer this proof.
    NotOffered(String),
}

impl From<AcmeError> for Refused {
    fn from(err: AcmeError) -> Self {
        Self::Failed(err)
    }
}

impl From<Error> for Refused {
    fn from(err: Error) -> Self {
        Self::Local(err)
    }
}

impl Refused {
    pub(super) fn message(&self, challenge: Challenge, directory: &str) -> String {
        match self {
            Self::Names(failures) => failures
                .iter()
                .map(|(name, problem)| explain::refused(name, challenge, problem))
                .collect::<Vec<_>>()
                .join("; and "),
            Self::Failed(err) => explain::failed(err, directory),
            Self::Local(err) => err.to_string(),
            Self::NotOffered(name) => {
                format!("the authority does not offer {challenge:?} for {name}")
            }
        }
    }

    /// The names against which the authority has said nothing.
    pub(super) fn without(&self, names: &[String]) -> Vec<String> {
        let spoken_of = |name: &str| match self {
            Self::Names(failures) => failures.iter().any(|(failed, _)| failed == name),
            Self::Failed(AcmeError::Api(problem)) => problem.subproblems.iter().any(
                |part| matches!(&part.identifier, Some(Identifier::Dns(failed)) if failed == name),
            ),
            _ => false,
        };
        names
            .iter()
            .filter(|name| !spoken_of(name))
            .cloned()
            .collect()
    }
}

/// The key and the chain, in one PEM text.
pub(super) async fn obtain(
    account: &Account,
    names: &[String],
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<String, Refused> {
    let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let answered = prove(&mut order, challenge, challenges).await?;
    let ready = order.poll_ready(&PATIENCE).await;
    if !matches!(ready, Ok(OrderStatus::Ready)) {
        let failures = failures(&mut order).await;
        return Err(match ready {
            _ if !failures.is_empty() => Refused::Names(failures),
            Err(err) => Refused::Failed(err),
            Ok(_) => Refused::Failed(AcmeError::Str("a reason for the refusal")),
        });
    }
    drop(answered);
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(format!("{key}{chain}"))
}

/// Answers what the authority will ask, and tells it to ask.
async fn prove(
    order: &mut Order,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<Vec<Answered>, Refused> {
    let mut answered = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        // Proven by an earlier order.
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let kind = match challenge {
            Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
            Challenge::Http => ChallengeType::Http01,
        };
        let Some(mut asked) = authorization.challenge(kind) else {
            return Err(Refused::NotOffered(name));
        };
        let authorization = asked.key_authorization();
        answered.push(challenges.answer(challenge, &name, &asked.token, authorization.as_str())?);
        match asked.set_ready().await {
            Ok(()) => {}
            // It has looked already, and answers with what it saw.
            Err(AcmeError::Api(problem)) if explain::is_of_proof(&problem) => {
                return Err(Refused::Names(vec![(name, problem)]));
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(answered)
}

/// What was not proven, once the authority has looked at every name: each order that fails counts against a limit.
async fn failures(order: &mut Order) -> Vec<(String, Problem)> {
    let mut failures = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        settle(&mut authorization).await;
        let name = authorization.identifier().to_string();
        let problem = authorization
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.clone());
        failures.extend(problem.map(|problem| (name, problem)));
    }
    failures
}

async fn settle(authorization: &mut AuthorizationHandle<'_>) {
    for _ in 0..SETTLES {
        // What is not known is not said: the order's own error is.
        if authorization.refresh().await.is_err()
            || authorization.status != AuthorizationStatus::Pending
        {
            return;
        }
        tokio::time::sleep(SETTLE).await;
    }
}
