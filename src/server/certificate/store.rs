//! What moltis keeps of its certificates: `data_dir/certificates/<issuer>/`, for nobody but its owner.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::chain::Error;

/// The folder of one issuer. An ACME directory gives it its name, so that the certificates of a test directory are
/// never taken for others.
#[derive(Clone, Debug)]
pub(super) struct Store(PathBuf);

impl Store {
    pub(super) fn new(data_dir: &Path, issuer: &str) -> Self {
        let scheme = issuer.find("://").map_or(0, |at| at + 3);
        let name: String = issuer
            .chars()
            .skip(scheme)
            .map(|letter| match letter {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => letter,
                _ => '-',
            })
            .collect();
        // Neither the folder itself nor the one above.
        let name = name.trim_matches(['-', '.']);
        Self(data_dir.join("certificates").join(name))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `None`: there is no such file.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let file = self.file(name);
        match fs::read(&file) {
            Ok(content) => Ok(Some(content)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(Error::Read(file, err)),
        }
    }

    /// All or nothing, mode 0600.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let file = self.file(name);
        self.replace(&file, content)
            .map_err(|err| Error::Write(file, err))
    }

    fn replace(&self, file: &Path, content: &[u8]) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        let mut temporary = file.as_os_str().to_owned();
        temporary.push(".new");
        // One that a crash left behind may have another mode.
        match fs::remove_file(&temporary) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        new.write_all(content)?;
        new.sync_all()?;
        fs::rename(&temporary, file)?;
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_for_its_owner_alone_and_is_replaced() {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::new(data_dir.path(), "https://acme.example:14000/dir");
        assert!(store.read("a.pem").unwrap().is_none());
        for content in ["one", "two"] {
            store.write("a.pem", content.as_bytes()).unwrap();
            assert_eq!(store.read("a.pem").unwrap().unwrap(), content.as_bytes());
        }
        let file = data_dir
            .path()
            .join("certificates/acme.example-14000-dir/a.pem");
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_strange_issuer_stays_in_the_folder() {
        let store = Store::new(Path::new("/data"), "https://../../x/..");
        assert_eq!(store.file("a"), Path::new("/data/certificates/x/a"));
    }
}
