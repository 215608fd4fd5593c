//! The accounts that the configuration asks for: started, stopped, connected again, each failing alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jid::BareJid;
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::access::Access;
use super::account::{self, Handle, Happening, Options, Profile};
use super::admission::Grant;
use super::command::Commands;
use super::intake::Intake;
use super::pairing::Claim;
use super::session::Conversations;
use super::{credentials, rooms};
use crate::config::{Account, Config};
use crate::runtime::{Phase, Stop, Supervisor, contain};
use crate::storage::Storage;
use crate::xmpp::{Dial, Settings, Transport};

/// An account whose task panicked starts again after this: the same stanza may come again.
const AFTER_PANIC: Duration = Duration::from_mins(1);

/// What all accounts share.
pub struct Parts {
    pub supervisor: Supervisor,
    pub storage: Storage,
    pub live: watch::Receiver<Arc<Config>>,
    pub conversations: Conversations,
    pub access: Arc<Access>,
    pub commands: Commands,
    /// Opens streams of accounts that live in this process; `None`: there is no embedded server.
    pub home: Option<Home>,
}

/// How an account of the embedded server gets its stream.
pub type Home = Arc<dyn Fn(&BareJid) -> Arc<Dial> + Send + Sync>;

/// The running accounts. A handle: clones share them.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    parts: Parts,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    handle: Handle,
    claim: Arc<Claim>,
    stop: Stop,
    ended: oneshot::Receiver<()>,
}

/// One account, for the status page and `/accounts`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    pub id: String,
    pub jid: String,
    pub online: bool,
    /// One line: "online", or what is the matter.
    pub condition: String,
    pub rooms: Vec<RoomStatus>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct RoomStatus {
    pub room: String,
    pub nick: String,
    pub condition: String,
}

impl Accounts {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            running: Mutex::default(),
        }))
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Running>) -> T) -> T {
        look(
            &mut self
                .0
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Starts every enabled account.
    pub async fn start_all(&self) {
        let config = self.0.parts.live.borrow().clone();
        for (id, account) in config
            .channels
            .xmpp
            .iter()
            .filter(|(_, account)| account.enabled)
        {
            self.start(id, account).await;
        }
    }

    /// Starts an account; what goes wrong concerns it alone and is in its status.
    pub async fn start(&self, id: &str, account: &Account) {
        let parts = &self.0.parts;
        let config = parts.live.borrow().clone();
        let mut connection = Settings::new(account.jid.clone(), String::new().into());
        connection.resource.clone_from(&account.resource);
        connection.server.clone_from(&account.server);
        connection.direct_tls = account.direct_tls;
        connection.tls_verify = account.tls_verify;
        connection.tls_ca_file.clone_from(&account.tls_ca_file);
        connection
            .component_secret
            .clone_from(&account.component_secret);
        if let (true, Some(home)) = (account.local, &parts.home) {
            connection.transport = Transport::Local(home(&account.jid));
        } else {
            connection.minimum_mechanism =
                account::last_mechanism(&parts.storage, &account.jid).await;
        }
        let options = Options {
            id: id.to_owned(),
            connection,
            nick: nick(&config, account),
            profile: Arc::new(profile(&config, account)),
            known_archives: account::catch_up::known(&parts.storage, id).await,
            rooms: wanted_rooms(&parts.storage, id, account).await,
        };
        let (task, handle, happenings) = account::open(options, parts.storage.clone());
        let claim = Arc::new(self.claim(id, account));
        let stop = parts.supervisor.stop_token(Phase::Sessions).child_token();
        let (ended_sender, ended) = oneshot::channel();
        self.spawn_account(task, &config, account, &handle, stop.clone(), ended_sender);
        self.spawn_intake(id, account, &handle, &claim, &stop, happenings);
        parts.conversations.register(Arc::new(handle.clone()));
        let running = Running {
            handle,
            claim,
            stop,
            ended,
        };
        self.with(|accounts| accounts.insert(id.to_owned(), running));
    }

    fn spawn_account(
        &self,
        mut task: account::Account,
        config: &Config,
        account: &Account,
        handle: &Handle,
        stop: Stop,
        ended: oneshot::Sender<()>,
    ) {
        let name = format!("account/{}", handle.id());
        let data_dir = config.data_dir.clone();
        let account = account.clone();
        let handle = handle.clone();
        let settings = task.settings().clone();
        let accounts = self.clone();
        self.0
            .parts
            .supervisor
            .spawn(Phase::Sessions, name.clone(), |_| async move {
                let life = async {
                    let password = tokio::select! {
                        () = stop.cancelled() => None,
                        password = credentials::find(&data_dir, &account, settings, &handle) => password,
                    };
                    if let Some(password) = password {
                        task.set_password(password);
                        task.run(stop.clone()).await;
                    } else {
                        // It says why in its status, takes no more orders, and waits for a reload.
                        drop(task);
                        stop.cancelled().await;
                    }
                };
                if Box::pin(contain(&name, life)).await.is_none() {
                    {
                        let mut state = handle.state();
                        state.online = false;
                        state.condition =
                            "failed: a fault in moltis, see the log; it starts again".into();
                    }
                    let pause = tokio::time::sleep(AFTER_PANIC);
                    if stop.run_until_cancelled(pause).await.is_some() {
                        accounts.start(handle.id(), &account).await;
                    }
                }
                drop(ended);
                Ok(())
            });
    }

    fn spawn_intake(
        &self,
        id: &str,
        account: &Account,
        handle: &Handle,
        claim: &Arc<Claim>,
        stop: &Stop,
        happenings: tokio::sync::mpsc::Receiver<Happening>,
    ) {
        let parts = &self.0.parts;
        let intake = Intake {
            account: id.to_owned(),
            own: account.jid.clone(),
            live: parts.live.clone(),
            handle: handle.clone(),
            conversations: parts.conversations.clone(),
            access: Arc::clone(&parts.access),
            claim: Arc::clone(claim),
            commands: parts.commands.clone(),
            storage: parts.storage.clone(),
            positions: BTreeMap::new(),
            background: tokio::task::JoinSet::new(),
            strangers: Vec::new(),
        };
        let own_stop = stop.clone();
        parts.supervisor.spawn(
            Phase::Conversations,
            format!("intake/{id}"),
            |stop| async move {
                let stopped = async {
                    tokio::select! {
                        () = own_stop.cancelled() => {}
                        () = stop.cancelled() => {}
                    }
                };
                Box::pin(intake.run(happenings, stopped)).await;
                Ok(())
            },
        );
    }

    /// The claim code of an account that has no operator (gateway.md, Admission).
    fn claim(&self, id: &str, account: &Account) -> Claim {
        let approvals = self.0.parts.access.approvals(id);
        let claimed = approvals.iter().any(|(_, grant)| grant == Grant::Operator);
        if claimed || !account.operators.is_empty() {
            return Claim::closed();
        }
        match Claim::new() {
            Ok(claim) => {
                let code = claim.code().unwrap_or_default();
                info!(
                    "Account {id} has no operator: send it `/claim {code}` in a direct chat to become the first"
                );
                claim
            }
            Err(err) => {
                error!("No claim code, the system has no random numbers: {err}");
                Claim::closed()
            }
        }
    }

    /// Stops an account and waits until it has said good-bye.
    pub async fn stop(&self, id: &str) {
        let Some(running) = self.with(|accounts| accounts.remove(id)) else {
            return;
        };
        running.stop.cancel();
        let patience = Duration::from_secs(3);
        if tokio::time::timeout(patience, running.ended).await.is_err() {
            warn!("Account {id} did not end in time");
        }
    }

    /// Makes what runs what `new` asks for. `reconnect`: accounts whose connection has changed.
    pub async fn apply(
        &self,
        old: &Config,
        new: &Config,
        reconnect: &std::collections::BTreeSet<String>,
    ) {
        let ids: Vec<String> = self.with(|accounts| accounts.keys().cloned().collect());
        for id in ids {
            let wanted = new
                .channels
                .xmpp
                .get(&id)
                .is_some_and(|account| account.enabled);
            // What has failed for good waits for a person, and this is one: the password in secrets.toml may be new.
            let failed = self
                .handle(&id)
                .is_some_and(|handle| handle.state().condition.starts_with("failed:"));
            if !wanted || failed || reconnect.contains(&id) {
                self.stop(&id).await;
            }
        }
        for (id, account) in new
            .channels
            .xmpp
            .iter()
            .filter(|(_, account)| account.enabled)
        {
            let Some(handle) = self.handle(id) else {
                self.start(id, account).await;
                continue;
            };
            let profile = profile(new, account);
            if *handle.profile() != profile {
                handle.set_profile(Arc::new(profile)).await.ok(); // It is stopping.
            }
            if let Some(before) = old.channels.xmpp.get(id) {
                let nick = nick(new, account);
                handle.set_nick(nick.clone()).await.ok(); // It is stopping.
                apply_rooms(&handle, before, account, &nick).await;
            }
        }
    }

    pub fn handle(&self, id: &str) -> Option<Handle> {
        self.with(|accounts| accounts.get(id).map(|running| running.handle.clone()))
    }

    pub fn claim_of(&self, id: &str) -> Option<Arc<Claim>> {
        self.with(|accounts| accounts.get(id).map(|running| Arc::clone(&running.claim)))
    }

    pub fn status(&self) -> Vec<Status> {
        let handles: Vec<Handle> = self.with(|accounts| {
            accounts
                .values()
                .map(|running| running.handle.clone())
                .collect()
        });
        handles.iter().map(status).collect()
    }

    /// Claim codes that are still open, by account.
    pub fn claims(&self) -> Vec<(String, String)> {
        self.with(|accounts| {
            let codes = accounts
                .iter()
                .map(|(id, running)| Some((id.clone(), running.claim.code()?)));
            codes.flatten().collect()
        })
    }
}

fn status(handle: &Handle) -> Status {
    let rooms = handle
        .rooms()
        .into_iter()
        .map(|(room, nick, condition)| RoomStatus {
            room: room.to_string(),
            nick,
            condition,
        })
        .collect();
    let state = handle.state();
    Status {
        id: handle.id().to_owned(),
        jid: state.jid.to_string(),
        online: state.online,
        condition: state.condition.clone(),
        rooms,
    }
}

/// The nick in rooms: `nick`, else the bot's name, else the local part.
fn nick(config: &Config, account: &Account) -> String {
    let local = account
        .jid
        .node()
        .map(ToString::to_string)
        .unwrap_or_default();
    [&account.nick, &config.identity.name, &local]
        .into_iter()
        .find(|name| !name.trim().is_empty())
        .map_or_else(
            || account.jid.domain().to_string(),
            |name| name.trim().to_owned(),
        )
}

fn profile(config: &Config, account: &Account) -> Profile {
    let avatar = config.identity.avatar.as_deref().and_then(avatar);
    let model = if account.model.is_empty() {
        &config.chat.model
    } else {
        &account.model
    };
    Profile {
        name: config.identity.name.clone(),
        status: model.clone(),
        avatar,
    }
}

/// Published in one stanza, which a server may answer by closing the stream, now and after every new login.
const MOST_OF_AVATAR: u64 = 100_000;

fn avatar(path: &Path) -> Option<account::Avatar> {
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    if size > MOST_OF_AVATAR {
        warn!(
            "The avatar {} is not shown: it has {size} bytes, and at most {MOST_OF_AVATAR} can be published",
            path.display()
        );
        return None;
    }
    match std::fs::read(path) {
        Ok(bytes) => {
            let media_type = infer::get(&bytes).map_or("image/png", |kind| kind.mime_type());
            Some(account::Avatar {
                media_type: media_type.to_owned(),
                bytes: bytes.into(),
            })
        }
        Err(err) => {
            warn!("The avatar {} cannot be read: {err}", path.display());
            None
        }
    }
}

/// The rooms of the configuration, and those that somebody asked the bot into.
async fn wanted_rooms(storage: &Storage, id: &str, account: &Account) -> Vec<rooms::Wanted> {
    let mut rooms = configured_rooms(account);
    for (room, nick, password) in rooms::remembered(storage, id).await {
        if !rooms.iter().any(|(known, _, _)| *known == room) {
            rooms.push((room, nick, password));
        }
    }
    rooms
}

fn configured_rooms(account: &Account) -> Vec<rooms::Wanted> {
    use crate::config::ExposeSecret;
    let enabled = |room: &BareJid| account.muc_rooms.get(room).is_none_or(|room| room.enabled);
    account
        .rooms
        .iter()
        .filter(|(room, _)| enabled(room))
        .map(|(room, nick)| {
            let password = account
                .muc_rooms
                .get(room)
                .and_then(|room| room.password.as_ref());
            let password = password.map(|password| password.expose_secret().into());
            (room.clone(), nick.clone(), password)
        })
        .collect()
}

async fn apply_rooms(handle: &Handle, before: &Account, after: &Account, nick: &str) {
    let (before, after) = (configured_rooms(before), configured_rooms(after));
    for (room, _, _) in before
        .iter()
        .filter(|(room, _, _)| !after.iter().any(|(kept, _, _)| kept == room))
    {
        handle.leave(room.clone()).await.ok(); // It is stopping.
    }
    for entry in after.iter().filter(|entry| !before.contains(entry)) {
        let (room, wanted, password) = entry.clone();
        let wanted = wanted.or_else(|| Some(nick.to_owned()));
        handle.join(room, wanted, password).await.ok(); // It is stopping.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_avatar_that_no_stanza_takes_is_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.png");
        std::fs::write(&file, b"\x89PNG\r\n\x1a\n").unwrap();
        assert_eq!(avatar(&file).unwrap().media_type, "image/png");
        std::fs::write(&file, vec![0; 100_001]).unwrap();
        assert!(avatar(&file).is_none());
    }
}
