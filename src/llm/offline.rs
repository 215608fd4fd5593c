//! The `offline` provider: no network, no key. Its answers are canned (`prompts/offline.md`) and say so, and how to get
//! a model; they come in pieces, so that everything around a model can be tried without one.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use minijinja::{Environment, context};

use super::{
    Content, Error, Finish, Part, Parts, Provider, Request, Role, Served, Usage, estimate_tokens,
    turns,
};

const ANSWER: &str = include_str!("../../prompts/offline.md");
/// So much of the question is said back.
const ECHO: usize = 80;

#[derive(Debug)]
pub struct Offline;

/// As `[providers.offline]` is served.
pub fn served() -> Served {
    Served {
        provider: Arc::new(Offline),
        idle_timeout: Duration::from_mins(1),
        models: Vec::new(),
        free: true,
    }
}

impl Provider for Offline {
    fn stream(&self, _model: &str, request: Request) -> BoxFuture<'static, Result<Parts, Error>> {
        Box::pin(async move {
            let answer = answer(&request)?;
            let usage = Usage {
                input: u64::from(request.estimate_tokens()),
                output: u64::from(estimate_tokens(&answer)),
                ..Usage::default()
            };
            let words = answer
                .split_inclusive(' ')
                .map(|word| Part::Text(word.into()));
            let end = [Part::Usage(usage), Part::Finish(Finish::Complete)];
            let parts: Vec<_> = words.chain(end).map(Ok).collect();
            Ok(futures::stream::iter(parts).boxed())
        })
    }

    fn models(&self) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        Box::pin(async { Ok(vec!["offline".into()]) })
    }
}

fn answer(request: &Request) -> Result<String, Error> {
    let question: String = question(request)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let mut echo: String = question.chars().take(ECHO).collect();
    if echo.len() < question.len() {
        echo.push('…');
    }
    Environment::new()
        .render_str(ANSWER, context! { question => echo })
        .map_err(|err| Error::Protocol(format!("prompts/offline.md: {err}")))
}

/// The text of what the person said last.
fn question(request: &Request) -> String {
    let turns = turns(request.messages.clone());
    let last = turns.iter().rfind(|turn| turn.role == Role::User);
    let texts = last.into_iter().flat_map(|turn| &turn.content);
    texts
        .filter_map(|content| match content {
            Content::Text(text) => Some(text.as_str()),
            Content::Image(_) => None,
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Message;

    async fn parts(question: &str) -> Vec<Part> {
        let request = Request {
            messages: vec![Message {
                role: Role::User,
                content: vec![Content::Text(question.into())],
            }],
            ..Request::default()
        };
        let parts = Offline.stream("offline", request).await.unwrap();
        parts.map(Result::unwrap).collect().await
    }

    fn text(parts: &[Part]) -> String {
        let texts = parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    #[tokio::test]
    async fn an_answer_comes_in_pieces_with_usage_and_an_end() {
        let parts = parts("Hello?").await;
        assert!(parts.len() > 20);
        assert_eq!(parts.last(), Some(&Part::Finish(Finish::Complete)));
        assert!(
            parts
                .iter()
                .any(|part| matches!(part, Part::Usage(usage) if usage.output > 50))
        );
        assert!(text(&parts).contains("You wrote: “Hello?”."));
    }

    #[tokio::test]
    async fn a_question_is_said_back_as_data_and_not_at_length() {
        let said = text(&parts("{{ 7 * 7 }}\n\nand").await);
        assert!(said.contains("“{{ 7 * 7 }} and”"), "{said}");
        let said = text(&parts(&"ä".repeat(1000)).await);
        assert!(said.contains(&format!("“{}…”", "ä".repeat(ECHO))), "{said}");
        let said = text(&parts(" ").await);
        assert!(!said.contains("You wrote"), "{said}");
    }
}
