//! The text of a PDF, in a process of its own: the parser recurses and allocates as the file tells it to, and a stack
//! overflow or exhausted memory must not take the bot along.
//!
//! The child is this program again. `main` calls [`child`] before all else; a program that does not (one that uses the
//! library) has no child to start, and then PDFs are not read.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

/// The one argument of the child.
const ARGUMENT: &str = "__pdf-text";
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of text; more than any model gets.
const MAX_OUTPUT: u64 = 1_000_000;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
/// Children at a time.
static CHILDREN: Semaphore = Semaphore::const_new(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("I do not know files of type application/pdf")]
    NotSupported,
    #[error("no text was found in the PDF")]
    NoText,
    #[error("reading the PDF took too long")]
    TimedOut,
    #[error("the PDF could not be read")]
    Failed,
}

/// The first call of `main`. In the child it does the work and says with which code to end; else it remembers that this
/// program can be the child.
pub fn child() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|argument| argument == ARGUMENT)
    {
        return Some(match work() {
            Some(()) => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        });
    }
    if let Some(program) = own_program() {
        // An error means that it is known already.
        PROGRAM.set(program).ok();
    }
    None
}

/// On Linux by a name that still leads here when an update has replaced the file.
fn own_program() -> Option<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() {
        return Some(link);
    }
    std::env::current_exe().ok()
}

/// From standard input to standard output.
fn work() -> Option<()> {
    // Where memory runs out, this process is the one to end. Only Linux has this file.
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).ok()?;
    let text = pdf_extract::extract_text_from_mem(&bytes).ok()?;
    std::io::stdout().write_all(text.as_bytes()).ok()
}

/// The text of a PDF.
pub async fn text(bytes: Bytes) -> Result<String, Error> {
    let program = PROGRAM.get().ok_or(Error::NotSupported)?;
    extract(program.clone(), bytes).await
}

/// As [`text`], with the program that is the child.
pub async fn extract(program: PathBuf, bytes: Bytes) -> Result<String, Error> {
    let _permit = CHILDREN.acquire().await.map_err(|_closed| Error::Failed)?;
    tokio::time::timeout(TIMEOUT, run(program, bytes))
        .await
        .unwrap_or(Err(Error::TimedOut))
}

async fn run(program: PathBuf, bytes: Bytes) -> Result<String, Error> {
    let mut child = Command::new(program)
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .kill_on_drop(true)
        .spawn()
        .map_err(|_reason| Error::Failed)?;
    let mut input = child.stdin.take().ok_or(Error::Failed)?;
    let output = child.stdout.take().ok_or(Error::Failed)?;
    let write = async move {
        // The child may end without reading all; its code tells.
        input.write_all(&bytes).await.ok();
        input.shutdown().await.ok();
    };
    let mut text = Vec::new();
    let mut limited = output.take(MAX_OUTPUT);
    let ((), read) = tokio::join!(write, limited.read_to_end(&mut text));
    let size = read.map_err(|_reason| Error::Failed)?;
    // At the cap the child may still be writing, and is killed on return.
    if (size as u64) < MAX_OUTPUT {
        let status = child.wait().await.map_err(|_reason| Error::Failed)?;
        if !status.success() {
            return Err(Error::Failed);
        }
    }
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() {
        return Err(Error::NoText);
    }
    Ok(text)
}
