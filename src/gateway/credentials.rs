//! Where an account's password comes from: moltis.toml, secrets.toml, or registration (XEP-0077). Everything that can go
//! wrong is in the account's condition, with its remedy.

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;
use tracing::{error, info, warn};

use super::account::Handle;
use crate::config::Account;
use crate::runtime::Backoff;
use crate::xmpp::Settings;
use crate::xmpp::register::{self, Error, Options};
use crate::xmpp::secrets::Secrets;

/// The password to log in with; `None`: there is none and a person must act, and the handle says why.
pub async fn find(
    data_dir: &Path,
    account: &Account,
    settings: Settings,
    handle: &Handle,
) -> Option<SecretString> {
    // The embedded server knows its own, and a component has a secret instead.
    if account.local || account.component_secret.is_some() {
        return Some(String::new().into());
    }
    if let Some(password) = &account.password {
        return Some(password.clone());
    }
    if !account.auto_register {
        return saved(data_dir, account, handle);
    }
    let token = account.registration_token.clone();
    let options = Options {
        settings,
        token,
        data_dir: data_dir.to_owned(),
    };
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));
    loop {
        let err = match register::credentials(&options).await {
            Ok(password) => {
                info!("Account {} has a password in secrets.toml", handle.id());
                return Some(password);
            }
            Err(err) => err,
        };
        let Some(delay) = delay(&err, &mut backoff) else {
            fail(handle, &err.to_string());
            return None;
        };
        warn!(
            "Account {} is not registered, next try in {:.0} s: {err}",
            handle.id(),
            delay.as_secs_f64()
        );
        handle.state().condition = format!("trying again: {err}");
        tokio::time::sleep(delay).await;
    }
}

/// When to try again; `None` where only a person can help.
fn delay(err: &Error, backoff: &mut Backoff) -> Option<Duration> {
    match err {
        Error::Wait { seconds, .. } => Some(Duration::from_secs((*seconds).clamp(1, 24 * 60 * 60))),
        Error::Connection(err) if !err.is_fatal() => Some(backoff.next_delay()),
        _ => None,
    }
}

fn saved(data_dir: &Path, account: &Account, handle: &Handle) -> Option<SecretString> {
    match Secrets::in_directory(data_dir).get(&account.jid) {
        Ok(Some(saved)) => return Some(saved.password),
        Ok(None) => fail(
            handle,
            "there is no password; set password, or auto_register = true to make an account",
        ),
        Err(err) => fail(handle, &err.to_string()),
    }
    None
}

fn fail(handle: &Handle, reason: &str) {
    error!("Account {} has stopped: {reason}", handle.id());
    handle.state().condition = format!("failed: {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        let domain = || "example.org".to_owned();
        let wait = Error::Wait {
            domain: domain(),
            seconds: 7,
        };
        assert_eq!(delay(&wait, &mut backoff), Some(Duration::from_secs(7)));
        let network = Error::Connection(crate::xmpp::Error::Network("down".into()));
        assert!(delay(&network, &mut backoff).is_some());
        assert_eq!(
            delay(&Error::NotOffered { domain: domain() }, &mut backoff),
            None
        );
    }
}
