//! Asks the running process: one line with a command to `data_dir/moltis.sock`, then one JSON document until the end.
//! `{"error": "…"}` is a refusal, in a sentence.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::http::control::SOCKET;

/// How long most answers may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn ask(data_dir: &Path, command: &str) -> Result<Value> {
    ask_for(data_dir, command, PATIENCE).await
}

/// As [`ask`], for as long as this.
pub(super) async fn ask_for(data_dir: &Path, command: &str, patience: Duration) -> Result<Value> {
    match ask_at(data_dir, command, patience).await? {
        Some(answer) => Ok(answer),
        None => bail!(
            "No moltis is running with {}; start it with `moltis run`",
            data_dir.display()
        ),
    }
}

/// As [`ask`]; `None` where no process runs.
pub(super) async fn ask_if_running(data_dir: &Path, command: &str) -> Result<Option<Value>> {
    ask_at(data_dir, command, PATIENCE).await
}

#[cfg(unix)]
async fn ask_at(data_dir: &Path, command: &str, patience: Duration) -> Result<Option<Value>> {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let socket = data_dir.join(SOCKET);
    let mut stream = match tokio::net::UnixStream::connect(&socket).await {
        Ok(stream) => stream,
        // Nobody listens.
        Err(err)
            if matches!(
                err.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(err) => {
            return Err(err).with_context(|| format!("Failed to reach {}", socket.display()));
        }
    };
    let answer = async {
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(patience, answer)
        .await
        .with_context(|| {
            let seconds = patience.as_secs();
            format!("The running moltis did not answer within {seconds} s; look at its log")
        })?
        .context("The running moltis broke off; look at its log")?;
    if answer.is_empty() {
        bail!("The running moltis broke off; look at its log");
    }
    let answer: Value =
        serde_json::from_str(&answer).context("The running moltis is of another version")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    Ok(Some(answer))
}

#[cfg(not(unix))]
async fn ask_at(_: &Path, _: &str, _: Duration) -> Result<Option<Value>> {
    bail!("{SOCKET} needs a Unix system; look at the status page instead")
}
