//! What one person may spend a day, where an operator has said so by `/budget`: instead of `budget.usd_per_jid_per_day`.

use jid::BareJid;

use crate::storage::{Batch, KeyValue, Result, Storage};

/// By bare JID, over all accounts, as usage is counted. Values: USD as text; `0`: no limit.
const ALLOWANCES: KeyValue = KeyValue("allowances");
const OWNER: &str = "usd_per_day";

/// USD; `None`: the configuration decides. `sender` is a [`crate::gateway::Sender::key`].
pub async fn get(storage: &Storage, sender: &str) -> Result<Option<f64>> {
    Ok(storage
        .get(ALLOWANCES, OWNER, sender)
        .await?
        .and_then(|value| read(&value)))
}

/// All of them.
pub async fn all(storage: &Storage) -> Result<Vec<(String, f64)>> {
    let stored = storage.list(ALLOWANCES, OWNER, "").await?;
    Ok(stored
        .into_iter()
        .filter_map(|(jid, value)| Some((jid, read(&value)?)))
        .collect())
}

/// `None` takes it back.
pub async fn set(storage: &Storage, jid: &BareJid, usd: Option<f64>) -> Result<()> {
    let batch = match usd {
        Some(usd) => Batch::new().put(
            ALLOWANCES,
            OWNER,
            jid.as_str(),
            usd.to_string().into_bytes(),
        ),
        None => Batch::new().delete(ALLOWANCES, OWNER, jid.as_str()),
    };
    storage.commit(batch).await?;
    Ok(())
}

fn read(value: &[u8]) -> Option<f64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::testing;

    #[tokio::test]
    async fn an_allowance_is_stored_and_taken_back() {
        let (_directory, storage) = testing::storage();
        let jid = BareJid::new("alice@example.com").unwrap();
        assert_eq!(get(&storage, jid.as_str()).await.unwrap(), None);
        set(&storage, &jid, Some(1.5)).await.unwrap();
        assert_eq!(get(&storage, jid.as_str()).await.unwrap(), Some(1.5));
        assert_eq!(
            all(&storage).await.unwrap(),
            [("alice@example.com".to_owned(), 1.5)]
        );
        set(&storage, &jid, None).await.unwrap();
        assert_eq!(get(&storage, jid.as_str()).await.unwrap(), None);
    }
}
