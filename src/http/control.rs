//! `data_dir/moltis.sock`, mode 0600: one line with a command comes in, one JSON document goes out. It is how
//! `moltis reload`, `moltis status` and the commands for accounts reach the running process. A command is a word, or an
//! [`Order`] as JSON.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Look;
use crate::config::reload::Reloaded;
use crate::runtime::Stop;
use crate::server::Server;
use crate::server::order::Order;

/// Reads the configuration again: what was applied, or why not.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<Reloaded, String>> + Send + Sync>;

/// The socket's name in the data directory.
pub const SOCKET: &str = "moltis.sock";

/// An order has a JID and a password at most; more is a mistake.
const MAX_LINE: u64 = 16_384;

/// How long a connection may take: a little more than the longest order.
const LONGEST: Duration = Duration::from_secs(110);

/// The embedded server, where there is one.
pub type Orders = Option<Server>;

/// The socket of this process; the file goes when it is dropped.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Held for as long as the socket is served.
    _lock: File,
}

/// Two that start at once would each find the other's socket dead: the lock lets one of them go on.
///
/// Whoever holds it may work on the store while nobody else does.
pub fn lock(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("moltis.lock");
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("Failed to create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "Another moltis is running with {}; stop it first",
            data_dir.display()
        ),
        // Some network file systems have no locks; the socket tells most of it.
        Err(TryLockError::Error(err)) => warn!("{} cannot be locked: {err}", path.display()),
    }
    Ok(file)
}

impl Control {
    /// Refuses where another process serves the same data; takes the place of one that has died.
    pub async fn bind(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(SOCKET);
        let lock = lock(data_dir)?;
        if UnixStream::connect(&path).await.is_ok() {
            bail!(
                "Another moltis is running with {}; stop it first",
                data_dir.display()
            );
        }
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(err).with_context(|| format!("Failed to remove {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("Failed to listen on {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("Failed to protect {}", path.display()))?;
        Ok(Self {
            listener,
            path,
            _lock: lock,
        })
    }

    /// Serves until `stop`.
    pub async fn serve(self, look: Look, reload: Reload, orders: Orders, stop: Stop) -> Result<()> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = self.listener.accept() => {
                    let stream = match accepted {
                        Ok((stream, _)) => stream,
                        Err(err) => {
                            // Too many open files, mostly: that passes, and is no reason to end the process.
                            warn!("The control socket cannot take a connection: {err}");
                            tokio::time::sleep(Duration::from_secs(1)).await;
                            continue;
                        }
                    };
                    let (look, reload, orders) = (Arc::clone(&look), Arc::clone(&reload), orders.clone());
                    connections.spawn(async move {
                        let answered = tokio::time::timeout(LONGEST, answer(stream, &look, &reload, orders.as_ref()));
                        match answered.await {
                            Ok(Ok(())) => {}
                            Ok(Err(err)) => debug!("A control connection broke off: {err}"),
                            Err(_) => debug!("A control connection took too long"),
                        }
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok(); // The next process removes it otherwise.
    }
}

async fn answer(
    stream: UnixStream,
    look: &Look,
    reload: &Reload,
    orders: Option<&Server>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_LINE))
        .read_line(&mut line)
        .await?;
    let document = match line.trim() {
        "status" => serde_json::to_value(look()).unwrap_or(Value::Null),
        "reload" => match reload().await {
            Ok(reloaded) => serde_json::to_value(reloaded).unwrap_or(Value::Null),
            Err(err) => json!({ "error": err }),
        },
        order if order.starts_with('{') => carry_out(order, orders).await,
        other => {
            let name: String = other.chars().take(40).collect();
            json!({ "error": format!("This moltis does not know the command {name:?}") })
        }
    };
    write.write_all(document.to_string().as_bytes()).await?;
    write.shutdown().await
}

async fn carry_out(order: &str, server: Option<&Server>) -> Value {
    let Ok(order) = serde_json::from_str::<Order>(order) else {
        return json!({ "error": "This moltis does not know that order; it is of another version" });
    };
    let Some(server) = server else {
        return json!({ "error": "The running moltis has no embedded server; set xmpp_server.enabled and restart it" });
    };
    let done = server.carry_out(order).await;
    done.unwrap_or_else(|err| json!({ "error": err }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_process_serves_a_data_directory_and_the_next_takes_over() {
        let directory = tempfile::tempdir().unwrap();
        let first = Control::bind(directory.path()).await.unwrap();
        // As when it starts at the same moment and the socket is not there yet.
        std::fs::remove_file(directory.path().join(SOCKET)).unwrap();
        let second = Control::bind(directory.path()).await.unwrap_err();
        assert!(second.to_string().contains("Another moltis"), "{second}");
        drop(first);
        Control::bind(directory.path()).await.unwrap();
    }
}
