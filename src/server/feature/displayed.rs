//! XEP-0490: Message Displayed Synchronization. The node is an ordinary private one; here is the server's assistance: what
//! a client says beside a marker is published for its other devices, and not told to anybody else.

use std::sync::Arc;

use futures::future::BoxFuture;
use tracing::warn;

use super::super::passage::{Passage, Side};
use super::super::router::{OnMessage, Router, Stage, Target, Verdict};
use super::super::{Server, StanzaError};
use super::pep;
use crate::xmpp::ns;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Own], ns::MDS_ASSIST);
    // Before the message is archived and copied (XEP-0490, 5.2).
    router.message(Stage::Rewrite, Arc::new(Displayed));
    Ok(())
}

struct Displayed;

impl OnMessage for Displayed {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        Box::pin(async move {
            if passage.side != Side::Outgoing {
                return Ok(Verdict::Continue);
            }
            let message = passage.stanza.element_mut();
            let displayed = message.remove_child("displayed", ns::MDS);
            let to = passage.stanza.to().cloned();
            if let (Some(displayed), Some(to)) = (displayed, to)
                && !passage.stanza.is_error()
            {
                let account = passage.account.jid();
                let published =
                    pep::publish(passage.server, account, ns::MDS, to.as_str(), displayed).await;
                if let Err(error) = published {
                    // The message is what matters; the device will say it again.
                    warn!(%account, ?error, "What was displayed is not told to the other devices");
                }
            }
            Ok(Verdict::Continue)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{online, server};
    use super::*;

    #[tokio::test]
    async fn what_was_displayed_is_kept_for_the_own_devices_alone() {
        let server = server(&["juliet", "romeo"]).await;
        let juliet = online(&server, "juliet/balcony").await;
        let mut romeo = online(&server, "romeo/orchard").await;
        juliet.send("<message to='romeo@example.org' type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='1'/><displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.org' id='2'/></displayed></message>").await;
        let message = romeo.next().await;
        assert!(message.has_child("displayed", ns::DISPLAYED_MARKERS));
        assert!(!message.has_child("displayed", ns::MDS));
        let engine = pep::engine(&server).unwrap();
        let account = juliet.session.account().jid();
        let item = engine.newest(account, ns::MDS).await.unwrap().unwrap();
        assert_eq!(item.id, "romeo@example.org");
        let record = engine.record(account, ns::MDS).await.unwrap().unwrap();
        let private = super::super::super::pubsub::config::Config::private();
        assert_eq!(record.config, private);
    }
}
