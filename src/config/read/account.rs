//! `[channels.xmpp.<id>]` with its rooms and people.

use std::collections::{BTreeMap, BTreeSet};

use jid::BareJid;

use super::room::{model, muc_rooms, user_overrides};
use crate::config::pattern::{bare, host_and_port, media_type, operator, pattern, room};
use crate::config::section::Section;
use crate::config::setting::quoted;
use crate::config::tree::Origin;
use crate::config::{Account, AutoJoin, MentionMode, Policy, StreamMode};

const POLICIES: &[(&str, Policy)] = &[
    ("open", Policy::Open),
    ("allowlist", Policy::Allowlist),
    ("disabled", Policy::Disabled),
];

pub(super) fn accounts(
    channels: &mut Section<'_>,
    names: &BTreeSet<String>,
    identity: &str,
) -> BTreeMap<String, Account> {
    let mut accounts = BTreeMap::new();
    let mut used: BTreeMap<BareJid, String> = BTreeMap::new();
    for (id, section) in channels.sections("xmpp") {
        let (reading, origin) = (section.reading, section.origin.clone());
        let Some(account) = account(section, names, identity) else {
            continue;
        };
        if account.enabled
            && let Some(other) = used.insert(account.jid.clone(), id.clone())
        {
            let message = format!(
                "[channels.xmpp.{}] has the jid of [channels.xmpp.{}]; every message would be answered twice",
                quoted(&id),
                quoted(&other)
            );
            reading.problem(&origin, message);
        }
        accounts.insert(id, account);
    }
    accounts
}

/// `None` where the jid is missing or wrong; the rest has been checked all the same.
fn account(mut section: Section<'_>, names: &BTreeSet<String>, identity: &str) -> Option<Account> {
    let enabled = section.boolean("enabled", true);
    let jid_origin = section.written("jid");
    if jid_origin.is_none() {
        let origin = section.origin.clone();
        section.fault("jid", &origin, "is required, as jid = \"bot@example.com\"");
    }
    let mut jid = None;
    section.checked("jid", "", |text| {
        if !text.is_empty() {
            jid = Some(bare(text)?);
        }
        Ok(())
    });
    // Stands in for one that was wrong, so that the other keys are checked.
    let usable = jid.clone().or_else(|| bare("moltis.invalid").ok())?;
    let mut account = Account {
        enabled,
        ..Account::new(usable)
    };
    let component = written_secret(&section, "component_secret");
    connection(&mut section, &mut account);
    // A component is a domain; everybody else is somebody at one.
    if let (Some(domain), Some(origin)) = (&jid, &jid_origin)
        && domain.node().is_none()
        && component.is_none()
    {
        let message = format!("must be an address like bot@{domain}");
        section.fault("jid", origin, message);
    }
    rooms(&mut section, &mut account, identity);
    behaviour(&mut section, &mut account, names);
    section.finish();
    jid.map(|_| account)
}

/// Where a secret is written, itself or its file.
fn written_secret(section: &Section<'_>, key: &str) -> Option<Origin> {
    let direct = section.written(key);
    direct.or_else(|| section.written(&format!("{key}_file")))
}

/// A bot of the embedded server: every key but those of a connection.
pub(super) fn bot(
    mut section: Section<'_>,
    jid: BareJid,
    names: &BTreeSet<String>,
    identity: &str,
) -> Account {
    let mut account = Account {
        enabled: section.boolean("enabled", true),
        local: true,
        ..Account::new(jid)
    };
    resource(&mut section, &mut account);
    rooms(&mut section, &mut account, identity);
    behaviour(&mut section, &mut account, names);
    section.finish();
    account
}

/// What an account does once it is online.
fn behaviour(section: &mut Section<'_>, account: &mut Account, names: &BTreeSet<String>) {
    admission(section, account);
    replies(section, account);
    model(
        section,
        names,
        &mut account.model,
        &mut account.model_provider,
    );
    section.later(&["omemo"]);
    account.muc_rooms = muc_rooms(section, names);
    account.user_overrides = user_overrides(section, names);
}

fn resource(section: &mut Section<'_>, account: &mut Account) {
    account.resource =
        section.checked(
            "resource",
            &account.resource,
            |text| match jid::ResourcePart::new(text) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("is no resource: {error}")),
            },
        );
}

fn connection(section: &mut Section<'_>, account: &mut Account) {
    let direct_tls = section.written("direct_tls");
    let secret = written_secret(section, "component_secret");
    account.password = section.secret("password");
    resource(section, account);
    account.server = section.parsed("server", host_and_port);
    account.direct_tls = section.boolean("direct_tls", account.direct_tls);
    account.tls_verify = section.boolean("tls_verify", account.tls_verify);
    account.tls_ca_file = section.path("tls_ca_file");
    account.auto_register = section.boolean("auto_register", account.auto_register);
    account.registration_token = section.secret("registration_token");
    account.component_secret = section.secret("component_secret");
    if account.direct_tls
        && account.server.is_none()
        && let Some(origin) = direct_tls
    {
        section.fault(
            "direct_tls",
            &origin,
            "acts only with a server; without one SRV records decide",
        );
    }
    if account.component_secret.is_some()
        && let Some(origin) = secret
    {
        if account.server.is_none() {
            section.fault(
                "component_secret",
                &origin,
                "needs the server's component port, as server = \"127.0.0.1:5347\"",
            );
        }
        if account.password.is_some() || account.auto_register {
            section.fault(
                "component_secret",
                &origin,
                "makes the account a component, which has neither password nor auto_register",
            );
        }
        if account.jid.node().is_some() {
            section.fault(
                "component_secret",
                &origin,
                "wants a domain as jid, as bot.example.com",
            );
        }
    }
}

fn rooms(section: &mut Section<'_>, account: &mut Account, identity: &str) {
    account.rooms = section.list("rooms", &[], room);
    let nick = section.checked("nick", "", |text| {
        if text.is_empty() {
            return Ok(());
        }
        match jid::ResourcePart::new(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("is no nick: {error}")),
        }
    });
    account.nick = if nick.is_empty() {
        identity.to_owned()
    } else {
        nick
    };
    account.auto_join_invites = section.word(
        "auto_join_invites",
        account.auto_join_invites,
        &[
            ("always", AutoJoin::Always),
            ("allowlist", AutoJoin::Allowlist),
            ("off", AutoJoin::Off),
        ],
    );
}

fn admission(section: &mut Section<'_>, account: &mut Account) {
    account.dm_policy = section.word("dm_policy", account.dm_policy, POLICIES);
    account.group_policy = section.word("group_policy", account.group_policy, POLICIES);
    account.mention_mode = section.word(
        "mention_mode",
        account.mention_mode,
        &[
            ("mention", MentionMode::Mention),
            ("always", MentionMode::Always),
            ("none", MentionMode::None),
        ],
    );
    account.reply_counts_as_mention =
        section.boolean("reply_counts_as_mention", account.reply_counts_as_mention);
    account.allowlist = section.list("allowlist", &[], pattern);
    account.group_allowlist = section.list("group_allowlist", &[], pattern);
    account.operators = section.list("operators", &[], operator);
    account.pairing = section.boolean("pairing", account.pairing);
    account.max_bot_rounds = section.integer("max_bot_rounds", account.max_bot_rounds, 0..=1000);
}

fn replies(section: &mut Section<'_>, account: &mut Account) {
    account.text_chunk_limit =
        section.integer("text_chunk_limit", account.text_chunk_limit, 10..=100_000);
    account.media_max_mb = section.integer("media_max_mb", account.media_max_mb, 0..=10_000);
    account.blocked_media_types = section.list("blocked_media_types", &[], media_type);
    account.upload_long_replies_over = section.integer(
        "upload_long_replies_over",
        account.upload_long_replies_over,
        0..=10_000_000,
    );
    account.stream_mode_set = section.written("stream_mode").is_some();
    account.stream_mode = section.word(
        "stream_mode",
        account.stream_mode,
        &[
            ("correction", StreamMode::Correction),
            ("off", StreamMode::Off),
        ],
    );
    account.edit_throttle_ms =
        section.integer("edit_throttle_ms", account.edit_throttle_ms, 0..=60_000);
    account.stream_min_initial_chars = section.integer(
        "stream_min_initial_chars",
        account.stream_min_initial_chars,
        0..=10_000,
    );
    account.ack_reaction = section.checked("ack_reaction", &account.ack_reaction, |text| {
        if text.chars().any(char::is_whitespace)
            || text.chars().all(char::is_alphanumeric) && !text.is_empty()
        {
            return Err("must be one emoji".to_owned());
        }
        Ok(())
    });
    account.chat_states = section.boolean("chat_states", account.chat_states);
    account.chat_markers = section.boolean("chat_markers", account.chat_markers);
    account.styling = section.boolean("styling", account.styling);
    account.history_limit = section.integer("history_limit", account.history_limit, 0..=1000);
}
