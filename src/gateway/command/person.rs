//! What there is, how things are, and how the bot sees a person.

use anyhow::Result;

use super::parse::code;
use super::{Answer, Command, Context, Who, all, find, optional};
use crate::gateway::session::UsageRow;
use crate::gateway::{Inbound, Place, Standing};

pub(super) const HELP: Command = Command {
    name: "help",
    arguments: &[optional("command", "Command")],
    help: "what there is",
    who: Who::Everyone,
    run: |context| Box::pin(help(context)),
};

async fn help(context: Context) -> Result<Answer> {
    let Some(name) = context.argument("command") else {
        return Ok(list(context.standing).into());
    };
    let name = name.trim_start_matches('/');
    Ok(
        match find(name).filter(|command| command.is_for(context.standing)) {
            Some(command) => describe(command).into(),
            None => super::parse::unknown(&name.to_lowercase(), context.standing).into(),
        },
    )
}

fn list(standing: Standing) -> String {
    let lines = all()
        .filter(|command| command.is_for(standing))
        .map(|command| format!("- `{}`: {}", command.usage(), command.help));
    lines.collect::<Vec<_>>().join("\n")
}

fn describe(command: &Command) -> String {
    let mut lines = vec![format!("`{}`: {}.", command.usage(), command.help)];
    lines.extend(
        command
            .arguments
            .iter()
            .map(|argument| format!("- {}: {}", argument.name, argument.label)),
    );
    lines.join("\n")
}

pub(super) const USAGE: Command = Command {
    name: "usage",
    arguments: &[optional("days", "Days, today included")],
    help: "tokens and money used",
    who: Who::Everyone,
    run: |context| Box::pin(usage(context)),
};

async fn usage(context: Context) -> Result<Answer> {
    let days = context.argument("days").unwrap_or("1");
    let Some(days) = days
        .parse::<u32>()
        .ok()
        .filter(|days| (1..=366).contains(days))
    else {
        return Ok("How many days? From 1 to 366.".into());
    };
    let conversations = &context.services.conversations;
    let sender = context.inbound.sender.key();
    let own = totals(&conversations.usage(Some(&sender), days).await?);
    if !context.standing.operator {
        return Ok(own.into());
    }
    let all = totals(&conversations.usage(None, days).await?);
    Ok(format!("You:\n\n{own}\n\nAll:\n\n{all}").into())
}

/// One line a model over all days, and their sum.
fn totals(rows: &[UsageRow]) -> String {
    let mut models = std::collections::BTreeMap::<&str, (u64, u64, u64, f64)>::new();
    for row in rows {
        let input = row.tokens.input + row.tokens.cache_read + row.tokens.cache_write;
        let total = models.entry(&row.model).or_default();
        total.0 += row.turns;
        total.1 += input;
        total.2 += row.tokens.output;
        total.3 += row.cost;
    }
    if models.is_empty() {
        return "nothing yet".into();
    }
    let lines = models.iter().map(|(model, (turns, input, output, cost))| {
        let model = code(model);
        format!("- {model}: turns: {turns}, tokens: {input} in, {output} out, ${cost:.4}")
    });
    let cost: f64 = models.values().map(|total| total.3).sum();
    format!(
        "{}\n- together: ${cost:.4}",
        lines.collect::<Vec<_>>().join("\n")
    )
}

pub(super) const STATUS: Command = Command {
    name: "status",
    arguments: &[],
    help: "connection, model and queue",
    who: Who::Everyone,
    run: |context| Box::pin(status(context)),
};

async fn status(context: Context) -> Result<Answer> {
    let chat = context.chat();
    let (model, _) = chat.model(&context.inbound).await?;
    let (running, waiting) = chat.queue();
    let load = context.services.conversations.load();
    let connection = context
        .status()
        .map_or("unknown".to_owned(), |status| status.condition);
    Ok(format!(
        "- Connection: {connection}\n- Model: {}\n- This chat: {}, {waiting} waiting\n- All chats: {} running, {} waiting\n- Version: {}",
        code(&model.to_string()),
        if running { "an answer is being written" } else { "idle" },
        load.running,
        load.waiting,
        env!("CARGO_PKG_VERSION"),
    )
    .into())
}

pub(super) const WHOAMI: Command = Command {
    name: "whoami",
    arguments: &[],
    help: "how I see you",
    who: Who::Everyone,
    run: |context| Box::pin(whoami(context)),
};

async fn whoami(context: Context) -> Result<Answer> {
    Ok(see(&context.inbound, context.standing).into())
}

fn see(inbound: &Inbound, standing: Standing) -> String {
    let sender = &inbound.sender;
    let mut lines = vec![match (&sender.real, &inbound.place) {
        // The room may show it to me and not to everybody.
        (Some(_), Place::Room(_)) => "- Address: known to me".to_owned(),
        (Some(real), _) => format!("- Address: {}", code(real.as_str())),
        (None, _) => "- Address: hidden by the room".to_owned(),
    }];
    if let Some(nick) = &sender.nick {
        lines.push(format!("- Nick: {}", code(nick)));
    }
    lines.push(match &inbound.place {
        Place::Direct(_) => "- Here: a direct chat".to_owned(),
        Place::Room(room) => format!("- Here: the room {}", code(room.as_str())),
        Place::RoomPrivate(occupant) => {
            format!(
                "- Here: a private chat in {}",
                code(occupant.to_bare().as_str())
            )
        }
    });
    lines.push(
        match (standing.operator, standing.guest, sender.moderator) {
            (true, ..) => "- You are one of my operators.",
            (_, true, _) => "- You are a guest.",
            (.., true) => "- You may talk to me, and moderate this room.",
            _ => "- You may talk to me.",
        }
        .to_owned(),
    );
    lines.join("\n")
}

pub(super) const PING: Command = Command {
    name: "ping",
    arguments: &[],
    help: "whether I am there",
    who: Who::Everyone,
    run: |context| Box::pin(ping(context)),
};

async fn ping(_: Context) -> Result<Answer> {
    Ok("Pong.".into())
}

#[cfg(test)]
mod tests {
    use super::super::COMMANDS;
    use super::*;
    use crate::gateway::testing::inbound;

    const OPERATOR: Standing = Standing {
        operator: true,
        guest: false,
    };

    #[test]
    fn help_lists_what_one_may_use() {
        let everyone = list(Standing::default());
        assert!(
            everyone.contains("- `/help [command]`: what there is"),
            "{everyone}"
        );
        assert!(!everyone.contains("/allow"), "{everyone}");
        let operators = list(OPERATOR);
        assert!(
            operators.contains("- `/join room [nick]`: enter a room"),
            "{operators}"
        );
        assert_eq!(operators.lines().count(), COMMANDS.len());
    }

    #[test]
    fn usage_is_summed_by_model() {
        let row = |model: &str, turns, cost| UsageRow {
            day: "2026-11-20".into(),
            model: model.into(),
            turns,
            tokens: crate::llm::Usage {
                input: 10,
                output: 5,
                cache_read: 1,
                cache_write: 0,
            },
            cost,
        };
        assert_eq!(
            totals(&[row("a/b", 1, 0.5), row("a/b", 2, 0.25), row("c/d", 1, 0.0)]),
            "- `a/b`: turns: 3, tokens: 22 in, 10 out, $0.7500\n- `c/d`: turns: 1, tokens: 11 in, 5 out, $0.0000\n- together: $0.7500"
        );
        assert_eq!(totals(&[]), "nothing yet");
    }

    #[test]
    fn a_person_is_told_how_they_are_seen() {
        let jid = |jid: &str| jid::BareJid::new(jid).unwrap();
        let direct = inbound(Place::Direct(jid("alice@a.org")), "alice@a.org/x", "");
        assert_eq!(
            see(&direct, OPERATOR),
            "- Address: `alice@a.org`\n- Here: a direct chat\n- You are one of my operators."
        );
        let mut room = inbound(Place::Room(jid("r@c.org")), "r@c.org/`Al`", "");
        room.sender.moderator = true;
        assert_eq!(
            see(&room, Standing::default()),
            "- Address: hidden by the room\n- Nick: `ˋAlˋ`\n- Here: the room `r@c.org`\n- You may talk to me, and moderate this room."
        );
        room.sender.real = Some(jid("al@a.org"));
        assert!(!see(&room, Standing::default()).contains("al@a.org"));
    }
}
