//! The value of every key that is not written. `moltis.toml.example` repeats them, and a test compares.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use jid::BareJid;

use super::{
    Account, AutoJoin, Budget, Certificate, Channels, Chat, Compaction, CompactionMode, Config,
    Failover, Federation, Identity, Limits, Log, LogFormat, MentionMode, Metrics,
    PeerAuthentication, Policy, Provider, ProviderKind, PushSummary, QueueMode, Registration, Room,
    RoomCreation, Rooms, Server, Skills, StreamMode, Upload, UserOverride, Welcome, XmppServer,
};

/// The provider that is always there, and its only model.
pub(super) const OFFLINE: &str = "offline";

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("~/.local/share/moltis"),
            log: Log::default(),
            server: Server::default(),
            metrics: Metrics::default(),
            identity: Identity::default(),
            chat: Chat::default(),
            failover: Failover::default(),
            budget: Budget::default(),
            providers: BTreeMap::from([(OFFLINE.to_owned(), Provider::offline())]),
            channels: Channels::default(),
            skills: Skills::default(),
            xmpp_server: XmppServer::default(),
            directory: PathBuf::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Pretty,
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1".to_owned(),
            port: 8080,
            external_url: None,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            prometheus_endpoint: true,
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            name: "Moltis".to_owned(),
            avatar: None,
        }
    }
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            model: "offline/offline".to_owned(),
            system_prompt_file: PathBuf::from("prompts/system.md"),
            message_queue_mode: QueueMode::Followup,
            context_window: 0,
            max_output_tokens: 4096,
            temperature: None,
            turn_timeout_secs: 300,
            max_concurrent_turns: 32,
            history_retention_days: 0,
            compaction: Compaction::default(),
        }
    }
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            mode: CompactionMode::RecencyPreserving,
            threshold_percent: 0.9,
            protect_tail_min: 20,
            summary_model: String::new(),
        }
    }
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            fallback_models: Vec::new(),
            cooldown_secs: 60,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            usd_per_day: 0.0,
            usd_per_jid_per_day: 0.0,
            tokens_per_jid_per_day: 0,
            turns_per_jid_per_minute: 20,
            turns_per_room_per_minute: 30,
        }
    }
}

impl Default for Skills {
    fn default() -> Self {
        Self {
            search_paths: vec![PathBuf::from("prompts/skills")],
            auto_load: Vec::new(),
        }
    }
}

impl Default for XmppServer {
    fn default() -> Self {
        Self {
            enabled: false,
            domain: String::new(),
            bind: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            c2s_port: 5222,
            c2s_tls_port: 5223,
            s2s_port: 5269,
            s2s_tls_port: 5270,
            allow_plaintext: false,
            admins: Vec::new(),
            registration: Registration::Invite,
            certificate: Certificate::Auto,
            acme_directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            acme_ca_file: None,
            archive_days: 30,
            muc_host: String::new(),
            upload_host: String::new(),
            proxy_host: String::new(),
            proxy_port: 5000,
            push_summary: PushSummary::None,
            upload: Upload::default(),
            external_services: Vec::new(),
            pubsub_host: String::new(),
            component_port: 0,
            component_bind: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            components: BTreeMap::new(),
            shared_groups: Vec::new(),
            rooms: Rooms::default(),
            contact: BTreeMap::new(),
            block_lists: Vec::new(),
            welcome: Welcome::default(),
            federation: Federation::default(),
            limits: Limits::default(),
            bots: Vec::new(),
            pages: None,
        }
    }
}

impl XmppServer {
    /// A server for this domain with every other key at its default.
    pub fn new(domain: &str) -> Self {
        Self {
            enabled: true,
            domain: domain.to_owned(),
            muc_host: format!("conference.{domain}"),
            upload_host: format!("upload.{domain}"),
            pubsub_host: format!("pubsub.{domain}"),
            ..Self::default()
        }
    }
}

impl Default for Upload {
    fn default() -> Self {
        Self {
            max_mb: 100,
            daily_quota_mb: 1_000,
            expire_days: 30,
            allowed_types: Vec::new(),
        }
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            creation: RoomCreation::default(),
            per_account: 100,
        }
    }
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            require_encryption: true,
            authentication: PeerAuthentication::default(),
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            c2s_bytes_per_second: 20_000,
            s2s_bytes_per_second: 100_000,
            stanza_bytes: 262_144,
            s2s_stanza_bytes: 524_288,
            preauth_bytes: 8_192,
            preauth_elements: 32,
            sessions_per_user: 10,
            connections_per_ip: 100,
            login_failures_per_ip: 20,
            registrations_per_ip_per_hour: 3,
            offline_messages: 1_000,
        }
    }
}

impl Provider {
    /// A provider of this kind and address with every other key at its default.
    pub fn new(kind: ProviderKind, base_url: impl Into<String>) -> Self {
        Self {
            kind,
            api_key: None,
            base_url: base_url.into(),
            models: Vec::new(),
            idle_timeout_secs: 120,
            headers: BTreeMap::new(),
        }
    }

    /// Canned answers: no network, no key.
    pub fn offline() -> Self {
        Self {
            models: vec![OFFLINE.to_owned()],
            ..Self::new(ProviderKind::Offline, "")
        }
    }
}

impl Account {
    /// An account with every other key at its default.
    pub fn new(jid: BareJid) -> Self {
        Self {
            enabled: true,
            local: false,
            jid,
            password: None,
            resource: "moltis".to_owned(),
            server: None,
            direct_tls: false,
            tls_verify: true,
            tls_ca_file: None,
            auto_register: false,
            registration_token: None,
            component_secret: None,
            rooms: Vec::new(),
            nick: Identity::default().name,
            auto_join_invites: AutoJoin::Allowlist,
            dm_policy: Policy::Allowlist,
            group_policy: Policy::Open,
            mention_mode: MentionMode::Mention,
            reply_counts_as_mention: true,
            allowlist: Vec::new(),
            group_allowlist: Vec::new(),
            operators: Vec::new(),
            pairing: true,
            max_bot_rounds: 3,
            text_chunk_limit: 4000,
            media_max_mb: 20,
            blocked_media_types: Vec::new(),
            upload_long_replies_over: 0,
            stream_mode: StreamMode::Correction,
            stream_mode_set: false,
            edit_throttle_ms: 2000,
            stream_min_initial_chars: 30,
            ack_reaction: String::new(),
            chat_states: true,
            chat_markers: true,
            styling: true,
            history_limit: 20,
            model: String::new(),
            model_provider: String::new(),
            muc_rooms: BTreeMap::new(),
            user_overrides: BTreeMap::new(),
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self {
            enabled: true,
            require_mention: None,
            system_prompt: String::new(),
            skills: Vec::new(),
            users: None,
            password: None,
            model: String::new(),
            model_provider: String::new(),
        }
    }
}

/// `<provider>/<model>` of two keys, of which the second may be empty.
fn model_id(model: &str, provider: &str) -> Option<String> {
    match (model, provider) {
        ("", _) => None,
        (model, "") => Some(model.to_owned()),
        (model, provider) => Some(format!("{provider}/{model}")),
    }
}

impl Account {
    /// `<provider>/<model>`; `None`: `chat.model` counts.
    pub fn model_id(&self) -> Option<String> {
        model_id(&self.model, &self.model_provider)
    }
}

impl Room {
    /// `<provider>/<model>`; `None`: the account's counts.
    pub fn model_id(&self) -> Option<String> {
        model_id(&self.model, &self.model_provider)
    }
}

impl UserOverride {
    /// `<provider>/<model>`; `None`: the account's counts.
    pub fn model_id(&self) -> Option<String> {
        model_id(&self.model, &self.model_provider)
    }
}
