//! The mechanism of an account's last login: a weaker one is refused the next time.

use jid::BareJid;

use crate::storage::{Batch, KeyValue, Storage};
use crate::xmpp::Mechanism;

/// Owner: "", key: our bare JID. The mechanism of the last login; a weaker one is refused.
const MECHANISMS: KeyValue = KeyValue("mechanisms");

pub(super) fn remember(own: &BareJid, mechanism: Mechanism) -> Batch {
    Batch::new().put(MECHANISMS, "", own.as_str(), mechanism.name().into())
}

/// The mechanism of the account's last login.
pub async fn last_mechanism(storage: &Storage, own: &BareJid) -> Option<Mechanism> {
    let stored = storage.get(MECHANISMS, "", own.as_str()).await.ok()??;
    Mechanism::from_name(std::str::from_utf8(&stored).ok()?)
}

/// Accepts whatever mechanism the account's server offers next.
pub async fn forget_mechanism(storage: &Storage, own: &BareJid) -> crate::storage::Result<()> {
    storage
        .commit(Batch::new().delete(MECHANISMS, "", own.as_str()))
        .await
        .map(drop)
}
