//! Who we are: SASL (RFC 6120, 6) with a mechanism that we choose, the strongest that both sides know, and never one
//! that is weaker than last time.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::SinkExt;
use minidom::Element;
use secrecy::{ExposeSecret, SecretString};
use tokio_xmpp::xmlstream::{FallibleStreamElement, XmlStream};
use xmpp_parsers::ns;
use xmpp_parsers::sasl_cb::Type;
use xmpp_parsers::stream_features::StreamFeatures;

use super::client::{Mechanism, Settings, Transport};
use super::connector::{self, Negotiation, Pipe, Secured, within};
use super::guard::{Guard, Notes};
use super::scram::{Binding, Fault, First, Hash, Proof};
use super::{Error, attribute, secrets};

impl Mechanism {
    /// Strongest first.
    const ALL: [Self; 5] = [
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::ScramSha1Plus,
        Self::ScramSha1,
        Self::Plain,
    ];

    /// The name that SASL has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }

    /// The reverse of [`Self::name`], for what was stored.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
    }

    const fn binds(self) -> bool {
        matches!(self, Self::ScramSha256Plus | Self::ScramSha1Plus)
    }

    const fn hash(self) -> Option<Hash> {
        match self {
            Self::ScramSha256Plus | Self::ScramSha256 => Some(Hash::Sha256),
            Self::ScramSha1Plus | Self::ScramSha1 => Some(Hash::Sha1),
            Self::Plain => None,
        }
    }
}

/// A stream that is logged in and not bound yet.
pub(super) struct Session {
    pub(super) stream: XmlStream<Guard<Box<dyn Pipe>>, FallibleStreamElement>,
    pub(super) features: StreamFeatures,
    /// `None`: the server, in this process, knew who we are.
    pub(super) mechanism: Option<Mechanism>,
    pub(super) notes: Notes,
}

/// Picks the mechanism. `can_bind`: this connection has a channel-binding value.
pub fn choose(
    offered: &BTreeSet<String>,
    can_bind: bool,
    minimum: Option<Mechanism>,
) -> Result<Mechanism, Error> {
    let best = Mechanism::ALL
        .into_iter()
        .find(|mechanism| offered.contains(mechanism.name()) && (can_bind || !mechanism.binds()));
    let list = || {
        offered
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (best, minimum) {
        (None, _) if offered.is_empty() => Err(Error::Login(
            "The server offers no way to log in; it may not be a server for clients".to_owned(),
        )),
        (None, _) => Err(Error::Login(format!(
            "The server only offers ways to log in that moltis does not know ({}); ask its operator for SCRAM",
            list()
        ))),
        (Some(best), Some(minimum)) if best < minimum => Err(Error::Downgrade {
            offered: best.name().to_owned(),
            minimum: minimum.name().to_owned(),
        }),
        (Some(best), _) => Ok(best),
    }
}

/// Opens a stream on a secured connection and logs in.
pub(super) async fn login(secured: Secured, settings: &Settings) -> Result<Session, Error> {
    let domain = settings.jid.domain().as_str();
    let Some(node) = settings.jid.node() else {
        return Err(Error::Settings(format!(
            "The JID {} has no part before an @, so there is no account to log in to; a component needs component_secret",
            settings.jid
        )));
    };
    let (mut stream, features, notes) =
        within("Opening the stream", connector::open(secured.io, domain)).await?;
    // XEP-0440: without the list nobody knows what a -PLUS binds to: ejabberd 23.01 offers it on TLS 1.3, where it
    // knows no tls-exporter, and refuses the login.
    let can_bind = secured.binding.is_some()
        && features
            .sasl_cb
            .as_ref()
            .is_some_and(|listed| listed.types.contains(&Type::TlsExporter));
    let offered = &features.sasl_mechanisms;
    let known = matches!(settings.transport, Transport::Local(_)) && offered.contains(EXTERNAL);
    let mechanism = if known {
        None
    } else {
        Some(choose(offered, can_bind, settings.minimum_mechanism)?)
    };
    let binding = match secured.binding {
        Some(data) if mechanism.is_some_and(Mechanism::binds) => Binding::TlsExporter(data),
        Some(_) if !offered.iter().any(|name| name.ends_with("-PLUS")) => Binding::NotOffered,
        Some(_) | None => Binding::Unsupported,
    };
    within("The login", async {
        let Some(mechanism) = mechanism else {
            return external(&mut stream, settings).await;
        };
        match mechanism.hash() {
            Some(hash) => {
                scram(
                    &mut stream,
                    hash,
                    binding,
                    node.as_str(),
                    mechanism,
                    settings,
                )
                .await
            }
            None => plain(&mut stream, node.as_str(), settings).await,
        }
    })
    .await
    .map_err(|err| notes.take_failure().unwrap_or(err))?;
    let opening = connector::reopen(stream.initiate_reset(), domain, &notes);
    let (features, stream) = within("Opening the stream after the login", opening).await?;
    if !features.can_bind() {
        return Err(Error::Protocol(
            "no resource binding after the login".to_owned(),
        ));
    }
    Ok(Session {
        stream,
        features,
        mechanism,
        notes,
    })
}

fn sasl(name: &str, data: &str) -> Element {
    Element::builder(name, ns::SASL).append(data).build()
}

fn auth(mechanism: Mechanism, message: &str) -> Element {
    Element::builder("auth", ns::SASL)
        .attr(attribute::MECHANISM.to_owned(), mechanism.name())
        .append(STANDARD.encode(message))
        .build()
}

/// The mechanism by which a server in this process takes its own for what they are.
const EXTERNAL: &str = "EXTERNAL";

/// RFC 4422, A: who we are was settled when the pipe was opened.
async fn external<Io: Pipe>(
    stream: &mut Negotiation<Io>,
    settings: &Settings,
) -> Result<(), Error> {
    let auth = Element::builder("auth", ns::SASL)
        .attr(attribute::MECHANISM.to_owned(), EXTERNAL)
        .append("=")
        .build();
    stream.send(&auth).await?;
    let answer = connector::next(stream).await?;
    if answer.is("success", ns::SASL) {
        return Ok(());
    }
    Err(refusal(&answer, settings))
}

/// RFC 4616.
async fn plain<Io: Pipe>(
    stream: &mut Negotiation<Io>,
    node: &str,
    settings: &Settings,
) -> Result<(), Error> {
    let message = format!("\0{node}\0{}", settings.password.expose_secret());
    stream.send(&auth(Mechanism::Plain, &message)).await?;
    let answer = connector::next(stream).await?;
    if answer.is("success", ns::SASL) {
        return Ok(());
    }
    Err(refusal(&answer, settings))
}

async fn scram<Io: Pipe>(
    stream: &mut Negotiation<Io>,
    hash: Hash,
    binding: Binding,
    node: &str,
    mechanism: Mechanism,
    settings: &Settings,
) -> Result<(), Error> {
    let fault = |fault: Fault| {
        Error::Login(format!(
            "The login as {} was broken off: {fault}; somebody may sit in between",
            settings.jid
        ))
    };
    let nonce = secrets::random_text(24).map_err(|err| Error::Settings(err.to_string()))?;
    let first = First::new(hash, binding, node, nonce);
    stream.send(&auth(mechanism, &first.message())).await?;
    let challenge = connector::next(stream).await?;
    if !challenge.is("challenge", ns::SASL) {
        return Err(refusal(&challenge, settings));
    }
    let challenge = decode(&challenge).ok_or_else(|| fault(Fault::Challenge))?;
    let proof = compute(first, challenge, settings.password.clone())
        .await?
        .map_err(fault)?;
    stream
        .send(&sasl("response", &STANDARD.encode(&proof.message)))
        .await?;
    let mut answer = connector::next(stream).await?;
    // RFC 6120, 6.4.5: the signature comes with the success, or in a challenge that wants an empty answer.
    let mut verified = false;
    if answer.is("challenge", ns::SASL) {
        let last = decode(&answer).ok_or_else(|| fault(Fault::Challenge))?;
        proof.verify(&last).map_err(fault)?;
        verified = true;
        stream.send(&sasl("response", "")).await?;
        answer = connector::next(stream).await?;
    }
    if !answer.is("success", ns::SASL) {
        return Err(refusal(&answer, settings));
    }
    if verified {
        return Ok(());
    }
    let last = decode(&answer).ok_or_else(|| fault(Fault::Challenge))?;
    proof.verify(&last).map_err(fault)
}

/// The answer costs what the server's iteration count says: up to seconds, on a thread of its own.
async fn compute(
    first: First,
    challenge: String,
    password: SecretString,
) -> Result<Result<Proof, Fault>, Error> {
    tokio::task::spawn_blocking(move || first.answer(&challenge, password.expose_secret()))
        .await
        .map_err(|err| Error::Network(err.to_string()))
}

fn decode(element: &Element) -> Option<String> {
    let bytes = STANDARD.decode(element.text().trim()).ok()?;
    String::from_utf8(bytes).ok()
}

/// A `<failure/>` (RFC 6120, 6.5) in words that say what to do.
fn refusal(answer: &Element, settings: &Settings) -> Error {
    if !answer.is("failure", ns::SASL) {
        return Error::Protocol(format!("<{}/> during the login", answer.name()));
    }
    let condition = answer
        .children()
        .map(Element::name)
        .find(|name| *name != "text")
        .unwrap_or("not-authorized");
    let text = answer
        .get_child("text", ns::SASL)
        .map(Element::text)
        .filter(|text| !text.is_empty())
        .map(|text| format!(" (the server says: {text})"))
        .unwrap_or_default();
    let jid = &settings.jid;
    Error::Login(match condition {
        "temporary-auth-failure" => return Error::TemporaryAuthFailure,
        "not-authorized" => format!(
            "The server does not accept the password of {jid}, or knows no such account; correct jid and password{text}"
        ),
        "account-disabled" => {
            format!("The account {jid} is disabled; ask the server's operator{text}")
        }
        "credentials-expired" => {
            format!(
                "The password of {jid} has expired; set a new one with any client, then correct password{text}"
            )
        }
        "encryption-required" | "mechanism-too-weak" => {
            format!(
                "The server wants a stronger login for {jid} than it offers; ask its operator{text}"
            )
        }
        other => format!("The server refused the login as {jid}: {other}{text}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_common_mechanism_is_chosen_and_never_a_weaker_one_than_last_time() {
        struct Case {
            name: &'static str,
            offered: &'static str,
            can_bind: bool,
            minimum: Option<Mechanism>,
            /// `Err`: the start of the message.
            expected: Result<Mechanism, &'static str>,
        }
        let cases = [
            Case {
                name: "everything",
                offered: "PLAIN SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
                can_bind: true,
                minimum: None,
                expected: Ok(Mechanism::ScramSha256Plus),
            },
            Case {
                name: "no channel binding",
                offered: "PLAIN SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
                can_bind: false,
                minimum: None,
                expected: Ok(Mechanism::ScramSha256),
            },
            Case {
                name: "SHA-1 only",
                offered: "DIGEST-MD5 PLAIN SCRAM-SHA-1 SCRAM-SHA-1-PLUS",
                can_bind: true,
                minimum: Some(Mechanism::ScramSha1),
                expected: Ok(Mechanism::ScramSha1Plus),
            },
            Case {
                name: "PLAIN only",
                offered: "PLAIN",
                can_bind: true,
                minimum: None,
                expected: Ok(Mechanism::Plain),
            },
            Case {
                name: "weaker than last time",
                offered: "PLAIN",
                can_bind: true,
                minimum: Some(Mechanism::ScramSha1),
                expected: Err("The server now offers only PLAIN, weaker than SCRAM-SHA-1"),
            },
            Case {
                name: "nothing that we know",
                offered: "EXTERNAL GSSAPI",
                can_bind: true,
                minimum: None,
                expected: Err(
                    "The server only offers ways to log in that moltis does not know (EXTERNAL, GSSAPI)",
                ),
            },
            Case {
                name: "nothing",
                offered: "",
                can_bind: true,
                minimum: None,
                expected: Err("The server offers no way to log in"),
            },
        ];
        for case in cases {
            let offered = case.offered.split_whitespace().map(str::to_owned).collect();
            match (choose(&offered, case.can_bind, case.minimum), case.expected) {
                (Ok(chosen), Ok(expected)) => assert_eq!(chosen, expected, "{}", case.name),
                (Err(err), Err(expected)) => {
                    assert!(
                        err.to_string().starts_with(expected),
                        "{}: {err}",
                        case.name
                    );
                    assert!(err.is_fatal(), "{}", case.name);
                }
                (found, _) => panic!("{}: {found:?}", case.name),
            }
        }
    }

    #[test]
    fn names_of_mechanisms_can_be_stored() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
        }
        assert!(Mechanism::ALL.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn each_refusal_says_what_to_do_and_only_a_temporary_one_is_tried_again() {
        let settings = Settings::new("bot@example.org".parse().unwrap(), "secret".into());
        for (condition, expected, fatal) in [
            ("not-authorized", "correct jid and password", true),
            ("account-disabled", "ask the server's operator", true),
            ("credentials-expired", "set a new one", true),
            ("temporary-auth-failure", "right now", false),
            ("bad-protocol", "bad-protocol", true),
        ] {
            let failure = format!(
                "<failure xmlns='{}'><{condition}/><text>hm</text></failure>",
                ns::SASL
            );
            let error = refusal(&failure.parse().unwrap(), &settings);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.is_fatal(), fatal, "{condition}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
