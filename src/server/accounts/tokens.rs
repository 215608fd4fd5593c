//! XEP-0484: FAST. A device that has logged in gets a token, with which it logs in the next time in one round trip.
//! Each device has two slots as section 4.1 proposes: the token it uses, and one that it was given and has not used.
//!
//! At rest: with HT-*-NONE the client's proof is always the same, so that its hash and our answer suffice, and neither
//! logs in. With channel binding the proof is an HMAC of each connection's binding under the token itself, which must
//! therefore be kept; tokens are random, expire, and are worth nothing elsewhere.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jid::NodeRef;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::{Accounts, Error, now, random};
use crate::storage::{self, Batch, KeyValue};
use crate::xmpp::scram::Hash;

/// Owner: the account; key: the client's id.
const TOKENS: KeyValue = KeyValue("fast_tokens");

/// A device that stays away longer asks for the password again.
const LIFETIME: i64 = 21 * DAY;
/// A token that is used is exchanged when it is so old.
const ROTATE_AFTER: i64 = DAY;
const DAY: i64 = 24 * 60 * 60;

/// Devices of an account that may have one; the one that expires first makes room.
const MOST_CLIENTS: usize = 32;
/// XEP-0388 proposes a UUID.
const LONGEST_CLIENT: usize = 128;

/// What the client's proof and ours are over, besides the channel's binding.
const INITIATOR: &[u8] = b"Initiator";
const RESPONDER: &[u8] = b"Responder";

/// A token for the client's eyes only.
#[derive(Clone, Debug)]
pub struct Token {
    pub token: SecretString,
    pub expires: OffsetDateTime,
}

/// A login by token.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The id of XEP-0388's user agent.
    pub client: &'a str,
    pub mechanism: &'a str,
    /// The data of the channel binding that the mechanism names; empty for NONE.
    pub binding: &'a [u8],
    pub proof: &'a [u8],
    /// XEP-0484, 3.4: must rise with each use of the token.
    pub count: Option<u64>,
    /// The client will not use the token again.
    pub invalidate: bool,
}

/// A login by token that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What proves to the client that we know the token too.
    pub answer: Vec<u8>,
    /// The token is due for another.
    pub rotate: bool,
}

/// Why a login by token is refused.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody has such a token.
    Wrong,
    /// The token was right once.
    Expired,
    Storage(storage::Error),
}

impl From<storage::Error> for Refusal {
    fn from(error: storage::Error) -> Self {
        Self::Storage(error)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Slots {
    current: Option<Slot>,
    new: Option<Slot>,
}

impl Slots {
    fn read(bytes: &[u8]) -> Self {
        // What cannot be read is no token; the client logs in with its password.
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers have a form in JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn expires(&self) -> i64 {
        let expiry = |slot: &Option<Slot>| slot.as_ref().map_or(0, |slot| slot.expires);
        expiry(&self.current).max(expiry(&self.new))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    /// XEP-0484, 3.4: a token is for the mechanism that it was asked for.
    mechanism: String,
    secret: Secret,
    expires: i64,
    #[serde(default)]
    count: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Secret {
    /// The hash of the only proof, and the only answer to it.
    Hashed {
        proof: String,
        answer: String,
    },
    Key(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("****")
    }
}

impl Secret {
    fn new(mechanism: &str, token: &str) -> Self {
        if !mechanism.ends_with("-NONE") {
            return Self::Key(token.to_owned());
        }
        let proof = Hash::Sha256.sign(token.as_bytes(), INITIATOR);
        Self::Hashed {
            proof: STANDARD.encode(Hash::Sha256.digest(&proof)),
            answer: STANDARD.encode(Hash::Sha256.sign(token.as_bytes(), RESPONDER)),
        }
    }

    /// Our answer, where the proof is right.
    fn verify(&self, binding: &[u8], proof: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Hashed {
                proof: expected,
                answer,
            } => {
                let expected = STANDARD.decode(expected).ok()?;
                let right = Hash::Sha256.digest(proof).ct_eq(&expected);
                bool::from(right).then(|| STANDARD.decode(answer).ok())?
            }
            Self::Key(token) => {
                let sign = |role: &[u8]| {
                    let message = [role, binding].concat();
                    Hash::Sha256.sign(token.as_bytes(), &message)
                };
                bool::from(sign(INITIATOR).ct_eq(proof)).then(|| sign(RESPONDER))
            }
        }
    }
}

/// What to do with the slots after a login.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Wrong,
    Expired,
    Right { answer: Vec<u8>, rotate: bool },
}

/// Checks an attempt as XEP-0484, 5.1 proposes, and moves the slots.
fn check(slots: &mut Slots, attempt: &Attempt<'_>, now: i64) -> Outcome {
    let answer = |slot: &Option<Slot>| {
        let slot = slot.as_ref()?;
        let answer = slot.secret.verify(attempt.binding, attempt.proof)?;
        (slot.mechanism == attempt.mechanism).then_some(answer)
    };
    let is_new = answer(&slots.new);
    let is_current = answer(&slots.current);
    let (slot, answer) = match (is_new, is_current) {
        (Some(answer), _) => {
            // It has arrived: the one before it ends.
            slots.current = slots.new.take();
            (slots.current.as_mut(), answer)
        }
        (None, Some(answer)) => (slots.current.as_mut(), answer),
        (None, None) => return Outcome::Wrong,
    };
    let Some(slot) = slot else {
        return Outcome::Wrong;
    };
    if slot.expires <= now {
        return Outcome::Expired;
    }
    if let Some(count) = attempt.count {
        if count <= slot.count {
            return Outcome::Wrong;
        }
        slot.count = count;
    }
    let rotate = slot.expires - LIFETIME + ROTATE_AFTER <= now;
    Outcome::Right { answer, rotate }
}

impl Accounts {
    /// A new token for a device that has logged in; it is worth something until the device has used a newer one.
    pub async fn issue_token(
        &self,
        name: &NodeRef,
        client: &str,
        mechanism: &str,
    ) -> Result<Token, Error> {
        if client.is_empty() || client.len() > LONGEST_CLIENT {
            return Err(Error::System("The client has no usable id".to_owned()));
        }
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(random)?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let expires = now().saturating_add(LIFETIME);
        let owner = name.as_str();
        let _writing = self.0.writing.lock().await;
        if !self.exists(name) {
            return Err(Error::Unknown(self.jid(name)));
        }
        let mut all = self.0.storage.list(TOKENS, owner, "").await?;
        let own = all.iter().position(|(id, _)| id == client);
        let mut slots = own
            .map(|index| Slots::read(&all.swap_remove(index).1))
            .unwrap_or_default();
        slots.new = Some(Slot {
            mechanism: mechanism.to_owned(),
            secret: Secret::new(mechanism, &token),
            expires,
            count: 0,
        });
        let mut batch = Batch::new().put(TOKENS, owner, client, slots.to_bytes());
        if all.len() >= MOST_CLIENTS {
            let first = all
                .iter()
                .min_by_key(|(_, slots)| Slots::read(slots).expires());
            if let Some((id, _)) = first {
                batch = batch.delete(TOKENS, owner, id);
            }
        }
        // Should the power take it, the client logs in with its password.
        self.0.storage.note(batch).await?;
        let expires = OffsetDateTime::from_unix_timestamp(expires)
            .map_err(|err| Error::System(format!("The clock is wrong: {err}")))?;
        Ok(Token {
            token: token.into(),
            expires,
        })
    }

    /// A login by token. `name` need not be that of an account.
    pub async fn verify_token(
        &self,
        name: &NodeRef,
        attempt: &Attempt<'_>,
    ) -> Result<Verified, Refusal> {
        let owner = name.as_str();
        let _writing = self.0.writing.lock().await;
        let kept = self.0.storage.get(TOKENS, owner, attempt.client).await?;
        let before = kept.unwrap_or_default();
        let mut slots = Slots::read(&before);
        let (answer, rotate) = match check(&mut slots, attempt, now()) {
            Outcome::Wrong => return Err(Refusal::Wrong),
            Outcome::Expired => return Err(Refusal::Expired),
            Outcome::Right { answer, rotate } => (answer, rotate),
        };
        if attempt.invalidate {
            let delete = Batch::new().delete(TOKENS, owner, attempt.client);
            self.0.storage.commit(delete).await?;
            return Ok(Verified {
                answer,
                rotate: false,
            });
        }
        let after = slots.to_bytes();
        if after != before {
            let put = Batch::new().put(TOKENS, owner, attempt.client, after);
            self.0.storage.note(put).await?;
        }
        Ok(Verified { answer, rotate })
    }
}

/// All tokens of an account end.
pub(super) fn forget(name: &NodeRef) -> Batch {
    Batch::new().delete_owner(TOKENS, name)
}

#[cfg(test)]
mod tests;
