//! Connects as an account whose password moltis keeps, and makes the account first where there is none:
//! `cargo run --example register_account -- bot@example.org [data directory] [host:port]`.

#![expect(clippy::print_stdout, reason = "an example talks to a terminal")]

use anyhow::{Context, Error, Result};
use moltis::config::host_and_port;
use moltis::xmpp::register::{Options, auto_connect};
use moltis::xmpp::{Event, Settings};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let jid = arguments.next().context("Say which JID")?.parse()?;
    let data_dir = arguments.next().unwrap_or_else(|| "moltis-data".to_owned());

    // The password comes from secrets.toml or is made up; the one here is not used.
    let mut settings = Settings::new(jid, String::new().into());
    // Without it, DNS says where the server is.
    settings.server = arguments
        .next()
        .map(|text| host_and_port(&text))
        .transpose()
        .map_err(Error::msg)?;
    let options = Options {
        settings,
        token: None,
        data_dir: data_dir.into(),
    };
    let mut client = auto_connect(&options).await?;

    while let Some(event) = client.next().await {
        match event {
            Event::Online { jid, .. } => {
                println!(
                    "Online as {jid}; the password is in {}/secrets.toml",
                    options.data_dir.display()
                );
                client.close().await;
                return Ok(());
            }
            Event::Retrying { reason, after } => println!("{reason}; trying again in {after:?}"),
            Event::Failed(err) => return Err(err.into()),
            Event::Suspended { .. } | Event::Resumed | Event::Stanza(_) => {}
        }
    }
    Ok(())
}
