//! XEP-0077: makes an account on a server that lets one, on a stream of its own before any login. The password is ours,
//! from the system's random source, and saved before the server hears it.

mod form;

use std::path::PathBuf;

use futures::SinkExt;
use jid::BareJid;
use minidom::Element;
use secrecy::{ExposeSecret, SecretString};
use xmpp_parsers::iq::{Iq, IqHeader, IqPayload};
use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};
use xmpp_parsers::stream_features::StreamFeatures;

use super::attribute;
use super::client::{Client, Settings};
use super::connector::{self, Negotiation, Pipe, within};
use super::ns;
pub use super::secrets::generate_password;
use super::secrets::{self, Secrets};

/// How servers announce that they want an invitation (XEP-0445, and XEP-0401 before it).
const INVITATION_FEATURES: [&str; 2] = [ns::IBR_TOKEN, "urn:xmpp:invite"];
/// How long a generated password is.
const PASSWORD_LENGTH: usize = 24;

/// What to register, and where to keep its password.
#[derive(Clone, Debug)]
pub struct Options {
    /// JID, server and TLS as for a login; its password is not used.
    pub settings: Settings,
    /// XEP-0445: a token from an invitation.
    pub token: Option<SecretString>,
    /// Where `secrets.toml` is.
    pub data_dir: PathBuf,
}

/// Why there is no account. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{domain} does not offer registration; create the account on its web site or ask its operator, then set password"
    )]
    NotOffered { domain: String },
    #[error(
        "{domain} does not allow registration{}; ask its operator for an account, then set password", said(.text.as_ref())
    )]
    NotAllowed {
        domain: String,
        text: Option<String>,
    },
    #[error(
        "The name exists: {jid} belongs to somebody already; choose another jid, or set password if it is yours"
    )]
    NameExists { jid: BareJid },
    #[error("{domain} asks to wait {seconds} s before another registration")]
    Wait { domain: String, seconds: u64 },
    #[error(
        "{domain} needs an invitation{}; ask for one and set registration_token", said(.text.as_ref())
    )]
    NeedsInvitation {
        domain: String,
        text: Option<String>,
    },
    #[error(
        "{domain} wants proof that a person registers (CAPTCHA); register {jid} with any client, then set password"
    )]
    Captcha { domain: String, jid: BareJid },
    #[error("{domain} registers accounts elsewhere: open {url}, then set password")]
    Redirect { domain: String, url: String },
    #[error(
        "{domain} wants to know more than moltis can say ({}); register with any client, then set password",
        fields.join(", ")
    )]
    MoreFields { domain: String, fields: Vec<String> },
    #[error("{domain} refused the registration: {condition}{}", said(.text.as_ref()))]
    Refused {
        domain: String,
        condition: String,
        text: Option<String>,
    },
    #[error(transparent)]
    Connection(#[from] super::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
}

fn said(text: Option<&String>) -> String {
    text.map(|text| format!(" (the server says: {text})"))
        .unwrap_or_default()
}

/// Registers the account under a new password, which is in `secrets.toml` before the server hears it, and returns it.
///
/// Fails with [`secrets::Error::Taken`] where a password for the JID is saved already, with the other errors of
/// [`Error`] where the server or the network refuses. A password of a registration of which the outcome is unknown
/// stays saved; [`auto_connect`] goes on from there.
pub async fn register(options: &Options) -> Result<SecretString, Error> {
    let password = generate_password(PASSWORD_LENGTH)?;
    let saved = password.clone();
    on_disk(options, move |store, jid| store.add(jid, &saved)).await?;
    match Box::pin(submit(options, &password)).await {
        Ok(()) => on_disk(options, Secrets::confirm).await?,
        // The network may have broken after the server took it.
        Err(err @ Error::Connection(_)) => return Err(err),
        Err(err) => {
            on_disk(options, Secrets::withdraw).await?;
            return Err(err);
        }
    }
    Ok(password)
}

/// A client with credentials that are known from `secrets.toml`, else registers and saves them first.
///
/// Where an earlier registration was cut off, it is made again with the same password; that the name exists then
/// means that the first try had worked. The login itself is the client's: a refused one is reported by
/// [`super::Event::Failed`] and changes nothing in `secrets.toml`.
pub async fn auto_connect(options: &Options) -> Result<Client, Error> {
    let password = credentials(options).await?;
    Ok(Client::new(Settings {
        password,
        ..options.settings.clone()
    }))
}

/// The saved password, else that of a new account.
pub async fn credentials(options: &Options) -> Result<SecretString, Error> {
    match on_disk(options, Secrets::get).await? {
        None => register(options).await,
        Some(saved) if saved.registered => Ok(saved.password),
        Some(saved) => {
            match Box::pin(submit(options, &saved.password)).await {
                Ok(()) | Err(Error::NameExists { .. }) => {}
                Err(err) => return Err(err),
            }
            on_disk(options, Secrets::confirm).await?;
            Ok(saved.password)
        }
    }
}

/// Works on the file on a thread that may wait for the disk.
async fn on_disk<T: Send + 'static>(
    options: &Options,
    work: impl FnOnce(&Secrets, &BareJid) -> Result<T, secrets::Error> + Send + 'static,
) -> Result<T, Error> {
    let store = Secrets::in_directory(&options.data_dir);
    let jid = options.settings.jid.clone();
    let outcome = tokio::task::spawn_blocking(move || work(&store, &jid)).await;
    Ok(outcome.map_err(|err| super::Error::Network(err.to_string()))??)
}

/// Registers under a given password.
async fn submit(options: &Options, password: &SecretString) -> Result<(), Error> {
    let settings = &options.settings;
    let domain = settings.jid.domain().as_str();
    let Some(node) = settings.jid.node() else {
        return Err(
            super::Error::Settings(format!("{} has no part before an @", settings.jid)).into(),
        );
    };
    let secured = Box::pin(connector::connect(settings)).await?;
    let opening = connector::open(secured.io, domain);
    let (mut stream, features, notes) = within("Opening the stream", opening).await?;
    let work = async {
        let exchange = Exchange {
            domain,
            stream: &mut stream,
            invitation: asks_for_invitation(&features),
        };
        exchange
            .run(settings, node.as_str(), password, options.token.as_ref())
            .await
    };
    let outcome = tokio::time::timeout(connector::STEP, work).await;
    let outcome = outcome.unwrap_or_else(|_elapsed| {
        Err(super::Error::TimedOut {
            step: "The registration",
            after: connector::STEP,
        }
        .into())
    });
    // The account exists or does not; the server may hear the goodbye.
    stream.shutdown().await.ok();
    match (outcome, notes.take_failure()) {
        // What Prosody does where registration is off: nothing may be asked before the login.
        (Err(Error::Connection(_)), Some(super::Error::Stream { condition, .. }))
            if condition == "not-authorized" =>
        {
            Err(Error::NotOffered {
                domain: domain.to_owned(),
            })
        }
        (Err(Error::Connection(_)), Some(failure)) => Err(failure.into()),
        (outcome, _) => outcome,
    }
}

fn asks_for_invitation(features: &StreamFeatures) -> bool {
    features
        .others
        .iter()
        .any(|feature| INVITATION_FEATURES.contains(&feature.ns().as_str()))
}

/// The questions and answers on a stream before the login.
struct Exchange<'a, Io: Pipe> {
    domain: &'a str,
    stream: &'a mut Negotiation<Io>,
    /// The server says that it takes invitations.
    invitation: bool,
}

impl<Io: Pipe> Exchange<'_, Io> {
    async fn run(
        mut self,
        settings: &Settings,
        node: &str,
        password: &SecretString,
        token: Option<&SecretString>,
    ) -> Result<(), Error> {
        if let Some(token) = token {
            let preauth = Element::builder("preauth", ns::PREAUTH)
                .attr(attribute::TOKEN.to_owned(), token.expose_secret())
                .build();
            if let Err(error) = self.ask("token", IqPayload::Set(preauth)).await?
                && !is_unknown(&error)
            {
                return Err(Error::NeedsInvitation {
                    domain: self.domain.to_owned(),
                    text: text(&error),
                });
            }
        }
        let query = Element::bare("query", ns::REGISTER);
        let fields = match self.ask("fields", IqPayload::Get(query)).await? {
            Ok(Some(fields)) => fields,
            Ok(None) => return Err(self.not_offered()),
            Err(error) => return Err(self.refusal(&error, settings)),
        };
        let filled = form::fill(&fields, node, password.expose_secret()).map_err(|wants| {
            let domain = self.domain.to_owned();
            match wants {
                form::Wants::Nothing => self.not_offered(),
                form::Wants::Captcha => Error::Captcha {
                    domain,
                    jid: settings.jid.clone(),
                },
                form::Wants::Elsewhere(url) => Error::Redirect { domain, url },
                form::Wants::More(fields) => Error::MoreFields { domain, fields },
            }
        })?;
        match self.ask("register", IqPayload::Set(filled)).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refusal(&error, settings)),
        }
    }

    /// Sends a request and waits for its answer.
    async fn ask(
        &mut self,
        id: &str,
        payload: IqPayload,
    ) -> Result<Result<Option<Element>, StanzaError>, Error> {
        let header = IqHeader {
            from: None,
            to: BareJid::new(self.domain).ok().map(Into::into),
            id: id.to_owned(),
        };
        self.stream
            .send(&header.assemble(payload))
            .await
            .map_err(super::Error::from)?;
        loop {
            let element = connector::next(self.stream).await?;
            // Anything that is no answer to this is none of our business before the login.
            match Iq::try_from(element) {
                Ok(Iq::Result {
                    id: of, payload, ..
                }) if of == id => return Ok(Ok(payload)),
                Ok(Iq::Error { id: of, error, .. }) if of == id => return Ok(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn not_offered(&self) -> Error {
        let domain = self.domain.to_owned();
        if self.invitation {
            Error::NeedsInvitation { domain, text: None }
        } else {
            Error::NotOffered { domain }
        }
    }

    fn refusal(&self, error: &StanzaError, settings: &Settings) -> Error {
        refusal(error, self.domain, self.invitation, &settings.jid)
    }
}

/// The server does not know what was asked.
const fn is_unknown(error: &StanzaError) -> bool {
    matches!(
        error.defined_condition,
        DefinedCondition::FeatureNotImplemented | DefinedCondition::ServiceUnavailable
    )
}

fn text(error: &StanzaError) -> Option<String> {
    error.texts.values().next().cloned()
}

/// What an error means to a person (XEP-0077, 3.1, and what Prosody and ejabberd really send).
fn refusal(error: &StanzaError, domain: &str, invitation: bool, jid: &BareJid) -> Error {
    let domain = domain.to_owned();
    let text = text(error);
    let lower = text.as_deref().unwrap_or_default().to_lowercase();
    let quickly = error.type_ == ErrorType::Wait || lower.contains("quickly");
    match error.defined_condition {
        DefinedCondition::Conflict => Error::NameExists { jid: jid.clone() },
        _ if quickly => {
            let number = lower
                .split(|char: char| !char.is_ascii_digit())
                .find_map(|digits| digits.parse().ok());
            // ejabberd's default, where the server does not say.
            Error::Wait {
                domain,
                seconds: number.unwrap_or(600),
            }
        }
        _ if lower.contains("invit") => Error::NeedsInvitation { domain, text },
        DefinedCondition::Forbidden
        | DefinedCondition::NotAllowed
        | DefinedCondition::NotAuthorized
            if invitation =>
        {
            Error::NeedsInvitation { domain, text }
        }
        DefinedCondition::Forbidden | DefinedCondition::NotAllowed => {
            Error::NotAllowed { domain, text }
        }
        DefinedCondition::NotAuthorized => Error::NotOffered { domain },
        _ if is_unknown(error) => Error::NotOffered { domain },
        ref other => Error::Refused {
            domain,
            condition: Element::from(other.clone()).name().to_owned(),
            text,
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::xmpp::client::tests::{Peer, pipe};

    const FIELDS: &str = "<username/><password/>";

    fn options(data_dir: &std::path::Path) -> (Options, mpsc::UnboundedReceiver<DuplexStream>) {
        let (transport, connections) = pipe();
        let settings = Settings {
            transport,
            ..Settings::new("bot@example.org".parse().unwrap(), "unused".into())
        };
        let options = Options {
            settings,
            token: None,
            data_dir: data_dir.to_owned(),
        };
        (options, connections)
    }

    /// Plays the server up to the filled form, checks that its password is saved by then, and answers it.
    async fn serve(
        connections: &mut mpsc::UnboundedReceiver<DuplexStream>,
        store: &Secrets,
        jid: &BareJid,
        answer: Option<&str>,
    ) -> String {
        let mut peer = Peer::new(connections.recv().await.unwrap());
        peer.open("<register xmlns='http://jabber.org/features/iq-register'/>")
            .await;
        peer.expect("</iq>").await;
        peer.send(&format!(
            "<iq type='result' id='fields'><query xmlns='jabber:iq:register'>{FIELDS}</query></iq>"
        ))
        .await;
        peer.expect("<username>bot</username><password>").await;
        let password = peer.expect("<").await.trim_end_matches('<').to_owned();
        let saved = store.get(jid).unwrap().unwrap();
        assert_eq!(
            saved.password.expose_secret(),
            password,
            "saved before it is used"
        );
        assert!(!saved.registered);
        peer.expect("</iq>").await;
        if let Some(answer) = answer {
            peer.send(answer).await;
            peer.expect("</stream:stream>").await;
        }
        password
    }

    #[tokio::test(start_paused = true)]
    async fn a_registration_that_was_cut_off_goes_on_with_the_same_password() {
        let directory = tempfile::tempdir().unwrap();
        let (options, mut connections) = options(directory.path());
        let store = Secrets::in_directory(directory.path());
        let jid = options.settings.jid.clone();
        let (first, outcome) = tokio::join!(
            serve(&mut connections, &store, &jid, None),
            credentials(&options)
        );
        assert!(matches!(outcome, Err(Error::Connection(_))), "{outcome:?}");

        let exists = "<iq type='error' id='register'><error type='cancel'>\
            <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
        let (second, outcome) = tokio::join!(
            serve(&mut connections, &store, &jid, Some(exists)),
            credentials(&options)
        );
        assert_eq!(second, first);
        assert_eq!(outcome.unwrap().expose_secret(), first);
        assert!(store.get(&jid).unwrap().unwrap().registered);
        // Known from here on: nobody is asked.
        assert_eq!(credentials(&options).await.unwrap().expose_secret(), first);
        assert!(connections.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_exists_leaves_no_password_behind() {
        let directory = tempfile::tempdir().unwrap();
        let (options, mut connections) = options(directory.path());
        let store = Secrets::in_directory(directory.path());
        let jid = options.settings.jid.clone();
        let exists = "<iq type='error' id='register'><error type='cancel'>\
            <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
        let (_, outcome) = tokio::join!(
            serve(&mut connections, &store, &jid, Some(exists)),
            register(&options)
        );
        assert!(
            matches!(outcome, Err(Error::NameExists { .. })),
            "{outcome:?}"
        );
        assert!(store.get(&jid).unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn registration_succeeds_and_a_second_one_does_not_replace_its_password() {
        let directory = tempfile::tempdir().unwrap();
        let (options, mut connections) = options(directory.path());
        let store = Secrets::in_directory(directory.path());
        let jid = options.settings.jid.clone();
        let done = "<iq type='result' id='register'/>";
        let (password, outcome) = tokio::join!(
            serve(&mut connections, &store, &jid, Some(done)),
            register(&options)
        );
        assert_eq!(password.len(), 24);
        assert_eq!(outcome.unwrap().expose_secret(), password);
        let again = register(&options).await;
        assert!(
            matches!(again, Err(Error::Secrets(secrets::Error::Taken(_)))),
            "{again:?}"
        );
        assert_eq!(
            store.get(&jid).unwrap().unwrap().password.expose_secret(),
            password
        );
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        struct Case {
            name: &'static str,
            error: &'static str,
            invitation: bool,
            expected: &'static str,
        }
        let cases = [
            Case {
                name: "taken",
                error: "<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
                invitation: false,
                expected: "The name exists: bot@example.org belongs to somebody already; choose another jid, or set password if it is yours",
            },
            Case {
                name: "Prosody's throttle",
                error: "<error type='wait'><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
                invitation: false,
                expected: "example.org asks to wait 600 s before another registration",
            },
            Case {
                name: "a throttle that says how long",
                error: "<error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>Try again in 30 seconds</text></error>",
                invitation: false,
                expected: "example.org asks to wait 30 s before another registration",
            },
            Case {
                name: "invitation only, in words",
                error: "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>Registration on this server is through invitation only</text></error>",
                invitation: false,
                expected: "example.org needs an invitation (the server says: Registration on this server is through invitation only); ask for one and set registration_token",
            },
            Case {
                name: "invitation only, announced",
                error: "<error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
                invitation: true,
                expected: "example.org needs an invitation; ask for one and set registration_token",
            },
            Case {
                name: "not allowed",
                error: "<error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
                invitation: false,
                expected: "example.org does not allow registration; ask its operator for an account, then set password",
            },
            Case {
                name: "not there",
                error: "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
                invitation: false,
                expected: "example.org does not offer registration; create the account on its web site or ask its operator, then set password",
            },
            Case {
                name: "anything else",
                error: "<error type='modify'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>Too weak</text></error>",
                invitation: false,
                expected: "example.org refused the registration: not-acceptable (the server says: Too weak)",
            },
        ];
        for case in cases {
            let error = case
                .error
                .replace("<error ", "<error xmlns='jabber:client' ");
            let error = StanzaError::try_from(error.parse::<Element>().unwrap()).unwrap();
            let jid = "bot@example.org".parse().unwrap();
            let found = refusal(&error, "example.org", case.invitation, &jid);
            assert_eq!(found.to_string(), case.expected, "{}", case.name);
        }
    }
}
