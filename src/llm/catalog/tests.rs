//! Names as providers write them, and the built-in files.

use super::*;

fn info(id: &str) -> ModelInfo {
    Catalog::built_in().unwrap().info(&id.parse().unwrap())
}

#[test]
fn names_are_found_with_dates_and_makers_but_not_as_other_models() {
    struct Row {
        id: &'static str,
        window: u32,
        images: bool,
        input: Option<f64>,
    }
    let row = |id, window, images, input| Row {
        id,
        window,
        images,
        input,
    };
    let table = [
        row(
            "anthropic/claude-sonnet-4-20250514",
            200_000,
            true,
            Some(3.0),
        ),
        row(
            "anthropic/claude-opus-4-1-20250805",
            200_000,
            true,
            Some(15.0),
        ),
        row("anthropic/claude-opus-4-5", 200_000, true, Some(5.0)),
        row(
            "anthropic/claude-3-5-haiku-latest",
            200_000,
            true,
            Some(0.8),
        ),
        // A member of the family that is not known.
        row("anthropic/claude-sonnet-9", 200_000, true, None),
        row(
            "openrouter/anthropic/claude-sonnet-4.5",
            200_000,
            true,
            Some(3.0),
        ),
        row(
            "openrouter/anthropic/claude-3.5-sonnet:beta",
            200_000,
            true,
            None,
        ),
        row("openai/gpt-4o", 128_000, true, Some(2.5)),
        row("openai/gpt-4o-2024-08-06", 128_000, true, Some(2.5)),
        row("openai/gpt-4o-2024-05-13", 128_000, true, Some(5.0)),
        row("openai/GPT-4o-mini", 128_000, true, Some(0.15)),
        row("openai/gpt-4o-mini-tts", 128_000, true, None),
        row("openai/gpt-4.1-mini", 1_047_576, true, Some(0.4)),
        row("openai/gpt-4", 8_192, false, Some(30.0)),
        row(
            "gemini/gemini-2.5-flash-preview-05-20",
            1_048_576,
            true,
            Some(0.3),
        ),
        row("gemini/gemini-2.0-flash-001", 1_048_576, true, Some(0.1)),
        row("mistral/mistral-large-2411", 131_072, false, Some(2.0)),
        row("mistral/mistral-large-latest", 131_072, false, Some(0.5)),
        row("deepseek/deepseek-chat", 131_072, false, Some(0.28)),
        // Elsewhere it costs something else.
        row("together/deepseek-chat", 131_072, false, None),
        row("xai/grok-4-0709", 256_000, true, Some(3.0)),
        row("xai/grok-4-fast-reasoning", 2_000_000, true, Some(0.2)),
        row("groq/llama-3.3-70b-versatile", 131_072, false, Some(0.59)),
        row(
            "groq/meta-llama/llama-4-scout-17b-16e-instruct",
            131_072,
            true,
            Some(0.11),
        ),
        row("ollama/llama3.2:3b", 4_096, false, None),
        row("ollama/llava:13b", 4_096, true, None),
        row("somewhere/something", 0, false, None),
        row("x/gpt-4omega", 0, false, None),
    ];
    for row in table {
        let found = info(row.id);
        assert_eq!(found.context_window, row.window, "{}", row.id);
        assert_eq!(found.sees_images, row.images, "{}", row.id);
        assert_eq!(
            found.price.map(|price| price.input),
            row.input,
            "{}",
            row.id
        );
    }
}

#[test]
fn every_built_in_price_is_sensible_and_belongs_to_a_known_model() {
    let catalog = Catalog::built_in().unwrap();
    for (name, price) in &catalog.prices {
        assert!(price.input > 0.0 && price.output >= price.input, "{name}");
        assert!(
            price.cache_read <= price.input && price.cache_write >= price.input,
            "{name}"
        );
        let id = if name.contains('/') {
            name.clone()
        } else {
            format!("x/{name}")
        };
        assert!(
            catalog.info(&id.parse().unwrap()).context_window > 0,
            "{name}"
        );
    }
}

#[test]
fn a_cost_counts_each_kind_of_token() {
    let usage = Usage {
        input: 1_000_000,
        output: 100_000,
        cache_read: 2_000_000,
        cache_write: 400_000,
    };
    let cost = info("anthropic/claude-sonnet-4-5")
        .price
        .unwrap()
        .of(&usage);
    assert!((cost - (3.0 + 1.5 + 0.6 + 1.5)).abs() < 1e-9, "{cost}");
}

#[test]
fn a_file_of_prices_wins_over_the_built_in_ones() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("prices.toml");
    let mut catalog = Catalog::built_in().unwrap();
    catalog.read_prices(&path).unwrap();
    std::fs::write(
        &path,
        "\"gpt-4o\" = { input = 1, output = 2.5 }\n\"mine/x.1\" = { input = 7, output = 8 }\n",
    )
    .unwrap();
    catalog.read_prices(&path).unwrap();
    let price = |id: &str| catalog.info(&id.parse().unwrap()).price.unwrap();
    let expected = Price {
        input: 1.0,
        output: 2.5,
        cache_read: 1.0,
        cache_write: 1.0,
    };
    assert_eq!(price("openai/gpt-4o"), expected);
    assert!((price("mine/x-1").input - 7.0).abs() < 1e-9);
    std::fs::write(&path, "\"gpt-4o\" = { input = 1, ouput = 2 }").unwrap();
    let message = format!("{:#}", catalog.read_prices(&path).unwrap_err());
    assert!(
        message.contains("prices.toml") && message.contains("ouput"),
        "{message}"
    );
}
