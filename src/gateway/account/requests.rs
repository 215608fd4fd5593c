//! Requests of our own: what is asked of the server, of rooms and archives, and who waits for the answer.

use base64::Engine;
use jid::{BareJid, Jid};
use minidom::Element;
use tokio::sync::oneshot;
use tokio::time::Instant;
use xmpp_parsers::disco::DiscoInfoQuery;
use xmpp_parsers::iq::{Iq, IqHeader, IqPayload};
use xmpp_parsers::roster::Roster;

use super::handle::Page;
use super::room::Features;
use super::{Account, MAX_PENDING, Pending, QUERY_TIMEOUT, Waiter};
use crate::gateway::{Request, WireError};
use crate::xmpp::Client;
use crate::xmpp::element::{element, set};
use crate::xmpp::ns;

impl Account {
    fn new_id(&mut self) -> String {
        self.next_id += 1;
        // Random, so that nobody answers in another's place by guessing (RFC 6120, 8.1.3).
        let mut random = [0_u8; 9];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut random);
        format!(
            "{}-{}",
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random),
            self.next_id
        )
    }

    pub(super) async fn query(
        &mut self,
        client: &mut Client,
        to: Option<Jid>,
        request: Request,
        waiter: Waiter,
    ) {
        let id = self.new_id();
        self.request(client, id, to, request, waiter).await;
    }

    async fn request(
        &mut self,
        client: &mut Client,
        id: String,
        to: Option<Jid>,
        request: Request,
        waiter: Waiter,
    ) {
        if !self.up || self.pending.len() >= MAX_PENDING {
            Box::pin(self.finish(client, waiter, Err(WireError::Offline))).await;
            return;
        }
        let payload = match request {
            Request::Get(payload) => IqPayload::Get(payload),
            Request::Set(payload) => IqPayload::Set(payload),
        };
        let header = IqHeader {
            from: None,
            to: to.clone(),
            id: id.clone(),
        };
        let deadline = Instant::now() + QUERY_TIMEOUT;
        self.pending.insert(
            id,
            Pending {
                to,
                deadline,
                waiter,
            },
        );
        self.send(client, Iq::assemble(header, payload).into())
            .await;
    }

    pub(super) async fn query_archive(
        &mut self,
        client: &mut Client,
        archive: Option<BareJid>,
        mut query: Element,
        caller: oneshot::Sender<Result<Page, WireError>>,
    ) {
        // The query's id is the stanza's: one lookup for both.
        let id = self.new_id();
        set(&mut query, "queryid", &id);
        let waiter = Waiter::Archive {
            caller,
            page: Page::default(),
        };
        self.request(
            client,
            id,
            archive.map(Into::into),
            Request::Set(query),
            waiter,
        )
        .await;
    }

    pub(super) async fn discover(&mut self, client: &mut Client, room: &BareJid) {
        let query = DiscoInfoQuery { node: None };
        let waiter = Waiter::Discover(room.clone());
        let to = Some(room.clone().into());
        self.query(client, to, Request::Get(query.into()), waiter)
            .await;
    }

    pub(super) async fn enter(&mut self, client: &mut Client, room: &BareJid, features: Features) {
        let effects = {
            let mut state = self.handle.state();
            let room = state.rooms.get_mut(room);
            room.map(|room| room.join(features, Instant::now()))
                .unwrap_or_default()
        };
        self.effects(client, room, effects).await;
    }

    pub(super) async fn ping(&mut self, client: &mut Client, room: &BareJid, occupant: Jid) {
        let ping = element("ping", ns::PING, &[]);
        let waiter = Waiter::Ping(room.clone());
        self.query(client, Some(occupant), Request::Get(ping), waiter)
            .await;
    }

    /// A new room is locked until its owner has accepted a configuration (XEP-0045, 10.1.2: instant room). Then it is
    /// there, and says what it can.
    pub(super) async fn accept_defaults(&mut self, client: &mut Client, room: &BareJid) {
        let mut query = element("query", ns::MUC_OWNER, &[]);
        query.append_child(element("x", ns::DATA_FORMS, &[("type", "submit")]));
        let waiter = Waiter::Nobody("accepting a new room's configuration");
        self.query(
            client,
            Some(room.clone().into()),
            Request::Set(query),
            waiter,
        )
        .await;
        self.discover(client, room).await;
    }

    pub(super) async fn fetch_roster(&mut self, client: &mut Client) {
        let roster = Roster {
            ver: None,
            items: Vec::new(),
        };
        self.query(client, None, Request::Get(roster.into()), Waiter::Roster)
            .await;
    }

    /// Who may see our presence. `whole`: the full roster, else a push of what changed.
    pub(super) fn take_roster(&self, query: &Element, whole: bool) {
        let mut state = self.handle.state();
        if whole {
            state.watchers.clear();
        }
        for item in query.children().filter(|item| item.is("item", ns::ROSTER)) {
            let Some(jid) = item.attr("jid").and_then(|jid| Jid::new(jid).ok()) else {
                continue;
            };
            if matches!(item.attr("subscription"), Some("from" | "both")) {
                state.watchers.insert(jid.to_bare());
            } else {
                state.watchers.remove(&jid.to_bare());
            }
        }
    }
}
