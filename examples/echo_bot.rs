//! Answers every direct message with its own text, on the connection that moltis uses itself: it reconnects and resumes.
//! `cargo run --example echo_bot -- bot@example.org password-file [host:port]`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use anyhow::{Context, Error, Result};
use moltis::config::host_and_port;
use moltis::xmpp::{Client, Event, Settings};
use tokio_xmpp::Stanza;
use xmpp_parsers::message::{Message, MessageType};
use xmpp_parsers::presence::Presence;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let jid = arguments.next().context("Say which JID")?.parse()?;
    let file = arguments
        .next()
        .context("Say which file holds the password")?;
    let password =
        std::fs::read_to_string(&file).with_context(|| format!("Failed to read {file}"))?;

    let mut settings = Settings::new(jid, password.trim_end().into());
    // Without it, DNS says where the server is.
    settings.server = arguments
        .next()
        .map(|text| host_and_port(&text))
        .transpose()
        .map_err(Error::msg)?;
    let mut client = Client::new(settings);
    while let Some(event) = client.next().await {
        match event {
            Event::Online { jid, .. } => {
                println!("Online as {jid}");
                drop(client.send(Presence::available().into()).await);
            }
            Event::Stanza(stanza) => {
                if let Stanza::Message(message) = *stanza
                    && let Some(echo) = echo(&message)
                {
                    drop(client.send(echo.into()).await); // Awaiting it would wait for the server's acknowledgement.
                }
            }
            Event::Retrying { reason, after } => println!("{reason}; trying again in {after:?}"),
            Event::Failed(err) => return Err(err.into()),
            Event::Suspended { .. } | Event::Resumed => {}
        }
    }
    Ok(())
}

/// Errors are never answered, and what has no text neither.
fn echo(message: &Message) -> Option<Message> {
    if message.type_ == MessageType::Error {
        return None;
    }
    let (lang, body) = message.get_best_body_cloned(vec![])?;
    Some(Message::chat(message.from.clone()?).with_body(lang, body))
}
