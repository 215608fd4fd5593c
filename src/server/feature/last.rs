//! XEP-0012: Last Activity. How long the server has been up, and how long ago an account left, for those who may see its
//! presence.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use minidom::Element;
use tracing::warn;

use super::super::account::Account;
use super::super::router::{Happening, IqType, OnSession, Reply, Request, Router, Target};
use super::super::session::Session;
use super::super::{Server, StanzaError};
use crate::storage::{Batch, KeyValue};
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// By account: the second of 1970 at which its last session became unavailable.
pub(super) const LAST: KeyValue = KeyValue("last_activity");
const KEY: &str = "left";

struct Started(Instant);

pub(super) fn register(router: &mut Router, server: &Server) -> anyhow::Result<()> {
    server.extensions().insert(Started(Instant::now()));
    let targets = [Target::Domain, Target::Own, Target::Other];
    router.disco(&targets, ns::LAST);
    router.session(Arc::new(Leaving));
    router.iq(&targets, IqType::Get, "query", ns::LAST, answer)
}

fn query(seconds: u64) -> Element {
    element("query", ns::LAST, &[("seconds", &seconds.to_string())])
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

async fn answer(request: Request) -> Reply {
    if request.target == Target::Domain {
        let started = request.server.extensions().get::<Started>();
        let up = started.map_or(0, |started| started.0.elapsed().as_secs());
        return Ok(Some(query(up)));
    }
    let account = request.account()?;
    if request.target == Target::Other {
        let roster = account.roster(&request.server).await?;
        if !roster.state(&request.from.to_bare()).from {
            return Err(StanzaError::forbidden());
        }
    }
    if !account.available().is_empty() {
        return Ok(Some(query(0)));
    }
    let left = left(&request.server, account).await?;
    let left = left.ok_or_else(StanzaError::item_not_found)?;
    Ok(Some(query(now().as_secs().saturating_sub(left))))
}

async fn left(server: &Server, account: &Account) -> Result<Option<u64>, StanzaError> {
    let stored = server.storage().get(LAST, account.owner(), KEY).await?;
    Ok(stored.and_then(|text| String::from_utf8(text).ok()?.parse().ok()))
}

struct Leaving;

impl OnSession for Leaving {
    fn on_session<'a>(
        &'a self,
        server: &'a Server,
        session: &'a Arc<Session>,
        happening: &'a Happening,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let account = session.account();
            if !matches!(happening, Happening::Unavailable) || !account.available().is_empty() {
                return;
            }
            let at = now().as_secs().to_string().into_bytes();
            let batch = Batch::new().put(LAST, account.owner(), KEY, at);
            // Worth no sync of the disk.
            if let Err(error) = server.storage().note(batch).await {
                warn!(account = %account.jid(), "The time of leaving is not kept: {error}");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use jid::BareJid;

    use super::super::super::testing::{client, online, server};
    use super::*;

    const QUERY: &str = "<query xmlns='jabber:iq:last'/>";

    fn seconds(answer: &Element) -> Option<u64> {
        let query = answer.get_child("query", ns::LAST)?;
        query.attr("seconds")?.parse().ok()
    }

    #[tokio::test]
    async fn contacts_learn_when_somebody_left_and_strangers_do_not() {
        let server = server(&["juliet", "romeo", "paris"]).await;
        let jid = |name: &str| BareJid::new(&format!("{name}@example.org")).unwrap();
        let (one, other) = (jid("juliet"), jid("romeo"));
        server
            .befriend(&one, "Juliet", &other, "Romeo")
            .await
            .unwrap();
        let mut romeo = client(&server, "romeo/orchard").await;
        let mut paris = client(&server, "paris/street").await;
        let never = romeo.ask("get", "juliet@example.org", QUERY).await;
        assert_eq!(never.attr("type"), Some("error"));
        let juliet = online(&server, "juliet/balcony").await;
        assert_eq!(
            seconds(&romeo.ask("get", "juliet@example.org", QUERY).await),
            Some(0)
        );
        juliet.leave().await;
        let left = seconds(&romeo.ask("get", "juliet@example.org", QUERY).await);
        assert!(left.is_some_and(|seconds| seconds < 60));
        assert_eq!(
            seconds(&paris.ask("get", "juliet@example.org", QUERY).await),
            None
        );
        let up = seconds(&paris.ask("get", "example.org", QUERY).await);
        assert!(up.is_some_and(|seconds| seconds < 60));
    }
}
