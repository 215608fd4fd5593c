//! Asks the running process: one line with a command to `data_dir/moltis.sock`, then one JSON document until the end.
//! `{"error": "…"}` is a refusal, in a sentence.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The socket's name in the data directory.
const SOCKET: &str = "moltis.sock";

#[cfg(unix)]
pub(super) async fn ask(data_dir: &Path, command: &str) -> Result<Value> {
    use std::io::ErrorKind;

    use anyhow::anyhow;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let socket = data_dir.join(SOCKET);
    let mut stream = tokio::net::UnixStream::connect(&socket)
        .await
        .map_err(|err| match err.kind() {
            // What the system calls it would only confuse: nobody listens.
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
                "No moltis is running with {}; start it with `moltis run`",
                data_dir.display()
            ),
            _ => anyhow!(err).context(format!("Failed to reach {}", socket.display())),
        })?;
    let answer = async {
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), answer)
        .await
        .context("The running moltis did not answer within ten seconds; look at its log")?
        .context("The running moltis broke off; look at its log")?;
    if answer.is_empty() {
        bail!("The running moltis broke off; look at its log");
    }
    let answer: Value =
        serde_json::from_str(&answer).context("The running moltis is of another version")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    Ok(answer)
}

#[cfg(not(unix))]
pub(super) async fn ask(_: &Path, _: &str) -> Result<Value> {
    bail!("{SOCKET} needs a Unix system; look at the status page instead")
}
