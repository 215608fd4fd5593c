//! What operators do with the bot itself.

use anyhow::Result;
use jid::{BareJid, Jid};

use super::parse::code;
use super::{AccountStatus, Answer, Command, Context, JID, Who, optional, required, rest};
use crate::config::reload::Reloaded;
use crate::gateway::{Place, allowance};

/// Lines of the log, unless said otherwise and at most.
const LINES: usize = 20;
const MOST_LINES: usize = 200;

pub(super) const JOIN: Command = Command {
    name: "join",
    arguments: &[
        required("room", "Room (JID)"),
        rest(optional("nick", "Nickname")),
    ],
    help: "enter a room",
    who: Who::Operator,
    run: |context| Box::pin(join(context)),
};

async fn join(context: Context) -> Result<Answer> {
    let Some(room) = room(&context) else {
        return Ok(NO_ROOM.into());
    };
    let nick = context.argument("nick");
    let control = &context.services.control;
    control.join(context.account_id(), &room, nick).await?;
    Ok(format!(
        "I enter {}. `/rooms` shows how that went.",
        code(room.as_str())
    )
    .into())
}

pub(super) const LEAVE: Command = Command {
    name: "leave",
    arguments: &[required("room", "Room (JID)")],
    help: "leave a room",
    who: Who::Operator,
    run: |context| Box::pin(leave(context)),
};

async fn leave(context: Context) -> Result<Answer> {
    let Some(room) = room(&context) else {
        return Ok(NO_ROOM.into());
    };
    let known = context
        .status()
        .is_some_and(|status| status.rooms.iter().any(|known| known.room == room));
    if !known {
        return Ok(format!("I am not in {}.", code(room.as_str())).into());
    }
    context
        .services
        .control
        .leave(context.account_id(), &room)
        .await?;
    Ok(format!("I leave {}.", code(room.as_str())).into())
}

const NO_ROOM: &str = "That is no room's address. One looks like `room@conference.example.com`.";

fn room(context: &Context) -> Option<BareJid> {
    let text = context.argument("room")?;
    let text = text.strip_prefix("xmpp:").unwrap_or(text);
    // Links to rooms end in `?join` (XEP-0147).
    let text = text.split_once('?').map_or(text, |(room, _)| room);
    BareJid::new(text).ok().filter(|room| room.node().is_some())
}

pub(super) const ROOMS: Command = Command {
    name: "rooms",
    arguments: &[],
    help: "the rooms I am in",
    who: Who::Operator,
    run: |context| Box::pin(rooms(context)),
};

async fn rooms(context: Context) -> Result<Answer> {
    Ok(match context.status() {
        Some(status) if !status.rooms.is_empty() => list_rooms(&status).into(),
        _ => "I am in no room.".into(),
    })
}

fn list_rooms(status: &AccountStatus) -> String {
    let lines = status.rooms.iter().map(|room| {
        let (jid, nick) = (code(room.room.as_str()), code(&room.nick));
        format!("- {jid} as {nick}: {}", room.condition)
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) const SAY: Command = Command {
    name: "say",
    arguments: &[JID, rest(required("text", "Text"))],
    help: "send a message as me",
    who: Who::Operator,
    run: |context| Box::pin(say(context)),
};

async fn say(context: Context) -> Result<Answer> {
    let text = context.argument("text").unwrap_or_default();
    let to = context.argument("JID").unwrap_or_default();
    let to = to.strip_prefix("xmpp:").unwrap_or(to);
    let rooms = context
        .status()
        .map(|status| status.rooms)
        .unwrap_or_default();
    let is_room = |jid: &BareJid| rooms.iter().any(|known| known.room == *jid);
    let Some(place) = Jid::new(to).ok().map(|jid| place(jid, is_room)) else {
        return Ok("That is no address.".into());
    };
    let conversations = &context.services.conversations;
    conversations
        .say(context.account_id(), &place, text, None)
        .await?;
    Ok(format!("Said to {}.", code(place.address().as_str())).into())
}

fn place(jid: Jid, is_room: impl Fn(&BareJid) -> bool) -> Place {
    match jid.try_into_full() {
        Ok(full) if is_room(&full.to_bare()) => Place::RoomPrivate(full),
        Ok(full) => Place::Direct(full.into_bare()),
        Err(bare) if is_room(&bare) => Place::Room(bare),
        Err(bare) => Place::Direct(bare),
    }
}

pub(super) const BUDGET: Command = Command {
    name: "budget",
    arguments: &[
        optional("JID", "Address (JID)"),
        optional("usd", "USD a day, or \"reset\""),
    ],
    help: "what may be spent a day, by all or by one",
    who: Who::Operator,
    run: |context| Box::pin(budget(context)),
};

async fn budget(context: Context) -> Result<Answer> {
    let budget = context.config().budget.clone();
    let storage = &context.services.storage;
    let Some(who) = context.argument("JID") else {
        let own = allowance::all(storage).await?;
        let mut lines = vec![
            format!("- All: {}", dollars(budget.usd_per_day)),
            format!("- Each: {}", dollars(budget.usd_per_jid_per_day)),
        ];
        lines.extend(
            own.into_iter()
                .map(|(jid, usd)| format!("- {}: {}", code(&jid), dollars(usd))),
        );
        return Ok(lines.join("\n").into());
    };
    let Ok(jid) = BareJid::new(who) else {
        return Ok("That is no address.".into());
    };
    let usd = match context.argument("usd") {
        None => allowance::get(storage, jid.as_str()).await?,
        Some("reset") => {
            allowance::set(storage, &jid, None).await?;
            None
        }
        Some(text) => match text.trim_start_matches('$').parse::<f64>() {
            Ok(usd) if usd.is_finite() && usd >= 0.0 => {
                allowance::set(storage, &jid, Some(usd)).await?;
                Some(usd)
            }
            _ => return Ok("How many dollars a day? `0` is no limit, `reset` the usual.".into()),
        },
    };
    let usd = usd.unwrap_or(budget.usd_per_jid_per_day);
    Ok(format!("{}: {}", code(jid.as_str()), dollars(usd)).into())
}

fn dollars(usd: f64) -> String {
    if usd > 0.0 {
        format!("${usd:.2} a day")
    } else {
        "no limit".into()
    }
}

pub(super) const RELOAD: Command = Command {
    name: "reload",
    arguments: &[],
    help: "read the configuration again",
    who: Who::Operator,
    run: |context| Box::pin(reload(context)),
};

async fn reload(context: Context) -> Result<Answer> {
    Ok(match context.services.control.reload().await {
        Ok(reloaded) => told(&reloaded).into(),
        // The operator's own file: what is wrong with it is for them to know.
        Err(err) => fenced(&format!("Nothing was changed.\n{err:#}")).into(),
    })
}

fn told(reloaded: &Reloaded) -> String {
    let lines = reloaded.lines().iter().map(|line| format!("- {line}"));
    let lines = reloaded.heading().into_iter().chain(lines);
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) const ACCOUNTS: Command = Command {
    name: "accounts",
    arguments: &[],
    help: "my accounts and how they are",
    who: Who::Operator,
    run: |context| Box::pin(accounts(context)),
};

async fn accounts(context: Context) -> Result<Answer> {
    let accounts = context.services.control.accounts();
    let lines = accounts.iter().map(|account| {
        let (id, jid) = (&account.id, code(&account.jid));
        format!(
            "- {id}, {jid}: {}, rooms: {}",
            account.condition,
            account.rooms.len()
        )
    });
    Ok(lines.collect::<Vec<_>>().join("\n").into())
}

pub(super) const LOG: Command = Command {
    name: "log",
    arguments: &[optional("n", "Lines")],
    help: "the last lines of the log",
    who: Who::Operator,
    run: |context| Box::pin(log(context)),
};

async fn log(context: Context) -> Result<Answer> {
    let count = match context.argument("n").map(str::parse) {
        None => LINES,
        Some(Ok(count)) if (1..=MOST_LINES).contains(&count) => count,
        Some(_) => return Ok(format!("How many lines? From 1 to {MOST_LINES}.").into()),
    };
    Ok(fenced(&context.services.control.log(count).join("\n")).into())
}

/// As it is, whatever it holds.
fn fenced(text: &str) -> String {
    format!("```\n{}\n```", text.replace("```", "ˋˋˋ"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reload::Applied;

    #[test]
    fn what_is_said_to_a_room_goes_to_the_room() {
        let room = BareJid::new("r@c.org").unwrap();
        let to = |text: &str| place(Jid::new(text).unwrap(), |jid| *jid == room);
        assert!(matches!(to("r@c.org"), Place::Room(_)));
        assert!(matches!(to("r@c.org/nick"), Place::RoomPrivate(_)));
        assert!(matches!(to("a@b.org"), Place::Direct(_)));
        assert!(matches!(to("a@b.org/phone"), Place::Direct(_)));
    }

    #[test]
    fn a_reload_with_nothing_new_tells_what_was_applied_last() {
        let changes = vec!["log.level: applied".to_owned()];
        let now = Reloaded {
            changes: changes.clone(),
            last: None,
        };
        assert_eq!(told(&now), "- log.level: applied");
        let at = "13:01:22".to_owned();
        let before = Reloaded {
            changes: Vec::new(),
            last: Some(Applied { at, changes }),
        };
        assert_eq!(
            told(&before),
            "Nothing has changed since 13:01:22, when this was applied:\n- log.level: applied"
        );
        let never = Reloaded::default();
        assert_eq!(told(&never), "Nothing has changed since the start.");
    }

    #[test]
    fn a_fence_is_not_ended_by_what_is_in_it() {
        assert_eq!(fenced("a\n```\nb"), "```\na\nˋˋˋ\nb\n```");
    }
}
