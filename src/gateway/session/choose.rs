//! Which model a turn uses: what the chat chose, else the person's, the room's, the account's, or the default.

use jid::BareJid;

use super::history::Settings;
use crate::config::Account;
use crate::gateway::Inbound;
use crate::llm::ModelId;

/// Why a model is the one that a conversation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// `/model` in this chat.
    Chat,
    UserOverride,
    Room,
    Account,
    Default,
}

pub(super) fn model(
    settings: &Settings,
    account: &Account,
    room: Option<&BareJid>,
    person: Option<&BareJid>,
    default: &ModelId,
) -> (ModelId, ModelChoice) {
    if let Some(model) = &settings.model {
        return (model.clone(), ModelChoice::Chat);
    }
    let user = person
        .and_then(|person| account.user_overrides.get(person))
        .map(|user| (&user.model, &user.model_provider, ModelChoice::UserOverride));
    let room = room
        .and_then(|room| account.muc_rooms.get(room))
        .map(|room| (&room.model, &room.model_provider, ModelChoice::Room));
    let account = (
        &account.model,
        &account.model_provider,
        ModelChoice::Account,
    );
    user.into_iter()
        .chain(room)
        .chain([account])
        .find_map(|(model, provider, choice)| Some((named(model, provider, default)?, choice)))
        .unwrap_or_else(|| (default.clone(), ModelChoice::Default))
}

/// A model by its name and, where the name does not begin with one, its provider; else the default's provider.
fn named(model: &str, provider: &str, default: &ModelId) -> Option<ModelId> {
    if model.is_empty() {
        return None;
    }
    if provider.is_empty()
        && let Ok(id) = model.parse()
    {
        return Some(id);
    }
    let provider = if provider.is_empty() {
        &default.provider
    } else {
        provider
    };
    Some(ModelId {
        provider: provider.into(),
        model: model.into(),
    })
}

/// The real JID by which `user_overrides` knows a sender.
pub(super) fn person(inbound: &Inbound) -> Option<&BareJid> {
    inbound.sender.real.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UserOverride;
    use crate::gateway::testing::account;

    #[test]
    fn what_the_chat_chose_wins_then_the_person_the_room_the_account_and_the_default() {
        let default: ModelId = "p/default".parse().unwrap();
        let person: BareJid = "alice@example.com".parse().unwrap();
        let mut settings = Settings::default();
        let mut account = account();
        let choose = |settings: &Settings, account: &Account| {
            let (model, choice) = model(settings, account, None, Some(&person), &default);
            (model.to_string(), choice)
        };
        assert_eq!(
            choose(&settings, &account),
            ("p/default".into(), ModelChoice::Default)
        );
        account.model = "own".into();
        assert_eq!(
            choose(&settings, &account),
            ("p/own".into(), ModelChoice::Account)
        );
        account.model = "q/own".into();
        assert_eq!(
            choose(&settings, &account),
            ("q/own".into(), ModelChoice::Account)
        );
        let user = UserOverride {
            model: "a/b".into(),
            model_provider: "router".into(),
        };
        account.user_overrides.insert(person.clone(), user);
        assert_eq!(
            choose(&settings, &account),
            ("router/a/b".into(), ModelChoice::UserOverride)
        );
        settings.model = Some("x/y".parse().unwrap());
        assert_eq!(
            choose(&settings, &account),
            ("x/y".into(), ModelChoice::Chat)
        );
    }
}
