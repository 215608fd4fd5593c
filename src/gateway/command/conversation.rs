//! What a person does with the conversation in this chat.

use anyhow::Result;
use bytes::Bytes;

use super::parse::code;
use super::{Answer, Command, Context, Who, optional, required, rest};
use crate::gateway::session::{ContextInfo, SessionInfo};
use crate::gateway::skills::Skills;

/// Sessions that `/sessions` shows.
const SHOWN: usize = 20;

pub(super) const NEW: Command = Command {
    name: "new",
    arguments: &[rest(optional("title", "Title"))],
    help: "start a new session; nothing is deleted",
    who: Who::Everyone,
    run: |context| Box::pin(new(context)),
};

async fn new(context: Context) -> Result<Answer> {
    let session = context
        .chat()
        .new_session(context.argument("title"))
        .await?;
    Ok(match code(&session.title) {
        title if title.is_empty() => {
            "A new session. `/sessions` leads back to the one before.".into()
        }
        title => {
            format!("A new session: {title}. `/sessions` leads back to the one before.").into()
        }
    })
}

pub(super) const CLEAR: Command = Command {
    name: "clear",
    arguments: &[],
    help: "forget the messages of this session",
    who: Who::Everyone,
    run: |context| Box::pin(clear(context)),
};

async fn clear(context: Context) -> Result<Answer> {
    Ok(match context.chat().clear().await? {
        0 => "There was nothing to forget.".into(),
        1 => "One message is forgotten.".into(),
        count => format!("{count} messages are forgotten.").into(),
    })
}

pub(super) const SESSIONS: Command = Command {
    name: "sessions",
    arguments: &[optional("number", "Number of the session to go on with")],
    help: "the sessions of this chat, or go on with one of them",
    who: Who::Everyone,
    run: |context| Box::pin(sessions(context)),
};

async fn sessions(context: Context) -> Result<Answer> {
    let chat = context.chat();
    let Some(number) = context.argument("number") else {
        return Ok(list(&chat.sessions().await?).into());
    };
    let Ok(number) = number.parse() else {
        return Ok("Which one? `/sessions` lists them by number.".into());
    };
    Ok(match chat.switch(number).await? {
        Some(session) => format!("We go on with session {number}{}.", titled(&session)).into(),
        None => format!("There is no session {number}; `/sessions` lists them.").into(),
    })
}

fn list(sessions: &[SessionInfo]) -> String {
    let lines = sessions
        .iter()
        .take(SHOWN)
        .enumerate()
        .map(|(index, session)| {
            let current = if session.current { " (this one)" } else { "" };
            format!(
                "{}. {}{}{current}",
                index + 1,
                date(session.created),
                titled(session)
            )
        });
    let mut lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return "Nothing was said here yet.".into();
    }
    if sessions.len() > SHOWN {
        lines.push(format!("\nand {} older ones.", sessions.len() - SHOWN));
    }
    lines.push("\n`/sessions N` goes on with one of them.".into());
    lines.join("\n")
}

fn titled(session: &SessionInfo) -> String {
    match code(&session.title) {
        title if title.is_empty() => String::new(),
        title => format!(", {title}"),
    }
}

/// The day in UTC of a time in milliseconds.
fn date(at: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(at.div_euclid(1_000))
        .map(|time| time.date().to_string())
        .unwrap_or_default()
}

pub(super) const TITLE: Command = Command {
    name: "title",
    arguments: &[rest(optional("text", "Title"))],
    help: "show or change the title of this session",
    who: Who::Everyone,
    run: |context| Box::pin(title(context)),
};

async fn title(context: Context) -> Result<Answer> {
    let chat = context.chat();
    if let Some(title) = context.argument("text") {
        chat.set_title(title).await?;
        return Ok(format!("This session is called {} now.", code(title)).into());
    }
    Ok(match code(&chat.title().await?) {
        title if title.is_empty() => "This session has no title yet.".into(),
        title => format!("This session is called {title}.").into(),
    })
}

pub(super) const FORK: Command = Command {
    name: "fork",
    arguments: &[rest(optional("title", "Title"))],
    help: "go on in a copy of this session",
    who: Who::Everyone,
    run: |context| Box::pin(fork(context)),
};

async fn fork(context: Context) -> Result<Answer> {
    let session = context.chat().fork(context.argument("title")).await?;
    Ok(format!(
        "We go on in a copy{}. `/sessions` leads back.",
        titled(&session)
    )
    .into())
}

pub(super) const STOP: Command = Command {
    name: "stop",
    arguments: &[],
    help: "stop the answer that is being written",
    who: Who::Everyone,
    run: |context| Box::pin(stop(context)),
};

async fn stop(context: Context) -> Result<Answer> {
    Ok(if context.chat().stop(&context.inbound).await {
        Answer::Told
    } else {
        "Nothing is running.".into()
    })
}

pub(super) const RETRY: Command = Command {
    name: "retry",
    arguments: &[],
    help: "answer the last question again",
    who: Who::Everyone,
    run: |context| Box::pin(retry(context)),
};

async fn retry(context: Context) -> Result<Answer> {
    Ok(if context.chat().retry().await {
        Answer::Told
    } else {
        "There is no question to answer again.".into()
    })
}

pub(super) const UNDO: Command = Command {
    name: "undo",
    arguments: &[],
    help: "take back the last question and its answer",
    who: Who::Everyone,
    run: |context| Box::pin(undo(context)),
};

async fn undo(context: Context) -> Result<Answer> {
    Ok(match context.chat().undo().await? {
        Some(question) => {
            let start: String = question.chars().take(80).collect();
            format!("Taken back: {}", code(&start)).into()
        }
        None => "There is nothing to take back.".into(),
    })
}

pub(super) const COMPACT: Command = Command {
    name: "compact",
    arguments: &[],
    help: "summarise what was said, to make room",
    who: Who::Everyone,
    run: |context| Box::pin(compact(context)),
};

async fn compact(context: Context) -> Result<Answer> {
    let (before, after) = context.chat().compact(&context.inbound).await?;
    Ok(if after < before {
        format!("Compacted: about {before} tokens are {after} now.").into()
    } else {
        format!("There is nothing to compact yet: about {before} tokens.").into()
    })
}

pub(super) const CONTEXT: Command = Command {
    name: "context",
    arguments: &[],
    help: "what the model sees, and how full it is",
    who: Who::Everyone,
    run: |context| Box::pin(show_context(context)),
};

async fn show_context(context: Context) -> Result<Answer> {
    let info = context.chat().context(&context.inbound).await?;
    Ok(describe(&info).into())
}

fn describe(info: &ContextInfo) -> String {
    let full = match (info.tokens.saturating_mul(100)).checked_div(u64::from(info.window)) {
        Some(percent) => format!(" of {} ({percent} %)", info.window),
        None => String::new(),
    };
    let left_out = match info.left_out {
        0 => String::new(),
        count => format!(" ({count} older ones are summed up or left out)"),
    };
    let instructions: String = info.system.chars().take(1_000).collect();
    let more = if instructions.len() < info.system.len() {
        "…"
    } else {
        ""
    };
    // A longer fence than any within.
    let fence = "`".repeat(instructions.matches('`').count().max(2) + 1);
    format!(
        "- Model: {}\n- Messages: {}{left_out}\n- Tokens: about {}{full}\n\nInstructions:\n\n{fence}\n{instructions}{more}\n{fence}",
        code(&info.model.to_string()),
        info.messages,
        info.tokens,
    )
}

pub(super) const SYSTEM: Command = Command {
    name: "system",
    arguments: &[rest(optional("text", "Instructions, or \"reset\""))],
    help: "this chat's own instructions; in rooms for moderators",
    who: Who::Everyone,
    run: |context| Box::pin(system(context)),
};

async fn system(context: Context) -> Result<Answer> {
    let chat = context.chat();
    let Some(text) = context.argument("text") else {
        return Ok(match chat.system().await? {
            Some(text) => format!(
                "This chat's own instructions:\n\n> {}",
                text.replace('\n', "\n> ")
            )
            .into(),
            None => "This chat has no instructions of its own.".into(),
        });
    };
    if context.inbound.place.is_room() && !context.inbound.sender.moderator {
        return Ok("In a room this is for moderators.".into());
    }
    if text == "reset" {
        chat.set_system(None).await?;
        return Ok("This chat's own instructions are gone.".into());
    }
    chat.set_system(Some(text)).await?;
    Ok("These are this chat's instructions now. `/system reset` takes them back.".into())
}

pub(super) const SKILLS: Command = Command {
    name: "skills",
    arguments: &[],
    help: "the skills there are",
    who: Who::Everyone,
    run: |context| Box::pin(skills(context)),
};

async fn skills(context: Context) -> Result<Answer> {
    let skills = discover(&context).await?;
    let taken = context.chat().skills().await?;
    let lines = skills.all().map(|skill| {
        let mark = if taken.contains(&skill.name) {
            " (in use)"
        } else {
            ""
        };
        format!("- {}{mark}: {}", code(&skill.name), skill.description)
    });
    let mut lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return Ok("There are no skills.".into());
    }
    lines.push("\n`/skill name` takes one.".into());
    Ok(lines.join("\n").into())
}

pub(super) const SKILL: Command = Command {
    name: "skill",
    arguments: &[required("name", "Skill")],
    help: "use a skill in this chat",
    who: Who::Everyone,
    run: |context| Box::pin(skill(context)),
};

async fn skill(context: Context) -> Result<Answer> {
    let name = context.argument("name").unwrap_or_default();
    if discover(&context).await?.get(name).is_none() {
        return Ok(format!("There is no skill {}; `/skills` lists them.", code(name)).into());
    }
    Ok(if context.chat().add_skill(name).await? {
        format!("This chat uses the skill {} now.", code(name)).into()
    } else {
        format!("This chat uses the skill {} already.", code(name)).into()
    })
}

/// Reads files.
async fn discover(context: &Context) -> Result<Skills> {
    let config = context.config();
    Ok(tokio::task::spawn_blocking(move || Skills::discover(&config)).await?)
}

pub(super) const EXPORT: Command = Command {
    name: "export",
    arguments: &[],
    help: "this session as a Markdown file",
    who: Who::Everyone,
    run: |context| Box::pin(export(context)),
};

async fn export(context: Context) -> Result<Answer> {
    let text = context.chat().export().await?;
    let control = &context.services.control;
    let name = format!("conversation-{}.md", date(crate::gateway::now()));
    let place = &context.inbound.place;
    let bytes = Bytes::from(text.clone());
    Ok(
        match control
            .share(context.account_id(), place, &name, bytes)
            .await
        {
            Ok(()) => Answer::Told,
            Err(err) => {
                format!("As a file it did not work, since {err}. So here it is:\n\n{text}").into()
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(title: &str, current: bool) -> SessionInfo {
        SessionInfo {
            id: "x".into(),
            title: title.into(),
            created: 1_790_000_000_000,
            current,
        }
    }

    #[test]
    fn sessions_are_listed_by_number() {
        assert_eq!(
            list(&[session("Now *here*", true), session("", false)]),
            "1. 2026-09-21, `Now *here*` (this one)\n2. 2026-09-21\n\n`/sessions N` goes on with one of them."
        );
        let many = vec![session("x", false); SHOWN + 2];
        assert!(list(&many).contains("and 2 older ones."));
        assert_eq!(list(&[]), "Nothing was said here yet.");
    }

    #[test]
    fn the_context_says_how_full_it_is() {
        let info = ContextInfo {
            model: "openai/gpt-4o".parse().unwrap(),
            messages: 7,
            left_out: 3,
            tokens: 500,
            window: 1_000,
            system: "Be kind. ```x```".into(),
        };
        let text = describe(&info);
        assert!(text.contains("about 500 of 1000 (50 %)"), "{text}");
        assert!(text.contains("3 older ones"), "{text}");
        assert!(
            text.ends_with("\n```````\nBe kind. ```x```\n```````"),
            "{text}"
        );
        let unknown = ContextInfo { window: 0, ..info };
        assert!(describe(&unknown).contains("about 500\n"));
    }
}
