//! Accounts from birth to tombstone, and again after a restart.

use std::str::FromStr;

use tokio::time::{Duration, advance};

use super::*;
use crate::runtime::Stop;

const NOTES: KeyValue = KeyValue("notes");

fn node(text: &str) -> NodePart {
    name(text).unwrap()
}

async fn open(storage: &Storage) -> Accounts {
    let domain = DomainPart::from_str("example.org").unwrap();
    Accounts::open(storage.clone(), &domain).await.unwrap()
}

async fn is(accounts: &Accounts, name: &str, password: &str) -> bool {
    let claim = accounts.claim(name);
    accounts.check(&claim, password.into()).await.unwrap()
}

#[tokio::test]
async fn an_account_lives_is_disabled_and_ends_for_good() {
    let storage = Storage::in_memory().unwrap();
    let accounts = open(&storage).await;
    let juliet = node("Juliet");
    accounts.create(&juliet, "one".into()).await.unwrap();
    assert!(is(&accounts, "juliet", "one").await);
    let again = accounts.create(&juliet, "two".into()).await;
    assert_eq!(
        again.unwrap_err().to_string(),
        "juliet@example.org exists already; choose another name, or change its password"
    );
    accounts
        .set_password(&juliet, "two".into(), None)
        .await
        .unwrap();
    accounts.disable(&juliet).await.unwrap();
    for accounts in [&accounts, &open(&storage).await] {
        assert!(accounts.exists(&juliet) && accounts.is_disabled(&juliet));
        assert!(is(accounts, "juliet", "two").await);
        assert!(!is(accounts, "juliet", "one").await);
    }
    accounts.enable(&juliet).await.unwrap();
    accounts.delete(&juliet).await.unwrap();
    for accounts in [&accounts, &open(&storage).await] {
        assert!(!accounts.exists(&juliet) && accounts.is_empty());
        assert!(accounts.keys(&juliet).is_none());
        assert!(!is(accounts, "juliet", "two").await);
        let again = accounts.create_without_password(&juliet).await;
        assert_eq!(
            again.unwrap_err().to_string(),
            "juliet@example.org has been deleted, and its name is not given again; choose another"
        );
        for refused in [
            accounts.delete(&juliet).await,
            accounts.disable(&juliet).await,
            accounts.set_password(&juliet, "x".into(), None).await,
        ] {
            assert!(matches!(refused, Err(Error::Unknown(_))));
        }
    }
}

#[tokio::test]
async fn only_one_of_two_gets_a_name() {
    let accounts = open(&Storage::in_memory().unwrap()).await;
    let juliet = node("juliet");
    let (one, two) = tokio::join!(
        accounts.create(&juliet, "one".into()),
        accounts.create(&juliet, "two".into()),
    );
    assert!(one.is_ok() != two.is_ok());
    let winner = if one.is_ok() { "one" } else { "two" };
    assert!(is(&accounts, "juliet", winner).await);
    assert_eq!(accounts.len(), 1);
}

#[tokio::test]
async fn features_forget_a_deleted_account_and_whoever_watches_is_told() {
    let storage = Storage::in_memory().unwrap();
    let accounts = open(&storage).await;
    let (juliet, romeo) = (node("juliet"), node("romeo"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watcher = Arc::clone(&seen);
    accounts.observe(Arc::new(move |jid, change| {
        lock(&watcher).push((jid.to_string(), change));
        Box::pin(std::future::ready(()))
    }));
    accounts.on_delete(Arc::new(|jid| {
        let name = jid.node().unwrap().to_owned();
        Box::pin(async move { Ok(Batch::new().delete_owner(NOTES, &name)) })
    }));
    for name in [&juliet, &romeo] {
        accounts.create_without_password(name).await.unwrap();
        let note = Batch::new().put(NOTES, name, "k", Vec::new());
        storage.commit(note).await.unwrap();
    }
    accounts.delete(&juliet).await.unwrap();
    assert_eq!(storage.owners(NOTES).await.unwrap(), ["romeo"]);
    let by = Some(FullJid::new("romeo@example.org/x").unwrap());
    accounts
        .set_password(&romeo, "x".into(), by.clone())
        .await
        .unwrap();
    let seen: Vec<_> = std::mem::take(&mut *lock(&seen));
    let expected = [
        ("juliet@example.org", Change::Created),
        ("romeo@example.org", Change::Created),
        ("juliet@example.org", Change::Deleted),
        ("romeo@example.org", Change::Password { by }),
    ];
    assert_eq!(seen, expected.map(|(jid, change)| (jid.to_owned(), change)));
}

#[tokio::test]
async fn names_and_passwords_have_limits() {
    let accounts = open(&Storage::in_memory().unwrap()).await;
    for (text, expected) in [
        ("Juliet", Some("juliet")),
        ("ＪＵＬＩＥＴ", Some("juliet")),
        ("", None),
        ("a b", None),
        ("a@b", None),
        ("a/b", None),
        ("a\u{0}", None),
        ("\u{202E}a", None),
    ] {
        let prepared = name(text).ok();
        assert_eq!(
            prepared.as_ref().map(|name| name.as_str()),
            expected,
            "{text:?}"
        );
    }
    assert!(name(&"a".repeat(1024)).is_err());
    let long = node(&"a".repeat(LONGEST_NAME + 1));
    let refused = accounts.create(&long, "x".into()).await;
    assert!(matches!(refused, Err(Error::Name(_))));
    let juliet = node("juliet");
    for (password, says) in [
        (String::new(), "The password is empty; choose one"),
        (
            "a\nb".to_owned(),
            "The password has control characters; choose one without",
        ),
        (
            "a".repeat(1025),
            "The password is longer than 1,024 bytes; choose a shorter one",
        ),
    ] {
        let refused = accounts.create(&juliet, password.into()).await;
        assert_eq!(refused.unwrap_err().to_string(), says);
    }
    assert!(accounts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn last_logins_are_written_within_a_minute_and_at_the_end() {
    let storage = Storage::in_memory().unwrap();
    let accounts = open(&storage).await;
    let (juliet, romeo) = (node("juliet"), node("romeo"));
    for name in [&juliet, &romeo] {
        accounts.create_without_password(name).await.unwrap();
    }
    let last = async |name: &str| {
        let list = open(&storage).await.list();
        let found = list.into_iter().find(|account| account.name == name);
        found.unwrap().last_login
    };
    let stop = Stop::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(accounts.clone().keep(stop.clone()));
    accounts.logged_in(&juliet);
    assert!(accounts.list()[0].last_login.is_some());
    tokio::task::yield_now().await;
    advance(Duration::from_secs(61)).await;
    while last("juliet").await.is_none() {
        tokio::task::yield_now().await;
    }
    // The paused clock leaps while the store works; from here a minute is one.
    tokio::time::resume();
    accounts.logged_in(&romeo);
    assert_eq!(last("romeo").await, None);
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert!(last("romeo").await.is_some());
    // A deletion in between leaves nothing behind.
    accounts.logged_in(&romeo);
    accounts.delete(&romeo).await.unwrap();
    accounts.clone().keep(stop).await.unwrap();
    let kept = storage.list(LAST_LOGINS, "example.org", "").await.unwrap();
    assert_eq!(kept.len(), 1);
}

#[tokio::test]
async fn a_damaged_record_is_left_alone() {
    let storage = Storage::in_memory().unwrap();
    open(&storage)
        .await
        .create_without_password(&node("juliet"))
        .await
        .unwrap();
    let damage = Batch::new().put(ACCOUNTS, "example.org", "romeo", b"{".to_vec());
    storage.commit(damage).await.unwrap();
    let accounts = open(&storage).await;
    assert_eq!(accounts.len(), 1);
    let again = accounts.create_without_password(&node("romeo")).await;
    assert!(again.is_err());
    let kept = storage.get(ACCOUNTS, "example.org", "romeo").await;
    assert_eq!(kept.unwrap().unwrap(), b"{");
}
