//! Messages and requests of people whom an account does not know: so many new ones a sender may write to, and none of those on
//! a block list. Who is in the roster, or was written to by the account itself, is no stranger.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use jid::{BareJid, Jid};

use super::super::abuse::Refusal;
use super::super::account::Account;
use super::super::passage::{Passage, Side};
use super::super::router::{OnMessage, OnPresence, Router, Stage, Verdict};
use super::super::stanza::{MessageType, Stanza};
use super::super::{Server, StanzaError};
use super::block_lists;

/// How many an account remembers of those who are not in its roster.
const REMEMBERED: usize = 128;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.message(Stage::Filter, Arc::new(Strangers));
    router.presence(Arc::new(Strangers));
    Ok(())
}

/// Those not in the roster whom the account has to do with; the last ones.
#[derive(Default)]
struct Met(Mutex<VecDeque<(BareJid, How)>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    /// They have written to the account.
    Heard,
    /// The account has written to them.
    Addressed,
}

impl Met {
    fn how(&self, who: &BareJid) -> Option<How> {
        let met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Mostly it is who was met last.
        met.iter()
            .rev()
            .find(|(known, _)| known == who)
            .map(|(_, how)| *how)
    }

    fn note(&self, who: &BareJid, how: How) {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = met.iter_mut().rev().find(|(known, _)| known == who) {
            *known = how.max(*known);
            return;
        }
        if met.len() >= REMEMBERED {
            met.pop_front();
        }
        met.push_back((who.clone(), how));
    }
}

struct Strangers;

impl OnMessage for Strangers {
    fn on_message<'a>(
        &'a self,
        passage: &'a mut Passage<'_>,
    ) -> BoxFuture<'a, Result<Verdict, StanzaError>> {
        Box::pin(async move {
            let kind = passage.stanza.message_type();
            // A room's messages come from the room, and errors answer what the account itself has sent.
            if passage.again || matches!(kind, MessageType::Groupchat | MessageType::Error) {
                return Ok(Verdict::Continue);
            }
            let met = passage.account.extensions.get_or_default::<Met>();
            if passage.side == Side::Outgoing {
                if let Some(to) = passage.stanza.to() {
                    met.note(&to.to_bare(), How::Addressed);
                }
                return Ok(Verdict::Continue);
            }
            let from = passage.stanza.from().to_bare();
            let own_bot = passage
                .sender
                .session()
                .is_some_and(|one| one.origin.is_own_bot());
            if own_bot || met.how(&from) == Some(How::Addressed) {
                return Ok(Verdict::Continue);
            }
            let (server, account) = (passage.server, passage.account);
            if !is_stranger(server, account, passage.stanza.from()).await? {
                return Ok(Verdict::Continue);
            }
            block_lists::check(server, &from)?;
            // What a node tells is not written by anybody.
            if kind != MessageType::Headline && met.how(&from).is_none() {
                introduce(server, &from)?;
                met.note(&from, How::Heard);
            }
            Ok(Verdict::Continue)
        })
    }
}

impl OnPresence for Strangers {
    fn incoming<'a>(
        &'a self,
        server: &'a Server,
        account: &'a Arc<Account>,
        presence: &'a Stanza,
    ) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let from = presence.from();
            if !block_lists::is_listed(server, &from.to_bare()) {
                return true;
            }
            // The one who asks is told by `may_ask`; others show themselves to nobody.
            !is_stranger(server, account, from).await.unwrap_or(true)
        })
    }
}

/// Whether an account does not know a sender. Services and admins of this server are none.
pub(in crate::server) async fn is_stranger(
    server: &Server,
    account: &Account,
    from: &Jid,
) -> Result<bool, StanzaError> {
    let (domain, bare) = (from.domain().as_str(), from.to_bare());
    let is_service = server.hosts().iter().any(|(host, _)| host == domain)
        || (from.node().is_none() && server.is_local(domain));
    if is_service || bare == *account.jid() || server.is_admin(&bare) {
        return Ok(false);
    }
    let state = account.roster(server).await?.state(&bare);
    Ok(!(state.to || state.from || state.pending_out || state.approved))
}

/// Somebody writes to who does not know them: so many may each, and each domain elsewhere.
fn introduce(server: &Server, from: &BareJid) -> Result<(), StanzaError> {
    let abuse = server.abuse();
    let domain = from.domain().as_str();
    if !server.is_local(domain) && !abuse.domains.take(&domain.to_owned()) {
        abuse.refused(Refusal::Domain, &domain);
        return Err(StanzaError::resource_constraint()
            .text("Your server writes to too many people here who do not know its users"));
    }
    if !abuse.strangers.take(from) {
        abuse.refused(Refusal::Strangers, from);
        return Err(StanzaError::resource_constraint()
            .text("You write to too many people who do not know you; try again later"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::{Client, online, server};
    use crate::xmpp::ns;

    fn condition(answer: &minidom::Element) -> Option<String> {
        let error = answer.get_child("error", ns::JABBER_CLIENT)?;
        let mut conditions = error.children().filter(|child| child.name() != "text");
        Some(conditions.next()?.name().to_owned())
    }

    async fn write(client: &mut Client, to: &str) -> Option<String> {
        client
            .send(&format!(
                "<message type='chat' to='{to}@example.org'><body>Buy!</body></message>"
            ))
            .await;
        client.drain().iter().find_map(condition)
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_to_many_strangers_is_stopped_and_others_are_not() {
        let names: Vec<String> = (0..40).map(|number| format!("user{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let server = server(&names).await;
        let mut spammer = online(&server, "user0/r").await;
        for name in &names[1..31] {
            assert_eq!(write(&mut spammer, name).await, None, "{name}");
        }
        let refused = write(&mut spammer, names[31]).await;
        assert_eq!(refused.as_deref(), Some("resource-constraint"));
        assert_eq!(server.abuse().count(Refusal::Strangers), 1);
        assert_eq!(
            write(&mut spammer, names[1]).await,
            None,
            "whom one has met"
        );
        let ping = spammer
            .ask("get", "example.org", "<ping xmlns='urn:xmpp:ping'/>")
            .await;
        assert_eq!(ping.attr("type"), Some("result"), "pings are answered");
        // Who was written to may answer as much as they like, and that opens the door.
        let mut other = online(&server, "user39/r").await;
        assert_eq!(write(&mut other, "user0").await, None);
        assert_eq!(write(&mut spammer, "user39").await, None);
        tokio::time::advance(std::time::Duration::from_mins(1)).await;
        assert_eq!(write(&mut spammer, names[31]).await, None);
    }

    #[test]
    fn only_the_last_are_remembered() {
        let met = Met::default();
        let jid = |number: usize| BareJid::new(&format!("user{number}@example.org")).unwrap();
        met.note(&jid(0), How::Addressed);
        met.note(&jid(0), How::Heard);
        assert_eq!(met.how(&jid(0)), Some(How::Addressed));
        for number in 1..=REMEMBERED {
            met.note(&jid(number), How::Heard);
        }
        assert_eq!(met.how(&jid(0)), None);
        assert_eq!(met.0.lock().unwrap().len(), REMEMBERED);
    }
}
