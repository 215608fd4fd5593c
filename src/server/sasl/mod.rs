//! Logins: SASL mechanisms (RFC 4422) as state machines that know nothing of streams. [`Exchange::begin`] and
//! [`Exchange::step`] take what the client sends, decoded, and say what to answer; SASL (RFC 6120, 6) and SASL2
//! (XEP-0388) are two ways to carry it.
//!
//! A name that nobody has looks like a wrong password: the same salt each time, the same iterations, the same work.

mod condition;
mod plain;
mod scram;
mod token;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jid::{BareJid, NodePart};
use secrecy::SecretString;
use tracing::error;

pub use self::condition::{Condition, Failure};
use self::scram::{Challenged, First};
use super::accounts::{Accounts, Attempt, Claim, Refusal};
use crate::xmpp::scram::Hash;

/// A channel binding that this connection has: its name of RFC 5929 or RFC 9266, and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBinding {
    pub name: &'static str,
    pub data: Vec<u8>,
}

/// RFC 9266.
pub const TLS_EXPORTER: &str = "tls-exporter";
/// RFC 5929, 4.
pub const TLS_SERVER_END_POINT: &str = "tls-server-end-point";

/// What an exchange must know of its stream.
#[derive(Clone, Debug)]
pub struct Context {
    pub accounts: Accounts,
    /// The connection is encrypted.
    pub secure: bool,
    pub bindings: Vec<ChannelBinding>,
    /// The mechanisms that were offered by the profile in use, for XEP-0474; empty: nothing is said about them.
    pub offered: Vec<&'static str>,
    /// The client sent `<fast/>` (XEP-0484).
    pub fast: Option<Fast>,
}

/// What SASL2 says besides the mechanism's own messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fast {
    /// The id of the user agent.
    pub client: String,
    pub count: Option<u64>,
    pub invalidate: bool,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Challenge(Vec<u8>),
    Success(Success),
    Failure(Failure),
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    pub account: NodePart,
    /// For the `<success/>`, where the mechanism has something to say.
    pub data: Option<Vec<u8>>,
    /// The FAST token is due for another (XEP-0484, 3.5): [`Accounts::issue_token`].
    pub rotate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scram {
        hash: Hash,
        binds: bool,
    },
    Plain,
    /// With the channel binding, if it has one.
    Token(Option<&'static str>),
}

struct Mechanism {
    name: &'static str,
    kind: Kind,
}

const fn scram(name: &'static str, hash: Hash, binds: bool) -> Mechanism {
    let kind = Kind::Scram { hash, binds };
    Mechanism { name, kind }
}

const fn token(name: &'static str, binding: Option<&'static str>) -> Mechanism {
    let kind = Kind::Token(binding);
    Mechanism { name, kind }
}

/// In the order of preference.
const MECHANISMS: [Mechanism; 8] = [
    scram("SCRAM-SHA-256-PLUS", Hash::Sha256, true),
    scram("SCRAM-SHA-256", Hash::Sha256, false),
    scram("SCRAM-SHA-1-PLUS", Hash::Sha1, true),
    scram("SCRAM-SHA-1", Hash::Sha1, false),
    Mechanism {
        name: "PLAIN",
        kind: Kind::Plain,
    },
    token("HT-SHA-256-EXPR", Some(TLS_EXPORTER)),
    token("HT-SHA-256-ENDP", Some(TLS_SERVER_END_POINT)),
    token("HT-SHA-256-NONE", None),
];

impl Mechanism {
    /// Why it cannot be used on such a connection.
    fn unusable(&self, secure: bool, bindings: &[ChannelBinding]) -> Option<Condition> {
        let has = |name: &str| bindings.iter().any(|binding| binding.name == name);
        match self.kind {
            Kind::Plain | Kind::Token(_) if !secure => Some(Condition::EncryptionRequired),
            Kind::Scram { binds: true, .. } if bindings.is_empty() => {
                Some(Condition::InvalidMechanism)
            }
            Kind::Token(Some(name)) if !has(name) => Some(Condition::InvalidMechanism),
            Kind::Plain | Kind::Token(_) | Kind::Scram { .. } => None,
        }
    }
}

fn usable(secure: bool, bindings: &[ChannelBinding]) -> impl Iterator<Item = &'static Mechanism> {
    MECHANISMS
        .iter()
        .filter(move |mechanism| mechanism.unusable(secure, bindings).is_none())
}

/// What to offer, in the order of preference. Whether to offer anything before TLS is the stream's decision; PLAIN is
/// not among it.
pub fn mechanisms(secure: bool, bindings: &[ChannelBinding]) -> Vec<&'static str> {
    usable(secure, bindings)
        .filter(|mechanism| !matches!(mechanism.kind, Kind::Token(_)))
        .map(|mechanism| mechanism.name)
        .collect()
}

/// What to offer in `<fast/>`, in the order of preference.
pub fn fast_mechanisms(secure: bool, bindings: &[ChannelBinding]) -> Vec<&'static str> {
    usable(secure, bindings)
        .filter(|mechanism| matches!(mechanism.kind, Kind::Token(_)))
        .map(|mechanism| mechanism.name)
        .collect()
}

/// What an `<auth/>`, `<initial-response/>` or `<response/>` holds; a lone `=` is an empty one (RFC 6120, 6.4.2).
pub fn decode(text: &str) -> Result<Vec<u8>, Failure> {
    match text.trim() {
        "=" => Ok(Vec::new()),
        text => STANDARD
            .decode(text)
            .map_err(|_encoding| Condition::IncorrectEncoding.into()),
    }
}

/// The reverse of [`decode`].
pub fn encode(data: &[u8]) -> String {
    if data.is_empty() {
        "=".to_owned()
    } else {
        STANDARD.encode(data)
    }
}

/// A login under way.
#[derive(Debug)]
pub struct Exchange {
    context: Context,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing has come yet.
    Begun(Kind, &'static str),
    Challenged(Challenged, Claim),
    Over,
}

impl Exchange {
    /// Begins with the mechanism that the client has named. `None`: it sent no initial response.
    pub async fn begin(mechanism: &str, context: Context, initial: Option<&[u8]>) -> (Self, Step) {
        let (state, refused) = match choose(mechanism, &context) {
            Ok(chosen) => (State::Begun(chosen.kind, chosen.name), None),
            Err(failure) => (State::Over, Some(failure)),
        };
        let mut exchange = Self { context, state };
        let step = match (refused, initial) {
            (Some(failure), _) => Step::Failure(failure),
            (None, Some(initial)) => exchange.step(initial).await,
            (None, None) => Step::Challenge(Vec::new()),
        };
        (exchange, step)
    }

    /// Takes the client's next message.
    pub async fn step(&mut self, message: &[u8]) -> Step {
        let outcome = match std::mem::replace(&mut self.state, State::Over) {
            State::Begun(Kind::Scram { hash, binds }, _) => self.challenge(hash, binds, message),
            State::Begun(Kind::Plain, _) => self.plain(message).await,
            State::Begun(Kind::Token(binding), name) => self.token(name, binding, message).await,
            State::Challenged(challenged, claim) => challenged
                .verify(message, &claim.credentials)
                .and_then(|data| self.admit(claim.account, Some(data))),
            State::Over => Err(Condition::MalformedRequest.into()),
        };
        match outcome {
            Ok(Step::Success(success)) => {
                self.context.accounts.logged_in(&success.account);
                Step::Success(success)
            }
            Ok(step) => step,
            Err(failure) => Step::Failure(failure),
        }
    }

    fn challenge(&mut self, hash: Hash, binds: bool, message: &[u8]) -> Result<Step, Failure> {
        let first = First::parse(message, binds, &self.context.bindings)?;
        self.authorize(&first.name, first.authzid.as_deref())?;
        let claim = self.context.accounts.claim(&first.name);
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(|err| {
            error!("The system gives no random numbers: {err}");
            Failure::from(Condition::TemporaryAuthFailure)
        })?;
        let nonce = STANDARD.encode(random);
        let offered = scram::Offered {
            mechanisms: &self.context.offered,
            bindings: &self.context.bindings,
        };
        let (challenged, text) = first.challenge(hash, &claim.credentials, &nonce, &offered);
        self.state = State::Challenged(challenged, claim);
        Ok(Step::Challenge(text.into_bytes()))
    }

    async fn plain(&self, message: &[u8]) -> Result<Step, Failure> {
        let plain::Message {
            authzid,
            name,
            password,
        } = plain::parse(message)?;
        self.authorize(name, authzid)?;
        let claim = self.context.accounts.claim(name);
        let password = SecretString::from(password);
        let right = self.context.accounts.check(&claim, password).await;
        match right {
            Ok(true) => self.admit(claim.account, None),
            Ok(false) => Err(Condition::NotAuthorized.into()),
            Err(err) => {
                error!("A login could not be checked: {err}");
                Err(Condition::TemporaryAuthFailure.into())
            }
        }
    }

    async fn token(
        &self,
        mechanism: &str,
        binding: Option<&str>,
        message: &[u8],
    ) -> Result<Step, Failure> {
        let fast = self.context.fast.as_ref();
        let fast = fast.ok_or(Condition::InvalidMechanism)?;
        let (name, proof) = token::parse(message)?;
        let name = NodePart::new(name).map_err(|_name| Condition::NotAuthorized)?;
        let mut bindings = self.context.bindings.iter();
        let data = bindings.find(|has| Some(has.name) == binding);
        let attempt = Attempt {
            client: &fast.client,
            mechanism,
            binding: data.map_or(&[], |binding| &binding.data),
            proof,
            count: fast.count,
            invalidate: fast.invalidate,
        };
        match self.context.accounts.verify_token(&name, &attempt).await {
            Ok(verified) => {
                let step = self.admit(Some(name.into_owned()), Some(verified.answer))?;
                Ok(match step {
                    Step::Success(success) => Step::Success(Success {
                        rotate: verified.rotate,
                        ..success
                    }),
                    step => step,
                })
            }
            Err(Refusal::Wrong) => Err(Condition::NotAuthorized.into()),
            Err(Refusal::Expired) => Err(Condition::CredentialsExpired.into()),
            Err(Refusal::Storage(err)) => {
                error!("A login could not be checked: {err}");
                Err(Condition::TemporaryAuthFailure.into())
            }
        }
    }

    /// RFC 6120, 6.3.8: a client acts as its own bare JID, which it may name, and as nobody else.
    fn authorize(&self, name: &str, authzid: Option<&str>) -> Result<(), Failure> {
        let Some(authzid) = authzid else {
            return Ok(());
        };
        let own = NodePart::new(name)
            .ok()
            .map(|name| self.context.accounts.jid(&name));
        if own.is_some() && BareJid::new(authzid).ok() == own {
            return Ok(());
        }
        Err(Condition::InvalidAuthzid.into())
    }

    /// The last step, when the client has proved itself.
    fn admit(&self, account: Option<NodePart>, data: Option<Vec<u8>>) -> Result<Step, Failure> {
        let exists = |name: &NodePart| self.context.accounts.exists(name);
        let Some(account) = account.filter(exists) else {
            return Err(Condition::NotAuthorized.into());
        };
        if self.context.accounts.is_disabled(&account) {
            return Err(Condition::AccountDisabled.into());
        }
        Ok(Step::Success(Success {
            account,
            data,
            rotate: false,
        }))
    }
}

fn choose(name: &str, context: &Context) -> Result<&'static Mechanism, Failure> {
    let mechanism = MECHANISMS
        .iter()
        .find(|mechanism| mechanism.name == name)
        .ok_or(Condition::InvalidMechanism)?;
    if let Some(condition) = mechanism.unusable(context.secure, &context.bindings) {
        return Err(condition.into());
    }
    if matches!(mechanism.kind, Kind::Token(_)) && context.fast.is_none() {
        return Err(Condition::InvalidMechanism.into());
    }
    Ok(mechanism)
}

#[cfg(test)]
mod tests;
