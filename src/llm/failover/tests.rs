//! Failover with providers that answer from a script, in paused time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use futures::future::BoxFuture;
use futures::stream;

use super::*;
use crate::llm::{Finish, Models, Provider};

/// What a scripted provider does with a request.
#[derive(Clone)]
enum Act {
    Refuse(Error),
    /// Never opens.
    Silence,
    /// Parts, each after so many seconds, and then the end, an error, or nothing for ever.
    Say(Vec<(u64, Part)>, Then),
}

#[derive(Clone)]
enum Then {
    End,
    Fail(Error),
    Hang,
}

/// Acts in order; the last one again and again.
struct Script {
    acts: Vec<Act>,
    asked: Mutex<usize>,
}

impl Provider for Script {
    fn stream(&self, _: &str, _: Request) -> BoxFuture<'static, Result<Parts, Error>> {
        let mut asked = self.asked.lock().unwrap();
        let act = self.acts.get(*asked).or(self.acts.last()).cloned().unwrap();
        *asked += 1;
        Box::pin(async move {
            match act {
                Act::Refuse(error) => Err(error),
                Act::Silence => std::future::pending().await,
                Act::Say(parts, then) => {
                    let parts = stream::iter(parts).then(|(seconds, part)| async move {
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                        Ok(part)
                    });
                    Ok(match then {
                        Then::End => parts.boxed(),
                        Then::Fail(error) => parts.chain(stream::iter([Err(error)])).boxed(),
                        Then::Hang => parts.chain(stream::pending()).boxed(),
                    })
                }
            }
        })
    }

    fn models(&self) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn id(provider: &str) -> ModelId {
    format!("{provider}/m").parse().unwrap()
}

/// Providers `a`, `b`, … with these scripts; `a` is chosen, the others follow. Idle after 10 s, cooldown 60 s.
fn models(scripts: Vec<Vec<Act>>) -> (Models, Vec<Arc<Script>>) {
    let scripts: Vec<Arc<Script>> = scripts
        .into_iter()
        .map(|acts| {
            Arc::new(Script {
                acts,
                asked: Mutex::new(0),
            })
        })
        .collect();
    let names: Vec<String> = ('a'..='z').take(scripts.len()).map(String::from).collect();
    let providers: BTreeMap<String, Served> = names
        .iter()
        .zip(&scripts)
        .map(|(name, script)| {
            let served = Served {
                provider: Arc::<Script>::clone(script),
                idle_timeout: Duration::from_secs(10),
                models: Vec::new(),
                free: false,
            };
            (name.clone(), served)
        })
        .collect();
    let fallbacks = names.iter().skip(1).map(|name| id(name)).collect();
    let models = Models::new(providers, id("a"), fallbacks, Duration::from_mins(1)).unwrap();
    (models, scripts)
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

fn answer(said: &str) -> Act {
    let parts = vec![(0, text(said)), (0, Part::Finish(Finish::Complete))];
    Act::Say(parts, Then::End)
}

/// What is said and which models are switched to, as one line; then how it failed.
async fn run(models: &Models) -> (String, Option<Failure>) {
    let mut events = models.ask(&id("a"), Request::default());
    let mut line = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Part(Part::Text(text))) => line.push_str(&text),
            Ok(Event::Part(_)) => {}
            Ok(Event::Switched { from, to, .. }) => {
                write!(line, "[{}>{}]", from.provider, to.provider).unwrap();
            }
            Err(failure) => {
                assert!(
                    events.next().await.is_none(),
                    "Something follows the failure"
                );
                return (line, Some(failure));
            }
        }
    }
    (line, None)
}

fn busy(retry_after: Option<u64>) -> Act {
    Act::Refuse(Error::RateLimited {
        retry_after: retry_after.map(Duration::from_secs),
    })
}

fn broken() -> Act {
    Act::Refuse(Error::Unavailable {
        status: 500,
        retry_after: None,
    })
}

#[tokio::test(start_paused = true)]
async fn which_failures_hand_over_and_which_end_the_turn() {
    struct Row {
        name: &'static str,
        first: Act,
        line: &'static str,
        failure: Option<&'static str>,
    }
    let say = |parts: &[(u64, Part)], then| Act::Say(parts.to_vec(), then);
    let network = || Error::Network("cut".into());
    let row = |name, first, line, failure| Row {
        name,
        first,
        line,
        failure,
    };
    let table = [
        row("an answer", answer("hi"), "hi", None),
        row("rate limit", busy(None), "[a>b]ok", None),
        row("server error", broken(), "[a>b]ok", None),
        row("network", Act::Refuse(network()), "[a>b]ok", None),
        row("no credit", Act::Refuse(Error::NoCredit), "[a>b]ok", None),
        row("no head", Act::Silence, "[a>b]ok", None),
        row("no first token", say(&[], Then::Hang), "[a>b]ok", None),
        row(
            "only signs of life",
            say(&vec![(6, Part::Thinking(String::new())); 100], Then::End),
            "[a>b]ok",
            None,
        ),
        row(
            "thoughts, then cut",
            say(&[(0, Part::Thinking("Hm".into()))], Then::Fail(network())),
            "[a>b]ok",
            None,
        ),
        row(
            "an end without a reason",
            say(&[], Then::End),
            "[a>b]ok",
            None,
        ),
        row(
            "long thoughts",
            say(
                &[
                    (9, Part::Thinking("Hm".into())),
                    (9, Part::Thinking("Hm".into())),
                    (9, text("hi")),
                    (0, Part::Finish(Finish::Complete)),
                ],
                Then::End,
            ),
            "hi",
            None,
        ),
        row(
            "text, then cut",
            say(&[(0, text("h"))], Then::Fail(network())),
            "h",
            Some("Network(\"cut\") partial"),
        ),
        row(
            "text, then silence",
            say(&[(0, text("h"))], Then::Hang),
            "h",
            Some("TimedOut partial"),
        ),
        row(
            "silence behind the end",
            say(
                &[(0, text("hi")), (0, Part::Finish(Finish::Complete))],
                Then::Hang,
            ),
            "hi",
            None,
        ),
        row(
            "too long",
            Act::Refuse(Error::ContextTooLong),
            "",
            Some("ContextTooLong"),
        ),
        row(
            "a refused key",
            Act::Refuse(Error::Unauthorized { status: 401 }),
            "",
            Some("Unauthorized { status: 401 }"),
        ),
        row(
            "refused content",
            Act::Refuse(Error::ContentRefused),
            "",
            Some("ContentRefused"),
        ),
    ];
    for row in table {
        let (models, _) = models(vec![vec![row.first], vec![answer("ok")]]);
        let (line, failure) = run(&models).await;
        let failure = failure.map(|failure| {
            format!(
                "{:?}{}",
                failure.error,
                if failure.partial { " partial" } else { "" }
            )
        });
        assert_eq!(
            (line.as_str(), failure.as_deref()),
            (row.line, row.failure),
            "{}",
            row.name
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_model_is_left_after_its_idle_timeout() {
    let (models, _) = models(vec![vec![Act::Silence], vec![answer("ok")]]);
    let start = Instant::now();
    run(&models).await;
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_failed_three_times_in_a_row_rests() {
    let (models, scripts) = models(vec![
        vec![broken(), broken(), broken(), answer("back")],
        vec![answer("ok")],
    ]);
    let asked = || *scripts[0].asked.lock().unwrap();
    for _ in 0..5 {
        // The fourth and fifth time nobody asks it.
        assert!(run(&models).await.0.ends_with("ok"));
    }
    assert_eq!(asked(), 3);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(run(&models).await.0, "back");
    assert_eq!(run(&models).await.0, "back");
}

#[tokio::test(start_paused = true)]
async fn a_success_between_failures_starts_the_count_anew() {
    let (models, scripts) = models(vec![
        vec![
            broken(),
            broken(),
            answer("a"),
            broken(),
            broken(),
            answer("a"),
        ],
        vec![answer("ok")],
    ]);
    for _ in 0..6 {
        run(&models).await;
    }
    assert_eq!(*scripts[0].asked.lock().unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_at_once() {
    let (models, scripts) = models(vec![
        vec![busy(Some(30)), answer("back")],
        vec![answer("ok")],
    ]);
    assert_eq!(run(&models).await.0, "[a>b]ok");
    assert_eq!(models.resting(), [(id("a"), Duration::from_secs(30))]);
    assert_eq!(run(&models).await.0, "ok");
    assert_eq!(*scripts[0].asked.lock().unwrap(), 1);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(models.resting(), []);
    assert_eq!(run(&models).await.0, "back");
}

#[tokio::test(start_paused = true)]
async fn when_all_are_down_the_most_telling_error_says_when_to_try_again() {
    let (models, scripts) = models(vec![
        vec![Act::Refuse(Error::Network("gone".into()))],
        vec![busy(Some(90))],
        vec![Act::Refuse(Error::Unavailable {
            status: 503,
            retry_after: Some(Duration::from_secs(40)),
        })],
    ]);
    let (line, failure) = run(&models).await;
    let failure = failure.unwrap();
    assert_eq!(line, "[a>b][b>c]");
    assert_eq!(failure.model, id("b"));
    assert!(matches!(failure.error, Error::RateLimited { .. }));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(40)));
    // Twice more, and the first rests too: then nobody is asked, and the time that is left is said.
    run(&models).await;
    run(&models).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let (line, failure) = run(&models).await;
    assert_eq!(line, "");
    assert_eq!(failure.unwrap().retry_after, Some(Duration::from_secs(30)));
    let asked: Vec<usize> = scripts
        .iter()
        .map(|script| *script.asked.lock().unwrap())
        .collect();
    assert_eq!(asked, [3, 1, 1]);
}

#[tokio::test]
async fn a_model_without_a_provider_does_not_exist() {
    let (models, _) = models(vec![vec![answer("ok")]]);
    let mut events = models.ask(&id("nobody"), Request::default());
    let failure = events.next().await.unwrap().unwrap_err();
    assert!(matches!(failure.error, Error::NoSuchModel(_)));
}
