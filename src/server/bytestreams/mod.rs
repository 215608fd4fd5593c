//! XEP-0065: SOCKS5 Bytestreams. A proxy for transfers between two clients that do not reach each other: each connects and
//! names the transfer, the one who offers it says go, and then bytes pass. Whoever says go has an account here.

mod host;
mod relay;
mod socks;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use host::Service;

use super::listener::Counted;
use super::{Host, Settings};
use crate::runtime::Stop;

/// Connections that wait for their other end or for the word to go, and transfers under way.
const WAITING: usize = 1_000;
const TRANSFERS: usize = 500;
/// Transfers that an account has said go to.
const OF_AN_ACCOUNT: usize = 10;

/// A handle: clones share the transfers.
#[derive(Clone, Default)]
struct Proxy(Arc<Mutex<Transfers>>);

#[derive(Default)]
struct Transfers {
    /// By their name.
    waiting: HashMap<String, Ends>,
    /// Under way, by the account that has said go.
    running: HashMap<String, usize>,
}

/// The connections of a transfer so far. Which of them is whose nobody says: what is read of one is written to the other.
struct Ends {
    first: End,
    second: Option<End>,
}

/// A connection that waits.
struct End {
    io: TcpStream,
    counted: Counted,
    since: Instant,
}

/// Both, and who is told when it is over.
struct Pair {
    first: End,
    second: End,
    account: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// Nobody has connected for this transfer.
    Unknown,
    /// Only one has.
    Alone,
    /// There are too many.
    Many,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy")
    }
}

impl Proxy {
    fn lock(&self) -> MutexGuard<'_, Transfers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection that has named its transfer, and tells it so: whoever has heard that may give the word to go at
    /// once. `false`: there are enough.
    fn connected(&self, name: &str, end: End) -> bool {
        let mut transfers = self.lock();
        transfers.sweep();
        let is_free = match transfers.waiting.get(name) {
            Some(ends) => ends.second.is_none(),
            None => transfers.waiting.len() < WAITING,
        };
        let answer = socks::accepted(name);
        // Some bytes on a new connection: they fit.
        let is_told =
            is_free && matches!(end.io.try_write(&answer), Ok(count) if count == answer.len());
        if !is_told {
            return false;
        }
        if let Some(ends) = transfers.waiting.get_mut(name) {
            ends.second = Some(end);
            return true;
        }
        let ends = Ends {
            first: end,
            second: None,
        };
        transfers.waiting.insert(name.to_owned(), ends);
        true
    }

    /// The word to go.
    fn activate(&self, name: &str, account: &str) -> Result<Pair, Refused> {
        let mut transfers = self.lock();
        transfers.sweep();
        let ends = transfers.waiting.get(name).ok_or(Refused::Unknown)?;
        if ends.second.is_none() {
            return Err(Refused::Alone);
        }
        let own = transfers.running.get(account).copied().unwrap_or_default();
        if own >= OF_AN_ACCOUNT || transfers.running.values().sum::<usize>() >= TRANSFERS {
            return Err(Refused::Many);
        }
        let ends = transfers.waiting.remove(name).ok_or(Refused::Unknown)?;
        let second = ends.second.ok_or(Refused::Alone)?;
        *transfers.running.entry(account.to_owned()).or_default() += 1;
        Ok(Pair {
            first: ends.first,
            second,
            account: account.to_owned(),
        })
    }

    fn ended(&self, account: &str) {
        let mut transfers = self.lock();
        if let Some(running) = transfers.running.get_mut(account) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                transfers.running.remove(account);
            }
        }
    }
}

impl Transfers {
    /// Hangs up on those who have waited too long.
    fn sweep(&mut self) {
        self.waiting
            .retain(|_, ends| ends.first.since.elapsed() < relay::PATIENCE);
    }
}

/// The proxy with its port, as the settings want it.
pub struct Prepared {
    /// Its address among the server's.
    pub host: String,
    pub service: Arc<dyn Host>,
    proxy: Proxy,
    listeners: Vec<TcpListener>,
    starts: mpsc::Receiver<Start>,
    connections_per_ip: usize,
}

/// Binds the port. `None`: there is to be no proxy.
pub fn prepare(settings: &Settings) -> anyhow::Result<Option<Prepared>> {
    if settings.proxy_host.is_empty() {
        return Ok(None);
    }
    let listeners = relay::bind(settings)?;
    let local = listeners.first().map(TcpListener::local_addr).transpose()?;
    let port = local.map_or(settings.proxy_port, |local| local.port());
    let proxy = Proxy::default();
    let (service, starts) = Service::new(proxy.clone(), &settings.proxy_host, port);
    Ok(Some(Prepared {
        host: settings.proxy_host.clone(),
        service: Arc::new(service),
        proxy,
        listeners,
        starts,
        connections_per_ip: settings.limits.connections_per_ip,
    }))
}

impl Prepared {
    /// Serves until `stop`.
    pub async fn serve(self, stop: Stop) -> anyhow::Result<()> {
        relay::serve(self, stop).await
    }
}

/// A pair on its way from who says go to what passes the bytes, and the answer that they pass.
type Start = (Pair, oneshot::Sender<()>);
