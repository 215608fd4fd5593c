//! `moltis invite`: invitations to the embedded server, through the running process, or directly on the store where none
//! runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use jid::BareJid;
use serde_json::Value;

use super::accounts::{carry_out, config, date, text};
use super::{Globals, complain, say};
use crate::config::Config;
use crate::gateway::pairing::parse_duration;
use crate::http::qr;
use crate::server::order::Order;

/// Invite people to the embedded server: a link, and a QR code of it
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  moltis invite\n  moltis invite --contact alice@example.org --uses 5 --ttl 30d\n  moltis invite --list"
)]
pub(super) struct Arguments {
    /// Who is invited and this account become contacts
    #[arg(long, value_name = "JID")]
    contact: Option<BareJid>,
    /// The name of the account, which is kept for whoever is invited
    #[arg(long, conflicts_with = "uses")]
    name: Option<String>,
    /// How many accounts it is for
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    uses: u32,
    /// How long it is good for, as in 30m, 24h or 7d
    #[arg(long, default_value = "7d", value_parser = lifetime)]
    ttl: Duration,
    /// List the open invitations
    #[arg(long, conflicts_with_all = ["contact", "name", "revoke"])]
    list: bool,
    /// End the invitation of this name in the list
    #[arg(long, value_name = "ID", conflicts_with_all = ["contact", "name"])]
    revoke: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write it as 30m, 24h or 7d".to_owned())
}

pub(super) async fn run(globals: &Globals, arguments: Arguments) -> Result<ExitCode> {
    let config = config(globals)?;
    if let Some(invitation) = arguments.revoke {
        let order = Order::Revoke {
            invitation: invitation.clone(),
        };
        carry_out(&config, order).await?;
        say(&format!("{invitation} has been revoked"));
        return Ok(ExitCode::SUCCESS);
    }
    let order = if arguments.list {
        Order::Invitations
    } else {
        Order::Invite {
            contact: arguments.contact,
            name: arguments.name,
            uses: arguments.uses,
            seconds: i64::try_from(arguments.ttl.as_secs()).unwrap_or(i64::MAX),
        }
    };
    let answer = carry_out(&config, order).await?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&answer)?);
    } else if arguments.list {
        list(&answer);
    } else {
        show(&config, &answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(answer: &Value) {
    let invitations = answer.get("invitations").and_then(Value::as_array);
    let invitations = invitations.map_or(&[][..], Vec::as_slice);
    if invitations.is_empty() {
        complain("No invitation is open; `moltis invite` makes one");
    }
    for invitation in invitations {
        say(&line(invitation));
    }
}

/// An invitation for a person: its name here, how long and how often it is good, and for whom.
fn line(listed: &Value) -> String {
    let none = Value::Null;
    let invitation = listed.get("invitation").unwrap_or(&none);
    let number = |field: &str| invitation.get(field).and_then(Value::as_i64);
    let until = number("expires").map_or("for ever".to_owned(), |at| {
        format!("until {}", date(at.div_euclid(1_000)))
    });
    let mut line = format!(
        "{}  {until}, uses: {}",
        text(listed, "id"),
        number("uses").unwrap_or_default()
    );
    for (field, word) in [("name", "name"), ("inviter", "by")] {
        let value = text(invitation, field);
        if !value.is_empty() {
            line = format!("{line}, {word} {value}");
        }
    }
    if invitation.get("operator").and_then(Value::as_bool) == Some(true) {
        line.push_str(", makes an admin");
    }
    line
}

fn show(config: &Config, answer: &Value) -> Result<()> {
    let (uri, url) = (text(answer, "uri"), text(answer, "url"));
    // A phone opens a page that everybody reaches, and else an app the link itself.
    let code = if url.is_empty() { uri } else { url };
    say(&qr::for_terminal(code).context("The link is too long for a QR code")?);
    say(uri);
    if !url.is_empty() {
        say(url);
    } else if let Some(page) = config.web_url() {
        let page = page.join(&format!("invite/{}", text(answer, "token")))?;
        say(&format!(
            "{page} (at this machine; for others set bind or external_url in [server])"
        ));
    }
    let uses = answer.get("uses").and_then(Value::as_u64).unwrap_or(1);
    let often = if uses == 1 {
        "once".to_owned()
    } else {
        format!("{uses} times")
    };
    complain(&format!("Good until {}, {often}.", text(answer, "expires")));
    if answer.get("operator").and_then(Value::as_bool) == Some(true) {
        complain(
            "Nobody has an account yet: the first one by it becomes admin, and operator of the bots.",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_reads_what_an_invitation_is_for() {
        for (invitation, expected) in [
            (
                json!({"expires": 86_400_000, "uses": 1}),
                "abc  until 1970-01-02, uses: 1",
            ),
            (
                json!({"uses": 5, "inviter": "a@b", "name": "c", "operator": true}),
                "abc  for ever, uses: 5, name c, by a@b, makes an admin",
            ),
        ] {
            assert_eq!(
                line(&json!({"id": "abc", "invitation": invitation})),
                expected
            );
        }
    }
}
