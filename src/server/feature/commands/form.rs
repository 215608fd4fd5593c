//! What was filled in, as the commands want it.

use jid::{BareJid, Jid};

use crate::server::StanzaError;
use crate::xmpp::form::{Field, Filled};

/// A field that must be filled in.
pub(super) fn required(kind: &str, name: &str, label: &str) -> Field {
    Field::new(kind, name).label(label).required()
}

/// The fields that a command was given.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Filled);

impl Fields {
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.values(name).unwrap_or_default()
    }

    /// The only value, if it says something.
    pub(super) fn optional(&self, name: &str) -> Option<&str> {
        match self.all(name) {
            [value] if !value.trim().is_empty() => Some(value),
            _ => None,
        }
    }

    pub(super) fn one(&self, name: &str) -> Result<&str, StanzaError> {
        self.optional(name).ok_or_else(|| missing(name))
    }

    /// A text of some lines.
    pub(super) fn text(&self, name: &str) -> Result<String, StanzaError> {
        let text = self.all(name).join("\n");
        if text.trim().is_empty() {
            return Err(missing(name));
        }
        Ok(text)
    }

    pub(super) fn jid(&self, name: &str) -> Result<BareJid, StanzaError> {
        BareJid::new(self.one(name)?.trim()).map_err(|_jid| malformed(name))
    }

    /// At least one.
    pub(super) fn jids(&self, name: &str) -> Result<Vec<Jid>, StanzaError> {
        if self.all(name).is_empty() {
            return Err(missing(name));
        }
        self.any_jids(name)
    }

    pub(super) fn any_jids(&self, name: &str) -> Result<Vec<Jid>, StanzaError> {
        let values = self.all(name).iter().map(|value| value.trim());
        let read = |value| Jid::new(value).map_err(|_jid| malformed(name));
        values.filter(|value| !value.is_empty()).map(read).collect()
    }

    /// A password, which has to be the same twice; some clients send it once.
    pub(super) fn password(&self) -> Result<secrecy::SecretString, StanzaError> {
        let password = self.one("password")?;
        match self.all("password-verify") {
            [] => {}
            [again] if again == password => {}
            _ => return Err(StanzaError::not_acceptable().text("The passwords differ")),
        }
        Ok(password.into())
    }
}

fn missing(name: &str) -> StanzaError {
    super::bad("bad-payload").text(format!("Fill in {name}"))
}

fn malformed(name: &str) -> StanzaError {
    StanzaError::jid_malformed().text(format!("{name} must be an address like name@domain"))
}
