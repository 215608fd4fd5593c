//! Providers known by name, so that `[providers.<name>]` needs no address.

use super::ProviderKind;

/// What is known of a provider.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    pub name: &'static str,
    pub kind: ProviderKind,
    /// Without a trailing slash.
    pub base_url: &'static str,
    /// What `chat.model` is where none is chosen; empty: the provider has no model that everybody has.
    pub model: &'static str,
    /// Where its users keep the key; empty: it runs locally and needs none.
    pub key_variable: &'static str,
}

const fn openai(
    name: &'static str,
    base_url: &'static str,
    model: &'static str,
    key_variable: &'static str,
) -> Preset {
    Preset {
        name,
        kind: ProviderKind::OpenAi,
        base_url,
        model,
        key_variable,
    }
}

/// One row each; the order is that of the documentation.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "anthropic",
        kind: ProviderKind::Anthropic,
        base_url: "https://api.anthropic.com/v1",
        model: "claude-sonnet-4-20250514",
        key_variable: "ANTHROPIC_API_KEY",
    },
    openai(
        "openai",
        "https://api.openai.com/v1",
        "gpt-4o",
        "OPENAI_API_KEY",
    ),
    openai("ollama", "http://127.0.0.1:11434/v1", "", ""),
    openai(
        "openrouter",
        "https://openrouter.ai/api/v1",
        "openrouter/auto",
        "OPENROUTER_API_KEY",
    ),
    openai(
        "groq",
        "https://api.groq.com/openai/v1",
        "llama-3.3-70b-versatile",
        "GROQ_API_KEY",
    ),
    openai(
        "mistral",
        "https://api.mistral.ai/v1",
        "mistral-large-latest",
        "MISTRAL_API_KEY",
    ),
    openai(
        "deepseek",
        "https://api.deepseek.com/v1",
        "deepseek-chat",
        "DEEPSEEK_API_KEY",
    ),
    openai("xai", "https://api.x.ai/v1", "grok-4", "XAI_API_KEY"),
    openai(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-2.5-flash",
        "GEMINI_API_KEY",
    ),
    openai(
        "together",
        "https://api.together.xyz/v1",
        "",
        "TOGETHER_API_KEY",
    ),
    openai(
        "fireworks",
        "https://api.fireworks.ai/inference/v1",
        "",
        "FIREWORKS_API_KEY",
    ),
    openai("lmstudio", "http://127.0.0.1:1234/v1", "", ""),
    Preset {
        name: "offline",
        kind: ProviderKind::Offline,
        base_url: "",
        model: "offline",
        key_variable: "",
    },
];

/// The provider of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
