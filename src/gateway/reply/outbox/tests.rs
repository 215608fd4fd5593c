//! Nothing is lost and nothing is shown twice, whatever becomes of a session.

use super::*;
use crate::gateway::reply::{Draft, Keep, build};
use crate::gateway::session::testing::{FakeWire, body, memory, replaces};

struct Stage {
    storage: Storage,
    wire: Arc<FakeWire>,
    outbox: Outbox,
    _supervisor: Supervisor,
    _busy: watch::Sender<usize>,
}

fn stage(storage: Storage) -> Stage {
    let wire = Arc::<FakeWire>::default();
    let supervisor = Supervisor::new();
    let (busy, watched) = watch::channel(0);
    let outbox = Outbox::start(
        &supervisor,
        storage.clone(),
        Arc::clone(&wire) as SharedWire,
        watched,
    );
    Stage {
        storage,
        wire,
        outbox,
        _supervisor: supervisor,
        _busy: busy,
    }
}

fn place() -> Place {
    Place::Direct("alice@example.com".parse().unwrap())
}

fn message(id: &str, text: &str) -> Message {
    build(Draft {
        place: &place(),
        thread: None,
        id: id.into(),
        replaces: None,
        body: text,
        answers: None,
        keep: Keep::Yes,
        state: None,
        styled: true,
    })
}

impl Stage {
    async fn keep(&self, id: &str) {
        let chunk = Chunk::new(id.into(), "bot", &place(), message(id, id));
        self.storage.commit(chunk.put()).await.unwrap();
        self.outbox.keep(vec![chunk]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    async fn left(&self) -> usize {
        self.storage.list(OUTBOX, "bot", "").await.unwrap().len()
    }

    fn sent(&self) -> Vec<(String, Option<String>)> {
        let texts = self.wire.texts();
        let sent = texts.iter().map(|message| {
            let text = body(message).unwrap().to_owned();
            (text, replaces(message).map(ToOwned::to_owned))
        });
        sent.collect()
    }
}

fn plain(text: &str) -> (String, Option<String>) {
    (text.into(), None)
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_removed_when_it_is_acknowledged_and_not_before() {
    let stage = stage(memory());
    stage.keep("1").await;
    assert_eq!(stage.left().await, 0);
    stage.wire.hold();
    stage.keep("2").await;
    assert_eq!(stage.left().await, 1);
    assert_eq!(stage.sent(), [plain("1"), plain("2")]);
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_session_took_along_is_sent_again_only_if_the_archive_lacks_it() {
    let stage = stage(memory());
    stage.wire.set_archive(&["1"]);
    stage.wire.hold();
    stage.keep("1").await;
    stage.keep("2").await;
    stage.wire.lose();
    stage.keep("3").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        stage.sent(),
        [plain("1"), plain("2"), plain("2"), plain("3")]
    );
    assert_eq!(stage.left().await, 0);
}

#[tokio::test(start_paused = true)]
async fn without_an_archive_it_is_sent_as_a_correction_of_itself() {
    let stage = stage(memory());
    stage.wire.hold();
    stage.keep("1").await;
    stage.wire.lose();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.sent(), [plain("1"), ("1".into(), Some("1".into()))]);
    let ids: Vec<_> = stage
        .wire
        .texts()
        .iter()
        .map(|m| m.id.clone().unwrap().0)
        .collect();
    assert_eq!(ids, ["1", "1.again"]);
    assert_eq!(stage.left().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_left_is_asked_for_first() {
    let storage = memory();
    let before = stage(storage.clone());
    before.wire.hold();
    before.keep("1").await;
    before.keep("2").await;
    let after = stage(storage.clone());
    after.wire.set_archive(&["1"]);
    after.outbox.resume(&storage, "bot").await.unwrap();
    after.keep("3").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        after.sent(),
        [plain("2"), plain("3")],
        "and the order is kept"
    );
    assert_eq!(after.left().await, 0);
}

#[tokio::test(start_paused = true)]
async fn while_offline_texts_wait_and_signs_of_life_go() {
    let stage = stage(memory());
    stage.wire.set_offline(true);
    let ticket = Ticket::default();
    stage
        .outbox
        .now(place(), message("n", "growing"), Some(ticket.clone()));
    stage.keep("1").await;
    assert!(ticket.is_lost());
    stage.wire.set_offline(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.sent(), [plain("1")]);
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_keeps_nothing_is_not_believed() {
    let stage = stage(memory());
    stage.wire.set_archive(&[]);
    stage.wire.hold();
    stage.keep("1").await;
    stage.wire.lose();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.sent(), [plain("1"), ("1".into(), Some("1".into()))]);
}

#[test]
fn a_passing_message_is_sent_or_taken_back_and_never_both() {
    let ticket = Ticket::default();
    assert!(ticket.go());
    assert!(!ticket.take_back());
    let ticket = Ticket::default();
    assert!(ticket.take_back());
    assert!(!ticket.go());
    assert!(ticket.is_lost());
}

#[tokio::test(start_paused = true)]
async fn what_waits_already_is_not_sent_twice_when_the_outbox_is_taken_up() {
    let stage = stage(memory());
    stage.wire.set_archive(&[]);
    stage.wire.set_offline(true);
    stage.keep("1").await;
    stage.outbox.resume(&stage.storage, "bot").await.unwrap();
    stage.wire.set_offline(false);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.sent(), [plain("1")]);
    assert_eq!(stage.left().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_ends_every_session_is_not_sent_for_ever() {
    let stage = stage(memory());
    stage.wire.set_archive(&["another"]);
    stage.wire.hold();
    stage.keep("1").await;
    for _ in 0..=MOST_LOST {
        assert_eq!(stage.left().await, 1);
        stage.wire.lose();
        stage.wire.hold();
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    assert_eq!(stage.left().await, 0);
}
