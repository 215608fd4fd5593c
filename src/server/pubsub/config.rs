//! What a node's owner may set (XEP-0060, 16.4.4): one table of fields, from which forms are written, read and compared.

use serde::{Deserialize, Serialize};

/// An enumeration whose values have names on the wire and in the store.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$note:meta])* $value:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$note])* #[serde(rename = $text)] $value,)*
        }

        impl $name {
            pub const NAMES: &[&str] = &[$($text),*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)*
                }
            }

            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$value),)*
                    _ => None,
                }
            }
        }
    };
}
pub(super) use named;

named! {
    /// Who may subscribe to a node and retrieve its items (XEP-0060, 4.5).
    AccessModel {
        Open = "open",
        /// Whom the owner lets see their presence.
        Presence = "presence",
        /// Of those, who is in one of the groups of `roster_groups_allowed`.
        Roster = "roster",
        /// Whose subscription an owner has approved.
        Authorize = "authorize",
        /// Who has an affiliation.
        Whitelist = "whitelist",
    }
}

named! {
    /// Who may publish.
    PublishModel {
        Publishers = "publishers",
        Subscribers = "subscribers",
        Open = "open",
    }
}

named! {
    /// When the last item is sent without having been published just now.
    SendLast {
        Never = "never",
        OnSubscription = "on_sub",
        OnSubscriptionAndPresence = "on_sub_and_presence",
    }
}

named! {
    /// The type of the messages that carry events.
    NotificationType {
        Normal = "normal",
        Headline = "headline",
    }
}

/// A node's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub title: String,
    pub description: String,
    /// `pubsub#type`: the namespace of the payloads, as told to people; not enforced, as no client sets it right.
    pub payload_type: String,
    pub access_model: AccessModel,
    pub publish_model: PublishModel,
    pub roster_groups_allowed: Vec<String>,
    pub persist_items: bool,
    /// `None`: as many as the service allows ("max").
    pub max_items: Option<u32>,
    /// In seconds; `None`: never ("max").
    pub item_expire: Option<u32>,
    pub send_last_published_item: SendLast,
    pub deliver_notifications: bool,
    pub deliver_payloads: bool,
    pub notify_config: bool,
    pub notify_delete: bool,
    pub notify_retract: bool,
    pub notification_type: NotificationType,
    /// Whether subscribers who are not there are passed over (XEP-0060, 12.3).
    #[serde(default)]
    pub presence_based_delivery: bool,
    /// Whether subscriptions are possible.
    pub subscribe: bool,
}

impl Config {
    /// A personal node (XEP-0163, 5): for whoever sees the owner's presence, one item, sent again with presence.
    pub fn personal() -> Self {
        Self {
            title: String::new(),
            description: String::new(),
            payload_type: String::new(),
            access_model: AccessModel::Presence,
            publish_model: PublishModel::Publishers,
            roster_groups_allowed: Vec::new(),
            persist_items: true,
            max_items: Some(1),
            item_expire: None,
            send_last_published_item: SendLast::OnSubscriptionAndPresence,
            deliver_notifications: true,
            deliver_payloads: true,
            notify_config: false,
            notify_delete: false,
            notify_retract: true,
            notification_type: NotificationType::Headline,
            presence_based_delivery: false,
            subscribe: true,
        }
    }

    /// A private store (XEP-0223; the options that XEP-0402 and XEP-0490 ask for): any number of items, for the owner only.
    pub fn private() -> Self {
        Self {
            access_model: AccessModel::Whitelist,
            max_items: None,
            send_last_published_item: SendLast::Never,
            ..Self::personal()
        }
    }

    /// A node of a pubsub service.
    pub fn public() -> Self {
        Self {
            access_model: AccessModel::Open,
            max_items: Some(20),
            send_last_published_item: SendLast::OnSubscription,
            notify_config: true,
            notify_delete: true,
            notification_type: NotificationType::Normal,
            ..Self::personal()
        }
    }

    /// How many items the node keeps, where the service keeps `most`.
    pub fn kept(&self, most: usize) -> usize {
        match self.max_items {
            Some(wanted) => usize::try_from(wanted).unwrap_or(most).min(most),
            None => most,
        }
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    TextMulti,
    Boolean,
    List(&'static [&'static str]),
}

/// One field of the form `pubsub#node_config`.
pub(super) struct Field {
    pub(super) var: &'static str,
    pub(super) label: &'static str,
    pub(super) kind: Kind,
    pub(super) read: fn(&Config) -> Vec<String>,
    /// `None`: a value that the field does not have.
    pub(super) write: fn(&mut Config, &[String]) -> Option<()>,
}

/// A form's booleans (XEP-0004, 3.3).
pub fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn only(values: &[String]) -> Option<&str> {
    match values {
        [value] => Some(value),
        _ => None,
    }
}

/// Titles and descriptions are shown, not read by machines: longer ones are refused.
const MAX_TEXT: usize = 1_024;
const MAX_GROUPS: usize = 100;

fn short(values: &[String]) -> Option<String> {
    match values {
        [] => Some(String::new()),
        [value] if value.len() <= MAX_TEXT => Some(value.clone()),
        _ => None,
    }
}

/// Sets a number, or "max", for which older clients send an empty value.
fn limit(limit: &mut Option<u32>, values: &[String]) -> Option<()> {
    *limit = match only(values)? {
        "max" | "" => None,
        number => Some(number.parse().ok()?),
    };
    Some(())
}

fn limit_text(limit: Option<u32>) -> Vec<String> {
    vec![limit.map_or_else(|| "max".to_owned(), |number| number.to_string())]
}

macro_rules! text {
    ($var:literal, $label:literal, $field:ident) => {
        Field {
            var: $var,
            label: $label,
            kind: Kind::Text,
            read: |config| vec![config.$field.clone()],
            write: |config, values| {
                config.$field = short(values)?;
                Some(())
            },
        }
    };
}

macro_rules! flag {
    ($var:literal, $label:literal, $field:ident) => {
        Field {
            var: $var,
            label: $label,
            kind: Kind::Boolean,
            read: |config| vec![if config.$field { "1" } else { "0" }.to_owned()],
            write: |config, values| {
                config.$field = boolean(only(values)?)?;
                Some(())
            },
        }
    };
}

macro_rules! list {
    ($var:literal, $label:literal, $field:ident, $values:ident) => {
        Field {
            var: $var,
            label: $label,
            kind: Kind::List($values::NAMES),
            read: |config| vec![config.$field.name().to_owned()],
            write: |config, values| {
                config.$field = $values::from_name(only(values)?)?;
                Some(())
            },
        }
    };
}

macro_rules! number {
    ($var:literal, $label:literal, $field:ident) => {
        Field {
            var: $var,
            label: $label,
            kind: Kind::Text,
            read: |config| limit_text(config.$field),
            write: |config, values| limit(&mut config.$field, values),
        }
    };
}

pub(super) const FIELDS: &[Field] = &[
    text!("pubsub#title", "A short name for the node", title),
    text!("pubsub#description", "What the node is for", description),
    text!("pubsub#type", "The namespace of the payloads", payload_type),
    list!(
        "pubsub#access_model",
        "Who may subscribe and retrieve items",
        access_model,
        AccessModel
    ),
    list!(
        "pubsub#publish_model",
        "Who may publish",
        publish_model,
        PublishModel
    ),
    Field {
        var: "pubsub#roster_groups_allowed",
        label: "The roster groups that may subscribe",
        kind: Kind::TextMulti,
        read: |config| config.roster_groups_allowed.clone(),
        write: |config, values| {
            let short = values.iter().all(|group| group.len() <= MAX_TEXT);
            (short && values.len() <= MAX_GROUPS)
                .then(|| config.roster_groups_allowed = values.to_vec())
        },
    },
    flag!("pubsub#persist_items", "Keep items", persist_items),
    number!("pubsub#max_items", "How many items to keep", max_items),
    number!(
        "pubsub#item_expire",
        "Seconds after which an item is removed",
        item_expire
    ),
    list!(
        "pubsub#send_last_published_item",
        "When to send the last item",
        send_last_published_item,
        SendLast
    ),
    flag!(
        "pubsub#deliver_notifications",
        "Send notifications",
        deliver_notifications
    ),
    flag!(
        "pubsub#deliver_payloads",
        "Send payloads with the notifications",
        deliver_payloads
    ),
    flag!(
        "pubsub#notify_config",
        "Tell subscribers of a new configuration",
        notify_config
    ),
    flag!(
        "pubsub#notify_delete",
        "Tell subscribers that the node was deleted",
        notify_delete
    ),
    flag!(
        "pubsub#notify_retract",
        "Tell subscribers of removed items",
        notify_retract
    ),
    list!(
        "pubsub#notification_type",
        "The type of the notifications",
        notification_type,
        NotificationType
    ),
    flag!(
        "pubsub#presence_based_delivery",
        "Tell only subscribers who are there",
        presence_based_delivery
    ),
    flag!("pubsub#subscribe", "Allow subscriptions", subscribe),
];
