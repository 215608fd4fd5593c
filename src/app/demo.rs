//! The demo: what runs where there is no moltis.toml. It is a moltis.toml too, made for this machine, so that
//! `moltis init --from-demo` can write it down.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::config::Loaded;
use crate::config::presets::{PRESETS, Preset};

/// Who tries it out, and the bot.
pub const PERSON: &str = "you@localhost";
pub const BOT: &str = "moltis@localhost";

/// Where Ollama listens when it is here.
const OLLAMA: &str = "http://127.0.0.1:11434/api/tags";
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether nobody has said what to run: no file, and neither an account nor a server in the environment.
pub fn is_wanted(loaded: &Loaded) -> bool {
    let config = &loaded.config;
    loaded.file.is_none() && config.channels.xmpp.is_empty() && !config.xmpp_server.enabled
}

/// What the demo's bot thinks with: `provider/model`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    provider: &'static str,
    /// Where the key is; empty: none is needed.
    variable: &'static str,
    model: String,
}

/// The first model there is: a key in the environment, or an Ollama that has one.
pub async fn find(environment: &BTreeMap<String, String>) -> Option<Found> {
    if let Some(preset) = with_key(environment) {
        return Some(Found {
            provider: preset.name,
            variable: preset.key_variable,
            model: preset.model.to_owned(),
        });
    }
    Some(Found {
        provider: "ollama",
        variable: "",
        model: ollama(OLLAMA).await?,
    })
}

fn with_key(environment: &BTreeMap<String, String>) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| {
        let key = environment.get(preset.key_variable);
        !preset.key_variable.is_empty()
            && !preset.model.is_empty()
            && key.is_some_and(|key| !key.trim().is_empty())
    })
}

/// The first model of an Ollama. No answer at once means that there is none.
async fn ollama(url: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Tags {
        models: Vec<Model>,
    }
    #[derive(serde::Deserialize)]
    struct Model {
        name: String,
    }
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    let answer = client.build().ok()?.get(url).send().await.ok()?;
    let tags: Tags = answer.json().await.ok()?;
    let model = tags.models.into_iter().next()?;
    Some(model.name)
}

/// The demo's moltis.toml.
pub fn text(found: Option<&Found>) -> String {
    let mut text = String::from(
        "# The demo of moltis: a server for localhost with a bot in it.\n\
         # Every key: moltis.toml.example and docs/configuration.md\n\
         data_dir = \"moltis-data\"\n",
    );
    if let Some(found) = found {
        let model = toml::Value::String(format!("{}/{}", found.provider, found.model));
        // Writing into a string does not fail.
        write!(
            text,
            "\n[chat]\nmodel = {model}\n\n[providers.{}]\n",
            found.provider
        )
        .ok();
        if !found.variable.is_empty() {
            writeln!(text, "api_key = \"${{{}}}\"", found.variable).ok();
        }
    }
    text.push_str(
        "\n[xmpp_server]\n\
         enabled = true\n\
         domain = \"localhost\"                 # your own: then remove the next line\n\
         bind = [\"127.0.0.1\", \"::1\"]\n\
         admins = [\"you@localhost\"]\n\
         \n\
         [xmpp_server.bots.moltis]\n\
         allowlist = [\"*@localhost\"]\n\
         operators = [\"you@localhost\"]\n\
         rooms = [\"lobby@conference.localhost\"]\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use std::path::Path;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        pairs
            .chain([("HOME".to_owned(), "/nonexistent".to_owned())])
            .collect()
    }

    #[test]
    fn the_demo_is_a_configuration_like_any_other() {
        let environment = environment(&[("ANTHROPIC_API_KEY", "k")]);
        let found = with_key(&environment).map(|preset| Found {
            provider: preset.name,
            variable: preset.key_variable,
            model: preset.model.to_owned(),
        });
        for found in [found, None] {
            let sources = Sources {
                environment: environment.clone(),
                ..Sources::default()
            };
            let text = text(found.as_ref());
            let config = Config::load_text(Path::new("moltis.toml"), &text, &sources)
                .unwrap()
                .config;
            assert!(config.xmpp_server.enabled);
            assert!(
                config
                    .xmpp_server
                    .bind
                    .iter()
                    .all(std::net::IpAddr::is_loopback)
            );
            assert_eq!(config.channels.xmpp["moltis"].jid.as_str(), BOT);
            assert_eq!(
                config.xmpp_server.admins,
                [PERSON.parse::<jid::BareJid>().unwrap()]
            );
            let provider = found.map_or("offline", |found| found.provider);
            assert!(
                config.chat.model.starts_with(provider),
                "{}",
                config.chat.model
            );
        }
    }

    #[test]
    fn the_first_key_that_is_set_decides() {
        let none = environment(&[("OPENAI_API_KEY", " ")]);
        assert!(with_key(&none).is_none());
        let groq = environment(&[("GROQ_API_KEY", "k"), ("XAI_API_KEY", "k")]);
        assert_eq!(with_key(&groq).unwrap().name, "groq");
    }

    #[tokio::test]
    async fn an_ollama_names_its_first_model_and_no_ollama_none() {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/tags", listener.local_addr().unwrap());
        let tags = "{\"models\":[{\"name\":\"qwen3:8b\"},{\"name\":\"x\"}]}";
        let app =
            axum::Router::new().route("/api/tags", axum::routing::get(move || async move { tags }));
        let serve = axum::serve(listener, app).into_future();
        let found = tokio::select! {
            found = ollama(&url) => found,
            _ = serve => None,
        };
        assert_eq!(found.as_deref(), Some("qwen3:8b"));
        assert_eq!(ollama("http://127.0.0.1:1/api/tags").await, None);
    }
}
