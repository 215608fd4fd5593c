//! Who may talk: the first operator, and what operators decide about others.

use anyhow::Result;
use jid::BareJid;

use super::parse::code;
use super::{Answer, Command, Context, JID, Who, optional, required};
use crate::gateway::access::{Access, Record};
use crate::gateway::admission::Grant;
use crate::gateway::pairing::{Claimed, parse_duration};
use crate::gateway::{Place, now};

pub(super) const CLAIM: Command = Command {
    name: "claim",
    arguments: &[required("code", "Code from the log")],
    help: "become the first operator",
    who: Who::Everyone,
    run: |context| Box::pin(claim(context)),
};

async fn claim(context: Context) -> Result<Answer> {
    let Place::Direct(jid) = &context.inbound.place else {
        return Ok("Please claim in a direct chat with me.".into());
    };
    let account = context.account_id();
    let attempt = context.argument("code").unwrap_or_default();
    Ok(match context.services.control.claim(account, attempt) {
        Claimed::Yes => {
            let access = &context.services.access;
            access
                .grant(account, jid, Grant::Operator, "/claim")
                .await?;
            "You are my operator now. `/help` lists what that means.".into()
        }
        Claimed::Wrong { left } => format!("That is not the code; {left} attempts are left.").into(),
        Claimed::Closed => {
            "There is nothing to claim: I have an operator, or there were five wrong codes since I started.".into()
        }
    })
}

pub(super) const ALLOW: Command = Command {
    name: "allow",
    arguments: &[JID],
    help: "let somebody talk to me",
    who: Who::Operator,
    run: |context| Box::pin(allow(context)),
};

async fn allow(context: Context) -> Result<Answer> {
    grant(&context, Grant::Allow).await
}

pub(super) const GUEST: Command = Command {
    name: "guest",
    arguments: &[JID, optional("time", "30m, 24h, 7d")],
    help: "let somebody talk to me for a time, usually 24h",
    who: Who::Operator,
    run: |context| Box::pin(guest(context)),
};

async fn guest(context: Context) -> Result<Answer> {
    let time = context.argument("time").unwrap_or("24h");
    let Some(duration) = parse_duration(time) else {
        return Ok("How long? `30m`, `24h` and `7d` are times that I understand.".into());
    };
    let milliseconds = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let until = now().saturating_add(milliseconds);
    grant(&context, Grant::Guest { until }).await
}

pub(super) const BLOCK: Command = Command {
    name: "block",
    arguments: &[JID],
    help: "never answer somebody",
    who: Who::Operator,
    run: |context| Box::pin(block(context)),
};

async fn block(context: Context) -> Result<Answer> {
    grant(&context, Grant::Block).await
}

async fn grant(context: &Context, grant: Grant) -> Result<Answer> {
    let Some(jid) = jid(context) else {
        return Ok(NO_JID.into());
    };
    let by = context.inbound.sender.key();
    let access = &context.services.access;
    access.grant(context.account_id(), &jid, grant, &by).await?;
    if grant != Grant::Block {
        let control = &context.services.control;
        control.let_in(context.account_id(), &jid).await;
    }
    Ok(format!("{}: {}.", code(jid.as_str()), describe(grant, now())).into())
}

pub(super) const ACCESS: Command = Command {
    name: "access",
    arguments: &[
        optional("JID", "Address (JID)"),
        optional("reset", "\"reset\" takes the decision back"),
    ],
    help: "who was allowed or blocked; take it back",
    who: Who::Operator,
    run: |context| Box::pin(access(context)),
};

async fn access(context: Context) -> Result<Answer> {
    let (account, access) = (context.account_id(), &context.services.access);
    if context.argument("JID").is_none() {
        return Ok(list(access.list(account).await?, now()).into());
    }
    let Some(jid) = jid(&context) else {
        return Ok(NO_JID.into());
    };
    Ok(match context.argument("reset") {
        Some("reset") => reset(access, account, &jid).await?.into(),
        Some(_) => format!("`/access {jid} reset` takes the decision back.").into(),
        None => {
            let mut records = access.list(account).await?;
            records.retain(|(other, _)| *other == jid);
            list(records, now()).into()
        }
    })
}

async fn reset(access: &Access, account: &str, jid: &BareJid) -> Result<String> {
    Ok(if access.revoke(account, jid).await? {
        format!(
            "{}: the decision is taken back; the configuration decides.",
            code(jid.as_str())
        )
    } else {
        NOTHING.to_owned()
    })
}

const NO_JID: &str = "That is no address. One looks like `alice@example.com`.";
const NOTHING: &str = "No decision is stored. The configuration decides.";

/// People paste `xmpp:` links and full JIDs; it is the account that is meant.
fn jid(context: &Context) -> Option<BareJid> {
    let text = context.argument("JID")?;
    let text = text.strip_prefix("xmpp:").unwrap_or(text);
    Some(jid::Jid::new(text).ok()?.into_bare())
}

fn list(records: Vec<(BareJid, Record)>, now: i64) -> String {
    if records.is_empty() {
        return NOTHING.to_owned();
    }
    let lines = records.into_iter().map(|(jid, record)| {
        let (jid, by) = (code(jid.as_str()), code(&record.by));
        format!("- {jid}: {} (by {by})", describe(record.grant, now))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn describe(grant: Grant, now: i64) -> String {
    match grant {
        Grant::Allow => "may talk to me".into(),
        Grant::Block => "is blocked".into(),
        Grant::Operator => "is an operator".into(),
        Grant::Guest { until } if until <= now => "was a guest".into(),
        Grant::Guest { until } => {
            let minutes = (until - now + 59_999) / 60_000;
            match minutes {
                0..=120 => format!("is a guest for {minutes} minutes"),
                121..=2_880 => format!("is a guest for {} hours", (minutes + 30) / 60),
                _ => format!("is a guest for {} days", (minutes + 720) / 1_440),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::testing;

    #[test]
    fn a_decision_is_told_in_words() {
        let minute = 60_000;
        let rows = [
            (Grant::Allow, "may talk to me"),
            (Grant::Guest { until: 0 }, "was a guest"),
            (
                Grant::Guest { until: 30 * minute },
                "is a guest for 30 minutes",
            ),
            (
                Grant::Guest {
                    until: 24 * 60 * minute,
                },
                "is a guest for 24 hours",
            ),
            (
                Grant::Guest {
                    until: 7 * 24 * 60 * minute,
                },
                "is a guest for 7 days",
            ),
        ];
        for (grant, expected) in rows {
            assert_eq!(describe(grant, 0), expected);
        }
    }

    #[tokio::test]
    async fn decisions_are_stored_listed_and_taken_back() {
        let (_directory, storage) = testing::storage();
        let access = Access::load(storage.clone()).await.unwrap();
        let eve = BareJid::new("eve@evil.org").unwrap();
        access
            .grant("a", &eve, Grant::Block, "alice@example.com")
            .await
            .unwrap();
        let again = Access::load(storage).await.unwrap();
        assert_eq!(again.approvals("a").get(&eve), Some(Grant::Block));
        assert_eq!(again.approvals("b").get(&eve), None);
        assert_eq!(
            list(again.list("a").await.unwrap(), 0),
            "- `eve@evil.org`: is blocked (by `alice@example.com`)"
        );
        assert!(
            reset(&again, "a", &eve)
                .await
                .unwrap()
                .contains("taken back")
        );
        assert_eq!(again.approvals("a").get(&eve), None);
        assert_eq!(reset(&again, "a", &eve).await.unwrap(), NOTHING);
        assert_eq!(list(again.list("a").await.unwrap(), 0), NOTHING);
    }

    #[tokio::test]
    async fn a_stranger_is_put_before_the_operators_once_a_day() {
        let (_directory, storage) = testing::storage();
        let access = Access::load(storage).await.unwrap();
        let eve = BareJid::new("eve@evil.org").unwrap();
        let day = 86_400_000;
        for (at, expected) in [
            (0, true),
            (1, false),
            (day - 1, false),
            (day, true),
            (day + 1, false),
        ] {
            assert_eq!(access.ask("a", &eve, at).await.unwrap(), expected, "{at}");
        }
        assert!(
            access.ask("b", &eve, day).await.unwrap(),
            "each account asks for itself"
        );
    }
}
