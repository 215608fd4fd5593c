//! `[providers.<name>]`, with what is known of some by name.

use std::collections::BTreeMap;

use crate::config::defaults::OFFLINE;
use crate::config::pattern::base_url;
use crate::config::presets::{Preset, preset};
use crate::config::section::Section;
use crate::config::tree::Origin;
use crate::config::{Provider, ProviderKind};

pub(super) struct Providers {
    pub by_name: BTreeMap<String, Provider>,
    /// What `chat.model` is where it is not written; empty: it must be.
    pub first_model: String,
    /// Of the first provider.
    pub origin: Origin,
}

/// Without `chat.model` the first provider's first listed or best known model counts, and only without any provider
/// the offline one. A provider with neither gives no default; then `chat.model` is asked for rather than answered by
/// canned text.
pub(super) fn providers(root: &mut Section<'_>) -> Providers {
    let mut providers = BTreeMap::from([(OFFLINE.to_owned(), Provider::offline())]);
    let mut first_model = None;
    let mut first_origin = None;
    for (name, section) in root.sections("providers") {
        let preset = preset(&name);
        let origin = section.origin.clone();
        let provider = provider(&name, section, preset);
        first_origin.get_or_insert(origin);
        let listed = provider.models.first().map(String::as_str);
        let known = preset
            .map(|preset| preset.model)
            .filter(|model| !model.is_empty());
        if first_model.is_none()
            && provider.kind != ProviderKind::Offline
            && let Some(model) = listed.or(known)
        {
            first_model = Some(format!("{name}/{model}"));
        }
        providers.insert(name, provider);
    }
    let only_offline = providers
        .values()
        .all(|provider| provider.kind == ProviderKind::Offline);
    let fallback = if only_offline {
        format!("{OFFLINE}/{OFFLINE}")
    } else {
        String::new()
    };
    Providers {
        by_name: providers,
        first_model: first_model.unwrap_or(fallback),
        origin: first_origin.unwrap_or(Origin::Default),
    }
}

fn provider(name: &str, mut section: Section<'_>, preset: Option<&Preset>) -> Provider {
    let reading = section.reading;
    let origin = section.origin.clone();
    if name.is_empty() || name.contains('/') {
        reading.problem(
            &origin,
            format!("the provider {name:?} must have a name without a slash"),
        );
    }
    let kind = section.word(
        "kind",
        preset.map_or(ProviderKind::OpenAi, |preset| preset.kind),
        &[
            ("openai", ProviderKind::OpenAi),
            ("anthropic", ProviderKind::Anthropic),
            ("offline", ProviderKind::Offline),
        ],
    );
    let key_written =
        section.written("api_key").is_some() || section.written("api_key_file").is_some();
    let own_address = section.written("base_url").is_some();
    let mut address = preset.map_or("", |preset| preset.base_url).to_owned();
    let default = address.clone();
    let mut address_is_wrong = false;
    section.checked("base_url", &default, |text| {
        address_is_wrong = true;
        address = if text.is_empty() {
            String::new()
        } else {
            base_url(text)?
        };
        address_is_wrong = false;
        Ok(())
    });
    let default = Provider::new(kind, address);
    let provider = Provider {
        api_key: section.secret("api_key"),
        models: section.list("models", &[], |model| {
            if model.is_empty() {
                return Err("names no model".to_owned());
            }
            Ok(model.to_owned())
        }),
        idle_timeout_secs: section.integer(
            "idle_timeout_secs",
            default.idle_timeout_secs,
            1..=3600,
        ),
        headers: section.secrets("headers"),
        ..default
    };
    let (has_key, has_headers) = (provider.api_key.is_some(), !provider.headers.is_empty());
    let table = format!("[providers.{}]", crate::config::setting::quoted(name));
    if kind == ProviderKind::Offline {
        if own_address || has_key || has_headers {
            reading.problem(
                &origin,
                format!("{table} is offline: it takes no base_url, api_key or headers"),
            );
        }
    } else if provider.base_url.is_empty() && !address_is_wrong {
        reading.problem(
            &origin,
            format!("{table} needs a base_url, as it is none of the known providers"),
        );
    } else if let Some(preset) = preset
        && !preset.key_variable.is_empty()
        && !own_address
        && !has_key
        && !has_headers
        && !key_written
    {
        reading.problem(
            &origin,
            format!(
                "{table} needs an api_key, as in api_key = \"${{{}}}\"",
                preset.key_variable
            ),
        );
    }
    section.finish();
    provider
}
