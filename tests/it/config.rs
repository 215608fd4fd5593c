//! `moltis.toml` as users meet it: layers, values, errors, the example and the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use moltis::config::{
    CompactionMode, Config, Errors, ExposeSecret, Loaded, Origin, Policy, ProviderKind, Setting,
    Shown, Sources, StreamMode,
};

/// Loads a text from an empty directory with an environment of its own.
fn load(text: &str, environment: &[(&str, &str)], set: &[(&str, &str)]) -> Result<Loaded, Errors> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut variables: BTreeMap<String, String> = environment.iter().map(pair).collect();
    let home = ("HOME".to_owned(), "/home/nobody".to_owned());
    variables.extend([home]);
    let sources = Sources {
        environment: variables,
        overrides: set.iter().map(pair).collect(),
        ..Sources::default()
    };
    Config::load_text(Path::new("moltis.toml"), text, &sources)
}

fn repository(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

const ACCOUNT: &str = "[channels.xmpp.my-bot]\njid = \"bot@example.com\"\n";

#[test]
fn a_written_value_beats_the_default_the_environment_the_file_and_the_command_line_all() {
    struct Case {
        name: &'static str,
        text: String,
        environment: Vec<(&'static str, &'static str)>,
        set: Vec<(&'static str, &'static str)>,
        policy: Policy,
        origin: &'static str,
    }
    let text = format!("{ACCOUNT}dm_policy = \"open\"\n");
    let key = "channels.xmpp.my-bot.dm_policy";
    let variable = ("MOLTIS_CHANNELS__XMPP__MY_BOT__DM_POLICY", "disabled");
    for case in [
        Case {
            name: "default",
            text: ACCOUNT.to_owned(),
            environment: vec![],
            set: vec![],
            policy: Policy::Allowlist,
            origin: "default",
        },
        Case {
            name: "file",
            text: text.clone(),
            environment: vec![],
            set: vec![],
            policy: Policy::Open,
            origin: "moltis.toml:3",
        },
        Case {
            name: "environment",
            text: text.clone(),
            environment: vec![variable],
            set: vec![],
            policy: Policy::Disabled,
            origin: variable.0,
        },
        Case {
            name: "command line",
            text,
            environment: vec![variable],
            set: vec![(key, "allowlist")],
            policy: Policy::Allowlist,
            origin: "--set channels.xmpp.my-bot.dm_policy",
        },
    ] {
        let loaded = load(&case.text, &case.environment, &case.set).unwrap();
        let account = &loaded.config.channels.xmpp["my-bot"];
        assert_eq!(account.dm_policy, case.policy, "{}", case.name);
        let setting = loaded.settings.iter().find(|setting| setting.path() == key);
        let origin = setting.unwrap().origin.to_string();
        assert_eq!(origin, case.origin, "{}", case.name);
    }
}

#[test]
fn an_overridden_value_needs_no_variable() {
    let text = "[providers.anthropic]\napi_key = \"${NOWHERE}\"\n";
    let set = ("MOLTIS_PROVIDERS__ANTHROPIC__API_KEY", "from-environment");
    let loaded = load(text, &[set], &[]).unwrap();
    let key = loaded.config.providers["anthropic"].api_key.clone();
    assert_eq!(key.unwrap().expose_secret(), "from-environment");
}

#[test]
fn the_environment_alone_is_enough() {
    let loaded = load(
        "",
        &[
            ("MOLTIS_CHANNELS__XMPP__BOT__JID", "bot@example.com"),
            ("MOLTIS_CHANNELS__XMPP__BOT__PASSWORD", "pass ${word}"),
            (
                "MOLTIS_CHANNELS__XMPP__BOT__OPERATORS",
                "a@example.com, b@example.com",
            ),
            (
                "MOLTIS_CHANNELS__XMPP__BOT__ROOMS",
                "[\"r@rooms.example/nick, the\"]",
            ),
            ("MOLTIS_CHANNELS__XMPP__BOT__PAIRING", "false"),
            ("MOLTIS_SERVER__PORT", "0"),
            ("MOLTIS_CHAT__TEMPERATURE", "0.5"),
            ("MOLTIS_DATA_DIR", "/var/lib/moltis"),
        ],
        &[],
    )
    .unwrap();
    let account = &loaded.config.channels.xmpp["bot"];
    let password = account.password.as_ref().unwrap();
    assert_eq!(password.expose_secret(), "pass ${word}");
    assert_eq!(account.operators, ["a@example.com", "b@example.com"]);
    assert_eq!(account.rooms[0].1.as_deref(), Some("nick, the"));
    assert!(!account.pairing);
    assert_eq!(loaded.config.server.port, 0);
    assert_eq!(loaded.config.chat.temperature, Some(0.5));
    assert_eq!(loaded.config.data_dir, Path::new("/var/lib/moltis"));
}

#[test]
fn an_account_as_moltis_documents_it_works_unchanged() {
    let text = r#"
[providers.anthropic]
api_key = "${ANTHROPIC_API_KEY}"
[providers.openai]
api_key = "${OPENAI_API_KEY:-none}"

[channels.xmpp.my-bot]
enabled = true
jid = "bot@example.com"
password = "your-password"
resource = "moltis"
server = "xmpp.example.com:5222"
rooms = ["team@conference.example.com"]
dm_policy = "allowlist"
group_policy = "open"
mention_mode = "mention"
allowlist = ["alice@example.com", "*@trusted.org"]
stream_mode = "off"
model = "claude-sonnet-4-20250514"
model_provider = "anthropic"

[channels.xmpp.my-bot.muc_rooms."team@conference.example.com"]
require_mention = false
users = ["alice@example.com"]

[channels.xmpp.my-bot.user_overrides."alice@example.com"]
model = "gpt-4o"
model_provider = "openai"
"#;
    let loaded = load(text, &[("ANTHROPIC_API_KEY", "k")], &[]).unwrap();
    let account = &loaded.config.channels.xmpp["my-bot"];
    assert_eq!(account.server, Some(("xmpp.example.com".to_owned(), 5222)));
    assert_eq!(account.nick, "Moltis");
    assert_eq!(account.stream_mode, StreamMode::Off);
    assert!(account.stream_mode_set);
    let model = account.model_id();
    assert_eq!(model.as_deref(), Some("anthropic/claude-sonnet-4-20250514"));
    let (room, table) = account.muc_rooms.first_key_value().unwrap();
    assert_eq!(room.to_string(), "team@conference.example.com");
    assert_eq!(table.require_mention, Some(false));
    assert_eq!(
        table.users.as_deref(),
        Some(&["alice@example.com".to_owned()][..])
    );
    let alice = account.user_overrides.values().next().unwrap();
    assert_eq!(alice.model_id().as_deref(), Some("openai/gpt-4o"));
}

#[test]
fn the_model_is_that_of_the_first_provider_unless_one_is_chosen() {
    struct Case {
        name: &'static str,
        text: &'static str,
        result: Result<&'static str, &'static str>,
    }
    for case in [
        Case {
            name: "no provider",
            text: "",
            result: Ok("offline/offline"),
        },
        Case {
            name: "first of the file, not of the alphabet",
            text: "[providers.openai]\napi_key = 'a'\n[providers.anthropic]\napi_key = 'b'\n",
            result: Ok("openai/gpt-4o"),
        },
        Case {
            name: "first that it lists",
            text: "[providers.ollama]\nmodels = ['qwen3:8b', 'x']\n",
            result: Ok("ollama/qwen3:8b"),
        },
        Case {
            name: "none known",
            text: "[log]\n[providers.ollama]\n",
            result: Err(
                "moltis.toml:2: model in [chat] is needed, as the provider lists no models: \
                model = \"<provider>/<model>\"",
            ),
        },
        Case {
            name: "chosen, with a slash in its name",
            text: "[providers.openrouter]\napi_key = 'a'\n[chat]\nmodel = 'openrouter/qwen/qwen3'\n",
            result: Ok("openrouter/qwen/qwen3"),
        },
    ] {
        let result = load(case.text, &[], &[]);
        let result = result
            .map(|loaded| loaded.config.chat.model)
            .map_err(|errors| errors.to_string());
        assert_eq!(
            result.as_deref().map_err(String::as_str),
            case.result,
            "{}",
            case.name
        );
    }
}

#[test]
fn providers_take_what_is_known_of_their_name() {
    let text = "[providers.anthropic]\napi_key = 'a'\n[providers.vllm]\nbase_url = 'http://127.0.0.1:8000/v1/'\n\
        [providers.vllm.headers]\nX-Team = 'chat'\n[chat]\nmodel = 'vllm/m'\n";
    let providers = load(text, &[], &[]).unwrap().config.providers;
    assert_eq!(providers["anthropic"].kind, ProviderKind::Anthropic);
    assert_eq!(providers["vllm"].kind, ProviderKind::OpenAi);
    assert_eq!(providers["vllm"].base_url, "http://127.0.0.1:8000/v1");
    assert_eq!(providers["vllm"].headers["X-Team"].expose_secret(), "chat");
    assert_eq!(providers["offline"].kind, ProviderKind::Offline);
    for preset in moltis::config::presets::PRESETS {
        let text = format!(
            "[providers.{}]\n[chat]\nmodel = 'offline/offline'\n",
            preset.name
        );
        let result = load(&text, &[], &[]);
        if preset.key_variable.is_empty() {
            let base_url = &result.unwrap().config.providers[preset.name].base_url;
            assert_eq!(base_url, preset.base_url);
        } else {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(preset.key_variable), "{message}");
        }
    }
}

#[test]
fn a_secret_may_be_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("password");
    fs::write(&secret, "from the file\r\n").unwrap();
    let text = format!("{ACCOUNT}password_file = '{}'\n", secret.display());
    let loaded = load(&text, &[], &[]).unwrap();
    let password = &loaded.config.channels.xmpp["my-bot"].password;
    assert_eq!(password.as_ref().unwrap().expose_secret(), "from the file");

    let variable = (
        "MOLTIS_CHANNELS__XMPP__MY_BOT__PASSWORD",
        "from the environment",
    );
    let loaded = load(&text, &[variable], &[]).unwrap();
    let password = &loaded.config.channels.xmpp["my-bot"].password;
    assert_eq!(password.as_ref().unwrap().expose_secret(), variable.1);

    fs::write(&secret, "\n").unwrap();
    let message = load(&text, &[], &[]).unwrap_err().to_string();
    assert!(message.ends_with("which is empty"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_secrets_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let secrets = directory.path().join("secrets.toml");
    fs::write(&secrets, "").unwrap();
    let text = format!("data_dir = '{}'\n", directory.path().display());
    for (mode, refused) in [(0o600, false), (0o640, true), (0o604, true), (0o400, false)] {
        fs::set_permissions(&secrets, fs::Permissions::from_mode(mode)).unwrap();
        let result = load(&text, &[], &[]);
        assert_eq!(result.is_err(), refused, "{mode:o}");
        if let Err(errors) = result {
            let message = errors.to_string();
            assert!(message.starts_with("moltis.toml:1: "), "{message}");
            assert!(message.contains("run: chmod 600 "), "{message}");
        }
    }
}

#[test]
fn secrets_are_in_no_debug_output_and_no_error() {
    const SECRET: &str = "xyzzy-plugh";
    let text = format!(
        "[providers.openai]\napi_key = '{SECRET}'\n[providers.openai.headers]\nX-Key = '{SECRET}'\n\
        [channels.xmpp.a]\njid = 'a@example.com'\npassword = '{SECRET}'\nregistration_token = '{SECRET}'\n\
        [channels.xmpp.a.muc_rooms.'r@rooms.example']\npassword = '{SECRET}'\n\
        [channels.xmpp.b]\njid = 'b.example.com'\nserver = '[::1]:5347'\ncomponent_secret = '{SECRET}'\n"
    );
    let loaded = load(&text, &[], &[]).unwrap();
    let secrets = loaded.settings.iter();
    let secrets = secrets.filter(|setting| matches!(setting.value, Shown::Secret(_)));
    assert_eq!(secrets.count(), 6);
    assert!(!format!("{loaded:?}").contains(SECRET));
    for wrong in [
        format!("[channels.xmpp.a]\npassword = ['{SECRET}']\n"),
        format!("[channels.xmpp.a]\npasword = '{SECRET}'\n"),
        format!("[channels.xmpp.a]\npassword = '{SECRET}${{'\n"),
        format!("[channels.xmpp.a]\npassword = '{SECRET}\n"),
        format!("[channels.xmpp.a]\npassword = {SECRET}\n"),
        format!("[providers.x]\nbase_url = 'https://u:{SECRET}@example.com'\n"),
    ] {
        let errors = load(&wrong, &[], &[]).unwrap_err();
        assert!(!format!("{errors:?} {errors}").contains(SECRET), "{errors}");
    }
}

#[test]
fn wrong_values_are_told_with_their_line() {
    struct Case {
        text: &'static str,
        error: &'static str,
    }
    for case in [
        Case {
            text: "port = 1\n",
            error: "moltis.toml:1: unknown key \"port\"",
        },
        Case {
            text: "[chat.compaction]\nmode = 'recency'\n",
            error: "moltis.toml:2: mode in [chat.compaction] must be one of off, deterministic, \
                recency_preserving, llm_replace, not \"recency\"",
        },
        Case {
            text: "[chat.compaction]\nthreshold_percent = 90\n",
            error: "moltis.toml:2: threshold_percent in [chat.compaction] must be from 0.1 to 1.0",
        },
        Case {
            text: "[budget]\nusd_per_day = -1\n",
            error: "moltis.toml:2: usd_per_day in [budget] must be 0.0 or more",
        },
        Case {
            text: "[server]\nport = 99999999999999999999\n",
            error: "moltis.toml:2: port in [server] must be from 0 to 65535",
        },
        Case {
            text: "[server]\nexternal_url = 'https://example.org/chat'\n",
            error: "moltis.toml:2: external_url in [server] must be like https://chat.example.org, \
                not \"https://example.org/chat\"",
        },
        Case {
            text: "[server]\ntrusted_proxies = ['proxy']\n",
            error: "moltis.toml:2: trusted_proxies in [server] has \"proxy\", which must be an IP \
                address or a range like 10.0.0.0/8",
        },
        Case {
            text: "[log]\nlevel = 'inof'\n",
            error: "moltis.toml:2: level in [log] must be a filter like info or \
                info,moltis::gateway=debug, not \"inof\"; did you mean \"info\"?",
        },
        Case {
            text: "[metrics]\nprometheus_endpoint = 'yes'\n",
            error: "moltis.toml:2: prometheus_endpoint in [metrics] must be true or false, not a string",
        },
        Case {
            text: "[failover]\nfallback_models = [\n  'offline/offline',\n  'nope/x',\n]\n",
            error: "moltis.toml:4: fallback_models in [failover] has \"nope/x\", which names the provider \
                \"nope\", for which there is no table [providers.nope]",
        },
        Case {
            text: "channels = 3\n",
            error: "moltis.toml:1: channels must be a table, not an integer",
        },
        Case {
            text: "[channels.xmpp.a]\njid = ''\n",
            error: "moltis.toml:1: jid in [channels.xmpp.a] is required, as jid = \"bot@example.com\"",
        },
        Case {
            text: "[channels.xmpp.a]\njid = 'c.example.com'\nserver = '[::1]:5347'\ncomponent_secret = '${NONE}'\n",
            error: "moltis.toml:4: component_secret in [channels.xmpp.a] needs the environment variable NONE, \
                which is not set",
        },
        Case {
            text: "[providers.groq]\napi_key = ''\n",
            error: "moltis.toml:1: [providers.groq] needs an api_key, as in api_key = \"${GROQ_API_KEY}\"",
        },
        Case {
            text: "[channels.xmpp.a]\njid = 'a@example.com/x'\n",
            error: "moltis.toml:2: jid in [channels.xmpp.a] must be without a resource",
        },
        Case {
            text: "[channels.xmpp.a]\njid = 'example.com'\n",
            error: "moltis.toml:2: jid in [channels.xmpp.a] must be an address like bot@example.com",
        },
        Case {
            text: "[channels.xmpp.a]\njid = 'a@example.com'\n[channels.xmpp.b]\njid = 'A@Example.com'\n",
            error: "moltis.toml:3: [channels.xmpp.b] has the jid of [channels.xmpp.a]; every message would \
                be answered twice",
        },
        Case {
            text: "[channels.xmpp.a]\njid = 'a@example.com'\ndirect_tls = true\n",
            error: "moltis.toml:3: direct_tls in [channels.xmpp.a] acts only with a server; without one \
                SRV records decide",
        },
        Case {
            text: "[channels.xmpp.a]\njid = 'c.example.com'\ncomponent_secret = 's'\n",
            error: "moltis.toml:3: component_secret in [channels.xmpp.a] needs the server's component \
                port, as server = \"127.0.0.1:5347\"",
        },
        Case {
            text: "[channels.xmpp.a]\njid = 'a@example.com'\n[channels.xmpp.a.muc_rooms.'x']\n",
            error: "moltis.toml:3: \"x\" must be a room like room@host or room@host/nick",
        },
        Case {
            text: "[channels.xmpp.a]\njid = 'a@example.com'\nmodel_provider = 'offline'\n",
            error: "moltis.toml:3: model_provider in [channels.xmpp.a] acts only with a model",
        },
        Case {
            text: "[xmpp_server]\nenabled = true\n",
            error: "moltis.toml:1: domain in [xmpp_server] is required, as domain = \"example.org\"",
        },
        Case {
            text: "[xmpp_server]\nacme_directory = 'http://acme.example.org/'\n",
            error: "moltis.toml:2: acme_directory in [xmpp_server] must be a URL that begins with https://",
        },
        Case {
            text: "[xmpp_server]\nupload_host = 'rooms.example.org'\nmuc_host = 'rooms.example.org'\n",
            error: "moltis.toml:2: upload_host in [xmpp_server] must be another name than muc_host",
        },
        Case {
            text: "[xmpp_server.upload]\nallowed_types = ['image/*', 'png']\n",
            error: "moltis.toml:2: allowed_types in [xmpp_server.upload] has \"png\", which must be like image/png or image/*",
        },
        Case {
            text: "[[xmpp_server.external_services]]\ntype = 'turn'\n\
                [[xmpp_server.external_services]]\ntype = 'stun'\nhost = 'a'\nhots = 'b'\n",
            error: "moltis.toml:1: host in [xmpp_server.external_services.1] is required, as host = \"turn.example.org\"\n\
                moltis.toml:6: unknown key \"hots\" in [xmpp_server.external_services.2]; did you mean \"host\"?",
        },
        Case {
            text: "[xmpp_server]\nexternal_services = 'turn.example.org'\n",
            error: "moltis.toml:2: external_services in [xmpp_server] must be a list of tables: [[xmpp_server.external_services]]",
        },
        Case {
            text: "[identity]\navatar = 'none.png'\n",
            error: "moltis.toml:2: avatar in [identity] names none.png: No such file or directory (os error 2)",
        },
    ] {
        let errors = load(case.text, &[], &[]).unwrap_err();
        assert_eq!(errors.to_string(), case.error);
    }
}

#[test]
fn what_is_wrong_in_the_environment_is_told_by_its_name() {
    for (name, value, error) in [
        (
            "MOLTIS_CHAT__MODLE",
            "x",
            "MOLTIS_CHAT__MODLE: unknown key \"modle\" in [chat]; did you mean \"model\"?",
        ),
        (
            "MOLTIS_SERVER__PORT",
            "http",
            "MOLTIS_SERVER__PORT: port in [server] must be an integer",
        ),
        (
            "XMPP_PORT",
            "tcp://10.0.0.1:5222",
            "XMPP_PORT: c2s_port in [xmpp_server] must be an integer",
        ),
    ] {
        let errors = load("", &[(name, value)], &[]).unwrap_err();
        assert_eq!(errors.to_string(), error);
    }
}

#[test]
fn the_server_and_its_bots_are_read_and_who_lives_there_is_local() {
    let text = "[xmpp_server]\nadmins = ['a@Example.org']\n[xmpp_server.bots.helper]\nallowlist = ['*@example.org']\n\
        [channels.xmpp.here]\njid = 'other@example.org'\n[channels.xmpp.away]\njid = 'bot@example.com'\npassword = 'x'\n";
    let environment = [
        ("XMPP_ENABLED", "true"),
        ("XMPP_DOMAIN", "Example.org"),
        ("XMPP_PORT", "15222"),
    ];
    let config = load(text, &environment, &[]).unwrap().config;
    let server = &config.xmpp_server;
    assert!(server.enabled);
    assert_eq!(server.domain, "example.org");
    assert_eq!(server.c2s_port, 15222);
    assert_eq!(server.muc_host, "conference.example.org");
    assert_eq!(
        server.admins,
        ["a@example.org".parse::<jid::BareJid>().unwrap()]
    );
    let accounts = &config.channels.xmpp;
    let local: Vec<_> = accounts
        .iter()
        .map(|(id, a)| (id.as_str(), a.local))
        .collect();
    assert_eq!(local, [("away", false), ("helper", true), ("here", true)]);
    assert_eq!(accounts["helper"].jid.as_str(), "helper@example.org");
}

#[test]
fn what_is_wrong_with_a_server_is_told() {
    let on = "[xmpp_server]\nenabled = true\ndomain = 'example.org'\n";
    for (text, error) in [
        (
            "allow_plaintext = true\n".to_owned(),
            "moltis.toml:4: allow_plaintext in [xmpp_server] is for tests on loopback alone; set bind = [\"127.0.0.1\"] too",
        ),
        (
            "muc_host = 'example.org'\n".to_owned(),
            "moltis.toml:4: muc_host in [xmpp_server] must be another name than domain",
        ),
        (
            "pubsub_host = 'conference.example.org'\n".to_owned(),
            "moltis.toml:4: pubsub_host in [xmpp_server] must be another name than muc_host",
        ),
        (
            "component_port = 5347\n".to_owned(),
            "moltis.toml:4: component_port in [xmpp_server] acts only with [[xmpp_server.components]]",
        ),
        (
            "[[xmpp_server.components]]\ndomain = 'irc.example.org'\nsecret = 'x'\n".to_owned(),
            "moltis.toml:5: domain in [xmpp_server.components.1] acts only with component_port",
        ),
        (
            "component_port = 5347\n[[xmpp_server.components]]\ndomain = 'pubsub.example.org'\nsecret = 'x'\n".to_owned(),
            "moltis.toml:6: domain in [xmpp_server.components.1] is that of another service",
        ),
        (
            "[[xmpp_server.block_lists]]\nnode = 'x'\n".to_owned(),
            "moltis.toml:4: service in [xmpp_server.block_lists.1] is required, as service = \"xmppbl.org\"",
        ),
        (
            "[[xmpp_server.block_lists]]\nservice = 'xmppbl.org'\n[[xmpp_server.block_lists]]\nservice = 'xmppbl.org'\n"
                .to_owned(),
            "moltis.toml:7: node in [xmpp_server.block_lists.2] is read already",
        ),
        (
            "component_port = 5347\n[[xmpp_server.components]]\ndomain = 'irc.example.org'\n".to_owned(),
            "moltis.toml:6: secret in [xmpp_server.components.1] is required",
        ),
        (
            "admins = ['admin']\n".to_owned(),
            "moltis.toml:4: admins in [xmpp_server] has \"admin\", which must be an address like admin@example.org",
        ),
        (
            "[xmpp_server.bots.'a b']\n".to_owned(),
            "moltis.toml:4: [xmpp_server.bots.\"a b\"]: the name of a bot is the local part of its address, as helper",
        ),
        (
            "[xmpp_server.bots.b]\npassword = 'x'\n".to_owned(),
            "moltis.toml:5: unknown key \"password\" in [xmpp_server.bots.b]",
        ),
        (
            "key = 'Cargo.toml'\n".to_owned(),
            "moltis.toml:4: key in [xmpp_server] acts only with a certificate file, as certificate = \"fullchain.pem\"",
        ),
        (
            "[xmpp_server.bots.helper]\n[xmpp_server.welcome]\nbot = 'helpers'\n".to_owned(),
            "moltis.toml:6: bot in [xmpp_server.welcome] must be the name of a bot that has a table [xmpp_server.bots.<name>]; did you mean \"helper\"?",
        ),
        (
            "[xmpp_server.welcome]\nroom = 'lobby@example.net'\n".to_owned(),
            "moltis.toml:5: room in [xmpp_server.welcome] must be a name at conference.example.org",
        ),
        (
            "[xmpp_server.federation]\nrequire_encryption = false\n".to_owned(),
            "moltis.toml:5: require_encryption in [xmpp_server.federation] acts only with authentication = \"dialback\"",
        ),
        (
            "[xmpp_server.federation]\nallow = ['friends@example.net']\n".to_owned(),
            "moltis.toml:5: allow in [xmpp_server.federation] has \"friends@example.net\", which must be a domain, as example.org",
        ),
        (
            "storage = 'postgres'\n".to_owned(),
            "moltis.toml:4: storage in [xmpp_server] is not in this version",
        ),
    ] {
        let errors = load(&format!("{on}{text}"), &[], &[]).unwrap_err();
        assert_eq!(errors.to_string(), error);
    }
}

proptest::proptest! {
    #[test]
    fn no_value_and_no_line_break_makes_it_panic(
        key in "[a-z_]{1,12}|jid|rooms|server|allowlist|tls_ca_file|model|password_file|log.level",
        value in "\\PC{0,24}|\"\\PC{0,24}\"|-?[0-9]{1,30}|\\[\"\\PC{0,12}\"\\]|\"[$\\{}:a-zA-Z-]{0,12}\"",
        table in "log|chat|providers.x|providers.\"\"|channels.xmpp.a|channels.xmpp.a.muc_rooms.\"b@c\"",
        variable in "[A-Z_]{0,24}",
    ) {
        let text = format!("[{table}]\n{key} = {value}\n");
        let name = format!("MOLTIS_{variable}");
        if let Err(errors) = load(&text, &[(&name, &value)], &[(&key, &value)]) {
            proptest::prop_assert!(!errors.0.is_empty());
        }
    }
}

#[test]
fn hyphens_are_as_good_as_underscores() {
    let text = "[chat.compaction]\nmode = 'llm-replace'\n";
    let mode = load(text, &[], &[]).unwrap().config.chat.compaction.mode;
    assert_eq!(mode, CompactionMode::LlmReplace);
}

/// The example with its keys and tables in force.
fn uncommented(example: &str) -> String {
    let line = |line: &str| {
        let inside = line.strip_prefix('#').unwrap_or(line);
        let is_code = inside.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[');
        if is_code {
            inside.to_owned()
        } else {
            line.to_owned()
        }
    };
    example.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_valid_as_it_is_and_asks_for_nothing() {
    let loaded = load(&repository("moltis.toml.example"), &[], &[]).unwrap();
    assert!(loaded.config.channels.xmpp.is_empty());
    let written = |setting: &&Setting| setting.origin != Origin::Default;
    assert_eq!(loaded.settings.iter().filter(written).count(), 0);
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let example = uncommented(&repository("moltis.toml.example"));
    let loaded = load(&example, &[], &[]).unwrap();
    let bare = "[providers.anthropic]\napi_key = 'x'\n[channels.xmpp.my-bot]\njid = 'bot@example.com'\n\
        [channels.xmpp.my-bot.muc_rooms.'team@conference.example.com']\n\
        [channels.xmpp.my-bot.user_overrides.'alice@example.com']\n";
    let defaults = load(bare, &[], &[]).unwrap().settings;
    for setting in &loaded.settings {
        let path = setting.path();
        // A bot has the keys of an account.
        if setting
            .table
            .starts_with(&["xmpp_server".to_owned(), "bots".to_owned()])
        {
            continue;
        }
        // A secret's empty value counts as unwritten, and so has no line.
        if setting.value == Shown::Unset {
            assert!(
                example.contains(&format!("\n{} = \"", setting.key)),
                "{path}"
            );
            continue;
        }
        let Origin::File { line, .. } = setting.origin else {
            panic!("{path} is not in the example");
        };
        let text = example.lines().nth(line - 1).unwrap();
        if text.contains("default") || text.contains("required") {
            continue;
        }
        let default = defaults.iter().find(|default| default.path() == path);
        assert_eq!(setting.value, default.unwrap().value, "{path}");
    }
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    let reference = repository("docs/configuration.md");
    let example = load(&uncommented(&repository("moltis.toml.example")), &[], &[]).unwrap();
    let known: BTreeSet<&str> = example.settings.iter().map(|s| s.key.as_str()).collect();
    for key in &known {
        if *key == "X-Team" {
            continue; // of the user's choice
        }
        assert!(
            reference.contains(&format!("| `{key}` |")),
            "{key} is missing"
        );
    }
    for line in reference.lines().filter(|line| line.starts_with("| `")) {
        let key = line.trim_start_matches("| `").split('`').next().unwrap();
        let is_variable_or_name = key.contains(['$', '_']) && key.to_uppercase() == key;
        assert!(
            known.contains(key) || is_variable_or_name || key == "headers",
            "{key} is no key"
        );
    }
}
