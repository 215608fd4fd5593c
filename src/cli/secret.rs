//! Passwords from a prompt, a file or standard input; never from the command line, which other users see.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use secrecy::SecretString;

/// The first line of a file; `-` is standard input.
pub(super) fn from_file(file: &Path) -> Result<SecretString> {
    let text = if file == Path::new("-") {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .context("Failed to read the password from standard input")?;
        line
    } else {
        std::fs::read_to_string(file)
            .with_context(|| format!("Failed to read the password from {}", file.display()))?
    };
    let Some(password) = text.lines().next().filter(|line| !line.is_empty()) else {
        bail!("The password file is empty; write the password into its first line");
    };
    Ok(SecretString::from(password))
}

/// Asks on the terminal without showing what is typed; `None` for an empty answer.
pub(super) fn prompt(question: &str) -> Result<Option<SecretString>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    // Before the question is seen: whoever answers at once, by hand or by a program, must not see it either.
    let silence = Silence::begin();
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question}: ")?;
    stderr.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    drop(silence);
    writeln!(stderr)?;
    let password = line.trim_end_matches(['\r', '\n']);
    Ok(Some(password)
        .filter(|password| !password.is_empty())
        .map(SecretString::from))
}

/// Keeps the terminal from echoing until it is dropped.
struct Silence {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl Silence {
    #[cfg(unix)]
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&stdin, OptionalActions::Flush, &silent).ok(); // then it is shown, but taken
        }
        Self { before }
    }

    #[cfg(not(unix))]
    fn begin() -> Self {
        Self {}
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(before) = &self.before {
            use rustix::termios::{OptionalActions, tcsetattr};
            tcsetattr(std::io::stdin(), OptionalActions::Flush, before).ok(); // nothing more can be done
        }
    }
}
