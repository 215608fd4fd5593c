//! What an account has for single rooms and people, and the model that each may choose.

use std::collections::{BTreeMap, BTreeSet};

use jid::BareJid;

use super::known_model;
use crate::config::pattern::{bare, pattern, room};
use crate::config::section::Section;
use crate::config::setting::quoted;
use crate::config::{Room, UserOverride};

/// `model` and `model_provider`: either may be empty, together they name a model, or the account's stays.
pub(super) fn model(
    section: &mut Section<'_>,
    names: &BTreeSet<String>,
    model: &mut String,
    provider: &mut String,
) {
    let model_written = section.written("model");
    let provider_written = section.written("model_provider");
    *model = section.string("model", "");
    *provider = section.checked("model_provider", "", |text| {
        if text.is_empty() || names.contains(text) {
            return Ok(());
        }
        Err(format!(
            "names {text:?}, for which there is no table [providers.{}]",
            quoted(text)
        ))
    });
    match (model.is_empty(), provider.is_empty()) {
        (true, false) => {
            if let Some(origin) = provider_written {
                section.fault("model_provider", &origin, "acts only with a model");
            }
        }
        (false, true) => {
            if let Some(origin) = model_written
                && let Err(message) = known_model(model, names)
            {
                let hint = if model.contains('/') {
                    ""
                } else {
                    ", or model_provider be set"
                };
                section.fault("model", &origin, format!("{message}{hint}"));
            }
        }
        _ => {}
    }
}

pub(super) fn muc_rooms(
    section: &mut Section<'_>,
    names: &BTreeSet<String>,
) -> BTreeMap<BareJid, Room> {
    let mut rooms = BTreeMap::new();
    for (id, mut section) in section.sections("muc_rooms") {
        let jid = match room(&id) {
            Ok((jid, None)) => Some(jid),
            Ok((_, Some(_))) => {
                let origin = section.origin.clone();
                section
                    .reading
                    .problem(&origin, format!("the room {id:?} must be without a nick"));
                None
            }
            Err(message) => {
                let origin = section.origin.clone();
                section
                    .reading
                    .problem(&origin, format!("{id:?} {message}"));
                None
            }
        };
        let mut table = Room {
            enabled: section.boolean("enabled", true),
            require_mention: section.boolean_or_unset("require_mention"),
            system_prompt: section.string("system_prompt", ""),
            skills: section.list("skills", &[], |text| Ok(text.to_owned())),
            users: section.list_or_unset("users", pattern),
            password: section.secret("password"),
            ..Room::default()
        };
        model(
            &mut section,
            names,
            &mut table.model,
            &mut table.model_provider,
        );
        section.finish();
        if let Some(jid) = jid {
            rooms.insert(jid, table);
        }
    }
    rooms
}

pub(super) fn user_overrides(
    section: &mut Section<'_>,
    names: &BTreeSet<String>,
) -> BTreeMap<BareJid, UserOverride> {
    let mut overrides = BTreeMap::new();
    for (id, mut section) in section.sections("user_overrides") {
        let mut table = UserOverride::default();
        model(
            &mut section,
            names,
            &mut table.model,
            &mut table.model_provider,
        );
        match bare(&id) {
            Ok(jid) => {
                overrides.insert(jid, table);
            }
            Err(message) => {
                let origin = section.origin.clone();
                section
                    .reading
                    .problem(&origin, format!("{id:?} {message}"));
            }
        }
        section.finish();
    }
    overrides
}
