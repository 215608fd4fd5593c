//! Whole logins, with the client of `xmpp::scram` at the other end.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::storage::Storage;
use crate::xmpp::scram;

const ALL: [&str; 8] = [
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "PLAIN",
    "HT-SHA-256-EXPR",
    "HT-SHA-256-ENDP",
    "HT-SHA-256-NONE",
];

fn name(text: &str) -> NodePart {
    text.parse().unwrap()
}

/// Juliet's password is `secret`.
async fn context() -> Context {
    let domain: jid::DomainPart = "example.org".parse().unwrap();
    let storage = Storage::in_memory().unwrap();
    let accounts = Accounts::open(storage, &domain).await.unwrap();
    accounts
        .create(&name("juliet"), "secret".into())
        .await
        .unwrap();
    Context {
        accounts,
        secure: true,
        bindings: vec![ChannelBinding {
            name: TLS_EXPORTER,
            data: vec![7; 32],
        }],
        offered: Vec::new(),
        fast: None,
    }
}

/// Logs in as a client does that does not trust the server either.
async fn log_in(context: &Context, mechanism: &str, user: &str, password: &str) -> Step {
    let hash = if mechanism.contains("256") {
        Hash::Sha256
    } else {
        Hash::Sha1
    };
    let binding = if mechanism.ends_with("-PLUS") {
        scram::Binding::TlsExporter(vec![7; 32])
    } else {
        scram::Binding::Unsupported
    };
    let first = scram::First::new(hash, binding, user, "nonce".to_owned());
    let (mut exchange, step) =
        Exchange::begin(mechanism, context.clone(), Some(first.message().as_bytes())).await;
    let Step::Challenge(challenge) = step else {
        return step;
    };
    let challenge = String::from_utf8(challenge).unwrap();
    let proof = first.answer(&challenge, password).unwrap();
    let step = exchange.step(proof.message.as_bytes()).await;
    if let Step::Success(success) = &step {
        let last = String::from_utf8(success.data.clone().unwrap()).unwrap();
        proof.verify(&last).unwrap();
    }
    step
}

async fn plain(context: &Context, message: &str) -> Step {
    let message = Some(message.as_bytes());
    Exchange::begin("PLAIN", context.clone(), message).await.1
}

fn account(step: &Step) -> Option<&str> {
    match step {
        Step::Success(success) => Some(success.account.as_str()),
        _ => None,
    }
}

fn condition(step: &Step) -> Option<Condition> {
    match step {
        Step::Failure(failure) => Some(failure.condition),
        _ => None,
    }
}

#[tokio::test]
async fn every_mechanism_logs_in_with_the_right_password_only() {
    let mut context = context().await;
    context.offered = mechanisms(true, &context.bindings);
    for mechanism in [
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-1",
    ] {
        for (user, password, expected) in [
            ("juliet", "secret", Some("juliet")),
            ("JULIET", "secret", Some("juliet")),
            ("juliet", "Secret", None),
            ("romeo", "secret", None),
            ("not a name", "secret", None),
        ] {
            let step = log_in(&context, mechanism, user, password).await;
            assert_eq!(account(&step), expected, "{mechanism} {user} {password}");
            let refused = expected.is_none().then_some(Condition::NotAuthorized);
            assert_eq!(condition(&step), refused, "{mechanism} {user} {password}");
        }
    }
    for (message, expected, refused) in [
        ("\0juliet\0secret", Some("juliet"), None),
        ("juliet@example.org\0Juliet\0secret", Some("juliet"), None),
        ("\0juliet\0wrong", None, Some(Condition::NotAuthorized)),
        ("\0romeo\0secret", None, Some(Condition::NotAuthorized)),
        ("juliet", None, Some(Condition::MalformedRequest)),
    ] {
        let step = plain(&context, message).await;
        assert_eq!(account(&step), expected, "{message:?}");
        assert_eq!(condition(&step), refused, "{message:?}");
    }
    assert!(context.accounts.list()[0].last_login.is_some());
}

#[tokio::test]
async fn a_client_that_sends_nothing_first_is_asked() {
    let context = context().await;
    let (mut exchange, step) = Exchange::begin("PLAIN", context, None).await;
    assert_eq!(step, Step::Challenge(Vec::new()));
    let step = exchange.step(b"\0juliet\0secret").await;
    assert_eq!(account(&step), Some("juliet"));
    let step = exchange.step(b"\0juliet\0secret").await;
    assert_eq!(condition(&step), Some(Condition::MalformedRequest));
}

#[tokio::test]
async fn nobody_acts_as_somebody_else() {
    let context = context().await;
    for (authzid, refused) in [
        ("", None),
        ("juliet@example.org", None),
        ("Juliet@EXAMPLE.org", None),
        ("juliet", Some(Condition::InvalidAuthzid)),
        ("romeo@example.org", Some(Condition::InvalidAuthzid)),
        ("juliet@example.net", Some(Condition::InvalidAuthzid)),
        ("juliet@example.org/x", Some(Condition::InvalidAuthzid)),
        ("example.org", Some(Condition::InvalidAuthzid)),
    ] {
        let step = plain(&context, &format!("{authzid}\0juliet\0secret")).await;
        assert_eq!(condition(&step), refused, "PLAIN {authzid}");
        let field = if authzid.is_empty() {
            String::new()
        } else {
            format!("a={authzid}")
        };
        let message = format!("n,{field},n=juliet,r=x");
        let message = Some(message.as_bytes());
        let (_, step) = Exchange::begin("SCRAM-SHA-256", context.clone(), message).await;
        assert_eq!(condition(&step), refused, "SCRAM {authzid}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_looks_like_one_that_somebody_has() {
    let (context, another) = (context().await, context().await);
    let ask = async |user: &str, context: &Context| {
        let message = format!("n,,n={user},r=x");
        let message = Some(message.as_bytes());
        match Exchange::begin("SCRAM-SHA-1", context.clone(), message)
            .await
            .1
        {
            Step::Challenge(challenge) => {
                let text = String::from_utf8(challenge).unwrap();
                let mut fields = text.split(',').skip(1).map(str::to_owned);
                (fields.next().unwrap(), fields.next().unwrap())
            }
            other => panic!("{other:?}"),
        }
    };
    let (salt, iterations) = ask("nobody", &context).await;
    let (own_salt, own_iterations) = ask("juliet", &context).await;
    assert_eq!(iterations, own_iterations);
    assert_eq!(salt.len(), own_salt.len());
    assert_eq!(ask("Nobody", &context).await.0, salt);
    assert_ne!(ask("nobody2", &context).await.0, salt);
    assert_ne!(ask("nobody", &another).await.0, salt);
}

#[tokio::test]
async fn a_disabled_account_is_told_so_only_with_its_password() {
    let context = context().await;
    context.accounts.disable(&name("juliet")).await.unwrap();
    let right = log_in(&context, "SCRAM-SHA-256", "juliet", "secret").await;
    assert_eq!(condition(&right), Some(Condition::AccountDisabled));
    let wrong = log_in(&context, "SCRAM-SHA-256", "juliet", "wrong").await;
    assert_eq!(condition(&wrong), Some(Condition::NotAuthorized));
    context.accounts.enable(&name("juliet")).await.unwrap();
    let right = plain(&context, "\0juliet\0secret").await;
    assert_eq!(account(&right), Some("juliet"));
    context.accounts.delete(&name("juliet")).await.unwrap();
    let gone = plain(&context, "\0juliet\0secret").await;
    assert_eq!(condition(&gone), Some(Condition::NotAuthorized));
}

#[tokio::test]
async fn a_login_ends_where_the_account_ends_in_between() {
    let context = context().await;
    let first = scram::First::new(
        Hash::Sha1,
        scram::Binding::Unsupported,
        "juliet",
        "x".to_owned(),
    );
    let message = first.message();
    let begun = Exchange::begin("SCRAM-SHA-1", context.clone(), Some(message.as_bytes()));
    let (mut exchange, step) = begun.await;
    let Step::Challenge(challenge) = step else {
        panic!("{step:?}");
    };
    context.accounts.delete(&name("juliet")).await.unwrap();
    let proof = first.answer(&String::from_utf8(challenge).unwrap(), "secret");
    let step = exchange.step(proof.unwrap().message.as_bytes()).await;
    assert_eq!(condition(&step), Some(Condition::NotAuthorized));
}

#[tokio::test]
async fn only_what_the_connection_can_do_is_offered_and_taken() {
    struct Case {
        name: &'static str,
        secure: bool,
        bindings: Vec<ChannelBinding>,
        offered: &'static [&'static str],
        fast: &'static [&'static str],
    }
    let base = context().await;
    let bound = base.bindings.clone();
    let cases = [
        Case {
            name: "TLS with a binding",
            secure: true,
            bindings: bound,
            offered: &ALL[..5],
            fast: &["HT-SHA-256-EXPR", "HT-SHA-256-NONE"],
        },
        Case {
            name: "TLS behind a proxy",
            secure: true,
            bindings: Vec::new(),
            offered: &["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"],
            fast: &["HT-SHA-256-NONE"],
        },
        Case {
            name: "no TLS",
            secure: false,
            bindings: Vec::new(),
            offered: &["SCRAM-SHA-256", "SCRAM-SHA-1"],
            fast: &[],
        },
    ];
    for case in cases {
        assert_eq!(
            mechanisms(case.secure, &case.bindings),
            case.offered,
            "{}",
            case.name
        );
        assert_eq!(
            fast_mechanisms(case.secure, &case.bindings),
            case.fast,
            "{}",
            case.name
        );
        for mechanism in ALL {
            let context = Context {
                secure: case.secure,
                bindings: case.bindings.clone(),
                fast: Some(Fast::default()),
                ..base.clone()
            };
            let (_, step) = Exchange::begin(mechanism, context, None).await;
            let taken = case.offered.contains(&mechanism) || case.fast.contains(&mechanism);
            let refused = match mechanism {
                _ if taken => None,
                "PLAIN" | "HT-SHA-256-NONE" | "HT-SHA-256-EXPR" | "HT-SHA-256-ENDP"
                    if !case.secure =>
                {
                    Some(Condition::EncryptionRequired)
                }
                _ => Some(Condition::InvalidMechanism),
            };
            assert_eq!(condition(&step), refused, "{} {mechanism}", case.name);
        }
    }
    for unknown in [
        "",
        "scram-sha-1",
        "DIGEST-MD5",
        "EXTERNAL",
        "ANONYMOUS",
        "HT-SHA-256-NONE",
    ] {
        let (_, step) = Exchange::begin(unknown, base.clone(), Some(b"")).await;
        assert_eq!(
            condition(&step),
            Some(Condition::InvalidMechanism),
            "{unknown}"
        );
    }
}

async fn by_token(context: &Context, mechanism: &str, token: &str, binding: &[u8]) -> Step {
    let message = [b"Initiator", binding].concat();
    let proof = Hash::Sha256.sign(token.as_bytes(), &message);
    let message = [b"Juliet\0".as_slice(), &proof].concat();
    let context = Context {
        fast: Some(Fast {
            client: "phone".to_owned(),
            ..Fast::default()
        }),
        ..context.clone()
    };
    Exchange::begin(mechanism, context, Some(&message)).await.1
}

#[tokio::test]
async fn a_token_logs_in_by_its_own_mechanism_on_the_bound_channel() {
    let context = context().await;
    for (mechanism, other, binding) in [
        ("HT-SHA-256-NONE", "HT-SHA-256-EXPR", &[][..]),
        ("HT-SHA-256-EXPR", "HT-SHA-256-NONE", &[7; 32]),
    ] {
        let issued = context
            .accounts
            .issue_token(&name("juliet"), "phone", mechanism)
            .await
            .unwrap();
        let token = issued.token.expose_secret();
        let step = by_token(&context, mechanism, token, binding).await;
        let answer = Hash::Sha256.sign(token.as_bytes(), &[b"Responder", binding].concat());
        let expected = Success {
            account: name("juliet"),
            data: Some(answer),
            rotate: false,
        };
        assert_eq!(step, Step::Success(expected), "{mechanism}");
        let wrong = Some(Condition::NotAuthorized);
        let step = by_token(&context, mechanism, "another", binding).await;
        assert_eq!(condition(&step), wrong);
        let step = by_token(&context, mechanism, token, &[8; 32]).await;
        assert_eq!(condition(&step), wrong);
        for binding in [&[][..], &[7; 32]] {
            let step = by_token(&context, other, token, binding).await;
            assert_eq!(condition(&step), wrong, "{other}");
        }
    }
}

#[test]
fn an_empty_message_has_a_sign() {
    assert_eq!(decode("=").unwrap(), b"");
    assert_eq!(decode("").unwrap(), b"");
    assert_eq!(decode(" YQ==\n").unwrap(), b"a");
    assert_eq!(encode(b""), "=");
    assert_eq!(encode(b"a"), "YQ==");
    for wrong in ["YQ", "Y?==", "YQ==YQ==", "é"] {
        assert_eq!(
            decode(wrong),
            Err(Condition::IncorrectEncoding.into()),
            "{wrong}"
        );
    }
}

/// What strangers send: something near a message, or anything.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        "[nyp]?(=tls-exporter)?,(a=[a-z@.=]{0,9})?,(m=x,)?n=(juliet|[a-z=2C3D]{0,6}),r=[ -~]{0,9}"
            .prop_map(String::into_bytes),
        "c=(biws|[A-Za-z=]{0,9}),r=[a-z]{0,9}(,p=[A-Za-z0-9=]{0,9})?".prop_map(String::into_bytes),
        "[a-z]{0,3}\0?(juliet)?\0?[a-z]{0,3}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_a_stranger_sends_logs_in_or_panics(
        choice in 0..ALL.len(),
        initial in proptest::option::of(message()),
        answers in proptest::collection::vec(message(), 0..3),
    ) {
        let mechanism = ALL.get(choice).copied().unwrap_or_default();
        // A password costs time: that part is tried elsewhere.
        prop_assume!(mechanism != "PLAIN" || initial.as_ref().is_some_and(|text| plain::parse(text).is_err()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let context = stranger().await;
            let (mut exchange, mut step) = Exchange::begin(mechanism, context, initial.as_deref()).await;
            for answer in answers {
                prop_assert!(account(&step).is_none());
                if mechanism == "PLAIN" {
                    break;
                }
                step = exchange.step(&answer).await;
            }
            prop_assert!(account(&step).is_none());
            Ok(())
        })?;
    }
}

/// As [`context`], without the time that a password takes.
async fn stranger() -> Context {
    let domain: jid::DomainPart = "example.org".parse().unwrap();
    let accounts = Accounts::open(Storage::in_memory().unwrap(), &domain)
        .await
        .unwrap();
    Context {
        accounts,
        secure: true,
        bindings: vec![ChannelBinding {
            name: TLS_EXPORTER,
            data: vec![7; 32],
        }],
        offered: mechanisms(true, &[]),
        fast: Some(Fast::default()),
    }
}
