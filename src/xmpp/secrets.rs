//! `secrets.toml` in the data directory: passwords that moltis made up itself. Only the owner may read it, a write is
//! all or nothing, and a saved password is never replaced: it may be the only key to an account.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jid::BareJid;
use secrecy::{ExposeSecret, SecretString};

/// What can go wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} can be read by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    #[error("{} is damaged: {}; restore it from a backup, or move it away", .0.display(), .1)]
    Damaged(PathBuf, String),
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    #[error("A password for {0} is already saved, and is kept")]
    Taken(BareJid),
    #[error("The system gives no random numbers: {0}")]
    Random(String),
}

/// A password and whether the server has taken it.
#[derive(Clone, Debug)]
pub struct Saved {
    pub password: SecretString,
    /// `false` from before the registration until it is known to have worked.
    pub registered: bool,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Secrets {
    path: PathBuf,
}

type Accounts = BTreeMap<String, Entry>;

#[derive(serde::Serialize, serde::Deserialize)]
struct Entry {
    password: String,
    registered: bool,
}

impl Secrets {
    pub fn in_directory(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("secrets.toml"),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The password of an account.
    pub fn get(&self, jid: &BareJid) -> Result<Option<Saved>, Error> {
        Ok(self.read()?.remove(&jid.to_string()).map(|entry| Saved {
            password: entry.password.into(),
            registered: entry.registered,
        }))
    }

    /// Saves a password that is about to be used for a registration.
    pub fn add(&self, jid: &BareJid, password: &SecretString) -> Result<(), Error> {
        let mut accounts = self.read()?;
        if accounts.contains_key(&jid.to_string()) {
            return Err(Error::Taken(jid.clone()));
        }
        let entry = Entry {
            password: password.expose_secret().to_owned(),
            registered: false,
        };
        accounts.insert(jid.to_string(), entry);
        self.write(&accounts)
    }

    /// Notes that the server has taken the password.
    pub fn confirm(&self, jid: &BareJid) -> Result<(), Error> {
        let mut accounts = self.read()?;
        if let Some(entry) = accounts.get_mut(&jid.to_string()) {
            entry.registered = true;
        }
        self.write(&accounts)
    }

    /// Removes a password that the server has certainly not taken.
    pub fn withdraw(&self, jid: &BareJid) -> Result<(), Error> {
        let mut accounts = self.read()?;
        if accounts
            .get(&jid.to_string())
            .is_some_and(|entry| !entry.registered)
        {
            accounts.remove(&jid.to_string());
            self.write(&accounts)?;
        }
        Ok(())
    }

    fn io(&self, err: io::Error) -> Error {
        Error::Io(self.path.clone(), err)
    }

    fn read(&self) -> Result<Accounts, Error> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Accounts::new()),
            Err(err) => return Err(self.io(err)),
        };
        let mode = file
            .metadata()
            .map_err(|err| self.io(err))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(Error::Exposed(self.path.clone()));
        }
        let text = io::read_to_string(file).map_err(|err| self.io(err))?;
        // The parser's own text would quote the line, and the password with it.
        toml::from_str(&text)
            .map_err(|err| Error::Damaged(self.path.clone(), err.message().to_owned()))
    }

    /// Written beside, forced to the disk, then renamed: after a crash there is the old file or the new one.
    fn write(&self, accounts: &Accounts) -> Result<(), Error> {
        let text = toml::to_string(accounts)
            .map_err(|err| Error::Damaged(self.path.clone(), err.to_string()))?;
        let text = format!(
            "# Passwords that moltis made up. Keep this file: they are nowhere else.\n\n{text}"
        );
        self.replace(text.as_bytes()).map_err(|err| self.io(err))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(directory)?;
        let temporary = self.path.with_extension("toml.new");
        // One that a crash left behind may have another mode.
        match fs::remove_file(&temporary) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        File::open(directory)?.sync_all()
    }
}

/// A password of letters and digits from the system's random source.
pub fn generate_password(length: usize) -> Result<SecretString, Error> {
    random_text(length).map(SecretString::from)
}

/// Letters and digits, each of the 62 as likely as any other.
pub(super) fn random_text(length: usize) -> Result<String, Error> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(|err| Error::Random(err.to_string()))?;
        // 248 is the greatest multiple of 62 in a byte: what lies above would favour some letters.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        text.extend(
            letters
                .take(length - text.len())
                .map(|letter| char::from(*letter)),
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid() -> BareJid {
        "bot@example.org".parse().unwrap()
    }

    #[test]
    fn a_password_is_saved_for_its_owner_alone_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_directory(&directory.path().join("data"));
        assert!(secrets.get(&jid()).unwrap().is_none());
        secrets.add(&jid(), &"first".into()).unwrap();
        let mode = fs::metadata(secrets.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            secrets.add(&jid(), &"second".into()),
            Err(Error::Taken(_))
        ));
        let saved = secrets.get(&jid()).unwrap().unwrap();
        assert_eq!(
            (saved.password.expose_secret(), saved.registered),
            ("first", false)
        );
        secrets.confirm(&jid()).unwrap();
        assert!(secrets.get(&jid()).unwrap().unwrap().registered);
        secrets.withdraw(&jid()).unwrap();
        assert!(secrets.get(&jid()).unwrap().is_some(), "what works is kept");
        assert!(!directory.path().join("data/secrets.toml.new").exists());
    }

    #[test]
    fn what_was_never_taken_can_be_withdrawn() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_directory(directory.path());
        secrets.add(&jid(), &"first".into()).unwrap();
        secrets.withdraw(&jid()).unwrap();
        assert!(secrets.get(&jid()).unwrap().is_none());
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_damaged_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_directory(directory.path());
        secrets.add(&jid(), &"hidden".into()).unwrap();
        fs::set_permissions(secrets.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let err = secrets.get(&jid()).unwrap_err();
        assert!(err.to_string().contains("chmod 600"), "{err}");
        assert!(matches!(
            secrets.add(&jid(), &"x".into()),
            Err(Error::Exposed(_))
        ));
        fs::set_permissions(secrets.path(), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(secrets.path(), "[a]\npassword = hidden\n").unwrap();
        let err = secrets.get(&jid()).unwrap_err();
        assert!(
            matches!(err, Error::Damaged(..)) && !err.to_string().contains("hidden"),
            "{err}"
        );
    }

    #[test]
    fn a_generated_password_is_long_and_new() {
        let first = generate_password(24).unwrap();
        let second = generate_password(24).unwrap();
        assert_eq!(first.expose_secret().len(), 24);
        assert!(
            first
                .expose_secret()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric())
        );
        assert_ne!(first.expose_secret(), second.expose_secret());
        assert_eq!(generate_password(0).unwrap().expose_secret(), "");
        assert_eq!(generate_password(1000).unwrap().expose_secret().len(), 1000);
    }
}
