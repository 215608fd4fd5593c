//! XEP-0114: components, programs beside the server that serve a domain of their own. The router knows each as a [`Host`]; its
//! stream is in [`super::stream`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jid::Jid;
use secrecy::{ExposeSecret, SecretString};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::mail::{Budget, Mail};
use super::session::{MAILBOX, Sender};
use super::stanza::Stanza;
use super::{Host, Server, StanzaError};

/// How long a stanza waits for a component that does not read; then its stream is ended, as a client's is.
const PATIENCE: Duration = Duration::from_secs(10);

/// A component that may connect.
pub struct Component {
    domain: String,
    secret: SecretString,
    link: Mutex<Option<Link>>,
}

/// Its connection.
#[derive(Clone)]
struct Link {
    mailbox: mpsc::Sender<Mail>,
    budget: Budget,
    /// Ends the stream.
    end: CancellationToken,
}

/// The component's end of it, until it is dropped.
pub(super) struct Attached {
    component: Arc<Component>,
    pub(super) mailbox: mpsc::Receiver<Mail>,
    /// It has not read for too long.
    pub(super) end: CancellationToken,
}

impl Component {
    fn new(domain: String, secret: SecretString) -> Self {
        Self {
            domain,
            secret,
            link: Mutex::default(),
        }
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody knows the secret (XEP-0114, 3): hex of SHA-1 over the stream's id and it.
    pub(super) fn knows(&self, stream: &str, proof: &str) -> bool {
        let mut hash = Sha1::new();
        hash.update(stream);
        hash.update(self.secret.expose_secret());
        let expected = hash
            .finalize()
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let proof = proof.trim().to_ascii_lowercase();
        expected.as_bytes().ct_eq(proof.as_bytes()).into()
    }

    /// Whether a stanza may be of this sender.
    pub(super) fn speaks_for(&self, sender: &Jid) -> bool {
        sender.domain().as_str() == self.domain
    }

    /// `None`: it is connected already, and who came first stays.
    pub(super) fn attach(self: &Arc<Self>) -> Option<Attached> {
        let mut link = self.link();
        // One whose stream has ended without a word is none.
        if link.as_ref().is_some_and(|link| !link.mailbox.is_closed()) {
            return None;
        }
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let end = CancellationToken::new();
        *link = Some(Link {
            mailbox: sender,
            budget: Budget::default(),
            end: end.clone(),
        });
        Some(Attached {
            component: Arc::clone(self),
            mailbox,
            end,
        })
    }

    /// Puts a stanza into the mailbox; `Err`: nobody is there to read it, or nobody does.
    async fn send(&self, mail: Mail) -> Result<(), Mail> {
        let Some(link) = self.link().clone() else {
            return Err(mail);
        };
        let mail = match link.budget.try_weigh(mail) {
            Ok(mail) => mail,
            Err(mail) => {
                let weighed = link.budget.weigh(mail, PATIENCE).await;
                weighed.inspect_err(|_| self.give_up(&link))?
            }
        };
        let sent = link.mailbox.send_timeout(mail, PATIENCE).await;
        sent.map_err(|error| match error {
            SendTimeoutError::Closed(mail) => mail,
            SendTimeoutError::Timeout(mail) => {
                self.give_up(&link);
                mail
            }
        })
    }

    fn give_up(&self, link: &Link) {
        warn!(domain = %self.domain, "A component does not read; its stream is ended");
        link.end.cancel();
    }
}

/// Not `service-unavailable`, which a nobody has too, nor `remote-server-not-found`: the domain is known, and whoever
/// asks again later may find it. So does Prosody.
fn absent() -> StanzaError {
    StanzaError::remote_server_timeout().text("The component is not connected")
}

impl Attached {
    /// The connection has ended: others may connect, and what waits is answered.
    pub(super) async fn detach(mut self, server: &Server) {
        self.component.link().take();
        self.mailbox.close();
        while let Some(mail) = self.mailbox.recv().await {
            refuse(server, &mail).await;
        }
    }

    pub(super) fn component(&self) -> &Arc<Component> {
        &self.component
    }
}

async fn refuse(server: &Server, mail: &Mail) {
    if let Some(stanza) = Stanza::read(mail.element()) {
        server.refuse(&stanza, &absent()).await;
    }
}

impl Host for Arc<Component> {
    fn handle<'a>(
        &'a self,
        server: &'a Server,
        _: Sender<'a>,
        stanza: Stanza,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(mail) = self.send(Mail::from(stanza)).await {
                refuse(server, &mail).await;
            }
        })
    }

    /// What it is called otherwise, it says itself.
    fn name(&self) -> &str {
        &self.domain
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Component({})", self.domain)
    }
}

/// All that may connect, by domain.
#[derive(Default)]
struct Registry(OnceLock<BTreeMap<String, Arc<Component>>>);

/// The components of the settings, as hosts; once.
pub fn hosts(server: &Server) -> Vec<(String, Arc<dyn Host>)> {
    let settings = server.settings();
    let components: BTreeMap<String, Arc<Component>> = settings
        .components
        .iter()
        .map(|(domain, secret)| {
            let component = Component::new(domain.clone(), secret.clone());
            (domain.clone(), Arc::new(component))
        })
        .collect();
    let hosts = components.iter().map(|(domain, component)| {
        let host: Arc<dyn Host> = Arc::new(Arc::clone(component));
        (domain.clone(), host)
    });
    let hosts = hosts.collect();
    let registry = server.extensions().get_or_default::<Registry>();
    registry.0.set(components).ok(); // Once.
    hosts
}

/// The component that serves a domain.
pub(super) fn find(server: &Server, domain: &str) -> Option<Arc<Component>> {
    let registry = server.extensions().get::<Registry>()?;
    registry.0.get()?.get(domain).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standard() {
        let component = Component::new("plays.example".to_owned(), "secret".into());
        // printf 3BF96D32secret | sha1sum
        let proof = "b09ea9b3b7f586be8a08d0a3dd7466f110aeb136";
        assert!(component.knows("3BF96D32", proof));
        assert!(component.knows("3BF96D32", &proof.to_uppercase()));
        assert!(!component.knows("3BF96D33", proof));
        for wrong in ["", "0", &"0".repeat(40), &format!("{proof}0"), "sécret"] {
            assert!(!component.knows("3BF96D32", wrong), "{wrong:?}");
        }
    }

    #[test]
    fn who_connects_first_stays() {
        let component = Arc::new(Component::new("plays.example".to_owned(), "s".into()));
        let first = component.attach();
        assert!(first.is_some() && component.attach().is_none());
        drop(first);
        assert!(component.attach().is_some(), "a stream that ended");
        let other = Jid::new("plays.example.org").unwrap();
        let own = Jid::new("romeo@plays.example/x").unwrap();
        assert!(component.speaks_for(&own) && !component.speaks_for(&other));
    }
}
