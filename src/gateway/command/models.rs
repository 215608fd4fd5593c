//! Which model answers in this chat.

use anyhow::Result;

use super::parse::code;
use super::{Answer, Command, Context, Who, optional, rest};
use crate::gateway::session::ModelChoice;
use crate::llm::{Match, ModelId, Price};

/// Models that `/models` shows.
const SHOWN: usize = 50;

pub(super) const MODEL: Command = Command {
    name: "model",
    arguments: &[rest(optional(
        "name",
        "Model, in part or whole; \"reset\" for the usual one",
    ))],
    help: "show or choose this chat's model",
    who: Who::Everyone,
    run: |context| Box::pin(model(context)),
};

async fn model(context: Context) -> Result<Answer> {
    let (chat, models) = (context.chat(), context.models());
    let Some(name) = context.argument("name") else {
        let (model, choice) = chat.model(&context.inbound).await?;
        let price = price(models.info(&model).price);
        return Ok(format!("{} ({price}), {}.", code(&model.to_string()), why(choice)).into());
    };
    if matches!(name, "reset" | "default") {
        chat.set_model(None).await?;
        let (model, _) = chat.model(&context.inbound).await?;
        return Ok(format!("Back to {}.", code(&model.to_string())).into());
    }
    Ok(match models.resolve(name).await {
        Match::One(model) => {
            chat.set_model(Some(&model)).await?;
            let price = price(models.info(&model).price);
            format!("This chat uses {} now ({price}).", code(&model.to_string())).into()
        }
        Match::Many(found) => format!("Which of these?\n{}", names(&found)).into(),
        Match::None(nearest) if nearest.is_empty() => {
            format!("I know no model {}; `/models` lists them.", code(name)).into()
        }
        Match::None(nearest) => format!(
            "I know no model {}. Nearest are:\n{}",
            code(name),
            names(&nearest)
        )
        .into(),
    })
}

pub(super) const MODELS: Command = Command {
    name: "models",
    arguments: &[rest(optional("filter", "Part of the name"))],
    help: "the models there are, and what they cost",
    who: Who::Everyone,
    run: |context| Box::pin(models(context)),
};

async fn models(context: Context) -> Result<Answer> {
    let models = context.models();
    let filter = context
        .argument("filter")
        .unwrap_or_default()
        .to_lowercase();
    let mut found: Vec<ModelId> = models.list().await;
    found.retain(|model| model.to_string().to_lowercase().contains(&filter));
    if found.is_empty() {
        return Ok("There is none.".into());
    }
    let lines = found.iter().take(SHOWN).map(|model| {
        format!(
            "- {}: {}",
            code(&model.to_string()),
            price(models.info(model).price)
        )
    });
    let mut lines: Vec<String> = lines.collect();
    if found.len() > SHOWN {
        lines.push(format!(
            "\nand {} more; `/models filter` shows less.",
            found.len() - SHOWN
        ));
    }
    Ok(lines.join("\n").into())
}

fn names(models: &[ModelId]) -> String {
    let lines = models
        .iter()
        .take(SHOWN)
        .map(|model| format!("- {}", code(&model.to_string())));
    lines.collect::<Vec<_>>().join("\n")
}

fn why(choice: ModelChoice) -> &'static str {
    match choice {
        ModelChoice::Chat => "chosen in this chat",
        ModelChoice::UserOverride => "configured for you",
        ModelChoice::Room => "configured for this room",
        ModelChoice::Account => "configured for this account",
        ModelChoice::Default => "the usual one",
    }
}

/// USD per million tokens.
fn price(price: Option<Price>) -> String {
    match price {
        None => "price unknown".into(),
        Some(price) if price == Price::default() => "free".into(),
        Some(price) => format!(
            "${} in, ${} out a million tokens",
            price.input, price.output
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_told_in_dollars_a_million() {
        let paid = Price {
            input: 2.5,
            output: 10.0,
            ..Price::default()
        };
        assert_eq!(price(Some(paid)), "$2.5 in, $10 out a million tokens");
        assert_eq!(price(Some(Price::default())), "free");
        assert_eq!(price(None), "price unknown");
    }
}
