//! Computing with passwords: milliseconds each, on threads of which there are few, so that a flood of logins waits in
//! line and the rest of the server does not.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::{Accounts, Claim, Credentials, Error, random};

const LONGEST: usize = 1024;

impl Accounts {
    /// Whether the password is that of the claim; computed on a thread, of which there are few.
    pub async fn check(&self, claim: &Claim, password: SecretString) -> Result<bool, Error> {
        let credentials = Arc::clone(&claim.credentials);
        self.compute(move || credentials.is(password.expose_secret()))
            .await
    }

    pub(super) async fn derive(&self, password: SecretString) -> Result<Credentials, Error> {
        acceptable(password.expose_secret())?;
        self.compute(move || Credentials::new(&password))
            .await?
            .map_err(random)
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        // The semaphore is never closed.
        let _permit = self.0.computing.acquire().await.ok();
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|err| Error::System(format!("A password's computation broke off: {err}")))
    }
}

fn acceptable(password: &str) -> Result<(), Error> {
    if password.is_empty() {
        return Err(Error::Password("is empty; choose one"));
    }
    if password.len() > LONGEST {
        return Err(Error::Password(
            "is longer than 1,024 bytes; choose a shorter one",
        ));
    }
    // RFC 4013, 2.3: clients refuse to send them.
    if password.chars().any(char::is_control) {
        return Err(Error::Password(
            "has control characters; choose one without",
        ));
    }
    Ok(())
}
