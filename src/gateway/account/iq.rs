//! IQs that come in: requests are answered at once or handed on, results brought to whoever waits for them. A result
//! counts only from whom we asked, with an id that is waited for.

use minidom::Element;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use xmpp_parsers::iq::{Iq, IqHeader, IqPayload};
use xmpp_parsers::stanza_error::DefinedCondition;

use super::answer::{self, Answer, Asked};
use super::capabilities::Entity;
use super::handle::{Command, QueryResult};
use super::room::Features;
use super::{Account, Happening, Waiter};
use crate::gateway::WireError;
use crate::xmpp::Client;
use crate::xmpp::ns;

impl Account {
    pub(super) async fn iq(&mut self, client: &mut Client, iq: Iq) {
        let (header, payload) = iq.split();
        match payload {
            IqPayload::Get(payload) => self.asked(client, header, payload, false).await,
            IqPayload::Set(payload) => self.asked(client, header, payload, true).await,
            IqPayload::Result(payload) => self.result(client, &header, Ok(payload)).await,
            IqPayload::Error(error) => {
                let error = Element::from(error);
                let (condition, text) = describe(&error);
                let text = Some(text).filter(|text| !text.is_empty());
                self.result(client, &header, Err(WireError::Refused { condition, text }))
                    .await;
            }
        }
    }

    async fn asked(&mut self, client: &mut Client, header: IqHeader, payload: Element, set: bool) {
        let asked = Asked {
            from: header.from,
            // A client has one address, and its server fills it in.
            to: header.to.filter(|_| self.component),
            id: header.id,
            set,
            payload,
        };
        let name = self.handle.profile().name.clone();
        let sees_presence = asked.from.as_ref().is_some_and(|from| {
            let bare = from.to_bare();
            bare == self.own || self.handle.state().watchers.contains(&bare)
        });
        let context = answer::Context {
            own: &self.own,
            name: &name,
            sees_presence,
        };
        let reply = match answer::answer(&asked, &context) {
            Answer::Now(outcome) => asked.reply(outcome.map_err(answer::error)),
            Answer::RosterPush => {
                self.take_roster(&asked.payload, false);
                asked.reply(Ok(None))
            }
            Answer::Command | Answer::Commands => {
                let busy = asked.reply(Err(answer::error(DefinedCondition::ResourceConstraint)));
                let list = asked.payload.name() == "query";
                let asked = Box::new(asked);
                let happening = if list {
                    Happening::Commands(asked)
                } else {
                    Happening::Command(asked)
                };
                if self.happenings.offer(happening).is_ok() {
                    return;
                }
                busy
            }
        };
        self.send(client, reply.into()).await;
    }

    /// A result or an error: taken only from whom we asked (CVE-2017-5589).
    async fn result(&mut self, client: &mut Client, header: &IqHeader, outcome: QueryResult) {
        let Some(pending) = self.pending.get(&header.id) else {
            debug!(id = header.id, "A result that nobody waits for");
            return;
        };
        let own_domain = self.own.domain().as_str();
        let right = match (&pending.to, &header.from) {
            (Some(to), Some(from)) => to == from,
            (Some(_), None) => false,
            // RFC 6120, 8.1.2.1: our server may leave `from` out, or name itself or us.
            (None, None) => true,
            (None, Some(from)) => from.to_bare() == self.own || from.as_str() == own_domain,
        };
        if !right {
            warn!(id = header.id, from = ?header.from, "A result from somebody else was dropped");
            return;
        }
        if let Some(pending) = self.pending.remove(&header.id) {
            self.finish(client, pending.waiter, outcome).await;
        }
    }

    /// Brings an outcome to whoever waits for it.
    pub(super) async fn finish(
        &mut self,
        client: &mut Client,
        waiter: Waiter,
        outcome: QueryResult,
    ) {
        match waiter {
            Waiter::Caller(caller) => drop(caller.send(outcome)),
            Waiter::Archive {
                caller, mut page, ..
            } => {
                let finished = outcome.map(|payload| {
                    let fin = payload.filter(|payload| payload.is("fin", ns::MAM));
                    let set = fin.as_ref().and_then(|fin| fin.get_child("set", ns::RSM));
                    page.last = set
                        .and_then(|set| set.get_child("last", ns::RSM))
                        .map(Element::text);
                    page.complete = fin
                        .as_ref()
                        .is_none_or(|fin| fin.attr("complete") == Some("true"));
                    page
                });
                drop(caller.send(finished));
            }
            Waiter::Discover(room) => {
                let query = outcome.ok().flatten();
                let features = query.map(|query| features(&query)).unwrap_or_default();
                let archive = Some(room.clone());
                if features.archive && !self.known_archives.contains(&archive) {
                    self.mark_beginning(archive, Command::Enter { room, features });
                } else {
                    Box::pin(self.enter(client, &room, features)).await;
                }
            }
            Waiter::Ping(room) => {
                let answer = match &outcome {
                    Ok(_) => Ok(()),
                    Err(WireError::Refused { condition, .. }) => Err(condition.as_str()),
                    Err(_) => Err("remote-server-timeout"),
                };
                let effects = {
                    let mut state = self.handle.state();
                    let room = state.rooms.get_mut(&room);
                    room.map(|room| room.pong(answer, Instant::now()))
                        .unwrap_or_default()
                };
                Box::pin(self.effects(client, &room, effects)).await;
            }
            Waiter::Capabilities(ask) => {
                let query = outcome.ok().flatten();
                let next = self.handle.state().contacts.answered(&ask, query.as_ref());
                self.mark_bots(&ask.to);
                Box::pin(self.ask(client, next)).await;
            }
            Waiter::Roster => match outcome {
                Ok(Some(query)) => self.take_roster(&query, true),
                Ok(None) => {}
                Err(err) => warn!("The roster was not told: {err}"),
            },
            Waiter::Nobody(what) => {
                if let Err(err) = outcome {
                    info!("Not done: {what}: {err}");
                }
            }
        }
    }
}

/// The condition and the text of an `<error/>`.
pub(super) fn describe(error: &Element) -> (String, String) {
    let condition = error
        .children()
        .find(|child| child.has_ns(ns::XMPP_STANZAS) && child.name() != "text")
        .map_or("undefined-condition", Element::name);
    let text = error
        .get_child("text", ns::XMPP_STANZAS)
        .map(Element::text)
        .unwrap_or_default();
    (condition.to_owned(), text.chars().take(500).collect())
}

fn features(query: &Element) -> Features {
    let entity = Entity::read(query);
    let has = |feature: &str| entity.features.contains(feature);
    Features {
        archive: has(ns::MAM),
        occupant_ids: has(ns::OID),
        stanza_ids: has(ns::STANZA_ID),
    }
}
