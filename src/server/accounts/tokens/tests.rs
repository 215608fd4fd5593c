//! The slots of XEP-0484, 5.1 over time, and the store.

use jid::{DomainPart, NodePart};
use secrecy::ExposeSecret;

use super::*;
use crate::storage::Storage;

const NONE: &str = "HT-SHA-256-NONE";

fn proof(token: &str) -> Vec<u8> {
    Hash::Sha256.sign(token.as_bytes(), INITIATOR)
}

fn slot(token: &str, expires: i64) -> Slot {
    Slot {
        mechanism: NONE.to_owned(),
        secret: Secret::new(NONE, token),
        expires,
        count: 0,
    }
}

fn attempt(proof: &[u8], count: Option<u64>) -> Attempt<'_> {
    Attempt {
        client: "phone",
        mechanism: NONE,
        binding: &[],
        proof,
        count,
        invalidate: false,
    }
}

#[test]
fn tokens_are_exchanged_expire_and_are_not_replayed() {
    #[derive(Debug, PartialEq)]
    enum Is {
        Right,
        Rotate,
        Wrong,
        Expired,
    }
    let mut slots = Slots::default();
    let step = |name: &str, slots: &mut Slots, token: &str, count, now, expected| {
        let outcome = match check(slots, &attempt(&proof(token), count), now) {
            Outcome::Right { rotate: true, .. } => Is::Rotate,
            Outcome::Right { .. } => Is::Right,
            Outcome::Wrong => Is::Wrong,
            Outcome::Expired => Is::Expired,
        };
        assert_eq!(outcome, expected, "{name}");
    };
    step("no token", &mut slots, "a", None, 0, Is::Wrong);
    slots.new = Some(slot("a", LIFETIME));
    step("another", &mut slots, "b", None, 0, Is::Wrong);
    step("the first use", &mut slots, "a", None, 0, Is::Right);
    assert!(slots.new.is_none() && slots.current.is_some());
    step("counted", &mut slots, "a", Some(3), 0, Is::Right);
    step("replayed", &mut slots, "a", Some(3), 0, Is::Wrong);
    step("older", &mut slots, "a", Some(2), 0, Is::Wrong);
    step("newer", &mut slots, "a", Some(4), 0, Is::Right);
    step("a day old", &mut slots, "a", None, DAY, Is::Rotate);
    slots.new = Some(slot("b", DAY + LIFETIME));
    step(
        "the new one got lost",
        &mut slots,
        "a",
        None,
        DAY,
        Is::Rotate,
    );
    slots.new = Some(slot("c", DAY + LIFETIME));
    step("the lost one", &mut slots, "b", None, DAY, Is::Wrong);
    step("the new one", &mut slots, "c", Some(1), DAY, Is::Right);
    step("the old one", &mut slots, "a", None, DAY, Is::Wrong);
    step(
        "too late",
        &mut slots,
        "c",
        None,
        DAY + LIFETIME,
        Is::Expired,
    );
}

async fn accounts(storage: &Storage) -> Accounts {
    let domain: DomainPart = "example.org".parse().unwrap();
    Accounts::open(storage.clone(), &domain).await.unwrap()
}

fn juliet() -> NodePart {
    "juliet".parse().unwrap()
}

#[tokio::test]
async fn a_token_is_worth_something_until_it_is_given_back_or_the_password_changes() {
    let storage = Storage::in_memory().unwrap();
    let accounts = accounts(&storage).await;
    accounts.create_without_password(&juliet()).await.unwrap();
    let issue = async || {
        let token = accounts
            .issue_token(&juliet(), "phone", NONE)
            .await
            .unwrap();
        proof(token.token.expose_secret())
    };
    let verify = async |proof: &[u8], invalidate: bool| {
        let attempt = Attempt {
            invalidate,
            ..attempt(proof, None)
        };
        accounts.verify_token(&juliet(), &attempt).await.is_ok()
    };
    let token = issue().await;
    assert!(verify(&token, false).await);
    assert!(verify(&token, true).await);
    assert!(!verify(&token, false).await);
    let token = issue().await;
    accounts
        .set_password(&juliet(), "x".into(), None)
        .await
        .unwrap();
    assert!(!verify(&token, false).await);
    let token = issue().await;
    accounts.disable(&juliet()).await.unwrap();
    assert!(!verify(&token, false).await);
    accounts.delete(&juliet()).await.unwrap();
    assert!(storage.owners(TOKENS).await.unwrap().is_empty());
    let refused = accounts.issue_token(&juliet(), "phone", NONE).await;
    assert!(matches!(refused, Err(Error::Unknown(_))));
}

#[tokio::test]
async fn what_is_stored_of_an_unbound_token_logs_nobody_in() {
    let storage = Storage::in_memory().unwrap();
    let accounts = accounts(&storage).await;
    accounts.create_without_password(&juliet()).await.unwrap();
    let token = accounts
        .issue_token(&juliet(), "phone", NONE)
        .await
        .unwrap();
    let token = token.token.expose_secret();
    let stored = storage.get(TOKENS, "juliet", "phone").await.unwrap();
    let stored = String::from_utf8(stored.unwrap()).unwrap();
    let encoded = STANDARD.encode(proof(token));
    assert!(!stored.contains(token) && !stored.contains(&encoded));
    assert_eq!(format!("{:?}", Secret::new("HT-SHA-256-EXPR", "x")), "****");
}

#[tokio::test]
async fn an_account_has_tokens_for_so_many_devices() {
    let storage = Storage::in_memory().unwrap();
    let accounts = accounts(&storage).await;
    accounts.create_without_password(&juliet()).await.unwrap();
    for number in 0..MOST_CLIENTS + 3 {
        let client = format!("client-{number}");
        accounts
            .issue_token(&juliet(), &client, NONE)
            .await
            .unwrap();
    }
    let kept = storage.list(TOKENS, "juliet", "").await.unwrap();
    assert_eq!(kept.len(), MOST_CLIENTS);
    for client in [String::new(), "x".repeat(LONGEST_CLIENT + 1)] {
        assert!(
            accounts
                .issue_token(&juliet(), &client, NONE)
                .await
                .is_err()
        );
    }
}
