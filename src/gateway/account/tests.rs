//! The account's task against what strangers send, without a connection: what it would send waits in the client.

use xmpp_parsers::message::Message;

use super::happening::HAPPENINGS;
use super::*;
use crate::gateway::Place;

struct Stage {
    account: Account,
    client: Client,
    happenings: mpsc::Receiver<Happening>,
}

fn stage(jid: &str, component: bool) -> Stage {
    let mut connection = Settings::new(BareJid::new(jid).unwrap(), "p".into());
    connection.component_secret = component.then(|| "s".into());
    let client = Client::new(connection.clone());
    let options = Options {
        known_archives: BTreeSet::from([None]),
        id: "bot".into(),
        connection,
        nick: "bot".into(),
        profile: Arc::default(),
        rooms: vec![(room(), None, None)],
    };
    let (mut account, _, happenings) = open(options, Storage::in_memory().unwrap());
    account.up = true;
    Stage {
        account,
        client,
        happenings,
    }
}

fn room() -> BareJid {
    BareJid::new("r@c.example").unwrap()
}

fn message(xml: &str) -> Message {
    let xml = xml.replacen("<message", "<message xmlns='jabber:client'", 1);
    Message::try_from(xml.parse::<minidom::Element>().unwrap()).unwrap()
}

impl Stage {
    async fn take(&mut self, xml: &str) {
        self.account.message(&mut self.client, message(xml)).await;
    }

    /// We are in the room, which has an archive.
    fn join(&self) {
        let mut state = self.account.handle.state();
        let room = state.rooms.get_mut(&room()).unwrap();
        room.begin(Instant::now());
        let features = room::Features {
            archive: true,
            ..room::Features::default()
        };
        room.join(features, Instant::now());
        let mut own = Presence::available();
        own.from = Some("r@c.example/bot".parse().unwrap());
        let user = "<x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x>";
        own.payloads.push(user.parse().unwrap());
        room.presence(&own, Instant::now());
        assert!(room.is_joined());
    }

    fn inbound(&mut self) -> Option<(Inbound, bool)> {
        match self.happenings.try_recv().ok()? {
            Happening::Message { inbound, moves } => Some((*inbound, moves)),
            other => panic!("{other:?}"),
        }
    }
}

const HI: &str = "<message from='a@b/c' type='chat' id='1'><body>hi</body></message>";

#[tokio::test]
async fn a_component_answers_no_error_at_whatever_address() {
    let mut stage = stage("bot.example", true);
    for _ in 0..300 {
        stage
            .take("<message from='a@b' to='x@bot.example' type='error' id='1'><body>x</body></message>")
            .await;
    }
    assert!(stage.client.has_room(), "nothing was sent");
    for _ in 0..300 {
        stage
            .take("<message from='a@b' to='x@bot.example' type='chat' id='1'><body>x</body></message>")
            .await;
    }
    assert!(!stage.client.has_room(), "each was refused");
}

#[tokio::test]
async fn a_private_message_before_we_are_back_in_the_room_is_none_of_a_direct_chat() {
    let mut stage = stage("bot@example.net", false);
    stage
        .take("<message from='r@c.example/eve' type='chat' id='1'><body>hi</body></message>")
        .await;
    let (inbound, _) = stage.inbound().unwrap();
    assert!(
        matches!(inbound.place, Place::RoomPrivate(_)),
        "{inbound:?}"
    );
    assert_eq!(inbound.sender.real, None);
}

#[tokio::test(start_paused = true)]
async fn live_messages_do_not_move_the_position_of_an_archive_that_was_not_read() {
    for (name, outcome, moves) in [
        ("read", Ok(()), true),
        ("cut short", Err(WireError::Offline), false),
    ] {
        let mut stage = stage("bot@example.net", false);
        let session = stage.account.archives.begin(None).unwrap();
        let ended = Command::CaughtUp {
            archive: None,
            session,
            outcome,
        };
        stage.account.command(&mut stage.client, ended).await;
        stage.take(HI).await;
        assert_eq!(stage.inbound().unwrap().1, moves, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_s_line_that_finds_the_queue_full_is_read_from_the_archive() {
    let mut stage = stage("bot@example.net", false);
    stage.join();
    for _ in 0..=HAPPENINGS {
        stage
            .take("<message from='r@c.example/eve' type='groupchat'><body>hi</body></message>")
            .await;
    }
    assert!(stage.account.archives.is_behind(Some(&room())));
    tokio::time::advance(Duration::from_mins(1)).await;
    stage.account.tick(&mut stage.client).await;
    assert_eq!(
        stage.account.archives.due(Instant::now()),
        [],
        "it is being read"
    );
}

#[tokio::test]
async fn strangers_cannot_use_up_the_places_for_requests() {
    let mut stage = stage("bot@example.net", false);
    for number in 0..500 {
        stage
            .take(&format!(
                "<message from='a@b/{number}' type='chat' id='1'><body>hi</body></message>"
            ))
            .await;
    }
    assert!(stage.account.pending.len() <= 100);
}

#[tokio::test]
async fn another_nick_is_taken_where_no_other_was_asked_for() {
    let mut stage = stage("bot@example.net", false);
    stage.join();
    let rename = Command::Nick("Ada".into());
    stage.account.command(&mut stage.client, rename).await;
    let joining = stage.account.handle.rooms();
    assert!(
        matches!(joining.as_slice(), [(_, nick, condition)] if nick == "Ada" && condition == "joining")
    );
    let same = Command::Nick("Ada".into());
    stage.account.handle.state().rooms.clear();
    stage.account.command(&mut stage.client, same).await;
    assert!(stage.account.handle.rooms().is_empty());
}
