//! `moltis chat`: a chat with the bot in the terminal, or from a script: `echo hi | moltis chat`.

mod answer;
mod input;
mod screen;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use jid::{BareJid, Jid};
use minidom::Element;
use secrecy::SecretString;
use tokio_xmpp::Stanza;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::message::{Id, Message};
use xmpp_parsers::presence::Presence;

use self::answer::{Answer, PAUSE, Progress, Update};
use self::input::{Above, Input, Line};
use self::screen::Screen;
use super::{Globals, complain, say, secret};
use crate::config::{Config, host_and_port};
use crate::xmpp::element::element;
use crate::xmpp::secrets::Secrets;
use crate::xmpp::{Client, Event, Settings, ns};

/// How long the first connection may take.
const CONNECTING: Duration = Duration::from_secs(20);
/// Beyond a turn's time-out, what the bot may take to say so.
const GRACE: Duration = Duration::from_secs(30);

/// Chat with the bot: line editing and history on a terminal, one answer for each line of a pipe
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  moltis chat\n  echo 'What is XEP-0308?' | moltis chat\n  moltis chat bot@example.com --as alice@example.com"
)]
pub(super) struct Arguments {
    /// Whom to talk to [default: the embedded server's bot]
    jid: Option<BareJid>,
    /// Your own account [default: the embedded server's first admin]
    #[arg(long = "as", value_name = "JID")]
    person: Option<BareJid>,
    /// The file with your password; - takes the first line of standard input [default: secrets.toml, else a prompt]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Connect to this host instead of what DNS says
    #[arg(long, value_name = "HOST[:PORT]")]
    server: Option<String>,
    /// Trust this root certificate too (PEM)
    #[arg(long, value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,
}

pub(super) async fn run(globals: &Globals, arguments: &Arguments) -> Result<ExitCode> {
    let config = globals.load()?.config;
    let bot = bot(&config, arguments)?;
    let person = person(&config, arguments)?;
    let mut settings = Settings::new(person.clone(), password(&config, arguments, &person)?);
    settings.resource = format!("chat-{}", crate::server::random_id());
    reach(&mut settings, &config, arguments)?;
    let mut client = Client::new(settings);
    connect(&mut client).await?;
    let screen = Screen::new();
    let (input, above) = Input::start(screen.is_live(), &config.data_dir.join("chat_history"))?;
    if screen.is_live() {
        complain(&format!(
            "You are {person} and talk to {bot}. /help lists commands, Ctrl-D ends."
        ));
    }
    let patience = Duration::from_secs(config.chat.turn_timeout_secs).saturating_add(GRACE);
    let mut chat = Chat {
        client,
        bot,
        screen,
        above,
        patience,
        refused: false,
    };
    chat.run(input).await?;
    let refused = chat.refused;
    chat.client.close().await;
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn bot(config: &Config, arguments: &Arguments) -> Result<BareJid> {
    let mut bots = config.channels.xmpp.values();
    let local = bots.find(|account| account.enabled && account.local);
    arguments
        .jid
        .clone()
        .or_else(|| local.map(|account| account.jid.clone()))
        .context("Say whom to talk to, as in `moltis chat bot@example.com --as you@example.com`")
}

fn person(config: &Config, arguments: &Arguments) -> Result<BareJid> {
    let admins = config.xmpp_server.admins.iter();
    let mut here = admins.filter(|admin| admin.domain().as_str() == config.xmpp_server.domain);
    arguments
        .person
        .clone()
        .or_else(|| here.next().cloned())
        .context("Say who you are, as in `moltis chat --as you@example.com`")
}

fn password(config: &Config, arguments: &Arguments, person: &BareJid) -> Result<SecretString> {
    if let Some(file) = &arguments.password_file {
        return secret::from_file(file);
    }
    let secrets = Secrets::in_directory(&config.data_dir);
    if let Some(saved) = secrets.get(person)? {
        return Ok(saved.password);
    }
    match secret::prompt(&format!("Password of {person}"))? {
        Some(password) => Ok(password),
        None if config.data_dir.exists() => {
            bail!("There is no password for {person}; give one with --password-file FILE")
        }
        None => bail!("Nothing runs here; start `moltis` in another terminal first"),
    }
}

/// Where the server is. The embedded one of this machine is reached without DNS, and without asking who signed its
/// certificate: the way does not leave the machine.
fn reach(settings: &mut Settings, config: &Config, arguments: &Arguments) -> Result<()> {
    settings.tls_ca_file.clone_from(&arguments.tls_ca_file);
    let server = &config.xmpp_server;
    if let Some(host) = &arguments.server {
        settings.server = Some(host_and_port(host).map_err(|err| anyhow!("--server {err}"))?);
    } else if server.enabled && settings.jid.domain().as_str() == server.domain {
        let loopback = |address: &IpAddr| match address {
            address if !address.is_unspecified() => address.to_string(),
            IpAddr::V4(_) => "127.0.0.1".to_owned(),
            IpAddr::V6(_) => "::1".to_owned(),
        };
        let host = server.bind.first().map_or("127.0.0.1".to_owned(), loopback);
        settings.direct_tls = server.c2s_port == 0;
        let port = if settings.direct_tls {
            server.c2s_tls_port
        } else {
            server.c2s_port
        };
        settings.tls_verify = server
            .bind
            .first()
            .is_some_and(|bind| !bind.is_loopback() && !bind.is_unspecified());
        settings.server = Some((host, port));
    }
    Ok(())
}

/// Waits until the session is there; what goes wrong is said, as nobody waits for a server that may come.
async fn connect(client: &mut Client) -> Result<()> {
    let online = async {
        while let Some(event) = client.next().await {
            match event {
                Event::Online { .. } => {
                    drop(client.send(Presence::available().into()).await);
                    return Ok(());
                }
                Event::Retrying { reason, .. } => {
                    bail!("{reason}; is the server running? `moltis` starts it");
                }
                Event::Failed(err) => return Err(err.into()),
                _ => {}
            }
        }
        bail!("The connection ended")
    };
    tokio::time::timeout(CONNECTING, online)
        .await
        .context("The server does not answer")?
}

struct Chat {
    client: Client,
    bot: BareJid,
    screen: Screen,
    above: Above,
    /// How long an answer may take.
    patience: Duration,
    /// Something was refused: the exit code says so.
    refused: bool,
}

impl Chat {
    async fn run(&mut self, mut input: Input) -> Result<()> {
        loop {
            input.ask();
            let line = tokio::select! {
                line = input.next() => line,
                ended = self.idle() => return ended,
            };
            match line {
                Line::Text(text) if text.trim().is_empty() => {}
                Line::Text(text) => self.turn(&text).await?,
                Line::End => return Ok(()),
            }
        }
    }

    /// While the person thinks: what comes by itself is shown above the prompt.
    async fn idle(&mut self) -> Result<()> {
        let mut answer = Answer::default();
        while let Some(event) = self.client.next().await {
            if let Some(message) = self.heard(event).await?
                && let Update::New(_, text) | Update::Corrected(_, text) = answer.take(&message)
            {
                self.above.show(&text);
            }
        }
        bail!("The connection ended")
    }

    /// Sends a line and shows the answer as it comes.
    async fn turn(&mut self, text: &str) -> Result<()> {
        let mut message = Message::chat(Jid::from(self.bot.clone()));
        message.id = Some(Id(crate::server::random_id()));
        message.bodies.insert(String::new().into(), text.to_owned());
        message
            .payloads
            .push(element("active", ns::CHATSTATES, &[]));
        drop(self.client.send(message.into()).await); // Whether it arrived shows in the answer.
        let mut answer = Answer::default();
        let mut current = None;
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let until = match answer.progress() {
                Progress::Complete => break,
                Progress::Perhaps => deadline.min(tokio::time::Instant::now() + PAUSE),
                Progress::Open => deadline,
            };
            let event = tokio::select! {
                event = tokio::time::timeout_at(until, self.client.next()) => event,
                _ = tokio::signal::ctrl_c() => {
                    self.stop().await;
                    continue;
                }
            };
            let Ok(event) = event else {
                if answer.progress() == Progress::Open {
                    complain(&format!("{} does not answer.", self.bot));
                    self.refused = true;
                }
                break;
            };
            let event = event.context("The connection ended")?;
            let Some(message) = self.heard(event).await? else {
                continue;
            };
            match answer.take(&message) {
                Update::New(number, text) | Update::Corrected(number, text) => {
                    if current.is_some_and(|current| current != number) {
                        self.screen.settle();
                    }
                    current = Some(number);
                    self.screen.draw(&text);
                }
                Update::Writing if current.is_none() => self.screen.draw("…"),
                Update::Refused(reason) => {
                    complain(&format!("{}: {reason}", self.bot));
                    self.refused = true;
                }
                Update::Writing | Update::Nothing => {}
            }
        }
        if current.is_none() {
            self.screen.draw("");
        }
        self.screen.settle();
        let text = answer.text();
        if !text.is_empty() {
            self.screen.whole(&text);
        }
        Ok(())
    }

    /// Ctrl-C while the bot writes stops the answer, not the chat.
    async fn stop(&mut self) {
        let mut message = Message::chat(Jid::from(self.bot.clone()));
        message.id = Some(Id(crate::server::random_id()));
        message
            .bodies
            .insert(String::new().into(), "/stop".to_owned());
        drop(self.client.send(message.into()).await);
    }

    /// The bot's message, if the event is one; requests are answered.
    async fn heard(&mut self, event: Event) -> Result<Option<Message>> {
        match event {
            Event::Stanza(stanza) => match *stanza {
                Stanza::Message(message) => {
                    let from = message.from.as_ref().map(Jid::to_bare);
                    return Ok((from.as_ref() == Some(&self.bot)).then_some(message));
                }
                Stanza::Iq(iq) => {
                    if let Some(answer) = reply(iq) {
                        drop(self.client.send(answer.into()).await);
                    }
                }
                Stanza::Presence(_) => {}
            },
            Event::Online { .. } => drop(self.client.send(Presence::available().into()).await),
            Event::Suspended { reason } => complain(&format!("{reason}; connecting again")),
            Event::Failed(err) => return Err(err.into()),
            Event::Resumed | Event::Retrying { .. } => {}
        }
        Ok(None)
    }
}

/// Answers what is asked of this client: XEP-0030, and that nothing else is here.
fn reply(iq: Iq) -> Option<Iq> {
    let (from, to, id, payload) = match iq {
        Iq::Get {
            from,
            to,
            id,
            payload,
        } => (from, to, id, Some(payload)),
        Iq::Set { from, to, id, .. } => (from, to, id, None),
        Iq::Result { .. } | Iq::Error { .. } => return None,
    };
    let payload = payload.filter(|payload| payload.is("query", ns::DISCO_INFO));
    Some(match payload {
        Some(_) => Iq::Result {
            from: to,
            to: from,
            id,
            payload: Some(capabilities()),
        },
        None => Iq::Error {
            from: to,
            to: from,
            id,
            error: unavailable(),
            payload: None,
        },
    })
}

fn unavailable() -> xmpp_parsers::stanza_error::StanzaError {
    use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};
    StanzaError::new(
        ErrorType::Cancel,
        DefinedCondition::ServiceUnavailable,
        "en",
        "",
    )
}

fn capabilities() -> Element {
    let mut query = Element::bare("query", ns::DISCO_INFO);
    let identity = [
        ("category", "client"),
        ("type", "console"),
        ("name", "moltis chat"),
    ];
    query.append_child(element("identity", ns::DISCO_INFO, &identity));
    for feature in [ns::CHATSTATES, ns::DISCO_INFO, ns::MESSAGE_CORRECT] {
        query.append_child(element("feature", ns::DISCO_INFO, &[("var", feature)]));
    }
    query
}

/// Where lines typed before are kept; without the file there are none.
fn history(path: &Path) -> Option<&Path> {
    path.parent().is_some_and(Path::exists).then_some(path)
}
