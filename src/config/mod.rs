//! `moltis.toml`: see docs/configuration.md. Immutable once read; a reload replaces it whole.
//!
//! The way of a value: `sources` finds the file and lays the environment and the command line over it, `tree` keeps
//! each value with where it came from, `section` takes keys out of a table by type and reports what is left, `read`
//! names every key once. Defaults are in `defaults`, known providers in `presets`.

mod defaults;
mod environment;
mod errors;
mod files_url;
mod given;
mod interpolate;
mod network;
mod pattern;
pub mod presets;
mod read;
mod reading;
pub mod reload;
mod section;

mod setting;
mod sources;
mod tree;
pub mod watch;
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use errors::{Errors, Problem, nearest};
pub use files_url::{OwnFiles, UPLOADS};
pub use network::Network;
pub use pattern::host_and_port;
pub use setting::{Setting, Shown};
pub use sources::{Loaded, Sources};
pub use tree::Origin;

pub use secrecy::{ExposeSecret, SecretString};

/// A glob over bare JIDs as written; see `gateway::admission` for what it admits.
pub type Pattern = String;

#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    pub log: Log,
    pub server: Server,
    pub metrics: Metrics,
    pub identity: Identity,
    pub chat: Chat,
    pub failover: Failover,
    pub budget: Budget,
    pub providers: BTreeMap<String, Provider>,
    pub channels: Channels,
    pub skills: Skills,
    pub xmpp_server: XmppServer,
    /// The directory of the file. Relative paths in the file have been joined to it.
    pub directory: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Pretty,
    Compact,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub bind: String,
    /// 0: off.
    pub port: u16,
    /// Where a proxy stands in front: scheme, host and port, and no path.
    pub external_url: Option<url::Url>,
    /// Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<Network>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub prometheus_endpoint: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub avatar: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    /// `<provider>/<model>`, never empty after loading.
    pub model: String,
    pub system_prompt_file: PathBuf,
    pub message_queue_mode: QueueMode,
    /// Tokens; 0: what is known of the model.
    pub context_window: u32,
    pub max_output_tokens: u32,
    pub temperature: Option<f64>,
    pub turn_timeout_secs: u64,
    pub max_concurrent_turns: usize,
    pub history_retention_days: u32,
    pub compaction: Compaction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueMode {
    #[default]
    Followup,
    Collect,
    Interrupt,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    pub mode: CompactionMode,
    pub threshold_percent: f64,
    pub protect_tail_min: usize,
    pub summary_model: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactionMode {
    Off,
    Deterministic,
    #[default]
    RecencyPreserving,
    LlmReplace,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    pub fallback_models: Vec<String>,
    pub cooldown_secs: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    pub usd_per_day: f64,
    pub usd_per_jid_per_day: f64,
    pub tokens_per_jid_per_day: u64,
    pub turns_per_jid_per_minute: u32,
    pub turns_per_room_per_minute: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    OpenAi,
    Anthropic,
    Offline,
}

/// With presets filled in: `kind` and `base_url` are always known here.
#[derive(Clone, Debug)]
pub struct Provider {
    pub kind: ProviderKind,
    pub api_key: Option<SecretString>,
    /// Without a trailing slash; empty for `offline`.
    pub base_url: String,
    /// Models that `/models` offers; empty: ask the provider.
    pub models: Vec<String>,
    pub idle_timeout_secs: u64,
    pub headers: BTreeMap<String, SecretString>,
}

#[derive(Clone, Debug, Default)]
pub struct Channels {
    pub xmpp: BTreeMap<String, Account>,
}

/// One of `[[xmpp_server.shared_groups]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedGroup {
    pub name: String,
    /// `None`: every account.
    pub members: Option<BTreeSet<jid::BareJid>>,
}

impl SharedGroup {
    pub fn has(&self, jid: &jid::BareJid) -> bool {
        let members = self.members.as_ref();
        members.is_none_or(|members| members.contains(jid))
    }
}

/// `[xmpp_server]`: the embedded server. Its bots are among the accounts of [`Channels`], as `local` ones.
#[derive(Clone, Debug)]
pub struct XmppServer {
    pub enabled: bool,
    /// Prepared; empty only where the server is off.
    pub domain: String,
    pub bind: Vec<std::net::IpAddr>,
    /// STARTTLS; 0: off, as for the other ports.
    pub c2s_port: u16,
    /// Direct TLS (XEP-0368).
    pub c2s_tls_port: u16,
    /// Other servers, STARTTLS.
    pub s2s_port: u16,
    /// Other servers, direct TLS (XEP-0368).
    pub s2s_tls_port: u16,
    /// Logins without TLS, on loopback alone.
    pub allow_plaintext: bool,
    pub admins: Vec<jid::BareJid>,
    pub registration: Registration,
    pub certificate: Certificate,
    /// The directory of the authority (RFC 8555, 7.1.1).
    pub acme_directory: String,
    /// A further root for its HTTPS.
    pub acme_ca_file: Option<PathBuf>,
    /// Days; 0: for ever.
    pub archive_days: u32,
    pub muc_host: String,
    /// Where slots for files are asked for (XEP-0363).
    pub upload_host: String,
    /// Empty: there is no proxy of bytestreams (XEP-0065).
    pub proxy_host: String,
    pub proxy_port: u16,
    pub push_summary: PushSummary,
    pub upload: Upload,
    pub external_services: Vec<ExternalService>,
    pub pubsub_host: String,
    /// XEP-0114; 0: off.
    pub component_port: u16,
    pub component_bind: Vec<std::net::IpAddr>,
    /// Secrets by domain.
    pub components: BTreeMap<String, SecretString>,
    /// Who is in each other's rosters.
    pub shared_groups: Vec<SharedGroup>,
    pub rooms: Rooms,
    /// URIs by purpose (XEP-0157).
    pub contact: BTreeMap<String, Vec<String>>,
    pub block_lists: Vec<BlockList>,
    pub welcome: Welcome,
    pub federation: Federation,
    pub limits: Limits,
    /// The accounts of the gateway that live here.
    pub bots: Vec<jid::BareJid>,
    /// Where others find the pages of this server: [`Config::web_url`]. `None`: only this machine does.
    pub pages: Option<url::Url>,
}

/// One table of `[[xmpp_server.block_lists]]`: a node of a pubsub service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockList {
    pub service: jid::BareJid,
    pub node: String,
}

impl XmppServer {
    /// Whether it talks to other servers. Nobody else reaches a server that is only called `localhost`.
    pub fn federates(&self) -> bool {
        let is_local = self.domain == "localhost" || self.domain.ends_with(".localhost");
        self.federation.enabled && !is_local
    }
}

/// `[xmpp_server.welcome]`: what a new account finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// In its contact list; one of the bots.
    pub bot: Option<jid::BareJid>,
    /// Among its bookmarks.
    pub room: Option<jid::BareJid>,
    /// The first message, from the bot or else from the domain; empty: none.
    pub message: String,
}

/// `[xmpp_server.rooms]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rooms {
    pub creation: RoomCreation,
    /// So many rooms may exist that one account has created.
    pub per_account: usize,
}

/// Who may create rooms, beside the server's own bots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoomCreation {
    Anyone,
    /// The accounts of this server.
    #[default]
    Local,
    Admins,
}

/// What a push notification tells the app server of a message (XEP-0357).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushSummary {
    #[default]
    None,
    Sender,
    /// And the sender.
    Body,
}

/// `[xmpp_server.upload]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Of a file.
    pub max_mb: u64,
    /// Of an account in 24 hours; 0: no limit.
    pub daily_quota_mb: u64,
    /// Days; 0: for ever.
    pub expire_days: u32,
    /// As in `image/png` or `image/*`; empty: all.
    pub allowed_types: Vec<String>,
}

/// One table of `[[xmpp_server.external_services]]` (XEP-0215).
#[derive(Clone, Debug)]
pub struct ExternalService {
    /// `stun`, `turn` and the like.
    pub kind: String,
    pub host: String,
    pub port: u16,
    /// `udp`, `tcp`.
    pub transport: String,
    /// Shared with the service, which makes credentials that are valid for a time.
    pub secret: Option<SecretString>,
}

impl PartialEq for ExternalService {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            kind,
            host,
            port,
            transport,
            secret,
        } = self;
        let secret = secret.as_ref().map(ExposeSecret::expose_secret);
        let others = other.secret.as_ref().map(ExposeSecret::expose_secret);
        *kind == other.kind
            && *host == other.host
            && *port == other.port
            && *transport == other.transport
            && secret == others
    }
}

impl Eq for ExternalService {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    Closed,
    #[default]
    Invite,
    Open,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// ACME, or self-signed where the domain is not public.
    #[default]
    Auto,
    /// PEM files: the chain, and its key.
    Files { certificate: PathBuf, key: PathBuf },
}

/// `[xmpp_server.federation]`: the rest of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federation {
    pub enabled: bool,
    /// Nothing goes over a connection without TLS.
    pub require_encryption: bool,
    pub authentication: PeerAuthentication,
    /// Domains, each with all below it; empty: all but `deny`.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

/// How another server shows that a domain is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerAuthentication {
    /// By its certificate (RFC 6125).
    #[default]
    Certificate,
    /// By dialback (XEP-0220), where its certificate does not.
    Dialback,
}

/// `[xmpp_server.limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub c2s_bytes_per_second: u32,
    /// Of another server, on each connection.
    pub s2s_bytes_per_second: u32,
    pub stanza_bytes: usize,
    pub s2s_stanza_bytes: usize,
    /// Before a client has logged in, or another server has shown who it is.
    pub preauth_bytes: usize,
    pub preauth_elements: u32,
    pub sessions_per_user: usize,
    pub connections_per_ip: usize,
    /// In ten minutes; then the address is refused for an hour.
    pub login_failures_per_ip: u32,
    pub registrations_per_ip_per_hour: u32,
    pub offline_messages: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoJoin {
    Always,
    #[default]
    Allowlist,
    Off,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    Open,
    #[default]
    Allowlist,
    Disabled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MentionMode {
    #[default]
    Mention,
    Always,
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamMode {
    #[default]
    Correction,
    Off,
}

/// One table `[channels.xmpp.<id>]`; keys as in docs/configuration.md.
#[derive(Clone, Debug)]
pub struct Account {
    pub enabled: bool,
    /// Served in this process, by the embedded server: no password, no socket.
    pub local: bool,
    /// Bare, or the component's domain.
    pub jid: jid::BareJid,
    pub password: Option<SecretString>,
    pub resource: String,
    /// Host and port.
    pub server: Option<(String, u16)>,
    pub direct_tls: bool,
    pub tls_verify: bool,
    pub tls_ca_file: Option<PathBuf>,
    pub auto_register: bool,
    pub registration_token: Option<SecretString>,
    pub component_secret: Option<SecretString>,
    /// Bare room, and the nick where one is written.
    pub rooms: Vec<(jid::BareJid, Option<String>)>,
    pub nick: String,
    pub auto_join_invites: AutoJoin,
    pub dm_policy: Policy,
    pub group_policy: Policy,
    pub mention_mode: MentionMode,
    pub reply_counts_as_mention: bool,
    pub allowlist: Vec<Pattern>,
    pub group_allowlist: Vec<Pattern>,
    pub operators: Vec<Pattern>,
    pub pairing: bool,
    pub max_bot_rounds: u32,
    pub text_chunk_limit: usize,
    pub media_max_mb: u64,
    pub blocked_media_types: Vec<String>,
    pub upload_long_replies_over: usize,
    pub stream_mode: StreamMode,
    /// Whether `stream_mode` was written; in rooms streaming is on only then.
    pub stream_mode_set: bool,
    pub edit_throttle_ms: u64,
    pub stream_min_initial_chars: usize,
    pub ack_reaction: String,
    pub chat_states: bool,
    pub chat_markers: bool,
    pub styling: bool,
    pub history_limit: usize,
    pub model: String,
    pub model_provider: String,
    pub muc_rooms: BTreeMap<jid::BareJid, Room>,
    pub user_overrides: BTreeMap<jid::BareJid, UserOverride>,
}

/// `[channels.xmpp.<id>.muc_rooms."room@host"]`.
#[derive(Clone, Debug)]
pub struct Room {
    pub enabled: bool,
    /// `None`: the account's `mention_mode` decides.
    pub require_mention: Option<bool>,
    pub system_prompt: String,
    pub skills: Vec<String>,
    /// Real JIDs; `None`: everyone in the room.
    pub users: Option<Vec<Pattern>>,
    pub password: Option<SecretString>,
    pub model: String,
    pub model_provider: String,
}

#[derive(Clone, Debug, Default)]
pub struct UserOverride {
    pub model: String,
    pub model_provider: String,
}

#[derive(Clone, Debug)]
pub struct Skills {
    pub search_paths: Vec<PathBuf>,
    pub auto_load: Vec<String>,
}
